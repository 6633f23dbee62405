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
// lines again. The module is prefix.wat, assembled: a test compares them, and writes out what belongs here.
/** The bytes of prefix.wat in Base64. */
export const MODULE =
  "AGFzbQEAAAABCQFgBH9/f38BfwMCAQAFAwEARwcJAgFtAgABZgAACl8BXQIBewJ/A0AgAiAA/QAEACIE/QsEACAEQQr9D/0j/WQh" +
  "BSAFQYCAAnJoQQFqIQYgACAGaiEAIAIgBmohAiAFBEAgAkEAIAP8CgAAIAIgA2ohAgsgACABSQ0ACyACCw==";

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
    const { m, f } = new WebAssembly.Instance(
      new WebAssembly.Module(Uint8Array.from(atob(MODULE), (character) => character.charCodeAt(0))),
    ).exports;
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
