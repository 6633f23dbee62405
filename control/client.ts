/**
 * Finds the orchestrator that runs in a folder, or what a dead one left there, and asks it over its control socket.
 *
 * @module
 */

import { systemClock } from "../config/clock.ts";
import { systemReason, UserError } from "../config/errors.ts";
import type { Home } from "../config/settings.ts";
import { bootId, isSame, readProcess } from "../process/procfs.ts";
import { print } from "../terminal/outlet.ts";
import type { Answers, Bodies } from "./protocol.ts";
import { readAnswer } from "./protocol.ts";
import type { RunRecord } from "./run_folder.ts";
import { isMap, RunFolder, socketPath, UNDER_WAY_MS } from "./run_folder.ts";

/** How long a socket may be missing: who removes it is answered by a new one. */
const SOCKET_MS = 3_000;
/** The pause before another look at what others do. */
export const PAUSE_MS = 20;

/**
 * Where requests seem to go. No name, which would be looked up although the socket's path is known, and an address kept
 * for documentation, because the usual ones stand in NO_PROXY: then the runtime would pass the socket over.
 */
const ORIGIN = "http://192.0.2.1";

/** The orchestrator can't be asked: nobody listens on the socket, or it went away in the middle. */
export class Unreachable extends Error {}

/**
 * The orchestrator that runs in a folder, or `null`. Where there is none but a dead one left something, that is
 * stopped, and reported on stderr.
 *
 * @throws {UserError} when the folder can't be read
 */
export async function findRun({ infrastructure }: Home): Promise<RunRecord | null> {
  const folder = new RunFolder(infrastructure);
  try {
    for (const lateAt = performance.now() + UNDER_WAY_MS; performance.now() < lateAt;) {
      const record = folder.read();
      if (record !== null && isSame(record.orchestrator, record.bootId)) return record;
      if (record === null && !folder.isLocked()) return null;
      const silent = record === null ? await askWho(infrastructure) : null;
      if (silent !== null) return silent;
      using lock = folder.lock();
      if (lock !== null) {
        for (const message of await folder.clearUp()) print(`orchestrator: ${message}`, Deno.stderr);
        return null;
      }
      await systemClock.sleep(PAUSE_MS);
    }
  } catch (error) {
    const isReadOnly = error instanceof Error && /os error 30\b/.test(error.message);
    if (!(error instanceof Deno.errors.PermissionDenied || isReadOnly)) throw error;
    throw new UserError(`Cannot look into ${folder.path}: it belongs to someone else or can't be written.`);
  }
  throw new UserError(`Another process holds ${folder.path}/lock, and its PID is not known yet; try again.`);
}

/** One that runs and could not write down who it is, for want of room: its socket answers. */
async function askWho(infrastructure: string): Promise<RunRecord | null> {
  try {
    const socket = socketPath(infrastructure);
    const { pid, startedAt, logs } = await ask(socket, "/status");
    const startTicks = readProcess(pid)?.startTicks ?? 0;
    const run = ""; // it writes nothing down, and so leaves nothing either
    return { orchestrator: { pid, startTicks }, bootId: bootId(), run, startedAt, socket, logs, groups: [] };
  } catch (error) {
    if (error instanceof Unreachable || error instanceof UserError) return null; // not yet, or not there
    throw error;
  }
}

/**
 * Talks to an orchestrator that is known to run, with patience for a socket that is being made.
 *
 * @throws {UserError} when it can't be reached
 */
export async function reach<T>(record: RunRecord, talk: (socket: string) => Promise<T>): Promise<T> {
  const { orchestrator, bootId, socket } = record;
  for (const lateAt = performance.now() + SOCKET_MS;;) {
    try {
      if (socket === "") throw new Unreachable("it has no socket");
      return await talk(socket);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      const { pid } = orchestrator;
      if (!isSame(orchestrator, bootId)) {
        throw new UserError(`The orchestrator with PID ${pid} has just ended.`);
      }
      if (performance.now() > lateAt) {
        throw new UserError(
          `The orchestrator with PID ${pid} runs but does not answer on ${socket || "any socket"} ` +
            `(${error.message}); "kill ${pid}" stops it and its services in order.`,
        );
      }
      await systemClock.sleep(PAUSE_MS);
    }
  }
}

/** Sends a request. The answer's body is to be read or cancelled. @throws {Unreachable} when nobody answers */
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
  const reply = await request(socket, body === undefined ? "GET" : "POST", path, body);
  let value: unknown;
  try {
    value = await reply.json();
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new Unreachable("the answer is cut off");
  }
  if (reply.ok) return readAnswer(path, value);
  throw new UserError(isMap(value) && "error" in value ? String(value.error) : JSON.stringify(value));
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
