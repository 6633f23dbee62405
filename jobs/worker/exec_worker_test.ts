// Commands as tasks: what they read and write, and that nothing of them is left.

// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { isAlive, waitUntil } from "../../testing/run.ts";
import { execTask, outcomeOf } from "./exec_worker.ts";
import type { JsonObject } from "../model/job.ts";
import { type TaskContext, type TaskOutcome, TaskStopped } from "./task.ts";

function contextWith(signal = new AbortController().signal): TaskContext {
  return {
    taskId: "task-1",
    jobId: "job-1",
    priority: 0,
    signal,
    sendProgress: () => Promise.resolve(),
    addToHotCache() {},
    removeFromHotCache() {},
  };
}

async function run(
  command: string,
  params: JsonObject = {},
  options: Parameters<typeof execTask>[2] & { signal?: AbortSignal } = {},
): Promise<TaskOutcome> {
  return await execTask("job", command, options)(params, contextWith(options.signal)) ??
    { status: "nothing" };
}

for (
  const [text, outcome] of [
    ["", { status: "success" }],
    [" \n", { status: "success" }],
    ['{"a":1}', { status: "success", data: { a: 1 } }],
    ['{"status":"ok","count":3}', { status: "success", data: { status: "ok", count: 3 } }],
    ['{"status":"paid"}', { status: "paid" }],
    ['{"status":"success","data":{"a":1}}', { status: "success", data: { a: 1 } }],
    ['{"status":"success","data":[1]}', { status: "success", data: { status: "success", data: [1] } }],
    ['{"status":"failure","error":"no"}', { status: "failure", error: "no" }],
    ['{"status":"failure","error":{"code":"PERMANENT_ERROR","message":"no"}}', {
      status: "failure",
      error: { code: "PERMANENT_ERROR", message: "no" },
    }],
    ["[1,2]", { status: "success", data: { result: [1, 2] } }],
    ["null", { status: "success", data: { result: null } }],
    ["{", undefined],
    ["done", undefined],
  ] as const
) {
  Deno.test(`stdout ${JSON.stringify(text)} means ${JSON.stringify(outcome)}`, () => {
    assertEquals<unknown>(outcomeOf(text), outcome);
  });
}

for (
  const [what, command, code, message] of [
    [
      "its exit status and stderr are the error",
      "echo 'no disk' >&2; exit 3",
      "TRANSIENT_ERROR",
      "The command of task job exited with status 3: no disk",
    ],
    ["a status without words", "exit 7", "TRANSIENT_ERROR", "The command of task job exited with status 7."],
    ["a signal", "kill -9 $$", "TRANSIENT_ERROR", "The command of task job was ended by SIGKILL."],
    ["no JSON", "echo hello", "PERMANENT_ERROR", "The command of task job wrote no JSON to stdout."],
    [
      "a program that is not there",
      "no-such-program-1234",
      "TRANSIENT_ERROR",
      /^The command of task job exited with status 127: [^\n]*no-such-program-1234: [^\n]*not found$/,
    ],
    [
      "an outcome of its own",
      `echo '{"status":"failure","error":{"code":"INVALID_INPUT_ERROR","message":"no name"}}'; exit 1`,
      "INVALID_INPUT_ERROR",
      "no name",
    ],
    [
      "too much output",
      "yes",
      "PERMANENT_ERROR",
      "The command of task job wrote more than 100000 bytes to stdout.",
    ],
  ] as const
) {
  Deno.test(`a command that fails: ${what}`, async () => {
    const { status, error } = await run(command, {}, { maxOutputBytes: 100_000 });
    assert(typeof error === "object");
    assertEquals([status, error.code], ["failure", code]);
    if (typeof message === "string") assertEquals(error.message, message);
    else assertMatch(error.message, message);
  });
}

Deno.test("params come as JSON on stdin, the result goes as JSON to stdout, whatever the characters", async () => {
  const params = { text: "Grüße \u{1f600}\n\"'$", list: [1, null], big: "x".repeat(300_000) };
  assertEquals(await run("cat", params), { status: "success", data: params });
});

Deno.test("a command need not read its params", async () => {
  assertEquals(await run("true", { big: "x".repeat(1_000_000) }), { status: "success" });
});

Deno.test("it knows its task, but none of the worker's tokens", async () => {
  const environment = {
    PATH: "/usr/bin:/bin",
    WORKER_TOKEN: "s3cret",
    CLIENT_TOKEN: "s3cret",
    COLOUR: "blue",
  };
  const { data } = await run(`env | python3 -c 'import json,sys; print(json.dumps(sys.stdin.read()))'`, {}, {
    environment,
  });
  const text = String(data?.result);
  for (const line of ["TASK_ID=task-1", "JOB_ID=job-1", "TASK_TYPE=job", "COLOUR=blue"]) {
    assertStringIncludes(text, line);
  }
  assert(!text.includes("s3cret"), text);
});

Deno.test("stderr is handed on line by line, without control codes", async () => {
  const lines: string[] = [];
  await run(String.raw`printf 'one\033[31mred\033[0m\ntwo\007\nlast' >&2`, {}, {
    onStderr: (line) => lines.push(line),
  });
  assertEquals(lines, ["onered", "two", "last"]);
});

Deno.test("of a flood on stderr the end is kept", async () => {
  const { error } = await run("seq 100000 >&2; echo 'the reason' >&2; exit 1");
  assert(typeof error === "object");
  assertStringIncludes(error.message, "the reason");
  assert(error.message.length < 5_000);
});

for (
  const [what, command] of [
    ["a program and its child", "sleep 300 & echo $! >&2; echo $$ >&2; wait"],
    [
      "a program that ignores SIGTERM",
      "trap '' TERM; (trap '' TERM; while :; do sleep 0.1; done) & echo $! >&2; echo $$ >&2; wait; wait",
    ],
  ] as const
) {
  for (const why of ["cancelled", "timeout", "shutdown"] as const) {
    Deno.test(`${why}: ${what} are gone when the task returns`, async () => {
      const pids: string[] = [];
      const stop = new AbortController();
      const outcome = run(command, {}, {
        signal: stop.signal,
        killGraceMs: 50,
        onStderr: (line) => pids.push(line),
      });
      await waitUntil(() => pids.length >= 2, "both are there");
      stop.abort(new TaskStopped(why));
      assertEquals((await outcome).status, "failure");
      await waitUntil(() => pids.every((pid) => !isAlive(Number(pid))), "both are gone");
    });
  }
}

Deno.test("what a command leaves behind is swept and holds nothing up", async () => {
  const pids: string[] = [];
  const outcome = await run(`sleep 300 & echo $! >&2; echo '{"a":1}'`, {}, {
    onStderr: (line) => pids.push(line),
  });
  assertEquals(outcome, { status: "success", data: { a: 1 } });
  await waitUntil(() => pids.every((pid) => !isAlive(Number(pid))), "the sleeper is gone");
});

Deno.test("one that has left the group, and holds the pipes, is not waited for", async () => {
  const pids: string[] = [];
  const outcome = await run(`setsid sleep 300 & echo $! >&2; sleep 0.2; echo 1`, {}, {
    onStderr: (line) => pids.push(line),
  });
  assertEquals(outcome, { status: "success", data: { result: 1 } });
  for (const pid of pids) if (isAlive(Number(pid))) Deno.kill(Number(pid), "SIGKILL");
});

Deno.test("a task that was stopped before it began starts nothing", async () => {
  const lines: string[] = [];
  const { status } = await run("echo began >&2", {}, {
    signal: AbortSignal.abort(),
    onStderr: (line) => lines.push(line),
  });
  assertEquals([status, lines], ["failure", []]);
});
