/**
 * What commands share that talk to the orchestrator of a folder.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import type { Home } from "../config/settings.ts";
import { findHome } from "../config/settings.ts";
import { findRun, reach } from "../control/client.ts";
import type { RunRecord } from "../control/run_folder.ts";
import { print } from "../terminal/outlet.ts";
import { homeOptions } from "./options.ts";

/** Nothing runs here: the exit status of a command that needs a run. */
export const NOTHING_RUNS = 3;

/** The run that a command talks to. */
export interface Talk {
  record: RunRecord;
  /** The path of its control socket. */
  socket: string;
}

/**
 * Finds the run of the folder and talks to it.
 *
 * @param absent what to do when nothing runs there; by default it is reported on stderr
 * @returns the exit status
 */
export async function withRun(
  given: Given,
  talk: (run: Talk) => Promise<number>,
  absent: (home: Home) => number = reportAbsence,
): Promise<number> {
  const home = findHome(homeOptions(given));
  const record = await findRun(home);
  return record === null ? absent(home) : await reach(record, (socket) => talk({ record, socket }));
}

/** Reports on stderr that nothing runs. */
export function reportAbsence({ infrastructure }: Home): number {
  print(absence(infrastructure), Deno.stderr);
  return NOTHING_RUNS;
}

/** The sentence that nothing runs. */
export function absence(infrastructure: string): string {
  return `Nothing is running in ${infrastructure}. Start it with: orchestrator -d`;
}
