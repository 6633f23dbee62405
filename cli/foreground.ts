/**
 * One service in the foreground: this process becomes it.
 *
 * @module
 */

import { serviceNamed, UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import { prepareLaunch } from "../config/launch.ts";
import { findHome, readEnvironment } from "../config/settings.ts";
import type { RunOptions } from "../control/run_options.ts";
import { becomeService, canBeReplaced } from "../process/exec.ts";

/**
 * Runs one service in the foreground in place of this process; its dependencies are not started.
 * Where a process can't be replaced, the service runs as a child that gets this one's terminal and signals.
 *
 * ```ts ignore
 * await runSingleService("db");
 * ```
 *
 * @returns its exit status, where it ran as a child; otherwise never
 * @throws {UserError} for an unknown name, a bad setting or a service that can't be started
 */
export async function runSingleService(name: string, options: RunOptions = {}): Promise<number> {
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const service = serviceNamed(name, services);
  if (service.kind === "external") {
    throw new UserError(`"${name}" is external: it is waited for, not started.`);
  }
  const { environment, warnings } = readEnvironment(home);
  for (const warning of warnings) console.error(`orchestrator: ${warning}`);
  const launch = prepareLaunch(service, environment, home);
  if (canBeReplaced) becomeService(launch);
  const child = new Deno.Command(launch.program, {
    args: [...launch.args],
    cwd: launch.cwd,
    env: { ...launch.environment },
    clearEnv: true,
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  Deno.addSignalListener("SIGINT", () => {}); // the console sends it to the child too
  const status = await child.status;
  return status.code;
}
