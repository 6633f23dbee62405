/**
 * HTTP over a Unix socket, as much of it as the control socket needs: one small request a connection, an answer or an
 * endless one, and limits on everything a client may hold.
 *
 * @module
 */

import { decoder, encoder } from "../config/bytes.ts";
import { Outlet } from "../terminal/outlet.ts";
import { inodeOf, removeIfThere } from "./record.ts";

/** A request that came in whole. */
export interface ControlRequest {
  method: string;
  path: string;
  query: URLSearchParams;
  /** Its JSON body; an empty map when it has none. */
  body: Record<string, unknown>;
}

/** What a request is answered with. `follow` gets the connection once the head of the answer is written. */
export type ControlAnswer =
  | { status: number; body: unknown }
  | { status: 200; follow: (client: Follower) => void };

/** A fault in a request, answered with its HTTP status. */
export class RequestError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

const HEAD_LIMIT = 16 * 1024;
const BODY_LIMIT = 64 * 1024;
/** How long a request may take to arrive whole. */
const REQUEST_MS = 10_000;
/** How long a client that was answered may go on sending. */
const LINGER_MS = 2_000;
/** Clients at a time; each more is answered with 503. */
const CLIENT_LIMIT = 512;
/** What may wait for one reader until it is dropped. */
const WAITING_LIMIT = 8 * 1024 * 1024;

const STATUS_TEXTS: Record<number, string> = {
  200: "OK",
  202: "Accepted",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  411: "Length Required",
  413: "Content Too Large",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** A client that reads an endless answer. One that does not keep up is dropped. */
export class Follower {
  readonly #connection: Deno.UnixConn;
  readonly #outlet: Outlet;
  readonly #ended = Promise.withResolvers<void>();
  #isOpen = true;

  constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
    this.#outlet = new Outlet(connection);
    this.#watch();
  }

  /** Resolves when nothing can be sent any more. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Queues bytes; after `close` or when the client is gone they are dropped. */
  send(bytes: Uint8Array): void {
    if (!this.#isOpen) return;
    if (this.#outlet.waiting > WAITING_LIMIT) this.#drop();
    else this.#outlet.write(bytes);
  }

  /** Ends the answer once what waits is written, or after `patienceMs` without that. */
  async close(patienceMs: number): Promise<void> {
    this.#isOpen = false;
    const timer = setTimeout(() => this.#drop(), patienceMs);
    await this.#outlet.flush(patienceMs);
    clearTimeout(timer);
    this.#drop();
  }

  /** Notices a client that goes away, also while nothing is sent. */
  async #watch(): Promise<void> {
    const scratch = new Uint8Array(1_024);
    try {
      while (await this.#connection.read(scratch) !== null) { /* what it sends now means nothing */ }
    } catch (error) {
      if (!(error instanceof Error)) throw error; // reset, or closed by us
    }
    this.#drop();
  }

  #drop(): void {
    this.#isOpen = false;
    closeQuietly(this.#connection);
    this.#ended.resolve();
  }
}

/** Listens on a socket file that only its owner may use. */
export class ControlServer {
  readonly #handle: (request: ControlRequest) => ControlAnswer | Promise<ControlAnswer>;
  readonly #clients = new Set<Deno.UnixConn>();
  readonly #followers = new Set<Follower>();
  readonly #accepting: Promise<void>;
  readonly #listener: Deno.UnixListener;
  readonly #path: string;
  readonly #ino: number | null;

  /**
   * @param path its folder exists and is private; an old socket there is replaced
   * @param handle answers a request; a `RequestError` that it throws is answered
   * @throws what the system says when it can't listen there
   */
  constructor(path: string, handle: (request: ControlRequest) => ControlAnswer | Promise<ControlAnswer>) {
    this.#handle = handle;
    this.#path = path;
    removeIfThere(path);
    this.#listener = Deno.listen({ transport: "unix", path });
    Deno.chmodSync(path, 0o600);
    this.#ino = inodeOf(path);
    this.#accepting = this.#accept();
  }

  /** Whether its socket file is still there. */
  get isReachable(): boolean {
    return inodeOf(this.#path) === this.#ino;
  }

  /** Takes no more clients, lets the present ones read what is on its way, and removes the socket file. */
  async close(patienceMs = 500): Promise<void> {
    const ours = this.isReachable;
    this.#listener.close();
    await this.#accepting;
    if (ours) removeIfThere(this.#path); // most systems have done it at the close
    await Promise.all([...this.#followers].map((follower) => follower.close(patienceMs)));
    const lateAt = performance.now() + patienceMs;
    while (this.#clients.size > 0 && performance.now() < lateAt) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const client of this.#clients) closeQuietly(client);
  }

  async #accept(): Promise<void> {
    for (;;) {
      let client: Deno.UnixConn;
      try {
        client = await this.#listener.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
        if (!(error instanceof Error)) throw error;
        // Out of descriptors, or a client that was gone before we looked: the next one may do better.
        await new Promise((resolve) => setTimeout(resolve, 50));
        continue;
      }
      this.#clients.add(client);
      this.#serve(client).finally(() => this.#clients.delete(client));
    }
  }

  async #serve(client: Deno.UnixConn): Promise<void> {
    const timer = setTimeout(() => closeQuietly(client), REQUEST_MS);
    let answer: ControlAnswer;
    try {
      if (this.#clients.size > CLIENT_LIMIT) throw new RequestError(503, "Too many clients at once.");
      const request = await readRequest(client);
      clearTimeout(timer);
      if (request === null) return closeQuietly(client);
      answer = await this.#handle(request);
    } catch (error) {
      if (error instanceof RequestError) answer = { status: error.status, body: { error: error.message } };
      else if (isLost(error)) return closeQuietly(client);
      else throw error;
    } finally {
      clearTimeout(timer);
    }
    try {
      if (!("follow" in answer)) {
        const body = encoder.encode(`${JSON.stringify(answer.body, null, 2)}\n`);
        const late = setTimeout(() => closeQuietly(client), REQUEST_MS);
        await writeAll(client, head(answer.status, "application/json", body.length), body).finally(() =>
          clearTimeout(late)
        );
        return await closeHeard(client);
      }
      const follower = new Follower(client);
      this.#followers.add(follower);
      follower.send(head(200, "application/x-ndjson", null));
      answer.follow(follower);
      await follower.ended;
      this.#followers.delete(follower);
    } catch (error) {
      if (!isLost(error)) throw error;
      closeQuietly(client);
    }
  }
}

function isLost(error: unknown): boolean {
  return error instanceof Deno.errors.BadResource || error instanceof Deno.errors.BrokenPipe ||
    error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.Interrupted ||
    error instanceof Deno.errors.NotConnected;
}

/** Closes a connection so that its client can read the answer: what is unread at a close makes the system forget it. */
async function closeHeard(connection: Deno.UnixConn): Promise<void> {
  const timer = setTimeout(() => closeQuietly(connection), LINGER_MS);
  try {
    await connection.closeWrite();
    const scratch = new Uint8Array(65_536);
    while (await connection.read(scratch) !== null) { /* nobody wants it */ }
  } finally {
    clearTimeout(timer);
    closeQuietly(connection);
  }
}

function closeQuietly(connection: Deno.UnixConn): void {
  try {
    connection.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // closed before
  }
}

function head(status: number, type: string, length: number | null): Uint8Array {
  const size = length === null ? "" : `content-length: ${length}\r\n`;
  return encoder.encode(
    `HTTP/1.1 ${status} ${
      STATUS_TEXTS[status] ?? ""
    }\r\ncontent-type: ${type}\r\n${size}connection: close\r\n\r\n`,
  );
}

async function writeAll(connection: Deno.UnixConn, ...parts: Uint8Array[]): Promise<void> {
  for (const part of parts) {
    for (let rest = part; rest.length > 0;) rest = rest.subarray(await connection.write(rest));
  }
}

/** Reads one request. @returns `null` when the client sends nothing @throws {RequestError} for what is none */
async function readRequest(connection: Deno.UnixConn): Promise<ControlRequest | null> {
  let held = new Uint8Array(0);
  const chunk = new Uint8Array(4_096);
  const more = async () => {
    const count = await connection.read(chunk);
    if (count === null) return false;
    const grown = new Uint8Array(held.length + count);
    grown.set(held);
    grown.set(chunk.subarray(0, count), held.length);
    held = grown;
    return true;
  };
  let end = -1;
  while (end === -1) {
    if (held.length > HEAD_LIMIT) throw new RequestError(431, "The head of the request is too long.");
    if (!await more()) {
      if (held.length === 0) return null;
      throw new RequestError(400, "The request ends in its head.");
    }
    if (!/^[A-Z]/.test(String.fromCharCode(held[0] ?? 0))) throw new RequestError(400, "This is not HTTP.");
    end = headEnd(held);
  }
  const [first = "", ...fields] = decoder.decode(held.subarray(0, end)).split("\r\n");
  const [, method, target] = /^([A-Z]{1,10}) (\S+) HTTP\/1\.[01]$/.exec(first) ?? [];
  const url = target === undefined ? null : parseTarget(target);
  if (method === undefined || url === null) throw new RequestError(400, "This is not HTTP.");
  const headers = new Map(fields.map((field) => {
    const colon = field.indexOf(":");
    return [field.slice(0, colon).trim().toLowerCase(), field.slice(colon + 1).trim()];
  }));
  if (headers.has("transfer-encoding")) throw new RequestError(411, "Send the body with a content-length.");
  const size = headers.get("content-length") ?? "0";
  if (!/^[0-9]{1,15}$/.test(size)) throw new RequestError(400, "The content-length is no number.");
  const length = Number(size);
  if (length > BODY_LIMIT) {
    throw new RequestError(413, `The body has ${length} bytes; at most ${BODY_LIMIT} are taken.`);
  }
  if (headers.get("expect")?.toLowerCase() === "100-continue") {
    await writeAll(connection, encoder.encode("HTTP/1.1 100 Continue\r\n\r\n"));
  }
  held = held.subarray(end + 4);
  while (held.length < length) {
    if (!await more()) throw new RequestError(400, "The request ends in its body.");
  }
  const body = parseBody(decoder.decode(held.subarray(0, length)));
  return { method, path: url.pathname, query: url.searchParams, body };
}

function parseTarget(target: string): URL | null {
  return target.startsWith("/") ? URL.parse(`http://control${target}`) : URL.parse(target);
}

function parseBody(text: string): Record<string, unknown> {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new RequestError(400, "The body is not a JSON object.");
}

/** Where the empty line that ends a head begins, or -1. */
function headEnd(bytes: Uint8Array): number {
  const [RETURN, NEWLINE] = [13, 10];
  for (let at = bytes.indexOf(RETURN); at !== -1; at = bytes.indexOf(RETURN, at + 1)) {
    if (bytes[at + 1] === NEWLINE && bytes[at + 2] === RETURN && bytes[at + 3] === NEWLINE) return at;
  }
  return -1;
}
