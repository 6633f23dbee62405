// Settings from variables: what each kind of variable takes, and what it says of the rest.

// @ts-types="../../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { VariableReader } from "./variables.ts";

type Read = (variables: VariableReader) => unknown;
const READS = {
  whole: (variables) => variables.whole("X", undefined, 1),
  range: (variables) => variables.whole("X", undefined, 1, 9),
  duration: (variables) => variables.duration("X", 1, 60_000),
  flag: (variables) => variables.flag("X", false),
  choice: (variables) => variables.choice("X", "one", ["one", "TWO"]),
  even: (variables) =>
    variables.parsed("X", "none", "even", (text) => Number(text) % 2 === 0 ? Number(text) : undefined),
} satisfies Record<string, Read>;

for (
  const [kind, value, wanted] of [
    ["whole", " 12 ", 12],
    ["range", "9", 9],
    ["duration", "1.5", 1500],
    ["duration", "1m", 60_000],
    ["duration", "", 1000],
    ["flag", "Yes", true],
    ["flag", "0", false],
    ["choice", "two", "TWO"],
    ["choice", " ", "one"],
    ["even", "0", 0],
    ["even", "", "none"],
  ] as const
) {
  Deno.test(`a variable "${value}" read as ${kind} gives ${wanted}`, () => {
    const variables = new VariableReader({ X: value });
    assertEquals(READS[kind](variables), wanted);
    assertEquals(variables.problems, []);
  });
}

for (
  const [kind, value, problem] of [
    ["whole", "0", "X must be a whole number of at least 1."],
    ["whole", "many", "X must be a whole number of at least 1."],
    ["range", "10", "X must be a whole number from 1 to 9."],
    ["range", "1.5", "X must be a whole number from 1 to 9."],
    ["duration", "-1", "X must be seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m."],
    ["duration", "2m", "X must be seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m."],
    ["flag", "perhaps", "X must be true or false."],
    ["choice", "three", "X must be one of one, TWO."],
    ["even", "1", "X must be even."],
  ] as const
) {
  Deno.test(`a variable "${value}" is refused as ${kind}`, () => {
    const variables = new VariableReader({ X: value });
    READS[kind](variables);
    assertEquals(variables.problems, [problem]);
  });
}
