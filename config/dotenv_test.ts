// @ts-types="./std.d.ts"
import { assert, assertEquals, assertNotMatch, assertThrows } from "@std/assert";
import type { Dotenv } from "./dotenv.ts";
import { parseDotenv, readDotenv, withDotenv } from "./dotenv.ts";
import { UserError } from "./errors.ts";

interface Case {
  name: string;
  input: string;
  env: Record<string, string>;
  expected: [key: string, value: string | null][];
}

/** A reviver sees the keys one by one, also `__proto__`, which a plain reading would lose in assignments. */
function readCases(): Case[] {
  const cases = JSON.parse(Deno.readTextFileSync(new URL("../testing/dotenv-cases.json", import.meta.url)));
  return cases.map((each: Case) => ({ ...each, expected: Object.entries(each.expected) }));
}

function sorted(entries: Iterable<[string, string | null]>): [string, string | null][] {
  return [...entries].sort(([a], [b]) => a < b ? -1 : 1);
}

function write(content: string | Uint8Array): { path: string } & Disposable {
  const path = Deno.makeTempFileSync({ suffix: ".env" });
  Deno.writeFileSync(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
  return { path, [Symbol.dispose]: () => Deno.removeSync(path) };
}

/** Why a file with this content is refused, in words that never show a value. */
function refusal(content: string | Uint8Array): string {
  using file = write(content);
  const { message } = assertThrows(() => readDotenv(file.path, {}), UserError);
  assertNotMatch(message, /hunter2/);
  return message.replaceAll(file.path, "FILE");
}

const cases = readCases();
assert(cases.length > 100);
for (const { name, input, env, expected } of cases) {
  Deno.test(`.env case ${name}`, () => {
    using file = write(input);
    const dotenv = readDotenv(file.path, env);
    assertEquals(sorted(dotenv.entries), sorted(expected));
    assertEquals(parseDotenv(input, env), dotenv);
    const loaded = new Map(Object.entries(env));
    for (const [key, value] of expected) if (value !== null) loaded.set(key, value);
    assertEquals(sorted(Object.entries(withDotenv(env, dotenv))), sorted(loaded));
  });
}

for (const code of "1680 2000 2005 200a 2028 2029 202f 205f 3000".split(" ")) {
  Deno.test(`.env: U+${code} is a blank around keys and values`, () => {
    const blank = String.fromCodePoint(parseInt(code, 16));
    assertEquals([...parseDotenv(`A${blank}=${blank}b${blank}`, {}).entries], [["A", "b"]]);
  });
}

Deno.test(".env: a quoted key is not empty", () => {
  const { entries, skipped } = parseDotenv("''=x\nA=1", {});
  assertEquals([[...entries], skipped], [[["A", "1"]], [1]]);
});

// What the table leaves open, as python-dotenv 1.2.2 answers it.
const answers: [what: string, input: string, expected: [string, string | null][]][] = [
  ["a blank before # is not a comment at the start of a value", "A= # x\nB=\t#y # z", [["A", "# x"], [
    "B",
    "#y",
  ]]],
  ["Python's own blanks end keys and values", "A\x1f=\x1cb\x1d\x85\nC=\x1e#d", [["A", "b"], ["C", "#d"]]],
  ["a form feed does not end a line", "A=b\fC=d", [["A", "b\fC=d"]]],
  ["escapes by letter", String.raw`A="\a\b\f\n\r\t\v"`, [["A", "\x07\b\f\n\r\t\v"]]],
  ["an escaped backslash before a letter", String.raw`A="\\n"`, [["A", String.raw`\n`]]],
  ["a quoted value closed by its last escaped quote", String.raw`A='b\' c\'`, [[
    "A",
    String.raw`b' c` + "\\",
  ]]],
  ["a name with a colon is no reference", "A=${B:C}${B:}${B:-d}", [["A", "${B:C}${B:}d"]]],
  ["a default keeps what looks like a reference", "A=${B:-${C}", [["A", "${C"]]],
  ["a reference without a name is empty", "A=[${}${:-d}]", [["A", "[d]"]]],
  ["names that every JavaScript object has", "A=${toString}${constructor:-c}${__proto__}", [["A", "c"]]],
  ["a key spanning lines", "'a\nb'=c", [["a\nb", "c"]]],
];
for (const [what, input, expected] of answers) {
  Deno.test(`.env: ${what}`, () => assertEquals([...parseDotenv(input, {}).entries], expected));
}

Deno.test("statements that can't be read are named by the line on which they begin", () => {
  const { skipped, entries } = parseDotenv(
    "\n\r\n= x\r# fine\nA='1\n2'\nB='3\n4' no\n\n  C D\nE=5\nF=\"open",
    {},
  );
  assertEquals(skipped, [3, 7, 10, 12]);
  assertEquals([...entries], [["A", "1\n2"], ["E", "5"]]);
});

Deno.test("a variable named __proto__ survives loading and a later copy", () => {
  const loaded = { ...withDotenv({ A: "1" }, parseDotenv("__proto__=x\nB=${__proto__}", {})) };
  assertEquals(Object.entries(loaded), [["A", "1"], ["__proto__", "x"], ["B", "x"]]);
});

Deno.test("loading changes neither of its arguments, and a key without = keeps the process's value", () => {
  const environment = { A: "1", B: "2" };
  const dotenv: Dotenv = { entries: new Map([["A", null], ["B", "3"]]), skipped: [], lines: new Map() };
  assertEquals({ ...withDotenv(environment, dotenv) }, { A: "1", B: "3" });
  assertEquals(environment, { A: "1", B: "2" });
  assertEquals(dotenv.entries.size, 2);
});

Deno.test("a missing .env file is NotFound, for the caller to judge", () => {
  const folder = Deno.makeTempDirSync();
  try {
    assertThrows(() => readDotenv(`${folder}/.env`, {}), Deno.errors.NotFound);
  } finally {
    Deno.removeSync(folder);
  }
});

Deno.test("a folder in place of a .env file is reported as one", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const { message } = assertThrows(() => readDotenv(folder, {}), UserError);
    assertEquals(message, `Cannot read ${folder}: it is a folder; name a file.`);
  } finally {
    Deno.removeSync(folder);
  }
});

Deno.test({
  name: "a .env file that may not be read is reported as such",
  ignore: Deno.build.os === "windows" || Deno.uid() === 0, // root may read everything
  fn() {
    using file = write("A=hunter2\n");
    Deno.chmodSync(file.path, 0);
    const { message } = assertThrows(() => readDotenv(file.path, {}), UserError);
    assertEquals(
      message,
      `Cannot read ${file.path}: reading it is not permitted; change its mode or owner.`,
    );
  },
});

for (
  const [what, bytes, line] of [
    ["Latin-1", [...new TextEncoder().encode("A=1\r\nПАРОЛЬ=hunter2 "), 0xe9, 0x0a, 0xff], 2],
    ["a stray byte", [0x0a, 0xff], 2],
    ["a stray byte behind a byte order mark", [0xef, 0xbb, 0xbf, 0x0a, 0xff], 2],
    ["a character that is U+FFFD itself before it", [0xef, 0xbf, 0xbd, 0x0a, 0xff], 2],
    ["UTF-16", [0xff, 0xfe, 0x41, 0x00], 1],
    ["half a character", [0x41, 0x3d, 0x0a, 0xe2, 0x82], 2],
    ["half of U+FFFD", [0x41, 0x3d, 0x0a, 0xef, 0xbf], 2],
  ] as const
) {
  Deno.test(`a .env file that is not UTF-8 is refused by name and line: ${what}`, () => {
    const expected = `Cannot read FILE: line ${line} is not UTF-8; save the file as UTF-8.`;
    assertEquals(refusal(new Uint8Array(bytes)), expected);
  });
}

for (
  const [content, problem] of [
    ["A=1\n\nB='hunter2\n\0'\n", "line 3: an environment can't hold a NUL character; remove it."],
    ["A=hunter2\0\nC=1\nB=${A}\nA=x\n", "line 3: an environment can't hold a NUL character; remove it."],
    ["A\0=hunter2\n", "line 1: an environment can't hold a NUL character; remove it."],
    ["A=1\n'B=C'=hunter2\n", 'line 2: the name of a variable can\'t contain "="; rename it.'],
  ] as const
) {
  Deno.test(`.env: ${JSON.stringify(content)}, which no environment can hold, is refused by line`, () => {
    assertEquals(refusal(content), `Cannot use FILE, ${problem}`);
  });
}

Deno.test("what sets nothing is not refused", () => {
  using file = write("'B=C'\nA=\0\nA=1\n");
  assertEquals([...readDotenv(file.path, {}).entries], [["B=C", null], ["A", "1"]]);
});

Deno.test("references that double a value again and again are refused before they fill the memory", () => {
  const lines = ["A=hunter2"];
  for (let doubled = 0; doubled < 60; doubled++) lines.push("A=${A}${A}");
  const problem = "line 26: its references make a value of over 128 Mi characters.";
  assertEquals(refusal(lines.join("\n")), `Cannot use FILE, ${problem}`);
  const { message } = assertThrows(() => parseDotenv(lines.join("\n"), {}), UserError);
  assertEquals(message, `Cannot use .env, ${problem}`);
});

Deno.test("values of megabytes are read in every form", () => {
  const long = "0123456789abcde ".repeat(5 * 2 ** 16); // 5 MB
  const escaped = "\\\\ \\' \\n 'x\n".repeat(2 ** 19);
  for (
    const [input, expected] of [
      [`A=${long}# end`, long.trimEnd()],
      [`A='${long}'`, long],
      [`A="${long}" # end`, long],
      [`A="${escaped}"`, "\\ ' \n 'x\n".repeat(2 ** 19)],
      [`A='${long}`, undefined],
      [`A=${"${".repeat(2 ** 20)}:${"}".repeat(2 ** 20)}`, "${".repeat(2 ** 20) + ":" + "}".repeat(2 ** 20)],
      [`A=${"${x:".repeat(2 ** 20)}`, "${x:".repeat(2 ** 20)],
      [`A=${"#".repeat(2 ** 22)}`, "#".repeat(2 ** 22)],
      [`A=${" x".repeat(2 ** 21)}`, " x".repeat(2 ** 21).trimStart()],
      [`${"A".repeat(2 ** 20)}\nA=1`, "1"],
    ]
  ) {
    assert(parseDotenv(`${input}\n`, {}).entries.get("A") === expected, input?.slice(0, 20)); // a diff would be endless
  }
});

Deno.test("210,000 lines of every kind are read, and quotes left open don't make each look to the end", () => {
  const repeat = (line: (n: number) => string) =>
    Array.from({ length: 210_000 }, (_, n) => line(n)).join("\n");
  const kinds = [
    (n: number) => `K${n}=${n}`,
    (n: number) => `export K${n} = 'a\n${n}' # c`,
    (n: number) => `K${n}=\${K${n - 2}}${n} # c`,
    (n: number) => `K${n}`,
    (n: number) => `no sense ${n}`,
    () => "# nothing",
    () => "",
  ];
  const { entries, skipped } = parseDotenv(repeat((n) => kinds[n % kinds.length]!(n)), {});
  assertEquals(entries.size, 120_000);
  assertEquals(entries.get("K209995"), "209993209995");
  assertEquals(skipped.length, 30_000);

  assertEquals(parseDotenv(repeat((n) => `K${n}="open`), {}).skipped.length, 105_000);
  assertEquals(parseDotenv(`A='\n` + repeat(() => `B="\\"`), {}).entries.size, 0);
  assertEquals(parseDotenv(`A="\n` + repeat(() => `B='b\\"`), {}).entries.size, 1);
  assertEquals(parseDotenv(`'\n` + repeat(() => `"`), {}).entries.get('"'), null);
});
