/**
 * A start with more to it than the plain command: with logs, in the background, or in an orchestrator that runs.
 *
 * @module
 */

import type { Command, Flags } from "./arguments.ts";
import { BACKGROUND_FLAG } from "./arguments.ts";
import { readElsewhere } from "./read_elsewhere.ts";
import { parseDuration } from "../config/duration.ts";
import { UserError } from "../config/errors.ts";
import { findHome } from "../config/settings.ts";
import { resolvePath } from "../config/paths.ts";
import type { LogOptions } from "../control/log_files.ts";
import { LEVELS } from "../control/log_files.ts";
import type { Runs } from "./runs.ts";
import type { Level } from "../supervisor/model.ts";

/** Performs such a start. @returns the exit status @throws {UserError} for what the user can mend */
export async function start(command: Extract<Command, { kind: "start" }>, runs: Runs): Promise<number> {
  const { names, named, flags } = command;
  const detached = flags.on.has(BACKGROUND_FLAG);
  const logs = readLogOptions(flags);
  const limitMs = flags.text.wait === undefined ? Infinity : parseDuration(flags.text.wait);
  if (!detached) {
    if (named || flags.on.has("detach")) {
      const { detach, startThere } = await import("./detach.ts");
      const home = findHome(command.options);
      const status = named ? await startThere(home, names, limitMs) : null;
      if (status !== null) return status;
      if (flags.on.has("detach")) return await detach(home, command.options.config, limitMs);
    }
    if (flags.text.wait !== undefined) {
      throw new UserError("--wait goes with --detach, or with names to start in an orchestrator that runs.");
    }
  }
  await readElsewhere(command.options);
  const background = { ...command.options, detached, ...(logs === null ? {} : { logs }) };
  return await runs.run(names, background);
}

/** What the options say about logs, or `null` when they say nothing. */
function readLogOptions({ text }: Flags): Partial<LogOptions> | null {
  const options: Partial<LogOptions> = {};
  const { "log-dir": folder, "log-format": format, "log-level": level, "log-size": size, "log-keep": keep } =
    text;
  if (folder !== undefined) options.folder = resolvePath(Deno.cwd(), folder);
  if (format !== undefined) {
    if (format !== "text" && format !== "json") throw new UserError(`--log-format is text or json.`);
    options.format = format;
  }
  if (level !== undefined) options.level = parseLevel(level);
  if (size !== undefined) options.maxBytes = parseSize(size);
  if (keep !== undefined) {
    if (!/^[0-9]{1,3}$/.test(keep)) throw new UserError("--log-keep is a number of files from 0 to 999.");
    options.keep = Number(keep);
  }
  return Object.keys(options).length === 0 ? null : options;
}

function parseLevel(text: string): Level {
  const level = LEVELS.find((known) => known === text);
  if (level === undefined) throw new UserError(`--log-level is one of ${LEVELS.join(", ")}.`);
  return level;
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
  throw new UserError(`"${text}" is no size for --log-size; use 1KiB or more, for example 10MiB.`);
}
