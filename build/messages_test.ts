// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { literals } from "./messages.ts";

Deno.test("the texts of a source are found, whatever stands around them", () => {
  const source =
    '// no "text"\nf(/"/, \'a b\', `c ${d ? `e ${f}` : "g } h"} ${i}`); /* "no" */ x = 1 / 2 / "j";';
  assertEquals(literals(source).map(({ text }) => text), ["a b", "e {f}", "g } h", "c {...} {i}", "j"]);
});
