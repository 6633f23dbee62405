/**
 * Where a run finds its things: the infrastructure folder, the services file, the `.env` file and the environment.
 *
 * @module
 */

import type { Dotenv } from "./dotenv.ts";
import { readDotenv, withDotenv } from "./dotenv.ts";
import { UserError } from "./errors.ts";

/** An environment as a child gets it. */
export type Environment = Readonly<Record<string, string>>;

/** Where a run finds its things. */
export interface Home {
  infrastructure: string;
  envFile: string;
  /** Whether `envFile` was asked for by name, so that its absence is an error. */
  envFileNamed: boolean;
}

/**
 * The folders and files of a run.
 *
 * @throws {UserError} when the infrastructure folder is not there
 */
export function findHome(
  options: { infrastructure?: string | undefined; envFile?: string | undefined } = {},
): Home {
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

/** The infrastructure folder beside this script or binary, or the binary's own folder when it holds `services/`. */
function findInfrastructure(): string {
  const script = () => decodeURIComponent(new URL(Deno.mainModule).pathname);
  const folder = dirname(Deno.realPathSync(Deno.build.standalone ? Deno.execPath() : script()));
  const beside = `${folder}/infrastructure`;
  const inside = exists(`${folder}/services`, "isDirectory") || findServicesFile(folder) !== null;
  return !exists(beside, "isDirectory") && inside ? folder : beside;
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

/** Names under which a services file is looked for, in this order. */
const SERVICES_FILES = ["services.yaml", "services.yml", "services.json"] as const;

/** The services file of an infrastructure folder, or `null` when the built-in services apply. */
export function findServicesFile(infrastructure: string): string | null {
  let names: string[];
  try {
    // One look at the folder: three at files that are not there take longer.
    names = Array.from(Deno.readDirSync(infrastructure), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    // A folder that may be entered but not listed: whoever reads the file reports what is wrong.
    names = SERVICES_FILES.filter((name) => mayBeThere(`${infrastructure}/${name}`));
  }
  const found = SERVICES_FILES.find((name) => names.includes(name));
  return found === undefined ? null : `${infrastructure}/${found}`;
}

function mayBeThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound);
  }
}

/** What `look` finds, or `null` where there is no such file. */
export function ifThere<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    throw error;
  }
}

/** Whether a file or folder is there. What can't be looked at is not: the start that needs it says so. */
export function exists(path: string, kind: "isFile" | "isDirectory"): boolean {
  try {
    return Deno.statSync(path)[kind];
  } catch (error) {
    const { NotFound, NotADirectory, PermissionDenied, FilesystemLoop } = Deno.errors;
    if ([NotFound, NotADirectory, PermissionDenied, FilesystemLoop].some((kind) => error instanceof kind)) {
      return false;
    }
    throw error;
  }
}

export function dirname(path: string): string {
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
