// @ts-types="../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { parseSize } from "./start.ts";

for (
  const [text, bytes] of [["2048", 2_048], ["64KiB", 65_536], ["10MiB", 10_485_760], ["1.5k", 1_536], [
    "1G",
    1_073_741_824,
  ]] as const
) {
  Deno.test(`a size of ${text} is ${bytes} bytes`, () => assertEquals(parseSize(text), bytes));
}

for (const text of ["", "1", "ten", "-5k", "5 parsecs"]) {
  Deno.test(`"${text}" is refused as a size`, () => {
    assertEquals(
      assertThrows(() => parseSize(text), UserError).message,
      `"${text}" is not a size for --log-size; use 1KiB or more, for example 10MiB.`,
    );
  });
}
