/**
 * Where a run finds its things: the infrastructure folder, the `.env` file and the environment.
 *
 * @module
 */

import type { Dotenv } from "./dotenv.ts";
import { readDotenv, withDotenv } from "./dotenv.ts";
import { UserError } from "./errors.ts";
import { dirname, exists, findServicesFile, resolvePath } from "./paths.ts";

/** An environment as a child gets it. */
export type Environment = Readonly<Record<string, string>>;

/** Where a run finds its things. */
export interface Home {
  infrastructure: string;
  envFile: string;
  /** Whether `envFile` was asked for by name, so that its absence is a fault. */
  envFileNamed: boolean;
}

/** The infrastructure folder beside this script or binary, or the binary's own folder when it holds `services/`. */
export function findInfrastructure(): string {
  const script = () => decodeURIComponent(new URL(Deno.mainModule).pathname);
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
