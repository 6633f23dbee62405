// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertThrows } from "@std/assert";
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
  ["has no start", made().handlerFor("a", { isEnd: true }), [
    'has no start state; give one state "isStart: true".',
  ]],
  [
    "has two starts",
    made().handlerFor("a", { isStart: true }, stay).handlerFor("b", { isStart: true }, stay),
    ["has 2 start states (a, b); keep one."],
  ],
  ["leads to nothing", made().handlerFor("a", { isStart: true, to: { success: "x" } }, stay), [
    'leads from "a" on "success" to "x", which is not one of its states.',
  ]],
  [
    "never reaches a state",
    made().handlerFor("a", { isStart: true, to: ["z"] }, stay).handlerFor("z", { isEnd: true }).handlerFor(
      "y",
      {
        isEnd: true,
      },
    ),
    ['never reaches "y"; lead to it, or give it "unreachable: true".'],
  ],
  [
    "has a state that is declared unreachable",
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
    ['has the end state "z" with ways out; take away its "to" or its "isEnd".'],
  ],
  ["begins at its end", made().handlerFor("a", { isStart: true, isEnd: true }), [
    'has "a" as both start and end; use two states.',
  ]],
  ["has a state without handler", made().handlerFor("a", { isStart: true }), [
    'has the state "a" without a handler; add one, or "isEnd: true".',
  ]],
];
for (const [name, blueprint, wanted] of FAULTS) {
  Deno.test(`a blueprint that ${name}: ${wanted.length} faults`, () => {
    assertEquals(checkBlueprint(blueprint), wanted.map((fault) => `Blueprint "b" ${fault}`));
  });
}

Deno.test("names and second handlers are checked where they are written", () => {
  const fault = (make: () => unknown) => assertThrows(make, BlueprintError).message;
  assertEquals(
    fault(() => new StateMachineBlueprint({ name: "a b" })),
    'A blueprint cannot be named "a b"; use letters, digits, "_", "-" and ".".',
  );
  assertEquals(
    fault(() => made().handlerFor("a", stay).handlerFor("a", stay)),
    'State "a" of blueprint "b" has two handlers; give all but one a "when".',
  );
  assertEquals(
    fault(() => made().handlerFor("a", { when: "initial_data.x == 1" })),
    'State "a" of blueprint "b" has a "when" without a handler.',
  );
  assertEquals(
    fault(() => made().handlerFor("a", { when: "x ==" }, stay)),
    'Cannot read the condition "x =="; write one like "initial_data.amount > 100" ' +
      "with initial_data, state_history or client and one of == != > < >= <=.",
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
  assertEquals(blueprint.toDot().split("\n"), [
    "digraph {",
    '  label="b"',
    "  node [shape=box style=rounded]",
    String.raw`  "a \"q\" \\" [penwidth=2]`,
    '  "z" [peripheries=2]',
    String.raw`  "a \"q\" \\" -> "z" [label="on on \"x\""]`,
    "}",
    "",
  ]);
  assertEquals(blueprint.toMermaid().split("\n"), [
    "flowchart TD",
    '  s0(["a #quot;q#quot; \\"])',
    '  s1[["z"]]',
    '  s0 -->|"on on #quot;x#quot;"| s1',
    "",
  ]);
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
