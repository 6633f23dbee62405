// @ts-types="../../config/std.d.ts"
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { BlueprintError, type Handler, StateMachineBlueprint } from "../model/blueprint.ts";
import { Config } from "./config.ts";
import { ConfigError } from "../model/errors.ts";
import { OrchestratorEngine } from "../http/server.ts";
import type { JsonObject, Transitions } from "../model/job.ts";
import type { Storage } from "../model/store.ts";
import { MemoryStorage } from "../stores/memory.ts";
import { SqliteStorage } from "../stores/sqlite.ts";
import { ManualClock } from "../../testing/clock.ts";
import { openTestEngine, type TestEngine, unknownId } from "../testing/engine.ts";

/** Start state dispatches one task; ends are completed, failed and cancelled. */
function taskFlow(more: { transitions?: Transitions; task?: Record<string, unknown>; seen?: string[] } = {}) {
  const { transitions = { success: "completed", failure: "failed" }, task = {}, seen = [] } = more;
  const note: Handler = ({ currentState }) => void seen.push(currentState);
  return new StateMachineBlueprint({ name: "test_flow", apiEndpoint: "/jobs/test", apiVersion: "v1" })
    .handlerFor(
      "start",
      { isStart: true },
      ({ initialData, actions }) =>
        actions.dispatchTask({ taskType: "echo", params: { ...initialData }, transitions, ...task }),
    )
    .handlerFor("completed", { isEnd: true }, note)
    .handlerFor("failed", { isEnd: true }, note)
    .handlerFor("stopped", { isEnd: true }, note);
}

const PATH = "/api/v1/jobs/test";
const ended = (job: JsonObject) =>
  ["finished", "failed", "quarantined", "cancelled"].includes(String(job.status));
const status = (wanted: string) => (job: JsonObject) => job.status === wanted;

async function taken(test: TestEngine, workerId = "w") {
  const task = await test.take(workerId);
  assert(task !== undefined, "no task came");
  return task;
}

Deno.test("a job goes from submission to its end, and its history shows the way", async () => {
  const seen: string[] = [];
  await using test = await openTestEngine({ blueprints: [taskFlow({ seen })] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH, { text: "hi" });
  const waiting = await test.until(id, status("waiting_for_worker"));
  assertEquals(waiting.current_state, "start");
  assertEquals(waiting.waiting_for, 'a worker for "echo"');
  const task = await taken(test);
  assertEquals(task.params, { text: "hi" });
  assertEquals(
    (await test.client(`/api/jobs/${id}`)).json.waiting_for,
    'the result of "echo" from worker "w"',
  );
  assertEquals((await test.client(`/api/jobs/${id}`)).json.task_worker_id, "w");
  const answer = await test.answer("w", task, { status: "success", data: { said: "hi" } });
  assertEquals(answer.json, { status: "result_accepted_success" });
  const job = await test.until(id, ended);
  assertEquals([job.status, job.current_state, job.state_history], ["finished", "completed", { said: "hi" }]);
  assertEquals(seen, ["completed"]);
  const history = (await test.client(`/api/v1/jobs/${id}/history`)).json;
  assertEquals(history.map((entry: JsonObject) => entry.event_type), [
    "job_created",
    "state_started",
    "state_finished",
    "task_dispatched",
    "task_finished",
    "transition",
    "state_started",
    "state_finished",
    "job_finished",
  ]);
  assertEquals(history[4].result, { status: "success", data: { said: "hi" } });
  assertEquals(history[4].worker_id, "w");
});

const OUTCOMES: [
  string,
  unknown,
  { answer: string; status: string; state: string; error?: string; seen: string[] },
][] = [
  ["a success", { status: "success" }, {
    answer: "success",
    status: "finished",
    state: "completed",
    seen: ["completed"],
  }],
  ["a result without status", { data: {} }, {
    answer: "success",
    status: "finished",
    state: "completed",
    seen: ["completed"],
  }],
  ["null", null, { answer: "success", status: "finished", state: "completed", seen: ["completed"] }],
  ["data that is no object", { status: "success", data: [1] }, {
    answer: "success",
    status: "finished",
    state: "completed",
    seen: ["completed"],
  }],
  ["a status without transition", { status: "odd" }, {
    answer: "success",
    status: "failed",
    state: "start",
    error: "Worker returned unhandled status: odd",
    seen: [],
  }],
  ["a permanent error", { status: "failure", error: { code: "PERMANENT_ERROR", message: "no" } }, {
    answer: "failure",
    status: "quarantined",
    state: "failed",
    error: "Task failed with permanent error: no",
    seen: ["failed"],
  }],
  ["invalid input", { status: "failure", error: { code: "INVALID_INPUT_ERROR", message: "bad" } }, {
    answer: "failure",
    status: "failed",
    state: "failed",
    error: "Task failed due to invalid input: bad",
    seen: ["failed"],
  }],
  ["an error without message", { status: "failure", error: { code: "PERMANENT_ERROR" } }, {
    answer: "failure",
    status: "quarantined",
    state: "failed",
    error: "Task failed with permanent error: No error message provided.",
    seen: ["failed"],
  }],
  ["a text as result", "done", {
    answer: "failure",
    status: "failed",
    state: "failed",
    error: "Worker returned a result that is not an object.",
    seen: ["failed"],
  }],
  ["a number as status", { status: 5 }, {
    answer: "failure",
    status: "failed",
    state: "failed",
    error: "Worker returned a status that is not a text.",
    seen: ["failed"],
  }],
  ["cancelled", { status: "cancelled" }, {
    answer: "cancelled",
    status: "cancelled",
    state: "start",
    seen: [],
  }],
];
for (const [name, result, wanted] of OUTCOMES) {
  Deno.test(`${name} as a task's result leads to ${wanted.status}`, async () => {
    const seen: string[] = [];
    await using test = await openTestEngine({ blueprints: [taskFlow({ seen })] });
    await test.register("w", ["echo"]);
    const id = await test.submit(PATH);
    const answer = await test.answer("w", await taken(test), result as JsonObject);
    assertEquals([answer.status, answer.json], [200, { status: `result_accepted_${wanted.answer}` }]);
    const job = await test.until(id, ended);
    assertEquals([job.status, job.current_state, job.error_message], [
      wanted.status,
      wanted.state,
      wanted.error ?? null,
    ]);
    assertEquals(seen, wanted.seen);
  });
}

for (
  const [name, error, message] of [
    ["TRANSIENT_ERROR", { code: "TRANSIENT_ERROR", message: "busy" }, "busy"],
    ["an unknown code", { code: "WHAT", message: "hm" }, "hm"],
    ["a plain text", "broke", "broke"],
    ["no error", undefined, "No error details provided."],
    ["null", null, "No error details provided."],
  ] as const
) {
  Deno.test(`a failure with ${name} is tried four times, then quarantined, and the failure handler runs`, async () => {
    const seen: string[] = [];
    // No timeoutSeconds: the original could not retry without it.
    await using test = await openTestEngine({ blueprints: [taskFlow({ seen })] });
    await test.register("w", ["echo"]);
    const id = await test.submit(PATH);
    const tasks = new Set<string>();
    for (let attempt = 1; attempt <= 4; attempt++) {
      const task = await taken(test);
      tasks.add(task.task_id);
      const { retry_count } = (await test.client(`/api/jobs/${id}`)).json;
      assertEquals(retry_count, attempt - 1);
      const answer = await test.answer("w", task, {
        status: "failure",
        ...(error === undefined ? {} : { error }),
      });
      assertEquals([answer.status, answer.json], [200, { status: "result_accepted_failure" }]);
    }
    assertEquals(tasks.size, 4);
    const job = await test.until(id, ended);
    assertEquals(job.status, "quarantined");
    assertEquals(job.error_message, `Task failed after 4 attempts: ${message}`);
    assertEquals(job.current_state, "failed");
    assertEquals(seen, ["failed"]);
    assertEquals((await test.client("/api/jobs/quarantined")).json, [id]);
    assertEquals((await test.client("/_public/jobs/quarantined")).json, [id]);
  });
}

Deno.test("a flat result, as newer workers send it, counts as the result", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const { job_id, task_id } = await taken(test);
  const body = {
    job_id,
    task_id,
    worker_id: "w",
    status: "failure",
    error: { code: "PERMANENT_ERROR", message: "flat" },
    timestamp: 1,
  };
  assertEquals((await test.worker("/_worker/tasks/result", { body })).json.status, "result_accepted_failure");
  assertEquals((await test.until(id, ended)).error_message, "Task failed with permanent error: flat");
});

Deno.test("a result counts once and only from the worker that has the task", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  await test.register("v", ["echo"]);
  const id = await test.submit(PATH);
  const success = { status: "success", data: { n: 1 } };
  const task = await taken(test);
  const foreign = await test.answer("v", task, success);
  assertEquals([foreign.status, foreign.json.status], [200, "ignored"]);
  assertEquals(foreign.json.reason, "The task is assigned to another worker.");
  const other = await test.answer("w", { ...task, task_id: unknownId() }, success);
  assertEquals([other.status, other.json.status], [200, "ignored"]);
  const nowhere = await test.answer("w", { ...task, job_id: unknownId() }, success);
  assertEquals([nowhere.status, nowhere.json], [200, { status: "ignored", reason: "Job not found" }]);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "waiting_for_worker");
  // The same answer many times at once.
  const answers = await Promise.all(Array.from({ length: 10 }, () => test.answer("w", task, success)));
  assertEquals(answers.map((answer) => answer.status), Array(10).fill(200));
  assertEquals(answers.filter((answer) => answer.json.status === "result_accepted_success").length, 1);
  const late = await test.answer("w", task, { status: "failure", error: { code: "PERMANENT_ERROR" } });
  assertEquals(late.json.status, "ignored");
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "finished");
});

Deno.test("a task that nobody answers in time fails the job through its failure state", async () => {
  const seen: string[] = [];
  await using test = await openTestEngine({
    blueprints: [taskFlow({ seen, task: { timeoutSeconds: 0.1 } })],
  });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const task = await taken(test);
  const job = await test.until(id, ended);
  assertEquals([job.status, job.error_message, job.current_state], [
    "failed",
    "Worker task timed out.",
    "failed",
  ]);
  assertEquals(seen, ["failed"]);
  assertEquals((await test.answer("w", task, { status: "success" })).json.status, "ignored");
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "failed");
});

Deno.test("the time to answer starts at pick-up, the time to be picked up has its own limit", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow({ task: { timeoutSeconds: 0.05 } })] });
  const patient = await test.submit(PATH);
  const hasty = await test.submit(PATH, {}, { "x-dispatch-timeout": "0.1" });
  const job = await test.until(hasty, ended);
  assertEquals([job.status, job.error_message], ["failed", "No worker took the task in time."]);
  assertEquals((await test.client(`/api/jobs/${patient}`)).json.status, "waiting_for_worker");
});

Deno.test("without a capable worker a job waits, says for what, and goes to the first that comes", async () => {
  await using test = await openTestEngine({
    blueprints: [taskFlow({ task: { resourceRequirements: { installed_models: ["llama"] } } })],
  });
  await test.register("poor", ["echo"]);
  const id = await test.submit(PATH);
  assertEquals(await test.take("poor", 0.05), undefined);
  const job = (await test.client(`/api/jobs/${id}`)).json;
  assertEquals([job.status, job.retry_count], ["waiting_for_worker", 0]);
  assertEquals(job.waiting_for, 'a worker for "echo" with the models llama');
  await test.register("rich", ["echo"], { installed_models: [{ name: "llama", version: "2" }] });
  assertEquals((await taken(test, "rich")).job_id, id);
});

Deno.test("a waiting poll is answered at once when a job comes", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const poll = test.take("w", 20);
  const id = await test.submit(PATH);
  assertEquals((await poll)?.job_id, id);
});

Deno.test("a poll whose connection is gone takes no task", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const gone = new AbortController();
  const poll = test.worker("/_worker/workers/w/tasks/next", { signal: gone.signal });
  while (test.engine.core.dispatcher.waiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  gone.abort();
  await assertRejects(() => poll);
  while (test.engine.core.dispatcher.waiting > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const id = await test.submit(PATH);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.task_worker_id, null);
  assertEquals((await taken(test)).job_id, id);
});

Deno.test("a poll whose connection was closed behind it takes no task", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const request =
    "GET /_worker/workers/w/tasks/next HTTP/1.1\r\nHost: a\r\nX-Worker-Token: worker-token\r\n\r\n";
  let lost = 0;
  for (let n = 0; n < 50; n++) {
    const id = await test.submit(PATH);
    const connection = await Deno.connect({ port: Number(new URL(test.url).port) });
    await connection.write(new TextEncoder().encode(request));
    connection.close();
    const task = await test.take("w", 0.2);
    if (task?.job_id !== id) lost++;
    else await test.answer("w", task, { status: "success" });
  }
  // The kernel may tell of it only after it took the answer, of which the runtime then says that it was sent; such a task
  // comes back with its worker's next start.
  assert(lost <= 5, `${lost} of 50 went to nobody`);
});

Deno.test("tasks go by priority, then by age", async () => {
  const flow = taskFlow();
  flow.states.get("start")!.handler = ({ initialData, actions }) =>
    actions.dispatchTask({
      taskType: "echo",
      params: { ...initialData },
      priority: Number(initialData.priority ?? 0),
      transitions: { success: "completed" },
    });
  await using test = await openTestEngine({ blueprints: [flow] });
  await test.register("w", ["echo"]);
  for (const [name, priority] of [["d", 0], ["e", 0], ["b", 5], ["c", 5], ["a", 7.5], ["f", -1]] as const) {
    await test.submit(PATH, { name, priority });
  }
  let order = "";
  for (let n = 0; n < 6; n++) order += (await taken(test)).params.name;
  assertEquals(order, "abcdef");
});

Deno.test("a dead worker's task goes to another worker, under a new id and without counting an attempt", async () => {
  const clock = new ManualClock();
  await using test = await openTestEngine({
    blueprints: [taskFlow()],
    clock,
    config: { healthCheckMs: 5_000, workerTimeoutMs: 3_600_000 },
  });
  await test.register("dies", ["echo"]);
  const id = await test.submit(PATH);
  const first = await taken(test, "dies");
  for (let second = 0; second < 14; second++) {
    if (second === 8) await test.register("lives", ["echo"]);
    await clock.advance(1_000);
  }
  const again = await taken(test, "lives");
  assertEquals(again.job_id, id);
  assert(again.task_id !== first.task_id);
  assertEquals((await test.answer("dies", first, { status: "success" })).json.status, "ignored");
  assertEquals((await test.client(`/api/jobs/${id}`)).json.retry_count, 0);
  assertEquals(
    (await test.answer("lives", again, { status: "success" })).json.status,
    "result_accepted_success",
  );
  const workers = (await test.client("/api/workers")).json.map((worker: JsonObject) => worker.worker_id);
  assertEquals(workers, ["lives"]);
});

Deno.test("a worker that registers again has lost what it held, except what it still runs", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  await test.submit(PATH);
  await test.submit(PATH);
  const [kept, lost] = [await taken(test), await taken(test)];
  await test.register("w", ["echo"], { running_tasks: [kept.task_id] });
  const again = await taken(test);
  assertEquals(again.job_id, lost.job_id);
  assert(again.task_id !== lost.task_id);
  assertEquals((await test.answer("w", kept, { status: "success" })).json.status, "result_accepted_success");
  assertEquals((await test.answer("w", lost, { status: "success" })).json.status, "ignored");
});

Deno.test("a full worker keeps its capabilities, and one that is heard of first by a heartbeat is known", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const heartbeat = (body: JsonObject | string) =>
    test.worker("/_worker/workers/w", { method: "PATCH", body });
  assertEquals((await heartbeat("")).status, 404);
  assertEquals((await heartbeat("")).json, { error: "Worker not found" });
  assertEquals(
    (await heartbeat({ load: 0, status: "idle", supported_tasks: ["echo"], hot_cache: [] })).status,
    200,
  );
  const full = await heartbeat({ load: 1, status: "busy", supported_tasks: [], hot_cache: [] });
  assertEquals([full.status, full.json.status], [200, "busy"]);
  assertEquals((await test.client("/api/v1/workers")).json[0].supported_tasks, ["echo"]);
  const id = await test.submit(PATH);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "waiting_for_worker");
  assertEquals((await taken(test)).job_id, id);
  for (const empty of ["", "{}", "[]", "nonsense", "5"]) {
    const answer = await heartbeat(empty);
    assertEquals([answer.status, answer.json.status], [200, "ttl_refreshed"]);
  }
});

Deno.test("a poll that came before its worker was known is served once it is", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const id = await test.submit(PATH);
  const poll = test.take("late", 20);
  await test.worker("/_worker/workers/late", { method: "PATCH", body: { supported_tasks: ["echo"] } });
  assertEquals((await poll)?.job_id, id);
});

Deno.test("reputation is the share of successes, and survives a restart", async () => {
  const folder = await Deno.makeTempDir();
  const open = () =>
    openTestEngine({
      blueprints: [taskFlow()],
      storage: new SqliteStorage(`${folder}/jobs.sqlite`),
      config: { jobMaxRetries: 0 },
    });
  {
    await using test = await open();
    await test.register("w", ["echo"]);
    for (const result of ["success", "success", "failure"]) {
      await test.submit(PATH);
      await test.answer("w", await taken(test), { status: result });
    }
  }
  {
    await using test = await open();
    assertEquals((await test.client("/api/workers")).json[0].reputation, 0.6667);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("jobs that ended long ago are removed, when that is asked for", async () => {
  const clock = new ManualClock();
  await using test = await openTestEngine({
    blueprints: [taskFlow()],
    clock,
    config: { retentionMs: 3_600_000 },
  });
  await test.register("w", ["echo"]);
  const old = await test.submit(PATH);
  await test.answer("w", await taken(test), { status: "success" });
  const open = await test.submit(PATH);
  clock.setWall(clock.wall() + 3_600_000);
  for (let n = 0; n < 61; n++) await clock.advance(1_000);
  assertEquals((await test.client(`/api/jobs/${old}`)).status, 404);
  assertEquals((await test.client(`/api/jobs/${open}`)).json.status, "waiting_for_worker");
});

Deno.test("workers cannot set what belongs to the engine", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"], { reputation: 99, registered_at: "x", held_tasks: 5, expiresAt: 1 });
  await test.worker("/_worker/workers/w", { method: "PATCH", body: { load: 0, reputation: 50 } });
  const [worker] = (await test.client("/api/workers")).json;
  assertEquals([worker.reputation, worker.held_tasks], [1, 0]);
});

Deno.test("a heartbeat's list is what the worker takes now", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo", "other"]);
  await test.worker("/_worker/workers/w", { method: "PATCH", body: { supported_tasks: ["other"] } });
  const id = await test.submit(PATH);
  const poll = test.take("w", 10);
  await test.worker("/_worker/workers/w", { method: "PATCH", body: { supported_tasks: ["echo", "other"] } });
  assertEquals((await poll)?.job_id, id);
});

const STRATEGIES: [string, Record<string, JsonObject>, string][] = [
  ["cheapest", { a: { cost_per_second: 3 }, b: { cost_per_second: 1 }, c: {} }, "b"],
  ["least_connections", { a: { load: 3 }, b: { load: 2 }, c: { load: 1 } }, "c"],
  [
    "default",
    { a: { cost: 1 }, b: { cost: 9, hot_cache: ["echo"] }, c: { cost: 5, hot_cache: ["echo"] } },
    "c",
  ],
  ["best_value", { a: { cost_per_second: 3 }, b: { cost_per_second: 2 } }, "b"],
  ["no such strategy", { a: { cost: 2 }, b: { cost: 1 } }, "b"],
];
for (const [strategy, workers, wanted] of STRATEGIES) {
  Deno.test(`strategy ${strategy} chooses among the workers that wait`, async () => {
    await using test = await openTestEngine({
      blueprints: [taskFlow({ task: { dispatchStrategy: strategy } })],
    });
    const polls: Promise<string | undefined>[] = [];
    for (const [name, more] of Object.entries(workers)) {
      await test.register(name, ["echo"], more);
      polls.push(test.take(name, 10).then((task) => task && name));
    }
    while (test.engine.core.dispatcher.waiting < polls.length) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await test.submit(PATH);
    assertEquals(await Promise.race(polls), wanted);
    await test.engine.stop();
    await Promise.all(polls);
  });
}

Deno.test("round_robin goes round", async () => {
  await using test = await openTestEngine({
    blueprints: [taskFlow({ task: { dispatchStrategy: "round_robin" } })],
  });
  const served: string[] = [];
  const poll = async (name: string): Promise<void> => {
    const task = await test.take(name, 20);
    if (task === undefined) return;
    served.push(name);
    await test.answer(name, task, { status: "success" });
    return await poll(name);
  };
  const names = ["a", "b", "c"];
  for (const name of names) await test.register(name, ["echo"]);
  const polls = names.map(poll);
  for (let n = 0; n < 6; n++) {
    while (test.engine.core.dispatcher.waiting < 3) await new Promise((resolve) => setTimeout(resolve, 1));
    await test.until(await test.submit(PATH), ended);
  }
  while (test.engine.core.dispatcher.waiting < 3) await new Promise((resolve) => setTimeout(resolve, 1));
  await test.engine.stop();
  await Promise.all(polls);
  assertEquals(served.slice(0, 3).toSorted(), names);
  assertEquals(served.slice(3), served.slice(0, 3));
});

Deno.test("max_cost keeps expensive workers away, and unknown ones unless allowed", async () => {
  for (const [more, passes] of [[{}, false], [{ unknownCostPasses: true }, true]] as const) {
    await using test = await openTestEngine({ blueprints: [taskFlow({ task: { maxCost: 1, ...more } })] });
    await test.register("dear", ["echo"], { cost_per_second: 2 });
    await test.register("unknown", ["echo"]);
    await test.submit(PATH);
    assertEquals(await test.take("dear", 0.02), undefined);
    assertEquals(await test.take("unknown", 0.02) !== undefined, passes);
  }
});

// ---- Cancelling -----------------------------------------------------------------------------------------------------

Deno.test("cancel withdraws a queued task, and works once", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const answer = await test.client(`${PATH.slice(0, 12)}/${id}/cancel`, { method: "POST" });
  assertEquals([answer.status, answer.json], [200, { status: "cancellation_request_accepted" }]);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "cancelled");
  assertEquals(await test.take("w", 0.02), undefined);
  const again = await test.client(`/api/v1/jobs/${id}/cancel`, { method: "POST" });
  assertEquals(again.status, 409);
  assertEquals(
    again.json.error,
    "Job is not in a state that can be cancelled (must be waiting for a worker).",
  );
});

Deno.test("cancel of a running task goes through the cancelled transition and reaches the worker's heartbeat", async () => {
  const seen: string[] = [];
  const flow = taskFlow({ seen, transitions: { success: "completed", cancelled: "stopped" } });
  await using test = await openTestEngine({ blueprints: [flow] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const task = await taken(test);
  await test.client(`/api/v1/jobs/${id}/cancel`, { method: "POST" });
  const job = await test.until(id, ended);
  assertEquals([job.status, job.current_state], ["cancelled", "stopped"]);
  assertEquals(seen, ["stopped"]);
  const heartbeat = await test.worker("/_worker/workers/w", { method: "PATCH", body: { load: 1 } });
  assertEquals(heartbeat.json.cancelled_tasks, [task.task_id]);
  assertEquals((await test.answer("w", task, { status: "success" })).json.status, "ignored");
  const after = await test.worker("/_worker/workers/w", { method: "PATCH", body: { load: 0 } });
  assertEquals(after.json.cancelled_tasks, []);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "cancelled");
});

Deno.test("a poll that says so hears of a cancelled task", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const task = await taken(test);
  const poll = test.worker("/_worker/workers/w/tasks/next?commands=1&tasks=0");
  while (!test.engine.core.cancels.isListenedTo("w")) await new Promise((resolve) => setTimeout(resolve, 1));
  const cancel = await test.client(`/api/v1/jobs/${id}/cancel`, { method: "POST" });
  assertEquals(cancel.json.status, "cancellation_request_sent");
  const command = { command: "cancel_task", type: "cancel_task", task_id: task.task_id, job_id: id };
  assertEquals((await poll).json, command);
});

Deno.test("a task that is given out in the moment of a command is not lost", async () => {
  const flow = taskFlow();
  await using test = await openTestEngine({ blueprints: [flow] });
  await test.register("w", ["echo"]);
  const { clientRequests, core } = test.engine;
  const client = { name: "default", plan: "unknown", params: {}, tokenDigest: "" };
  const poll = async (waitSeconds: number) => {
    const url = `${test.url}/_worker/workers/w/tasks/next?commands=1&wait=${waitSeconds}`;
    const headers = { "x-worker-token": "worker-token" };
    return await (await test.engine.handle(new Request(url, { headers }))).text();
  };
  // The command may fall into any step between the task's queueing and the poll's answer.
  for (let steps = 0; steps < 40; steps++) {
    const waiting = poll(5);
    while (core.dispatcher.waiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const submitted = clientRequests.submit(client, flow, {});
    for (let step = 0; step < steps; step++) await Promise.resolve();
    core.cancels.announce("w", "other-task", "other-job");
    const answer = await waiting;
    await submitted;
    const task = answer.includes("cancel_task") ? await poll(0.1) : answer;
    assert(task.includes('"type":"echo"'), `a command after ${steps} steps`);
  }
});

Deno.test("cancel stops a handler that is being awaited, and its action does nothing any more", async () => {
  const begun = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const flow = taskFlow();
  flow.states.get("start")!.handler = async ({ signal, actions }) => {
    begun.resolve();
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    aborted.resolve();
    return actions.transitionTo("completed");
  };
  await using test = await openTestEngine({ blueprints: [flow] });
  const id = await test.submit(PATH);
  await begun.promise;
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "running");
  assertEquals((await test.client(`/api/jobs/${id}/cancel`, { method: "POST" })).status, 200);
  await aborted.promise;
  const job = await test.until(id, ended);
  assertEquals([job.status, job.current_state], ["cancelled", "start"]);
});

// ---- Handlers -------------------------------------------------------------------------------------------------------

Deno.test("a handler that throws is run four times with growing delays, then the job is quarantined", async () => {
  const clock = new ManualClock();
  const runs: number[] = [];
  const flow = taskFlow();
  flow.states.get("start")!.handler = ({ stateHistory }) => {
    stateHistory.leftover = true;
    runs.push(clock.now());
    throw new Error("boom");
  };
  await using test = await openTestEngine({ blueprints: [flow], clock, config: { retryDelayMs: 200 } });
  const id = await test.submit(PATH);
  const first = (await test.client(`/api/jobs/${id}`)).json;
  assertEquals([first.status, first.retry_count, first.error_message], ["awaiting_retry", 1, "boom"]);
  await clock.advance(5_000);
  const job = await test.until(id, ended);
  assertEquals([job.status, job.error_message, job.state_history], ["quarantined", "boom", {}]);
  assertEquals(runs.map((at) => at - runs[0]!), [0, 200, 600, 1400]);
});

Deno.test("an action that cannot be done fails its own state; what was done in the same step before stays in the history", async () => {
  const flow = new StateMachineBlueprint({ name: "flow", apiEndpoint: "/jobs/flow", apiVersion: "v1" })
    .handlerFor("start", { isStart: true }, ({ actions }) => actions.transitionTo("middle"))
    .handlerFor("middle", ({ actions }) => actions.runBlueprint({ blueprintName: "gone", transitions: {} }));
  await using test = await openTestEngine({ blueprints: [flow], config: { jobMaxRetries: 0 } });
  const id = await test.submit("/api/v1/jobs/flow");
  const job = await test.until(id, ended);
  assertEquals([job.status, job.error_message], ["quarantined", 'There is no blueprint "gone".']);
  const history = (await test.client(`/api/v1/jobs/${id}/history`)).json;
  assertEquals(history.map((entry: JsonObject) => [entry.event_type, entry.state]), [
    ["job_created", "start"],
    ["state_started", "start"],
    ["state_finished", "start"],
    ["transition", "middle"],
    ["state_started", "middle"],
    ["state_failed", "middle"],
    ["job_quarantined", "middle"],
  ]);
});

Deno.test("a retried handler that ends well goes on, and each state has its own retries", async () => {
  let fails = 2;
  let moreFails = 3;
  const flow = new StateMachineBlueprint({ name: "flaky", apiEndpoint: "jobs/flaky", apiVersion: "v1" })
    .handlerFor("one", { isStart: true }, ({ actions }) => {
      if (fails-- > 0) throw new Error("flaky one");
      return actions.transitionTo("two");
    })
    .handlerFor("two", async ({ actions }) => {
      await Promise.resolve();
      if (moreFails-- > 0) throw new Error("flaky two");
      return actions.transitionTo("end");
    })
    .handlerFor("end", { isEnd: true });
  await using test = await openTestEngine({ blueprints: [flow] });
  const job = await test.until(await test.submit("/api/v1/jobs/flaky"), ended);
  assertEquals([job.status, job.current_state, job.error_message], ["finished", "end", null]);
});

const MISTAKES: [string, Handler, string][] = [
  [
    "returns no action",
    () => {},
    'The handler of state "start" returned no action; return one, or mark the state "isEnd".',
  ],
  [
    "leads nowhere",
    ({ actions }) => actions.transitionTo("nowhere"),
    'State "start" leads to "nowhere", which is not a state of "test_flow".',
  ],
  [
    "names no transitions",
    ({ actions }) => actions.dispatchTask({ taskType: "t" }),
    'State "start" does not say where it leads; give the action "transitions" or the state "to".',
  ],
  [
    "dispatches nothing",
    ({ actions }) => actions.dispatchTask({ taskType: "", transitions: {} }),
    "A task needs a taskType.",
  ],
  ["stores a function", ({ actions, stateHistory }) => {
    (stateHistory as Record<string, unknown>).f = () => {};
    return actions.transitionTo("completed");
  }, "stateHistory.f is not something that JSON can hold."],
  ["stores itself", ({ actions, stateHistory }) => {
    stateHistory.me = stateHistory;
    return actions.transitionTo("completed");
  }, `stateHistory${".me".repeat(201)} is nested too deeply or refers to itself.`],
  [
    "runs an unknown blueprint",
    ({ actions }) => actions.runBlueprint({ blueprintName: "none", transitions: {} }),
    'There is no blueprint "none".',
  ],
  ["throws what is no error", () => {
    throw "text";
  }, "text"],
];
for (const [name, handler, message] of MISTAKES) {
  Deno.test(`a handler that ${name} quarantines the job and says why`, async () => {
    const flow = taskFlow();
    flow.states.get("start")!.handler = handler;
    await using test = await openTestEngine({ blueprints: [flow], config: { retryDelayMs: 0 } });
    const job = await test.until(await test.submit(PATH), ended);
    assertEquals(job.status, "quarantined");
    assertEquals(job.error_message, message);
  });
}

Deno.test("a handler that never ends has failed when its time is over, and holds nobody up", async () => {
  const flow = taskFlow();
  flow.states.get("start")!.handler = ({ initialData, actions }) =>
    initialData.hang ? new Promise(() => {}) : actions.transitionTo("completed");
  await using test = await openTestEngine({
    blueprints: [flow],
    config: { handlerTimeoutMs: 60, jobMaxRetries: 1 },
  });
  const hanging = await test.submit(PATH, { hang: true });
  assertEquals((await test.until(await test.submit(PATH), ended)).status, "finished");
  const job = await test.until(hanging, ended);
  assertEquals(job.status, "quarantined");
  assertEquals(job.error_message, 'The handler of state "start" did not end within 0.06 s.');
});

Deno.test("many jobs whose handlers wait at once all end, also beyond the limit of handlers", async () => {
  const flow = taskFlow();
  flow.states.get("start")!.handler = async ({ actions }) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    return actions.transitionTo("completed");
  };
  await using test = await openTestEngine({ blueprints: [flow], config: { maxConcurrentJobs: 3 } });
  const ids = await Promise.all(Array.from({ length: 30 }, () => test.submit(PATH)));
  for (const id of ids) assertEquals((await test.until(id, ended)).status, "finished");
});

Deno.test("a job that goes in circles is failed", async () => {
  const flow = new StateMachineBlueprint({ name: "circle", apiEndpoint: "/c" })
    .handlerFor("a", { isStart: true }, ({ actions }) => actions.transitionTo("b"))
    .handlerFor("b", ({ actions }) => actions.goTo("a"));
  await using test = await openTestEngine({ blueprints: [flow], config: { maxTransitions: 20 } });
  const job = await test.until(await test.submit("/api/c"), ended);
  assertEquals([job.status, job.error_message], ["failed", "The job went through more than 20 states."]);
});

Deno.test("end handlers run and their changes are kept, whatever the way in", async () => {
  for (
    const [end, wanted] of [["completed", "finished"], ["finished", "finished"], ["failed", "failed"], [
      "error",
      "failed",
    ]]
  ) {
    const flow = new StateMachineBlueprint({ name: "ends", apiEndpoint: "/e" })
      .handlerFor("a", { isStart: true, to: [end!] }, ({ actions }) => actions.transitionTo(end!))
      .handlerFor(end!, { isEnd: true }, ({ stateHistory }) => void (stateHistory.ran = end!));
    await using test = await openTestEngine({ blueprints: [flow] });
    const job = await test.until(await test.submit("/api/e"), ended);
    assertEquals([job.status, job.state_history], [wanted, { ran: end }]);
  }
});

Deno.test("conditional handlers go before the plain one; a missing field or another type does not match", async () => {
  const way = (name: string): Handler => ({ actions, stateHistory }) => {
    stateHistory.way = name;
    return actions.transitionTo("end");
  };
  const flow = new StateMachineBlueprint({ name: "ways", apiEndpoint: "/w" })
    .handlerFor("a", { isStart: true }, way("plain"))
    .handlerFor("a", { when: "context.initial_data.amount > 100" }, way("large"))
    .handlerFor("a", { when: ({ initialData }) => initialData.kind === "odd" }, way("odd"))
    .handlerFor("end", { isEnd: true });
  await using test = await openTestEngine({ blueprints: [flow] });
  for (
    const [data, wanted] of [[{ amount: 101 }, "large"], [{ amount: "lots" }, "plain"], [{}, "plain"], [{
      kind: "odd",
    }, "odd"]] as const
  ) {
    const job = await test.until(await test.submit("/api/w", data), ended);
    assertEquals(job.state_history, { way: wanted });
  }
});

Deno.test("data stores are shared by the jobs of a blueprint", async () => {
  const flow = new StateMachineBlueprint({ name: "count", apiEndpoint: "/n" })
    .addDataStore("counter", { n: 10 })
    .handlerFor("a", { isStart: true }, async ({ actions, dataStores, stateHistory }) => {
      const n = Number(await dataStores.counter!.get("n")) + 1;
      await dataStores.counter!.set("n", n);
      stateHistory.n = n;
      return actions.transitionTo("end");
    })
    .handlerFor("end", { isEnd: true });
  await using test = await openTestEngine({ blueprints: [flow] });
  for (const n of [11, 12]) {
    const job = await test.until(await test.submit("/api/n"), ended);
    assertEquals(job.state_history, { n });
  }
});

// ---- Parallel steps, questions, sub-jobs ----------------------------------------------------------------------------

function parallelFlow(count: number, task: Record<string, unknown> = {}) {
  return new StateMachineBlueprint({ name: "fan", apiEndpoint: "/jobs/test", apiVersion: "v1" })
    .handlerFor("start", { isStart: true }, ({ actions }) =>
      actions.dispatchParallel({
        tasks: Array.from({ length: count }, (_, n) => ({ taskType: "echo", params: { n }, ...task })),
        aggregateInto: "join",
      }))
    .aggregatorFor("join", ({ aggregationResults, stateHistory, actions }) => {
      stateHistory.statuses = Object.values(aggregationResults).map((result) => result.status ?? "none")
        .toSorted();
      return actions.transitionTo("end");
    })
    .handlerFor("end", { isEnd: true });
}

Deno.test("parallel branches run side by side, have their own retries, and repeats are ignored", async () => {
  await using test = await openTestEngine({ blueprints: [parallelFlow(3)] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const tasks = [await taken(test), await taken(test), await taken(test)];
  assertEquals((await test.client(`/api/jobs/${id}`)).json.active_branches.length, 3);
  const accepted = { status: "parallel_branch_result_accepted" };
  const both = await Promise.all(
    [0, 1].map((n) => test.answer("w", tasks[n]!, { status: "success", data: { n } })),
  );
  assertEquals(both.map((answer) => answer.json), [accepted, accepted]);
  assertEquals((await test.answer("w", tasks[0]!, { status: "success" })).json.status, "ignored");
  let last = tasks[2];
  for (let attempt = 0; attempt < 4; attempt++) {
    if (attempt > 0) last = await taken(test);
    assertEquals((await test.answer("w", last!, { status: "failure", error: "flaky" })).json, accepted);
  }
  const job = await test.until(id, ended);
  assertEquals([job.status, job.state_history], ["finished", {
    statuses: ["failure", "success", "success"],
  }]);
  assertEquals(Object.keys(job.aggregation_results as JsonObject).length, 3);
});

Deno.test("a parallel step without tasks goes straight on, one whose branch times out too", async () => {
  {
    await using test = await openTestEngine({ blueprints: [parallelFlow(0)] });
    assertEquals((await test.until(await test.submit(PATH), ended)).state_history, { statuses: [] });
  }
  await using test = await openTestEngine({ blueprints: [parallelFlow(2, { timeoutSeconds: 0.05 })] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  await test.answer("w", await taken(test), { status: "success" });
  await taken(test);
  assertEquals((await test.until(id, ended)).state_history, { statuses: ["failure", "success"] });
});

Deno.test("cancel of a parallel step withdraws all its branches", async () => {
  await using test = await openTestEngine({ blueprints: [parallelFlow(3)] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const running = await taken(test);
  await test.client(`/api/jobs/${id}/cancel`, { method: "POST" });
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "cancelled");
  assertEquals(await test.take("w", 0.02), undefined);
  assertEquals((await test.answer("w", running, { status: "success" })).json.status, "ignored");
});

function approvalFlow() {
  return new StateMachineBlueprint({ name: "ask", apiEndpoint: "/jobs/test", apiVersion: "v1" })
    .handlerFor(
      "start",
      { isStart: true, to: { approved: "yes", rejected: "no" } },
      ({ actions }) => actions.awaitHumanApproval({ message: "Really?", integration: "mail" }),
    )
    .handlerFor("yes", { isEnd: true })
    .handlerFor("no", { isEnd: true });
}

Deno.test("a job waits for a human, keeps the question, and takes a decision once", async () => {
  await using test = await openTestEngine({ blueprints: [approvalFlow()] });
  const id = await test.submit(PATH);
  const { approval, status } = (await test.client(`/api/jobs/${id}`)).json;
  assertEquals(status, "waiting_for_human");
  assertEquals([approval.message, approval.integration, approval.decisions], ["Really?", "mail", [
    "approved",
    "rejected",
  ]]);
  const hook = (body: JsonObject | string, path = id) =>
    test.client(`/_public/webhooks/approval/${path}`, { body });
  assertEquals([(await hook({})).status, (await hook({})).json.error], [400, "decision is required in body"]);
  assertEquals((await hook("{")).json.error, "Invalid JSON body");
  assertEquals((await hook({ decision: "maybe" })).json.error, "Invalid decision 'maybe' for this job");
  assertEquals((await hook({ decision: "toString" })).status, 400);
  assertEquals((await hook({ decision: "approved" }, unknownId())).status, 404);
  const answer = await hook({ decision: "approved" });
  assertEquals([answer.status, answer.json], [200, { status: "approval_received", job_id: id }]);
  assertEquals((await test.until(id, ended)).current_state, "yes");
  const late = await hook({ decision: "rejected" });
  assertEquals([late.status, late.json.error], [409, "Job is not in a state that can be approved"]);
});

Deno.test("approval needs the owner's token or the one-time link", async () => {
  await using test = await openTestEngine({ blueprints: [approvalFlow()] });
  const id = await test.submit(PATH);
  const post = (url: string) => fetch(url, { method: "POST", body: '{"decision":"approved"}' });
  const bare = await post(`${test.url}/_public/webhooks/approval/${id}`);
  assertEquals([bare.status, await bare.json()], [401, { error: "Missing X-Avtomatika-Token header" }]);
  const old = (await test.client(`/api/jobs/${id}/approval-link`, { method: "POST" })).json.url;
  const { url } = (await test.client(`/api/jobs/${id}/approval-link`, { method: "POST" })).json;
  for (
    const wrong of [old, `${test.url}/_public/webhooks/approval/${id}?secret=x`, url.replace(id, unknownId())]
  ) {
    const refused = await post(wrong);
    assertEquals([refused.status, await refused.json()], [401, { error: "Unauthorized: Invalid link" }]);
  }
  const good = await post(url);
  assertEquals([good.status, (await good.json()).status], [200, "approval_received"]);
  const again = await post(url);
  assertEquals(again.status, 401);
  await again.body?.cancel();
  assert(!(await test.client(`/api/jobs/${id}`)).text.includes(url.split("secret=")[1]));
});

Deno.test("a decision cannot complete a job that waits for a worker", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const id = await test.submit(PATH);
  const answer = await test.client(`/_public/webhooks/approval/${id}`, { body: { decision: "success" } });
  assertEquals([answer.status, answer.json.error], [409, "Job is not in a state that can be approved"]);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "waiting_for_worker");
});

function parentFlow() {
  return new StateMachineBlueprint({ name: "parent", apiEndpoint: "/jobs/parent", apiVersion: "v1" })
    .handlerFor("begin", { isStart: true }, ({ actions, initialData }) =>
      actions.runBlueprint({
        blueprintName: "test_flow",
        initialData,
        transitions: { success: "good", failure: "bad" },
      }))
    .handlerFor("good", { isEnd: true })
    .handlerFor("bad", { isEnd: true });
}

Deno.test("a sub-job's end resumes its parent, however it ends", async () => {
  for (
    const [result, wanted, outcome] of [
      [{ status: "success", data: { x: 1 } }, "good", "success"],
      [{ status: "failure", error: { code: "PERMANENT_ERROR", message: "no" } }, "bad", "failure"],
      [{ status: "cancelled" }, "bad", "failure"],
    ] as const
  ) {
    await using test = await openTestEngine({ blueprints: [parentFlow(), taskFlow()] });
    await test.register("w", ["echo"]);
    const id = await test.submit("/api/v1/jobs/parent", { deep: true });
    const waiting = await test.until(id, status("waiting_for_sub_job"));
    const task = await taken(test);
    assertEquals([task.job_id, task.params], [waiting.child_job_id, { deep: true }]);
    assertEquals((await test.client(`/api/jobs/${task.job_id}`)).json.parent_job_id, id);
    await test.answer("w", task, result);
    const job = await test.until(id, ended);
    assertEquals(job.current_state, wanted);
    const entry = (job.state_history as Record<string, JsonObject>)[`sub_job_${task.job_id}_result`];
    assertEquals(entry!.outcome, outcome);
  }
});

Deno.test("cancelling a parent cancels its sub-job, cancelling the sub-job fails the parent's step", async () => {
  for (const whom of ["parent", "child"]) {
    await using test = await openTestEngine({ blueprints: [parentFlow(), taskFlow()] });
    await test.register("w", ["echo"]);
    const parent = await test.submit("/api/v1/jobs/parent");
    const child = (await taken(test)).job_id;
    await test.client(`/api/jobs/${whom === "parent" ? parent : child}/cancel`, { method: "POST" });
    assertEquals((await test.until(child, ended)).status, "cancelled");
    const job = await test.until(parent, ended);
    assertEquals(
      [job.status, job.current_state],
      whom === "parent" ? ["cancelled", "begin"] : ["finished", "bad"],
    );
  }
});

Deno.test("a blueprint that runs itself for ever ends", async () => {
  const flow = new StateMachineBlueprint({ name: "self", apiEndpoint: "/self" })
    .handlerFor(
      "a",
      { isStart: true },
      ({ actions }) =>
        actions.runBlueprint({ blueprintName: "self", transitions: { success: "end", failure: "failed" } }),
    )
    .handlerFor("end", { isEnd: true });
  await using test = await openTestEngine({ blueprints: [flow], config: { retryDelayMs: 0 } });
  const job = await test.until(await test.submit("/api/self"), ended);
  assertEquals([job.status, job.current_state], ["failed", "failed"]);
});

// ---- Quarantine, idempotency, clients -------------------------------------------------------------------------------

Deno.test("a quarantined job can be run again from what failed, or taken off the list", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const permanent = { status: "failure", error: { code: "PERMANENT_ERROR", message: "no" } };
  await test.answer("w", await taken(test), permanent);
  await test.until(id, status("quarantined"));
  const retry = () => test.client(`/api/jobs/${id}/retry`, { method: "POST" });
  assertEquals((await retry()).json, { status: "requeued", job_id: id });
  assertEquals((await test.client("/api/jobs/quarantined")).json, []);
  assertEquals((await retry()).status, 409);
  await test.answer("w", await taken(test), permanent);
  await test.until(id, status("quarantined"));
  assertEquals((await test.client("/api/jobs/quarantined")).json, [id]);
  assertEquals((await test.client(`/api/jobs/${id}/quarantine`, { method: "DELETE" })).status, 200);
  assertEquals((await test.client("/api/jobs/quarantined")).json, []);
  assertEquals((await test.client(`/api/jobs/${id}/quarantine`, { method: "DELETE" })).status, 409);
  await retry();
  await test.answer("w", await taken(test), { status: "success" });
  const job = await test.until(id, ended);
  assertEquals([job.status, job.error_message], ["finished", null]);
});

Deno.test("a repeated submission with the same Idempotency-Key is the same job", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const submit = (key: string, body: JsonObject) =>
    test.client(PATH, { body, headers: { "idempotency-key": key } });
  const many = await Promise.all(Array.from({ length: 10 }, () => submit("k1", { a: 1 })));
  assertEquals(new Set(many.map((answer) => answer.json.job_id)).size, 1);
  assertEquals(many.map((answer) => answer.status), Array(10).fill(202));
  assert((await submit("k2", { a: 1 })).json.job_id !== many[0]!.json.job_id);
  assertEquals((await submit("k1", { a: 2 })).status, 422);
  assertEquals((await test.client("/api/jobs")).json.length, 2);
  assertEquals((await submit("", {})).status, 400);
});

async function withFiles(
  files: Record<string, string>,
  body: (path: (name: string) => string) => Promise<void>,
) {
  const folder = await Deno.makeTempDir();
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${folder}/${name}`, text);
  try {
    await body((name) => `${folder}/${name}`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("clients see and touch their own jobs only, and quotas count submissions by month", async () => {
  const clients = `[ann]\ntoken = "ann-token"\nplan = "gold"\nregion = "eu"\nparams = { tier = 2 }\n
                   [bob]\ntoken = "bob-token"\nmonthly_attempts = 2\n`;
  await withFiles({ "clients.toml": clients }, async (path) => {
    const clock = new ManualClock(Date.UTC(2026, 0, 31, 12));
    const config = { clientsPath: path("clients.toml"), clientToken: "" };
    await using test = await openTestEngine({
      blueprints: [taskFlow(), approvalFlowNamed("other")],
      config,
      clock,
    });
    const ann = { "x-avtomatika-token": "ann-token" };
    const bob = { "x-avtomatika-token": "bob-token" };
    const id = await test.submit(PATH, {}, ann);
    const job = (await test.client(`/api/v1/jobs/${id}`, { headers: ann })).json;
    assertEquals(job.client_config, { plan: "gold", params: { region: "eu", tier: 2 } });
    for (
      const [method, below] of [["GET", ""], ["GET", "/history"], ["POST", "/cancel"], ["POST", "/retry"], [
        "DELETE",
        "/quarantine",
      ], [
        "POST",
        "/approval-link",
      ]]
    ) {
      const answer = await test.client(`/api/v1/jobs/${id}${below}`, { method: method!, headers: bob });
      assertEquals([answer.status, answer.json], [404, { error: "Job not found" }], below);
    }
    const decide = await test.client(`/api/jobs/${id}/approve`, {
      body: { decision: "success" },
      headers: bob,
    });
    assertEquals(decide.status, 404);
    assertEquals((await test.client("/api/jobs", { headers: bob })).json, []);
    assertEquals((await test.client("/api/v1/dashboard", { headers: bob })).json.jobs, { queued: 1 });
    // Reading costs nothing.
    for (let n = 0; n < 5; n++) await test.client("/api/jobs", { headers: bob });
    await test.submit(PATH, {}, bob);
    await test.submit(PATH, {}, bob);
    const refused = await test.client(PATH, { body: {}, headers: bob });
    assertEquals([refused.status, refused.json.error], [429, "Quota exceeded or not configured"]);
    assertEquals(refused.headers.get("retry-after"), String(12 * 3600));
    clock.setWall(Date.UTC(2026, 1, 1, 0, 0, 1));
    await test.submit(PATH, {}, bob);
    assertEquals(
      (await test.client("/api/jobs", { headers: { "x-avtomatika-token": "client-token" } })).status,
      401,
    );
  });
});

function approvalFlowNamed(name: string) {
  return new StateMachineBlueprint({ name, apiEndpoint: `/jobs/${name}`, apiVersion: "v1" })
    .handlerFor(
      "a",
      { isStart: true },
      ({ actions }) => actions.awaitHumanApproval({ message: "?", transitions: { ok: "b" } }),
    )
    .handlerFor("b", { isEnd: true });
}

Deno.test("workers with tokens of their own, by name or pattern, cannot use the global one, nor others theirs", async () => {
  const workers =
    `[gpu-1]\ntoken = "gpu-token"\ncost_per_second = 0.5\n["cpu-*"]\ntoken = "cpu-token"\n[broken]\nx = 1\n`;
  await withFiles({ "workers.toml": workers }, async (path) => {
    await using test = await openTestEngine({
      blueprints: [taskFlow()],
      config: { workersPath: path("workers.toml") },
    });
    const register = (worker_id: string, token: string) =>
      test.worker("/_worker/workers/register", {
        body: { worker_id, supported_tasks: ["echo"] },
        headers: { "x-worker-token": token },
      });
    assertEquals((await register("gpu-1", "gpu-token")).status, 200);
    const wrong = await register("gpu-1", "worker-token");
    assertEquals([wrong.status, wrong.json.error], [401, "Unauthorized: Invalid individual worker token"]);
    assertEquals((await register("cpu-17", "cpu-token")).status, 200);
    assertEquals((await register("cpu-17", "worker-token")).status, 401);
    assertEquals((await register("free", "worker-token")).status, 200);
    assertEquals((await register("free", "gpu-token")).json.error, "Unauthorized: No valid token found");
    assertEquals((await test.client("/api/workers")).json[0].cost_per_second, 0.5);
    assertEquals(test.lines.find(({ event }) => event === "workers_file_warning")?.fields, {
      message: `${path("workers.toml")}: worker "broken" has no "token" and is left out.`,
    });
    // Its result counts only with its own token.
    await test.submit(PATH);
    const poll = await test.worker("/_worker/workers/gpu-1/tasks/next", {
      headers: { "x-worker-token": "gpu-token" },
    });
    const stolen = await test.answer("gpu-1", poll.json, { status: "success" });
    assertEquals([stolen.status, stolen.json.error], [401, "Unauthorized: Invalid individual worker token"]);
    // The file is read again: what is gone from it is not valid any longer.
    await Deno.writeTextFile(path("workers.toml"), `[gpu-1]\ntoken = "new-token"\n`);
    assertEquals((await test.client("/api/v1/admin/reload-workers", { method: "POST" })).json, {
      status: "worker_configs_reloaded",
    });
    assertEquals((await register("gpu-1", "gpu-token")).status, 401);
    assertEquals((await register("gpu-1", "new-token")).status, 200);
    assertEquals((await register("cpu-17", "cpu-token")).status, 401);
    assertEquals((await register("cpu-17", "worker-token")).status, 200);
  });
});

Deno.test("without configured tokens the engine makes some, and serves this machine only", async () => {
  const make = (settings: Record<string, unknown>) => {
    const engine = new OrchestratorEngine(new MemoryStorage(), new Config({ port: 0, ...settings }));
    engine.registerBlueprint(taskFlow());
    return engine;
  };
  await using open = make({ host: "0.0.0.0" });
  const refused = await assertRejects(() => open.start(), ConfigError);
  assertEquals(
    refused.message,
    "Cannot listen on 0.0.0.0 without tokens: set CLIENT_TOKEN and GLOBAL_WORKER_TOKEN " +
      "(or a clients and a workers file), or listen on 127.0.0.1.",
  );
  await using engine = make({});
  const { url, madeTokens } = await engine.start();
  assertMatch(String(madeTokens.client), /^[0-9a-f]{48}$/);
  assert(madeTokens.client !== madeTokens.worker);
  for (
    const [token, status] of [[madeTokens.client ?? "", 200], ["secure-orchestrator-token", 401], [
      "",
      401,
    ]] as const
  ) {
    const answer = await fetch(`${url}/api/jobs`, { headers: { "x-client-token": token } });
    await answer.body?.cancel();
    assertEquals(answer.status, status);
  }
});

Deno.test("no token is found in answers, logs, history or the storage", async () => {
  const folder = await Deno.makeTempDir();
  {
    await using test = await openTestEngine({
      blueprints: [taskFlow()],
      storage: new SqliteStorage(`${folder}/jobs.sqlite`),
    });
    await test.register("w", ["echo"]);
    const id = await test.submit(PATH, {}, {
      authorization: "Bearer secret-header",
      traceparent: TRACE,
      tracestate: "a=b",
    });
    const task = await taken(test);
    assertEquals((task as unknown as JsonObject).tracing_context, { traceparent: TRACE, tracestate: "a=b" });
    await test.answer("w", task, { status: "failure", error: { code: "PERMANENT_ERROR" } });
    await test.until(id, ended);
    let all = JSON.stringify(test.lines);
    for (
      const path of [
        `/api/jobs/${id}`,
        `/api/jobs/${id}/history`,
        "/api/jobs",
        "/api/workers",
        "/api/dashboard",
      ]
    ) {
      all += (await test.client(path)).text;
    }
    for (const file of ["jobs.sqlite", "jobs.sqlite-wal"]) {
      all += new TextDecoder("latin1").decode(await Deno.readFile(`${folder}/${file}`));
    }
    for (const secret of ["client-token", "worker-token", "secret-header"]) {
      assert(!all.includes(secret), secret);
    }
  }
  await Deno.remove(folder, { recursive: true });
});

const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

// ---- Restarts and time ----------------------------------------------------------------------------------------------

Deno.test("after a restart everything goes on: queued and held tasks, waiting handlers, workers, quotas", async () => {
  const folder = await Deno.makeTempDir();
  const open = (clock: ManualClock) =>
    openTestEngine({
      blueprints: [taskFlow({ task: { timeoutSeconds: 100 } }), approvalFlowNamed("ask")],
      storage: new SqliteStorage(`${folder}/jobs.sqlite`),
      clock,
      config: { healthCheckMs: 30_000 },
    });
  const [queued, held, asking] = ["", "", ""];
  const ids = { queued, held, asking };
  let task;
  {
    const clock = new ManualClock();
    await using test = await open(clock);
    await test.register("w", ["echo"]);
    ids.held = await test.submit(PATH);
    task = await taken(test);
    ids.queued = await test.submit(PATH);
    ids.asking = await test.submit("/api/v1/jobs/ask");
    for (let n = 0; n < 5; n++) await clock.advance(10_000);
  }
  {
    // Long away, and the calendar was put back meanwhile: neither matters for the 100 seconds of the task.
    const clock = new ManualClock(Date.UTC(2020, 0, 1));
    await using test = await open(clock);
    assertEquals((await test.client("/api/workers")).json.length, 1);
    assertEquals((await test.worker("/_worker/workers/w", { method: "PATCH" })).status, 200);
    for (let n = 0; n < 4; n++) await clock.advance(10_000);
    assertEquals((await test.client(`/api/jobs/${ids.held}`)).json.status, "waiting_for_worker");
    assertEquals(
      (await test.answer("w", task, { status: "success" })).json.status,
      "result_accepted_success",
    );
    assertEquals((await taken(test)).job_id, ids.queued);
    const answer = await test.client(`/api/jobs/${ids.asking}/approve`, { body: { decision: "ok" } });
    assertEquals(answer.status, 200);
    assertEquals((await test.until(ids.asking, ended)).status, "finished");
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a handler that was running when its engine died is run again", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/jobs.sqlite`;
  let id = "";
  let runs = 0;
  const flow = () => {
    const made = taskFlow();
    made.states.get("start")!.handler = ({ actions }) => {
      if (++runs === 1) return new Promise(() => {});
      return actions.transitionTo("completed");
    };
    return made;
  };
  {
    const storage = new SqliteStorage(path);
    const test = await openTestEngine({ blueprints: [flow()], storage });
    id = await test.submit(PATH);
    await test.engine.stop();
  }
  {
    await using test = await openTestEngine({ blueprints: [flow()], storage: new SqliteStorage(path) });
    assertEquals((await test.until(id, ended)).status, "finished");
    assertEquals(runs, 2);
  }
  await Deno.remove(folder, { recursive: true });
});

// A memory storage that says that several engines share it, and warns.
function sharedMemory(): Storage {
  return new Proxy<Storage>(new MemoryStorage(), {
    get(target, name) {
      if (name === "shared") return true;
      if (name === "warnings") return ["It forgets everything."];
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

Deno.test("a poll from before a worker's start ends, also when it registered with another engine", async () => {
  const storage = sharedMemory();
  await using one = await openTestEngine({ blueprints: [taskFlow()], storage });
  await using other = await openTestEngine({ blueprints: [taskFlow()], storage });
  await one.register("w", ["echo"]);
  const began = performance.now();
  const stale = one.take("w", 30);
  while (one.engine.core.dispatcher.waiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await other.register("w", ["echo"]);
  assertEquals(await stale, undefined);
  assert(performance.now() - began < 25_000);
});

Deno.test("a worker's history holds its registrations and its latest heartbeats", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const history = async () =>
    (await test.client("/api/v1/workers/w/history")).json.map((
      { event_type, status, load }: JsonObject,
    ) => [event_type, status, load]);
  assertEquals((await test.client("/api/workers/w/history")).status, 404);
  await test.register("w", ["echo"]);
  const beat = (body: JsonObject) => test.worker("/_worker/workers/w", { method: "PATCH", body });
  await beat({ status: "busy", load: 0.5 });
  await beat({});
  await test.register("w", ["echo"]);
  assertEquals(await history(), [["registered", "idle", 0], ["status_update", "busy", 0.5], [
    "registered",
    "idle",
    0,
  ]]);
  for (let n = 1; n <= 50; n++) await beat({ load: n });
  assertEquals(
    (await history()).map((entry: JsonObject[]) => entry[2]),
    [...Array(20)].map((_, n) => n + 31),
  );
});

Deno.test("what a storage warns of is logged at the start", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()], storage: sharedMemory() });
  assertEquals(test.lines[0], {
    level: "warn",
    event: "storage_warning",
    fields: { message: "It forgets everything." },
  });
});

Deno.test("a jump of the calendar neither times tasks out nor keeps them from it", async () => {
  const clock = new ManualClock();
  await using test = await openTestEngine({
    blueprints: [taskFlow({ task: { timeoutSeconds: 20 } })],
    clock,
  });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  await taken(test);
  clock.setWall(clock.wall() + 86_400_000 * 365);
  await clock.advance(10_000);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.status, "waiting_for_worker");
  assertEquals((await test.client("/api/workers")).json.length, 1);
  clock.setWall(0);
  await clock.advance(11_000);
  assertEquals((await test.until(id, ended)).error_message, "Worker task timed out.");
});

Deno.test("a storage that fails makes the engine say so, and lose nothing that it accepted", async () => {
  const storage = new MemoryStorage();
  let isBroken = false;
  const flaky: Storage = new Proxy(storage, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name === "commit" && isBroken) return () => Promise.reject(new Error("disk full: client-token"));
      return value.bind(target);
    },
  });
  await using test = await openTestEngine({ blueprints: [taskFlow()], storage: flaky });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const task = await taken(test);
  isBroken = true;
  const refused = await test.client(PATH, { body: {} });
  assertEquals([refused.status, refused.headers.get("retry-after")], [503, "5"]);
  assert(!refused.text.includes("disk full"));
  assertEquals((await test.answer("w", task, { status: "success" })).status, 503);
  isBroken = false;
  assertEquals((await test.answer("w", task, { status: "success" })).json.status, "result_accepted_success");
  assertEquals((await test.until(id, ended)).status, "finished");
  assertEquals((await test.client("/api/jobs")).json.length, 1);
});

// ---- Everything else ------------------------------------------------------------------------------------------------

Deno.test("blueprints are checked when they are registered", async () => {
  await using engine = new OrchestratorEngine(new MemoryStorage(), new Config());
  const refusal = (blueprint: StateMachineBlueprint) =>
    assertThrows(() => engine.registerBlueprint(blueprint), BlueprintError).message;
  assertEquals(
    refusal(new StateMachineBlueprint({ name: "empty" })),
    'Blueprint "empty" has no start state; give one state "isStart: true".',
  );
  engine.registerBlueprint(taskFlow());
  assertEquals(
    refusal(taskFlow()),
    'There are two blueprints named "test_flow". Blueprints "test_flow" and "test_flow" have the same endpoint.',
  );
  const twin = new StateMachineBlueprint({ name: "twin", apiEndpoint: "jobs/test/", apiVersion: "v1" })
    .handlerFor("a", { isStart: true }, ({ actions }) => actions.transitionTo("finished"));
  assertEquals(refusal(twin), 'Blueprints "test_flow" and "twin" have the same endpoint.');
  await engine.open();
  assertEquals(
    refusal(approvalFlow()),
    'Blueprint "ask" comes too late; register it before the engine starts.',
  );
});

Deno.test("progress is kept in the job, by WebSocket and by request", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  const { task_id } = await taken(test);
  const body = {
    worker_id: "w",
    event_type: "progress",
    target_task_id: task_id,
    target_job_id: id,
    payload: { progress: 0.25 },
  };
  assertEquals((await test.worker("/_worker/events", { body })).status, 200);
  assertEquals((await test.client(`/api/jobs/${id}`)).json.progress.progress, 0.25);
  const socket = new WebSocket(`${test.url.replace("http", "ws")}/_worker/ws`, {
    headers: { "x-worker-token": "worker-token" },
  });
  await new Promise((resolve) => socket.onopen = resolve);
  // The real worker says `type`, the document `event`.
  socket.send(
    JSON.stringify({ type: "progress_update", task_id, job_id: id, progress: 0.5, message: "half" }),
  );
  const job = await test.until(id, (one) => (one.progress as JsonObject).message === "half");
  assertEquals((job.progress as JsonObject).progress, 0.5);
  const heard = new Promise<MessageEvent>((resolve) => socket.onmessage = resolve);
  const cancel = await test.client(`/api/jobs/${id}/cancel`, { method: "POST" });
  assertEquals(cancel.json.status, "cancellation_request_sent");
  const command = { command: "cancel_task", type: "cancel_task", task_id, job_id: id };
  assertEquals(JSON.parse((await heard).data), command);
  const closed = new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
  await test.engine.stop();
  assertEquals((await closed).code, 1001);
});

Deno.test("a second WebSocket of a worker replaces the first, whose end does not end the second", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const open = async () => {
    const socket = new WebSocket(`${test.url.replace("http", "ws")}/_worker/ws/w`, {
      headers: { "x-worker-token": "worker-token" },
    });
    await new Promise((resolve) => socket.onopen = resolve);
    return socket;
  };
  const first = await open();
  const closed = new Promise<CloseEvent>((resolve) => first.onclose = resolve);
  const second = await open();
  assertEquals((await closed).code, 1008);
  await test.register("w", ["echo"]);
  const id = await test.submit(PATH);
  await taken(test);
  const heard = new Promise((resolve) => second.onmessage = resolve);
  await test.client(`/api/jobs/${id}/cancel`, { method: "POST" });
  await heard;
  const over = new Promise((resolve) => second.onclose = resolve);
  second.close();
  await over;
  const refused = await test.worker("/_worker/ws/w", { headers: { "x-worker-token": "wrong" } });
  assertEquals(refused.status, 401);
});

Deno.test("a job's end is posted to its webhook, signed, and again until it is taken", async () => {
  const got: { body: string; signature: string | null }[] = [];
  await using hook = Deno.serve({ port: 0, onListen() {} }, async (request) => {
    got.push({ body: await request.text(), signature: request.headers.get("x-avtomatika-signature") });
    return new Response(null, { status: got.length === 1 ? 500 : 204 });
  });
  const clock = new ManualClock();
  await using test = await openTestEngine({
    blueprints: [taskFlow()],
    clock,
    config: { webhookHosts: ["127.0.0.1"] },
  });
  await test.register("w", ["echo"]);
  const url = `http://127.0.0.1:${hook.addr.port}/done?x=1`;
  const id = await test.submit(PATH, {}, { "x-webhook-url": url });
  await test.answer("w", await taken(test), { status: "success", data: { n: 1 } });
  const delivered = test.until(
    id,
    (job) => String((job.webhook as JsonObject).delivery).startsWith("delivered"),
  );
  while (got.length < 2) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    await clock.advance(500);
  }
  await delivered;
  const { event, job_id, state_history } = JSON.parse(got[1]!.body);
  assertEquals([event, job_id, state_history], ["job_finished", id, { n: 1 }]);
  const key = new TextEncoder().encode(await hex(new TextEncoder().encode("client-token")));
  const hmac = await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const signature = new Uint8Array(
    await crypto.subtle.sign("HMAC", hmac, new TextEncoder().encode(got[1]!.body)),
  );
  assertEquals(got[1]!.signature, `sha256=${signature.toHex()}`);
  for (const bad of ["http://10.0.0.1/x", "file:///etc/passwd", "nonsense", "http://user:pw@127.0.0.1/"]) {
    assertEquals((await test.client(PATH, { body: {}, headers: { "x-webhook-url": bad } })).status, 400);
  }
});

async function hex(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

Deno.test("live updates tell a client of its own jobs", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const response = await fetch(`${test.url}/api/jobs/events`, {
    headers: { "x-client-token": "client-token" },
  });
  assertEquals(response.headers.get("content-type"), "text/event-stream");
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  await reader.read();
  const id = await test.submit(PATH);
  let text = "";
  while (!text.includes("\n\n")) text += (await reader.read()).value;
  assertMatch(text, /^event: job\ndata: /);
  assertEquals(JSON.parse(text.slice(text.indexOf("{"))).job_id, id);
  await reader.cancel();
});

Deno.test("lists are paged and narrowed; metrics are valid and alive", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  await test.register("w", ["echo"]);
  const ids: string[] = [];
  for (let n = 0; n < 5; n++) ids.push(await test.submit(PATH, { n }));
  await test.answer("w", await taken(test), { status: "success" });
  const list = async (query: string) =>
    (await test.client(`/api/v1/jobs?${query}`)).json.map((entry: JsonObject) =>
      ids.indexOf(String(entry.job_id))
    );
  assertEquals(await list(""), [4, 3, 2, 1, 0]);
  assertEquals(await list("limit=2&offset=1"), [3, 2]);
  assertEquals(await list("status=finished"), [0]);
  assertEquals(await list(`search=${ids[3]!.slice(-12)}`), [3]);
  for (const bad of ["limit=x", "offset=-1", "limit=1e3"]) {
    const answer = await test.client(`/api/v1/jobs?${bad}`);
    assertEquals([answer.status, answer.json.error], [400, "Invalid limit/offset parameter"]);
  }
  assertEquals((await test.client("/api/v1/jobs?status=odd")).status, 400);
  const answer = await fetch(`${test.url}/_public/metrics`);
  assertStringIncludes(answer.headers.get("content-type") ?? "", "text/plain; version=0.0.4");
  const lines = (await answer.text()).split("\n").filter((line) => line !== "");
  for (const line of lines) {
    assertMatch(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? -?[\d.e+]+)$/);
  }
  for (
    const wanted of [
      'orchestrator_jobs_total{blueprint="test_flow"} 5',
      'orchestrator_job_duration_seconds_count{blueprint="test_flow"} 1',
      'orchestrator_task_queue_length{type="echo"} 4',
      "orchestrator_active_workers 1",
    ]
  ) assert(lines.includes(wanted), wanted);
});

Deno.test("a thousand workers wait at once, and each gets one of a thousand jobs", async () => {
  await using test = await openTestEngine({ blueprints: [taskFlow()] });
  const count = 1000;
  const polls: Promise<string | undefined>[] = [];
  for (let n = 0; n < count; n++) {
    await test.register(`w${n}`, ["echo"]);
    polls.push(test.take(`w${n}`, 60).then((task) => task?.job_id));
  }
  while (test.engine.core.dispatcher.waiting < count) await new Promise((resolve) => setTimeout(resolve, 5));
  const ids: string[] = [];
  for (let n = 0; n < count; n++) ids.push(await test.submit(PATH));
  const taken = await Promise.all(polls);
  assertEquals(taken.toSorted(), ids.toSorted());
});
