/**
 * Reads logs: the lines of all services in time order, from the files and, following, from the event stream.
 *
 * The two meet without a gap or a double line: the stream begins with the exact place in each file up to which it is
 * preceded by that file, and each of its lines gives the place behind it. A reader that was dropped goes on from there.
 *
 * @module
 */

import { concat, decoder, NEWLINE } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";
import { LEVELS } from "../config/levels.ts";
import { isSame } from "../process/procfs.ts";
import { reach } from "./client.ts";
import type { Position } from "./log_files.ts";
import { logFileName, OWN, ownMessage } from "./log_files.ts";
import { Mirror } from "./mirror.ts";
import type { Message, MessageOf } from "./protocol.ts";
import type { RunRecord } from "./run_folder.ts";
import { RunFolder } from "./run_folder.ts";

/** One line of a log. */
export interface LogLine {
  /** Wall-clock milliseconds; `null` when nobody wrote it down. */
  timeMs: number | null;
  /** The service, or `OWN`. */
  source: string;
  text: string;
  stream?: string;
  level?: string;
}

/** Which lines are wanted. */
export interface LogChoice {
  /** Of these services; `null`: of all, and the orchestrator's own. */
  names: ReadonlySet<string> | null;
  sinceMs: number;
  pattern: RegExp | null;
  /** How many lines at most, counted from the end. */
  lines: number;
}

/** One log: a service's, or the orchestrator's own. */
export interface LogSource {
  name: string;
  file: string;
}

/** What a run's logs hold, piece by piece. Lines are to be read before the next piece is asked for. */
export type LogPart =
  | { kind: "lines"; services: readonly string[]; lines: Iterable<LogLine> }
  // Reading was too slow, and there are no files that hold what was missed.
  | { kind: "gap" }
  // The orchestrator exited unexpectedly.
  | { kind: "lost" };

/** The place before everything in a log that does not exist yet. */
const NOTHING: Position = { ino: -1, size: 0 };

/** The level before the text of the orchestrator's own lines. */
const OWN_LEVEL = new RegExp(`^(${LEVELS.join("|")}) +`);

const NONE: ReadonlyMap<string, Position> = new Map();

/** The logs that a folder holds. */
export function sourcesIn(folder: string): LogSource[] {
  try {
    return [...Deno.readDirSync(folder)].filter(({ name, isFile }) => isFile && name.endsWith(".log")).map(
      ({ name }) => ({ name: name.replace(/^-/, "").slice(0, -".log".length), file: name }),
    ).sort((one, other) => one.file < other.file ? -1 : 1);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}

/**
 * The logs of a run: what there is and, with `follow`, what comes until it ends.
 *
 * @param check is given the names of all logs once they are known
 */
export async function* runLogs(
  infrastructure: string,
  record: RunRecord,
  choice: LogChoice,
  follow: boolean,
  check: (names: readonly string[]) => void,
): AsyncGenerator<LogPart> {
  /** Up to where each log has been shown. */
  let shown: Map<string, Position> | null = null;
  let hello: MessageOf<"hello"> | null = null;
  let services: readonly string[] = [];
  for (;;) {
    using mirror = await followAgain(record, hello);
    if (mirror === null) {
      // It ended since: what it wrote last stands in the files.
      if (hello?.logs) yield { kind: "lines", services, lines: history(hello, choice, shown, NONE) };
      // One that ends well leaves no record behind.
      if (new RunFolder(infrastructure).read()?.run === record.run) yield { kind: "lost" };
      return;
    }
    hello = mirror.hello;
    services = hello.services.map(({ name }) => name);
    if (shown === null) check([...services, OWN]);
    const marks = marksOf(hello);
    if (hello.logs !== null) yield { kind: "lines", services, lines: history(hello, choice, shown, marks) };
    else if (shown === null) yield { kind: "lines", services, lines: keptLines(hello, choice) };
    else yield { kind: "gap" };
    if (!follow) return;
    shown = marks;
    let end: MessageOf<"exit"> | null = null;
    for await (const message of mirror.messages()) {
      const { lines, file } = linesOf(message);
      if (lines.length > 0) yield { kind: "lines", services, lines: chosen(lines, choice) };
      if (file !== null && "log" in message && message.log) shown.set(file, message.log);
      if (message.kind === "exit") end = message;
    }
    if (end !== null && !end.restarting) return;
  }
}

/** The lines of a run's files. What was shown before, up to `from`, decides no longer how many there are. */
function history(
  hello: MessageOf<"hello">,
  choice: LogChoice,
  from: ReadonlyMap<string, Position> | null,
  to: ReadonlyMap<string, Position>,
): Generator<LogLine> {
  const wanted = from === null ? choice : { ...choice, lines: Infinity };
  return readLogs(hello.logs?.folder ?? "", sourcesOf(hello), wanted, from ?? NONE, to);
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

function sourcesOf({ services: rows }: MessageOf<"hello">): LogSource[] {
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

/** What a message adds to which log. */
function linesOf(message: Message): { lines: LogLine[]; file: string | null } {
  if (message.kind === "output") {
    const { time: timeMs, service: source, stream, text } = message;
    const lines = text.split("\n").slice(0, -1).map((line) => ({ timeMs, source, stream, text: line }));
    return { lines, file: logFileName(source) };
  }
  if (message.kind !== "log" && message.kind !== "state") return { lines: [], file: null };
  const own = ownMessage(message);
  if (own === null || own.level === "debug") return { lines: [], file: `${OWN}.log` };
  const { level } = own;
  const lines = own.text.split("\n").map((text) => ({ timeMs: message.time, source: OWN, level, text }));
  return { lines, file: `${OWN}.log` };
}

function fits({ source, timeMs, text }: LogLine, { names, sinceMs, pattern }: LogChoice): boolean {
  return (names === null || names.has(source)) && (timeMs === null || timeMs >= sinceMs) &&
    (pattern === null || pattern.test(text));
}

/** The lines that the orchestrator itself keeps, where there are no files. Nobody wrote down their times. */
function* keptLines(hello: MessageOf<"hello">, choice: LogChoice): Generator<LogLine> {
  for (const { name, recent } of hello.services) {
    const lines = [...chosen(recent.map((text) => ({ timeMs: null, source: name, text })), choice)];
    yield* lines.slice(Math.max(0, lines.length - choice.lines));
  }
}

/** The lines of all logs, in time order; with places, only those from one to the other. */
export function* readLogs(
  folder: string,
  sources: readonly LogSource[],
  choice: LogChoice,
  from: ReadonlyMap<string, Position> = NONE,
  to: ReadonlyMap<string, Position> = NONE,
): Generator<LogLine> {
  const wanted = sources.filter(({ name }) => choice.names === null || choice.names.has(name));
  const logs = wanted.map((source) => {
    const path = `${folder}/${source.file}`;
    return new RotatedLog(path, source.name, from.get(source.file) ?? null, to.get(source.file) ?? null);
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

function* chosen(lines: Iterable<LogLine>, choice: LogChoice): Generator<LogLine> {
  for (const line of lines) if (fits(line, choice)) yield line;
}

/** Lines of several logs in the order of their times; each log keeps its own order. */
export function* merge(logs: readonly Iterable<LogLine>[]): Generator<LogLine> {
  const heads = logs.map((log) => log[Symbol.iterator]()).flatMap((lines) => {
    const { value, done } = lines.next();
    return done ? [] : [{ lines, line: value as LogLine, timeMs: (value as LogLine).timeMs ?? -Infinity }];
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
class RotatedLog {
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
  *lines(sinceMs: number): Generator<LogLine> {
    for (const part of this.#files) if (part.changedMs >= sinceMs) yield* this.#linesOf(part);
  }

  /** The last lines that fit. */
  last(choice: LogChoice): LogLine[] {
    let found: LogLine[] = [];
    for (const part of this.#files.toReversed()) {
      if (found.length >= choice.lines || part.changedMs < choice.sinceMs) break;
      const before: LogLine[] = [];
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

  *#linesOf({ file, from, to }: { file: Deno.FsFile; from: number; to: number }): Generator<LogLine> {
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
        const line: LogLine = this.#parse(
          decoder.decode(held.length === 0 ? bytes : concat([...held, bytes])),
        );
        held = [];
        timeMs = line.timeMs ?? timeMs; // a line that someone else wrote there belongs to the one before
        yield { ...line, timeMs };
        start = at + 1;
      }
      if (start < count) held.push(chunk.slice(start, count));
    }
    // What has no end yet is being written, or was cut off when the system went down: it is no line.
  }

  #parse(text: string): LogLine {
    const source = this.#source;
    if (text.startsWith("{")) {
      try {
        const { time, stream, level, text: written } = JSON.parse(text);
        return { timeMs: Date.parse(time), source, text: String(written), stream, level };
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error; // a line that only looks like it
      }
    }
    const [head, time] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) /.exec(text) ?? [];
    if (head === undefined || time === undefined) return { timeMs: null, source, text };
    const rest = text.slice(head.length);
    const timeMs = Date.parse(time);
    const level = source === OWN ? OWN_LEVEL.exec(rest)?.[1] : undefined;
    return level === undefined
      ? { timeMs, source, text: rest }
      : { timeMs, source, level, text: rest.slice(6) };
  }
}
