/**
 * Reads logs: the lines of all services in time order, from the files and, following, from the event stream.
 *
 * The two meet without a gap or a double line: the stream begins with the exact place in each file up to which it is
 * preceded by that file, and each of its lines gives the place behind it. A reader that was dropped goes on from there.
 *
 * @module
 */

import { systemReason, UserError } from "../config/errors.ts";
import { LEVELS } from "../config/levels.ts";
import { ifThere } from "../config/settings.ts";
import { isSame } from "../process/procfs.ts";
import { reach } from "./client.ts";
import type { Position } from "./log_files.ts";
import { logFileName, OWN, OWN_FILE, ownMessage } from "./log_files.ts";
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

/** Places in logs, by their files; `null` in one that does not exist yet. */
type Positions = Map<string, Position | null>;

/** What is there, or `null`. @throws {UserError} when it can't be read */
function read<T>(path: string, open: () => T): T | null {
  try {
    return ifThere(open);
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new UserError(`Cannot read ${path}: ${systemReason(error)}.`);
  }
}

/** The logs that a folder holds. */
export function sourcesIn(folder: string): LogSource[] {
  const entries = read(folder, () => [...Deno.readDirSync(folder)]) ?? [];
  const files = entries.filter(({ name, isFile }) => isFile && name.endsWith(".log")).map(({ name }) => name);
  return files.sort().map((file) => ({ name: file.replace(/^-/, "").slice(0, -".log".length), file }));
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
  let shown: Positions | null = null;
  let hello: MessageOf<"hello"> | null = null;
  let services: readonly string[] = [];
  for (;;) {
    using mirror = await followAgain(record, hello);
    if (mirror === null) {
      // It ended since: what it wrote last stands in the files.
      if (hello?.logs) yield { kind: "lines", services, lines: history(hello, choice, shown) };
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
      const lines = linesOf(message);
      if (lines.length > 0) yield { kind: "lines", services, lines: chosen(lines, choice) };
      if ("log" in message && message.log) {
        shown.set(message.kind === "output" ? logFileName(message.service) : OWN_FILE, message.log);
      }
      if (message.kind === "exit") end = message;
    }
    if (end !== null && !end.restarting) return;
  }
}

/** Follows a run, again after one `before`. @returns `null` when it has ended since */
async function followAgain(record: RunRecord, before: MessageOf<"hello"> | null): Promise<Mirror | null> {
  const recent = record.logs === null && before === null ? 1_000 : 0;
  try {
    return await reach(record, (socket) => Mirror.open(socket, recent));
  } catch (error) {
    const hasEnded = error instanceof UserError && !isSame(record.orchestrator, record.bootId);
    if (before === null || !hasEnded) throw error;
    return null;
  }
}

/** The lines of a run's files. What was shown before, up to `from`, decides no longer how many there are. */
function history(
  { logs, services: rows }: MessageOf<"hello">,
  choice: LogChoice,
  from: Positions | null,
  to?: Positions,
): Generator<LogLine> {
  const wanted = from === null ? choice : { ...choice, lines: Infinity };
  const sources = rows.map(({ name }) => ({ name, file: logFileName(name) }));
  if (rows.every(({ name }) => name !== OWN)) sources.push({ name: OWN, file: OWN_FILE });
  return readLogs(logs?.folder ?? "", sources, wanted, from ?? undefined, to);
}

/** Up to where the events that follow are preceded by each file. */
function marksOf({ logs }: MessageOf<"hello">): Positions {
  if (logs === null) return new Map();
  const marks: Positions = new Map([[OWN_FILE, logs.own]]);
  for (const [name, position] of Object.entries(logs.services)) marks.set(logFileName(name), position);
  return marks;
}

/** The lines that a message adds to a log. */
function linesOf(message: Message): LogLine[] {
  if (message.kind === "output") {
    const { time: timeMs, service: source, stream, text } = message;
    return text.split("\n").slice(0, -1).map((line) => ({ timeMs, source, stream, text: line }));
  }
  const own = message.kind === "log" || message.kind === "state" ? ownMessage(message) : null;
  if (own === null || own.level === "debug") return [];
  const { level } = own;
  return own.text.split("\n").map((text) => ({ timeMs: message.time, source: OWN, level, text }));
}

/** The lines that the orchestrator itself keeps, where there are no files. Nobody wrote down their times. */
function* keptLines(hello: MessageOf<"hello">, choice: LogChoice): Generator<LogLine> {
  for (const { name, recent } of hello.services) {
    yield* lastOf(
      [...chosen(recent.map((text) => ({ timeMs: null, source: name, text })), choice)],
      choice.lines,
    );
  }
}

function lastOf<T>(all: readonly T[], count: number): T[] {
  return all.slice(Math.max(0, all.length - count));
}

function* chosen(lines: Iterable<LogLine>, { names, sinceMs, pattern }: LogChoice): Generator<LogLine> {
  for (const line of lines) {
    const { source, timeMs, text } = line;
    if (names !== null && !names.has(source)) continue;
    if (timeMs !== null && timeMs < sinceMs) continue;
    if (pattern === null || pattern.test(text)) yield line;
  }
}

/** The lines of all logs, in time order; with places, only those from one to the other. */
export function* readLogs(
  folder: string,
  sources: readonly LogSource[],
  choice: LogChoice,
  from?: Positions,
  to?: Positions,
): Generator<LogLine> {
  const wanted = sources.filter(({ name }) => choice.names === null || choice.names.has(name));
  const logs = wanted.map(({ name, file }) =>
    new RotatedLog(`${folder}/${file}`, name, from?.get(file), to?.get(file))
  );
  try {
    if (choice.lines === Infinity) yield* merge(logs.map((log) => chosen(log.lines(choice.sinceMs), choice)));
    else yield* lastOf([...merge(logs.map((log) => log.last(choice)))], choice.lines);
  } finally {
    for (const log of logs) log.close();
  }
}

/** Lines of several logs in the order of their times; each log keeps its own order. */
export function* merge(logs: readonly Iterable<LogLine>[]): Generator<LogLine> {
  const heads = logs.flatMap((log) => {
    const lines = log[Symbol.iterator]();
    const { value: line, done } = lines.next();
    return done ? [] : [{ lines, line, timeMs: line.timeMs ?? -Infinity }];
  });
  while (heads.length > 0) {
    const head = heads.reduce((first, one) => one.timeMs < first.timeMs ? one : first);
    yield head.line;
    const { value: line, done } = head.lines.next();
    if (done) heads.splice(heads.indexOf(head), 1);
    else {
      head.line = line;
      // A clock that was set back must not hold up what follows.
      head.timeMs = Math.max(head.timeMs, line.timeMs ?? -Infinity);
    }
  }
}

/** One log over its rotated files: opened all at once, newest first, so that a rotation meanwhile moves nothing. */
class RotatedLog {
  readonly #source: string;
  /** Oldest first, each with the part that is meant. */
  readonly #pieces: { file: Deno.FsFile; from: number; to: number; changedMs: number }[] = [];

  constructor(path: string, source: string, from?: Position | null, to?: Position | null) {
    this.#source = source;
    if (to === null) return;
    const found: { file: Deno.FsFile; info: Deno.FileInfo }[] = [];
    using opened = new DisposableStack(); // for one that can't be
    for (let number = 0;; number++) {
      const name = number === 0 ? path : `${path}.${number}`;
      const file = read(name, () => Deno.openSync(name, { read: true }));
      if (file === null && number > 0) break; // the current one may be missing for a moment
      if (file === null) continue;
      opened.use(file);
      const info = file.statSync();
      // The same one again: it was rotated between our two looks.
      if (found.some((other) => other.info.ino === info.ino)) file.close();
      else found.unshift({ file, info });
    }
    opened.move();
    const first = found.findIndex(({ info }) => info.ino === from?.ino);
    const last = found.findIndex(({ info }) => info.ino === to?.ino);
    found.forEach(({ file, info: { ino, mtime } }, index) => {
      if (index < first || (last !== -1 && index > last)) return file.close();
      this.#pieces.push({
        file,
        from: ino === from?.ino ? from.size : 0,
        to: ino === to?.ino ? to.size : Infinity,
        changedMs: mtime?.getTime() ?? Infinity,
      });
    });
  }

  /** All lines, but files that were closed before `sinceMs`. */
  *lines(sinceMs: number): Generator<LogLine> {
    for (const piece of this.#pieces) if (piece.changedMs >= sinceMs) yield* this.#linesOf(piece);
  }

  /** The last lines that fit. */
  last(choice: LogChoice): LogLine[] {
    let found: LogLine[] = [];
    for (const piece of this.#pieces.toReversed()) {
      if (found.length >= choice.lines || piece.changedMs < choice.sinceMs) break;
      let lines: LogLine[] = [];
      for (const line of chosen(this.#linesOf(piece), choice)) {
        lines.push(line);
        if (lines.length > 2 * choice.lines + 1_000) lines = lastOf(lines, choice.lines);
      }
      found = [...lines, ...found];
    }
    return lastOf(found, choice.lines);
  }

  close(): void {
    for (const { file } of this.#pieces) file.close();
  }

  *#linesOf({ file, from, to }: { file: Deno.FsFile; from: number; to: number }): Generator<LogLine> {
    file.seekSync(from, Deno.SeekMode.Start);
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(65_536);
    let timeMs: number | null = null;
    let held = ""; // what has no end yet is being written, or was cut off when the system went down: it is no line
    for (let left = to - from; left > 0;) {
      const count = file.readSync(chunk.subarray(0, left));
      if (count === null) return;
      left -= count;
      const texts = decoder.decode(chunk.subarray(0, count), { stream: true }).split("\n");
      texts[0] = held + texts[0];
      held = texts.pop() ?? "";
      for (const text of texts) {
        const line = parseLine(this.#source, text);
        timeMs = line.timeMs ?? timeMs; // a line that someone else wrote there belongs to the one before
        yield { ...line, timeMs };
      }
    }
  }
}

/** The level before the text of the orchestrator's own lines. */
const OWN_LEVEL = new RegExp(`^(${LEVELS.join("|")}) +`);

function parseLine(source: string, line: string): LogLine {
  if (line.startsWith("{")) {
    try {
      const { time, stream, level, text } = JSON.parse(line);
      return { timeMs: Date.parse(time), source, text: String(text), stream, level };
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error; // a line that only looks like it
    }
  }
  const [, time, text] = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (.*)$/s.exec(line) ?? [];
  if (time === undefined || text === undefined) return { timeMs: null, source, text: line };
  const timeMs = Date.parse(time);
  const level = source === OWN ? OWN_LEVEL.exec(text)?.[1] : undefined;
  return level === undefined ? { timeMs, source, text } : { timeMs, source, level, text: text.slice(6) };
}
