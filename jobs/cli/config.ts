/**
 * The engine's settings as variables and options give them.
 *
 * @module
 */

import type { Settings } from "../engine/config.ts";
import { Config } from "../engine/config.ts";
import { ConfigError } from "../model/errors.ts";
import type { Variables } from "./streams.ts";

/** Settings of the engine, and of the log for worker and engine alike. */
export function configOf({ environment, inWordsOfOptions }: Variables): Config {
  const isForPeople = !environment.LOG_FORMAT && Deno.stdout.isTerminal();
  const format: Partial<Settings> = isForPeople ? { logFormat: "text" } : {};
  try {
    return new Config(format, environment);
  } catch (error) {
    if (error instanceof ConfigError) throw inWordsOfOptions(error);
    throw error;
  }
}
