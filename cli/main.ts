/**
 * Executes one command and turns errors that a user can mend into a message and exit status 2.
 *
 * @module
 */

import type { Command } from "./arguments.ts";
import { parseCommand } from "./arguments.ts";
import { explain } from "./env.ts";
import { helpText, knownServices } from "./help.ts";
import { listServices } from "./list.ts";
import { readElsewhere } from "./read_elsewhere.ts";
import type { Runs } from "./runs.ts";
import { UserError } from "../config/errors.ts";
import { findProgram } from "../config/launch.ts";
import { findHome, readEnvironment } from "../config/settings.ts";
import { VERSION } from "../config/version.ts";
import { print } from "../terminal/outlet.ts";

/** Performs a command. @returns the exit status */
async function execute(command: Command, runs: Runs): Promise<number> {
  switch (command.kind) {
    case "run":
      await readElsewhere(command.options);
      return await runs.run(command.names, command.options);
    case "start": {
      const { start } = await import("./start.ts");
      return await start(command, runs);
    }
    case "control": {
      const { control } = await import("./control.ts");
      return await control(command.word, command.args);
    }
    case "foreground":
      return await runs.foreground(command.name, command.options);
    case "list":
      print(await listServices(command.json, command.options));
      return 0;
    case "version":
      print(`orchestrator ${VERSION}`);
      return 0;
    case "help":
      print(helpText(await knownServices(command.options)));
      return 0;
    case "jobs": {
      const { main } = await import("../jobs/cli/main.ts");
      return await main(command.args);
    }
    case "init": {
      const { initServices } = await import("./init.ts");
      const { path, guesses } = await initServices(findHome(command.options));
      print([`Wrote ${path}. What was guessed:`, ...guesses.map((guess) => `  ${guess}`)].join("\n"));
      return 0;
    }
    case "setup": {
      const { setupVenv } = await import("./setup.ts");
      const home = findHome(command.options);
      const { environment } = readEnvironment(home);
      return await setupVenv({ infrastructure: home.infrastructure, environment, findProgram, write: print });
    }
    case "check": {
      const { checkInfrastructure, checkText } = await import("./check.ts");
      const report = await checkInfrastructure({
        home: findHome(command.options),
        config: command.options.config,
      });
      print(command.json ? JSON.stringify(report, null, 2) : checkText(report));
      return report.status;
    }
    case "env":
      print(await explain(command.name, command.options));
      return 0;
  }
}

/** Runs the command line. @returns the exit status: 0, 1, or 2 for what the user can mend */
export async function main(args: readonly string[], runs: Runs): Promise<number> {
  try {
    return await execute(parseCommand(args), runs);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    print(`orchestrator: ${error.message}`, Deno.stderr);
    return 2;
  }
}
