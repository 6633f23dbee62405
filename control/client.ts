/**
 * Asks a running orchestrator over its control socket.
 *
 * @module
 */

import { decoder, encoder } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";

/** The orchestrator can't be asked: nobody listens on the socket, or it went away in the middle. */
export class Unreachable extends Error {}

/** A connection that has been answered: the status and, to be read or cancelled, the body. */
export interface Reply {
  status: number;
  body: ReadableStream<Uint8Array>;
}

/**
 * Sends a request.
 *
 * @throws {Unreachable} when nobody answers
 */
export async function request(
  socket: string,
  method: string,
  target: string,
  body?: unknown,
): Promise<Reply> {
  let connection: Deno.UnixConn;
  try {
    connection = await Deno.connect({ transport: "unix", path: socket });
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new Unreachable(error.message); // no such file, nobody listens, no permission
  }
  const text = body === undefined ? "" : JSON.stringify(body);
  const content = encoder.encode(text);
  // HTTP/1.0: the answer ends with the connection.
  const head =
    `${method} ${target} HTTP/1.0\r\nhost: orchestrator\r\ncontent-length: ${content.length}\r\n\r\n`;
  const reader = connection.readable.getReader();
  try {
    await connection.write(encoder.encode(head + text));
    let held = new Uint8Array(0);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Unreachable("the answer ends in its head");
      const grown = new Uint8Array(held.length + value.length);
      grown.set(held);
      grown.set(value, held.length);
      held = grown;
      const known = decoder.decode(held);
      const end = known.indexOf("\r\n\r\n");
      if (end === -1) continue;
      const status = Number(/^HTTP\/1\.[01] ([0-9]{3})/.exec(known)?.[1] ?? 0);
      return { status, body: rest(reader, held.subarray(encoder.encode(known.slice(0, end + 4)).length)) };
    }
  } catch (error) {
    await reader.cancel().catch(() => {}); // it is closed already
    if (error instanceof Unreachable || !(error instanceof Error)) throw error;
    throw new Unreachable(error.message);
  }
}

function rest(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  first: Uint8Array,
): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      if (first.length > 0) controller.enqueue(first);
    },
    async pull(controller) {
      try {
        const { value, done } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        controller.close(); // cut off: who reads sees that the end is missing
      }
    },
    async cancel() {
      await reader.cancel();
    },
  });
}

/**
 * Asks for something that is answered with one JSON value.
 *
 * @throws {UserError} with the sentence of an answer that says no
 * @throws {Unreachable} when nobody answers
 */
export async function ask(socket: string, method: string, target: string, body?: unknown): Promise<unknown> {
  const reply = await request(socket, method, target, body);
  const text = await new Response(reply.body).text();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Unreachable("the answer is cut off");
  }
  if (reply.status < 400) return value;
  const said = typeof value === "object" && value !== null && "error" in value ? String(value.error) : text;
  throw new UserError(said);
}

/** The lines of an endless answer, until it ends or `signal` fires. */
export async function* lines(body: ReadableStream<Uint8Array>, signal?: AbortSignal): AsyncGenerator<string> {
  const reader = body.getReader();
  const stop = () => void reader.cancel();
  signal?.addEventListener("abort", stop);
  try {
    const streaming = new TextDecoder();
    let held = "";
    while (!signal?.aborted) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = streaming.decode(value, { stream: true }).split("\n");
      parts[0] = held + parts[0];
      held = parts.pop() ?? "";
      yield* parts;
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    await reader.cancel();
  }
}
