// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { GENERATED } from "./generated.ts";
import { ROOT } from "./sources.ts";

for (const [task, { path, make }] of Object.entries(GENERATED)) {
  Deno.test(`${path} is up to date; if not, run: deno task ${task}`, async () => {
    const committed = await Deno.readTextFile(`${ROOT}/${path}`);
    assertEquals(committed.split("\n"), (await make()).split("\n"));
  });
}
