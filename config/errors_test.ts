// @ts-types="./std.d.ts"
import { assertEquals } from "@std/assert";
import { closest } from "./errors.ts";

for (
  const [word, candidates, expected] of [
    ["allways", ["always", "never"], "always"],
    ["stor", ["shop", "store"], "store"],
    ["wbe", ["db", "web", "bot"], "web"],
    ["DB", ["web", "db"], "db"],
    ["restartPolicy", ["restart_policy"], "restart_policy"],
    ["depends", ["dependencies", "depend"], "depend"],
    ["бд", ["db", "бот"], null],
    ["бота", ["db", "бот"], "бот"],
    ["xyz", ["db", "web"], null],
    ["", ["a"], null],
    ["a", [], null],
    ["x".repeat(1_000_000), ["x".repeat(1_000_000)], null],
  ] as const
) {
  Deno.test(`closest to ${word.slice(0, 20)} of ${String(candidates).slice(0, 30)} is ${expected}`, () => {
    assertEquals(closest(word, candidates), expected);
  });
}
