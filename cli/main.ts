/**
 * Runs one command, and turns errors that users can fix into a message and exit status 2.
 *
 * @module
 */

import { findCommand, readArguments } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { print } from "../terminal/outlet.ts";
import type { Program } from "./options.ts";
import { COMMANDS } from "./table.ts";

/** Runs the command line. @returns the exit status: 0, 1, or 2 for what users can fix */
export async function main(args: readonly string[], run: Program["run"]): Promise<number> {
  try {
    const { command, isBare, args: rest } = findCommand(COMMANDS, args);
    const given = readArguments(command, rest, isBare);
    if (given.has("help")) {
      const { showHelp } = await import("./help.ts");
      return await showHelp(isBare ? null : command, given, COMMANDS);
    }
    const verb = await command.load();
    return await verb.run(given, { commands: COMMANDS, run });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    print(`orchestrator: ${error.message}`, Deno.stderr);
    return 2;
  }
}
