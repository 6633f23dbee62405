#!/usr/bin/env -S deno run -A
/**
 * Starts, watches and stops the services of an infrastructure folder.
 *
 *     orchestrator                        start every service, with a dashboard on a terminal
 *     orchestrator --services db,web      start some; what they depend on is added
 *     orchestrator --service web          become one service, in the foreground
 *     orchestrator --list                 show the services
 *     orchestrator --help                 show everything else
 *
 * Information moves one way: definitions -> plan -> processes -> events -> views. Sections, each using only what
 * stands above it:
 *
 *  1. Vocabulary    the states of a service, what happens to it, what is told about it
 *  2. Settings      folders, environment, ports and commands of one start
 *  3. Plan          which services, in which order
 *  4. State          `step`: what follows when something happens to one service; `decide`: whose turn it is
 *  5. Children      processes, their groups, pipes, guard and probes
 *  6. Supervisor    the one mutable map: performs what sections 3 and 4 say
 *  7. Views         values in, text out
 *  8. Output        the one writer: a stream of lines, or a terminal with a panel
 *  9. Foreground    this process becomes the service
 * 10. Orchestrator  a supervisor with views and signals: what a run is
 * 11. Commands      the command line
 * 12. Main          the exit status
 *
 * @module
 */

// @ts-types="./std.d.ts"
import { parseArgs } from "@std/cli/parse-args";
// @ts-types="./std.d.ts"
import * as colors from "@std/fmt/colors";
import { type Dotenv, DotenvError, readDotenv, withDotenv } from "./dotenv.ts";
import {
  closest,
  findServicesFile,
  type Health,
  isKept,
  type Probe,
  readServicesFile,
  type Service,
  SERVICES,
  UserError,
} from "./services.ts";

import type { Control } from "./control/control.ts";
import type { LogOptions } from "./control/log_files.ts";

export { UserError };

/** The version that `--version` tells. */
export const VERSION = "1.0.0";

// ------------------------------------------------------------------------------------------------------------------
// 1. Vocabulary
// Moments are milliseconds of the steady clock unless a name says otherwise; spans end in `Ms`.

/** How a process ended. */
export type Exit = { kind: "exited"; code: number } | { kind: "killed"; signal: string };

/** What becomes of a service once nothing of it runs any more. */
export type AfterStop =
  | { kind: "stopped" }
  | { kind: "restarting" }
  | { kind: "ended"; exit: Exit }
  | { kind: "failed"; reason: string };

/** What is known of a service in every state. */
export interface History {
  /** Moments of the failures that count against `maxRetries`. */
  failures: readonly number[];
  /** How often it was started after its first start. */
  restarts: number;
  lastExit: Exit | null;
}

/** The state of one service. A field exists only in the states in which it is true. */
export type ServiceState =
  & History
  & (
    | { kind: "pending"; waitingFor: readonly string[] }
    // No PID while it is being prepared, nor for an external service.
    | { kind: "starting"; pid: number | null; since: number; readyBy: number }
    | { kind: "running"; pid: number | null; since: number }
    | { kind: "stopping"; pid: number; since: number; killAt: number; then: AfterStop }
    | { kind: "restarting"; attempt: number; retryAt: number; reason: string }
    | { kind: "stopped" }
    | { kind: "crashed"; exit: Exit; ranMs: number; reason: string }
    | { kind: "failed"; exit: Exit | null; ranMs: number; reason: string }
  );

/** Something that happens to one service. */
export type Trigger =
  | { kind: "waiting"; names: readonly string[] }
  | { kind: "start" }
  | { kind: "spawned"; pid: number }
  | { kind: "spawnFailed"; reason: string }
  | { kind: "ready" }
  | { kind: "unhealthy"; reason: string }
  // The first process ended and its pipes are read; `groupAlive`: others of its group still run.
  | { kind: "exited"; exit: Exit; groupAlive: boolean }
  | { kind: "groupEmpty" }
  | { kind: "stop" }
  | { kind: "restart" }
  | { kind: "kill" }
  | { kind: "wake" };

/** What a step wants done. */
export type Effect = { kind: "spawn" } | { kind: "signal"; signal: Deno.Signal };

/** What one service looks like at one moment. */
export interface ServiceSnapshot {
  name: string;
  title: string;
  kind: Service["kind"];
  port: number | null;
  maxRetries: number;
  state: ServiceState;
  /** The last lines it printed, oldest first; as many as the snapshot was asked for. */
  recent: readonly string[];
}

/** All services at one moment. */
export interface Snapshot {
  /** Of the steady clock, as the moments in `state`. */
  at: number;
  /** Whether everything is being stopped. */
  stopping: boolean;
  services: readonly ServiceSnapshot[];
}

/** A service came into another state: `row` is how it is now, `at` a moment of the steady clock. */
export interface StateEvent {
  kind: "state";
  time: number;
  at: number;
  row: ServiceSnapshot;
  from: ServiceState;
}

/** What a run tells, in the order in which it happens. `time` is wall-clock milliseconds. */
export type Event =
  | StateEvent
  /** Whole lines of one pipe, each with its newline. */
  | { kind: "output"; time: number; service: string; stream: Stream; lines: Uint8Array }
  | { kind: "log"; time: number; level: Level; message: string };

export type Stream = "out" | "err";
export type Level = "debug" | "info" | "warn" | "error";

/** Whether a state has no process of ours. */
export function isAtRest(state: ServiceState): boolean {
  return state.kind !== "starting" && state.kind !== "running" && state.kind !== "stopping";
}

// ------------------------------------------------------------------------------------------------------------------
// 2. Settings
// What one start needs, read from the disk and the environment; every fault is a `UserError`.

/** An environment as a child gets it. */
export type Environment = Readonly<Record<string, string>>;

/** Where a run finds its things. */
export interface Home {
  infrastructure: string;
  envFile: string;
  /** Whether `envFile` was asked for by name, so that its absence is a fault. */
  envFileNamed: boolean;
}

function exists(path: string, kind: "isFile" | "isDirectory"): boolean {
  try {
    return Deno.statSync(path)[kind];
  } catch (error) {
    // Whatever can't be looked at is not there for us: the start that needs it says so.
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.FilesystemLoop) {
      return false;
    }
    throw error;
  }
}

function dirname(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/** `path` seen from `folder`, without `.` and `..` parts. */
export function resolvePath(folder: string, path: string): string {
  const parts: string[] = [];
  for (const part of (path.startsWith("/") ? path : `${folder}/${path}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return "/" + parts.join("/");
}

/** The infrastructure folder beside this script or binary, or the binary's own folder when it holds `services/`. */
export function findInfrastructure(): string {
  const script = () => decodeURIComponent(new URL(import.meta.url).pathname);
  const folder = dirname(Deno.realPathSync(Deno.build.standalone ? Deno.execPath() : script()));
  const beside = `${folder}/infrastructure`;
  const inside = exists(`${folder}/services`, "isDirectory") || findServicesFile(folder) !== null;
  return !exists(beside, "isDirectory") && inside ? folder : beside;
}

/**
 * The folders and files of a run.
 *
 * @throws {UserError} when the infrastructure folder or an `.env` file named by the user is not there
 */
export function findHome(options: { infrastructure?: string; envFile?: string } = {}): Home {
  const infrastructure = resolvePath(Deno.cwd(), options.infrastructure ?? findInfrastructure());
  if (!exists(infrastructure, "isDirectory")) {
    throw new UserError(
      `There is no folder ${infrastructure}; place the orchestrator beside infrastructure/ or name the folder with ` +
        `--infrastructure DIR.`,
    );
  }
  const envFile = resolvePath(Deno.cwd(), options.envFile ?? `${infrastructure}/.env`);
  return { infrastructure, envFile, envFileNamed: options.envFile !== undefined };
}

/** What `readEnvironment` found. */
export interface FoundEnvironment {
  environment: Environment;
  /** What the file says, `null` where there is none. */
  dotenv: Dotenv | null;
  /** What was odd about the file, in sentences without values. */
  warnings: string[];
}

/**
 * The process environment with the `.env` file over it.
 *
 * @throws {UserError} when the file can't be read, or is missing although it was named
 */
export function readEnvironment(home: Home): FoundEnvironment {
  const own = Deno.env.toObject();
  try {
    const dotenv = readDotenv(home.envFile, own);
    const warnings = dotenv.skipped.map((line) =>
      `${home.envFile}:${line} is not NAME=value and is skipped.`
    );
    return { environment: withDotenv(own, dotenv), dotenv, warnings };
  } catch (error) {
    if (error instanceof DotenvError) throw new UserError(error.message);
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    if (home.envFileNamed) {
      throw new UserError(`There is no file ${home.envFile}; check what --env-file names.`);
    }
    const example = `${home.infrastructure}/.env.example`;
    const hint = exists(example, "isFile") ? ` (copy ${example} there to set one up)` : "";
    const warnings = [`There is no ${home.envFile}; the defaults apply${hint}.`];
    return { environment: own, dotenv: null, warnings };
  }
}

/**
 * The port a service listens on, or `null` for none.
 *
 * @throws {UserError} naming the variable when it holds anything but 1 to 65535
 */
export function portOf(service: Service, environment: Environment): number | null {
  const text = service.portEnv === null ? undefined : environment[service.portEnv];
  if (text === undefined || text === "") return service.port;
  if (isPort(text)) return Number(text);
  throw new UserError(
    `Cannot use ${service.portEnv}, the port of "${service.name}": its value is not a whole number from 1 to 65535.`,
  );
}

function isPort(text: string | undefined): boolean {
  return /^\s*[0-9]{1,5}\s*$/.test(text ?? "") && Number(text) >= 1 && Number(text) <= 65_535;
}

/** `${NAME}` in `text` replaced by that variable, or by nothing when it is not set. */
export function expand(text: string, environment: Environment): string {
  return text.replaceAll(
    /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g,
    (_, name: string) => Object.hasOwn(environment, name) ? environment[name] : "",
  );
}

/**
 * What a child of `service` gets: `environment`, its own port variable, its own settings, and where Python looks.
 * `PORT` is known to `${PORT}` only.
 *
 * @throws {UserError} when a variable of `envRequired` is not set or the port is none
 */
export function serviceEnvironment(service: Service, environment: Environment, home: Home): Environment {
  const port = portOf(service, environment);
  const known = port === null ? environment : { ...environment, PORT: String(port) };
  const own = Object.entries(service.environment).map(([name, value]) => [name, expand(value, known)]);
  const path = environment.PYTHONPATH
    ? `${home.infrastructure}:${environment.PYTHONPATH}`
    : home.infrastructure;
  const result: Record<string, string> = { ...environment, PYTHONPATH: path, PYTHONUNBUFFERED: "1" };
  if (service.portEnv !== null && port !== null) result[service.portEnv] = String(port);
  for (const [name, value] of own) result[name] = value;
  const missing = service.envRequired.filter((name) => !result[name]);
  if (missing.length > 0) {
    throw new UserError(
      `Cannot start "${service.name}": it needs ${missing.join(", ")}; set ${
        missing.length > 1 ? "them" : "it"
      } in ${home.envFile}.`,
    );
  }
  return result;
}

/** The file a program name stands for on the environment's PATH, or `null`. */
export function findProgram(name: string, environment: Environment): string | null {
  for (const folder of (environment.PATH ?? "/usr/local/bin:/usr/bin:/bin").split(":")) {
    const path = resolvePath(Deno.cwd(), `${folder || "."}/${name}`);
    if (exists(path, "isFile")) return path;
  }
  return null;
}

/** The Python that runs the services: the folder's venv, the active one, or the system's; `null` when there is none. */
export function findPython(infrastructure: string, environment: Environment): string | null {
  const venvs = [`${infrastructure}/venv`, `${infrastructure}/.venv`, environment.VIRTUAL_ENV];
  for (const venv of venvs) {
    if (venv && exists(`${venv}/bin/python`, "isFile")) return `${venv}/bin/python`;
  }
  return findProgram("python3", environment) ?? findProgram("python", environment);
}

/** What to run, where, and with what around it. */
export interface Launch {
  program: string;
  args: readonly string[];
  cwd: string;
  environment: Environment;
  port: number | null;
}

/** The working folder and, for Python, the script a service starts, as paths from the infrastructure folder. */
export function entryPoint(service: Service): string {
  if (typeof service.command === "string") return service.command;
  const script = service.command[0] === "python" && !service.command[1]?.startsWith("-")
    ? service.command[1]
    : undefined;
  if (script === undefined) return service.command.join(" ");
  return service.workingDir === "." ? script : `${service.workingDir}/${script}`;
}

/**
 * Everything one start of `service` needs.
 *
 * @throws {UserError} when the folder, the script, the program or a setting is missing
 */
export function prepareLaunch(service: Service, environment: Environment, home: Home): Launch {
  const cannot = (why: string) => new UserError(`Cannot start "${service.name}": ${why}.`);
  const cwd = resolvePath(home.infrastructure, expand(service.workingDir, environment));
  // What is told is what was written: a variable in it may hold a secret.
  const told = resolvePath(home.infrastructure, service.workingDir);
  if (!exists(cwd, "isDirectory")) throw cannot(`its working folder ${told} does not exist`);
  const launch = {
    cwd,
    environment: serviceEnvironment(service, environment, home),
    port: portOf(service, environment),
  };
  if (typeof service.command === "string") {
    return { ...launch, program: "/bin/sh", args: ["-c", service.command] };
  }
  const known = launch.port === null
    ? launch.environment
    : { ...launch.environment, PORT: String(launch.port) };
  const [name, ...args] = service.command.map((word) => expand(word, known));
  if (name !== "python") {
    const program = name.includes("/") ? resolvePath(cwd, name) : findProgram(name, launch.environment);
    if (program === null || !exists(program, "isFile")) {
      throw cannot(
        `there is no program ${service.command[0]}${name.includes("/") ? "" : " on PATH"}; ` +
          "install it or mend its command",
      );
    }
    return { ...launch, program, args };
  }
  const script = args[0];
  if (script !== undefined && !script.startsWith("-") && !exists(resolvePath(cwd, script), "isFile")) {
    throw cannot(`its entry point ${resolvePath(told, service.command[1])} does not exist`);
  }
  const python = findPython(home.infrastructure, launch.environment);
  if (python === null) {
    throw cannot(
      `there is no Python; install python3, then make a venv with: python3 -m venv ${home.infrastructure}/venv`,
    );
  }
  return { ...launch, program: python, args };
}

/**
 * The services of a run: the named file's, the folder's, or the built-in ones.
 *
 * @throws {UserError} with every mistake in the file
 */
export async function loadServices(home: Home, config?: string): Promise<readonly Service[]> {
  const path = servicesFileOf(home, config);
  return path === null ? SERVICES : await readServicesFile(path, memoryOf(home));
}

function servicesFileOf(home: Home, config?: string): string | null {
  return config === undefined ? findServicesFile(home.infrastructure) : resolvePath(Deno.cwd(), config);
}

/** The folder of what is kept between runs. */
function memoryOf(home: Home): string {
  return `${home.infrastructure}/.orchestrator`;
}

// ------------------------------------------------------------------------------------------------------------------
// 3. Plan
// Which services a run has, dependencies first. Nothing is started here.

/** What a run will do. */
export interface Plan {
  /** In starting order: dependencies first, otherwise as defined. */
  services: readonly Service[];
  /** Services nobody named, each with one that needs it. */
  added: readonly { name: string; neededBy: string }[];
}

/**
 * Orders the asked services and adds what they depend on.
 *
 * @param asked names; empty means every service with `autostart`
 * @throws {UserError} for a name or dependency that does not exist (with the closest one), and for a cycle
 */
export function planStart(services: readonly Service[], asked: readonly string[]): Plan {
  const byName = new Map(services.map((service) => [service.name, service]));
  const roots = asked.length > 0
    ? asked
    : services.filter((service) => service.autostart).map(({ name }) => name);
  const names = [...byName.keys()];
  for (const name of asked) if (!byName.has(name)) throw unknownName(name, names);
  const wanted = new Set(roots);
  const added: { name: string; neededBy: string }[] = [];
  for (const name of wanted) { // a Set hands out what is added while it is walked
    for (const needed of byName.get(name)!.dependencies) {
      if (!byName.has(needed)) {
        const guess = closest(needed, names);
        throw new UserError(
          `Cannot plan a start: "${name}" depends on "${needed}", which is not defined` +
            `${guess === null ? "." : `; did you mean "${guess}"?`}`,
        );
      }
      if (!wanted.has(needed)) added.push({ name: needed, neededBy: name });
      wanted.add(needed);
    }
  }
  const order: Service[] = [];
  const mark = new Map<string, "open" | "done">();
  for (const root of services.filter(({ name }) => wanted.has(name))) {
    // An explicit stack: a chain of ten thousand services must not overflow the engine's.
    const path: { service: Service; next: number }[] = [];
    const enter = (service: Service) => {
      mark.set(service.name, "open");
      path.push({ service, next: 0 });
    };
    if (!mark.has(root.name)) enter(root);
    while (path.length > 0) {
      const top = path[path.length - 1];
      const needed = top.service.dependencies[top.next++];
      if (needed === undefined) {
        mark.set(top.service.name, "done");
        order.push(top.service);
        path.pop();
      } else if (mark.get(needed) === "open") {
        const open = path.map(({ service }) => service.name);
        const cycle = [...open.slice(open.indexOf(needed)), needed].join(" -> ");
        throw new UserError(
          `Cannot plan a start: the dependencies ${cycle} form a cycle; remove one of them.`,
        );
      } else if (!mark.has(needed)) {
        enter(byName.get(needed)!);
      }
    }
  }
  return { services: order, added };
}

/** The fault of naming a service that does not exist. */
export function unknownName(name: string, names: readonly string[]): UserError {
  const guess = closest(name, names);
  const hint = guess === null ? "" : ` did you mean "${guess}"?`;
  return new UserError(`There is no service "${name}";${hint} The services are ${names.join(", ")}.`);
}

/** The services that need `name` directly. */
export function dependentsOf(services: readonly Service[], name: string): Service[] {
  return services.filter((service) => service.dependencies.includes(name));
}

/** `names` and all that need them, however far. */
export function withDependents(services: readonly Service[], names: readonly string[]): Set<string> {
  const all = new Set(names);
  for (const name of all) for (const dependent of dependentsOf(services, name)) all.add(dependent.name);
  return all;
}

// ------------------------------------------------------------------------------------------------------------------
// 4. State
// Pure: `step` says what follows when something happens to one service, `decide` whose turn it is. No clock, no I/O.

/** How long a service without port and health check must live to count as ready. */
const SETTLED_MS = 1_000;
/** How long after its start the dependents of such a service are started: nothing tells when it can be used. */
const PAUSE_MS = 3_000;

/** What follows from a trigger. */
export interface Step {
  state: ServiceState;
  effects: readonly Effect[];
}

/** The state of a service that nothing has happened to yet. */
export const INITIAL: ServiceState = {
  kind: "pending",
  waitingFor: [],
  failures: [],
  restarts: 0,
  lastExit: null,
};

/** Whether nothing but the passing of time can tell that it is ready. */
function readyByTime(service: Service): boolean {
  return service.kind === "service" && service.port === null && service.portEnv === null &&
    service.health === null;
}

/** The pause before the `attempt`-th retry: doubled each time up to the limit, then 10 % up or down by `chance` (0-1). */
export function backoffMs(service: Service, attempt: number, chance: number): number {
  const full = service.retryDelayMs * 2 ** Math.min(attempt - 1, 40);
  const jittered = Math.min(full, service.retryDelayMaxMs) * (0.9 + 0.2 * chance);
  return Math.min(jittered, service.retryDelayMaxMs);
}

/** An exit in words. */
export function describeExit(exit: Exit): string {
  if (exit.kind === "exited") return `exited with status ${exit.code}`;
  const why: Record<string, string> = {
    SIGKILL: ", perhaps out of memory",
    SIGSEGV: ", an invalid memory access",
    SIGABRT: ", it aborted itself",
    SIGBUS: ", a bad memory access",
    SIGILL: ", an illegal instruction",
    SIGTERM: ", sent by someone else",
    SIGINT: ", sent by someone else",
    SIGHUP: ", sent by someone else",
  };
  return `killed by ${exit.signal}${why[exit.signal] ?? ""}`;
}

function isSuccess(exit: Exit): boolean {
  return exit.kind === "exited" && exit.code === 0;
}

/** The next moment at which time alone may change something, or `null`. */
export function nextWake(state: ServiceState, service: Service): number | null {
  switch (state.kind) {
    case "starting":
      return readyByTime(service) && state.pid !== null ? state.since + SETTLED_MS : state.readyBy;
    case "running":
      return readyByTime(service) ? state.since + PAUSE_MS : null;
    case "stopping":
      return state.killAt;
    case "restarting":
      return state.retryAt;
    case "pending":
    case "stopped":
    case "crashed":
    case "failed":
      return null;
  }
}

/** Whether what depends on this service may start. */
export function satisfies(state: ServiceState, service: Service, now: number): boolean {
  if (service.kind === "task") {
    return state.kind === "stopped" && state.lastExit !== null && isSuccess(state.lastExit);
  }
  return state.kind === "running" && (!readyByTime(service) || now >= state.since + PAUSE_MS);
}

/**
 * What follows when something happens to a service. What does not fit its state changes nothing: happenings may
 * arrive late.
 *
 * @param chance a number from 0 to 1 for the jitter of a retry
 */
export function step(
  state: ServiceState,
  trigger: Trigger,
  now: number,
  service: Service,
  chance: number,
): Step {
  const stay: Step = { state, effects: [] };
  const { failures, restarts, lastExit } = state;
  const past: History = { failures, restarts, lastExit };
  const become = (next: ServiceState, ...effects: Effect[]): Step => ({ state: next, effects });
  const running = state.kind === "starting" || state.kind === "running" ? state : null;

  function stopping(then: AfterStop, signal: Deno.Signal): Step {
    if (running === null || running.pid === null) return become(conclude(then, running?.since ?? now));
    const { pid, since } = running;
    const killAt = now + service.timeoutStopMs;
    return become({ ...past, kind: "stopping", pid, since, killAt, then }, { kind: "signal", signal });
  }

  function conclude(then: AfterStop, since: number): ServiceState {
    switch (then.kind) {
      case "stopped":
        return { ...past, kind: "stopped" };
      case "restarting":
        return { ...past, kind: "pending", waitingFor: [], failures: [], restarts: past.restarts + 1 };
      case "ended": {
        const after = { ...past, lastExit: then.exit };
        if (!isSuccess(then.exit)) {
          return afterFailure(after, describeExit(then.exit), then.exit, now - since);
        }
        if (service.restartPolicy !== "always" || service.kind === "task") {
          return { ...after, kind: "stopped" };
        }
        const retryAt = now + backoffMs(service, 1, chance);
        return { ...after, kind: "restarting", attempt: 0, retryAt, reason: describeExit(then.exit) };
      }
      case "failed":
        return afterFailure(past, then.reason, null, now - since);
    }
  }

  function afterFailure(before: History, reason: string, exit: Exit | null, ranMs: number): ServiceState {
    if (service.restartPolicy === "never") {
      if (exit !== null && service.critical) return { ...before, kind: "crashed", exit, ranMs, reason };
      return { ...before, kind: "failed", exit, ranMs, reason };
    }
    const recent = ranMs > service.retryWindowMs
      ? []
      : before.failures.filter((moment) => moment > now - service.retryWindowMs);
    const counted = [...recent, now];
    if (counted.length > service.maxRetries) {
      const tries = `gave up after ${service.maxRetries} ${service.maxRetries === 1 ? "retry" : "retries"}`;
      return { ...before, failures: counted, kind: "failed", exit, ranMs, reason: `${reason}; ${tries}` };
    }
    const retryAt = now + backoffMs(service, counted.length, chance);
    return { ...before, failures: counted, kind: "restarting", attempt: counted.length, retryAt, reason };
  }

  switch (trigger.kind) {
    case "waiting":
      return state.kind === "pending" ? become({ ...state, waitingFor: trigger.names }) : stay;
    case "start": {
      if (state.kind !== "pending") return stay;
      const readyBy = now + service.timeoutStartMs;
      const spawn: Effect[] = service.kind === "external" ? [] : [{ kind: "spawn" }];
      return become({ ...past, kind: "starting", pid: null, since: now, readyBy }, ...spawn);
    }
    case "spawned":
      if (state.kind !== "starting" || state.pid !== null) return stay;
      // A task has no start to wait for: its end is what counts.
      return service.kind === "task"
        ? become({ ...past, kind: "running", pid: trigger.pid, since: now })
        : become({ ...state, pid: trigger.pid, since: now });
    case "spawnFailed":
      // With a PID it is the late answer to an earlier start.
      return state.kind === "starting" && state.pid === null
        ? become(conclude({ kind: "failed", reason: trigger.reason }, now))
        : stay;
    case "ready":
      return state.kind === "starting"
        ? become({ ...past, kind: "running", pid: state.pid, since: state.since })
        : stay;
    case "unhealthy":
      return state.kind === "running"
        ? stopping({ kind: "failed", reason: trigger.reason }, service.stopSignal)
        : stay;
    case "exited": {
      const ended: AfterStop = { kind: "ended", exit: trigger.exit };
      if (state.kind === "stopping") {
        const known: ServiceState = { ...state, lastExit: trigger.exit };
        return trigger.groupAlive ? become(known) : step(known, { kind: "groupEmpty" }, now, service, chance);
      }
      if (running === null) return stay;
      return trigger.groupAlive ? stopping(ended, "SIGTERM") : become(conclude(ended, running.since));
    }
    case "groupEmpty":
      return state.kind === "stopping" ? become(conclude(state.then, state.since)) : stay;
    case "stop":
      switch (state.kind) {
        case "pending":
        case "restarting":
          return become({ ...past, kind: "stopped" });
        case "starting":
        case "running":
          return stopping({ kind: "stopped" }, service.stopSignal);
        case "stopping":
          return become({ ...state, then: { kind: "stopped" } });
        case "stopped":
        case "crashed":
        case "failed":
          return stay;
      }
      break;
    case "restart":
      if (running !== null) return stopping({ kind: "restarting" }, service.stopSignal);
      if (state.kind === "stopping") return become({ ...state, then: { kind: "restarting" } });
      return become({ ...past, kind: "pending", waitingFor: [], failures: [] });
    case "kill":
      if (running?.pid != null) return stopping({ kind: "stopped" }, "SIGKILL");
      if (state.kind === "stopping") {
        return become({ ...state, then: { kind: "stopped" } }, { kind: "signal", signal: "SIGKILL" });
      }
      return running === null ? stay : become({ ...past, kind: "stopped" });
    case "wake":
      switch (state.kind) {
        case "starting": {
          if (state.pid !== null && readyByTime(service) && now >= state.since + SETTLED_MS) {
            return become({ ...past, kind: "running", pid: state.pid, since: state.since });
          }
          if (now < state.readyBy) return stay;
          const reason = `was not ready within ${formatSpan(service.timeoutStartMs)}`;
          return stopping({ kind: "failed", reason }, service.stopSignal);
        }
        case "stopping":
          if (now < state.killAt) return stay;
          return become({ ...state, killAt: Infinity }, { kind: "signal", signal: "SIGKILL" });
        case "restarting":
          if (now < state.retryAt) return stay;
          return become({ ...past, kind: "pending", waitingFor: [], restarts: past.restarts + 1 });
        case "pending":
        case "running":
        case "stopped":
        case "crashed":
        case "failed":
          return stay;
      }
  }
}

/** What someone wants of a service: to be kept running, to be at rest, or to be at rest once and then kept running. */
export type Desired = "running" | "stopped" | "restarted";

/** One service as `decide` sees it. */
export interface Managed {
  service: Service;
  state: ServiceState;
  desired: Desired;
}

/**
 * Whose turn it is: a pending service is started when all it depends on is ready, a running one is stopped when all
 * that depends on it and shall stop too is at rest.
 *
 * @returns what should happen next, to be asked for again after each change; empty when nothing is due
 */
export function reconcile(
  managed: ReadonlyMap<string, Managed>,
  dependents: ReadonlyMap<string, readonly string[]>,
  now: number,
): { name: string; trigger: Trigger }[] {
  const starts: { name: string; trigger: Trigger }[] = [];
  const stops: typeof starts = [];
  for (const [name, { service, state, desired }] of managed) {
    if (desired === "running") {
      if (state.kind !== "pending") continue;
      const unmet = service.dependencies.filter((needed) => {
        const one = managed.get(needed);
        return one === undefined || one.desired === "restarted" ||
          !satisfies(one.state, one.service, now);
      });
      if (unmet.length === 0) starts.push({ name, trigger: { kind: "start" } });
      else if (unmet.join() !== state.waitingFor.join()) {
        starts.push({ name, trigger: { kind: "waiting", names: unmet } });
      }
    } else if (state.kind === "stopping") {
      const fits = state.then.kind === (desired === "restarted" ? "restarting" : "stopped");
      if (!fits) stops.push({ name, trigger: { kind: desired === "restarted" ? "restart" : "stop" } });
    } else if (isAtRest(state)) {
      if (desired === "restarted") stops.push({ name, trigger: { kind: "restart" } });
      else if (state.kind === "pending" || state.kind === "restarting") {
        stops.push({ name, trigger: { kind: "stop" } });
      }
    } else {
      const held = (dependents.get(name) ?? []).some((other) => {
        const one = managed.get(other);
        return one !== undefined && one.desired !== "running" && !isAtRest(one.state);
      });
      if (!held) stops.push({ name, trigger: { kind: desired === "restarted" ? "restart" : "stop" } });
    }
  }
  return [...stops.reverse(), ...starts]; // the last one started is the first one stopped
}

/** Whether nothing runs and nothing ever will unless someone asks for it. */
export function isFinished(managed: ReadonlyMap<string, Managed>): boolean {
  for (const { service, state, desired } of managed.values()) {
    if (state.kind === "restarting" || desired === "restarted") return false;
    // External services have no process; alone they keep nothing alive.
    if (!isAtRest(state) && !(service.kind === "external" && state.kind === "running")) return false;
  }
  // What is pending now waits for something at rest, or its turn would have come already.
  return true;
}

/** A span in words: `450 ms`, `7 s`, `2 min 5 s`, `3 h 4 min`. */
export function formatSpan(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  const seconds = ms < 10_000 ? Math.round(ms / 100) / 10 : Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  const [large, small] = minutes < 60
    ? [`${minutes} min`, `${Math.floor(seconds % 60)} s`]
    : [`${Math.floor(minutes / 60)} h`, `${minutes % 60} min`];
  return small.startsWith("0 ") ? large : `${large} ${small}`;
}

// ------------------------------------------------------------------------------------------------------------------
// 5. Children
// The operating system lives here. Every child has an owner that reads its pipes to the end and awaits its exit.

/** The steady clock. */
const now = () => performance.now();

/** Resolves after `ms`, or at once when the signal fires. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
  });
}

const NEWLINE = 10;
const RETURN = 13;
/** Past this a line without an end is passed on in pieces, so that memory stays bounded. */
const LINE_LIMIT = 64 * 1024 * 1024;

/** Ends lines as Python's text pipes do: `\n`, `\r\n` and a lone `\r` (a progress bar's) each end one. */
function unifyLineEnds(bytes: Uint8Array): Uint8Array {
  if (bytes.indexOf(RETURN) === -1) return bytes;
  const result = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== RETURN) result[length++] = bytes[at];
    else if (bytes[at + 1] !== NEWLINE) result[length++] = NEWLINE;
  }
  return result.subarray(0, length);
}

/**
 * Cuts a flow of bytes into blocks of whole lines. A block is the receiver's to keep; the last line gets a newline
 * when it has none.
 */
export class LineCutter {
  #pieces: Uint8Array[] = [];
  #held = 0;
  #afterReturn = false;

  /** The whole lines that `bytes` completes, or `null` when it completes none. */
  push(bytes: Uint8Array): Uint8Array | null {
    // The other half of a line end whose return came with the bytes before.
    const from = this.#afterReturn && bytes[0] === NEWLINE ? 1 : 0;
    this.#afterReturn = bytes[bytes.length - 1] === RETURN;
    const unified = unifyLineEnds(bytes.subarray(from));
    const cut = unified.lastIndexOf(NEWLINE) + 1;
    const block = cut > 0 ? this.#join(unified.subarray(0, cut)) : null;
    if (cut < unified.length) {
      this.#pieces.push(unified.slice(cut));
      this.#held += unified.length - cut;
    }
    return this.#held < LINE_LIMIT ? block : this.flush();
  }

  /** What is left when the flow ends, or `null`. */
  flush(): Uint8Array | null {
    return this.#held === 0 ? null : this.#join(Uint8Array.of(NEWLINE));
  }

  #join(last: Uint8Array): Uint8Array {
    const whole = new Uint8Array(this.#held + last.length);
    let at = 0;
    for (const piece of this.#pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    whole.set(last, at);
    this.#pieces = [];
    this.#held = 0;
    return whole;
  }
}

const decoder = new TextDecoder(); // bytes that are not UTF-8 become U+FFFD
const encoder = new TextEncoder();

function countLines(lines: Uint8Array): number {
  let count = 0;
  for (let at = lines.indexOf(NEWLINE); at !== -1; at = lines.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** The last lines of a service: at least `KEPT_LINES` of them when there were as many, in at most `KEPT_BYTES`. */
export class Tail {
  static readonly KEPT_LINES = 1_000;
  static readonly KEPT_BYTES = 4 * 1024 * 1024;
  /** Below these nothing is dropped, and so nothing counted. Only the blocks of a service in full flow are large. */
  static readonly TRIM_BYTES = 256 * 1024;
  static readonly TRIM_BLOCKS = 16;
  #blocks: Uint8Array[] = [];
  #bytes = 0;
  #trimAt = Tail.TRIM_BYTES;

  /** Keeps a block of whole lines. */
  push(lines: Uint8Array): void {
    const kept = lines.length > Tail.KEPT_BYTES ? lines.slice(-Tail.KEPT_BYTES) : lines;
    // Small blocks of a quiet service are joined: a thousand lines need no thousand arrays.
    const before = this.#blocks.at(-1);
    if (before !== undefined && before.length + kept.length < 4_096) {
      this.#blocks.splice(-1, 1, concat([before, kept]));
    } else this.#blocks.push(kept);
    this.#bytes += kept.length;
    const due = this.#bytes > this.#trimAt && this.#blocks.length >= Tail.TRIM_BLOCKS;
    if (due || this.#bytes > Tail.KEPT_BYTES) this.#trim();
  }

  /** Drops what is too old. Seldom done: to count lines takes as long as to pass them on. */
  #trim(): void {
    let [count, bytes, first] = [0, 0, this.#blocks.length];
    while (first > 0 && count < Tail.KEPT_LINES) {
      const block = this.#blocks[first - 1];
      if (bytes > 0 && bytes + block.length > Tail.KEPT_BYTES) break;
      count += countLines(block);
      bytes += block.length;
      first--;
    }
    this.#blocks.splice(0, first);
    this.#bytes = bytes;
    this.#trimAt = Math.max(Tail.TRIM_BYTES, 2 * bytes);
  }

  /** The last `count` lines, oldest first, without their newlines. */
  last(count: number): string[] {
    const found: string[] = [];
    for (let index = this.#blocks.length - 1; index >= 0 && found.length < count; index--) {
      const lines = this.#blocks[index];
      let end = lines.length - 1; // of the line, where its newline stands
      while (end >= 0 && found.length < count) {
        const start = end === 0 ? -1 : lines.lastIndexOf(NEWLINE, end - 1);
        found.push(decoder.decode(lines.subarray(start + 1, end)));
        end = start;
      }
    }
    return found.reverse();
  }
}

/** The processes of a group that still run. Zombies that nobody has collected yet do not count. */
function groupRuns(group: number): boolean {
  try {
    Deno.kill(-group, 0 as unknown as Deno.Signal); // 0 asks without sending; the type knows names only
  } catch (error) {
    // One that we may not signal (it became another user) runs all the same.
    if (!(error instanceof Deno.errors.PermissionDenied)) return false;
  }
  if (Deno.build.os !== "linux") return true;
  for (const entry of Deno.readDirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry.name)) continue;
    try {
      const stat = Deno.readTextFileSync(`/proc/${entry.name}/stat`);
      const [state, , itsGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(itsGroup) === group && state !== "Z" && state !== "X") return true;
    } catch {
      // It ended while we looked.
    }
  }
  return false;
}

/** Sends a signal to a whole group; one that is gone is fine, one that we may not signal is told at the end. */
function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch (error) {
    const known = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (!known && !(error instanceof TypeError)) throw error;
  }
}

/** Whether nothing listens on a port, on any address. */
export function isPortFree(port: number): boolean {
  for (const hostname of ["0.0.0.0", "::"]) {
    try {
      Deno.listen({ hostname, port }).close();
    } catch (error) {
      if (error instanceof Deno.errors.AddrInUse) return false;
      // No such address family here, or no right to the port: the service will tell.
    }
  }
  return true;
}

/** What the owner of a child is told. */
export interface ChildListener {
  /** Whole lines; the array is the listener's to keep. */
  lines(stream: Stream, lines: Uint8Array): void;
  /** Asked before each read: a promise makes the pipe wait. */
  backpressure(): Promise<void> | null;
  /** The process ended and all it wrote has been told. `groupAlive`: others of its group still run. */
  exited(exit: Exit, groupAlive: boolean): void;
  /** After a groupAlive exit: nothing of the group runs any more. */
  groupEmpty(): void;
}

/** How long a pipe that someone else holds open may stay silent after the process ended. */
const SILENT_MS = 100;
/** The most that a pipe can hold, and so the most that a process can have left in one. */
const PIPE_BYTES = 1024 * 1024;

/** A process that was started. */
export interface Child {
  pid: number;
  /** Reads as much as its pipes can hold without asking for room: a reader that is stuck must not keep it from ending. */
  drain(): void;
}

/**
 * Starts a process as the leader of its own session and group, and tells what becomes of it.
 *
 * @throws {UserError} when the system refuses to start it
 */
export function startChild(launch: Launch, listener: ChildListener): Child {
  const child = spawn(launch);
  const cutters = { out: new LineCutter(), err: new LineCutter() };
  let readers: Record<Stream, ReadableStreamBYOBReader>;
  const spare = { out: 0, err: 0 };
  const waiting = new Set<() => void>();
  let received = 0;

  function hurry(): void {
    spare.out = spare.err = PIPE_BYTES;
    for (const goOn of waiting) goOn();
  }
  async function pump(stream: Stream): Promise<void> {
    // Small at first: most services are quiet, and there may be hundreds.
    let buffer = new Uint8Array(512);
    for (;;) {
      const room = spare[stream] > 0 ? null : listener.backpressure();
      if (room !== null) {
        const { promise, resolve } = Promise.withResolvers<void>();
        waiting.add(resolve);
        room.then(resolve);
        await promise;
        waiting.delete(resolve);
      }
      const { value, done } = await readers[stream].read(buffer);
      if (done) break;
      received += value.byteLength;
      spare[stream] = Math.max(0, spare[stream] - value.byteLength);
      const lines = cutters[stream].push(value);
      if (lines !== null) listener.lines(stream, lines);
      const wider = value.byteLength === value.buffer.byteLength && value.byteLength < 65_536;
      buffer = wider ? new Uint8Array(value.byteLength * 4) : new Uint8Array(value.buffer);
    }
    flush(stream);
  }
  function flush(stream: Stream): void {
    const rest = cutters[stream].flush();
    if (rest !== null) listener.lines(stream, rest);
  }

  async function watch(): Promise<void> {
    await null; // whoever starts several starts them all first
    readers = {
      out: child.stdout.getReader({ mode: "byob" }),
      err: child.stderr.getReader({ mode: "byob" }),
    };
    const ends = Promise.all([pump("out"), pump("err")]).then(() => true);
    const status = await child.status;
    const exit: Exit = status.signal === null
      ? { kind: "exited", code: status.code }
      : { kind: "killed", signal: status.signal };
    hurry();
    // A grandchild may keep a pipe open for ever: what counts is that nothing of the process itself can come any more.
    let open = true;
    const most = received + 2 * PIPE_BYTES;
    for (let seen = -1; open && seen !== received && received < most;) {
      seen = received;
      const pause = new AbortController();
      open = !await Promise.race([ends, sleep(SILENT_MS, pause.signal).then(() => false)]);
      pause.abort();
    }
    if (open) { for (const stream of ["out", "err"] as const) flush(stream); }
    const groupAlive = groupRuns(child.pid);
    listener.exited(exit, groupAlive);
    if (groupAlive) {
      for (let pauseMs = 10; groupRuns(child.pid); pauseMs = Math.min(pauseMs * 2, 200)) await sleep(pauseMs);
      listener.groupEmpty();
    }
    // Whoever holds the pipe now has left the group on purpose: we stop listening.
    if (open) await Promise.all([readers.out.cancel(), readers.err.cancel()]);
    await ends;
  }
  watch();
  return { pid: child.pid, drain: hurry };
}

function spawn(launch: Launch): Deno.ChildProcess {
  const { program, args, cwd, environment } = launch;
  try {
    return new Deno.Command(program, {
      args: [...args],
      cwd,
      env: environment,
      clearEnv: true,
      detached: true, // its own session: Ctrl+C reaches the orchestrator alone
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // Linux takes no single KEY=value of 128 KiB or more.
    const long = Object.entries(environment).find(([name, value]) =>
      encoder.encode(name + value).length > 131_000
    );
    if (/os error 7/.test(error.message)) {
      throw new UserError(
        long === undefined
          ? `Cannot start ${program}: its environment and arguments are too long for the system.`
          : `Cannot start ${program}: the variable ${
            long[0]
          } is longer than the 128 KiB that the system takes.`,
      );
    }
    throw new UserError(`Cannot start ${program}: ${error.message.split("\n")[0]}`);
  }
}

// If the orchestrator dies without a word, the pipe closes and this shell stops what is left: the groups it was told
// of and, on Linux, whatever else was started with this run's mark but not told of yet. Each is told once: to many
// programs a second SIGTERM means "at once". It also gives a terminal back.
const GUARD_SCRIPT = String.raw`
trap '' HUP INT TERM QUIT
while read -r verb id; do
  case $verb in
    add) eval "group_$id=$id" ;; # a variable each: one list of hundreds would take seconds to keep
    drop) unset "group_$id" ;;
    bye) exit 0 ;;
  esac
done
groups=" $(set | sed -n 's/^group_\([0-9]*\)=.*/\1/p' | tr '\n' ' ')"
if [ -t 1 ]; then stty icrnl ixon icanon iexten echo isig <&1; printf '\033[r\033[999;1H\033[?25h\033[?2004l\n'; fi 2>/dev/null
marked() { [ -r /proc/self/environ ] && grep -lszxF "ORCHESTRATOR_RUN=$1" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n'; }
send() { for id in $groups; do kill "-$1" "-$id"; done 2>/dev/null; for id in $strays; do grouped "$id" || kill "-$1" "$id"; done 2>/dev/null; }
grouped() {
  read -r stat <"/proc/$1/stat" || return 0
  set -- ${"$"}{stat##*) }
  case $groups in *" $3 "*) return 0 ;; esac
  return 1
}
left() {
  for id in $groups; do kill -0 "-$id" 2>/dev/null && return 0; done
  for id in $strays; do kill -0 "$id" 2>/dev/null && return 0; done
  return 1
}
strays=$(marked "$1")
send TERM
tries=0
while left && [ "$tries" -lt "$2" ]; do sleep 0.1 2>/dev/null || sleep 1; tries=$((tries + 1)); done
strays=$(marked "$1")
send KILL
`;

/** The shell that stops everything when the orchestrator no longer can. */
export class Guard {
  readonly #run: string;
  readonly #graceMs: number;
  readonly #terminal: boolean;
  readonly #groups = new Set<number>();
  #shell: Deno.ChildProcess | null = null;
  #writer: WritableStreamDefaultWriter<Uint8Array> | null = null;
  #untold = "";

  /**
   * @param run the mark that this run's children carry in `ORCHESTRATOR_RUN`
   * @param options from SIGTERM to SIGKILL; whether a panel is drawn on standard output, which is to be given back
   */
  constructor(run: string, { graceMs, terminal }: { graceMs: number; terminal: boolean }) {
    this.#run = run;
    this.#graceMs = graceMs;
    this.#terminal = terminal;
  }

  /** Takes charge of a group. Starts the shell at the first one. */
  add(group: number): void {
    this.#groups.add(group);
    this.#tell(`add ${group}`);
  }

  /** Lets go of a group that is empty. */
  drop(group: number): void {
    this.#groups.delete(group);
    this.#tell(`drop ${group}`);
  }

  /** Starts the shell, so that it is there before the first child. */
  open(): void {
    if (this.#shell !== null || Deno.build.os === "windows") return;
    const shell = new Deno.Command("/bin/sh", {
      args: ["-c", GUARD_SCRIPT, "orchestrator-guard", this.#run, String(Math.ceil(this.#graceMs / 100))],
      cwd: "/",
      // Nothing that could pass for a group there: the shell finds them among its variables.
      clearEnv: true,
      env: Object.fromEntries(
        Object.entries(Deno.env.toObject()).filter((entry) => !entry.join().includes("group_")),
      ),
      detached: true,
      stdin: "piped",
      stdout: this.#terminal ? "inherit" : "null",
      stderr: "null",
    }).spawn();
    this.#shell = shell;
    const openedAt = now();
    shell.status.then(() => {
      if (this.#shell !== shell) return;
      // Someone killed the guard: another takes over, unless they die as fast as they come.
      this.#shell = null;
      this.#writer = null;
      if (now() - openedAt < 1_000) return;
      this.open();
      for (const group of this.#groups) this.#tell(`add ${group}`);
    });
  }

  /** Ends the shell; nothing is stopped by it. */
  async close(): Promise<void> {
    const shell = this.#shell;
    if (shell === null) return;
    const writer = this.#writer ?? shell.stdin.getWriter();
    this.#shell = null;
    this.#writer = null;
    await writer.write(encoder.encode("bye\n")).catch(() => {}); // it may be gone already
    await writer.close().catch(() => {});
    await shell.status;
  }

  /** Tells the shell, together with all else of this turn: until then the run's mark tells it as much. */
  #tell(line: string): void {
    if (this.#untold === "") queueMicrotask(() => this.#flush());
    this.#untold += `${line}\n`;
  }

  #flush(): void {
    const text = this.#untold;
    this.#untold = "";
    if (this.#shell === null) return;
    this.#writer ??= this.#shell.stdin.getWriter();
    this.#writer.write(encoder.encode(text)).catch(() => {}); // a dead guard is replaced, see open
  }
}

/** What a probe needs of the service it looks at. */
export interface ProbeTarget {
  environment: Environment;
  cwd: string;
  infrastructure: string;
}

/** Connects to a port of this machine; throws what the system says. */
async function connect(port: number, signal: AbortSignal): Promise<void> {
  for (const hostname of ["127.0.0.1", "::1"]) {
    try {
      const pending = Deno.connect({ hostname, port });
      const late = new Promise<null>((resolve) => signal.addEventListener("abort", () => resolve(null)));
      const connection = await Promise.race([pending, late]);
      if (connection === null) {
        pending.then((answer) => answer.close(), () => {}); // nobody waits for it any more
        throw new Deno.errors.TimedOut("no answer in time");
      }
      return connection.close();
    } catch (error) {
      if (hostname === "::1" || signal.aborted) throw error;
    }
  }
}

/** Why a look failed, in the system's words. The URL or command is left out: it may hold a secret. */
function probeFailure(error: unknown, kind: Probe["kind"]): string {
  if (!(error instanceof Error)) throw error;
  if (kind === "command") return "its check could not be started";
  const { message } = error.cause instanceof Error ? error.cause : error;
  const words = kind === "http" ? /client error \(\w+\): (.*)/.exec(message)?.[1] : message;
  return words?.split("\n")[0].replace(/ \(os error.*/, "") ?? "the request failed";
}

/**
 * Looks once whether a service is well.
 *
 * @returns `null` when it is, or the reason why not; never throws for what the service does
 */
export async function runProbe(
  probe: Exclude<Probe, { kind: "log" }>,
  target: ProbeTarget,
  timeoutMs: number,
  stop: AbortSignal,
): Promise<string | null> {
  const limit = new AbortController();
  const late = setTimeout(() => limit.abort(), timeoutMs);
  const end = () => limit.abort();
  stop.addEventListener("abort", end);
  try {
    switch (probe.kind) {
      case "tcp":
        await connect(Number(expand(probe.port, target.environment)), limit.signal);
        return null;
      case "http": {
        const url = expand(probe.url, target.environment);
        const answer = await fetch(url, { signal: limit.signal, headers: { connection: "close" } });
        const wanted = probe.body === null ? null : new RegExp(probe.body);
        const body = wanted === null ? await answer.body?.cancel() : await answer.text();
        if (!answer.ok) return `answered ${answer.status}`;
        return wanted === null || wanted.test(body ?? "") ? null : "answered without the expected text";
      }
      case "command": {
        const words = typeof probe.command === "string" ? ["/bin/sh", "-c", probe.command] : probe.command;
        const [name, ...args] = words.map((word) => expand(word, target.environment));
        const python = name === "python" ? findPython(target.infrastructure, target.environment) : null;
        const child = new Deno.Command(python ?? name, {
          args,
          cwd: target.cwd,
          env: { ...target.environment },
          clearEnv: true,
          detached: true,
          stdin: "null",
          stdout: "null",
          stderr: "null",
        }).spawn();
        limit.signal.addEventListener("abort", () => signalGroup(child.pid, "SIGKILL"));
        const status = await child.status;
        limit.signal.throwIfAborted();
        return status.success ? null : `its check ended with status ${status.code}`;
      }
    }
  } catch (error) {
    if (limit.signal.aborted) return `no answer within ${formatSpan(timeoutMs)}`;
    return probeFailure(error, probe.kind);
  } finally {
    clearTimeout(late);
    stop.removeEventListener("abort", end);
  }
}

// ------------------------------------------------------------------------------------------------------------------
// 6. Supervisor
// The only mutable map. It asks sections 3 and 4 what follows and performs it; views hear of it as events.

/** Who wants to hear what happens. */
export interface Listener {
  event(event: Event): void;
  /** A promise makes every pipe wait until it resolves: how a slow reader keeps memory bounded. */
  backpressure?(): Promise<void> | null;
}

/** How a run ended. */
export interface RunResult {
  /** 0 after a stop that was asked for or when all ended well, 1 otherwise. */
  status: 0 | 1;
  /** The service whose failure ended the run. */
  failedService: ServiceSnapshot | null;
  /** What is left although all should be gone, in sentences. */
  remaining: readonly string[];
}

interface Entry extends Managed {
  tail: Tail;
  /** What its present or last process was started with. */
  launch: Launch | null;
  /** See `Child`. */
  drain: () => void;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Runs after SIGKILL. */
  killTimer: ReturnType<typeof setTimeout> | undefined;
  /** Ends the probes of the present state. */
  watch: AbortController | null;
  /** Set while readiness is told by a line of output. */
  awaitsLine: RegExp | null;
}

/** How long after SIGKILL a process that is still there is given up when all is being stopped. */
const GIVE_UP_MS = 5_000;

/** How long starting may hold back the answer to a signal or a line of output. */
const TURN_MS = 15;

/** Keeps services as their definitions and the desires of its user say. */
export class Supervisor {
  readonly home: Home;
  readonly #entries = new Map<string, Entry>();
  readonly #dependents = new Map<string, string[]>();
  readonly #listeners = new Set<Listener>();
  readonly #run = crypto.randomUUID();
  readonly #guard: Guard;
  readonly #unarmed = new Set<Entry>();
  /** As read for the starts of one turn. */
  #environment: Environment | null = null;
  readonly #finished = Promise.withResolvers<RunResult>();
  readonly #remaining: string[] = [];
  #failedService: ServiceSnapshot | null = null;
  #phase: "running" | "stopping" | "ended" = "running";
  #settling: ReturnType<typeof setTimeout> | "now" | null = null;

  /**
   * @param services in starting order, as `planStart` returns them
   * @param options whether a panel is drawn on standard output, which the guard gives back if this process can't
   */
  constructor(services: readonly Service[], home: Home, { terminal = false }: { terminal?: boolean } = {}) {
    this.home = home;
    for (const service of services) this.#add(service, "running");
    const longest = Math.max(0, ...services.map(({ timeoutStopMs }) => timeoutStopMs));
    this.#guard = new Guard(this.#run, { graceMs: Math.min(longest, 10_000), terminal });
  }

  /** How the run ended, once it has. */
  get finished(): Promise<RunResult> {
    return this.#finished.promise;
  }

  /** Whether everything is being stopped, or is. */
  get stopping(): boolean {
    return this.#phase !== "running";
  }

  /** The mark that the children of this run carry. */
  get run(): string {
    return this.#run;
  }

  /** The services, in starting order. */
  get services(): Service[] {
    return [...this.#entries.values()].map(({ service }) => service);
  }

  /** Begins to start services. */
  start(): void {
    this.#guard.open();
    this.#settle();
  }

  /** Adds a listener; the result removes it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All services now. @param recent how many of each one's last lines */
  snapshot(recent = 0): Snapshot {
    return {
      at: now(),
      stopping: this.stopping,
      services: [...this.#entries.values()].map((entry) => this.#row(entry, recent)),
    };
  }

  /** What the running process of a service was started with, or `null` when it has none. */
  launchOf(name: string): Launch | null {
    const entry = this.#entries.get(name);
    return entry === undefined || isAtRest(entry.state) ? null : entry.launch;
  }

  /** The last lines of a service, oldest first. */
  tail(name: string, count: number): string[] {
    return this.#entries.get(name)?.tail.last(count) ?? [];
  }

  /**
   * Says what is wanted of services: `up` starts them and what they need, `down` stops them and what needs them,
   * `again` restarts just these.
   *
   * @throws {UserError} for a name that is not part of this run
   */
  setDesired(names: readonly string[], desired: Desired): void {
    for (const name of names) {
      if (!this.#entries.has(name)) throw unknownName(name, [...this.#entries.keys()]);
    }
    this.#refuseWhenClosing();
    const chosen = desired === "stopped"
      ? withDependents(this.services, names)
      : desired === "running"
      ? new Set(planStart(this.services, names).services.map(({ name }) => name))
      : new Set(names);
    for (const name of chosen) {
      const entry = this.#entries.get(name)!;
      const ended = entry.state.kind === "stopped" || entry.state.kind === "crashed" ||
        entry.state.kind === "failed" ||
        (entry.state.kind === "stopping" && entry.state.then.kind === "stopped");
      const done = entry.service.kind === "task" && satisfies(entry.state, entry.service, now());
      entry.desired = desired === "running" && ended && (!done || names.includes(name))
        ? "restarted"
        : desired;
    }
    this.#settle();
  }

  /**
   * Takes over new definitions: what is gone is stopped, what is new is started, what changed is restarted.
   *
   * @param services in starting order
   * @param changed names whose processes have to be started anew
   * @throws {UserError} while everything is being stopped
   */
  replace(services: readonly Service[], changed: ReadonlySet<string>): void {
    this.#refuseWhenClosing();
    const names = new Set(services.map(({ name }) => name));
    const gone = [...this.#entries.keys()].filter((name) => !names.has(name));
    const old = new Map(this.#entries);
    this.#entries.clear();
    this.#dependents.clear();
    for (const service of services) {
      const entry = old.get(service.name);
      if (entry === undefined) {
        this.#add(service, "running");
        continue;
      }
      entry.service = service;
      const back = this.#leaving.has(service.name); // it was on its way out
      if (back || (changed.has(service.name) && entry.desired === "running")) entry.desired = "restarted";
      this.#keep(entry);
    }
    for (const name of gone) {
      const entry = old.get(name)!;
      entry.desired = "stopped";
      this.#keep(entry); // it leaves when it is at rest, see #settle
    }
    this.#leaving = new Set(gone);
    this.#settle();
  }
  #leaving: ReadonlySet<string> = new Set();

  /** Stops everything in order and ends the run. Asking again changes nothing. */
  close(): Promise<RunResult> {
    if (this.#phase === "running") {
      this.#phase = "stopping";
      for (const entry of this.#entries.values()) entry.desired = "stopped";
      this.#settle();
    }
    return this.finished;
  }

  /** Kills everything that runs, now. */
  kill(): Promise<RunResult> {
    const finished = this.close();
    for (const name of this.#entries.keys()) this.#send(name, { kind: "kill" });
    return finished;
  }

  /** Tells every listener something in words. */
  log(level: Level, text: string): void {
    this.#emit({ kind: "log", time: Date.now(), level, message: text });
  }

  #refuseWhenClosing(): void {
    if (this.#phase === "running") return;
    throw new UserError("Everything is being stopped; wait for that, then start the orchestrator again.");
  }

  #add(service: Service, desired: Desired): void {
    const state = INITIAL;
    const tail = new Tail();
    this.#keep({
      service,
      state,
      desired,
      tail,
      launch: null,
      drain() {},
      timer: undefined,
      killTimer: undefined,
      watch: null,
      awaitsLine: null,
    });
  }

  #keep(entry: Entry): void {
    this.#entries.set(entry.service.name, entry);
    for (const needed of entry.service.dependencies) {
      this.#dependents.set(needed, [...this.#dependents.get(needed) ?? [], entry.service.name]);
    }
  }

  #row({ service, state, launch, tail }: Entry, recent: number): ServiceSnapshot {
    const { name, title, kind, maxRetries } = service;
    const port = launch?.port ?? service.port;
    return { name, title, kind, port, maxRetries, state, recent: recent === 0 ? [] : tail.last(recent) };
  }

  #emit(event: Event): void {
    for (const listener of this.#listeners) listener.event(event);
  }

  /** Something happened to a service from outside of `#settle`. */
  #send(name: string, trigger: Trigger): void {
    this.#apply(name, trigger);
    this.#settle();
  }

  #apply(name: string, trigger: Trigger): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    const from = entry.state;
    const { state, effects } = step(from, trigger, now(), entry.service, Math.random());
    if (trigger.kind === "restart" && isAtRest(from)) entry.desired = "running";
    if (state === from && effects.length === 0) return;
    entry.state = state;
    this.#unarmed.add(entry);
    if (state.kind !== from.kind) this.#turned(entry, from);
    for (const effect of effects) {
      if (effect.kind === "spawn") this.#spawn(entry);
      else if (state.kind === "stopping") {
        signalGroup(state.pid, effect.signal);
        if (effect.signal === "SIGKILL") this.#giveUpOn(entry, state.pid);
      }
    }
  }

  /** Sets the alarms of services that changed: at the end of a turn, because the runtime's first timer is slow. */
  #arm(): void {
    this.#environment = null;
    for (const entry of this.#unarmed) {
      clearTimeout(entry.timer);
      const wakeAt = nextWake(entry.state, entry.service);
      if (wakeAt === null || wakeAt === Infinity) continue;
      const inMs = Math.min(Math.max(0, Math.ceil(wakeAt - now())), 2 ** 31 - 1);
      entry.timer = setTimeout(() => this.#send(entry.service.name, { kind: "wake" }), inMs);
    }
    this.#unarmed.clear();
  }

  /** The system itself may hold a process, or it became another user: the stop of all must end nevertheless. */
  #giveUpOn(entry: Entry, pid: number): void {
    clearTimeout(entry.killTimer);
    entry.killTimer = setTimeout(() => {
      if (entry.state.kind !== "stopping" || entry.state.pid !== pid) return;
      if (!this.stopping) return this.#giveUpOn(entry, pid);
      this.#remaining.push(`PID ${pid} of "${entry.service.name}" still runs: SIGKILL does not end it.`);
      this.#send(entry.service.name, { kind: "groupEmpty" });
    }, GIVE_UP_MS);
  }

  /** A service came into another state: what watches it changes, and the others may have to be told. */
  #turned(entry: Entry, from: ServiceState): void {
    const { service, state } = entry;
    entry.watch?.abort();
    entry.watch = null;
    entry.awaitsLine = null;
    this.#emit({ kind: "state", time: Date.now(), at: now(), row: this.#row(entry, 0), from });
    if (state.kind === "starting" && service.kind === "external") this.#watch(entry);
    if (state.kind === "stopping") entry.drain();
    if (state.kind === "running") {
      if (service.health !== null && service.kind === "service") this.#watch(entry);
      if (state.restarts > 0) {
        for (const name of this.#dependents.get(service.name) ?? []) {
          const other = this.#entries.get(name)!;
          if (
            other.service.restartWithDependencies && !isAtRest(other.state) && other.desired === "running"
          ) {
            other.desired = "restarted";
          }
        }
      }
    }
    if (
      (state.kind === "crashed" || state.kind === "failed") && service.critical && this.#phase === "running"
    ) {
      this.#failedService = this.#row(entry, 0);
      this.close();
    }
  }

  #spawn(entry: Entry): void {
    const { service } = entry;
    const { name } = service;
    const refused = (why: string): Trigger => ({ kind: "spawnFailed", reason: `could not start: ${why}` });
    try {
      this.#environment ??= this.readEnvironment();
      const launch = prepareLaunch(service, this.#environment, this.home);
      entry.launch = launch;
      if (launch.port !== null && !isPortFree(launch.port)) {
        const port = launch.port;
        describeHolder(port).then((holder) =>
          this.#send(
            name,
            refused(`port ${port} is taken${holder}; stop that or give "${name}" another port`),
          )
        );
        return;
      }
      const { pid, drain: hurry } = startChild(launch, {
        lines: (stream, lines) => this.#output(entry, stream, lines),
        backpressure: () => this.#room(),
        exited: (exit, groupAlive) => {
          if (!groupAlive) this.#guard.drop(pid);
          this.#send(name, { kind: "exited", exit, groupAlive });
        },
        groupEmpty: () => {
          this.#guard.drop(pid);
          this.#send(name, { kind: "groupEmpty" });
        },
      });
      entry.drain = hurry;
      this.#guard.add(pid);
      this.#apply(name, { kind: "spawned", pid });
      if (entry.state.kind === "starting") this.#watch(entry);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#apply(name, refused(error.message.replace(/^Cannot start .*?: /, "").replace(/\.$/, "")));
    }
  }

  #output(entry: Entry, stream: Stream, lines: Uint8Array): void {
    entry.tail.push(lines);
    this.#emit({ kind: "output", time: Date.now(), service: entry.service.name, stream, lines });
    if (
      entry.awaitsLine !== null &&
      decoder.decode(lines).split("\n").some((line) => entry.awaitsLine!.test(line))
    ) {
      this.#send(entry.service.name, { kind: "ready" });
    }
  }

  #room(): Promise<void> | null {
    let all: Promise<unknown> | null = null;
    for (const listener of this.#listeners) {
      const room = listener.backpressure?.();
      if (room) all = all === null ? room : Promise.all([all, room]);
    }
    return all === null ? null : all.then(() => {});
  }

  /** Looks after a service in its present state: for readiness while it starts, for liveness once it runs. */
  #watch(entry: Entry): void {
    const { service: { health }, state, launch } = entry;
    const port = launch?.port ?? null;
    entry.watch = new AbortController();
    if (health?.probe.kind === "log") {
      if (state.kind === "starting") entry.awaitsLine = new RegExp(health.probe.pattern);
      return;
    }
    const probe = health?.probe ?? (port === null ? null : { kind: "tcp" as const, port: String(port) });
    if (probe === null) {
      // Its port variable is not set and has no default: nothing but time can tell, as with a service without a port.
      const { signal } = entry.watch;
      const ready = () => signal.aborted || this.#send(entry.service.name, { kind: "ready" });
      if (state.kind === "starting" && !readyByTime(entry.service)) sleep(SETTLED_MS, signal).then(ready);
      return;
    }
    const target = this.#target(entry);
    const { signal } = entry.watch;
    const once = () => runProbe(probe, target, health?.timeoutMs ?? 1_000, signal);
    if (state.kind === "starting") this.#awaitReady(entry, once, signal);
    else if (health !== null) this.#watchLiveness(entry, health, once, signal);
  }

  async #awaitReady(
    { service }: Entry,
    once: () => Promise<string | null>,
    signal: AbortSignal,
  ): Promise<void> {
    // A port is cheap to ask: often at first. A health check costs its service work.
    const [firstMs, lastMs] = service.health === null ? [5, 100] : [100, 1_000];
    for (let pauseMs = firstMs; !signal.aborted; pauseMs = Math.min(pauseMs * 1.5, lastMs)) {
      const fault = await once();
      if (signal.aborted) return;
      if (fault === null) return this.#send(service.name, { kind: "ready" });
      await sleep(pauseMs, signal);
    }
  }

  async #watchLiveness(
    { service: { name } }: Entry,
    health: Health,
    once: () => Promise<string | null>,
    signal: AbortSignal,
  ): Promise<void> {
    for (let faults = 0;;) {
      await sleep(health.intervalMs, signal);
      const fault = signal.aborted ? null : await once();
      if (signal.aborted) return;
      faults = fault === null ? 0 : faults + 1;
      if (fault === null) continue;
      this.log("warn", `${name} is unhealthy (${faults} of ${health.retries}): ${fault}`);
      if (faults < health.retries) continue;
      return this.#send(name, {
        kind: "unhealthy",
        reason: `failed its health check ${faults} times: ${fault}`,
      });
    }
  }

  #target({ service, launch }: Entry): ProbeTarget {
    const { infrastructure } = this.home;
    // An external service has no start that its environment was made for.
    const environment = launch?.environment ??
      serviceEnvironment(service, this.readEnvironment(), this.home);
    const port = launch?.port ?? service.port;
    return {
      infrastructure,
      cwd: launch?.cwd ?? infrastructure,
      environment: { ...environment, ...port === null ? {} : { PORT: String(port) } },
    };
  }

  /** The environment of whatever is started now, with this run's mark: by it the guard finds what it was not told of. */
  readEnvironment(): Environment {
    return { ...readEnvironment(this.home).environment, ORCHESTRATOR_RUN: this.#run };
  }

  /** Performs whatever is due, a turn at a time, so that signals and output are heard in between. */
  #settle(): void {
    if (this.#phase === "ended" || this.#settling === "now") return;
    if (this.#settling !== null) clearTimeout(this.#settling);
    this.#settling = "now";
    const turnEndsAt = now() + TURN_MS;
    for (let due = this.#due(); due.length > 0; due = this.#due()) {
      for (const { name, trigger } of due) {
        // What came before in this round may have changed what is wanted.
        if (trigger.kind === "start" && this.#entries.get(name)?.desired !== "running") break;
        this.#apply(name, trigger);
        if (now() > turnEndsAt) {
          this.#arm();
          this.#settling = setTimeout(() => {
            this.#settling = null;
            this.#settle();
          });
          return;
        }
      }
    }
    this.#settling = null;
    this.#arm();
    for (const name of this.#leaving) {
      const state = this.#entries.get(name)?.state;
      if (state !== undefined && isAtRest(state)) this.#entries.delete(name);
    }
    const idle = isFinished(this.#entries);
    const heldByUser = [...this.#entries.values()].some(({ desired }) => desired === "stopped");
    if (idle && (this.#phase === "stopping" || !heldByUser)) {
      this.#phase = "ended";
      this.#conclude();
    }
  }

  #due(): { name: string; trigger: Trigger }[] {
    return reconcile(this.#entries, this.#dependents, now());
  }

  /** Everything is at rest: makes sure of it and says how the run ended. */
  async #conclude(): Promise<void> {
    const entries = [...this.#entries.values()];
    const remaining = this.#remaining;
    for (const { service, launch, state } of entries) {
      const port = launch?.port ?? null;
      if (port === null || service.kind === "external" || state.lastExit === null) continue;
      for (let tries = 0; !isPortFree(port); tries++) {
        if (tries === 20) {
          remaining.push(`Port ${port} of "${service.name}" is still taken${await describeHolder(port)}.`);
          break;
        }
        await sleep(50); // the last connections of a server that just ended
      }
    }
    await this.#guard.close();
    for (const entry of entries) {
      clearTimeout(entry.timer);
      clearTimeout(entry.killTimer);
      entry.watch?.abort();
    }
    const failed = entries.some(({ state, desired }) =>
      state.kind === "crashed" || state.kind === "failed" ||
      (state.kind === "pending" && desired === "running")
    );
    const asked = this.#failedService === null && entries.some(({ desired }) => desired === "stopped");
    const status = remaining.length > 0 || this.#failedService !== null || (failed && !asked) ? 1 : 0;
    this.#finished.resolve({ status, failedService: this.#failedService, remaining });
  }
}

/** ` by PID 12 (python main.py)`, or nothing where the system does not tell. */
async function describeHolder(port: number): Promise<string> {
  const { portHolder } = await import("./setup/ports.ts");
  const holder = portHolder(port);
  return holder === null ? "" : ` by PID ${holder.pid} (${holder.command})`;
}

// ------------------------------------------------------------------------------------------------------------------
// 7. Views
// Values in, text out. Nothing here reads the clock, the disk or a process, and nothing writes.

type Paint = (text: string) => string;

/** How each state is shown; `docs/supervision.md` says what moves a service between them. */
export const STATUS: Record<ServiceState["kind"], { mark: string; label: string; paint: Paint }> = {
  pending: { mark: "⏳", label: "PENDING", paint: colors.gray },
  starting: { mark: "🔄", label: "STARTING", paint: colors.yellow },
  running: { mark: "●", label: "RUNNING", paint: colors.green },
  stopping: { mark: "◌", label: "STOPPING", paint: colors.yellow },
  restarting: { mark: "↻", label: "RESTARTING", paint: colors.yellow },
  stopped: { mark: "○", label: "STOPPED", paint: colors.gray },
  crashed: { mark: "✖", label: "CRASHED", paint: colors.red },
  failed: { mark: "✖", label: "FAILED", paint: colors.red },
};

/** The colour of each service's prefix, in turn. */
const PREFIX_PAINTS: readonly Paint[] = [
  colors.cyan,
  colors.magenta,
  colors.blue,
  colors.green,
  colors.yellow,
];

/** A size in columns and rows, and how wide a text is there. */
export interface Viewport {
  rows: number;
  columns: number;
  widthOf(text: string): number;
}

/** What the user has chosen to see. */
export interface PanelState {
  /** The service the keys act on. */
  selected: string | null;
  /** The only service whose lines are streamed, or `null` for all. */
  narrowed: string | null;
  /** Whether the keys are explained. */
  help: boolean;
  colors: boolean;
  /** What is said where otherwise stands how to stop everything. */
  hint?: string;
}

/** `00:05:23` */
export function formatUptime(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(Math.floor(seconds / 3_600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

/** What is worth saying of a state besides its name, or nothing. */
export function describeState({ state, kind, maxRetries }: ServiceSnapshot, at: number): string {
  switch (state.kind) {
    case "pending":
      return state.waitingFor.length > 0 ? `waits for ${state.waitingFor.join(", ")}` : "";
    case "restarting": {
      const inText = `in ${Math.max(0, Math.round((state.retryAt - at) / 1_000))} s`;
      return state.attempt > 0 ? `${inText}, try ${state.attempt} of ${maxRetries}` : inText;
    }
    case "stopping":
      return state.killAt === Infinity
        ? "SIGKILL sent"
        : `SIGKILL in ${Math.max(0, Math.ceil((state.killAt - at) / 1_000))} s`;
    case "crashed":
    case "failed":
      return state.reason;
    case "running":
      return state.restarts > 0 ? `restarted ${state.restarts}x` : "";
    case "stopped":
      return kind === "task" && state.lastExit !== null ? "done" : "";
    case "starting":
      return "";
  }
}

let graphemes: Intl.Segmenter | undefined; // made at first use: that takes as long as half a start

/** `text` cut or filled to exactly `columns`; a cut shows as `…`. */
export function fit(text: string, columns: number, widthOf: Viewport["widthOf"]): string {
  const width = widthOf(text);
  if (width <= columns) return text + " ".repeat(columns - width);
  if (columns <= 0) return "";
  let kept = "";
  let used = 0;
  graphemes ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  for (const { segment } of graphemes.segment(text.slice(0, columns * 20))) {
    const wide = widthOf(segment);
    if (used + wide > columns - 1) break;
    kept += segment;
    used += wide;
  }
  return `${kept}…${" ".repeat(columns - used - 1)}`;
}

interface Column {
  heading: string;
  cell(row: ServiceSnapshot, at: number): string;
}

function pidOf(state: ServiceState): number | null {
  return state.kind === "starting" || state.kind === "running" || state.kind === "stopping"
    ? state.pid
    : null;
}

const COLUMNS = {
  service: { heading: "Service", cell: (row) => row.title },
  alias: { heading: "Alias", cell: (row) => row.name },
  status: {
    heading: "Status",
    cell: (row) => `${STATUS[row.state.kind].mark} ${STATUS[row.state.kind].label}`,
  },
  pid: { heading: "PID", cell: (row) => `${pidOf(row.state) ?? "-"}` },
  port: { heading: "Port", cell: (row) => `${row.port ?? "-"}` },
  uptime: {
    heading: "Uptime",
    cell: ({ state }, at) =>
      pidOf(state) === null || !("since" in state) ? "-" : formatUptime(at - state.since),
  },
  note: { heading: "", cell: describeState },
} satisfies Record<string, Column>;

/** Which column goes first when the terminal is narrow. The alias and the status stay. */
const DROPPED_FIRST = ["note", "pid", "service", "port", "uptime"] as const;

/** The fewest rows and columns at which the panel is more than one line. */
const SMALLEST = { rows: 10, columns: 40 };

/** The panel below the log stream: lines of exactly the screen's width at most, never more than its height allows. */
export function dashboard(snapshot: Snapshot, screen: Viewport, look: PanelState): string[] {
  const paint = (with_: Paint, text: string) => look.colors ? with_(text) : text;
  const { widthOf } = screen;
  if (screen.rows < 3 || screen.columns < 1) return []; // all of it for the stream
  if (screen.rows < SMALLEST.rows || screen.columns < SMALLEST.columns) {
    return [statusLine(snapshot, screen, look)];
  }

  const width = Math.min(screen.columns, 120);
  const inner = width - 4; // a border and a blank on both sides
  const tallest = Math.max(Math.floor(screen.rows * 0.6), SMALLEST.rows - 3);
  const side = paint(colors.gray, "│");
  const frame = (text: string) => `${side} ${text} ${side}`;

  const hints = hintLines(snapshot, look, inner, widthOf);
  const fixed = 3 + hints.length; // two borders, the headings
  const { shown, hidden } = window(snapshot.services, tallest - fixed, look.selected);
  const table = tableLines(shown, snapshot.at, inner, widthOf, paint, look.selected);
  if (hidden.length > 0) table.push(paint(colors.gray, fit(summary(hidden), inner, widthOf)));

  const spare = tallest - fixed - table.length + 1 - 2; // the headings count in both; a blank line and a title
  const logs = recentLogs(snapshot.services, Math.max(0, spare)).map(({ name, line }) => {
    const prefix = paint(
      prefixPaint(snapshot.services, name),
      `[${alignAlias(name, snapshot.services, widthOf)}]`,
    );
    return `${prefix} ${fit(line, inner - widthOf(prefix) - 1, widthOf)}`;
  });

  const title = " Nord City Orchestrator ";
  const left = Math.floor((width - 2 - title.length) / 2);
  const top = `╭${"─".repeat(left)}`;
  const topEnd = `${"─".repeat(width - 2 - title.length - left)}╮`;
  return [
    paint(colors.gray, top) + paint(colors.bold, title) + paint(colors.gray, topEnd),
    ...table.map((text, index) => {
      const name = shown[index - 1]?.name; // the headings come first
      return name !== undefined && name === look.selected ? `${side}›${text} ${side}` : frame(text);
    }),
    ...(logs.length > 0 ? ["", "Recent logs:"].map((text) => fit(text, inner, widthOf)) : []).map(frame),
    ...logs.map(frame),
    ...hints.map((line) => frame(paint(colors.gray, centre(line, inner, widthOf)))),
    paint(colors.gray, `╰${"─".repeat(width - 2)}╯`),
  ];
}

const KEYS = [
  "↑↓ choose",
  "Enter only its lines",
  "Esc all lines",
  "r restart",
  "s stop",
  "S start",
  "q stop all",
  "? hide",
];

/** What stands at the bottom of the panel: the keys, or what is going on. */
function hintLines(
  snapshot: Snapshot,
  look: PanelState,
  columns: number,
  widthOf: Viewport["widthOf"],
): string[] {
  if (!look.help) return [hintText(snapshot, look)];
  const lines = [KEYS[0]];
  for (const key of KEYS.slice(1)) {
    const longer = `${lines.at(-1)} · ${key}`;
    if (widthOf(longer) <= columns) lines[lines.length - 1] = longer;
    else lines.push(key);
  }
  return lines;
}

function hintText(snapshot: Snapshot, look: PanelState): string {
  if (snapshot.stopping) {
    const names = snapshot.services.filter(({ state }) => !isAtRest(state)).map(({ name }) => name);
    return names.length > 0 ? `Stopping, waiting for ${names.join(", ")}; Ctrl+C kills` : "Stopped";
  }
  return look.narrowed === null
    ? look.hint ?? "Ctrl+C to stop all services"
    : `Only lines of ${look.narrowed}; Esc shows all`;
}

function centre(text: string, columns: number, widthOf: Viewport["widthOf"]): string {
  const left = Math.max(0, Math.floor((columns - widthOf(text)) / 2));
  return fit(" ".repeat(left) + text, columns, widthOf);
}

/** One line that says how all of them are. */
function statusLine(snapshot: Snapshot, screen: Viewport, look: PanelState): string {
  const parts = snapshot.services.map(({ name, state }) => `${name} ${STATUS[state.kind].mark}`);
  const well = snapshot.services.filter(({ state }) => state.kind === "running").length;
  const line = fit(
    `${well}/${snapshot.services.length} running  ${parts.join("  ")}`,
    screen.columns,
    screen.widthOf,
  );
  return look.colors ? colors.bold(line) : line;
}

/** The rows that fit, with the chosen one among them. */
function window(
  rows: readonly ServiceSnapshot[],
  room: number,
  selected: string | null,
): { shown: readonly ServiceSnapshot[]; hidden: readonly ServiceSnapshot[] } {
  if (rows.length <= room) return { shown: rows, hidden: [] };
  const count = Math.max(1, room - 1); // a line says how many are not shown
  const chosen = rows.findIndex(({ name }) => name === selected);
  const first = Math.min(Math.max(0, chosen - count + 1), rows.length - count);
  return {
    shown: rows.slice(first, first + count),
    hidden: [...rows.slice(0, first), ...rows.slice(first + count)],
  };
}

/** `… and 191 more: 190 RUNNING, 1 CRASHED` */
function summary(hidden: readonly ServiceSnapshot[]): string {
  const counts = new Map<string, number>();
  for (const { state } of hidden) {
    const { label } = STATUS[state.kind];
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const parts = [...counts].map(([label, count]) => `${count} ${label}`);
  return `… and ${hidden.length} more: ${parts.join(", ")}`;
}

function tableLines(
  rows: readonly ServiceSnapshot[],
  at: number,
  width: number,
  widthOf: Viewport["widthOf"],
  paint: (with_: Paint, text: string) => string,
  selected: string | null,
): string[] {
  const names = Object.keys(COLUMNS) as (keyof typeof COLUMNS)[];
  const cells = new Map(names.map((name) => [name, rows.map((row) => oneLine(COLUMNS[name].cell(row, at)))]));
  const natural = (name: keyof typeof COLUMNS) =>
    Math.max(widthOf(COLUMNS[name].heading), ...cells.get(name)!.map(widthOf));
  let kept = names.filter((name) => name !== "note" || natural(name) > 0);
  const needed = () => kept.reduce((sum, name) => sum + natural(name) + 2, -2);
  for (const name of DROPPED_FIRST) {
    if (needed() <= width) break;
    // A note is cut rather than dropped while something of it can be read.
    if (name === "note" && kept.includes("note") && needed() - natural("note") + 12 <= width) break;
    kept = kept.filter((other) => other !== name);
  }
  const line = (
    cell: (name: keyof typeof COLUMNS) => string,
    style: (text: string, name: string) => string,
  ) => {
    let used = 0;
    const text = kept.map((name) => {
      const columns = Math.max(0, Math.min(natural(name), width - used));
      used += columns + 2;
      return style(fit(cell(name), columns, widthOf), name);
    }).join("  ");
    return text + " ".repeat(Math.max(0, width - widthOf(text)));
  };
  return [
    paint(colors.bold, line((name) => COLUMNS[name].heading, (text) => text)),
    ...rows.map((row, index) =>
      line((name) => cells.get(name)![index], (text, name) => {
        if (name === "status") return paint(STATUS[row.state.kind].paint, text);
        return name === kept[0] && row.name === selected ? paint(colors.inverse, text) : text;
      })
    ),
  ];
}

/** At most `room` recent lines, three a service: every service's last line comes before another's second. */
function recentLogs(rows: readonly ServiceSnapshot[], room: number): { name: string; line: string }[] {
  const counts = rows.map(() => 0);
  let left = room;
  for (let round = 1; round <= 3; round++) {
    rows.forEach((row, index) => {
      if (left === 0 || row.recent.length < round) return;
      counts[index] = round;
      left--;
    });
  }
  return rows.flatMap((row, index) =>
    row.recent.slice(row.recent.length - counts[index]).map((line) => ({
      name: row.name,
      line: oneLine(line),
    }))
  );
}

function alignAlias(name: string, rows: readonly { name: string }[], widthOf: Viewport["widthOf"]): string {
  const widest = Math.max(...rows.map((row) => widthOf(row.name)));
  return " ".repeat(widest - widthOf(name)) + name;
}

function prefixPaint(rows: readonly { name: string }[], name: string): Paint {
  return PREFIX_PAINTS[rows.findIndex((row) => row.name === name) % PREFIX_PAINTS.length];
}

// Escape sequences and control characters. Quantifiers are bounded, so that a line of megabytes stays cheap.
const CONTROLS =
  /\x1b\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b\n]{0,4096}\x1b\\|\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b[ -/]{0,8}[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const COLOUR = /^\x1b\[[0-9;:]*m$/;

/** A stranger's text with nothing that moves the cursor or changes the terminal; colours stay when asked for. */
export function stripControl(text: string, keepColours: boolean): string {
  let coloured = false;
  const tamed = text.replace(CONTROLS, (sequence) => {
    if (!keepColours || !COLOUR.test(sequence)) return "";
    coloured = true;
    return sequence;
  });
  return coloured ? tamed.replace(/\n/g, "\x1b[0m\n") : tamed;
}

function oneLine(text: string): string {
  return stripControl(text, false).replaceAll("\t", "    ").replaceAll("\n", " ");
}

/** What a change of state is worth saying in a stream of lines, or `null`. */
export function describeChange({ row, from, at }: StateEvent): { level: Level; message: string } | null {
  const { name, state: to } = row;
  const after = "since" in from ? ` after ${formatSpan(at - from.since)}` : "";
  switch (to.kind) {
    case "starting":
      return { level: "debug", message: `${name} is starting` };
    case "running": {
      if (row.kind === "external") return { level: "info", message: `${name} is there${after}` };
      const facts = [to.pid === null ? "" : `PID ${to.pid}`, row.port === null ? "" : `port ${row.port}`]
        .filter(Boolean);
      return { level: "info", message: `${name} is running${facts.length > 0 ? ` (${facts.join(", ")})` : ""}` };
    }
    case "stopping":
      if (to.then.kind === "failed") return { level: "warn", message: `${name} ${to.then.reason}; stopping it` };
      if (to.then.kind === "ended") {
        return { level: "warn", message: `${name} ended, stopping what it left running` };
      }
      return { level: "info", message: `stopping ${name}` };
    case "stopped":
      if (row.kind === "external") return { level: "debug", message: `${name} is not waited for any more` };
      if (from.kind === "pending" || from.kind === "restarting") {
        return { level: "info", message: `${name} is not started${from.kind === "pending" ? "" : " again"}` };
      }
      return { level: "info", message: `${name} ${row.kind === "task" ? "is done" : "has stopped"}${after}` };
    case "restarting":
      return { level: "warn", message: `${name} ${to.reason}; starting it again ${describeState(row, at)}` };
    case "crashed":
    case "failed":
      return { level: "error", message: `${name} ${to.reason}` };
    case "pending":
      return from.kind === "stopping"
        ? { level: "info", message: `${name} has stopped and is started again` }
        : null;
  }
}

/**
 * Puts `prefix` before each line; the bytes of the lines stay as they are. The result holds until the next call.
 *
 * @param lines whole lines
 */
export function prefixLines(prefix: Uint8Array, lines: Uint8Array): Uint8Array {
  const many = lines.length >= 4_096 && lines.length <= Vectors.FROM_BYTES &&
    lines.length * (1 + prefix.length) <= Vectors.TO_BYTES;
  if (many && "WebAssembly" in globalThis) return (vectors ??= new Vectors()).prefixLines(prefix, lines);
  // Room for prefixes of lines of a usual length; counting the lines first would take half as long again.
  let result = new Uint8Array(lines.length + (lines.length >> 3) + 1_024);
  let at = 0;
  for (let start = 0; start < lines.length;) {
    const end = lines.indexOf(NEWLINE, start) + 1;
    const needed = at + prefix.length + end - start;
    if (needed > result.length) {
      const wider = new Uint8Array(needed + 2 * result.length);
      wider.set(result.subarray(0, at));
      result = wider;
    }
    result.set(prefix, at);
    result.set(lines.subarray(start, end), at + prefix.length);
    at = needed;
    start = end;
  }
  return result.subarray(0, at);
}

// Services that print without pause are read in blocks of 64 KiB. Sixteen bytes at a time, which only WebAssembly can
// do here, prefixes come into a block in a third of the time, and a run of four such services passes on half as many
// lines again. The instructions are written out because this script has no place for a compiler's output; their
// encoding: https://webassembly.github.io/spec/core/binary/
// `f(from, end, to, length)` copies the bytes from `from` to `end` to `to`, and the `length` bytes of the prefix, which
// are at 0, behind each newline; it returns the end of what it wrote.
const VECTORS = Uint8Array.from([
  [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic number, version
  [1, 9, 1, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f], // types: one function, i32 x 4 -> i32
  [3, 2, 1, 0], // functions: one, of that type
  [5, 3, 1, 0, 71], // memory of 71 pages of 64 KiB, see Vectors
  [7, 9, 2, 1, 0x6d, 2, 0, 1, 0x66, 0, 0], // exports: "m", the memory, and "f", the function
  [10, 95, 1, 93, 2, 1, 0x7b, 2, 0x7f], // code: one body; locals: v128 bytes (4), i32 found (5), i32 step (6)
  [0x03, 0x40], // loop
  [0x20, 2, 0x20, 0, 0xfd, 0, 4, 0, 0x22, 4, 0xfd, 11, 4, 0], // to[0..16] = bytes = from[0..16]
  [0x20, 4, 0x41, 10, 0xfd, 15, 0xfd, 35, 0xfd, 100, 0x21, 5], // found = a bit for each byte that is a newline
  [0x20, 5, 0x41, 0x80, 0x80, 2, 0x72, 0x68, 0x41, 1, 0x6a, 0x21, 6], // step = to behind the first one, or 16
  [0x20, 0, 0x20, 6, 0x6a, 0x21, 0], // from += step
  [0x20, 2, 0x20, 6, 0x6a, 0x21, 2], // to += step
  [0x20, 5, 0x04, 0x40], // if found
  [0x20, 2, 0x41, 0, 0x20, 3, 0xfc, 10, 0, 0], // memory.copy(to, 0, length)
  [0x20, 2, 0x20, 3, 0x6a, 0x21, 2], // to += length
  [0x0b], // end
  [0x20, 0, 0x20, 1, 0x49, 0x0d, 0, 0x0b], // again while from < end
  [0x20, 2, 0x0b], // return to
].flat());

type CopyLines = (from: number, end: number, to: number, length: number) => number;

/** Blocks of many lines at the speed of memory. Not where V8 runs with `--jitless`. */
class Vectors {
  static readonly FROM_BYTES = 256 * 1024;
  static readonly TO_BYTES = 4 * 1024 * 1024;
  // Places in its memory: the prefix is at 0. Up to 16 bytes too many are read and written behind each area.
  static readonly #FROM = 64 * 1024;
  static readonly #TO = 384 * 1024;
  readonly #memory: Uint8Array;
  readonly #copy: CopyLines;

  constructor() {
    const { m, f } = new WebAssembly.Instance(new WebAssembly.Module(VECTORS)).exports;
    this.#memory = new Uint8Array((m as WebAssembly.Memory).buffer);
    this.#copy = f as CopyLines;
  }

  prefixLines(prefix: Uint8Array, lines: Uint8Array): Uint8Array {
    this.#memory.set(prefix, 0);
    this.#memory.set(prefix, Vectors.#TO);
    this.#memory.set(lines, Vectors.#FROM);
    const end = this.#copy(
      Vectors.#FROM,
      Vectors.#FROM + lines.length,
      Vectors.#TO + prefix.length,
      prefix.length,
    );
    return this.#memory.subarray(Vectors.#TO, end - prefix.length); // none behind the last line
  }
}

/** Made when first needed: it takes half a millisecond and some memory. */
let vectors: Vectors | null = null;

/** The last `count` lines, and those before them that belong to the same traceback. */
function lastWithTraceback(lines: readonly string[], count: number): readonly string[] {
  const from = Math.max(0, lines.length - count);
  let start = from;
  const isLink = (line = "") => /^(During handling of|The above exception)/.test(line);
  for (let index = from; index >= 0; index--) {
    const line = lines[index] ?? "";
    const inside = /^(\s|$)/.test(line) || isLink(line) || isLink(lines[index + 2]);
    if (/Traceback \(most recent call last\):$/.test(line)) start = index;
    else if (!inside && index !== from) break;
  }
  return lines.slice(start);
}

/** What is printed last when a service brought the run to its end. */
export function crashCard(row: ServiceSnapshot, lines: readonly string[], color: boolean): string[] {
  const { state, title, name } = row;
  if (state.kind !== "crashed" && state.kind !== "failed") return [];
  const paint = (with_: Paint, text: string) => color ? with_(text) : text;
  const ran = state.ranMs > 0 ? `, after running for ${formatSpan(state.ranMs)}` : "";
  const head = `✖ ${title} [${name}] ${state.reason.replace(/\.$/, "")}${ran}.`;
  const shown = lastWithTraceback(lines, 20);
  const before = shown.length > 0
    ? [`Its last ${shown.length === 1 ? "line" : `${shown.length} lines`}:`]
    : [];
  return [
    paint(colors.red, head),
    ...before,
    ...shown.map((line) =>
      `  ${paint(colors.red, "│")} ${stripControl(line, color)}${color ? "\x1b[0m" : ""}`
    ),
  ];
}

// ------------------------------------------------------------------------------------------------------------------
// 8. Output
// One hand holds the pen: everything that is shown goes through one `Outlet`, which never blocks the rest.

/** Bytes that may wait for a slow reader until every pipe has to wait too. */
const QUEUE_BYTES = 1024 * 1024;
/** As much is gathered before the next write. */
const WRITE_BYTES = 512 * 1024;

/** A queue before a file descriptor. A reader that is gone is no fault: what nobody reads is dropped. */
export class Outlet {
  readonly #sink: { write(bytes: Uint8Array): Promise<number> };
  /** What is written at a time: bytes gathered in a buffer, or what a function makes of the moment. */
  #queue: ({ buffer: Uint8Array; length: number } | (() => Uint8Array))[] = [];
  /** A buffer that was written, for the next bytes: to make one takes as long as to fill it. */
  #spare: Uint8Array | null = null;
  #waiting = 0;
  #writing: Promise<void> | null = null;
  #room: PromiseWithResolvers<void> | null = null;
  #gone = false;

  constructor(sink: { write(bytes: Uint8Array): Promise<number> } = Deno.stdout) {
    this.#sink = sink;
  }

  /** Queues bytes; they are written in order, each call's whole. A function is asked for them when it is their turn. */
  write(bytes: Uint8Array | (() => Uint8Array)): void {
    if (this.#gone) return;
    if (typeof bytes === "function") this.#queue.push(bytes);
    else this.#gather(bytes);
    this.#writing ??= this.#drain();
  }

  #gather(bytes: Uint8Array): void {
    let last = this.#queue.at(-1);
    if (typeof last !== "object" || last.length + bytes.length > last.buffer.length) {
      last = { buffer: this.#takeBuffer(bytes.length), length: 0 };
      this.#queue.push(last);
    }
    last.buffer.set(bytes, last.length);
    last.length += bytes.length;
    this.#waiting += bytes.length;
  }

  #takeBuffer(length: number): Uint8Array {
    if (length > WRITE_BYTES || this.#spare === null) return new Uint8Array(Math.max(WRITE_BYTES, length));
    const buffer = this.#spare;
    this.#spare = null;
    return buffer;
  }

  /** Like `write`, before all that waits. */
  writeNext(make: () => Uint8Array): void {
    if (this.#gone) return;
    this.#queue.unshift(make);
    this.#writing ??= this.#drain();
  }

  /** A promise while too much waits. */
  backpressure(): Promise<void> | null {
    if (this.#waiting < QUEUE_BYTES) return null;
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  /** Resolves when all is written, or when the reader has taken nothing for `patienceMs`. */
  async flush(patienceMs = 2_000): Promise<void> {
    while (this.#writing !== null) {
      const before = this.#waiting;
      const pause = new AbortController();
      await Promise.race([this.#writing, sleep(patienceMs, pause.signal)]);
      pause.abort();
      if (this.#waiting === before) return;
    }
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // what is written in the same turn goes out together
    for (let item = this.#queue.shift(); item !== undefined; item = this.#queue.shift()) {
      let bytes: Uint8Array;
      if (typeof item === "function") {
        bytes = item();
        this.#waiting += bytes.length;
      } else bytes = item.buffer.subarray(0, item.length);
      try {
        while (bytes.length > 0) {
          const count = await this.#sink.write(bytes);
          this.#waiting -= count;
          bytes = bytes.subarray(count);
        }
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        // A closed pipe, a full disk, a terminal that went away: the services matter more than their display.
        this.#gone = true;
        this.#queue = [];
        this.#waiting = 0;
      }
      if (typeof item !== "function" && item.buffer.length === WRITE_BYTES) this.#spare = item.buffer;
      if (this.#waiting < QUEUE_BYTES) {
        this.#room?.resolve();
        this.#room = null;
      }
    }
    this.#writing = null;
  }
}

/** The bytes of all parts, one after the other. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** What shows a run. */
export interface View extends Listener {
  /** Shows a line of the orchestrator's own. */
  message(text: string): void;
  /** Gives the terminal back; what is said afterwards comes as plain lines. */
  close(): Promise<void>;
}

/** One line per service line behind its alias, for pipes, files and terminals that want no panel. */
export class LineView implements View {
  readonly #outlet: Outlet;
  readonly #terminal: boolean;
  readonly #colors: boolean;
  readonly #prefixes = new Map<string, Uint8Array>();
  readonly #names: () => readonly { name: string }[];

  /**
   * @param names the services, in order: they set the width of the prefixes
   * @param how whether a terminal reads, which must not see a stranger's control codes, and whether in colour
   */
  constructor(
    outlet: Outlet,
    names: () => readonly { name: string }[],
    how: { terminal: boolean; colors: boolean },
  ) {
    this.#outlet = outlet;
    this.#names = names;
    this.#terminal = how.terminal;
    this.#colors = how.colors;
  }

  event(event: Event): void {
    if (event.kind === "output") {
      const lines = this.#terminal
        ? encoder.encode(stripControl(decoder.decode(event.lines), this.#colors))
        : event.lines;
      this.#outlet.write(prefixLines(this.#prefix(event.service), lines));
    } else {
      const told = event.kind === "log" ? event : describeChange(event);
      if (told !== null && told.level !== "debug") this.message(told.message);
    }
  }

  backpressure(): Promise<void> | null {
    return this.#outlet.backpressure();
  }

  message(text: string): void {
    const prefix = this.#colors ? colors.bold("[orchestrator]") : "[orchestrator]";
    this.#outlet.write(encoder.encode(`${prefix} ${text}\n`));
  }

  async close(): Promise<void> {
    await this.#outlet.flush();
  }

  #prefix(name: string): Uint8Array {
    let prefix = this.#prefixes.get(name);
    if (prefix === undefined) {
      const text = `[${alignAlias(name, this.#names(), displayWidth)}]`;
      prefix = encoder.encode(`${this.#colors ? prefixPaint(this.#names(), name)(text) : text} `);
      this.#prefixes.set(name, prefix);
    }
    return prefix;
  }
}

/** Only what went wrong, for a run in the background, whose events are in its logs. */
class FaultView implements View {
  readonly #outlet: Outlet;

  constructor(outlet: Outlet) {
    this.#outlet = outlet;
  }

  event(event: Event): void {
    if (event.kind === "log" && (event.level === "warn" || event.level === "error")) {
      this.message(event.message);
    }
  }

  message(text: string): void {
    this.#outlet.write(encoder.encode(`${text}\n`));
  }

  async close(): Promise<void> {
    await this.#outlet.flush();
  }
}

let measure: ((text: string) => number) | null = null;

/** Loads what measures wide characters; most runs show ASCII only and never need it. */
async function loadMeasure(): Promise<void> {
  measure ??= (await import("string-width")).default;
}

/** Columns of a text in a terminal: until `loadMeasure` is done, its length. */
function displayWidth(text: string): number {
  return measure === null || /^[\x20-\x7e]*$/.test(text) ? text.length : measure(text);
}

const ESC = "\x1b";
const CSI = `${ESC}[`;
// Where the terminal knows it, a frame appears at once; elsewhere these are ignored.
const FRAME_BEGINS = `${CSI}?2026h`;
const FRAME_ENDS = `${CSI}?2026l`;
// No cursor; what is pasted comes between marks. The guard's script undoes both, too.
const TAKE = `${CSI}?25l${CSI}?2004h`;
const GIVE_BACK = `${CSI}?25h${CSI}?2004l`;

/** Columns and rows of the terminal; `before` when it went away. */
function consoleSize(before: Size): Size {
  try {
    return Deno.consoleSize();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return before; // nobody sees it any more, but the services still have to be stopped in order
  }
}

interface Size {
  rows: number;
  columns: number;
}

/**
 * The screen in two parts: above, lines scroll through into the terminal's own scrollback; below, pinned, a panel.
 *
 * Between frames the cursor rests where the stream ends. A terminal that changes its size moves it along with the
 * text, so lines are printed without naming a place, and all below may be erased: no line is ever lost. Frames do
 * name places; they are made when it is their turn to be written, for the size of that moment.
 */
export class Terminal {
  readonly #outlet: Outlet;
  readonly #answers: boolean;
  /** The screen as the last frame left it. */
  #shown: { size: Size; panel: readonly string[] };
  #wanted: { size: Size; panel: readonly string[] } | null = null;
  #framing = false;
  #open = false;
  /** The last lines printed, for a screen that a resize has emptied; `#asked`: at the time it was asked about. */
  #recent: readonly string[] = [];
  #asked: readonly string[] | null = null;

  /** @param answers whether the terminal's answers are read, and given to `located` */
  constructor(outlet: Outlet, answers: boolean) {
    this.#outlet = outlet;
    this.#answers = answers;
    this.#shown = { size: consoleSize({ rows: 24, columns: 80 }), panel: [] };
  }

  get size(): Size {
    return consoleSize(this.#shown.size);
  }

  /** Prepares the screen; what stands on it moves up. */
  open(): void {
    this.#open = true;
    this.#outlet.write(() => {
      this.#shown = { size: this.size, panel: [] };
      return encoder.encode(TAKE);
    });
  }

  /** Scrolls whole lines, each with its newline, through the part above the panel. */
  print(text: string): void {
    if (text === "") return;
    const { rows } = this.#shown.size;
    this.#recent = [...this.#recent, ...lastLines(text, rows)].slice(-rows);
    // Erasing is for the moment after a resize, when rows of the panel may be in the way.
    const lines = text.slice(0, -1).replaceAll("\n", `\r\n${CSI}K`);
    this.#outlet.write(encoder.encode(`\r\n${CSI}K${lines}`));
  }

  /** Shows a panel that was made for `size`. Rows that are as they were are not written. */
  draw(panel: readonly string[], size: Size): void {
    if (!this.#open) return;
    this.#wanted = { panel, size };
    this.#frameSoon();
  }

  /** The size may have changed: takes the panel away, wherever its rows are now. */
  resized(): void {
    this.#frameSoon();
  }

  /** The stream ends in this row. If it is the first, wrapped rows of the panel have emptied the screen. */
  located(row: number): void {
    if (row === 1 && this.#asked === this.#recent) this.print(this.#recent.join(""));
    this.#asked = null;
  }

  /** Gives the screen back with the last panel on it and the cursor below. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#outlet.write(() => {
      const frame = this.#frame();
      const { size, panel } = this.#shown;
      const below = panel.length > 0 ? `${CSI}r${CSI}${size.rows};1H` : `${ESC}7${CSI}r${ESC}8`;
      return encoder.encode(`${frame}${below}\r\n${CSI}0m${GIVE_BACK}`);
    });
  }

  #frameSoon(): void {
    if (this.#framing || !this.#open) return;
    this.#framing = true;
    this.#outlet.writeNext(() => {
      this.#framing = false;
      return encoder.encode(this.#frame());
    });
  }

  /** Brings the screen to what is wanted. */
  #frame(): string {
    const { size } = this;
    const before = this.#shown;
    const resized = !sameSize(size, before.size);
    if (resized) this.#shown = { size, panel: [] };
    const wanted = this.#wanted;
    // A panel for another size is not shown: the one for this size is on its way.
    if (wanted === null || !sameSize(size, wanted.size)) return resized ? this.#takenAway() : "";
    const { panel } = wanted;
    const moved = resized || panel.length !== before.panel.length;
    const top = size.rows - panel.length + 1;
    const rows = panel.map((row, index) =>
      moved || row !== before.panel[index] ? `${CSI}${top + index};1H${row}${CSI}0m${CSI}K` : ""
    ).join("");
    if (rows === "" && !moved) return "";
    this.#shown = { size, panel };
    return `${FRAME_BEGINS}${moved ? this.#reserve(panel.length) : ""}${ESC}7${rows}${ESC}8${FRAME_ENDS}`;
  }

  #takenAway(): string {
    if (!this.#answers) return this.#reserve(0);
    this.#asked = this.#recent;
    return `${this.#reserve(0)}${CSI}6n`;
  }

  /** Makes room for a panel below the stream, which scrolls up by what is missing and not more, and empties it. */
  #reserve(height: number): string {
    const below = Math.max(1, height);
    const room = `${ESC}D`.repeat(below) + `${CSI}${below}A`; // these keep the column: the cursor is at a line's end
    const region = height > 0 ? `${CSI}1;${this.#shown.size.rows - height}r` : "";
    return `${ESC}7${CSI}r${ESC}8${room}${ESC}7${CSI}B\r${CSI}J${region}${ESC}8`;
  }
}

function sameSize(one: Size, other: Size): boolean {
  return one.rows === other.rows && one.columns === other.columns;
}

/** The last lines of a text, each with its newline: at most `count`, fewer when they are long. */
function lastLines(text: string, count: number): string[] {
  const lines: string[] = [];
  for (let end = text.length; end > 0 && lines.length < count && text.length - end < 20_000;) {
    const start = text.lastIndexOf("\n", end - 2) + 1;
    lines.push(text.slice(start, end));
    end = start;
  }
  return lines.reverse();
}

/** A key, or the terminal's answer to where the cursor is. */
export type Key =
  | { kind: "up" | "down" | "enter" | "escape" }
  | { kind: "character"; character: string }
  | { kind: "located"; row: number };

const PASTE_BEGINS = `${CSI}200~`;
const PASTE_ENDS = `${CSI}201~`;

/** Tells keys from what a terminal sends, read by read. Text that is pasted is no command: it is passed over. */
export class KeyReader {
  /** The end of what was pasted so far, or `null` outside of a paste. */
  #pasted: string | null = null;

  /** What was typed. Sequences nobody here knows are passed over. */
  read(text: string): Key[] {
    if (this.#pasted !== null) {
      const pasted = this.#pasted + text;
      const end = pasted.indexOf(PASTE_ENDS);
      this.#pasted = end === -1 ? pasted.slice(1 - PASTE_ENDS.length) : null;
      return end === -1 ? [] : this.read(pasted.slice(end + PASTE_ENDS.length));
    }
    const [typed, ...pasted] = text.split(PASTE_BEGINS);
    const keys = keysIn(typed);
    if (pasted.length === 0) return keys;
    this.#pasted = "";
    return [...keys, ...this.read(pasted.join(PASTE_BEGINS))];
  }
}

function keysIn(text: string): Key[] {
  const keys: Key[] = [];
  for (const [found] of text.matchAll(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO[A-Z]|\x1b|[^\x1b]/gu)) {
    const place = /^\x1b\[(\d+);\d+R$/.exec(found);
    if (place !== null) keys.push({ kind: "located", row: Number(place[1]) });
    else if (/^.[[O]A$/su.test(found)) keys.push({ kind: "up" });
    else if (/^.[[O]B$/su.test(found)) keys.push({ kind: "down" });
    else if (found === ESC) keys.push({ kind: "escape" });
    else if (found === "\r" || found === "\n") keys.push({ kind: "enter" });
    else if (!found.startsWith(ESC)) keys.push({ kind: "character", character: found });
  }
  return keys;
}

/** What a panel shows and what its keys do: a run in this process, or one that it is attached to. */
export interface PanelSource {
  snapshot(recent: number): Snapshot;
  tail(name: string, count: number): string[];
  /** What the keys `r` `s` `S` ask for. */
  setDesired(names: readonly string[], desired: Desired): void;
  /** What `q` does. */
  quit(): void;
  /** What stands below the panel instead of how to stop everything. */
  hint?: string;
}

/** The log stream with the panel below it. */
export class PanelView implements View {
  static readonly PERIOD_MS = 500;
  /** Without a change of size for this long, its last one is known: tmux tells of them every 250 ms at most. */
  static readonly RESIZE_MS = 300;
  readonly #outlet: Outlet;
  readonly #terminal: Terminal;
  readonly #source: PanelSource;
  readonly #colors = !Deno.noColor;
  #look: PanelState;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #drawnAt = -Infinity;
  #resizedAt = -Infinity;
  #closed = false;
  readonly #resized = () => {
    this.#resizedAt = now();
    this.#terminal.resized();
    this.#draw();
  };
  readonly #suspended = async () => {
    this.#release();
    await this.#outlet.flush(); // the shell writes next
    Deno.kill(Deno.pid, "SIGSTOP");
  };
  readonly #resumed = () => this.#seize();

  private constructor(outlet: Outlet, source: PanelSource) {
    this.#outlet = outlet;
    this.#source = source;
    this.#terminal = new Terminal(outlet, Deno.stdin.isTerminal());
    this.#look = { selected: null, narrowed: null, help: false, colors: this.#colors, hint: source.hint };
  }

  /** Takes over the terminal. */
  static async open(outlet: Outlet, source: PanelSource): Promise<PanelView> {
    await loadMeasure();
    const view = new PanelView(outlet, source);
    view.#seize();
    if (Deno.build.os !== "windows") {
      Deno.addSignalListener("SIGWINCH", view.#resized);
      Deno.addSignalListener("SIGTSTP", view.#suspended);
      Deno.addSignalListener("SIGCONT", view.#resumed);
    }
    if (Deno.stdin.isTerminal()) view.#listen();
    return view;
  }

  event(event: Event): void {
    switch (event.kind) {
      case "output":
        if (this.#look.narrowed === null || this.#look.narrowed === event.service) {
          this.#print(event.service, decoder.decode(event.lines));
        }
        break;
      case "log":
        if (event.level !== "debug") this.message(event.message);
        break;
      case "state": {
        const told = describeChange(event);
        if (told !== null && told.level !== "debug") this.message(told.message);
        this.#drawSoon();
        break;
      }
    }
  }

  backpressure(): Promise<void> | null {
    return this.#outlet.backpressure();
  }

  message(text: string): void {
    const prefix = this.#colors ? colors.bold("[orchestrator]") : "[orchestrator]";
    // Below the last panel nobody else speaks, and a traceback is to be copied as it is.
    if (this.#closed) this.#outlet.write(encoder.encode(`${text}\n`));
    else this.#terminal.print(`${prefix} ${text}\n`);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#draw();
    if (Deno.build.os !== "windows") {
      Deno.removeSignalListener("SIGWINCH", this.#resized);
      Deno.removeSignalListener("SIGTSTP", this.#suspended);
      Deno.removeSignalListener("SIGCONT", this.#resumed);
    }
    this.#release();
    await this.#outlet.flush();
  }

  #seize(): void {
    if (Deno.stdin.isTerminal()) Deno.stdin.setRaw(true, { cbreak: Deno.build.os !== "windows" });
    this.#terminal.open();
    this.#draw();
  }

  #release(): void {
    this.#terminal.close();
    try {
      if (Deno.stdin.isTerminal()) Deno.stdin.setRaw(false);
    } catch (error) {
      if (!(error instanceof Error)) throw error; // the terminal was closed: nothing is left to give back
    }
  }

  #print(name: string, lines: string): void {
    const rows = this.#source.snapshot(0).services;
    const prefix = `[${alignAlias(name, rows, displayWidth)}]`;
    const painted = this.#colors ? prefixPaint(rows, name)(prefix) : prefix;
    const text = stripControl(lines, this.#colors);
    this.#terminal.print(text.replaceAll(/^(?!$(?![\s\S]))/gm, `${painted} `));
  }

  #draw(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const resizing = this.#resizedAt + PanelView.RESIZE_MS - now();
    if (resizing > 0 && !this.#closed) {
      this.#timer = setTimeout(() => this.#draw(), resizing);
      return;
    }
    this.#drawnAt = now();
    const { size } = this.#terminal;
    const screen = { ...size, widthOf: displayWidth };
    this.#terminal.draw(dashboard(this.#source.snapshot(3), screen, this.#look), size);
    if (!this.#closed) this.#timer = setTimeout(() => this.#draw(), PanelView.PERIOD_MS);
  }

  /** Draws once, when what comes together has come. */
  #drawSoon(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    const since = now() - this.#drawnAt;
    this.#timer = setTimeout(() => this.#draw(), Math.max(0, 30 - since));
  }

  async #listen(): Promise<void> {
    const buffer = new Uint8Array(1_024);
    const keys = new KeyReader();
    while (!this.#closed) {
      // A terminal that was closed ends in an error; SIGHUP says what to do about it.
      const count = await Deno.stdin.read(buffer).catch(() => null);
      if (count === null) return;
      for (const key of keys.read(decoder.decode(buffer.subarray(0, count)))) {
        if (!this.#closed) this.#press(key);
      }
    }
  }

  #press(key: Key): void {
    const rows = this.#source.snapshot(0).services;
    const { selected, narrowed } = this.#look;
    switch (key.kind) {
      case "located":
        this.#terminal.located(key.row);
        break;
      case "up":
      case "down": {
        const index = rows.findIndex(({ name }) => name === selected);
        const next = key.kind === "down" ? index + 1 : index === -1 ? rows.length - 1 : index - 1;
        this.#look = { ...this.#look, selected: rows[(next + rows.length) % rows.length]?.name ?? null };
        break;
      }
      case "enter":
        if (selected === null || selected === narrowed) break;
        this.#look = { ...this.#look, narrowed: selected };
        this.message(`only lines of ${selected}, its last ones first; Esc shows all`);
        this.#print(
          selected,
          this.#source.tail(selected, Tail.KEPT_LINES).map((line) => `${line}\n`).join(""),
        );
        break;
      case "escape":
        if (narrowed !== null) this.message("lines of all services");
        this.#look = { ...this.#look, narrowed: null, help: false };
        break;
      case "character":
        this.#command(key.character, selected);
        break;
    }
    this.#draw();
  }

  #command(character: string, selected: string | null): void {
    const desires: Record<string, Desired> = { r: "restarted", s: "stopped", S: "running" };
    if (character === "q") this.#source.quit();
    else if (character === "?") this.#look = { ...this.#look, help: !this.#look.help };
    else if (character in desires) {
      try {
        if (selected === null) this.message("choose a service with the arrow keys first");
        else this.#source.setDesired([selected], desires[character]);
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        this.message(error.message);
      }
    }
  }
}

// ------------------------------------------------------------------------------------------------------------------
// 9. Foreground
// This process becomes the service: same PID, terminal, signals and exit status.

const LIBC: Partial<Record<typeof Deno.build.os, string>> = {
  linux: "libc.so.6",
  darwin: "/usr/lib/libSystem.B.dylib",
};

/** C strings one after the other, and a null-terminated array of pointers to them. */
function cStrings(words: readonly string[]): { pointers: BigUint64Array<ArrayBuffer>; keep: Uint8Array[] } {
  const keep = words.map((word) => encoder.encode(`${word}\0`));
  const pointers = new BigUint64Array(words.length + 1);
  keep.forEach((bytes, index) => pointers[index] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
  return { pointers, keep };
}

/** Whether this process can be replaced by another program. */
const canBeReplaced = LIBC[Deno.build.os] !== undefined;

/**
 * Replaces this process by a program, as `os.execv` does, with the present environment and working folder.
 *
 * Signals that the runtime ignores are handed over as it found them, and descriptors other than the standard three
 * close at the exchange.
 *
 * @throws {UserError} when the system refuses
 */
function replaceProcess(program: string, args: readonly string[]): never {
  const symbols = {
    execv: { parameters: ["buffer", "buffer"], result: "i32" },
    signal: { parameters: ["i32", "pointer"], result: "pointer" },
    fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  } as const;
  const libc = Deno.dlopen(LIBC[Deno.build.os] ?? "", symbols).symbols;
  const SIGPIPE = 13;
  libc.signal(SIGPIPE, null); // the runtime ignores it, and what is ignored stays so across exec
  const F_SETFD = 2;
  const FD_CLOEXEC = 1;
  const descriptors = Deno.build.os === "linux" ? "/proc/self/fd" : "/dev/fd";
  for (const { name } of [...Deno.readDirSync(descriptors)]) {
    if (Number(name) > 2) libc.fcntl(Number(name), F_SETFD, FD_CLOEXEC);
  }
  const { pointers, keep } = cStrings([program, ...args]);
  libc.execv(encoder.encode(`${program}\0`), pointers);
  throw new UserError(`Cannot start ${program}: the system refused (${keep.length} words).`);
}

/** Replaces this process by a service. */
function becomeService(launch: Launch): never {
  for (const name of Object.keys(Deno.env.toObject())) {
    if (!Object.hasOwn(launch.environment, name)) Deno.env.delete(name);
  }
  for (const [name, value] of Object.entries(launch.environment)) Deno.env.set(name, value);
  Deno.chdir(launch.cwd);
  replaceProcess(launch.program, launch.args);
}

/**
 * The program and the arguments that this process was started with, the runtime's own among them.
 *
 * @param own what takes the place of the arguments that are ours
 */
export function ownCommand(own: readonly string[] = Deno.args): { program: string; args: string[] } {
  const program = Deno.execPath().replace(/ \(deleted\)$/, ""); // it may have been replaced by a newer one
  const script = Deno.build.standalone ? [] : ["run", "-A", Deno.mainModule];
  if (Deno.build.os !== "linux") return { program, args: [...script, ...own] };
  const words = Deno.readTextFileSync("/proc/self/cmdline").split("\0").slice(1, -1);
  return { program, args: [...words.slice(0, words.length - Deno.args.length), ...own] };
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
  const service = services.find((candidate) => candidate.name === name);
  if (service === undefined) throw unknownName(name, services.map((candidate) => candidate.name));
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

// ------------------------------------------------------------------------------------------------------------------
// 10. Orchestrator
// A run: a supervisor with its views, its signals and an end that is made sure of.

/** What a run may be told. */
export interface RunOptions {
  /** The `.env` to load instead of `infrastructure/.env`. */
  envFile?: string;
  /** The infrastructure folder instead of the one beside this script or binary. */
  infrastructure?: string;
  /** The services file instead of the folder's. */
  config?: string;
  /** Services to run instead of any file's. */
  services?: readonly Service[];
  /** `false`: prefixed lines even on a terminal; `"none"`: nothing is shown. */
  dashboard?: boolean | "none";
  /** `false`: takes no lock on the folder and can't be talked to by the commands of `control/`. */
  control?: boolean;
  /** Where logs are written, and how; without a folder none are. */
  logs?: Partial<LogOptions>;
  /** Whether it runs in the background: SIGHUP reloads, only faults are shown, and logs are always written. */
  detached?: boolean;
}

/**
 * Starts services, watches them, and stops them in order.
 *
 * ```ts ignore
 * const status = await new Orchestrator(["db", "web"], { envFile: "infrastructure/.env" }).run();
 * ```
 */
export class Orchestrator {
  readonly #names: readonly string[];
  readonly #options: RunOptions;
  readonly #listeners = new Set<Listener>();
  readonly #over = Promise.withResolvers<void>();
  #supervisor: Supervisor | null = null;
  #stopAsked = false;
  #restartAsked = false;

  /** @param names the services to run, their dependencies are added; empty means all */
  constructor(names: readonly string[] = [], options: RunOptions = {}) {
    this.#names = names;
    this.#options = options;
  }

  /**
   * Runs until everything has ended or was stopped. SIGINT, SIGTERM and SIGHUP stop it; a second SIGINT or SIGTERM kills.
   *
   * @returns 0 after a stop that was asked for or when every service ended with status 0, 1 otherwise
   * @throws {UserError} for what the user can mend before anything starts
   */
  async run(): Promise<number> {
    try {
      return await this.#run();
    } finally {
      this.#over.resolve();
    }
  }

  async #run(): Promise<number> {
    const options = this.#options;
    const home = findHome(options);
    const services = options.services ?? await loadServices(home, options.config);
    const plan = planStart(services, this.#names);
    const { environment, warnings } = readEnvironment(home);
    for (const service of plan.services) serviceEnvironment(service, environment, home);
    const control = await openControl(home, options);
    const supervisor = new Supervisor(plan.services, home, { terminal: drawsPanel(options) });
    this.#supervisor = supervisor;
    for (const listener of this.#listeners) supervisor.listen(listener);

    const view = await openView(supervisor, options);
    supervisor.listen(view);
    const stop = () => void (supervisor.stopping ? supervisor.kill() : this.stop());
    const restartSelf = () => {
      this.#restartAsked ||= !supervisor.stopping && canBeReplaced;
      this.stop();
    };
    const reload = () => void control?.reload();
    const windows = Deno.build.os === "windows";
    const signals: [Deno.Signal, () => void][] = windows ? [["SIGINT", stop]] : [
      ["SIGINT", stop],
      ["SIGTERM", stop],
      // A terminal that goes away may say so more than once: that is no desired to kill.
      ["SIGHUP", options.detached ? reload : () => void (supervisor.stopping || this.stop())],
      ["SIGUSR2", restartSelf],
    ];
    for (const [signal, act] of signals) Deno.addSignalListener(signal, act);
    let result: RunResult | null = null;
    try {
      control?.start({
        supervisor,
        version: VERSION,
        names: this.#names,
        known: services,
        options,
        stop: () => void this.stop(),
        restartSelf,
      });
      for (const warning of warnings) supervisor.log("warn", warning);
      for (const { name, neededBy } of plan.added) {
        supervisor.log("info", `${name} is added: ${neededBy} depends on it`);
      }
      supervisor.start();
      if (this.#stopAsked) supervisor.close();
      result = await supervisor.finished;
      await view.close();
      for (const line of finalMessages(result, supervisor)) supervisor.log("error", line);
      await view.close();
    } finally {
      await view.close(); // whatever went wrong, the terminal is given back
      await control?.close(result, this.#restartAsked);
      for (const [signal, act] of signals) Deno.removeSignalListener(signal, act);
    }
    if (this.#restartAsked && result.remaining.length === 0) {
      const { program, args } = ownCommand();
      replaceProcess(program, args);
    }
    return result.status;
  }

  /** Stops everything in order. Resolves when all of it is gone; before `run` it makes the run end at once. */
  async stop(): Promise<void> {
    this.#stopAsked = true;
    const supervisor = this.#supervisor;
    if (supervisor === null) return;
    const finished = supervisor.close();
    const pause = new AbortController();
    finished.then(() => pause.abort());
    for (let waitMs = 1_500; !pause.signal.aborted; waitMs = 3_000) {
      await sleep(waitMs, pause.signal);
      const snapshot = supervisor.snapshot();
      const waiting = snapshot.services.filter(({ state }) => state.kind === "stopping");
      const names = waiting.map((row) => `${row.name} (${describeState(row, snapshot.at)})`);
      if (names.length > 0 && !pause.signal.aborted) {
        supervisor.log("info", `waiting for ${names.join(", ")}`);
      }
    }
  }

  /** All services now; no rows before `run`. @param recent how many of each one's last lines */
  snapshot(recent = 0): Snapshot {
    return this.#supervisor?.snapshot(recent) ?? { at: now(), stopping: false, services: [] };
  }

  /**
   * What happens, from now until the run ends. A reader that is slow makes the services' pipes wait.
   *
   * ```ts ignore
   * for await (const event of orchestrator.events()) if (event.kind === "state") console.log(event.row.state.kind);
   * ```
   */
  async *events(): AsyncGenerator<Event> {
    const queue: Event[] = [];
    let arrived = Promise.withResolvers<void>();
    let taken = Promise.withResolvers<void>();
    const listener: Listener = {
      event: (event) => {
        queue.push(event);
        arrived.resolve();
      },
      backpressure: () => queue.length < 1_000 ? null : taken.promise,
    };
    this.#listeners.add(listener);
    const unlisten = this.#supervisor?.listen(listener);
    let over = false;
    this.#over.promise.then(() => {
      over = true;
      arrived.resolve();
    });
    try {
      for (;;) {
        for (let event = queue.shift(); event !== undefined; event = queue.shift()) yield event;
        if (over) return;
        taken.resolve();
        taken = Promise.withResolvers();
        arrived = Promise.withResolvers();
        await arrived.promise;
      }
    } finally {
      this.#listeners.delete(listener);
      unlisten?.();
      taken.resolve();
    }
  }
}

/** The words a run ends with. */
function finalMessages(result: RunResult, supervisor: Supervisor): string[] {
  const card = result.failedService === null ? [] : crashCard(
    result.failedService,
    supervisor.tail(result.failedService.name, Tail.KEPT_LINES),
    useColors(),
  );
  const left = supervisor.snapshot().services.filter(({ state }) => state.kind === "pending");
  const blocked = result.status === 1 && result.failedService === null
    ? left.map((row) => `${row.name} was not started: it ${describeState(row, 0)}`)
    : [];
  return [...result.remaining, ...blocked, ...card];
}

/** Whether what is printed may have colours. */
export function useColors(): boolean {
  return Deno.stdout.isTerminal() && !Deno.noColor;
}

/** Whether this process may draw: a shell's background job that touched the terminal would be stopped by it. */
function ownsTerminal(): boolean {
  if (!Deno.stdout.isTerminal() || Deno.env.get("TERM") === "dumb" || Deno.env.get("CI")) return false;
  if (Deno.build.os !== "linux") return true;
  const stat = Deno.readTextFileSync("/proc/self/stat");
  const [, , group, , , terminalGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return group === terminalGroup || terminalGroup === "-1";
}

/** What makes the run known to others; nothing when it shall not be. */
async function openControl(home: Home, options: RunOptions): Promise<Control | null> {
  if (options.control === false) return null;
  const { Control } = await import("./control/control.ts");
  const control = await Control.open(home, options.detached ?? false);
  if (options.logs !== undefined || options.detached) await control.keepLogs(options.logs ?? {});
  return control;
}

/** Whether a run shows the panel. */
function drawsPanel({ dashboard = true, detached = false }: RunOptions): boolean {
  return dashboard === true && !detached && ownsTerminal();
}

async function openView(supervisor: Supervisor, options: RunOptions): Promise<View> {
  if (options.dashboard === "none") return { event() {}, message() {}, close: () => Promise.resolve() };
  const outlet = new Outlet();
  if (options.detached) return new FaultView(outlet);
  if (drawsPanel(options)) {
    return await PanelView.open(outlet, {
      snapshot: (recent) => supervisor.snapshot(recent),
      tail: (name, count) => supervisor.tail(name, count),
      setDesired: (names, desired) => supervisor.setDesired(names, desired),
      quit: () => Deno.kill(Deno.pid, "SIGINT"),
    });
  }
  if (supervisor.services.some(({ name }) => !/^[\x20-\x7e]*$/.test(name))) await loadMeasure();
  const how = { terminal: Deno.stdout.isTerminal(), colors: useColors() };
  return new LineView(outlet, () => supervisor.services, how);
}

// ------------------------------------------------------------------------------------------------------------------
// 11. Commands
// Flags become one typed command; a command returns an exit status.

/** What the command line asks for. */
export type Command =
  | { kind: "run"; names: string[]; options: RunOptions }
  // A run with more to it: in the background, with logs, or in an orchestrator that runs already when `named`.
  | { kind: "start"; names: string[]; named: boolean; options: RunOptions; flags: Flags }
  | { kind: "control"; word: string; args: string[] }
  | { kind: "foreground"; name: string; options: RunOptions }
  | { kind: "list"; json: boolean; options: RunOptions }
  | { kind: "init" | "setup"; options: RunOptions }
  | { kind: "check"; json: boolean; options: RunOptions }
  | { kind: "env"; name: string; options: RunOptions }
  | { kind: "jobs"; args: string[] }
  | { kind: "help"; options: RunOptions }
  | { kind: "version" };

/** The options of a command line. */
export interface FlagSpec {
  /** Those that are given or not. */
  boolean: readonly string[];
  /** Those with a value, each with an example of it. */
  text: Readonly<Record<string, string>>;
  /** Letters that stand for them. */
  letters: Readonly<Record<string, string>>;
}

/** What a command line said. */
export interface Flags {
  on: ReadonlySet<string>;
  text: Readonly<Record<string, string | undefined>>;
  /** What is no option. */
  words: readonly string[];
}

/** Options that every command takes: where things are. */
export const HOME_FLAGS = {
  "env-file": "infrastructure/.env",
  infrastructure: "./infrastructure",
  config: "infrastructure/services.yaml",
} as const;

/** Options that make a run more than a plain one. */
const START_FLAGS = {
  wait: "60s",
  "log-dir": "infrastructure/logs",
  "log-format": "json",
  "log-level": "debug",
  "log-size": "10MiB",
  "log-keep": "5",
} as const;

/** The options of everything but the words that `control/` reads. */
export const MAIN_FLAGS: FlagSpec = {
  boolean: ["list", "json", "help", "version", "explain", "no-dashboard", "detach"],
  text: { services: "db,web", service: "web", ...HOME_FLAGS, ...START_FLAGS },
  letters: { s: "services", l: "list", h: "help", V: "version", d: "detach" },
};

/** Said by `--detach` to the run that it starts. */
export const BACKGROUND_FLAG = "in-background";

/** The words that may stand before the options, each with what it does. */
export const WORDS: Record<string, string> = {
  init: "write a first services.yaml from what the folder holds",
  check: "look for mistakes without starting anything (--json)",
  env: "NAME --explain: where each variable of a service comes from",
  setup: "make the venv and install requirements.txt into it",
  engine: "run the job engine (orchestrator engine --help)",
  worker: "run a job worker",
  job: "submit, watch and cancel jobs",
  workers: "list the engine's workers",
  start: "NAME...: what no command does; where one runs already, these are started there",
  status: "what runs: state, PID, port, uptime, restarts, CPU and memory (--json)",
  logs: "NAME... -f -n N --since 10m --grep RE --json: the lines of all, in time order",
  restart: "NAME... --with-dependents --with-dependencies",
  stop: "NAME...: these and what depends on them, or everything and the orchestrator itself",
  reload: "read the services file and .env again and do what follows (--dry-run)",
  "self-restart": "stop everything, then begin anew as the same process",
  attach: "the dashboard of one that runs; q leaves it",
  events: "what happens, one JSON object a line",
  completions: "bash, zsh or fish: a script for the shell",
};

/** Words that talk to an orchestrator that runs; `control/` reads their options. */
const CONTROL_WORDS = [
  "status",
  "logs",
  "restart",
  "stop",
  "reload",
  "self-restart",
  "attach",
  "events",
  "completions",
];

/** Words whose arguments belong to the job engine's own command line. */
const JOB_WORDS = ["engine", "worker", "job", "workers"];

/**
 * The command that arguments ask for.
 *
 * @throws {UserError} for what can't be understood, with the closest option and the possible ones
 */
export function parseCommand(args: readonly string[]): Command {
  const word = args[0] !== undefined && !args[0].startsWith("-") ? args[0] : null;
  if (word !== null && JOB_WORDS.includes(word)) return { kind: "jobs", args: [...args] };
  if (word !== null && !(word in WORDS)) {
    const guess = closest(word, Object.keys(WORDS));
    throw new UserError(
      `There is no command "${word}"${guess === null ? "" : `; did you mean "${guess}"?`} ` +
        `The commands are ${Object.keys(WORDS).join(", ")}; --help explains them.`,
    );
  }
  if (word !== null && CONTROL_WORDS.includes(word)) return { kind: "control", word, args: args.slice(1) };
  const flags = readFlags(word === null ? args : args.slice(1), MAIN_FLAGS);
  const { on, text, words: rest } = flags;
  const options: RunOptions = { ...homeOptions(flags), dashboard: !on.has("no-dashboard") };
  if (on.has("help")) return { kind: "help", options };
  if (on.has("version")) return { kind: "version" };
  if (word === "env") {
    if (rest.length !== 1) {
      throw new UserError("env needs the name of one service; for example: env db --explain.");
    }
    return { kind: "env", name: rest[0], options };
  }
  if (rest.length > 0 && word !== "start") {
    throw new UserError(
      `"${rest[0]}" is one word too many; services are named with --services ${rest.join(",")}.`,
    );
  }
  if (word === "init" || word === "setup") return { kind: word, options };
  const json = on.has("json");
  if (word === "check") return { kind: "check", json, options };
  if (on.has("list")) return { kind: "list", json, options };
  if (json) throw new UserError("--json goes with --list.");
  if (text.service !== undefined) {
    if (text.services !== undefined || word === "start") {
      throw new UserError(
        "--service runs one service in the foreground, --services several; give one of them.",
      );
    }
    return { kind: "foreground", name: text.service, options };
  }
  const names = text.services === undefined ? [] : [...new Set(text.services.split(",").map(trim))];
  if (names.includes("")) {
    throw new UserError("--services holds an empty name; for example --services db,web.");
  }
  const more = word === "start" || on.has("detach") || on.has(BACKGROUND_FLAG) ||
    Object.keys(START_FLAGS).some((name) => text[name] !== undefined);
  if (!more) return { kind: "run", names, options };
  const all = [...new Set([...names, ...rest])];
  return { kind: "start", names: all, named: word === "start" && all.length > 0, options, flags };
}

/**
 * Reads options as a command defines them.
 *
 * @throws {UserError} for one it does not have, with the closest and the possible ones, and for a missing value
 */
export function readFlags(args: readonly string[], spec: FlagSpec): Flags {
  const known = [...spec.boolean, ...Object.keys(spec.text)];
  const flags = parseArgs(args, {
    boolean: [...spec.boolean, BACKGROUND_FLAG],
    string: Object.keys(spec.text),
    collect: Object.keys(spec.text),
    alias: { ...spec.letters },
    unknown: (option: string) => {
      if (!option.startsWith("-")) return true;
      const name = option.replace(/^-+/, "").replace(/=.*/, "");
      const guess = closest(name, known);
      throw new UserError(
        `There is no option ${option.replace(/=.*/, "")}${
          guess === null ? "" : `; did you mean --${guess}?`
        } ` +
          `The options are ${known.map((name) => `--${name}`).join(", ")}.`,
      );
    },
  });
  const text: Record<string, string | undefined> = {};
  for (const [name, example] of Object.entries(spec.text)) {
    const [value, second]: unknown[] = flags[name] ?? [];
    if (second !== undefined) throw new UserError(`--${name} is given more than once; give it once.`);
    if (value === "") throw new UserError(`--${name} needs a value; for example --${name} ${example}.`);
    if (typeof value === "string") text[name] = value;
  }
  const on = new Set([...spec.boolean, BACKGROUND_FLAG].filter((name) => flags[name] === true));
  return { on, text, words: flags._.map(String) };
}

/** Where things are, by the options that every command takes. */
export function homeOptions({ text }: Flags): RunOptions {
  return { envFile: text["env-file"], infrastructure: text.infrastructure, config: text.config };
}

const trim = (text: string) => text.trim();

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

/** The services as a table or as JSON. */
async function listServices(json: boolean, options: RunOptions): Promise<string> {
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const { environment } = readEnvironment(home);
  const rows = services.map((service) => ({
    alias: service.name,
    service: service.title,
    port: portOf(service, environment),
    entry: entryPoint(service),
    dependencies: service.dependencies,
  }));
  if (json) return JSON.stringify(rows, null, 2);
  const cells = [
    ["Alias", "Service", "Port", "Entry point", "Depends on"],
    ...rows.map(({ alias, service, port, entry, dependencies }) => [
      alias,
      service,
      `${port ?? "-"}`,
      entry,
      dependencies.join(", ") || "-",
    ]),
  ];
  return await tableText(cells);
}

/** Cells as lines with aligned columns. */
export async function tableText(cells: readonly (readonly string[])[]): Promise<string> {
  if (cells.some((line) => line.some((cell) => !/^[\x20-\x7e]*$/.test(cell)))) await loadMeasure();
  const widths = cells[0].map((_, column) => Math.max(...cells.map((line) => displayWidth(line[column]))));
  return cells.map((line) =>
    line.map((cell, column) => cell + " ".repeat(widths[column] - displayWidth(cell))).join("  ").trimEnd()
  ).join("\n");
}

/** Each variable of a service, with where it comes from and what it hides. */
async function explain(name: string, options: RunOptions): Promise<string> {
  const { environmentText, explainEnvironment } = await import("./setup/env.ts");
  const home = findHome(options);
  const services = await loadServices(home, options.config);
  const service = services.find((candidate) => candidate.name === name);
  if (service === undefined) throw unknownName(name, services.map((candidate) => candidate.name));
  const own = Deno.env.toObject();
  const { environment, dotenv } = readEnvironment(home);
  // A variable that is missing or no port is shown, not refused.
  const port = environment[service.portEnv ?? ""] || "1";
  const told = { ...service, envRequired: [], portEnv: isPort(port) ? service.portEnv : null };
  const explained = explainEnvironment({
    service,
    process: own,
    dotenv,
    final: serviceEnvironment(told, environment, home),
  });
  return environmentText(service, explained, home.envFile);
}

/** Performs a command. @returns the exit status */
async function execute(command: Command): Promise<number> {
  switch (command.kind) {
    case "run":
      await readElsewhere(command.options);
      return await new Orchestrator(command.names, command.options).run();
    case "start": {
      const { start } = await import("./control/start.ts");
      return await start(command);
    }
    case "control": {
      const { control } = await import("./control/commands.ts");
      return await control(command.word, command.args);
    }
    case "foreground":
      return await runSingleService(command.name, command.options);
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
      const { main } = await import("./jobs/cli/main.ts");
      return await main(command.args);
    }
    case "init": {
      const { initServices } = await import("./setup/init.ts");
      const { path, guesses } = await initServices(findHome(command.options));
      print([`Wrote ${path}. What was guessed:`, ...guesses.map((guess) => `  ${guess}`)].join("\n"));
      return 0;
    }
    case "setup": {
      const { setupVenv } = await import("./setup/venv.ts");
      const home = findHome(command.options);
      const { environment } = readEnvironment(home);
      return await setupVenv({ infrastructure: home.infrastructure, environment, findProgram, write: print });
    }
    case "check": {
      const { checkInfrastructure, checkText } = await import("./setup/check.ts");
      const report = await checkInfrastructure({
        home: findHome(command.options),
        config: command.options.config,
        look: {
          expand,
          findProgram,
          findPython,
          isPortFree,
          loadServices,
          portOf,
          readEnvironment,
          resolvePath,
          serviceEnvironment,
        },
      });
      print(command.json ? JSON.stringify(report, null, 2) : checkText(report));
      return report.status;
    }
    case "env":
      print(await explain(command.name, command.options));
      return 0;
  }
}

/**
 * Has a services file that has changed read by another process, which keeps what it means. In this one the parser and
 * the schema library would take 12 MB for as long as services run. Mistakes are told when it is read here.
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

/** The services for the help, which is shown even where they can't be read. */
async function knownServices(options: RunOptions): Promise<readonly Service[]> {
  try {
    return await loadServices(findHome(options), options.config);
  } catch (error) {
    if (error instanceof UserError) return SERVICES;
    throw error;
  }
}

/** Writes a text for the user, at once: a command that only prints needs no queue. */
export function print(text: string, to: { writeSync(bytes: Uint8Array): number } = Deno.stdout): void {
  try {
    for (let bytes = encoder.encode(`${text}\n`); bytes.length > 0;) {
      bytes = bytes.subarray(to.writeSync(bytes));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // `| head` has read enough
  }
}

// ------------------------------------------------------------------------------------------------------------------
// 12. Main
// The only place that ends the process.

/** Runs the command line. @returns the exit status: 0, 1, or 2 for what the user can mend */
export async function main(args: readonly string[]): Promise<number> {
  try {
    return await execute(parseCommand(args));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    print(`orchestrator: ${error.message}`, Deno.stderr);
    return 2;
  }
}

// Not awaited here: what `main` loads later imports this module, and would wait for an await at its top for ever.
if (import.meta.main) main(Deno.args).then((status) => Deno.exit(status));
