/**
 * Takes an infrastructure folder for this process: its lock, and what a dead run left in it.
 *
 * @module
 */

import { UserError } from "../config/errors.ts";
import type { Home } from "../config/settings.ts";
import { bootId, isSame } from "../process/procfs.ts";
import type { RunFolder } from "./record.ts";
import { removeIfThere, stopSurvivors } from "./record.ts";

/** Something to log as soon as the run has listeners. */
export interface Note {
  level: "info" | "warn";
  message: string;
}

/** How long a second start waits for one that is under way, or for one that clears up, to be known. */
const UNDER_WAY_MS = 15_000;

/**
 * Takes the lock, however long someone only looks at it or clears up under it.
 *
 * @throws {UserError} when another orchestrator runs there
 */
export async function lockFolder(folder: RunFolder, home: Home): Promise<Deno.FsFile> {
  const lateAt = performance.now() + UNDER_WAY_MS;
  for (let pauseMs = 2;; pauseMs = Math.min(pauseMs * 2, 100)) {
    const lock = folder.lock();
    const record = folder.read();
    // Also when someone removed the lock file of one that runs.
    const { pid } = record?.orchestrator ?? { pid: Deno.pid };
    if (record !== null && pid !== Deno.pid && isSame(record.orchestrator, record.bootId)) {
      lock?.close();
      throw alreadyRuns(pid, home);
    }
    if (lock !== null) return lock;
    if (performance.now() > lateAt) throw alreadyRuns(null, home);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** The error that names the one that runs. @param pid `null`: it is not known */
export function alreadyRuns(pid: number | null, { infrastructure }: Home): UserError {
  const who = pid === null ? "Another orchestrator" : `An orchestrator with PID ${pid}`;
  return new UserError(
    `${who} runs in ${infrastructure} already; "orchestrator status" shows it and "orchestrator stop" ends it.`,
  );
}

/** Stops what a dead run left. Asks for the lock to be held. @returns messages about it */
export async function clearUp(folder: RunFolder): Promise<Note[]> {
  const record = folder.read();
  if (record === null) return [];
  const who = `The orchestrator with PID ${record.orchestrator.pid}, started ${record.startedAt},`;
  const notes: Note[] = [];
  if (record.bootId !== bootId()) {
    notes.push({
      level: "warn",
      message: `${who} ended when the system was rebooted; none of its processes are left.`,
    });
  } else {
    const { count, left } = await stopSurvivors(record);
    const what = count === 0
      ? "it left no processes running"
      : count === 1
      ? "1 process that it left running was stopped"
      : `${count} processes that it left running were stopped`;
    const seen = folder.writtenAt();
    const when = seen === null ? "" : ` (last seen ${seen.toISOString()})`;
    notes.push({ level: "warn", message: `${who} exited unexpectedly${when}; ${what}.` });
    if (left.length > 0) {
      notes.push({
        level: "warn",
        message: `Processes that it left running can't be stopped: PID ${left.join(", ")}.`,
      });
    }
  }
  if (record.socket !== "") removeIfThere(record.socket);
  folder.forget();
  return notes;
}
