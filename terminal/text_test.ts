// @ts-types="../config/std.d.ts"
import { assertEquals, assertLess } from "@std/assert";
import { stripControl } from "./text.ts";

for (
  const [what, text, bare, coloured] of [
    ["plain text stays", "déjà vu 🔄\tx", "déjà vu 🔄\tx", "déjà vu 🔄\tx"],
    ["colours stay where they are wanted", "\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m"],
    ["so do those of 24 bits", "\x1b[38;2;1;2;3mx\x1b[38:5:9my", "xy", "\x1b[38;2;1;2;3mx\x1b[38:5:9my"],
    ["the cursor stays where it is", "a\x1b[2J\x1b[H\x1b[10;20H\x1b[3Ab", "ab", "ab"],
    ["no other screen, no mouse", "\x1b[?1049h\x1b[?1000hx\x1b[?25l", "x", "x"],
    ["no scroll region, no saved cursor, no reset", "\x1b[1;5r\x1b7\x1b8\x1bcx\x1b[!p", "x", "x"],
    [
      "no title, no clipboard, no link",
      "\x1b]0;title\x07\x1b]52;c;eA==\x1b\\x\x1b]8;;http://a\x1b\\b",
      "xb",
      "xb",
    ],
    ["no device control", "\x1bP1$r0m\x1b\\x\x1b_app\x1b\\\x1b^pm\x1b\\", "x", "x"],
    ["no bell, backspace or lone escape", "a\x07\x08b\x1b", "ab", "ab"],
    ["no C1 controls", "a\x9b2Jb\x84", "a2Jb", "a2Jb"],
    ["character sets stay as they are", "\x1b(0lqk\x1b(B", "lqk", "lqk"],
  ] as const
) {
  Deno.test(`a stranger's text: ${what}`, () => {
    assertEquals([stripControl(text, false), stripControl(text, true)], [bare, coloured]);
  });
}

Deno.test("a stranger's colour ends with its line", () => {
  assertEquals(stripControl("\x1b[31mred\nplain\n", true), "\x1b[31mred\x1b[0m\nplain\x1b[0m\n");
});

Deno.test("taming takes linear time, whatever the text", () => {
  const startedAt = performance.now();
  for (const piece of ["\x1b[", "\x1b]0;", "\x1bP", "\x1b[1;", "\x1b", "\x1b]8;;\x1b[31m"]) {
    stripControl(piece.repeat(300_000), true);
  }
  assertLess(performance.now() - startedAt, 20_000);
});
