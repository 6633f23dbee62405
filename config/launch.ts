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

/** `${NAME}` in `text` replaced by that variable, or by nothing when it is not set. */
export function expand(text: string, environment: Environment): string {
  return text.replaceAll(
    /\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g,
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
  const known = port === null ? environment : { ...environment, PORT: String(port) };
  const own = Object.entries(service.environment).map(([name, value]) =>
    [name, expand(value, known)] as const
  );
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
  const [name = "", ...args] = service.command.map((word) => expand(word, known));
  if (name !== "python") {
    const program = name.includes("/") ? resolvePath(cwd, name) : findProgram(name, launch.environment);
    if (program === null || !exists(program, "isFile")) {
      throw cannot(
        `there is no program ${service.command[0]}${name.includes("/") ? "" : " on PATH"}; ` +
          "install it or correct its command",
      );
    }
    return { ...launch, program, args };
  }
  const script = args[0];
  if (script !== undefined && !script.startsWith("-") && !exists(resolvePath(cwd, script), "isFile")) {
    throw cannot(`its entry point ${resolvePath(told, service.command[1] ?? "")} does not exist`);
  }
  const python = findPython(home.infrastructure, launch.environment);
  if (python === null) {
    throw cannot(
      `there is no Python; install python3, then make a venv with: python3 -m venv ${home.infrastructure}/venv`,
    );
  }
  return { ...launch, program: python, args };
}
