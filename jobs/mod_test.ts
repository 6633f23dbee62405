// The scenario of examples/jobs from end to end: engine and worker as a user starts them, requests as curl sends them.

// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Folder, freePort, NOTHING_IGNORED, ROOT, Run, waitUntil } from "../testing/run.ts";
import { OriginalWorker } from "./testing/original_worker.ts";
import { StateMachineBlueprint } from "./model/blueprint.ts";
import { openStorage } from "./stores/open.ts";
import { openTestEngine } from "./testing/engine.ts";

const EXAMPLE = `${ROOT}/examples/jobs`;
const TOKENS = {
  CLIENT_TOKEN: "test-client-token",
  GLOBAL_WORKER_TOKEN: "test-worker-token",
  WORKER_TOKEN: "test-worker-token",
};
/** A Python with the package avtomatika-worker 1.0b1 installed. */
const PYTHON = Deno.env.get("ORIGINAL_WORKER_PYTHON");

interface Answer {
  status: number;
  // deno-lint-ignore no-explicit-any -- tests look into answers of every shape
  json: any;
}

async function request(url: string, body?: string): Promise<Answer> {
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    headers: { "Content-Type": "application/json", "X-Avtomatika-Token": TOKENS.CLIENT_TOKEN },
    body: body ?? null,
  });
  return { status: response.status, json: await response.json() };
}

/** The engine of the example, on a port of its own. */
async function startEngine(folder: Folder, port: number): Promise<Run> {
  const run = new Run(null, [
    "engine",
    "--blueprints",
    `${EXAMPLE}/flow.js`,
    "--port",
    String(port),
    "--log-format",
    "text",
  ], {
    cwd: folder.path,
    environment: TOKENS,
  });
  await run.line("Engine running on");
  return run;
}

interface AnyWorker extends AsyncDisposable {
  /** Resolves when it has logged so often that it received a task. */
  received(count: number): Promise<void>;
}

function commandWorker(
  folder: Folder,
  url: string,
  args: readonly string[],
  where: "out" | "err",
): AnyWorker {
  const environment = {
    ...TOKENS,
    WORKER_ID: "local-test-worker",
    WORKER_TYPE: "test-worker",
    ORCHESTRATOR_URL: url,
  };
  const run = new Run(null, ["worker", "--log-format", "text", ...args], { cwd: folder.path, environment });
  return {
    received: async (count) => {
      await run.line("Worker ID:       local-test-worker (test-worker");
      await run.line(`Engine:          ${url}`);
      await run.line("Supported tasks: echo_task, failing_task");
      for (const word of ["registered", "polling started", "heartbeats started"]) await run.line(word);
      await run[where].line("[WORKER] Received task", count);
      await run[where].line("[WORKER] Done! Result: Hello World Hello World Hello World");
    },
    [Symbol.asyncDispose]: async () => {
      assertEquals(await run.stop(), 0, run.out.text + run.err.text);
      await run.allGone();
      await run[Symbol.asyncDispose]();
    },
  };
}

function rawWorker(url: string): AnyWorker {
  const echo = async ({ message = "default", multiply = 1 }: Record<string, unknown>) => {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const repeated = Array(Number(multiply)).fill(message).join(" ");
    return {
      status: "success",
      data: { processed_message: repeated, original_message: message, multiplied_by: multiply },
    };
  };
  const failing = () => ({
    status: "failure",
    error: { code: "TRANSIENT_ERROR", message: "Intentional failure for testing" },
  });
  const habits = { url, id: "local-test-worker", token: TOKENS.WORKER_TOKEN, maxTasks: 5 };
  const worker = new OriginalWorker(habits, { echo_task: echo, failing_task: failing });
  return {
    received: (count) => waitUntil(() => worker.ran.length >= count, "it receives").then(() => {}),
    [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose](),
  };
}

function pythonWorker(url: string): AnyWorker {
  const child = new Deno.Command(PYTHON ?? "python3", {
    args: [`${ROOT}/jobs/testing/original_worker.py`],
    env: { ...TOKENS, WORKER_ID: "local-test-worker", ORCHESTRATOR_URL: url, PYTHONUNBUFFERED: "1" },
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let text = "";
  const read = (async () => {
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) text += part;
  })();
  return {
    received: async (count) => {
      await waitUntil(() => text.split("[WORKER] Received task").length > count, "it receives");
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await child.status;
      await read;
    },
  };
}

const WORKERS: [string, boolean, (folder: Folder, url: string) => AnyWorker][] = [
  [
    "a task file",
    false,
    (folder, url) => commandWorker(folder, url, ["--tasks", `${EXAMPLE}/tasks.js`], "out"),
  ],
  [
    "Python programs",
    false,
    (folder, url) =>
      commandWorker(folder, url, [
        "--exec",
        `echo_task=python3 ${EXAMPLE}/echo.py`,
        "--exec",
        `failing_task=python3 ${EXAMPLE}/fail.py`,
      ], "err"),
  ],
  ["the original's habits", false, (_, url) => rawWorker(url)],
  [
    PYTHON === undefined
      ? "the original Python package (ignored: ORIGINAL_WORKER_PYTHON names no Python that has it)"
      : "the original Python package",
    PYTHON === undefined && !NOTHING_IGNORED,
    (_, url) => pythonWorker(url),
  ],
];

for (const [what, ignore, startWorker] of WORKERS) {
  Deno.test({
    name: `the scenario with a worker of ${what}`,
    ignore,
    fn: async () => {
      await using folder = await Folder.make({ env: null });
      const port = freePort();
      const url = `http://localhost:${port}`;
      await using engine = await startEngine(folder, port);
      await engine.line("POST /api/v1/jobs/test");
      await engine.line("X-Avtomatika-Token");
      await using worker = startWorker(folder, url);
      await waitUntil(
        async () => (await request(`${url}/api/v1/workers`)).json.length === 1,
        "it is registered",
      );

      // A job: accepted, dispatched, received, answered, completed.
      const data = JSON.stringify({ message: "Hello World", multiply: 3 });
      const accepted = await request(`${url}/api/v1/jobs/test`, data);
      assertEquals([accepted.status, accepted.json.status], [202, "accepted"]);
      const id: string = accepted.json.job_id;
      assertMatch(id, /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
      await engine.line(`[ORCHESTRATOR] Job ${id} started`);
      await engine.line("Dispatching task");
      const waiting = await waitUntil(async () => {
        const { json } = await request(`${url}/api/v1/jobs/${id}`);
        return json.task_worker_id === "local-test-worker" && json;
      }, "the worker has it");
      assertEquals([waiting.status, waiting.current_state], ["waiting_for_worker", "start"]);
      await engine.line(`[ORCHESTRATOR] Job ${id} COMPLETED! Result from worker:`);
      await worker.received(1);
      const done = await waitUntil(async () => {
        const { json } = await request(`${url}/api/v1/jobs/${id}`);
        return json.status === "finished" && json;
      }, "it is finished");
      assertEquals(done.current_state, "completed");
      assertEquals(done.state_history, {
        processed_message: "Hello World Hello World Hello World",
        original_message: "Hello World",
        multiplied_by: 3,
      });
      assertEquals(done.result, done.state_history);

      // Test 1: the list of workers, with heartbeats.
      const [listed] = (await request(`${url}/api/v1/workers`)).json;
      assertEquals([listed.worker_id, listed.worker_type], ["local-test-worker", "test-worker"]);
      assertEquals(listed.supported_tasks, ["echo_task", "failing_task"]);
      assert(Date.parse(listed.last_heartbeat_at) > Date.now() - 30_000);

      // Test 2: a task that fails is tried four times, then its failure handler runs.
      const failing = (await request(`${url}/api/v1/jobs/failing`, "{}")).json.job_id;
      const failed = await waitUntil(async () => {
        const { json } = await request(`${url}/api/v1/jobs/${failing}`);
        return json.status === "quarantined" && json;
      }, "it is quarantined");
      assertEquals(failed.current_state, "failed");
      assertMatch(failed.error_message, /^Task failed after 4 attempts: .*Intentional failure for testing/);
      await engine.line(`[ORCHESTRATOR] Job ${failing} FAILED!`);

      // Test 3: several in a row.
      const several = [];
      for (let n = 1; n <= 5; n++) {
        const { json } = await request(
          `${url}/api/v1/jobs/test`,
          `{"message": "Message ${n}", "multiply": ${n}}`,
        );
        several.push(json.job_id);
      }
      for (const [index, id] of several.entries()) {
        const job = await waitUntil(async () => {
          const { json } = await request(`${url}/api/v1/jobs/${id}`);
          return json.status === "finished" && json;
        }, `job ${index + 1} is finished`);
        assertEquals(job.result.multiplied_by, index + 1);
      }

      // What the document's troubles look like.
      const refused = await fetch(`${url}/api/v1/jobs/${id}`, {
        headers: { "X-Avtomatika-Token": "another" },
      });
      assertEquals([refused.status, await refused.json()], [401, { error: "Unauthorized: Invalid token" }]);
      assertEquals(await engine.stop(), 0);
    },
  });
}

Deno.test("a job whose task nobody can do shows what it waits for, and goes on when somebody comes", async () => {
  await using folder = await Folder.make({ env: null });
  const port = freePort();
  const url = `http://127.0.0.1:${port}`;
  await using _engine = await startEngine(folder, port);
  const { job_id: id } = (await request(`${url}/api/v1/jobs/test`, "{}")).json;
  const job = await waitUntil(async () => {
    const { json } = await request(`${url}/api/v1/jobs/${id}`);
    return json.status === "waiting_for_worker" && json;
  }, "it waits");
  assertEquals([job.waiting_for, job.task_worker_id], ['a worker for "echo_task"', null]);
  await using _worker = rawWorker(url);
  await waitUntil(
    async () => (await request(`${url}/api/v1/jobs/${id}`)).json.status === "finished",
    "it is finished",
  );
});

Deno.test("examples/jobs/services.yaml runs engine and worker as services", async () => {
  await using folder = await Folder.make();
  const [port, healthPort] = [freePort(), freePort()];
  const url = `http://127.0.0.1:${port}`;
  await folder.write(
    ".env",
    Object.entries({
      ...TOKENS,
      API_PORT: port,
      WORKER_PORT: healthPort,
      ORCHESTRATOR_URL: url,
      JOBS_STORAGE: `sqlite:${folder.path}/jobs.sqlite`,
    })
      .map(([name, value]) => `${name}=${value}\n`).join(""),
  );
  await using run = new Run(null, ["--infrastructure", EXAMPLE, "--env-file", `${folder.path}/.env`]);
  await run.line("[orchestrator] engine is running");
  await run.line("[orchestrator] worker is running");
  const { json } = await request(`${url}/api/v1/jobs/test`, '{"message":"as a service","multiply":1}');
  await waitUntil(
    async () => (await request(`${url}/api/v1/jobs/${json.job_id}`)).json.status === "finished",
    "it is finished",
  );
  await run.line("COMPLETED!");
  assertEquals(await run.stop(), 0);
  await run.allGone();
});

// --- The original's habits against the engine -------------------------------------------------------------------

function flow(taskType: string): StateMachineBlueprint {
  const made = new StateMachineBlueprint({
    name: taskType,
    apiEndpoint: `/jobs/${taskType}`,
    apiVersion: "v1",
  });
  made.handlerFor(
    "start",
    { isStart: true, to: { success: "completed", failure: "failed" } },
    (context) => context.actions.dispatchTask({ taskType, params: context.initialData }),
  );
  made.handlerFor("completed", { isEnd: true });
  made.handlerFor("failed", { isEnd: true });
  return made;
}

const QUICK = { heartbeat: 0.1, debounce: 0.01, errorDelay: 0.1, resultDelay: 0.02 };

Deno.test("habit: a worker that starts before the engine, and never registers, still works", async () => {
  const port = freePort();
  const habits = {
    ...QUICK,
    url: `http://127.0.0.1:${port}`,
    id: "early",
    token: "worker-token",
    maxTasks: 2,
  };
  await using worker = new OriginalWorker(habits, { work: () => ({ status: "success" }) });
  await waitUntil(
    () => worker.wire.includes("POST /_worker/workers/register failed"),
    "its registration fails",
  );
  await using engine = await openTestEngine({ blueprints: [flow("work")], config: { port } });
  const id = await engine.submit("/api/v1/jobs/work");
  assertEquals((await engine.until(id, (job) => job.status === "finished")).task_worker_id, "early");
});

Deno.test("habit: an engine that restarts is found again; no result is lost, no job is run twice", async () => {
  const port = freePort();
  await using folder = await Folder.make({ env: null });
  const start = async () =>
    await openTestEngine({
      blueprints: [flow("work")],
      config: { port },
      storage: await openStorage(`sqlite:${folder.path}/jobs.sqlite`),
    });
  let engine = await start();
  const gate = Promise.withResolvers<void>();
  const habits = { ...QUICK, resultDelay: 0.5, url: engine.url, id: "w", token: "worker-token", maxTasks: 3 };
  await using worker = new OriginalWorker(habits, {
    work: () => gate.promise.then(() => ({ status: "success" })),
  });
  const ids = [];
  for (let n = 0; n < 3; n++) ids.push(await engine.submit("/api/v1/jobs/work"));
  await waitUntil(() => worker.ran.length === 3, "all run");
  await engine[Symbol.asyncDispose]();
  gate.resolve();
  await waitUntil(
    () => worker.wire.filter((line) => line.startsWith("POST /_worker/tasks/result failed")).length >= 3,
    "no result arrives",
  );
  engine = await start();
  for (const id of ids) await engine.until(id, (job) => job.status === "finished");
  assertEquals([worker.dropped, worker.ran.length], [[], 3]);
  await engine[Symbol.asyncDispose]();
});

Deno.test("habit: one place, many jobs: it is never limited, and every result is taken at the first attempt", async () => {
  await using engine = await openTestEngine({ blueprints: [flow("work"), flow("flaky")] });
  let failures = 0;
  const habits = { ...QUICK, url: engine.url, id: "w", token: "worker-token", maxTasks: 1 };
  await using worker = new OriginalWorker(habits, {
    work: ({ ms }) => new Promise((resolve) => setTimeout(() => resolve({ status: "success" }), Number(ms))),
    flaky: () => {
      if (++failures <= 2) throw new Error("not yet");
      return { status: "success" };
    },
  });
  const ids = [await engine.submit("/api/v1/jobs/flaky")];
  for (let n = 0; n < 60; n++) {
    ids.push(await engine.submit("/api/v1/jobs/work", { ms: n % 3 === 0 ? 20 : 0 }));
  }
  for (const id of ids) {
    assertEquals((await engine.until(id, (job) => typeof job.ended_at === "string")).status, "finished");
  }
  assertEquals(failures, 3);
  const bad = worker.wire.filter((line) => !/ (200|204)$/.test(line));
  assertEquals(bad, []);
});
