/**
 * Finds the orchestrator that runs in a folder, or what a dead one left there.
 *
 * @module
 */

import type { Home } from "../config/settings.ts";
import { print } from "../terminal/outlet.ts";
import { UserError } from "../config/errors.ts";
import { ask, Unreachable } from "./client.ts";
import { clearUp } from "./folder_lock.ts";
import { bootId, isSame, readProcess } from "../process/procfs.ts";
import { RunFolder, socketPath } from "./record.ts";
import type { RunRecord } from "./record.ts";

/** How long one that is starting, or being cleared up after, may take to be known. */
const UNDER_WAY_MS = 15_000;
/** How long a socket may be missing: who removes it is answered by a new one. */
const SOCKET_MS = 3_000;
const PAUSE_MS = 20;

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
      const lock = folder.lock();
      if (lock !== null) {
        const notes = await clearUp(folder);
        lock.close();
        for (const { message } of notes) print(`orchestrator: ${message}`, Deno.stderr);
        return null;
      }
      await pause();
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied || isReadOnly(error))) throw error;
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

function isReadOnly(error: unknown): boolean {
  return error instanceof Error && /os error 30\b/.test(error.message);
}

/**
 * Talks to an orchestrator that is known to run, with patience for a socket that is being made.
 *
 * @throws {UserError} when it can't be reached
 */
export async function reach<T>(record: RunRecord, talk: (socket: string) => Promise<T>): Promise<T> {
  const lateAt = performance.now() + SOCKET_MS;
  for (;;) {
    try {
      if (record.socket === "") throw new Unreachable("it has no socket");
      return await talk(record.socket);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      const { pid } = record.orchestrator;
      const runs = isSame(record.orchestrator, record.bootId);
      if (!runs) throw new UserError(`The orchestrator with PID ${pid} has just ended.`);
      if (performance.now() > lateAt) {
        throw new UserError(
          `The orchestrator with PID ${pid} runs but does not answer on ${record.socket || "any socket"} ` +
            `(${error.message}); "kill ${pid}" stops it and its services in order.`,
        );
      }
      await pause();
    }
  }
}

/** Resolves after a moment. */
export function pause(ms = PAUSE_MS): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
