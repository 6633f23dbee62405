// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertLess } from "@std/assert";
import { LineCutter, Tail } from "./lines.ts";
import { wholeLines } from "../testing/sink.ts";
import { decoder, encoder } from "../config/bytes.ts";
import { seeded } from "../testing/services.ts";
import { binary } from "../testing/sink.ts";

/** What a cutter gives for chunks, as bytes in a text. */
function cut(chunks: readonly Uint8Array[]): string[] {
  const cutter = new LineCutter();
  const blocks = chunks.map((chunk) => cutter.push(chunk));
  return [...blocks, cutter.flush()].filter((block) => block !== null).map(binary);
}

for (
  const [what, chunks, lines] of [
    ["a line without a newline at the end gets one", ["a\nb"], "a\nb\n"],
    ["a line over several chunks is one", ["a", "b", "c\n"], "abc\n"],
    ["an empty line is one", ["\n\n"], "\n\n"],
    ["\\r\\n ends one line", ["a\r\nb\r\n"], "a\nb\n"],
    ["\\r\\n over two chunks ends one line", ["a\r", "\nb\n"], "a\nb\n"],
    ["\\r\\n over three chunks ends one line", ["a", "\r", "\n", "b"], "a\nb\n"],
    ["a progress bar's \\r ends a line", ["10%\r20%\r", "done\n"], "10%\n20%\ndone\n"],
    ["\\r at the very end ends a line", ["50%\r"], "50%\n"],
    ["\\n\\r are two ends", ["a\n\rb"], "a\n\nb\n"],
    ["nothing is nothing", [], ""],
  ] as const
) {
  Deno.test(`lines: ${what}`, () =>
    assertEquals(cut(chunks.map((chunk) => encoder.encode(chunk))).join(""), lines));
}

Deno.test("lines: however the bytes are chunked, the lines are the same (1,000 seeded flows)", () => {
  for (let seed = 1; seed <= 1_000; seed++) {
    const random = seeded(seed);
    const alphabet = ["\n", "\r", "\r\n", "x", "\xff\x80", "é", "\x1b[31m", "long".repeat(20)];
    const text = Array.from({ length: random() * 60 }, () => alphabet[Math.floor(random() * alphabet.length)])
      .join("");
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = 1 + Math.floor(random() * 8);
      chunks.push(bytes.slice(at, at + length));
      at += length;
    }
    const blocks = cut(chunks);
    assertEquals(blocks.join(""), wholeLines(binary(bytes)), `seed ${seed}`);
    assert(blocks.every((block) => block.endsWith("\n")), `seed ${seed}`);
  }
});

Deno.test("lines: a chunk's memory may be used again", () => {
  const cutter = new LineCutter();
  const memory = encoder.encode("one\ntwo");
  const block = cutter.push(memory)!;
  memory.fill(0);
  assertEquals([decoder.decode(block), decoder.decode(cutter.flush()!)], ["one\n", "two\n"]);
});

Deno.test("lines: a line of 20 MB stays whole, one without an end does not take all memory", () => {
  const chunk = new Uint8Array(65_536).fill(120);
  const cutter = new LineCutter();
  for (let times = 0; times < 320; times++) assertEquals(cutter.push(chunk), null);
  assertEquals(cutter.push(encoder.encode("\n"))?.length, 320 * 65_536 + 1);
  let pushed = 0;
  let block: Uint8Array | null = null;
  while (block === null && pushed < 100 * 1024 * 1024) {
    block = cutter.push(chunk);
    pushed += chunk.length;
  }
  assertEquals(block?.length, pushed + 1);
});

Deno.test("the last 1,000 lines are kept, however they come, and memory is bounded (100 seeded flows)", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = seeded(seed);
    const tail = new Tail();
    const all: string[] = [];
    for (let times = 0; times < 200; times++) {
      const block = Array.from({ length: 1 + Math.floor(random() * 40) }, () => {
        all.push(`${all.length} ${"x".repeat(random() * 50)}`);
        return all.at(-1)!;
      });
      tail.push(encoder.encode(block.map((line) => `${line}\n`).join("")));
    }
    for (const count of [0, 1, 3, 20, 1_000]) {
      assertEquals(tail.last(count), count === 0 ? [] : all.slice(-count), `seed ${seed}`);
    }
    assertLess(tail.last(Infinity).join("").length, 300_000);
  }
});

Deno.test("lines of megabytes are kept as far as memory is bounded, the last one always", () => {
  const tail = new Tail();
  for (let index = 0; index < 20; index++) tail.push(encoder.encode(`${index}${"x".repeat(1_500_000)}\n`));
  const kept = tail.last(1_000);
  assertEquals(kept.at(-1)?.slice(0, 3), "19x");
  assertLess(kept.reduce((sum, line) => sum + line.length, 0), 6_000_000);
  tail.push(encoder.encode(`${"y".repeat(30_000_000)}\n`));
  assertLess(tail.last(1_000).reduce((sum, line) => sum + line.length, 0), 6_000_000);
});

Deno.test("an empty line and bytes that are not UTF-8 are kept as lines", () => {
  const tail = new Tail();
  tail.push(Uint8Array.of(10, 255, 65, 10));
  assertEquals(tail.last(10), ["", "\ufffdA"]);
});
