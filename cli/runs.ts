/**
 * What the entry of the program gives to its commands.
 *
 * @module
 */

import type { Command } from "../config/command.ts";
import type { RunOptions } from "../control/run_options.ts";

/** What a command gets besides its arguments. */
export interface Program extends Runs {
  /** The command table. */
  commands: readonly Command<Program>[];
}

/** How services are run: what the entry of the program gives to its commands. */
export interface Runs {
  /** Starts services and stays with them. @returns the exit status */
  run(names: readonly string[], options: RunOptions): Promise<number>;
  /** Becomes one service. @returns its exit status, where this process can not be replaced */
  foreground(name: string, options: RunOptions): Promise<number>;
}
