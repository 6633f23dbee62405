// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { decoder } from "../config/bytes.ts";
import { Outlet } from "./outlet.ts";
import type { Key } from "./screen.ts";
import { KeyReader, Terminal } from "./screen.ts";

/** An outlet whose writes are kept. */
function keeping(): { outlet: Outlet; writes: string[] } {
  const writes: string[] = [];
  const write = (bytes: Uint8Array) => {
    writes.push(decoder.decode(bytes));
    return Promise.resolve(bytes.length);
  };
  return { outlet: new Outlet({ write }), writes };
}

Deno.test("a frame is one write, and what is as it was is not written", async () => {
  const { outlet, writes } = keeping();
  const terminal = new Terminal(outlet, false);
  terminal.open();
  await outlet.flush();
  const written = async () => {
    await outlet.flush();
    return writes.splice(0);
  };
  await written();
  const { size } = terminal;
  terminal.draw(["one", "two", "three"], size);
  const [first, ...others] = await written();
  assertEquals(others, []);
  for (const [index, text] of ["one", "two", "three"].entries()) {
    assertStringIncludes(first!, `\x1b[${size.rows - 2 + index};1H${text}\x1b[0m\x1b[K`);
  }
  terminal.draw(["one", "two", "three"], size);
  assertEquals((await written()).join(""), "");
  terminal.draw(["one", "TWO", "three"], size);
  const changed = await written();
  assertEquals(changed.length, 1);
  assertEquals(changed[0], `\x1b[?2026h\x1b7\x1b[${size.rows - 1};1HTWO\x1b[0m\x1b[K\x1b8\x1b[?2026l`);
  terminal.draw(["a"], size);
  terminal.draw(["b"], size);
  const latest = await written();
  assertEquals(latest.length, 1);
  assert(!latest[0]!.includes("a\x1b"), "a frame that nobody saw is left out");
  terminal.print("x\ny\n");
  assertEquals((await written()).join("").replaceAll(/\x1b\[K/g, ""), "\r\nx\r\ny");
  terminal.close();
  terminal.draw(["late"], size);
  terminal.close();
  const end = (await written()).join("");
  assertStringIncludes(end, "\x1b[?25h");
  assert(!end.includes("late"));
});

for (
  const [typed, keys] of [
    ["\x1b[A", ["up"]],
    ["\x1bOB", ["down"]],
    ["\r", ["enter"]],
    ["\n", ["enter"]],
    ["\x1b", ["escape"]],
    ["q?", ["q", "?"]],
    ["\x1b[24;1R", [{ row: 24 }]],
    ["\x1b[A\x1b[B\x1b", ["up", "down", "escape"]],
    ["\x1b[C\x1b[5~\x1b[1;5D\x1b[?62;c", []],
    ["\x1b[200~q\x1b[A\rq\x1b[201~\x1b[A", ["up"]],
    ["?\x1b[200~q\x1b[201~\x1b[200~q\x1b[200~q\x1b[201~\r", [
      "?",
      "enter",
    ]],
    ["ж🎉", ["ж", "🎉"]],
    ["", []],
  ] as [string, Key[]][]
) {
  Deno.test(`typing ${JSON.stringify(typed)} means ${JSON.stringify(keys)}`, () => {
    assertEquals(new KeyReader().read(typed), keys);
  });
}

Deno.test("a paste is passed over wherever the reads divide it", () => {
  const typed = "\x1b[200~quit\r\x1b[20\x1b[201~?";
  for (let first = 6; first < typed.length; first++) {
    for (let second = first; second < typed.length; second++) {
      const reader = new KeyReader();
      const parts = [typed.slice(0, first), typed.slice(first, second), typed.slice(second)];
      const keys = parts.flatMap((part) => reader.read(part));
      assertEquals(keys, ["?"], JSON.stringify(parts));
    }
  }
});
