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
import { describeChange } from "../terminal/messages.ts";
import type { Level } from "../config/levels.ts";
import { LEVELS } from "../config/levels.ts";
import type { Event, Listener } from "../supervisor/model.ts";
import { prefixLines } from "../terminal/prefix.ts";
import { inodeOf } from "./record.ts";

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

/** What holds by default. */
export const LOG_DEFAULTS = { format: "text", level: "info", maxBytes: 10 * 1024 * 1024, keep: 5 } as const;

/** A place in a log that rotation does not move: the file, and how much of it is meant. */
export interface Position {
  ino: number;
  size: number;
}

/** The name under which the orchestrator's own messages are kept and asked for. */
export const OWN = "orchestrator";

/** The file of a service. One that is called like us gets a name that no service can have. */
export function logFileName(service: string): string {
  return service === OWN ? `-${OWN}.log` : `${service}.log`;
}

/** How often a file that can't be written is tried again, and one that is written is looked for. */
const AGAIN_MS = 1_000;

/** The message of the orchestrator's own log for an event, or `null` where it has none. */
export function ownMessage(event: Event): { level: Level; text: string; service?: string } | null {
  switch (event.kind) {
    case "output":
    case "services":
      return null;
    case "log":
      return { level: event.level, text: event.message };
    case "state": {
      const { name, state } = event.row;
      const described = describeChange(event);
      const level = described === null || described.level === "debug" ? "info" : described.level;
      const change = `${name}: ${event.from.kind} -> ${state.kind}`;
      return { level, text: described === null ? change : `${change}, ${described.message}`, service: name };
    }
  }
}

/** Writes what happens in a run into files. It never throws: a fault is reported once, and the services run on. */
export class LogFiles implements Listener {
  readonly #options: LogOptions;
  readonly #files = new Map<string, LogFile>();
  readonly #report: (text: string) => void;
  /** The files that can't be written now. */
  readonly #failing = new Set<string>();
  #lost = 0;

  /** @param report gets a sentence when a file can't be written and when it can be again */
  constructor(options: LogOptions, report: (text: string) => void) {
    this.#options = options;
    this.#report = report;
  }

  /** The folder of the files. */
  get folder(): string {
    return this.#options.folder;
  }

  event(event: Event): void {
    const time = new Date(event.time).toISOString();
    if (event.kind === "output") {
      const { service, stream, lines } = event;
      const block = this.#options.format === "text"
        ? prefixLines(encoder.encode(`${time} `), lines)
        : encoder.encode(
          decoder.decode(lines).split("\n").slice(0, -1).map((text) =>
            `${JSON.stringify({ time, service, stream, text })}\n`
          ).join(""),
        );
      this.#file(logFileName(service)).append(block);
      return;
    }
    const own = ownMessage(event);
    if (own === null) return;
    const { level, text, service } = own;
    if (event.kind === "log" && LEVELS.indexOf(level) < LEVELS.indexOf(this.#options.level)) return;
    const whole = this.#options.format === "json"
      ? JSON.stringify({ time, level, ...(service === undefined ? {} : { service }), text })
      : text.split("\n").map((line) => `${time} ${level.padEnd(5)} ${line}`).join("\n");
    this.#file(`${OWN}.log`).append(encoder.encode(`${whole}\n`));
  }

  /** Up to where a log is written now, or `null` when there is none. @param name of a service, or `OWN` for ours */
  position(name: string, own = false): Position | null {
    const file = own ? `${OWN}.log` : logFileName(name);
    const position = this.#files.get(file)?.position;
    if (position) return position;
    try {
      const { ino, size } = Deno.statSync(`${this.folder}/${file}`); // of an earlier run: ours will go on there
      return { ino: ino ?? 0, size };
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
      throw error;
    }
  }

  /** Closes the files. What happens afterwards opens them again. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }

  #file(name: string): LogFile {
    let file = this.#files.get(name);
    if (file === undefined) {
      file = new LogFile(`${this.#options.folder}/${name}`, this.#options, {
        failed: (why) => this.#failed(name, why),
        recovered: (lost) => this.#recovered(name, lost),
      });
      this.#files.set(name, file);
    }
    return file;
  }

  /** A full disk is a fault of every file: it is reported once. */
  #failed(name: string, why: string): void {
    const first = this.#failing.size === 0;
    this.#failing.add(name);
    if (!first) return;
    this.#report(`Cannot write ${this.folder}/${name}: ${why}. The services run on; log lines are lost.`);
  }

  #recovered(name: string, lost: number): void {
    this.#failing.delete(name);
    this.#lost += lost;
    if (this.#failing.size > 0) return;
    this.#report(`Logs are written again in ${this.folder}; ${this.#lost} lines are missing there.`);
    this.#lost = 0;
  }
}

/** Who hears of a file's faults. */
interface FaultListener {
  failed(why: string): void;
  recovered(lostLines: number): void;
}

class LogFile {
  readonly #path: string;
  readonly #limits: { maxBytes: number; keep: number };
  readonly #listener: FaultListener;
  #file: Deno.FsFile | null = null;
  #ino = 0;
  #size = 0;
  #checkedAt = -Infinity;
  #fault: { lost: number; againAt: number } | null = null;

  constructor(path: string, limits: { maxBytes: number; keep: number }, listener: FaultListener) {
    this.#path = path;
    this.#limits = limits;
    this.#listener = listener;
  }

  get position(): Position | null {
    return this.#file === null ? null : { ino: this.#ino, size: this.#size };
  }

  /** Writes whole lines. */
  append(lines: Uint8Array): void {
    const fault = this.#fault;
    if (fault !== null && performance.now() < fault.againAt) {
      fault.lost += count(lines);
      return;
    }
    let rest = lines;
    try {
      this.#open();
      while (rest.length > 0) {
        const part = this.#cut(rest);
        this.#write(part);
        rest = rest.subarray(part.length);
      }
      if (fault !== null) {
        this.#fault = null;
        this.#listener.recovered(fault.lost);
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.close();
      this.#fault = { lost: (fault?.lost ?? 0) + count(rest), againAt: performance.now() + AGAIN_MS };
      if (fault === null) this.#listener.failed(systemReason(error));
    }
  }

  close(): void {
    this.#file?.close();
    this.#file = null;
  }

  /** As many whole lines as this file still takes, one at least; rotates first when it takes none. */
  #cut(lines: Uint8Array): Uint8Array {
    const room = this.#limits.maxBytes - this.#size;
    if (lines.length <= room) return lines;
    const fitting = room > 0 ? lines.lastIndexOf(NEWLINE, room - 1) + 1 : 0;
    if (fitting > 0) return lines.subarray(0, fitting);
    if (this.#size > 0) {
      this.#rotate();
      return this.#cut(lines);
    }
    return lines.subarray(0, lines.indexOf(NEWLINE) + 1);
  }

  #write(part: Uint8Array): void {
    const file = this.#file!;
    try {
      for (let rest = part; rest.length > 0;) rest = rest.subarray(file.writeSync(rest));
      this.#size += part.length;
    } catch (error) {
      try {
        file.truncateSync(this.#size); // no half line stays behind
      } catch (second) {
        if (!(second instanceof Error)) throw second; // a device has no length: the first fault is reported
      }
      throw error;
    }
  }

  #open(): void {
    if (this.#file !== null && performance.now() - this.#checkedAt > AGAIN_MS && this.#isGone()) this.close();
    if (this.#file !== null) return;
    this.#checkedAt = performance.now();
    Deno.mkdirSync(this.#path.slice(0, this.#path.lastIndexOf("/")), { recursive: true });
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
      if (last[0] !== NEWLINE) this.#write(Uint8Array.of(NEWLINE));
    }
  }

  /** Whether someone removed or replaced the file. */
  #isGone(): boolean {
    this.#checkedAt = performance.now();
    try {
      return Deno.statSync(this.#path).ino !== this.#ino;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return true;
      throw error;
    }
  }

  #rotate(): void {
    this.close();
    const { keep } = this.#limits;
    const nameOf = (number: number) => number === 0 ? this.#path : `${this.#path}.${number}`;
    let oldest = 0;
    while (oldest + 1 < keep && inodeOf(nameOf(oldest + 1)) !== null) oldest++;
    for (let number = oldest; number >= 0 && keep > 0; number--) {
      Deno.renameSync(nameOf(number), nameOf(number + 1));
    }
    if (keep === 0) Deno.removeSync(this.#path);
    this.#open();
  }
}

function count(lines: Uint8Array): number {
  let found = 0;
  for (let at = lines.indexOf(NEWLINE); at !== -1; at = lines.indexOf(NEWLINE, at + 1)) found++;
  return found;
}
