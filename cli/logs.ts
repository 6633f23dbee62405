/**
 * `orchestrator logs`: the lines of all services in time order, as text or JSON, once or for as long as the run goes on.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import type { Given } from "../config/command.ts";
import { durationMs } from "../config/command.ts";
import { unknownName, UserError } from "../config/errors.ts";
import { findHome, resolvePath } from "../config/settings.ts";
import { findRun } from "../control/client.ts";
import { OWN } from "../control/log_files.ts";
import type { LogChoice, LogLine } from "../control/log_reader.ts";
import { readLogs, runLogs, sourcesIn } from "../control/log_reader.ts";
import { namePrefix, prefixPaint } from "../terminal/messages.ts";
import { print } from "../terminal/outlet.ts";
import { stripControl, useColors } from "../terminal/text.ts";
import { homeOptions, namesOf } from "./options.ts";

/** Lines shown first when following, by default. */
const FOLLOWED_LINES = 10;

/** Shows logs. @throws {UserError} for a name or an expression that is none */
export async function run(given: Given): Promise<number> {
  const home = findHome(homeOptions(given));
  const { infrastructure } = home;
  const names = namesOf(given);
  const choice = readChoice(names, given);
  const record = await findRun(home);
  const check = (known: readonly string[]) => {
    for (const name of names) if (!known.includes(name)) throw unknownName(name, known);
  };
  const show = (services: readonly string[], lines: Iterable<LogLine>) =>
    writeLines(lines, given.has("json") ? asJson : textFormat(services, choice));
  const named = given.one("log-dir");
  const follow = given.has("follow");
  const present = record === null ? `${infrastructure}/logs` : record.logs;
  const folder = named === undefined ? present : resolvePath(Deno.cwd(), named);
  if (record === null || (folder !== null && !follow)) {
    const sources = folder === null ? [] : sourcesIn(folder);
    if (folder === null || sources.length === 0) {
      throw new UserError(`There are no logs in ${folder}; --log-dir names another folder.`);
    }
    const known = sources.map(({ name }) => name);
    check(known);
    await show(known, readLogs(folder, sources, choice));
    return 0;
  }
  for await (const part of runLogs(infrastructure, record, choice, follow, check)) {
    switch (part.kind) {
      case "lines":
        if (!await show(part.services, part.lines)) return 0;
        break;
      case "gap":
        print("orchestrator: Reading was too slow; some lines are not shown.", Deno.stderr);
        break;
      case "lost":
        print("orchestrator: The orchestrator exited unexpectedly.", Deno.stderr);
        return 1;
    }
  }
  return 0;
}

function readChoice(names: readonly string[], given: Given): LogChoice {
  const [lines, grep] = [given.one("lines"), given.one("grep")];
  const sinceMs = durationMs(given, "since", Infinity);
  if (lines !== undefined && !/^[0-9]{1,9}$/.test(lines)) throw new UserError("-n takes a number of lines.");
  const few = given.has("follow") && sinceMs === Infinity ? FOLLOWED_LINES : Infinity;
  return {
    names: names.length === 0 ? null : new Set(names),
    sinceMs: Date.now() - sinceMs,
    pattern: grep === undefined ? null : readPattern(grep),
    lines: lines === undefined ? few : Number(lines),
  };
}

function readPattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UserError(`--grep needs a regular expression as JavaScript knows them: ${error.message}.`);
  }
}

function timeOf({ timeMs }: LogLine): string | null {
  return timeMs === null ? null : new Date(timeMs).toISOString();
}

function asJson(line: LogLine): string {
  const { source: service, stream, level, text } = line;
  return JSON.stringify({ time: timeOf(line), service, stream, level, text });
}

/** A line behind its service's name, in the colours of a run's own prefixes. */
function textFormat(services: readonly string[], { names }: LogChoice): (line: LogLine) => string {
  const [color, isTerminal] = [useColors(), Deno.stdout.isTerminal()];
  const prefixes = new Map<string, string>();
  const prefixOf = (source: string) => {
    const prefix = namePrefix(source, names === null ? [...services, OWN] : [...names]);
    return color ? prefixPaint(source, services)(prefix) : prefix;
  };
  return (line) => {
    const { source, text } = line;
    const prefix = prefixes.get(source) ?? prefixOf(source);
    prefixes.set(source, prefix);
    const time = timeOf(line);
    return `${time === null ? "" : `${time} `}${prefix} ${isTerminal ? stripControl(text, color) : text}`;
  };
}

/** Writes lines. @returns whether someone still reads */
async function writeLines(lines: Iterable<LogLine>, format: (line: LogLine) => string): Promise<boolean> {
  let text = "";
  const flush = async () => {
    let bytes = encoder.encode(text);
    while (bytes.length > 0) bytes = bytes.subarray(await Deno.stdout.write(bytes));
    text = "";
  };
  try {
    for (const line of lines) {
      text += `${format(line)}\n`;
      if (text.length >= 65_536) await flush();
    }
    await flush();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false; // `| head` has read enough
    throw error;
  }
}
