/**
 * The one queue before an output: writes never block the rest, and a reader that is gone is no fault.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import { systemClock } from "../config/clock.ts";

/** Bytes that may wait for a slow reader until every pipe has to wait too. */
const QUEUE_BYTES = 1024 * 1024;

/** As much is gathered before the next write. */
const WRITE_BYTES = 512 * 1024;

/** Lines that nobody takes are dropped above this. */
const DROP_BYTES = 8 * 1024 * 1024;

/** A terminal gets no more at once: whether it still takes anything is seen only when a write is done. */
const TERMINAL_BYTES = 32 * 1024;

/** What takes some of the bytes that it is given, and how many. */
interface Sink {
  write(bytes: Uint8Array): Promise<number>;
}

function standardOutput(): Sink {
  const { stdout } = Deno;
  if (!stdout.isTerminal()) return stdout;
  return { write: (bytes) => stdout.write(bytes.subarray(0, TERMINAL_BYTES)) };
}

/** A queue before a file descriptor. */
export class Outlet {
  /** What is written at a time: bytes gathered in a buffer, or what a function makes of the moment. */
  #queue: ({ buffer: Uint8Array; length: number } | (() => Uint8Array))[] = [];
  /** A buffer that was written, for the next bytes: to make one takes as long as to fill it. */
  #spare: Uint8Array | null = null;
  #waiting = 0;
  /** Bytes that the sink has taken so far. */
  #taken = 0;
  #writing: Promise<void> | null = null;
  #room: PromiseWithResolvers<void> | null = null;
  #gone = false;
  #dropped = 0;
  readonly #flushing = new AbortController();

  /** @param gatherMs what follows a write so closely goes out with the next one: a write costs more than many lines */
  constructor(readonly sink: Sink = standardOutput(), readonly gatherMs = 0) {}

  /** Queues bytes; they are written in order, each call's whole. A function is asked for them when it is their turn. */
  write(bytes: Uint8Array | (() => Uint8Array)): void {
    if (this.#gone) return;
    if (typeof bytes === "function") this.#queue.push(bytes);
    else this.#gather(bytes);
    this.#writing ??= this.#drain();
  }

  /** Queues a line of someone who cannot wait: while too much waits, lines are dropped and counted. */
  line(text: string): void {
    if (this.#waiting > DROP_BYTES) {
      this.#dropped++;
      return;
    }
    const lost = this.#dropped === 0 ? "" : `(${this.#dropped} lines were not written: nobody read them)\n`;
    this.#dropped = 0;
    this.write(encoder.encode(`${lost}${text}\n`));
  }

  #gather(bytes: Uint8Array): void {
    let last = this.#queue.at(-1);
    if (typeof last !== "object" || last.length + bytes.length > last.buffer.length) {
      last = { buffer: this.#takeBuffer(bytes.length), length: 0 };
      this.#queue.push(last);
    }
    last.buffer.set(bytes, last.length);
    last.length += bytes.length;
    this.#waiting += bytes.length;
  }

  #takeBuffer(length: number): Uint8Array {
    if (length > WRITE_BYTES || this.#spare === null) return new Uint8Array(Math.max(WRITE_BYTES, length));
    const buffer = this.#spare;
    this.#spare = null;
    return buffer;
  }

  /** Like `write`, before all that waits. */
  writeNext(make: () => Uint8Array): void {
    if (this.#gone) return;
    this.#queue.unshift(make);
    this.#writing ??= this.#drain();
  }

  /** Bytes that were not written yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** A promise while too much waits. */
  backpressure(): Promise<void> | null {
    if (this.#waiting < QUEUE_BYTES) return null;
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  /** Resolves when all is written, or when the reader has taken nothing for `patienceMs`. */
  async flush(patienceMs = 2_000): Promise<void> {
    this.#flushing.abort();
    while (this.#writing !== null) {
      const before = this.#taken;
      const pause = new AbortController();
      await Promise.race([this.#writing, systemClock.sleep(patienceMs, pause.signal)]);
      pause.abort();
      if (this.#taken === before) return;
    }
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // what is written in the same turn goes out together
    for (let item = this.#queue.shift(); item !== undefined; item = this.#queue.shift()) {
      let bytes: Uint8Array;
      if (typeof item === "function") {
        bytes = item();
        this.#waiting += bytes.length;
      } else bytes = item.buffer.subarray(0, item.length);
      try {
        while (bytes.length > 0) {
          const count = await this.sink.write(bytes);
          this.#waiting -= count;
          this.#taken += count;
          bytes = bytes.subarray(count);
        }
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        // A closed pipe, a full disk, a terminal that went away: the services matter more than their display.
        this.#gone = true;
        this.#queue = [];
        this.#waiting = 0;
      }
      if (typeof item !== "function" && item.buffer.length === WRITE_BYTES) this.#spare = item.buffer;
      if (this.#waiting < QUEUE_BYTES) {
        this.#room?.resolve();
        this.#room = null;
      }
      if (this.gatherMs > 0 && this.#waiting < WRITE_BYTES) {
        await systemClock.sleep(this.gatherMs, this.#flushing.signal);
      }
    }
    this.#writing = null;
  }
}

/** Writes a text for the user, at once: a command that only prints needs no queue. */
export function print(text: string, to: { writeSync(bytes: Uint8Array): number } = Deno.stdout): void {
  try {
    for (let bytes = encoder.encode(`${text}\n`); bytes.length > 0;) {
      bytes = bytes.subarray(to.writeSync(bytes));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // `| head` has read enough
  }
}
