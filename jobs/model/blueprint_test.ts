// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  BlueprintError,
  checkBlueprint,
  type Handler,
  parseCondition,
  StateMachineBlueprint,
} from "./blueprint.ts";

const stay: Handler = () => {};
const made = () => new StateMachineBlueprint({ name: "b", apiEndpoint: "jobs/b/", apiVersion: "v1" });

const FAULTS: [string, StateMachineBlueprint, string[]][] = [
  [
    "is sound",
    made().handlerFor("a", { isStart: true, to: { success: "z" } }, stay).handlerFor("z", { isEnd: true }),
    [],
  ],
  [
    "leads to an end that it need not name",
    made().handlerFor("a", { isStart: true, to: ["finished"] }, stay),
    [],
  ],
  ["has no start", made().handlerFor("a", { isEnd: true }), ["has no start state"]],
  [
    "has two starts",
    made().handlerFor("a", { isStart: true }, stay).handlerFor("b", { isStart: true }, stay),
    [
      "2 start states (a, b)",
    ],
  ],
  ["leads to nothing", made().handlerFor("a", { isStart: true, to: { success: "x" } }, stay), [
    'from "a" on "success" to "x"',
  ]],
  [
    "never reaches a state",
    made().handlerFor("a", { isStart: true, to: ["z"] }, stay).handlerFor("z", { isEnd: true }).handlerFor(
      "y",
      {
        isEnd: true,
      },
    ),
    ['never reaches "y"'],
  ],
  [
    "has a state that is said to be unreachable",
    made().handlerFor("a", { isStart: true, to: ["finished"] }, stay).handlerFor("y", {
      isEnd: true,
      unreachable: true,
    }),
    [],
  ],
  [
    "does not declare all ways",
    made().handlerFor("a", { isStart: true }, stay).handlerFor("y", { isEnd: true }),
    [],
  ],
  [
    "has an end with ways out",
    made().handlerFor("a", { isStart: true, to: ["z"] }, stay).handlerFor("z", { isEnd: true, to: ["a"] }),
    [
      'the end state "z" with ways out',
    ],
  ],
  ["begins at its end", made().handlerFor("a", { isStart: true, isEnd: true }), ["as both start and end"]],
  ["has a state without handler", made().handlerFor("a", { isStart: true }), [
    'the state "a" without a handler',
  ]],
];
for (const [name, blueprint, wanted] of FAULTS) {
  Deno.test(`a blueprint that ${name}: ${wanted.length} faults`, () => {
    const faults = checkBlueprint(blueprint);
    assertEquals(faults.length, wanted.length, faults.join(" "));
    for (const [index, part] of wanted.entries()) assertStringIncludes(faults[index] ?? "", part);
  });
}

Deno.test("names and second handlers are checked where they are written", () => {
  assertThrows(() => new StateMachineBlueprint({ name: "a b" }), BlueprintError, "cannot be named");
  assertThrows(() => made().handlerFor("a", stay).handlerFor("a", stay), BlueprintError, "two handlers");
  assertThrows(
    () => made().handlerFor("a", { when: "initial_data.x == 1" }),
    BlueprintError,
    "without a handler",
  );
  assertThrows(
    () => made().handlerFor("a", { when: "x ==" }, stay),
    BlueprintError,
    "Cannot read the condition",
  );
  assertEquals(made().apiEndpoint, "/jobs/b");
});

Deno.test("state() takes the usual names as they are meant", () => {
  const blueprint = made().state("init", { to: ["completed", "failed"] }, stay).state("completed").state(
    "failed",
  );
  assertEquals(checkBlueprint(blueprint), []);
  assertEquals(blueprint.start, "init");
  assert(blueprint.ends("completed") && blueprint.ends("failed"));
});

Deno.test("DOT and Mermaid quote whatever the names are", () => {
  const blueprint = made().handlerFor('a "q" \\', { isStart: true, to: { 'on "x"': "z" } }, stay).handlerFor(
    "z",
    { isEnd: true },
  );
  assert(
    blueprint.toDot().includes(String.raw`"a \"q\" \\" -> "z" [label="on on \"x\""]`),
    blueprint.toDot(),
  );
  assert(blueprint.toMermaid().includes(`s0(["a #quot;q#quot; \\"])`), blueprint.toMermaid());
});

const CONDITIONS: [string, unknown, boolean][] = [
  ["initial_data.n > 5", 6, true],
  ["initial_data.n > 5", 5, false],
  ["initial_data.n >= 5", 5, true],
  ["context.initial_data.n <= 5", 5, true],
  ["initialData.n != 5", 6, true],
  ["initial_data.n == 'x y'", "x y", true],
  ["initial_data.n == '5'", 5, true],
  ['initial_data.n == "abc"', "abc", true],
  ["initial_data.n < b", "a", true],
  ["initial_data.n > 5", "text", false],
  ["initial_data.n > 5", null, false],
  ["initial_data.n > 5", undefined, false],
  ["initial_data.n != 5", undefined, false],
  ["initial_data.n == true", true, true],
  ["initial_data.n == 1.5", 1.5, true],
  ["initial_data.toString != 5", 1, false],
];
for (const [text, value, wanted] of CONDITIONS) {
  Deno.test(`${text} with ${JSON.stringify(value)} is ${wanted}`, () => {
    const context = { initialData: value === undefined ? {} : { n: value } } as unknown as Parameters<
      Handler
    >[0];
    assertEquals(parseCondition(text)(context), wanted);
  });
}
