/**
 * What the commands of jobs share: where they write, the settings that options stand over, and signals that stop them.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import { readEnvironment } from "../../config/settings.ts";
import { Outlet } from "../../terminal/outlet.ts";

/** Where a command writes that goes on for long. */
export interface Streams {
  out: Outlet;
  err: Outlet;
}

const GATHER_MS = 25;

/** Runs a command with its streams and writes what it has to say before it returns or fails. */
export async function withStreams(work: (streams: Streams) => Promise<number>): Promise<number> {
  const streams = { out: new Outlet(Deno.stdout, GATHER_MS), err: new Outlet(Deno.stderr, GATHER_MS) };
  try {
    return await work(streams);
  } finally {
    await streams.out.flush();
    await streams.err.flush();
  }
}

/** The variables of a command. */
export interface Variables {
  /** The process's variables, over them the `.env` file, over that the options. */
  environment: Record<string, string>;
  /** An error about a variable that names the option in its place where that one was used. */
  inWordsOfOptions(error: Error): UserError;
}

/**
 * Reads the variables of a command.
 *
 * @throws {UserError} for an `.env` file that can't be read, or is missing although it was named
 */
export function readVariables(given: Given): Variables {
  const options = given.command.options ?? [];
  const infrastructure = given.one("infrastructure") ?? "infrastructure";
  const envFile = given.one("env-file") ?? `${infrastructure}/.env`;
  const home = { infrastructure, envFile, envFileNamed: given.has("env-file") };
  const environment: Record<string, string> = { ...readEnvironment(home).environment };
  const used = options.flatMap(({ name, variable }) => {
    const value = given.one(name);
    return value === undefined || variable === undefined ? [] : [{ name, variable, value }];
  });
  for (const { variable, value } of used) environment[variable] = value;
  return {
    environment,
    inWordsOfOptions: ({ message }) =>
      new UserError(
        used.reduce(
          (text, { name, variable }) => text.replaceAll(new RegExp(`\\b${variable}\\b`, "g"), `--${name}`),
          message,
        ),
      ),
  };
}

/** A number that an option gives. @throws {UserError} when it is out of its range */
export function numberOf(
  given: Given,
  option: string,
  least: number,
  most: number,
  fallback: number,
): number {
  const text = given.one(option);
  const value = Number(text ?? fallback);
  if (value >= least && value <= most) return value;
  throw new UserError(`--${option} ${text} cannot be used; give a number from ${least} to ${most}.`);
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

/** Resolves when a signal fires. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
