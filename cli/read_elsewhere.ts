/**
 * Has a changed services file read by another process.
 *
 * @module
 */

import { isKept, memoryOf, servicesFileOf } from "../config/file.ts";
import { findHome } from "../config/settings.ts";
import type { RunOptions } from "../control/run_options.ts";
import { ownCommand } from "../process/exec.ts";

/**
 * Has a services file that has changed read by another process, which keeps what it means. In this one the parser and
 * the schema library would take 12 MB for as long as services run. Mistakes are reported when it is read here.
 */
export async function readElsewhere({ infrastructure, config }: RunOptions): Promise<void> {
  const home = findHome({ infrastructure });
  const memory = memoryOf(home);
  const path = servicesFileOf(home, config);
  if (path === null || isKept(path, memory)) return;
  await Deno.mkdir(memory, { mode: 0o700 }).catch(() => {});
  const { program, args } = ownCommand(["--list", "--infrastructure", home.infrastructure, "--config", path]);
  const reader = new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" });
  await reader.output().catch(() => {}); // where this program is no more, the file is read here
  if (!isKept(path, memory)) await Deno.remove(memory).catch(() => {}); // only if it is empty
}
