/**
 * What the commands write: answers for the user, and log lines. Nothing here waits for a reader that does not read.
 *
 * @module
 */
import type { Level } from "../../config/levels.ts";
import { LEVELS } from "../../config/levels.ts";
import type { Log } from "../model/log.ts";
import { stripControl } from "../model/text.ts";

/** Log lines that nobody reads are dropped above this. */
const MOST_WAITING_BYTES = 8 << 20;
/** What follows a write so closely goes out with the next one: a write costs more than many lines. */
const GATHER_MS = 25;

/** Writes to a stream in order, in the background. */
export class Output {
  #waiting: string[] = [];
  #size = 0;
  #dropped = 0;
  #writing: Promise<void> | undefined;
  #endGathering = () => {};
  #isFlushing = false;
  #isGone = false;

  constructor(readonly stream: { write(bytes: Uint8Array): Promise<number> }) {}

  /** Adds a line. */
  line(text: string): void {
    if (this.#isGone) return;
    if (this.#size > MOST_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(text);
    this.#size += text.length;
    this.#writing ??= this.#drain();
  }

  /** Resolves when all of it is written, or nobody reads any longer. */
  async flush(): Promise<void> {
    this.#isFlushing = true;
    this.#endGathering();
    await this.#writing;
    this.#isFlushing = false;
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // lines of one moment go out together
    while (this.#waiting.length > 0) {
      if (this.#dropped > 0) {
        this.#waiting.push(`(${this.#dropped} lines were not written: nobody read them)`);
      }
      this.#dropped = 0;
      let bytes = new TextEncoder().encode(this.#waiting.join("\n") + "\n");
      this.#waiting = [];
      this.#size = 0;
      try {
        while (bytes.length > 0) bytes = bytes.subarray(await this.stream.write(bytes));
      } catch (error) {
        if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
        this.#isGone = true; // as with `| head`: what follows is of no interest
        return;
      }
      if (!this.#isFlushing) await this.#gather();
    }
    this.#writing = undefined;
  }

  async #gather(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, GATHER_MS);
    this.#endGathering = resolve;
    await promise;
    clearTimeout(timer);
  }
}

/** How levels are written, as Python's logging does. */
const WRITTEN: Record<Level, string> = { debug: "DEBUG", info: "INFO", warn: "WARNING", error: "ERROR" };

/** A log that writes lines of JSON, or of text for people, from a level on. */
export function lineLog(format: "json" | "text", from: Level, output: Output): Log {
  const least = LEVELS.indexOf(from);
  // Many lines belong to the same millisecond, and writing it costs more than the rest of a line.
  let at = NaN;
  let time = "";
  return (level, event, fields = {}) => {
    if (LEVELS.indexOf(level) < least) return;
    const now = Date.now();
    if (now !== at) time = new Date(at = now).toISOString();
    if (format === "json") {
      const rest = JSON.stringify(fields).slice(1);
      const start = `{"time":"${time}","level":"${WRITTEN[level]}","event":${JSON.stringify(event)}`;
      return output.line(rest === "}" ? `${start}}` : `${start},${rest}`);
    }
    const pairs = Object.entries(fields).filter(([, value]) => value !== undefined).map(([key, value]) => {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      return `${key}=${typeof value === "string" && /[\s"=]/.test(text) ? JSON.stringify(text) : text}`;
    });
    const words = event.replaceAll("_", " ");
    output.line(
      stripControl([`${time.slice(11, 23)} ${WRITTEN[level].padEnd(7)} ${words}`, ...pairs].join("  ")),
    );
  };
}

/** Columns under headings. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [heads, ...rows].map((row) => row.map((cell) => stripControl(cell).replaceAll(/\s+/g, " ")));
  const widths = heads.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd())
    .join(
      "\n",
    );
}
