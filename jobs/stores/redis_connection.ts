/**
 * The connection to a Redis server: its address, the client's limits, and whether the server is fit for jobs.
 *
 * @module
 */
import { ClientOfflineError, createClient, ErrorReply } from "@redis/client";
import { ConfigError } from "../model/errors.ts";

const FORMAT = 1;
// A connection that is silent for this long is closed; pings keep a healthy one busy.
const SILENCE_MS = 5_000;
const PING_MS = 1_500;
const RECONNECT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 3_000;

/** A client of the server. */
export type Client = ReturnType<typeof makeClient>;

/** Where the server is, and what keys begin with. */
export interface Address {
  url: string;
  prefix: string;
  /** Without a password. */
  label: string;
}

/** Reads an address. @throws ConfigError */
export function parseAddress(spec: string): Address {
  const refuse = (): never => {
    // The text may hold a password, so it is not repeated.
    throw new ConfigError(
      "Cannot read the Redis address; write redis://[:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME].",
    );
  };
  const text = spec.replace(/^valkey:/, "redis:");
  if (!URL.canParse(text)) refuse();
  const url = new URL(text);
  const prefix = url.searchParams.get("prefix") ?? "jobs";
  url.searchParams.delete("prefix");
  if (!/^rediss?:$/.test(url.protocol) || url.hostname === "" || !/^(\/\d*)?$/.test(url.pathname)) refuse();
  if (url.search !== "" || !/^[\w.-]{1,64}$/.test(prefix)) refuse();
  return { url: url.href, prefix: `{${prefix}}:`, label: `${url.protocol}//${url.host}${url.pathname}` };
}

/** A client that is not connected yet. */
export function makeClient(url: string) {
  let connected = false;
  const client = createClient({
    url,
    RESP: 2,
    maintNotifications: "disabled",
    // While the server is away requests fail at once rather than pile up; what was sent is never sent twice.
    disableOfflineQueue: true,
    // A timer for each command would cost more than the command; silence of the connection is noticed instead.
    commandOptions: { timeout: 0 },
    pingInterval: PING_MS,
    socket: {
      connectTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: SILENCE_MS,
      // Once it was connected it reconnects for ever.
      reconnectStrategy: (tries: number) =>
        connected && Math.min(RECONNECT_MS, 25 * 2 ** tries) * (0.5 + Math.random() / 2),
    },
  });
  // Requests that fail reject by themselves; without a listener the process would end.
  client.on("error", () => {});
  client.once("ready", () => connected = true);
  return client;
}

/** Connects for the first time, which must succeed soon. @throws ConfigError */
export async function connect(client: Client, label: string): Promise<void> {
  for (const giveUpAt = performance.now() + CONNECT_TIMEOUT_MS;;) {
    try {
      await client.connect();
      return;
    } catch (error) {
      if (!(error instanceof Error) || error instanceof ErrorReply) throw error;
      if (performance.now() > giveUpAt) {
        throw new ConfigError(
          `Cannot reach ${label}: ${faultOf(error)}; start the server, or name another one.`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Checks that the server can be used. @returns what about it may lose jobs. @throws ConfigError */
export async function inspect(client: Client, { prefix, label }: Address): Promise<string[]> {
  const info = String(await client.sendCommand(["INFO"]));
  const value = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1];
  const version = value("redis_version") ?? "0";
  if (Number.parseInt(version) < 7) {
    throw new ConfigError(`Cannot use ${label}: it is Redis ${version}; use 7 or later, or Valkey.`);
  }
  const format = Number(await client.sendCommand(["SET", `${prefix}format`, String(FORMAT), "NX", "GET"]));
  if (format > FORMAT) {
    throw new ConfigError(
      `Cannot use ${label}: a newer version wrote what is there; use that one, or another prefix.`,
    );
  }
  const warnings: string[] = [];
  if (value("aof_enabled") === "0") {
    warnings.push(`${label} keeps no append-only file, so jobs are lost when it ends; set "appendonly yes".`);
  }
  const policy = value("maxmemory_policy");
  if (value("maxmemory") !== "0" && policy !== undefined && policy !== "noeviction") {
    warnings.push(`${label} may throw jobs away when its memory is full; set "maxmemory-policy noeviction".`);
  }
  return warnings;
}

/** Whether only the answer was lost: the server neither refused, nor was it away before it was asked. */
export function mayBeDone(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return !(cause instanceof ErrorReply || cause instanceof ClientOfflineError);
}

/** A reason without trailing full stop, from a library's or the server's message. */
export function faultOf(error: Error): string {
  const inner = error instanceof AggregateError
    ? error.errors.find((one) => one instanceof Error)
    : undefined;
  return (inner instanceof Error ? inner.message : error.message).replace(/\.$/, "");
}
