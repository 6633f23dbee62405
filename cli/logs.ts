/**
 * `orchestrator logs`: the lines of all services in time order, from the files and, following, from the event stream.
 *
 * The two meet without a gap or a double line: the stream begins with the exact place in each file up to which it is
 * preceded by that file, and each of its lines tells the place behind it. A reader that was dropped goes on from there.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { durationMs } from "../config/command.ts";
import { findHome } from "../config/settings.ts";
import { findRun } from "../control/find.ts";
import { homeOptions, namesOf } from "./options.ts";
import { concat, decoder, encoder, NEWLINE } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";
import type { Home } from "../config/settings.ts";
import { resolvePath } from "../config/paths.ts";
import { unknownName } from "../config/suggest.ts";
import { reach } from "../control/find.ts";
import type { Position } from "../control/log_files.ts";
import { logFileName, OWN, ownMessage } from "../control/log_files.ts";
import { Mirror } from "../control/mirror.ts";
import type { Message, MessageOf } from "../control/protocol.ts";
import type { RunRecord } from "../control/record.ts";
import { RunFolder } from "../control/record.ts";
import { isSame } from "../process/procfs.ts";
import { print } from "../terminal/outlet.ts";
import { useColors } from "../terminal/palette.ts";
import { stripControl } from "../terminal/text.ts";

/** One line of a log. */
interface Line {
  /** Wall-clock milliseconds; `null` when nobody wrote it down. */
  timeMs: number | null;
  /** The service, or `OWN`. */
  source: string;
  text: string;
  stream?: string;
  level?: string;
}

/** One log: a service's, or the orchestrator's own. */
interface Source {
  name: string;
  file: string;
}

interface Choice {
  names: ReadonlySet<string> | null;
  sinceMs: number;
  pattern: RegExp | null;
  /** How many lines at most, counted from the end. */
  lines: number;
  json: boolean;
}

/** Lines shown first when following and nothing else is said. */
const FOLLOWED_LINES = 10;

/** Shows logs. @throws {UserError} for a name or an expression that is none */
export async function run(given: Given): Promise<number> {
  const home = findHome(homeOptions(given));
  const names = namesOf(given);
  const choice = readChoice(names, given);
  const record = await findRun(home);
  const named = given.one("log-dir");
  const follow = given.has("follow");
  const folder = named !== undefined
    ? resolvePath(Deno.cwd(), named)
    : record === null
    ? `${home.infrastructure}/logs`
    : record.logs;
  if (record === null || (folder !== null && !follow)) {
    const sources = folder === null ? [] : sourcesIn(folder);
    if (sources.length === 0) {
      throw new UserError(`There are no logs in ${folder}; --log-dir names another folder.`);
    }
    checkNames(names, sources.map(({ name }) => name));
    const writer = new LineWriter(choice, sources.map(({ name }) => name));
    await writer.write(history(folder ?? "", sources, choice, new Map(), new Map()));
    return 0;
  }
  return await followRun(home, record, choice, names, follow);
}

function readChoice(names: readonly string[], given: Given): Choice {
  const [lines, grep] = [given.one("lines"), given.one("grep")];
  const sinceMs = durationMs(given, "since", Infinity);
  if (lines !== undefined && !/^[0-9]{1,9}$/.test(lines)) throw new UserError("-n takes a number of lines.");
  const few = given.has("follow") && sinceMs === Infinity ? FOLLOWED_LINES : Infinity;
  return {
    names: names.length === 0 ? null : new Set(names),
    sinceMs: Date.now() - sinceMs,
    pattern: grep === undefined ? null : readPattern(grep),
    lines: lines === undefined ? few : Number(lines),
    json: given.has("json"),
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

function checkNames(names: readonly string[], known: readonly string[]): void {
  for (const name of names) if (!known.includes(name)) throw unknownName(name, known);
}

/** The logs that a folder holds. */
function sourcesIn(folder: string): Source[] {
  try {
    return [...Deno.readDirSync(folder)].filter(({ name, isFile }) => isFile && name.endsWith(".log")).map(
      ({ name }) => ({ name: name.replace(/^-/, "").slice(0, -".log".length), file: name }),
    ).sort((one, other) => one.file < other.file ? -1 : 1);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}

/** Shows what a run has told, and goes on with what it tells. */
async function followRun(
  { infrastructure }: Home,
  record: RunRecord,
  choice: Choice,
  names: readonly string[],
  follow: boolean,
): Promise<number> {
  /** Up to where each log has been shown. */
  let shown: Map<string, Position> | null = null;
  let hello: MessageOf<"hello"> | null = null;
  for (;;) {
    using mirror = await followAgain(record, hello);
    if (mirror === null) {
      // It ended since: what it wrote last stands in the files.
      if (hello?.logs) {
        const writer = new LineWriter(choice, hello.services.map(({ name }) => name));
        const rest = { ...choice, lines: Infinity };
        await writer.write(history(hello.logs.folder, sourcesOf(hello), rest, shown ?? new Map(), new Map()));
      }
      // One that ends well leaves no record behind.
      if (new RunFolder(infrastructure).read()?.run !== record.run) return 0;
      print("orchestrator: The orchestrator exited unexpectedly.", Deno.stderr);
      return 1;
    }
    hello = mirror.hello;
    const services = hello.services.map(({ name }) => name);
    if (shown === null) checkNames(names, [...services, OWN]);
    const writer = new LineWriter(choice, services);
    const marks = marksOf(hello);
    if (hello.logs === null) {
      if (shown === null) await writer.write(keptLines(hello, choice));
      else print("orchestrator: Reading was too slow; some lines are not shown.", Deno.stderr);
    } else {
      const all = shown === null ? choice : { ...choice, lines: Infinity };
      await writer.write(history(hello.logs.folder, sourcesOf(hello), all, shown ?? new Map(), marks));
    }
    if (!follow) return 0;
    shown = marks;
    let over: MessageOf<"exit"> | null = null;
    for await (const message of mirror.messages()) {
      const { lines, file } = linesOf(message);
      if (!await writer.write(lines.filter((line) => fits(line, choice)))) return 0;
      if (file !== null && "log" in message && message.log) shown.set(file, message.log);
      if (message.kind === "exit") over = message;
    }
    if (over !== null && !over.restarting) return 0;
  }
}

/** Follows a run, again after one `before`. @returns `null` when it has ended since */
async function followAgain(record: RunRecord, before: MessageOf<"hello"> | null): Promise<Mirror | null> {
  const recent = record.logs === null && before === null ? 1_000 : 0;
  try {
    return await reach(record, (socket) => Mirror.open(socket, recent));
  } catch (error) {
    if (before === null || !(error instanceof UserError) || isSame(record.orchestrator, record.bootId)) {
      throw error;
    }
    return null;
  }
}

function sourcesOf({ services: rows }: MessageOf<"hello">): Source[] {
  const services = rows.map(({ name }) => ({ name, file: logFileName(name) }));
  const isTaken = services.some(({ name }) => name === OWN);
  return isTaken ? services : [...services, { name: OWN, file: `${OWN}.log` }];
}

function marksOf({ logs }: MessageOf<"hello">): Map<string, Position> {
  const marks = new Map<string, Position>();
  if (logs === null) return marks;
  for (const [name, position] of Object.entries(logs.services)) {
    marks.set(logFileName(name), position ?? NOTHING);
  }
  marks.set(`${OWN}.log`, logs.own ?? NOTHING);
  return marks;
}

/** The place before everything in a log that does not exist yet. */
const NOTHING: Position = { ino: -1, size: 0 };

/** What a message adds to which log. */
function linesOf(message: Message): { lines: Line[]; file: string | null } {
  if (message.kind === "output") {
    const { time: timeMs, service: source, stream, text } = message;
    const lines = text.split("\n").slice(0, -1).map((line) => ({ timeMs, source, stream, text: line }));
    return { lines, file: logFileName(source) };
  }
  if (message.kind !== "log" && message.kind !== "state") return { lines: [], file: null };
  const said = ownMessage(message);
  if (said === null || said.level === "debug") return { lines: [], file: `${OWN}.log` };
  const { level } = said;
  const lines = said.text.split("\n").map((text) => ({ timeMs: message.time, source: OWN, level, text }));
  return { lines, file: `${OWN}.log` };
}

function fits({ source, timeMs, text }: Line, { names, sinceMs, pattern }: Choice): boolean {
  return (names === null || names.has(source)) && (timeMs === null || timeMs >= sinceMs) &&
    (pattern === null || pattern.test(text));
}

/** The lines that the orchestrator itself keeps, where there are no files. Nobody wrote down their times. */
function* keptLines(hello: MessageOf<"hello">, choice: Choice): Generator<Line> {
  for (const { name, recent } of hello.services) {
    const lines = recent.map((text) => ({ timeMs: null, source: name, text })).filter((line) =>
      fits(line, choice)
    );
    yield* choice.lines === Infinity ? lines : lines.slice(Math.max(0, lines.length - choice.lines));
  }
}

/** The lines of all logs from one place to another, in time order. */
function* history(
  folder: string,
  sources: readonly Source[],
  choice: Choice,
  from: ReadonlyMap<string, Position>,
  to: ReadonlyMap<string, Position>,
): Generator<Line> {
  const wanted = sources.filter(({ name }) => choice.names === null || choice.names.has(name));
  const logs = wanted.map((source) => {
    const path = `${folder}/${source.file}`;
    return new Log(path, source.name, from.get(source.file) ?? null, to.get(source.file) ?? null);
  });
  try {
    if (choice.lines === Infinity) {
      yield* merge(logs.map((log) => chosen(log.lines(choice.sinceMs), choice)));
      return;
    }
    const last = [...merge(logs.map((log) => log.last(choice)))];
    yield* last.slice(Math.max(0, last.length - choice.lines));
  } finally {
    for (const log of logs) log.close();
  }
}

function* chosen(lines: Iterable<Line>, choice: Choice): Generator<Line> {
  for (const line of lines) if (fits(line, choice)) yield line;
}

/** Lines of several logs in the order of their times; each log keeps its own order. */
export function* merge(logs: readonly Iterable<Line>[]): Generator<Line> {
  const heads = logs.map((log) => log[Symbol.iterator]()).flatMap((lines) => {
    const { value, done } = lines.next();
    return done ? [] : [{ lines, line: value as Line, timeMs: (value as Line).timeMs ?? -Infinity }];
  });
  while (heads.length > 0) {
    const head = heads.reduce((first, one) => one.timeMs < first.timeMs ? one : first);
    yield head.line;
    const { value, done } = head.lines.next();
    if (done) heads.splice(heads.indexOf(head), 1);
    // A clock that was set back must not hold up what follows.
    else {
      head.line = value;
      head.timeMs = Math.max(head.timeMs, value.timeMs ?? -Infinity);
    }
  }
}

/** One log over its rotated files: opened all at once, newest first, so that a rotation meanwhile moves nothing. */
class Log {
  readonly #source: string;
  /** Oldest first, each with the part that is meant. */
  readonly #files: { file: Deno.FsFile; from: number; to: number; changedMs: number }[] = [];

  constructor(path: string, source: string, from: Position | null, to: Position | null) {
    this.#source = source;
    if (to?.ino === NOTHING.ino) return;
    const found: { file: Deno.FsFile; ino: number; changedMs: number }[] = [];
    for (let number = 0;; number++) {
      try {
        const file = Deno.openSync(number === 0 ? path : `${path}.${number}`, { read: true });
        const { ino, mtime } = file.statSync();
        // The same one again: it was rotated between our two looks.
        if (found.some((other) => other.ino === ino)) file.close();
        else found.unshift({ file, ino: ino ?? 0, changedMs: mtime?.getTime() ?? Infinity });
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
        if (number > 0) break; // the current one may be missing for a moment
      }
    }
    const begin = from === null ? -1 : found.findIndex(({ ino }) => ino === from.ino);
    const end = to === null ? -1 : found.findIndex(({ ino }) => ino === to.ino);
    found.forEach(({ file, ino, changedMs }, index) => {
      const isMeant = index >= begin && (end === -1 || index <= end);
      if (!isMeant) return file.close();
      this.#files.push({
        file,
        changedMs,
        from: from !== null && ino === from.ino ? from.size : 0,
        to: to !== null && ino === to.ino ? to.size : Infinity,
      });
    });
  }

  /** All lines, but files that were closed before `sinceMs`. */
  *lines(sinceMs: number): Generator<Line> {
    for (const part of this.#files) if (part.changedMs >= sinceMs) yield* this.#linesOf(part);
  }

  /** The last lines that fit. */
  last(choice: Choice): Line[] {
    let found: Line[] = [];
    for (const part of this.#files.toReversed()) {
      if (found.length >= choice.lines || part.changedMs < choice.sinceMs) break;
      const before: Line[] = [];
      for (const line of chosen(this.#linesOf(part), choice)) {
        before.push(line);
        if (before.length > 2 * choice.lines + 1_000) before.splice(0, before.length - choice.lines);
      }
      found = [...before, ...found];
    }
    return found.slice(Math.max(0, found.length - choice.lines));
  }

  close(): void {
    for (const { file } of this.#files) file.close();
  }

  *#linesOf({ file, from, to }: { file: Deno.FsFile; from: number; to: number }): Generator<Line> {
    file.seekSync(from, Deno.SeekMode.Start);
    let left = to - from;
    let held: Uint8Array[] = [];
    let timeMs: number | null = null;
    while (left > 0) {
      const chunk = new Uint8Array(Math.min(65_536, left));
      const count = file.readSync(chunk);
      if (count === null) break;
      left -= count;
      let start = 0;
      for (let at = chunk.indexOf(NEWLINE); at !== -1 && at < count; at = chunk.indexOf(NEWLINE, start)) {
        const bytes = chunk.subarray(start, at);
        const line: Line = this.#parse(decoder.decode(held.length === 0 ? bytes : concat([...held, bytes])));
        held = [];
        timeMs = line.timeMs ?? timeMs; // a line that someone else wrote there belongs to the one before
        yield { ...line, timeMs };
        start = at + 1;
      }
      if (start < count) held.push(chunk.slice(start, count));
    }
    // What has no end yet is being written, or was cut off when the system went down: it is no line.
  }

  #parse(text: string): Line {
    const source = this.#source;
    if (text.startsWith("{")) {
      try {
        const { time, text: said, stream, level } = JSON.parse(text);
        return { timeMs: Date.parse(time), source, text: String(said), stream, level };
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error; // a line that only looks like it
      }
    }
    const [head, time] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) /.exec(text) ?? [];
    if (head === undefined || time === undefined) return { timeMs: null, source, text };
    const rest = text.slice(head.length);
    const timeMs = Date.parse(time);
    const level = source === OWN ? /^(debug|info|warn|error) +/.exec(rest)?.[1] : undefined;
    return level === undefined
      ? { timeMs, source, text: rest }
      : { timeMs, source, level, text: rest.slice(6) };
  }
}

const PAINTS = [36, 35, 34, 32, 33] as const;
// the colours of a run's own prefixes, in the same turn

/** Shows lines, as text behind their service's name or as JSON. */
class LineWriter {
  readonly #choice: Choice;
  readonly #services: readonly string[];
  readonly #widest: number;
  readonly #hue = useColors();
  readonly #terminal = Deno.stdout.isTerminal();

  constructor(choice: Choice, services: readonly string[]) {
    this.#choice = choice;
    this.#services = services;
    const shown = choice.names === null ? [...services, OWN] : [...choice.names];
    this.#widest = Math.max(...shown.map((name) => name.length));
  }

  /** Writes lines. @returns whether someone still reads */
  async write(lines: Iterable<Line>): Promise<boolean> {
    let text = "";
    for (const line of lines) {
      text += `${this.#show(line)}\n`;
      if (text.length < 65_536) continue;
      if (!await writeOut(text)) return false;
      text = "";
    }
    return text === "" || await writeOut(text);
  }

  #show({ timeMs, source, text, stream, level }: Line): string {
    const time = timeMs === null ? null : new Date(timeMs).toISOString();
    if (this.#choice.json) return JSON.stringify({ time, service: source, stream, level, text });
    const prefix = `[${source.padStart(this.#widest)}]`;
    const index = this.#services.indexOf(source);
    const code = index === -1 ? 1 : PAINTS[index % PAINTS.length];
    const painted = this.#hue ? `\x1b[${code}m${prefix}\x1b[0m` : prefix;
    const shown = this.#terminal ? stripControl(text, this.#hue) : text;
    return `${time === null ? "" : `${time} `}${painted} ${shown}`;
  }
}

async function writeOut(text: string): Promise<boolean> {
  try {
    for (let bytes = encoder.encode(text); bytes.length > 0;) {
      bytes = bytes.subarray(await Deno.stdout.write(bytes));
    }
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return false; // `| head` has read enough
    throw error;
  }
}
