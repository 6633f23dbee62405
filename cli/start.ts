/**
 * `orchestrator start`, and what the program does without a command: services are started here, in the background, or
 * where an orchestrator runs already, or this process becomes one.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { serviceNamed, UserError } from "../config/errors.ts";
import { isKept, loadServices, memoryOf, servicesFileOf } from "../config/file.ts";
import { prepareLaunch } from "../config/launch.ts";
import { parseLevel } from "../config/levels.ts";
import { findHome, readEnvironment, resolvePath } from "../config/settings.ts";
import { VERSION } from "../config/version.ts";
import type { LogOptions } from "../control/log_files.ts";
import type { RunOptions } from "../control/run_options.ts";
import { becomeService, canBeReplaced, ownCommand } from "../process/exec.ts";
import { print } from "../terminal/outlet.ts";
import type { Program } from "./options.ts";
import { homeOptions, namesOf, waitLimitMs } from "./options.ts";

/** Starts services. @returns the exit status @throws {UserError} for what users can fix */
export async function start(given: Given, program: Program): Promise<number> {
  const options = homeOptions(given);
  if (given.has("version")) return await showVersion();
  if (given.has("list")) return await (await import("./defined.ts")).list(given);
  if (given.has("json")) throw new UserError("--json needs --list.");
  const service = given.one("service");
  if (service !== undefined) {
    if (given.one("services") !== undefined || given.words.length > 0) {
      throw new UserError(
        "--service runs one service in the foreground, --services several; give one of them.",
      );
    }
    return await runSingleService(service, options);
  }
  const named = namesOf(given);
  const names = [...new Set([...listed(given.one("services")), ...named])];
  const limitMs = waitLimitMs(given);
  const logs = logOptions(given);
  const detached = given.has("in-background");
  if (!detached) {
    if (named.length > 0) {
      const { startThere } = await import("./running.ts");
      const status = await startThere(options, names, limitMs);
      if (status !== null) return status;
    }
    if (given.has("detach")) {
      const { detach } = await import("./detach.ts");
      return await detach(options, limitMs);
    }
    if (given.has("wait")) {
      throw new UserError("--wait needs --detach, or names to start in an orchestrator that runs.");
    }
  }
  await readElsewhere(options);
  return await program.run(names, { ...options, detached, ...(logs === null ? {} : { logs }) });
}

/** Shows the version. */
export function showVersion(): Promise<number> {
  print(`orchestrator ${VERSION}`);
  return Promise.resolve(0);
}

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
  }).spawn();
  Deno.addSignalListener("SIGINT", () => {}); // the console sends it to the child too
  const status = await child.status;
  return status.code;
}

/** Names that are separated by commas. */
function listed(text: string | undefined): string[] {
  if (text === undefined) return [];
  const names = text.split(",").map((name) => name.trim());
  if (names.includes("")) {
    throw new UserError("--services holds an empty name; for example --services db,web.");
  }
  return names;
}

/** The settings of logs on disk that the options give, or `null` without any. @throws {UserError} for a wrong value */
function logOptions(given: Given): Partial<LogOptions> | null {
  const options: Partial<LogOptions> = {};
  const folder = given.one("log-dir");
  const format = given.one("log-format");
  const level = given.one("log-level");
  const size = given.one("log-size");
  const keep = given.one("log-keep");
  if (folder !== undefined) options.folder = resolvePath(Deno.cwd(), folder);
  if (format !== undefined) {
    if (format !== "text" && format !== "json") throw new UserError("--log-format is text or json.");
    options.format = format;
  }
  if (level !== undefined) options.level = parseLevel(level, "--log-level");
  if (size !== undefined) options.maxBytes = parseSize(size);
  if (keep !== undefined) {
    if (!/^[0-9]{1,3}$/.test(keep)) throw new UserError("--log-keep is a number of files from 0 to 999.");
    options.keep = Number(keep);
  }
  return Object.keys(options).length === 0 ? null : options;
}

/**
 * Bytes of a size: `500000`, `64KiB`, `10MiB`, `1GiB`; `k`, `M` and `G` alone mean the same.
 *
 * @throws {UserError} for anything else
 */
export function parseSize(text: string): number {
  const [, amount, unit] = /^([0-9]+(?:\.[0-9]+)?) ?([kmg]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  const bytes = Math.floor(Number(amount) * 1_024 ** " kmg".indexOf(unit?.toLowerCase() || " "));
  if (bytes >= 1_024) return bytes;
  throw new UserError(`"${text}" is not a size for --log-size; use 1KiB or more, for example 10MiB.`);
}

/**
 * Has a services file that has changed read by another process, which keeps what it means. In this one the parser and
 * the schema library would take 12 MB for as long as services run. Mistakes are reported when it is read here.
 */
async function readElsewhere({ infrastructure, config }: RunOptions): Promise<void> {
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
