// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { tableText } from "./table.ts";

Deno.test("columns are aligned as a terminal shows them, also where characters are wide", async () => {
  assertEquals(
    await tableText([["JOB", "STATE"], ["日本", "done"], ["a😀", "café"], ["12345", ""]]),
    [
      "JOB    STATE",
      "日本   done",
      "a😀    café",
      "12345",
    ].join("\n"),
  );
});

Deno.test("a colour changes nothing of the columns", async () => {
  const paint = (cell: string, row: number, column: number) => row === 1 && column === 0 ? `<${cell}>` : cell;
  assertEquals(await tableText([["a", "b"], ["long", "c"]], paint), "a     b\n<long>  c");
});
