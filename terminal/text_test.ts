// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertLess } from "@std/assert";
import widthOf from "string-width";
import { STATUS } from "./messages.ts";
import { displayWidth, fit, formatUptime, loadMeasure, stripControl, tableText } from "./text.ts";

await loadMeasure();

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
  Deno.test(`a service's text: ${what}`, () => {
    assertEquals([stripControl(text, false), stripControl(text, true)], [bare, coloured]);
  });
}

Deno.test("a service's colour ends with its line", () => {
  assertEquals(stripControl("\x1b[31mred\nplain\n", true), "\x1b[31mred\x1b[0m\nplain\x1b[0m\n");
});

Deno.test("control codes are removed in linear time, whatever the text", () => {
  const startedAt = performance.now();
  for (const piece of ["\x1b[", "\x1b]0;", "\x1bP", "\x1b[1;", "\x1b", "\x1b]8;;\x1b[31m"]) {
    stripControl(piece.repeat(300_000), true);
  }
  assertLess(performance.now() - startedAt, 20_000);
});

for (
  const [text, plain, coloured] of [
    ["plain\ttext\n", "plain\ttext\n", "plain\ttext\n"],
    ["\x1b[31mred\x1b[0m\n", "red\n", "\x1b[31mred\x1b[0m\x1b[0m\n"],
    ["\x1b[38;2;1;2;3mrgb\n", "rgb\n", "\x1b[38;2;1;2;3mrgb\x1b[0m\n"],
    ["\x1b[38:5:9mcolons\n", "colons\n", "\x1b[38:5:9mcolons\x1b[0m\n"],
    ["\x1b[2J\x1b[H\x1b[3;4Hhere\n", "here\n", "here\n"],
    ["\x1b[?1049h\x1b[?25lapp\x1b[?25h\n", "app\n", "app\n"],
    ["\x1b[1;5r\x1b[6n\x1b[cask\n", "ask\n", "ask\n"],
    ["\x1b]0;a title\x07text\n", "text\n", "text\n"],
    ["\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link\n", "link\n"],
    ["\x1bP1$r\x1b\\dcs \x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\\n", "dcs \n", "dcs \n"],
    ["\x1bc\x1b7\x1b8\x1b(0\x1b#8reset\n", "reset\n", "reset\n"],
    ["bell\x07 back\x08space \x0b\x0c\x0e\x0f\x7f\n", "bell backspace \n", "bell backspace \n"],
    ["\u009b2J\u0085c1\u009d0;t\n", "2Jc10;t\n", "2Jc10;t\n"],
    ["cut off \x1b[3\n", "cut off 3\n", "cut off 3\n"],
    ["cut off \x1b\n", "cut off \n", "cut off \n"],
    ["\x1b[>4;2mkeys\x1b[<u\n", "keys\n", "keys\n"],
    ["Ж 日本 🎉\n", "Ж 日本 🎉\n", "Ж 日本 🎉\n"],
  ] as const
) {
  Deno.test(`${JSON.stringify(text)} is shown as ${JSON.stringify(plain)}`, () => {
    assertEquals(stripControl(text, false), plain);
    assertEquals(stripControl(text, true), coloured);
  });
}

Deno.test("a line of megabytes of escape sequences is cleaned in time", () => {
  for (const piece of ["\x1b[", "\x1b]", "\x1b[31m", "\x1bP", "x\x1b", "\x1b]0;t"]) {
    const before = performance.now();
    stripControl(piece.repeat(500_000), true);
    assert(performance.now() - before < 3_000, JSON.stringify(piece));
  }
});

for (
  const [text, columns, fitted] of [
    ["abc", 5, "abc  "],
    ["abc", 3, "abc"],
    ["abcd", 3, "ab…"],
    ["", 2, "  "],
    ["abc", 0, ""],
    ["abc", 1, "…"],
    ["🔄🔄", 3, "🔄…"],
    ["🔄🔄", 2, "… "],
    ["日本語", 5, "日本…"],
    ["日本語", 4, "日… "],
    ["e\u0301e\u0301e\u0301", 2, "e\u0301…"],
    ["👩‍👩‍👧‍👦x", 3, "👩‍👩‍👧‍👦x"],
    ["Веб", 4, "Веб "],
  ] as const
) {
  Deno.test(`"${text}" fits ${columns} columns as "${fitted}"`, () => {
    assertEquals(fit(text, columns), fitted);
    assertEquals(widthOf(fitted), columns);
  });
}

for (
  const [ms, shown] of [
    [-5, "00:00:00"],
    [999, "00:00:00"],
    [61_000, "00:01:01"],
    [323_000, "00:05:23"],
    [86_399_999, "23:59:59"],
    [360_000_000, "100:00:00"],
  ] as const
) {
  Deno.test(`an uptime of ${ms} ms is shown as ${shown}`, () => assertEquals(formatUptime(ms), shown));
}

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

Deno.test("the marks of states are as wide as they are measured", () => {
  for (const { mark } of Object.values(STATUS)) assertEquals(displayWidth(mark), widthOf(mark), mark);
});
