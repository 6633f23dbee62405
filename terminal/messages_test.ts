// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import type { ServiceSnapshot, ServiceState } from "../supervisor/model.ts";
import { crashCard, describeChange, describeState } from "./messages.ts";
import { PAST, STATES, WELL } from "../testing/services.ts";

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
    [{ ...STATES.stopped, lastExit: WELL }, ""],
  ] as const satisfies readonly (readonly [ServiceState, string])[]
) {
  Deno.test(`the note on a service that is ${state.kind}: ${words || "nothing"}`, () => {
    assertEquals(describeState(rowOf(state), 10_000), words);
  });
}

Deno.test("a task that has ended well is done", () => {
  const row = rowOf({ ...STATES.stopped, lastExit: WELL }, { kind: "task" });
  assertEquals(describeState(row, 0), "done");
});

const CRASHED: ServiceState = {
  ...STATES.crashed,
  ranMs: 125_000,
  reason: "killed by SIGKILL, perhaps out of memory",
};

Deno.test("a crash card names the service, how it ended, how long it ran, and its last 20 lines", () => {
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
  assertEquals(crashCard(rowOf(STATES.running), ["one"], false), [], "it did not crash");
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
  const grouped = [
    "  + Exception Group Traceback (most recent call last):",
    ...frames(30).map((line) => `  |${line}`),
    "    +------",
  ];
  for (const lines of [traceback, grouped]) {
    const shown = crashCard(rowOf(CRASHED), ["started", "working", ...lines], false).slice(2);
    assertEquals(shown.map((line) => line.slice(4)), lines);
  }
});

Deno.test("a crash card does not go back to a traceback that was over before its last lines", () => {
  const lines = ["Traceback (most recent call last):", '  File "x.py"', "ValueError: 1"];
  lines.push(...Array.from({ length: 25 }, (_, index) => `2026-01-01 12:00:00 - INFO - ${index}`));
  assertEquals(crashCard(rowOf(CRASHED), lines, false).length, 22);
});

Deno.test("a crash card holds no control codes of the service", () => {
  const line = (color: boolean) => crashCard(rowOf(CRASHED), ["\x1b[2J\x1b[31mboom\x07"], color)[2];
  assertEquals(line(false), "  │ boom");
  assertEquals(line(true), `  ${colors.red("│")} \x1b[31mboom\x1b[0m`);
});

Deno.test("the message of a change of state holds what someone wants to know", () => {
  const message = (from: ServiceState, to: ServiceState, fields: Partial<ServiceSnapshot> = {}) =>
    describeChange({ kind: "state", time: 0, at: 12_500, row: rowOf(to, fields), from })?.message;
  assertEquals(message(STATES.starting, STATES.running, { port: 80 }), "db is running (PID 7, port 80)");
  assertEquals(message(STATES.running, STATES.stopping), "stopping db");
  assertEquals(message({ ...STATES.stopping, since: 10_000 }, STATES.stopped), "db stopped (ran for 2.5 s)");
  assertEquals(
    message(STATES.running, { ...STATES.crashed, reason: "exited with status 3" }),
    "db exited with status 3",
  );
  assertEquals(message(STATES.pending, STATES.stopped), "db is not started");
  const restarting: ServiceState = {
    ...PAST,
    kind: "restarting",
    attempt: 2,
    retryAt: 13_600,
    reason: "exited with status 1",
  };
  assertEquals(
    message(STATES.running, restarting),
    "db exited with status 1; restarting in 1 s, attempt 2 of 5",
  );
});
