/**
 * HTTP over a Unix socket, as much of it as the control socket needs: one small request a connection, an answer or an
 * endless one, and limits on everything a client may hold.
 *
 * @module
 */

import { concat, decoder, encoder } from "../config/bytes.ts";
import { systemClock } from "../config/clock.ts";
import { Outlet } from "../terminal/outlet.ts";
import { inodeOf, isMap, removeIfThere } from "./run_folder.ts";

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

/** Answers a request. */
export type RequestHandler = (request: ControlRequest) => ControlAnswer | Promise<ControlAnswer>;

/** A fault in a request, answered with its HTTP status. */
class RequestError extends Error {
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
  409: "Conflict",
  411: "Length Required",
  413: "Content Too Large",
  431: "Request Header Fields Too Large",
  503: "Service Unavailable",
};

/** Each byte as one character, so that a place in the text is one in the bytes. */
const latin1 = new TextDecoder("latin1");

/** A client that reads an endless answer. One that does not keep up is dropped. */
export class Follower {
  /** Resolves when nothing can be sent any more. */
  readonly ended: Promise<void>;
  readonly #connection: Deno.UnixConn;
  readonly #outlet: Outlet;
  #isOpen = true;

  constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
    this.#outlet = new Outlet(connection);
    this.ended = this.#watch();
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
    using _limit = closeAfter(patienceMs, this.#connection);
    await this.#outlet.flush(patienceMs);
    this.#drop();
  }

  /** Notices a client that goes away, also while nothing is sent. */
  async #watch(): Promise<void> {
    try {
      await readToEnd(this.#connection);
    } catch (error) {
      if (!(error instanceof Error)) throw error; // reset, or closed by us
    }
    this.#drop();
  }

  #drop(): void {
    this.#isOpen = false;
    this.#connection[Symbol.dispose]();
  }
}

/** Listens on a socket file that only its owner may use. */
export class ControlServer {
  readonly #path: string;
  readonly #handle: RequestHandler;
  /** Each with its follower, once it is answered without end. */
  readonly #clients = new Map<Deno.UnixConn, Follower | null>();
  readonly #listener: Deno.UnixListener;
  readonly #ino: number | null;
  readonly #accepting: Promise<void>;

  /** @param path in a private folder; an old socket there is replaced @throws when it can't listen there */
  constructor(path: string, handle: RequestHandler) {
    this.#path = path;
    this.#handle = handle;
    removeIfThere(path);
    this.#listener = Deno.listen({ transport: "unix", path });
    try {
      Deno.chmodSync(path, 0o600);
      this.#ino = Deno.lstatSync(path).ino;
    } catch (error) {
      this.#listener.close(); // someone has removed the file already
      throw error;
    }
    this.#accepting = this.#accept();
  }

  /** Whether its socket file is still there. */
  get isReachable(): boolean {
    return inodeOf(this.#path) === this.#ino;
  }

  /** Takes no more clients, lets the present ones read what is on its way, and removes the socket file. */
  async close(patienceMs = 500): Promise<void> {
    const isOurs = this.isReachable;
    this.#listener.close();
    await this.#accepting;
    if (isOurs) removeIfThere(this.#path); // most systems have done it at the close
    await Promise.all([...this.#clients.values()].map((follower) => follower?.close(patienceMs)));
    const lateAt = performance.now() + patienceMs;
    while (this.#clients.size > 0 && performance.now() < lateAt) await systemClock.sleep(5);
    for (const client of this.#clients.keys()) client[Symbol.dispose]();
  }

  async #accept(): Promise<void> {
    for (;;) {
      try {
        const client = await this.#listener.accept();
        this.#clients.set(client, null);
        this.#serve(client).finally(() => this.#clients.delete(client));
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
        if (!(error instanceof Error)) throw error;
        // Out of descriptors, or a client that was gone before we looked: the next one may do better.
        await systemClock.sleep(50);
      }
    }
  }

  async #serve(client: Deno.UnixConn): Promise<void> {
    try {
      const answer = await this.#answer(client);
      if (answer === null) return;
      if ("follow" in answer) {
        const follower = new Follower(client);
        this.#clients.set(client, follower);
        follower.send(head(200, "application/x-ndjson", null));
        answer.follow(follower);
        return await follower.ended;
      }
      const body = encoder.encode(`${JSON.stringify(answer.body, null, 2)}\n`);
      await write(client, concat([head(answer.status, "application/json", body.length), body]));
      // What is unread at a close makes the system forget the answer.
      await client.closeWrite();
      using _limit = closeAfter(LINGER_MS, client);
      await readToEnd(client);
    } catch (error) {
      if (!isLost(error)) throw error;
    } finally {
      client[Symbol.dispose]();
    }
  }

  /** The answer to a request, also to one that is none; `null` when the client sends nothing. */
  async #answer(client: Deno.UnixConn): Promise<ControlAnswer | null> {
    try {
      if (this.#clients.size > CLIENT_LIMIT) throw new RequestError(503, "Too many clients at once.");
      const request = await readRequest(client);
      return request === null ? null : await this.#handle(request);
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      return { status: error.status, body: { error: error.message } };
    }
  }
}

function isLost(error: unknown): boolean {
  const { BadResource, BrokenPipe, ConnectionReset, Interrupted, NotConnected } = Deno.errors;
  return [BadResource, BrokenPipe, ConnectionReset, Interrupted, NotConnected].some((kind) =>
    error instanceof kind
  );
}

/** Closes a connection after a while, unless the result is disposed before. */
function closeAfter(ms: number, connection: Deno.UnixConn): Disposable {
  return { [Symbol.dispose]: systemClock.wake(ms, () => connection[Symbol.dispose]()) };
}

function head(status: number, type: string, length: number | null): Uint8Array {
  const size = length === null ? "" : `content-length: ${length}\r\n`;
  const text = STATUS_TEXTS[status] ?? "";
  return encoder.encode(
    `HTTP/1.1 ${status} ${text}\r\ncontent-type: ${type}\r\n${size}connection: close\r\n\r\n`,
  );
}

async function write(connection: Deno.UnixConn, bytes: Uint8Array): Promise<void> {
  using _limit = closeAfter(REQUEST_MS, connection);
  for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await connection.write(rest));
}

/** Reads what a client still sends, which means nothing. */
async function readToEnd(connection: Deno.UnixConn): Promise<void> {
  const scratch = new Uint8Array(65_536);
  while (await connection.read(scratch) !== null) { /* nobody wants it */ }
}

/** Reads one request. @returns `null` when the client sends nothing @throws {RequestError} for what is none */
async function readRequest(connection: Deno.UnixConn): Promise<ControlRequest | null> {
  using _limit = closeAfter(REQUEST_MS, connection);
  const chunk = new Uint8Array(4_096);
  let held: Uint8Array = new Uint8Array(0);
  const more = async () => {
    const count = await connection.read(chunk);
    if (count !== null) held = concat([held, chunk.subarray(0, count)]);
    return count !== null;
  };
  let end = -1;
  while (end === -1) {
    if (held.length > HEAD_LIMIT) throw new RequestError(431, "The head of the request is too long.");
    if (!await more()) {
      if (held.length === 0) return null;
      throw new RequestError(400, "The request ends in its head.");
    }
    const text = latin1.decode(held);
    if (!/^[A-Z]/.test(text)) throw new RequestError(400, "This is not HTTP.");
    end = text.indexOf("\r\n\r\n");
  }
  const [first = "", ...fields] = decoder.decode(held.subarray(0, end)).split("\r\n");
  const [, method, target] = /^([A-Z]{1,10}) (\S+) HTTP\/1\.[01]$/.exec(first) ?? [];
  const url = URL.parse(target?.startsWith("/") ? `http://control${target}` : target ?? "");
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
    await write(connection, encoder.encode("HTTP/1.1 100 Continue\r\n\r\n"));
  }
  held = held.subarray(end + 4);
  while (held.length < length) {
    if (!await more()) throw new RequestError(400, "The request ends in its body.");
  }
  const body = parseBody(decoder.decode(held.subarray(0, length)));
  return { method, path: url.pathname, query: url.searchParams, body };
}

function parseBody(text: string): Record<string, unknown> {
  if (text.trim() === "") return {};
  try {
    const value: unknown = JSON.parse(text);
    if (isMap(value)) return { ...value };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new RequestError(400, "The body is not a JSON object.");
}
