/**
 * Makes a run known to others, where that is wanted.
 *
 * @module
 */

import type { Home } from "../config/settings.ts";
import type { Control } from "./control.ts";
import type { RunOptions } from "./run_options.ts";

/**
 * Takes the folder for this process and begins to keep logs.
 *
 * @returns `null` when nobody shall be able to talk to the run
 * @throws {UserError} when another orchestrator runs there
 */
export async function openControl(
  home: Home,
  { control, detached = false, logs }: RunOptions,
): Promise<Control | null> {
  if (control === false) return null;
  const { Control } = await import("./control.ts");
  const opened = await Control.open(home, detached);
  if (logs !== undefined || detached) await opened.keepLogs(logs ?? {});
  return opened;
}
