/**
 * The text of `--help`.
 *
 * @module
 */

import { WORDS } from "./arguments.ts";
import type { Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import { findHome } from "../config/settings.ts";
import type { RunOptions } from "../control/run_options.ts";
import { SERVICES } from "../services.ts";

/** The text of `--help`, with the real aliases. */
export function helpText(services: readonly Service[]): string {
  const names = services.map(({ name }) => name);
  const two = names.slice(0, 2).join(",");
  const last = names.at(-1) ?? "NAME";
  const words = Object.entries(WORDS).map(([word, does]) => `  ${word.padEnd(12)} ${does}`).join("\n");
  return `Starts, watches and stops the services of an infrastructure folder.

usage: orchestrator [--services ALIASES | --service ALIAS] [options]
       orchestrator COMMAND [options]

options:
  -s, --services ALIASES   start several services, comma separated; their dependencies are added
      --service ALIAS      run one service in the foreground, no dashboard, dependencies not started
  -l, --list               show the service table and exit (--json: the same as JSON)
      --env-file PATH      .env to load (default: infrastructure/.env)
      --infrastructure DIR the infrastructure folder (default: infrastructure/ beside this program,
                           or the program's own folder when that holds services/)
      --config FILE        services file (default: services.yaml, .yml or .json in the folder, else built in)
      --no-dashboard       stream prefixed logs even on a terminal
  -d, --detach             run in the background; returns when all are ready or one failed (--wait 60s: at the latest)
      --log-dir DIR        write logs there too; --log-format text|json, --log-level debug|info|warn|error,
                           --log-size 10MiB a file, --log-keep 5 older ones
  -h, --help   -V, --version

commands:
${words}

services: ${names.join(", ")}

examples:
  orchestrator                      start every service
  orchestrator --services ${two.padEnd(10)}start some, and what they depend on
  orchestrator --service ${last.padEnd(11)}become one service, in the foreground
  orchestrator --list --json        the services, for scripts

exit status: 0 stopped as asked or all ended well, 1 a service crashed or could not start, 2 a mistake to mend first`;
}

/** The services for the help, which is shown even where they can't be read. */
export async function knownServices(options: RunOptions): Promise<readonly Service[]> {
  try {
    return await loadServices(findHome(options), options.config);
  } catch (error) {
    if (error instanceof UserError) return SERVICES;
    throw error;
  }
}
