// @ts-types="../../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { changeOf, someRules, someSpec, waiting } from "../testing/job.ts";
import type { Job, Phase } from "./job.ts";
import { delayMs, endJob, enter, isRunnable, queueTask, wakeOf } from "./job_change.ts";

const TASK = { id: "t", spec: someSpec(), retries: 0, since: 0, dispatchedAt: 0 };
const ENDED = { endedAt: 1 };

for (
  const [what, phase, wakeAt, runs] of [
    ["a pending job", { status: "pending" }, 1_000, true],
    ["a running job", { status: "running" }, 1_000, true],
    ["a job that retries", { status: "awaiting_retry", retries: 1, retryAt: 1_700 }, 1_700, true],
    ["a task at a worker", { status: "waiting_for_worker", task: TASK, transitions: {} }, null, false],
    [
      "a task that waits for its retry",
      { status: "waiting_for_worker", task: { ...TASK, retryAt: 1_200 }, transitions: {} },
      1_200,
      false,
    ],
    [
      "the first of several branches that wait for their retries",
      {
        status: "waiting_for_parallel_tasks",
        branches: [
          { open: true, ...TASK, retryAt: 1_900 },
          { open: true, ...TASK, retryAt: 1_800 },
          { open: true, ...TASK },
          { open: false, id: "b", type: "echo", result: {} },
        ],
        into: "next",
      },
      1_800,
      false,
    ],
    [
      "branches at workers",
      { status: "waiting_for_parallel_tasks", branches: [{ open: true, ...TASK }], into: "next" },
      null,
      false,
    ],
    [
      "a question",
      {
        status: "waiting_for_human",
        question: { integration: "", message: "", askedAt: 0 },
        transitions: {},
      },
      null,
      false,
    ],
    ["a sub-job", { status: "waiting_for_sub_job", childId: "c", transitions: {} }, 11_000, false],
    ["a finished job", { status: "finished", ...ENDED }, null, false],
    ["a failed job", { status: "failed", ...ENDED }, null, false],
    ["a quarantined job", { status: "quarantined", ...ENDED }, null, false],
    ["a cancelled job", { status: "cancelled", ...ENDED }, null, false],
    [
      "an end to report",
      { status: "finished", ...ENDED, webhook: { url: "http://x", tries: 0 } },
      1_000,
      false,
    ],
    [
      "an end that was reported",
      { status: "finished", ...ENDED, webhook: { url: "http://x", tries: 0, done: "delivered" } },
      null,
      false,
    ],
  ] as [string, Phase & Partial<Job>, number | null, boolean][]
) {
  Deno.test(`${what} is looked at ${wakeAt === null ? "when something happens" : `at ${wakeAt}`}`, () => {
    const { job } = changeOf(phase);
    assertEquals(wakeOf(job, 1_000), wakeAt);
    assertEquals(isRunnable(job), runs);
  });
}

Deno.test("retries are delayed by twice as long each time, at most by a minute", () => {
  const rules = someRules({ retryDelayMs: 100 });
  assertEquals([0, 1, 2, 9, 10, 50].map((retries) => delayMs(retries, rules)), [
    100,
    200,
    400,
    51_200,
    60_000,
    60_000,
  ]);
});

Deno.test("a job keeps nothing of the phase that it leaves, and all else", () => {
  const { job } = waiting({
    error: "e",
    failedState: "f",
    parentId: "p",
    depth: 2,
    trace: { traceparent: "t" },
    webhook: { url: "http://x", tries: 1 },
    queueTimeoutMs: 1,
    resultTimeoutMs: 2,
    lastTask: { id: "l", spec: someSpec(), transitions: {}, dispatchedAt: 1 },
    aggregationResults: { a: {} },
    listed: true,
    progress: { taskId: "task", at: 1 },
  });
  if (job.status !== "waiting_for_worker") throw new Error("it waits for a worker");
  const { task: _, transitions: __, ...facts } = job;
  assertEquals(enter(job, { status: "running" }) as unknown, {
    ...facts,
    status: "running",
  });
  assertEquals(enter(job, { status: "pending" }, { state: "other" }).state, "other");
});

Deno.test("what is stored is the next revision, dated now, with the last event of this change", () => {
  const change = changeOf();
  const rules = someRules();
  const unchanged = change.write(7, 60_000);
  assertEquals([unchanged.wakeAt, unchanged.job.revision, unchanged.job.updatedAt], [7, 4, 60_000]);
  assertEquals(unchanged.job.lastEvent, "state_started");
  change.note("transition", rules);
  change.note("task_dispatched", rules, { task_id: "t" });
  assertEquals(change.write(null, 60_000).job.lastEvent, "task_dispatched");
  assertEquals(change.write(null, 60_000).history, [
    { event_type: "transition", timestamp: 50_000, state: "work" },
    { event_type: "task_dispatched", timestamp: 50_000, state: "work", task_id: "t" },
  ]);
});

Deno.test("a change knows whether the job had ended before", () => {
  assertEquals(changeOf().hadEnded, false);
  assertEquals(changeOf({ status: "failed", endedAt: 1 }).hadEnded, true);
});

for (
  const [status, error, listed] of [
    ["finished", undefined, undefined],
    ["failed", "broken", undefined],
    ["quarantined", "broken", true],
    ["cancelled", undefined, undefined],
  ] as const
) {
  Deno.test(`a job ends ${status}: with the time it took, its error and its place on the list`, () => {
    const change = changeOf();
    endJob(change, status, error, someRules());
    const { job } = change;
    assertEquals([job.status, job.error, job.listed], [status, error, listed]);
    assertEquals("endedAt" in job && job.endedAt, 50_000);
    assertEquals(change.history, [{
      event_type: `job_${status}`,
      timestamp: 50_000,
      state: "work",
      ...(error === undefined ? {} : { error }),
      duration_ms: 30_000,
    }]);
  });
}

Deno.test("a calendar that was set back makes no negative durations", () => {
  const change = changeOf();
  endJob(change, "finished", undefined, someRules({ wall: 10_000 }));
  assertEquals(change.history[0]?.duration_ms, 0);
});

Deno.test("a queued task says all that the queue and its worker need", () => {
  const change = changeOf({ status: "running", trace: { traceparent: "00-1" } });
  const spec = someSpec({
    strategy: "cheapest",
    needs: { installed_models: ["m"] },
    queueTimeoutMs: 400,
    maxCost: 2,
    unknownCostPasses: true,
    priority: 5,
  });
  queueTask(change, { ...TASK, spec, retries: 1, since: 600 }, someRules());
  const [{ payload, ...record } = { payload: "" }] = change.enqueue;
  assertEquals(record as unknown, {
    id: "t",
    jobId: "job",
    type: "echo",
    priority: 5,
    since: 600,
    strategy: "cheapest",
    needs: { installed_models: ["m"] },
    maxCost: 2,
    unknownCostPasses: true,
    timeoutMs: 5_000,
    queueBy: 1_400,
  });
  assertEquals(JSON.parse(payload), {
    job_id: "job",
    task_id: "t",
    type: "echo",
    params: { say: "hi" },
    priority: 5,
    tracing_context: { traceparent: "00-1" },
    timeout_seconds: 5,
  });
  assertEquals(change.history, [
    { event_type: "task_dispatched", timestamp: 50_000, state: "work", task_id: "t", attempt_number: 2 },
  ]);
});

Deno.test("a task without a time limit in the queue waits as long as it takes", () => {
  const change = changeOf();
  queueTask(change, TASK, someRules());
  assertEquals(change.enqueue[0]?.queueBy, undefined);
});
