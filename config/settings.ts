/**
 * Where a run finds its things: the infrastructure folder, the services file, the `.env` file and the environment.
 *
 * @module
 */

import type { Dotenv } from "./dotenv.ts";
import { readDotenv, withDotenv } from "./dotenv.ts";
import { UserError } from "./errors.ts";

export type Environment = Readonly<Record<string, string>>;

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

/**
 * The process environment with the `.env` file over it, what that file says (`null` where there is none), and what was
 * odd about it, in sentences without values.
 *
 * @throws {UserError} when the file can't be read, or is missing although it was named
 */
export function readEnvironment(
  home: Home,
): { environment: Environment; dotenv: Dotenv | null; warnings: string[] } {
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

/** The services file of an infrastructure folder, or `null` when the built-in services apply. */
export function findServicesFile(infrastructure: string): string | null {
  const names = ["services.yaml", "services.yml", "services.json"];
  return names.map((name) => `${infrastructure}/${name}`).find(mayBeThere) ?? null;
}

/** Whether something is there, be it a broken link, or what can't be looked at: whoever reads it reports why. */
function mayBeThere(path: string): boolean {
  try {
    return ifThere(() => Deno.lstatSync(path)) !== null;
  } catch {
    return true;
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
    return ifThere(() => Deno.statSync(path)[kind]) ?? false;
  } catch (error) {
    const { PermissionDenied, FilesystemLoop } = Deno.errors;
    if (error instanceof PermissionDenied || error instanceof FilesystemLoop) return false;
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
