/**
 * Looks for all that would keep services from starting, without starting anything.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import type { Service } from "../config/definition.ts";
import { ServicesFileError, UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import { findPython, portOf, prepareLaunch, referencesIn, serviceEnvironment } from "../config/launch.ts";
import type { Environment, Home } from "../config/settings.ts";
import { exists, findHome, readEnvironment } from "../config/settings.ts";
import { isPortFree, portHolder } from "../process/ports.ts";
import { homeOptions, show } from "./options.ts";
import { isVenvOutdated } from "./setup.ts";

/** Reports every error. @returns 0, or 2 when a start would fail */
export async function run(given: Given): Promise<number> {
  const report = await checkInfrastructure(findHome(homeOptions(given)), given.one("config"));
  await show(given, report, () => checkText(report));
  return report.status;
}

/** One thing to correct (`error`: a start would fail) or to know (`warning`). */
export interface Finding {
  level: "error" | "warning";
  /** What it is about: `services file`, `environment`, `python`, or the name of a service. */
  about: string;
  text: string;
}

/** Everything found, in the order in which one would correct it. */
export interface CheckReport {
  findings: Finding[];
  services: number;
  /** The exit status: 2 when a start would fail, else 0. */
  status: 0 | 2;
}

/** Checks the services file, `.env`, the interpreter, and every service's folder, program, variables and port. */
export async function checkInfrastructure(home: Home, config?: string): Promise<CheckReport> {
  const findings: Finding[] = [];
  const finder = (about: string) => ({
    error: (text: string) => findings.push({ level: "error", about, text }),
    warning: (text: string) => findings.push({ level: "warning", about, text }),
  });

  let services: readonly Service[] = [];
  try {
    services = await loadServices(home, config);
  } catch (error) {
    if (error instanceof ServicesFileError) error.problems.forEach(finder("services file").error);
    else report(error, finder("services file").error);
  }

  let environment: Environment = Deno.env.toObject();
  try {
    const read = readEnvironment(home);
    environment = read.environment;
    read.warnings.forEach(finder("environment").warning);
  } catch (error) {
    report(error, finder("environment").error);
  }

  if (services.some(usesPython)) checkPython(home, environment, finder("python"));
  const ports = new Map<number, string>();
  for (const service of services) {
    if (service.kind !== "external") {
      checkService(service, environment, home, finder(service.name), ports);
    }
  }
  const status = findings.some(({ level }) => level === "error") ? 2 : 0;
  return { findings, services: services.length, status };
}

/** A report as text: one finding a line, and a last line that sums up. */
export function checkText({ findings, services }: CheckReport): string {
  const plural = (count: number, noun: string) => `${count} ${noun}${count === 1 ? "" : "s"}`;
  const counted = (["error", "warning"] as const).map((level) =>
    plural(findings.filter((finding) => finding.level === level).length, level)
  );
  const sum = findings.length === 0 ? "No errors" : counted.join(", ");
  return [
    ...findings.map(({ level, about, text }) => `${level}: ${about}: ${text}`),
    `${sum}; ${plural(services, "service")} checked.`,
  ].join("\n");
}

type Finder = Record<Finding["level"], (text: string) => void>;

/** Passes on the message of an error that users can fix; anything else is a bug and travels up. */
function report(error: unknown, add: (text: string) => void) {
  if (!(error instanceof UserError)) throw error;
  add(error.message);
}

const usesPython = ({ command }: Service) => Array.isArray(command) && command[0] === "python";

function checkPython({ infrastructure }: Home, environment: Environment, { error, warning }: Finder) {
  const python = findPython(infrastructure, environment);
  if (python === null) return void error("there is no Python; install python3, then run orchestrator setup.");
  const requirements = `${infrastructure}/requirements.txt`;
  const venv = python.replace(/\/bin\/[^/]*$/, "");
  if (exists(`${venv}/pyvenv.cfg`, "isFile")) {
    if (isVenvOutdated(infrastructure, venv)) {
      warning(`${requirements} is newer than ${venv}; run orchestrator setup.`);
    }
  } else if (exists(requirements, "isFile") && /^\s*[^\s#]/m.test(Deno.readTextFileSync(requirements))) {
    warning(`${requirements} names packages, and there is no venv for them; run orchestrator setup.`);
  }
}

/** @param ports which service claimed which port so far */
function checkService(
  service: Service,
  environment: Environment,
  home: Home,
  { error, warning }: Finder,
  ports: Map<number, string>,
) {
  const { name, portEnv, envRequired } = service;
  let port: number | null = null;
  try {
    port = portOf(service, environment);
  } catch (fault) {
    report(fault, error);
  }
  if (port !== null) {
    const other = ports.get(port);
    if (other !== undefined) {
      error(`port ${port} is also the port of "${other}"; change ${portEnv ?? "one of them"}.`);
    } else if (!isPortFree(port)) {
      const holder = portHolder(port);
      const who = holder === null ? "another process" : `PID ${holder.pid} (${holder.command})`;
      error(`port ${port} is taken by ${who}; stop it or change the port.`);
    }
    ports.set(port, other ?? name);
  }

  // Without what is checked here by itself, so that all faults are reported, not the first one.
  const rest = { ...service, envRequired: [], portEnv: null, port };
  const shared = portEnv === null || port === null ? environment : { ...environment, [portEnv]: `${port}` };
  const own = serviceEnvironment(rest, shared, home);
  const missing = envRequired.filter((variable) => !own[variable]);
  if (missing.length > 0) error(`${missing.join(", ")} must be set; add a line for each to ${home.envFile}.`);
  for (const variable of unsetReferences(service, port === null ? own : { PORT: `${port}`, ...own })) {
    warning(`\${${variable}} is not set (expands to an empty string).`);
  }
  try {
    const { program } = prepareLaunch(rest, shared, home);
    const mode = usesPython(service) ? null : Deno.statSync(program).mode;
    if (((mode ?? 0o111) & 0o111) === 0) error(`${program} may not be executed; chmod +x it.`);
  } catch (fault) {
    report(fault, (message) => {
      const why = message.replace(`Cannot start "${name}": `, "");
      if (!why.startsWith("there is no Python")) error(why); // that is reported once for all
    });
  }
}

function unsetReferences(service: Service, final: Environment): string[] {
  const { command, health } = service;
  const texts = [service.workingDir, ...Object.values(service.environment)];
  if (typeof command !== "string") texts.push(...command);
  if (health?.probe.kind === "http") texts.push(health.probe.url);
  if (health?.probe.kind === "tcp") texts.push(health.probe.port);
  return referencesIn(texts.join("\n")).filter((name) => final[name] === undefined);
}
