// A worker's connection to an engine that misbehaves, and what it sends.

// @ts-types="../../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { waitUntil } from "../../testing/run.ts";
import type { JsonObject } from "../model/job.ts";
import { fakeEngine, Running } from "../testing/worker.ts";

const ok = () => Response.json({ status: "ok" });
const REGISTER = "/_worker/workers/register";
const POLL = "/_worker/workers/ID/tasks/next";
const RESULT = "/_worker/tasks/result";
const BEAT = "/_worker/workers/ID";
const task = (more: JsonObject = {}) =>
  Response.json({
    job_id: "j",
    task_id: "t",
    type: "work",
    params: {},
    priority: 0,
    tracing_context: {},
    ...more,
  });

Deno.test("a heartbeat that is answered 404 is followed by a registration with the tasks that run", async () => {
  const gate = Promise.withResolvers<void>();
  const engine: ReturnType<typeof fakeEngine> = fakeEngine(({ path }, count) => {
    if (path === POLL) return count === 1 ? task() : engine.wait();
    return path === BEAT && count === 2
      ? Response.json({ error: "Worker not found" }, { status: 404 })
      : ok();
  });
  await using _engine = engine;
  await using _running = new Running(engine.url, { work: () => gate.promise }, {
    environment: { HEARTBEAT_INTERVAL: "0.05" },
  });
  await waitUntil(() => engine.of(REGISTER).length === 2, "it registers again");
  assertEquals(engine.bodyOf(REGISTER).running_tasks, []);
  assertEquals(engine.bodyOf(REGISTER, 1).running_tasks, ["t"]);
  gate.resolve();
});

Deno.test("the registration and the heartbeat hold what the protocol names", async () => {
  const engine: ReturnType<typeof fakeEngine> = fakeEngine(({ path }) =>
    path === POLL ? engine.wait() : ok()
  );
  await using _engine = engine;
  await using running = new Running(engine.url, { work: () => {} }, {
    workerType: "gpu",
    maxConcurrentTasks: 3,
    environment: {
      GPU_MODEL: "A100",
      GPU_VRAM_GB: "80",
      CPU_CORES: "6",
      INSTALLED_MODELS: '[{"name":"llama","version":"3"}]',
      WORKER_COST_PER_SECOND: "0.5",
    },
  });
  await waitUntil(() => engine.of(BEAT).length === 1, "a heartbeat comes at once");
  const { hostname, ip_address, ...sent } = engine.bodyOf(REGISTER);
  assert(typeof hostname === "string" && typeof ip_address === "string");
  assertEquals(sent, {
    worker_id: running.worker.id,
    worker_type: "gpu",
    supported_tasks: ["work"],
    max_concurrent_tasks: 3,
    installed_models: [{ name: "llama", version: "3" }],
    resources: { cpu_cores: 6, gpu_info: { model: "A100", vram_gb: 80 } },
    cost_per_second: 0.5,
    capabilities: { websockets: false },
    status: "idle",
    load: 0,
    hot_cache: [],
    running_tasks: [],
  });
  assertEquals(engine.bodyOf(BEAT), {
    load: 0,
    status: "idle",
    supported_tasks: ["work"],
    hot_cache: [],
  });
});

Deno.test("a result is sent again until it is taken, later each time, and after Retry-After", async () => {
  const engine: ReturnType<typeof fakeEngine> = fakeEngine(({ path }, count) => {
    if (path === POLL) return count === 1 ? task() : engine.wait();
    if (path !== RESULT || count > 3) return ok();
    if (count === 3) return new Response("{}", { status: 429, headers: { "Retry-After": "0.3" } });
    return new Response("down", { status: 503 });
  });
  await using _engine = engine;
  await using running = new Running(engine.url, { work: () => ({ status: "success", data: { n: 1 } }) });
  await waitUntil(() => engine.of(RESULT).length === 4, "four attempts");
  assertEquals(engine.bodyOf(RESULT, 3), {
    job_id: "j",
    task_id: "t",
    worker_id: running.worker.id,
    result: { status: "success", data: { n: 1 } },
  });
  const [first = 0, second = 0, third = 0] = engine.gapsOf(RESULT);
  assert(first >= 14 && second >= 28 && third >= 280);
});

Deno.test("RESULT_MAX_RETRIES bounds the attempts", async () => {
  const engine: ReturnType<typeof fakeEngine> = fakeEngine(({ path }, count) =>
    path === RESULT
      ? new Response(null, { status: 500 })
      : path === POLL
      ? (count === 1 ? task() : engine.wait())
      : ok()
  );
  await using _engine = engine;
  await using running = new Running(engine.url, { work: () => {} }, {
    environment: { RESULT_MAX_RETRIES: "2" },
  });
  await waitUntil(() => running.lines.some((line) => line.includes("result_dropped")), "it gives up");
  assertEquals(engine.of(RESULT).length, 3);
});

for (
  const [what, answer] of [
    ["answers polls at once with nothing", () => new Response(null, { status: 204 })],
    ["refuses polls", () => new Response("{}", { status: 500 })],
    ["sends what is no task", () => Response.json({ task_id: 1 })],
    ["sends no JSON", () => new Response("<html>")],
  ] as [string, () => Response][]
) {
  Deno.test(`an engine that ${what} is not hammered`, async () => {
    const engine = fakeEngine(({ path }) => path === POLL ? answer() : ok());
    await using _engine = engine;
    await using _running = new Running(engine.url, { work: () => {} }, {
      environment: { TASK_POLL_ERROR_DELAY: "5" },
    });
    await waitUntil(() => engine.of(POLL).length >= 3, "it keeps trying");
    const gaps = engine.gapsOf(POLL);
    assert(gaps.every((ms) => ms >= 60), `${gaps}`);
  });
}

Deno.test("an unknown task type is answered, as a failure that a repeat does not correct", async () => {
  const engine: ReturnType<typeof fakeEngine> = fakeEngine(({ path }, count) =>
    path === POLL ? (count === 1 ? task({ type: "other" }) : engine.wait()) : ok()
  );
  await using _engine = engine;
  await using _running = new Running(engine.url, { work: () => {} });
  await waitUntil(() => engine.of(RESULT).length === 1, "it answers");
  assertEquals(engine.bodyOf(RESULT).result, {
    status: "failure",
    error: { code: "PERMANENT_ERROR", message: "Unsupported task: other" },
  });
});

Deno.test("what an engine was assigning as the worker stopped is given back", async () => {
  const engine: ReturnType<typeof fakeEngine> = fakeEngine(({ path }) =>
    path === POLL ? engine.wait() : ok()
  );
  await using _engine = engine;
  await using running = new Running(engine.url, { work: () => {} });
  await waitUntil(() => engine.of(POLL).length === 1, "it polls");
  running.stop.abort();
  await running.ended;
  const last = engine.of(REGISTER).at(-1)?.body;
  assertEquals([engine.of(REGISTER).length, last?.status, last?.running_tasks], [2, "draining", []]);
});
