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
  for (const text of ["one", "two", "three"]) assertStringIncludes(first!, text);
  terminal.draw(["one", "two", "three"], size);
  assertEquals((await written()).join(""), "");
  terminal.draw(["one", "TWO", "three"], size);
  const changed = await written();
  assertEquals(changed.length, 1);
  assertStringIncludes(changed[0]!, "TWO");
  assert(!changed[0]!.includes("one") && !changed[0]!.includes("three"));
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
    ["\x1b[A", [{ kind: "up" }]],
    ["\x1bOB", [{ kind: "down" }]],
    ["\r", [{ kind: "enter" }]],
    ["\n", [{ kind: "enter" }]],
    ["\x1b", [{ kind: "escape" }]],
    ["q?", [{ kind: "character", character: "q" }, { kind: "character", character: "?" }]],
    ["\x1b[24;1R", [{ kind: "located", row: 24 }]],
    ["\x1b[A\x1b[B\x1b", [{ kind: "up" }, { kind: "down" }, { kind: "escape" }]],
    ["\x1b[C\x1b[5~\x1b[1;5D\x1b[?62;c", []],
    ["\x1b[200~q\x1b[A\rq\x1b[201~\x1b[A", [{ kind: "up" }]],
    ["?\x1b[200~q\x1b[201~\x1b[200~q\x1b[200~q\x1b[201~\r", [
      { kind: "character", character: "?" },
      { kind: "enter" },
    ]],
    ["ж🎉", [{ kind: "character", character: "ж" }, { kind: "character", character: "🎉" }]],
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
      assertEquals(keys, [{ kind: "character", character: "?" }], JSON.stringify(parts));
    }
  }
});
