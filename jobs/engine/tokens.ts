/**
 * Authentication: which client or worker a token belongs to. Tokens are kept as digests only.
 *
 * @module
 */
// @ts-types="../../config/std.d.ts"
import { parse as parseToml } from "@std/toml/parse";
import { ConfigError } from "../model/errors.ts";
import { digest, makeSecret, sameDigest } from "../model/ids.ts";
import type { JsonObject, JsonValue } from "../model/job.ts";

/** A client as the engine knows it: never with its token. */
export interface Client {
  name: string;
  plan: string;
  params: JsonObject;
  /** Submissions a calendar month; undefined: as many as it likes. */
  monthlyAttempts?: number;
  /** Hex SHA-256 of the token: the key that webhooks to this client are signed with. */
  tokenDigest: string;
}

/** What the workers' file says of one worker, or of all that match a pattern. */
export interface WorkerGrant {
  /** An id, or a pattern with `*`. */
  pattern: string;
  tokenDigest: string;
  /** Price a second, for workers that do not send theirs. */
  cost?: number;
}

/** Reads a clients file. @throws ConfigError that names the entry, never its token. */
export function readClients(text: string, path: string): Client[] {
  const seen = new Map<string, string>();
  return Object.entries(tables(text, path)).map(([name, entry]) => {
    const fail = (what: string) => new ConfigError(`Cannot use ${path}: client "${name}" ${what}.`);
    if (!isTable(entry)) throw fail("is not a table; write [" + name + "]");
    const { token, plan = "unknown", monthly_attempts: monthlyAttempts, params = {}, ...others } = entry;
    if (typeof token !== "string" || token === "") throw fail(`needs a "token" text`);
    if (typeof plan !== "string") throw fail(`has a "plan" that is not a text`);
    if (
      monthlyAttempts !== undefined && !(Number.isInteger(monthlyAttempts) && Number(monthlyAttempts) >= 0)
    ) {
      throw fail(`has "monthly_attempts" that is not a whole number`);
    }
    if (!isTable(params)) throw fail(`has "params" that is not a table`);
    const tokenDigest = digest(token);
    const other = seen.get(tokenDigest);
    if (other !== undefined) throw fail(`has the same token as "${other}"; give each its own`);
    seen.set(tokenDigest, name);
    return {
      name,
      plan,
      params: { ...toJson(others), ...toJson(params) },
      tokenDigest,
      ...(monthlyAttempts === undefined ? {} : { monthlyAttempts: Number(monthlyAttempts) }),
    };
  });
}

/** Reads a workers file. `warn` is called for entries without a token, which are left out. @throws ConfigError */
export function readWorkers(text: string, path: string, warn: (sentence: string) => void): WorkerGrant[] {
  return Object.entries(tables(text, path)).flatMap(([pattern, entry]) => {
    if (!isTable(entry) || typeof entry.token !== "string" || entry.token === "") {
      warn(`${path}: worker "${pattern}" has no "token" and is left out.`);
      return [];
    }
    const { cost_per_second: cost } = entry;
    if (cost !== undefined && !(typeof cost === "number" && cost >= 0)) {
      throw new ConfigError(
        `Cannot use ${path}: worker "${pattern}" has a "cost_per_second" that is not a number.`,
      );
    }
    return [{ pattern, tokenDigest: digest(entry.token), ...(typeof cost === "number" ? { cost } : {}) }];
  });
}

/** Parses TOML into its tables. @throws ConfigError */
export function tables(text: string, path: string): Record<string, unknown> {
  try {
    return parseToml(text);
  } catch (error) {
    // The parser's message quotes the text, which holds tokens.
    if (!(error instanceof Error)) throw error;
    const line = /line (\d+)/.exec(error.message)?.[1];
    throw new ConfigError(`Cannot read ${path}: it is not valid TOML${line ? ` (line ${line})` : ""}.`);
  }
}

/** Whether a TOML value is a table. */
export function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** TOML values as JSON: dates become texts. */
export function toJson(table: Record<string, unknown>): JsonObject {
  const value: JsonValue = JSON.parse(JSON.stringify(table));
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
}

/** Recognizes tokens. */
export class Authenticator {
  // Clients are found under a digest that nobody outside this process can foretell, so the time of a look-up reveals nothing.
  #salt = makeSecret();
  #clients = new Map<string, Client>();
  #byName = new Map<string, Client>();
  #exact = new Map<string, WorkerGrant>();
  #patterns: { matches: RegExp; grant: WorkerGrant }[] = [];

  /** @param globalWorker Digest of the token of all workers without an own one; undefined: there is none. */
  constructor(
    clients: readonly Client[],
    grants: readonly WorkerGrant[],
    readonly globalWorker: string | undefined,
  ) {
    for (const client of clients) {
      this.#clients.set(this.#salted(client.tokenDigest), client);
      this.#byName.set(client.name, client);
    }
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
        matches: new RegExp(`^${grant.pattern.split("*").map(literal).join(".*")}$`, "u"),
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
    return this.#byName.get(name);
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

function literal(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\\/]/g, "\\$&");
}
