/**
 * Who may use the engine, as the settings and files say it.
 *
 * @module
 */

import { ConfigError } from "../model/errors.ts";
import { digest, makeSecret } from "../model/ids.ts";
import type { Config } from "./config.ts";
import type { Client } from "./tokens.ts";
import { Authenticator, readClients, readWorkers } from "./tokens.ts";

/** Tokens that were made because none were configured. */
export interface MadeTokens {
  client?: string;
  worker?: string;
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
  const clients: Client[] = config.clientsPath === ""
    ? []
    : readClients(await readSettingsFile(config.clientsPath), config.clientsPath);
  const grants = config.workersPath === ""
    ? []
    : readWorkers(await readSettingsFile(config.workersPath), config.workersPath, warn);
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
  if (clientToken !== "") {
    const tokenDigest = digest(clientToken);
    if (!clients.some((client) => client.tokenDigest === tokenDigest)) {
      if (clients.some((client) => client.name === "default")) {
        throw new ConfigError(
          `Cannot use ${config.clientsPath}: the name "default" belongs to CLIENT_TOKEN.`,
        );
      }
      clients.push({ name: "default", plan: "unknown", params: {}, tokenDigest });
    }
  }
  const workerDigest = workerToken === "" ? undefined : digest(workerToken);
  return { authenticator: new Authenticator(clients, grants, workerDigest), madeTokens };
}

/** Whether an address is reached from this machine only. */
function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** The text of a settings file. @throws {ConfigError} when it can't be read */
export async function readSettingsFile(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ConfigError(`Cannot read ${path}: there is no such file.`);
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new ConfigError(`Cannot read ${path}: permission denied.`);
    }
    throw error;
  }
}
