/**
 * What one start of a service needs: program, arguments, folder, environment and port.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import { UserError } from "./errors.ts";
import type { Environment, Home } from "./settings.ts";
import { exists, resolvePath } from "./settings.ts";

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

export function isPort(text: string | undefined): boolean {
  return /^\s*[0-9]{1,5}\s*$/.test(text ?? "") && Number(text) >= 1 && Number(text) <= 65_535;
}

const REFERENCE = /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g;

/** The names that a text refers to as `${NAME}`, each once. */
export function referencesIn(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(REFERENCE), ([, name = ""]) => name))];
}

/** `${NAME}` in `text` replaced by that variable, or by nothing when it is not set. */
export function expand(text: string, environment: Environment): string {
  return text.replaceAll(
    REFERENCE,
    (_, name: string) => (Object.hasOwn(environment, name) ? environment[name] : undefined) ?? "",
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
  const known = withPort(environment, port);
  const path = environment.PYTHONPATH
    ? `${home.infrastructure}:${environment.PYTHONPATH}`
    : home.infrastructure;
  const result: Record<string, string> = { ...environment, PYTHONPATH: path, PYTHONUNBUFFERED: "1" };
  if (service.portEnv !== null && port !== null) result[service.portEnv] = String(port);
  for (const [name, value] of Object.entries(service.environment)) result[name] = expand(value, known);
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

export interface Launch {
  program: string;
  args: readonly string[];
  cwd: string;
  environment: Environment;
  port: number | null;
}

function scriptOf([program, script]: readonly string[]): string | undefined {
  return program === "python" && !script?.startsWith("-") ? script : undefined;
}

/** The working folder and, for Python, the script a service starts, as paths from the infrastructure folder. */
export function entryPoint({ command, workingDir }: Service): string {
  if (typeof command === "string") return command;
  const script = scriptOf(command);
  if (script === undefined) return command.join(" ");
  return workingDir === "." ? script : `${workingDir}/${script}`;
}

/**
 * Everything one start of `service` needs.
 *
 * @throws {UserError} when the folder, the script, the program or a setting is missing
 */
export function prepareLaunch(service: Service, environment: Environment, home: Home): Launch {
  const { command, workingDir } = service;
  const { infrastructure } = home;
  const cannot = (why: string) => new UserError(`Cannot start "${service.name}": ${why}.`);
  const cwd = resolvePath(infrastructure, expand(workingDir, environment));
  // Messages show it as it is written: a variable in it may hold a secret.
  const folder = resolvePath(infrastructure, workingDir);
  if (!exists(cwd, "isDirectory")) throw cannot(`its working folder ${folder} does not exist`);
  const own = serviceEnvironment(service, environment, home);
  const port = portOf(service, environment);
  const launch = { cwd, environment: own, port };
  if (typeof command === "string") return { ...launch, program: "/bin/sh", args: ["-c", command] };

  const words = command.map((word) => expand(word, withPort(own, port)));
  const [name = "", ...args] = words;
  const script = scriptOf(words);
  if (script !== undefined && !exists(resolvePath(cwd, script), "isFile")) {
    throw cannot(`its entry point ${resolvePath(folder, command[1] ?? "")} does not exist`);
  }
  if (name === "python") {
    const python = findPython(infrastructure, own);
    if (python !== null) return { ...launch, program: python, args };
    throw cannot(
      `there is no Python; install python3, then make a venv with: python3 -m venv ${infrastructure}/venv`,
    );
  }
  const isPath = name.includes("/");
  const program = isPath ? resolvePath(cwd, name) : findProgram(name, own);
  if (program !== null && exists(program, "isFile")) return { ...launch, program, args };
  throw cannot(
    `there is no program ${command[0]}${isPath ? "" : " on PATH"}; install it or correct its command`,
  );
}

/** An environment in which `${PORT}` is known. */
function withPort(environment: Environment, port: number | null): Environment {
  return port === null ? environment : { ...environment, PORT: String(port) };
}
