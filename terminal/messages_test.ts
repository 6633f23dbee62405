// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import type { ServiceSnapshot, ServiceState } from "../supervisor/model.ts";
import { crashCard, describeState } from "./messages.ts";
import { PAST, STATES } from "../testing/services.ts";

/** A row with this state. */
function rowOf(state: ServiceState, fields: Partial<ServiceSnapshot> = {}): ServiceSnapshot {
  return {
    name: "db",
    title: "Database",
    kind: "service",
    port: null,
    maxRetries: 5,
    state,
    recent: [],
    ...fields,
  };
}

for (
  const [state, words] of [
    [{ ...PAST, kind: "pending", waitingFor: ["db", "cache"] }, "waits for db, cache"],
    [STATES.pending, ""],
    [{ ...STATES.restarting, attempt: 3, retryAt: 14_000 }, "in 4 s, attempt 3 of 5"],
    [{ ...STATES.restarting, attempt: 0, retryAt: 11_000 }, "in 1 s"],
    [{ ...STATES.stopping, killAt: 12_400 }, "SIGKILL in 3 s"],
    [{ ...STATES.stopping, killAt: Infinity }, "SIGKILL sent"],
    [STATES.failed, "ill"],
    [{ ...STATES.running, restarts: 2 }, "restarted 2x"],
  ] as const satisfies readonly (readonly [ServiceState, string])[]
) {
  Deno.test(`what is said of a service that is ${state.kind}: ${words || "nothing"}`, () => {
    assertEquals(describeState(rowOf(state), 10_000), words);
  });
}

const CRASHED: ServiceState = {
  ...STATES.crashed,
  ranMs: 125_000,
  reason: "killed by SIGKILL, perhaps out of memory",
};

Deno.test("a crash card says which service, how it ended, how long it ran, and its last 20 lines", () => {
  const lines = Array.from({ length: 50 }, (_, index) => `line ${index}`);
  const [head, before, ...shown] = crashCard(rowOf(CRASHED), lines, false);
  assertEquals(
    head,
    "✖ Database [db] killed by SIGKILL, perhaps out of memory, after running for 2 min 5 s.",
  );
  assertEquals(before, "Its last 20 lines:");
  assertEquals(shown, lines.slice(-20).map((line) => `  │ ${line}`));
  assertEquals(crashCard(rowOf(CRASHED), [], false), [head]);
  assertEquals(crashCard(rowOf(CRASHED), ["one"], false).slice(1), ["Its last line:", "  │ one"]);
});

Deno.test("a crash card keeps a traceback whole, with the ones that led to it", () => {
  const frames = (count: number) =>
    Array.from({ length: count }, (_, index) => [`  File "x.py", line ${index}, in f`, "    f()"]).flat();
  const traceback = [
    "Traceback (most recent call last):",
    ...frames(15),
    "KeyError: 'users'",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "Traceback (most recent call last):",
    ...frames(12),
    "app.db.Error: no such table: users",
  ];
  const shown = crashCard(rowOf(CRASHED), ["started", "working", ...traceback], false).slice(2);
  assertEquals(shown.map((line) => line.slice(4)), traceback);
});

Deno.test("a crash card does not go back to a traceback that was over before its last lines", () => {
  const lines = ["Traceback (most recent call last):", '  File "x.py"', "ValueError: 1"];
  lines.push(...Array.from({ length: 25 }, (_, index) => `2026-01-01 12:00:00 - INFO - ${index}`));
  assertEquals(crashCard(rowOf(CRASHED), lines, false).length, 22);
});

Deno.test("a crash card holds no control codes of the service", () => {
  const [, , line] = crashCard(rowOf(CRASHED), ["\x1b[2J\x1b[31mboom\x07"], false);
  assertEquals(line, "  │ boom");
  assert(
    crashCard(rowOf(CRASHED), ["\x1b[2J\x1b[31mboom\x07"], true).every((text) => !text.includes("\x1b[2J")),
  );
});
