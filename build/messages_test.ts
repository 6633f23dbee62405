// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { LIST, literals, messages } from "./messages.ts";
import { ROOT } from "./sources.ts";

Deno.test(`${LIST} holds every message; if not, run: deno task messages`, async () => {
  assertEquals((await Deno.readTextFile(`${ROOT}/${LIST}`)).split("\n"), messages().split("\n"));
});

Deno.test("the texts of a source are found, whatever stands around them", () => {
  const source =
    '// no "text"\nf(/"/, \'a b\', `c ${d ? `e ${f}` : "g } h"} ${i}`); /* "no" */ x = 1 / 2 / "j";';
  assertEquals(literals(source).map(({ text }) => text), ["a b", "e {f}", "g } h", "c {...} {i}", "j"]);
});
