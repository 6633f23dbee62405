// The worker SDK against a real engine over HTTP.

// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { LIMIT_MS, waitUntil } from "../../testing/run.ts";
import { StateMachineBlueprint } from "../model/blueprint.ts";
import type { JsonObject } from "../model/job.ts";
import { openTestEngine, type TestEngine } from "../testing/engine.ts";
import { Running } from "../testing/worker.ts";
import { WorkerError, type WorkerOptions } from "./settings.ts";
import { type TaskContext, type TaskHandler, TaskStopped } from "./task.ts";
import { Worker } from "./worker.ts";

/** A blueprint whose only task has the blueprint's name as its type. */
function flow(taskType: string, task: { timeoutSeconds?: number } = {}): StateMachineBlueprint {
  const made = new StateMachineBlueprint({
    name: taskType,
    apiEndpoint: `/jobs/${taskType}`,
    apiVersion: "v1",
  });
  made.handlerFor(
    "start",
    { isStart: true, to: { success: "completed", failure: "failed" } },
    (context) => context.actions.dispatchTask({ taskType, params: context.initialData, ...task }),
  );
  made.handlerFor("completed", { isEnd: true });
  made.handlerFor("failed", { isEnd: true });
  return made;
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

const ended = (job: JsonObject) =>
  ["finished", "failed", "quarantined", "cancelled"].includes(String(job.status));

function engineOf(...names: string[]): Promise<TestEngine> {
  return openTestEngine({ blueprints: names.map((name) => flow(name)) });
}

Deno.test("a task's function gets params and context, and what it returns ends the job", async () => {
  await using engine = await engineOf("greet");
  const seen: TaskContext[] = [];
  await using running = new Running(engine.url, {
    greet: (params, context) => {
      seen.push(context);
      return { status: "success", data: { greeting: `Hello ${params.name}` } };
    },
  });
  const id = await engine.submit("/api/v1/jobs/greet", { name: "Ada" });
  const job = await engine.until(id, ended);
  assertEquals(job.status, "finished");
  assertEquals(job.result, { greeting: "Hello Ada" });
  assertEquals(job.task_worker_id, running.worker.id);
  assertEquals(seen.map(({ jobId, taskId, priority }) => [jobId, taskId, priority]), [
    [id, job.current_task_id, 0],
  ]);
});

for (
  const [what, handler, status, error] of [
    [
      "a throw is tried again three times",
      () => {
        throw new Error("boom");
      },
      "quarantined",
      "Task failed after 4 attempts: boom",
    ],
    [
      "a permanent error is not tried again",
      () => ({
        status: "failure",
        error: { code: "PERMANENT_ERROR", message: "no use" },
      }),
      "quarantined",
      "Task failed with permanent error: no use",
    ],
    [
      "an invalid input fails the job",
      () => ({
        status: "failure",
        error: { code: "INVALID_INPUT_ERROR", message: "no name" },
      }),
      "failed",
      "Task failed due to invalid input: no name",
    ],
    ["nothing returned is a success", () => {}, "finished", null],
    [
      "a status without a transition fails the job",
      () => ({ status: "maybe" }),
      "failed",
      "Worker returned unhandled status: maybe",
    ],
    [
      "a result that JSON cannot say is a failure",
      () => {
        const data: JsonObject = {};
        data.self = data;
        return { status: "success", data };
      },
      "quarantined",
      /^Task failed with permanent error: The result cannot be written as JSON: Converting circular structure/,
    ],
    [
      "a result that the engine does not take is a failure",
      () => ({
        status: "success",
        data: { text: "x".repeat(200_000) },
      }),
      "quarantined",
      "Task failed with permanent error: The engine refuses the result: The body is larger than the 100000 bytes that are allowed here (413)",
    ],
  ] as [string, TaskHandler, string, string | RegExp | null][]
) {
  Deno.test(`outcome: ${what}`, async () => {
    await using engine = await openTestEngine({
      blueprints: [flow("job")],
      config: { maxResultBytes: 100_000 },
    });
    let calls = 0;
    await using _running = new Running(engine.url, {
      job: (params, context) => {
        calls++;
        return handler(params, context);
      },
    });
    const job = await engine.until(await engine.submit("/api/v1/jobs/job"), ended);
    assertEquals(job.status, status);
    if (error instanceof RegExp) assertMatch(String(job.error_message), error);
    else assertEquals(job.error_message, error);
    assertEquals(calls, what.includes("three times") ? 4 : 1);
  });
}

Deno.test("progress is seen in the job while the task runs", async () => {
  await using engine = await engineOf("long");
  const go = Promise.withResolvers<void>();
  await using _running = new Running(engine.url, {
    long: async (_, { sendProgress }) => {
      for (let step = 0; step <= 50; step++) void sendProgress(step / 100, `step ${step}`);
      await go.promise;
      return { status: "success" };
    },
  });
  const id = await engine.submit("/api/v1/jobs/long");
  const job = await engine.until(id, (job) => JSON.stringify(job.progress ?? "").includes("step 50"));
  assertEquals(job.status, "waiting_for_worker");
  go.resolve();
  assertEquals((await engine.until(id, ended)).status, "finished");
});

Deno.test("no more tasks run at once than the worker's limit", async () => {
  await using engine = await engineOf("gate");
  const gate = Promise.withResolvers<void>();
  let now = 0;
  let most = 0;
  await using _running = new Running(engine.url, {
    gate: async () => {
      most = Math.max(most, ++now);
      await gate.promise;
      now--;
    },
  }, { maxConcurrentTasks: 2 });
  const ids = [];
  for (let count = 0; count < 6; count++) ids.push(await engine.submit("/api/v1/jobs/gate"));
  await waitUntil(() => now === 2, "two run");
  const { json: workers } = await engine.client("/api/workers");
  assertEquals(workers[0].held_tasks, 2);
  gate.resolve();
  for (const id of ids) assertEquals((await engine.until(id, ended)).status, "finished");
  assertEquals(most, 2);
});

Deno.test("a type at its own limit does not hold up the others, and goes on when it is free", async () => {
  await using engine = await engineOf("narrow", "wide");
  const gates: PromiseWithResolvers<void>[] = [];
  await using _running = new Running(engine.url, {
    narrow: async () => {
      const gate = Promise.withResolvers<void>();
      gates.push(gate);
      await gate.promise;
    },
    wide: () => {},
  }, { limits: { narrow: 1 } });
  const narrow = [await engine.submit("/api/v1/jobs/narrow"), await engine.submit("/api/v1/jobs/narrow")];
  await waitUntil(() => gates.length === 1, "the first narrow task runs");
  for (let count = 0; count < 3; count++) {
    const wide = await engine.submit("/api/v1/jobs/wide");
    assertEquals((await engine.until(wide, ended)).status, "finished");
  }
  assertEquals(gates.length, 1);
  gates[0]?.resolve();
  await waitUntil(() => gates.length === 2, "the second narrow task runs");
  gates[1]?.resolve();
  for (const id of narrow) assertEquals((await engine.until(id, ended)).status, "finished");
});

for (
  const [what, options] of [
    ["with the answer to its poll", {}],
    ["while it is full, with a poll for commands", { maxConcurrentTasks: 1 }],
    ["over its WebSocket", { maxConcurrentTasks: 1, environment: { WORKER_ENABLE_WEBSOCKETS: "true" } }],
  ] as [string, WorkerOptions][]
) {
  Deno.test(`a cancel reaches the worker ${what}`, async () => {
    await using engine = await engineOf("endless");
    const reasons: unknown[] = [];
    await using running = new Running(engine.url, {
      endless: (_, { signal }) =>
        untilAborted(signal).catch((reason) => {
          reasons.push(reason);
          throw reason;
        }),
    }, options);
    const id = await engine.submit("/api/v1/jobs/endless");
    await engine.until(id, (job) => job.task_worker_id === running.worker.id);
    if (options.environment !== undefined) {
      await waitUntil(
        async () => (await engine.client("/api/workers")).json[0].websocket,
        "the socket is open",
      );
    }
    assertEquals((await engine.client(`/api/v1/jobs/${id}/cancel`, { method: "POST" })).status, 200);
    await waitUntil(() => reasons.length === 1, "the task is stopped");
    assert(reasons[0] instanceof TaskStopped && reasons[0].why === "cancelled");
    assertEquals((await engine.until(id, ended)).status, "cancelled");
    const again = await engine.submit("/api/v1/jobs/endless");
    await engine.until(again, (job) => job.task_worker_id === running.worker.id);
  });
}

Deno.test("a task that runs out of time is notified, and its late result counts for nothing", async () => {
  await using engine = await openTestEngine({ blueprints: [flow("slow", { timeoutSeconds: 0.2 })] });
  const stopped = Promise.withResolvers<unknown>();
  await using running = new Running(engine.url, {
    slow: async (_, { signal }) => {
      await untilAborted(signal).catch(stopped.resolve);
      return { status: "success" };
    },
  });
  const id = await engine.submit("/api/v1/jobs/slow");
  const job = await engine.until(id, ended);
  assertEquals([job.status, job.error_message], ["failed", "Worker task timed out."]);
  const reason = await stopped.promise;
  // The worker counts the time itself, and the engine sends it as well: either may be first.
  assert(reason instanceof TaskStopped && reason.why !== "shutdown");
  await waitUntil(
    () => running.lines.some((line) => /"status":"(timeout|cancelled)"/.test(line)),
    "its end is logged",
  );
});

Deno.test("asked to stop, it finishes what runs within the grace and takes nothing more", async () => {
  await using engine = await engineOf("gate");
  const gate = Promise.withResolvers<void>();
  let began = 0;
  await using running = new Running(engine.url, {
    gate: async () => {
      began++;
      await gate.promise;
    },
  }, { graceMs: LIMIT_MS });
  const first = await engine.submit("/api/v1/jobs/gate");
  await waitUntil(() => began === 1, "the task runs");
  running.stop.abort();
  await waitUntil(
    async () => (await engine.client("/api/workers")).json[0].status === "draining",
    "it reports that",
  );
  const second = await engine.submit("/api/v1/jobs/gate");
  gate.resolve();
  assertEquals((await engine.until(first, ended)).status, "finished");
  await running.ended;
  assertEquals(began, 1);
  assertEquals((await engine.client(`/api/jobs/${second}`)).json.task_worker_id, null);
});

Deno.test("what the grace does not suffice for goes to another worker, not counted as a failure", async () => {
  await using engine = await engineOf("work");
  const went = Promise.withResolvers<void>();
  await using first = new Running(engine.url, {
    work: async (_, { signal }) => {
      went.resolve();
      await untilAborted(signal);
    },
  }, { graceMs: 50 });
  const id = await engine.submit("/api/v1/jobs/work");
  await went.promise;
  first.stop.abort();
  await first.ended;
  await using second = new Running(engine.url, {
    work: () => ({ status: "success", data: { by: "second" } }),
  });
  const job = await engine.until(id, ended);
  assertEquals([job.status, job.result], ["finished", { by: "second" }]);
  assertEquals([job.task_worker_id, job.retry_count], [second.worker.id, 0]);
});

Deno.test("an engine that has forgotten it is registered with again, and results wait for it", async () => {
  const first = await engineOf("work");
  const port = Number(new URL(first.url).port);
  const gate = Promise.withResolvers<void>();
  let began = 0;
  await using running = new Running(first.url, {
    work: async (params) => {
      began++;
      if (params.wait) await gate.promise;
    },
  });
  await first.submit("/api/v1/jobs/work", { wait: true });
  await waitUntil(() => began === 1, "a task runs");
  await first[Symbol.asyncDispose]();
  gate.resolve();
  await waitUntil(() => running.lines.some((line) => line.includes("engine_unavailable")), "it is missed");
  // This one has another memory: it knows neither the worker nor the job of the result.
  await using second = await openTestEngine({ blueprints: [flow("work")], config: { port } });
  const id = await second.submit("/api/v1/jobs/work");
  assertEquals((await second.until(id, ended)).status, "finished");
  await waitUntil(
    () => running.lines.some((line) => /result_(refused|ignored)/.test(line)),
    "the old result is given up",
  );
});

Deno.test("in turn mode all engines are served, with fewer places than engines too", async () => {
  await using one = await engineOf("work");
  await using other = await engineOf("work");
  await using _running = new Running([one.url, other.url], { work: () => {} }, {
    maxConcurrentTasks: 1,
    environment: { MULTI_ORCHESTRATOR_MODE: "ROUND_ROBIN" },
  });
  for (const engine of [one, other, one, other]) {
    assertEquals((await engine.until(await engine.submit("/api/v1/jobs/work"), ended)).status, "finished");
  }
});

Deno.test("in fail-over mode the second engine is served when the first is away", async () => {
  const first = await engineOf("work");
  await using second = await engineOf("work");
  const seen: unknown[] = [];
  await using running = new Running([first.url, second.url], { work: ({ at }) => void seen.push(at) });
  await first.until(await first.submit("/api/v1/jobs/work", { at: 1 }), ended);
  const id = await second.submit("/api/v1/jobs/work", { at: 2 });
  await waitUntil(async () => (await second.client("/api/workers")).json.length === 1, "both know it");
  assertEquals(seen, [1]);
  await first[Symbol.asyncDispose]();
  assertEquals((await second.until(id, ended)).status, "finished");
  assert(running.worker.connected);
});

Deno.test("a refused registration ends the worker with a sentence without the token", async () => {
  await using engine = await engineOf("work");
  const worker = new Worker({ url: engine.url, token: "wrong-secret", environment: {} }).task(
    "work",
    () => {},
  );
  const { message } = await assertRejects(() => worker.run(), WorkerError);
  assertEquals(
    message,
    `The engine at ${engine.url} refuses the registration: Unauthorized: No valid token found (401); ` +
      "WORKER_TOKEN must be a token that this engine knows.",
  );
});

Deno.test("a task that is added twice is refused", () => {
  const worker = new Worker({ token: "t", environment: {} }).task("a", () => {});
  const { message } = assertThrows(() => worker.task("a", () => {}), WorkerError);
  assertEquals(message, 'The task "a" is there twice; rename one of its functions.');
});

Deno.test("a worker without tasks does not start", async () => {
  const { message } = await assertRejects(
    () => new Worker({ token: "t", environment: {} }).run(),
    WorkerError,
  );
  assertEquals(message, "The worker has no task; add a function with worker.task(NAME, FUNCTION).");
});
