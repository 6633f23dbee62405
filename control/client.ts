/**
 * Asks a running orchestrator over its control socket.
 *
 * @module
 */

import { systemReason, UserError } from "../config/errors.ts";
import type { Answers, Bodies } from "./protocol.ts";
import { readAnswer } from "./protocol.ts";

/**
 * Where requests seem to go. No name, which would be looked up although the socket's path is known, and an address kept
 * for documentation, because the usual ones stand in NO_PROXY: then the runtime would pass the socket over.
 */
const ORIGIN = "http://192.0.2.1";

/** The orchestrator can't be asked: nobody listens on the socket, or it went away in the middle. */
export class Unreachable extends Error {}

/**
 * Sends a request. The answer's body is to be read or cancelled.
 *
 * @throws {Unreachable} when nobody answers
 */
export async function request(
  socket: string,
  method: string,
  target: string,
  body?: unknown,
): Promise<Response> {
  // Closed once the answer has begun: what is on its way still comes, and nothing is kept for a next request.
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path: socket } });
  try {
    return await fetch(ORIGIN + target, {
      client,
      method,
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new Unreachable(systemReason(error)); // no such file, nobody listens, no permission, or it went away
  }
}

/**
 * Sends a request that is answered with one JSON value.
 *
 * @throws {UserError} with the message of an answer that is an error
 * @throws {Unreachable} when nobody answers, or not to the end
 */
export async function exchange(
  socket: string,
  method: string,
  target: string,
  body?: unknown,
): Promise<unknown> {
  const reply = await request(socket, method, target, body);
  let value: unknown;
  try {
    value = await reply.json();
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new Unreachable("the answer is cut off");
  }
  if (reply.ok) return value;
  throw new UserError(
    typeof value === "object" && value !== null && "error" in value
      ? String(value.error)
      : JSON.stringify(value),
  );
}

/**
 * Asks for an answer of the protocol.
 *
 * @throws {UserError} with the message of an answer that is an error, and for one of another version
 * @throws {Unreachable} when nobody answers, or not to the end
 */
export async function ask<Path extends keyof Answers>(
  socket: string,
  path: Path,
  ...[body]: Bodies[Path]
): Promise<Answers[Path]> {
  return readAnswer(path, await exchange(socket, body === undefined ? "GET" : "POST", path, body));
}

/** The lines of an endless answer, until it ends, is cut off, or `signal` fires. A last line without an end is none. */
export async function* lines({ body }: Response, signal?: AbortSignal): AsyncGenerator<string> {
  if (body === null) return;
  let held = "";
  try {
    for await (const text of body.pipeThrough(new TextDecoderStream(), signal && { signal })) {
      const parts = text.split("\n");
      parts[0] = held + parts[0];
      held = parts.pop() ?? "";
      yield* parts;
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error; // cut off, or nobody wants more: who reads sees what is missing
  }
}
