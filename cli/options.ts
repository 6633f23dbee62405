/**
 * What commands get from the entry of the program, and what the options mean that several of them take.
 *
 * @module
 */

import type { Command, Given } from "../config/command.ts";
import { durationMs } from "../config/command.ts";
import type { Service } from "../config/definition.ts";
import { loadServices } from "../config/file.ts";
import type { Home } from "../config/settings.ts";
import { findHome } from "../config/settings.ts";
import type { RunOptions } from "../control/run_options.ts";
import { print } from "../terminal/outlet.ts";

/** What a command gets besides its arguments. */
export interface Program {
  /** The command table. */
  commands: readonly Command<Program>[];
  /** Starts services and stays with them. @returns the exit status */
  run(names: readonly string[], options: RunOptions): Promise<number>;
}

/** Where things are, by the options that every command takes. */
export function homeOptions(given: Given): RunOptions {
  return {
    envFile: given.one("env-file"),
    infrastructure: given.one("infrastructure"),
    config: given.one("config"),
    dashboard: !given.has("no-dashboard"),
  };
}

/** The folder that the options name, with its services. @throws {UserError} when they can't be read */
export async function readServices(given: Given): Promise<{ home: Home; services: readonly Service[] }> {
  const home = findHome(homeOptions(given));
  return { home, services: await loadServices(home, given.one("config")) };
}

/** The longest wait in milliseconds; without the option there is none. @throws {UserError} when it is no duration */
export function waitLimitMs(given: Given): number {
  return durationMs(given, "wait", Infinity);
}

/** The names of services in the words of a command, also such as are joined by commas. */
export function namesOf(given: Given): string[] {
  return [...new Set(given.words.flatMap((text) => text.split(",")).filter(Boolean))];
}

/** Prints what a command found: the value itself with `--json`, otherwise a text. */
export async function show(
  given: Given,
  value: unknown,
  text: () => string | Promise<string>,
): Promise<void> {
  print(given.has("json") ? JSON.stringify(value, null, 2) : await text());
}
