// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { withCommands } from "./readme.ts";

/** Markdown without the blanks that align its tables. */
const plain = (text: string) => text.replace(/ +\|/g, " |").replace(/-{3,}/g, "---");

Deno.test("the README's table of commands is the command table (deno task readme rewrites it)", async () => {
  const readme = await Deno.readTextFile(`${import.meta.dirname}/../README.md`);
  assertEquals(plain(readme), plain(withCommands(readme)));
});
