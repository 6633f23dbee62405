/**
 * Bytes of a pipe as blocks of whole lines, and the last lines of a service.
 *
 * @module
 */

import { concat, decoder, NEWLINE } from "../config/bytes.ts";

const RETURN = 13;

/** Past this a line without an end is passed on in pieces, so that memory stays bounded. */
const LINE_LIMIT = 64 * 1024 * 1024;

/** Ends lines as Python's text pipes do: `\n`, `\r\n` and a lone `\r` (a progress bar's) each end one. */
function unifyLineEnds(bytes: Uint8Array): Uint8Array {
  if (bytes.indexOf(RETURN) === -1) return bytes;
  const result = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] !== RETURN) result[length++] = bytes[at]!;
    else if (bytes[at + 1] !== NEWLINE) result[length++] = NEWLINE;
  }
  return result.subarray(0, length);
}

/**
 * Cuts a flow of bytes into blocks of whole lines. A block is the receiver's to keep; the last line gets a newline
 * when it has none.
 */
export class LineCutter {
  #pieces: Uint8Array[] = [];
  #held = 0;
  #afterReturn = false;

  /** The whole lines that `bytes` completes, or `null` when it completes none. */
  push(bytes: Uint8Array): Uint8Array | null {
    // The other half of a line end whose return came with the bytes before.
    const from = this.#afterReturn && bytes[0] === NEWLINE ? 1 : 0;
    this.#afterReturn = bytes[bytes.length - 1] === RETURN;
    const unified = unifyLineEnds(bytes.subarray(from));
    const cut = unified.lastIndexOf(NEWLINE) + 1;
    const block = cut > 0 ? this.#join(unified.subarray(0, cut)) : null;
    if (cut < unified.length) {
      this.#pieces.push(unified.slice(cut));
      this.#held += unified.length - cut;
    }
    return this.#held < LINE_LIMIT ? block : this.flush();
  }

  /** What is left when the flow ends, or `null`. */
  flush(): Uint8Array | null {
    return this.#held === 0 ? null : this.#join(Uint8Array.of(NEWLINE));
  }

  #join(last: Uint8Array): Uint8Array {
    const whole = concat([...this.#pieces, last]);
    this.#pieces = [];
    this.#held = 0;
    return whole;
  }
}

/** How many lines end in a block. */
export function countLines(lines: Uint8Array): number {
  let count = 0;
  for (let at = lines.indexOf(NEWLINE); at !== -1; at = lines.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** The last lines of a service: at least `KEPT_LINES` of them when there were as many, in at most `KEPT_BYTES`. */
export class Tail {
  static readonly KEPT_LINES = 1_000;
  static readonly KEPT_BYTES = 4 * 1024 * 1024;
  /** Below these nothing is dropped, and so nothing counted. Only the blocks of a service in full flow are large. */
  static readonly TRIM_BYTES = 256 * 1024;
  static readonly TRIM_BLOCKS = 16;
  #blocks: Uint8Array[] = [];
  #bytes = 0;
  #trimAt = Tail.TRIM_BYTES;

  /** Keeps a block of whole lines. */
  push(lines: Uint8Array): void {
    const kept = lines.length > Tail.KEPT_BYTES ? lines.slice(-Tail.KEPT_BYTES) : lines;
    // Small blocks of a quiet service are joined: a thousand lines need no thousand arrays.
    const before = this.#blocks.at(-1);
    if (before !== undefined && before.length + kept.length < 4_096) {
      this.#blocks.splice(-1, 1, concat([before, kept]));
    } else this.#blocks.push(kept);
    this.#bytes += kept.length;
    const due = this.#bytes > this.#trimAt && this.#blocks.length >= Tail.TRIM_BLOCKS;
    if (due || this.#bytes > Tail.KEPT_BYTES) this.#trim();
  }

  /** Drops what is too old. Seldom done: to count lines takes as long as to pass them on. */
  #trim(): void {
    let [count, bytes, first] = [0, 0, this.#blocks.length];
    while (count < Tail.KEPT_LINES) {
      const block = this.#blocks[first - 1];
      if (block === undefined || (bytes > 0 && bytes + block.length > Tail.KEPT_BYTES)) break;
      count += countLines(block);
      bytes += block.length;
      first--;
    }
    this.#blocks.splice(0, first);
    this.#bytes = bytes;
    this.#trimAt = Math.max(Tail.TRIM_BYTES, 2 * bytes);
  }

  /** The last `count` lines, oldest first, without their newlines. */
  last(count: number): string[] {
    const found: string[] = [];
    for (const lines of this.#blocks.toReversed()) {
      let end = lines.length - 1; // of the line, where its newline stands
      while (end >= 0 && found.length < count) {
        const start = end === 0 ? -1 : lines.lastIndexOf(NEWLINE, end - 1);
        found.push(decoder.decode(lines.subarray(start + 1, end)));
        end = start;
      }
    }
    return found.reverse();
  }
}
