/**
 * Options that several commands take, as values.
 *
 * @module
 */

import type { Given, Option } from "../config/command.ts";
import { durationMs } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { parseLevel } from "../config/levels.ts";
import { resolvePath } from "../config/settings.ts";
import type { LogOptions } from "../control/log_files.ts";
import type { RunOptions } from "../control/run_options.ts";

/** Said by `--detach` to the run that it starts. */
export const BACKGROUND_OPTION = "in-background";

export const JSON_OPTION: Option = { name: "json", does: "the same as JSON, for scripts" };

export const WAIT_OPTION: Option = {
  name: "wait",
  value: "TIME",
  example: "60s",
  does: "wait no longer than this (exit 1); 0: not at all",
};

export const LOG_DIR_OPTION: Option = {
  name: "log-dir",
  value: "DIR",
  example: "infrastructure/logs",
  does: "the folder of the log files; default logs/ in the infrastructure folder",
};

/** Where things are, by the options that every command takes. */
export function homeOptions(given: Given): RunOptions {
  return {
    envFile: given.one("env-file"),
    infrastructure: given.one("infrastructure"),
    config: given.one("config"),
    dashboard: !given.has("no-dashboard"),
  };
}

/** The longest wait in milliseconds; without the option there is none. @throws {UserError} when it is no duration */
export function waitLimitMs(given: Given): number {
  return durationMs(given, "wait", Infinity);
}

/** The names of services in the words of a command, also such as are joined by commas. */
export function namesOf(given: Given): string[] {
  return [...new Set(given.words.flatMap((text) => text.split(",")).filter(Boolean))];
}

/** What the options say about logs on disk, or `null` when they say nothing. @throws {UserError} for a wrong value */
export function logOptions(given: Given): Partial<LogOptions> | null {
  const options: Partial<LogOptions> = {};
  const folder = given.one("log-dir");
  const format = given.one("log-format");
  const level = given.one("log-level");
  const size = given.one("log-size");
  const keep = given.one("log-keep");
  if (folder !== undefined) options.folder = resolvePath(Deno.cwd(), folder);
  if (format !== undefined) {
    if (format !== "text" && format !== "json") throw new UserError("--log-format is text or json.");
    options.format = format;
  }
  if (level !== undefined) options.level = parseLevel(level, "--log-level");
  if (size !== undefined) options.maxBytes = parseSize(size);
  if (keep !== undefined) {
    if (!/^[0-9]{1,3}$/.test(keep)) throw new UserError("--log-keep is a number of files from 0 to 999.");
    options.keep = Number(keep);
  }
  return Object.keys(options).length === 0 ? null : options;
}

/**
 * Bytes of a size: `500000`, `64KiB`, `10MiB`, `1GiB`; `k`, `M` and `G` alone mean the same.
 *
 * @throws {UserError} for anything else
 */
export function parseSize(text: string): number {
  const [, amount, unit] = /^([0-9]+(?:\.[0-9]+)?) ?([kmg]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  const bytes = Math.floor(Number(amount) * 1_024 ** " kmg".indexOf(unit?.toLowerCase() || " "));
  if (bytes >= 1_024) return bytes;
  throw new UserError(`"${text}" is not a size for --log-size; use 1KiB or more, for example 10MiB.`);
}
