/**
 * Logs on disk: a file a service and one for what the orchestrator itself decides, rotated by size.
 *
 * Whole lines are written as they come and before anyone else gets them: what a reader of the event stream has
 * seen stands in the file, also after the orchestrator was killed.
 *
 * @module
 */

import { decoder, encoder, NEWLINE } from "../config/bytes.ts";
import { systemReason } from "../config/errors.ts";
import type { Level } from "../config/levels.ts";
import { LEVELS } from "../config/levels.ts";
import { dirname, ifThere } from "../config/settings.ts";
import { countLines } from "../process/lines.ts";
import type { Event, Listener } from "../supervisor/model.ts";
import { describeChange } from "../terminal/messages.ts";
import { prefixLines } from "../terminal/prefix.ts";
import { inodeOf } from "./run_folder.ts";

/** How logs are written. */
export interface LogOptions {
  folder: string;
  format: "text" | "json";
  /** What of the orchestrator's own messages is written; changes of state always are. */
  level: Level;
  /** A file is rotated before it would grow beyond this. */
  maxBytes: number;
  /** How many rotated files are kept. */
  keep: number;
}

/** A place in a log that rotation does not move: the file, and how much of it is meant. */
export interface Position {
  ino: number;
  size: number;
}

/** The name under which the orchestrator's own messages are kept and asked for. */
export const OWN = "orchestrator";

/** The file of the orchestrator's own messages. */
export const OWN_FILE = `${OWN}.log`;

/** The file of a service. One that is called like us gets a name that no service can have. */
export function logFileName(service: string): string {
  return service === OWN ? `-${OWN_FILE}` : `${service}.log`;
}

/** How often a file that can't be written is tried again, and one that is written is looked for. */
const AGAIN_MS = 1_000;

/** The message of the orchestrator's own log for an event, or `null` where it has none. */
export function ownMessage(event: Event): { level: Level; text: string; service?: string } | null {
  if (event.kind === "output" || event.kind === "services") return null;
  if (event.kind === "log") return { level: event.level, text: event.message };
  const { name: service, state } = event.row;
  const described = describeChange(event);
  const level = described === null || described.level === "debug" ? "info" : described.level;
  const change = `${service}: ${event.from.kind} -> ${state.kind}`;
  return { level, text: described === null ? change : `${change}, ${described.message}`, service };
}

/** Writes what happens in a run into files. It never throws: a fault is reported once, and the services run on. */
export class LogFiles implements Listener {
  readonly #options: LogOptions;
  readonly #report: (text: string) => void;
  readonly #files = new Map<string, LogFile>();
  /** The files that can't be written now, with the lines that are missing in each. */
  readonly #faults = new Map<string, { lost: number; againAt: number }>();
  /** Lines that are missing in files that are written again. */
  #lost = 0;

  /** @param report gets a sentence when a file can't be written and when it can be again */
  constructor(options: Pick<LogOptions, "folder"> & Partial<LogOptions>, report: (text: string) => void) {
    this.#options = { format: "text", level: "info", maxBytes: 10 * 1024 * 1024, keep: 5, ...options };
    this.#report = report;
  }

  /** The folder of the files. */
  get folder(): string {
    return this.#options.folder;
  }

  event(event: Event): void {
    const isText = this.#options.format === "text";
    const time = new Date(event.time).toISOString();
    if (event.kind === "output") {
      const { service, stream, lines } = event;
      const block = isText ? prefixLines(encoder.encode(`${time} `), lines) : encoder.encode(
        decoder.decode(lines).split("\n").slice(0, -1).map((text) =>
          `${JSON.stringify({ time, service, stream, text })}\n`
        ).join(""),
      );
      return this.#append(logFileName(service), block);
    }
    const own = ownMessage(event);
    if (own === null) return;
    const { level, text, service } = own;
    if (event.kind === "log" && LEVELS.indexOf(level) < LEVELS.indexOf(this.#options.level)) return;
    const whole = isText
      ? text.split("\n").map((line) => `${time} ${level.padEnd(5)} ${line}`).join("\n")
      : JSON.stringify({ time, level, service, text });
    this.#append(OWN_FILE, encoder.encode(`${whole}\n`));
  }

  /** Up to where a log is written now, or `null` when there is none. @param service `null`: our own log */
  position(service: string | null): Position | null {
    const name = service === null ? OWN_FILE : logFileName(service);
    const position = this.#files.get(name)?.position;
    if (position) return position;
    const found = ifThere(() => Deno.statSync(`${this.folder}/${name}`)); // of an earlier run: ours will go on there
    return found && { ino: found.ino ?? 0, size: found.size };
  }

  /** Closes the files. What happens afterwards opens them again. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }

  /** Writes whole lines to a file, or counts them as lost. */
  #append(name: string, lines: Uint8Array): void {
    const fault = this.#faults.get(name);
    if (fault !== undefined && performance.now() < fault.againAt) {
      fault.lost += countLines(lines);
      return;
    }
    const file = this.#files.get(name) ?? new LogFile(`${this.folder}/${name}`, this.#options);
    this.#files.set(name, file);
    let rest = lines;
    try {
      while (rest.length > 0) rest = rest.subarray(file.write(rest));
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      file.close();
      const isFirst = this.#faults.size === 0; // a full disk is a fault of every file: it is reported once
      const lost = (fault?.lost ?? 0) + countLines(rest);
      this.#faults.set(name, { lost, againAt: performance.now() + AGAIN_MS });
      if (!isFirst) return;
      const why = systemReason(error);
      return this.#report(
        `Cannot write ${this.folder}/${name}: ${why}. The services run on; log lines are lost.`,
      );
    }
    if (fault === undefined) return;
    this.#faults.delete(name);
    this.#lost += fault.lost;
    if (this.#faults.size > 0) return;
    const lost = this.#lost;
    this.#lost = 0;
    this.#report(`Logs are written again in ${this.folder}; ${lost} lines are missing there.`);
  }
}

class LogFile {
  readonly #path: string;
  readonly #limits: Pick<LogOptions, "maxBytes" | "keep">;
  #file: Deno.FsFile | null = null;
  #ino = 0;
  #size = 0;
  #checkedAt = -Infinity;

  constructor(path: string, limits: Pick<LogOptions, "maxBytes" | "keep">) {
    this.#path = path;
    this.#limits = limits;
  }

  get position(): Position | null {
    return this.#file === null ? null : { ino: this.#ino, size: this.#size };
  }

  /** Writes the first of whole lines, as many as fit, one at least. @returns how many bytes that were */
  write(lines: Uint8Array): number {
    let file = this.#open();
    let room = this.#limits.maxBytes - this.#size;
    if (lines.length > room && this.#size > 0 && lines.indexOf(NEWLINE) >= room) {
      file = this.#rotate();
      room = this.#limits.maxBytes;
    }
    const fitting = lines.lastIndexOf(NEWLINE, room - 1) + 1 || lines.indexOf(NEWLINE) + 1;
    return this.#put(file, lines.length <= room ? lines : lines.subarray(0, fitting));
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
  }

  #put(file: Deno.FsFile, lines: Uint8Array): number {
    try {
      for (let rest = lines; rest.length > 0;) rest = rest.subarray(file.writeSync(rest));
    } catch (error) {
      try {
        file.truncateSync(this.#size); // no half line stays behind
      } catch (second) {
        if (!(second instanceof Error)) throw second; // a device has no length: the first fault is reported
      }
      throw error;
    }
    this.#size += lines.length;
    return lines.length;
  }

  /** The open file; one that someone removed or replaced is made again. */
  #open(): Deno.FsFile {
    const now = performance.now();
    if (this.#file !== null && now - this.#checkedAt > AGAIN_MS) {
      this.#checkedAt = now;
      if (ifThere(() => Deno.statSync(this.#path).ino) !== this.#ino) this.close();
    }
    if (this.#file !== null) return this.#file;
    this.#checkedAt = now;
    Deno.mkdirSync(dirname(this.#path), { recursive: true });
    const file = Deno.openSync(this.#path, { create: true, append: true, read: true, mode: 0o640 });
    this.#file = file;
    const { ino, size } = file.statSync();
    this.#ino = ino ?? 0;
    this.#size = size;
    if (size > 0) {
      // A system that went down may have left half a line: it must not run into the next one.
      const last = new Uint8Array(1);
      file.seekSync(-1, Deno.SeekMode.End);
      file.readSync(last);
      if (last[0] !== NEWLINE) this.#put(file, Uint8Array.of(NEWLINE));
    }
    return file;
  }

  #rotate(): Deno.FsFile {
    this.close();
    const { keep } = this.#limits;
    const nameOf = (number: number) => number === 0 ? this.#path : `${this.#path}.${number}`;
    let oldest = 0;
    while (oldest + 1 < keep && inodeOf(nameOf(oldest + 1)) !== null) oldest++;
    for (let number = oldest; number >= 0 && keep > 0; number--) {
      Deno.renameSync(nameOf(number), nameOf(number + 1));
    }
    if (keep === 0) Deno.removeSync(this.#path);
    return this.#open();
  }
}
