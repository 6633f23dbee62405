/**
 * Authentication: which client or worker a token belongs to, as the settings and files say it. Tokens are kept as digests
 * only.
 *
 * @module
 */

import { z } from "zod";
import { ConfigError } from "../model/errors.ts";
import { digest, makeSecret, sameDigest } from "../model/ids.ts";
import type { JsonObject } from "../model/job.ts";
import type { Config } from "./config.ts";
import { isTable, readEntries, readSettingsFile, tables, toJson, TomlTable } from "./toml.ts";

/** A client as the engine knows it: never with its token. */
export interface Client {
  name: string;
  plan: string;
  params: JsonObject;
  /** Submissions a calendar month; undefined: as many as it likes. */
  monthlyAttempts?: number | undefined;
  /** Hex SHA-256 of the token: the key that webhooks to this client are signed with. */
  tokenDigest: string;
}

/** What the workers' file says of one worker, or of all that match a pattern. */
export interface WorkerGrant {
  /** An id, or a pattern with `*`. */
  pattern: string;
  tokenDigest: string;
  /** Price a second, for workers that do not send theirs. */
  cost?: number | undefined;
}

/** Tokens that were made because none were configured. */
export interface MadeTokens {
  client?: string;
  worker?: string;
}

const NO_TOKEN = `needs a "token" text`;
const NO_QUOTA = `has "monthly_attempts" that is not a whole number`;
const ClientEntry = z.looseObject({
  token: z.string(NO_TOKEN).min(1, NO_TOKEN),
  plan: z.string(`has a "plan" that is not a text`).default("unknown"),
  monthly_attempts: z.int(NO_QUOTA).nonnegative(NO_QUOTA).optional(),
  params: TomlTable(`has "params" that is not a table`),
});

/** Reads a clients file. @throws ConfigError that names the entry, never its token. */
export function readClients(text: string, path: string): Client[] {
  const names = new Map<string, string>();
  return readEntries(text, path, "client", ClientEntry, (entry, name, fail) => {
    const { token, plan, monthly_attempts: monthlyAttempts, params, ...others } = entry;
    const tokenDigest = digest(token);
    const other = names.get(tokenDigest);
    if (other !== undefined) throw fail(`has the same token as "${other}"; give each its own`);
    names.set(tokenDigest, name);
    return { name, plan, params: { ...toJson(others), ...params }, tokenDigest, monthlyAttempts };
  });
}

/** Reads a workers file. `warn` is called for entries without a token, which are left out. @throws ConfigError */
export function readWorkers(text: string, path: string, warn: (sentence: string) => void): WorkerGrant[] {
  return Object.entries(tables(text, path)).flatMap(([pattern, entry]) => {
    const { token, cost_per_second: cost } = isTable(entry) ? entry : {};
    if (typeof token !== "string" || token === "") {
      warn(`${path}: worker "${pattern}" has no "token" and is left out.`);
      return [];
    }
    if (cost === undefined || (typeof cost === "number" && cost >= 0)) {
      return [{ pattern, tokenDigest: digest(token), cost }];
    }
    throw new ConfigError(
      `Cannot use ${path}: worker "${pattern}" has a "cost_per_second" that is not a number.`,
    );
  });
}

/**
 * Reads clients and workers. Tokens that were not configured are made.
 *
 * @param warn called for entries that are left out
 * @throws {ConfigError} for files that cannot be used
 */
export async function loadTokens(
  config: Config,
  warn: (message: string) => void,
): Promise<{ authenticator: Authenticator; madeTokens: MadeTokens }> {
  const madeTokens: MadeTokens = {};
  const clients = readClients(await readSettingsFile(config.clientsPath), config.clientsPath);
  const grants = readWorkers(await readSettingsFile(config.workersPath), config.workersPath, warn);
  let clientToken = config.clientToken;
  let workerToken = config.workerToken;
  if (clientToken === "" && clients.length === 0) madeTokens.client = clientToken = makeSecret();
  if (workerToken === "" && grants.length === 0) madeTokens.worker = workerToken = makeSecret();
  if ((madeTokens.client ?? madeTokens.worker) !== undefined && !isLoopback(config.host)) {
    throw new ConfigError(
      `Cannot listen on ${config.host} without tokens: set CLIENT_TOKEN and GLOBAL_WORKER_TOKEN ` +
        `(or a clients and a workers file), or listen on 127.0.0.1.`,
    );
  }
  const tokenDigest = digest(clientToken);
  if (clientToken !== "" && clients.every((client) => client.tokenDigest !== tokenDigest)) {
    if (clients.some((client) => client.name === "default")) {
      throw new ConfigError(`Cannot use ${config.clientsPath}: the name "default" belongs to CLIENT_TOKEN.`);
    }
    clients.push({ name: "default", plan: "unknown", params: {}, tokenDigest });
  }
  const workerDigest = workerToken === "" ? undefined : digest(workerToken);
  return { authenticator: new Authenticator(clients, grants, workerDigest), madeTokens };
}

/** Whether an address is reached from this machine only. */
function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

export class Authenticator {
  // Clients are found under a digest that nobody outside this process can foretell, so the time of a look-up reveals nothing.
  #salt = makeSecret();
  #clients = new Map<string, Client>();
  #exact = new Map<string, WorkerGrant>();
  #patterns: { matches: RegExp; grant: WorkerGrant }[] = [];

  /** @param globalWorker Digest of the token of all workers without an own one; undefined: there is none. */
  constructor(
    clients: readonly Client[],
    grants: readonly WorkerGrant[],
    readonly globalWorker: string | undefined,
  ) {
    for (const client of clients) this.#clients.set(this.#salted(client.tokenDigest), client);
    this.setGrants(grants);
  }

  /** Replaces the entries of the workers file: those that are gone are not valid any longer. */
  setGrants(grants: readonly WorkerGrant[]): void {
    this.#exact = new Map(
      grants.filter((grant) => !grant.pattern.includes("*")).map((grant) => [grant.pattern, grant]),
    );
    // The longest pattern is the closest.
    this.#patterns = grants.filter((grant) => grant.pattern.includes("*"))
      .toSorted((a, b) => b.pattern.length - a.pattern.length)
      .map((grant) => ({
        matches: new RegExp(`^${grant.pattern.split("*").map(RegExp.escape).join(".*")}$`, "u"),
        grant,
      }));
  }

  /** The client that a token belongs to. */
  client(token: string): Client | undefined {
    return this.#clients.get(this.#salted(digest(token)));
  }

  #salted(tokenDigest: string): string {
    return digest(this.#salt + tokenDigest);
  }

  /** A client by name, for jobs that begin without a request. */
  named(name: string): Client | undefined {
    return this.#clients.values().find((client) => client.name === name);
  }

  /** The workers file's entry for a worker. */
  grant(workerId: string): WorkerGrant | undefined {
    return this.#exact.get(workerId) ?? this.#patterns.find(({ matches }) => matches.test(workerId))?.grant;
  }

  /** Whether a token is right for this worker: its own where it has one, else the global one. */
  checkWorker(workerId: string, token: string): "ok" | "wrong individual" | "wrong global" {
    const grant = this.grant(workerId);
    const expected = grant?.tokenDigest ?? this.globalWorker;
    if (expected !== undefined && sameDigest(digest(token), expected)) return "ok";
    return grant === undefined ? "wrong global" : "wrong individual";
  }

  /** Who a worker's token without an id belongs to: one worker, any, or nobody. */
  workerOf(token: string): { id?: string } | undefined {
    const given = digest(token);
    for (const grant of this.#exact.values()) {
      if (sameDigest(given, grant.tokenDigest)) return { id: grant.pattern };
    }
    return this.globalWorker !== undefined && sameDigest(given, this.globalWorker) ? {} : undefined;
  }
}
