/**
 * Puts a prefix before each line of a block of bytes.
 *
 * @module
 */

import { NEWLINE } from "../config/bytes.ts";

/**
 * Puts `prefix` before each line; the bytes of the lines stay as they are. The result holds until the next call.
 *
 * @param lines whole lines
 */
export function prefixLines(prefix: Uint8Array, lines: Uint8Array): Uint8Array {
  const many = lines.length >= 4_096 && lines.length <= Vectors.FROM_BYTES &&
    lines.length * (1 + prefix.length) <= Vectors.TO_BYTES;
  if (many && "WebAssembly" in globalThis) return (vectors ??= new Vectors()).prefixLines(prefix, lines);
  // Room for prefixes of lines of a usual length; counting the lines first would take half as long again.
  let result = new Uint8Array(lines.length + (lines.length >> 3) + 1_024);
  let at = 0;
  for (let start = 0; start < lines.length;) {
    const end = lines.indexOf(NEWLINE, start) + 1;
    const needed = at + prefix.length + end - start;
    if (needed > result.length) {
      const wider = new Uint8Array(needed + 2 * result.length);
      wider.set(result.subarray(0, at));
      result = wider;
    }
    result.set(prefix, at);
    result.set(lines.subarray(start, end), at + prefix.length);
    at = needed;
    start = end;
  }
  return result.subarray(0, at);
}

// Services that print without pause are read in blocks of 64 KiB. Sixteen bytes at a time, which only WebAssembly can
// do here, prefixes come into a block in a third of the time, and a run of four such services passes on half as many
// lines again. The instructions are written out because this script has no place for a compiler's output; their
// encoding: https://webassembly.github.io/spec/core/binary/
// `f(from, end, to, length)` copies the bytes from `from` to `end` to `to`, and the `length` bytes of the prefix, which
// are at 0, behind each newline; it returns the end of what it wrote.
const VECTORS = Uint8Array.from([
  [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // magic number, version
  [1, 9, 1, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f], // types: one function, i32 x 4 -> i32
  [3, 2, 1, 0], // functions: one, of that type
  [5, 3, 1, 0, 71], // memory of 71 pages of 64 KiB, see Vectors
  [7, 9, 2, 1, 0x6d, 2, 0, 1, 0x66, 0, 0], // exports: "m", the memory, and "f", the function
  [10, 95, 1, 93, 2, 1, 0x7b, 2, 0x7f], // code: one body; locals: v128 bytes (4), i32 found (5), i32 step (6)
  [0x03, 0x40], // loop
  [0x20, 2, 0x20, 0, 0xfd, 0, 4, 0, 0x22, 4, 0xfd, 11, 4, 0], // to[0..16] = bytes = from[0..16]
  [0x20, 4, 0x41, 10, 0xfd, 15, 0xfd, 35, 0xfd, 100, 0x21, 5], // found = a bit for each byte that is a newline
  [0x20, 5, 0x41, 0x80, 0x80, 2, 0x72, 0x68, 0x41, 1, 0x6a, 0x21, 6], // step = to behind the first one, or 16
  [0x20, 0, 0x20, 6, 0x6a, 0x21, 0], // from += step
  [0x20, 2, 0x20, 6, 0x6a, 0x21, 2], // to += step
  [0x20, 5, 0x04, 0x40], // if found
  [0x20, 2, 0x41, 0, 0x20, 3, 0xfc, 10, 0, 0], // memory.copy(to, 0, length)
  [0x20, 2, 0x20, 3, 0x6a, 0x21, 2], // to += length
  [0x0b], // end
  [0x20, 0, 0x20, 1, 0x49, 0x0d, 0, 0x0b], // again while from < end
  [0x20, 2, 0x0b], // return to
].flat());

type CopyLines = (from: number, end: number, to: number, length: number) => number;

/** Blocks of many lines at the speed of memory. Not where V8 runs with `--jitless`. */
class Vectors {
  static readonly FROM_BYTES = 256 * 1024;
  static readonly TO_BYTES = 4 * 1024 * 1024;
  // Places in its memory: the prefix is at 0. Up to 16 bytes too many are read and written behind each area.
  static readonly #FROM = 64 * 1024;
  static readonly #TO = 384 * 1024;
  readonly #memory: Uint8Array;
  readonly #copy: CopyLines;

  constructor() {
    const { m, f } = new WebAssembly.Instance(new WebAssembly.Module(VECTORS)).exports;
    this.#memory = new Uint8Array((m as WebAssembly.Memory).buffer);
    this.#copy = f as CopyLines;
  }

  prefixLines(prefix: Uint8Array, lines: Uint8Array): Uint8Array {
    this.#memory.set(prefix, 0);
    this.#memory.set(prefix, Vectors.#TO);
    this.#memory.set(lines, Vectors.#FROM);
    const end = this.#copy(
      Vectors.#FROM,
      Vectors.#FROM + lines.length,
      Vectors.#TO + prefix.length,
      prefix.length,
    );
    return this.#memory.subarray(Vectors.#TO, end - prefix.length); // none behind the last line
  }
}

/** Made when first needed: it takes half a millisecond and some memory. */
let vectors: Vectors | null = null;
