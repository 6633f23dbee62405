/**
 * Writes a first services file from what an infrastructure folder holds.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import type { Dotenv } from "../config/dotenv.ts";
import { readDotenv } from "../config/dotenv.ts";
import { systemReason, UserError } from "../config/errors.ts";
import { isPort } from "../config/launch.ts";
import { servicesJsonSchema } from "../config/schema.ts";
import { findHome, findServicesFile } from "../config/settings.ts";
import { print } from "../terminal/outlet.ts";
import { homeOptions } from "./options.ts";

/** Writes a first services file. @throws {UserError} when there is one */
export async function run(given: Given): Promise<number> {
  const { path, guesses } = await initServices(findHome(homeOptions(given)));
  print([`Wrote ${path}. What was guessed:`, ...guesses.map((guess) => `  ${guess}`)].join("\n"));
  return 0;
}

/** A service as it is guessed: only what can be seen. */
interface Guess {
  name: string;
  title: string;
  folder: string;
  command: readonly string[];
  port: number | null;
  portEnv: string | null;
}

/** Where a service's code may lie, seen from the infrastructure folder; `*` is the folder that names the service. */
const PLACES = ["services/*/src", "services/*", "*/src", "*", "."];

const PYTHON_ENTRIES = ["main.py", "app.py"];

const PACKAGE_MANAGERS = { "pnpm-lock.yaml": "pnpm", "yarn.lock": "yarn" };

const NOT_SERVICES = ["node_modules", "venv", "services", "src", "__pycache__"];

/**
 * Writes `services.yaml` from the Python entry points, the start scripts of `package.json` and the port variables of
 * `.env` found in the folder. An existing services file stays as it is.
 *
 * @returns the path and the text of the file, and what was guessed for it, one sentence a guess
 * @throws {UserError} when there is a services file already, nothing that could be a service, or no right to write
 */
export async function initServices({ infrastructure }: { infrastructure: string }) {
  const existing = findServicesFile(infrastructure);
  if (existing !== null) {
    throw new UserError(`There is a services file already: ${existing}; init leaves it as it is.`);
  }
  const guesses: string[] = [];
  const services = findServices(infrastructure);
  if (services.length === 0) {
    throw new UserError(
      `Found nothing to start in ${infrastructure}: looked for services/*/src/main.py, */main.py, app.py and ` +
        `package.json with a start script; docs/services.md explains how to write services.yaml by hand.`,
    );
  }
  givePorts(services, infrastructure, guesses);
  const path = `${infrastructure}/services.yaml`;
  const schema = await findSchema(infrastructure, guesses);
  const text = servicesText(services, schema);
  await writeNew(path, text);
  guesses.push("Dependencies can't be detected: add them, then run orchestrator check.");
  return { path, text, guesses: [...services.map(describeGuess), ...guesses] };
}

function findServices(infrastructure: string): Guess[] {
  const found: Guess[] = [];
  const add = (folder: string, owner: string, command: readonly string[]) => {
    const base = nameFor(owner);
    let name = base;
    for (let i = 2; found.some((other) => other.name === name); i++) name = `${base}-${i}`;
    found.push({ name, title: titleFor(owner, name), folder, command, port: null, portEnv: null });
  };
  for (const place of PLACES) {
    for (const { folder, owner } of expandPlace(infrastructure, place)) {
      const files = namesIn(`${infrastructure}/${folder}`);
      const entry = PYTHON_ENTRIES.find((name) => files.includes(name));
      if (entry) add(folder, owner, ["python", entry]);
      if (files.includes("package.json") && hasStartScript(`${infrastructure}/${folder}/package.json`)) {
        const lock = Object.entries(PACKAGE_MANAGERS).find(([file]) => files.includes(file));
        add(folder, owner, [lock?.[1] ?? "npm", "start"]);
      }
    }
  }
  return found;
}

/** The folders that a place stands for, sorted, each with the folder name that names its service. */
function expandPlace(infrastructure: string, place: string): { folder: string; owner: string }[] {
  const root = infrastructure.split("/").findLast((part) => part !== "") ?? "";
  if (!place.includes("*")) return [{ folder: place, owner: root }];
  const [before, after] = place.split("*");
  return namesIn(`${infrastructure}/${before}`)
    .filter((name) => !name.startsWith(".") && !NOT_SERVICES.includes(name))
    .map((owner) => ({ folder: `${before}${owner}${after}`, owner }));
}

function namesIn(folder: string): string[] {
  try {
    return Array.from(Deno.readDirSync(folder), ({ name }) => name).sort();
  } catch (error) {
    const { NotFound, NotADirectory, PermissionDenied } = Deno.errors;
    // What can't be looked into holds nothing to find.
    if ([NotFound, NotADirectory, PermissionDenied].some((kind) => error instanceof kind)) return [];
    throw error;
  }
}

function hasStartScript(path: string): boolean {
  try {
    return typeof JSON.parse(Deno.readTextFileSync(path))?.scripts?.start === "string";
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof Deno.errors.PermissionDenied) return false; // npm could not start it either
    throw error;
  }
}

/** A name as the services file allows it, from a folder's: `database_service` is `database`. */
function nameFor(folder: string): string {
  const short = folder.toLowerCase().replace(/[_\s-]*service$/, "") || folder.toLowerCase();
  const name = short.replace(/[\s,/\\\p{Cc}]+/gu, "-").replace(/^[.-]+/, "").slice(0, 50);
  return name === "" ? "service" : name === "orchestrator" ? "orchestrator-1" : name;
}

function titleFor(folder: string, name: string): string {
  const words = folder.split(/[\s_\p{Cc}-]+/u).filter((word) => word !== "");
  return words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join(" ") || name;
}

/** Gives each service the port variable that carries its name. */
function givePorts(services: Guess[], infrastructure: string, guesses: string[]) {
  const source = [".env", ".env.example"].find((name) => namesIn(infrastructure).includes(name));
  if (source === undefined) return;
  const path = `${infrastructure}/${source}`;
  let entries: Dotenv["entries"];
  try {
    entries = readDotenv(path, {}).entries;
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    guesses.push(`No ports: ${error.message}`);
    return;
  }
  const isTaken = (variable: string) => services.some(({ portEnv }) => portEnv === variable);
  for (const service of services) {
    const word = service.name.toUpperCase().replace(/[^A-Z0-9]+/g, "_");
    const variable = [`${word}_SERVICE_PORT`, `${word}_PORT`].find((name) => entries.has(name));
    if (variable === undefined || isTaken(variable)) continue;
    service.portEnv = variable;
    const text = entries.get(variable) ?? "";
    const other = services.find(({ port }) => port === Number(text));
    if (!isPort(text)) guesses.push(`${variable} in ${path} is not a port: correct it, or add port.`);
    else if (other === undefined) service.port = Number(text);
    else guesses.push(`${variable} and ${other.portEnv} are the same port: give each its own.`);
  }
  for (const name of entries.keys()) {
    if (!name.endsWith("_SERVICE_PORT") || isTaken(name)) continue;
    guesses.push(`${name} in ${path} belongs to no service that was found.`);
  }
}

function describeGuess({ name, folder, command, portEnv, port }: Guess): string {
  const where = portEnv === null ? "" : `, port ${port ?? "?"} (${portEnv})`;
  return `${name}: ${command.join(" ")} in ${folder === "." ? "the folder itself" : folder}${where}`;
}

/** The schema that editors check the file with, as seen from it; a copy is put beside it where there is none. */
async function findSchema(infrastructure: string, guesses: string[]): Promise<string> {
  const name = "services.schema.json";
  if (namesIn(infrastructure).includes(name)) return name;
  if (namesIn(`${infrastructure}/..`).includes(name)) return `../${name}`;
  await writeNew(`${infrastructure}/${name}`, await servicesJsonSchema());
  guesses.push(`${infrastructure}/${name} lets your editor complete and check services.yaml.`);
  return name;
}

function servicesText(services: readonly Guess[], schema: string): string {
  const blocks = services.map((service) =>
    [
      `  - name: ${scalar(service.name)}`,
      `    title: ${scalar(service.title)}`,
      `    command: [${service.command.map(scalar).join(", ")}]`,
      ...service.folder === "." ? [] : [`    working_dir: ${scalar(service.folder)}`],
      ...service.port === null ? [] : [`    port: ${service.port}`],
      ...service.portEnv === null ? [] : [`    port_env: ${service.portEnv}`],
    ].join("\n")
  );
  return `# yaml-language-server: $schema=${schema}
# Written by "orchestrator init" from what it found here. Worth adding: dependencies, health, restart_policy.
services:
${blocks.join("\n\n")}
`;
}

/** A text as YAML reads it back: JSON is YAML, and needed only where a plain word would mean something else. */
function scalar(text: string): string {
  const isPlain = /^[\p{L}_][\p{L}\p{N}_./ -]*[\p{L}\p{N}_]$/u.test(text) &&
    !/^(true|false|null)$/i.test(text);
  return isPlain ? text : JSON.stringify(text);
}

/** Writes a file that must not be there yet: whole or not at all, and never over another. */
async function writeNew(path: string, text: string): Promise<void> {
  const draft = `${path}.${crypto.randomUUID()}`;
  try {
    await Deno.writeTextFile(draft, text, { createNew: true });
    await Deno.link(draft, path); // unlike a rename, this fails when the name is taken
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) {
      throw new UserError(`There is a file ${path} already; init leaves it as it is.`);
    }
    if (!(error instanceof Error)) throw error;
    throw new UserError(`Cannot write ${path}: ${systemReason(error)}.`);
  } finally {
    await Deno.remove(draft).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it was never made
    });
  }
}
