/**
 * What surrounds a command: its variables with the options that stand over them, and the signals that stop it.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { readDotenv, withDotenv } from "../../config/dotenv.ts";
import { UserError } from "../../config/errors.ts";

export type Environment = Record<string, string>;

/**
 * Gives a command its variables: those of the process, over them the `.env` file, over that the options. An error about a
 * variable names the option in its place where that one was used.
 *
 * @throws {UserError} for an `.env` file that can't be read, or is missing although it was named
 */
export async function withVariables(
  given: Given,
  work: (environment: Environment) => Promise<number>,
): Promise<number> {
  const environment = readEnvironment(given);
  const used = (given.command.options ?? []).flatMap(({ name, variable }) => {
    const value = given.one(name);
    return value === undefined || variable === undefined ? [] : [{ name, variable, value }];
  });
  for (const { variable, value } of used) environment[variable] = value;
  try {
    return await work(environment);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    for (const { name, variable } of used) {
      error.message = error.message.replaceAll(new RegExp(`\\b${variable}\\b`, "g"), `--${name}`);
    }
    throw error;
  }
}

function readEnvironment(given: Given): Environment {
  const named = given.one("env-file");
  const own = Deno.env.toObject();
  try {
    const path = named ?? `${given.one("infrastructure") ?? "infrastructure"}/.env`;
    return withDotenv(own, readDotenv(path, own));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    if (named === undefined) return own;
    throw new UserError(`There is no file ${named}; check what --env-file names.`);
  }
}

/** Signals that ask to stop: the first aborts `stop`, the second `force`. */
export function stopSignals(): { stop: AbortSignal; force: AbortSignal } & Disposable {
  const stop = new AbortController();
  const force = new AbortController();
  const onSignal = () => (stop.signal.aborted ? force : stop).abort();
  const names = ["SIGINT", "SIGTERM"] as const;
  for (const name of names) Deno.addSignalListener(name, onSignal);
  return {
    stop: stop.signal,
    force: force.signal,
    [Symbol.dispose]: () => names.forEach((name) => Deno.removeSignalListener(name, onSignal)),
  };
}
