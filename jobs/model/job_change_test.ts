// @ts-types="../../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { changeOf, someRules, someSpec, waiting } from "../testing/job.ts";
import type { Branch, Job, JobFacts, OpenTask, Phase } from "./job.ts";
import type { JobChange, TaskResult } from "./job_change.ts";
import { isRunnable, retriesDue, taskAnswered, taskTimedOut, wakeOf, workerLost } from "./job_change.ts";
import type { HeldTask } from "./store.ts";

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
  const change = changeOf({ status: "running" }, someRules({ now: 1_000, retryDelayMs: 100 }));
  assertEquals([0, 1, 2, 9, 10, 50].map((retries) => change.retryAt(retries) - 1_000), [
    100,
    200,
    400,
    51_200,
    60_000,
    60_000,
  ]);
});

Deno.test("a job keeps nothing of the phase that it leaves, and all else", () => {
  const change = waiting({
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
  const { job } = change;
  if (job.status !== "waiting_for_worker") throw new Error("it waits for a worker");
  const { task: _, transitions: __, ...facts } = job;
  change.enter({ status: "running" });
  assertEquals(change.job as unknown, { ...facts, status: "running" });
  change.enter({ status: "pending" }, { state: "other" });
  assertEquals(change.job.state, "other");
});

Deno.test("what is stored is the next revision, dated now, with the last event of this change", () => {
  const change = changeOf();
  const unchanged = change.write(7, 60_000);
  assertEquals([unchanged.wakeAt, unchanged.job.revision, unchanged.job.updatedAt], [7, 4, 60_000]);
  assertEquals(unchanged.job.lastEvent, "state_started");
  change.note("transition");
  change.note("task_dispatched", { task_id: "t" });
  assertEquals(change.write(null, 60_000).job.lastEvent, "task_dispatched");
  assertEquals(change.write(null, 60_000).history, [
    { event_type: "transition", timestamp: 50_000, state: "work" },
    { event_type: "task_dispatched", timestamp: 50_000, state: "work", task_id: "t" },
  ]);
});

Deno.test("a change knows the job as it was, whether it changes anything, and what comes after it", () => {
  const change = changeOf();
  const { job } = change;
  assertEquals([change.isEmpty, change.before], [true, job]);
  change.job = { ...job, state: "next" };
  assertEquals([change.isEmpty, change.before], [false, job]);
  const rules = someRules({ now: 2_000 });
  const next = change.next(rules);
  assertEquals([next.job, next.rules], [{ ...job, state: "next", revision: 4 }, rules]);
  const noted = changeOf();
  noted.note("transition");
  assertEquals(noted.isEmpty, false);
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
    change.end(status, error);
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
  const change = changeOf({ status: "running" }, someRules({ wall: 10_000 }));
  change.end("finished");
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
  change.queue({ ...TASK, spec, retries: 1, since: 600 });
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
  change.queue(TASK);
  assertEquals(change.enqueue[0]?.queueBy, undefined);
});

const HELD: HeldTask = {
  id: "task",
  jobId: "job",
  type: "echo",
  priority: 0,
  since: 600,
  strategy: "default",
  timeoutMs: 5_000,
  payload: "",
  workerId: "w",
  takenAt: 700,
};
const { workerId: _, takenAt: __, ...QUEUED } = HELD;

function result(status: string, given: Partial<TaskResult> = {}): TaskResult {
  return { status, error: { message: "oops" }, raw: { status }, isSmall: false, ...given };
}

function branch(id: string, retries = 0, given: Partial<OpenTask> = {}): Branch {
  return { open: true, id, spec: someSpec(), retries, since: 600, dispatchedAt: 30_000, ...given };
}

const CLOSED: Branch = { open: false, id: "closed", type: "echo", result: { status: "success" } };

function parallel(...branches: Branch[]): JobChange {
  return changeOf({ status: "waiting_for_parallel_tasks", branches, into: "join" });
}

function branchesOf({ job }: JobChange): Branch[] {
  if (job.status !== "waiting_for_parallel_tasks") throw new Error(`the job is ${job.status}`);
  return job.branches;
}

/** The parts of a history entry that every entry has. */
const at = { timestamp: 50_000, state: "work" };

Deno.test("a success leads where its transition says, with the data of the result", () => {
  const change = waiting({ error: "earlier" });
  const status = taskAnswered(change, HELD, result("success", { data: { after: 2 } }));
  assertEquals(status, "result_accepted_success");
  const { job } = change;
  assertEquals([job.status, job.state, job.error], ["running", "next", undefined]);
  assertEquals(job.stateHistory, { before: 1, after: 2 });
  assertEquals(job.lastTask, {
    id: "task",
    spec: someSpec(),
    transitions: { success: "next", failure: "failed", cancelled: "end", odd: "next" },
    dispatchedAt: 30_000,
    workerId: "w",
  });
  assertEquals(change.settle, [{ taskId: "task", workerId: "w" }]);
  assertEquals(change.history, [
    {
      event_type: "task_finished",
      ...at,
      task_id: "task",
      worker_id: "w",
      duration_ms: 300,
      attempt_number: 1,
    },
    { event_type: "transition", ...at, state: "next", previous_state: "work", next_state: "next" },
  ]);
});

Deno.test("a small result is kept in the history, and the message of a failure", () => {
  const change = waiting({}, 1);
  taskAnswered(change, HELD, result("failure", { isSmall: true }));
  const { error, result: kept, attempt_number } = change.history[0] ?? {};
  assertEquals([error, kept, attempt_number], ["oops", { status: "failure" }, 2]);
});

Deno.test("any other status names a transition; one that does not exist fails the job for good", () => {
  const odd = waiting();
  assertEquals(taskAnswered(odd, HELD, result("odd")), "result_accepted_success");
  assertEquals(odd.job.state, "next");
  const unknown = waiting();
  assertEquals(taskAnswered(unknown, HELD, result("toString")), "result_accepted_success");
  assertEquals([unknown.job.status, unknown.job.failedState, unknown.job.error], [
    "failed",
    "work",
    "Worker returned unhandled status: toString",
  ]);
});

Deno.test("a cancelled task leads where its transition says, and the job ends cancelled", () => {
  const change = waiting();
  assertEquals(taskAnswered(change, HELD, result("cancelled")), "result_accepted_cancelled");
  const { job } = change;
  assertEquals([job.status, job.state, "verdict" in job && job.verdict], ["running", "end", {
    status: "cancelled",
  }]);
});

Deno.test("a result for a job that waits for none is an error of the engine", () => {
  assertThrows(
    () => taskAnswered(changeOf(), HELD, result("success")),
    Error,
    "Job job waits for no task.",
  );
});

for (
  const [what, error, retries, status, message] of [
    ["fatal", { isFatal: true }, 0, "failed", "oops"],
    ...[
      "PERMANENT_ERROR",
      "SECURITY_ERROR",
      "SECURITY_VIOLATION_ERROR",
      "DEPENDENCY_ERROR",
      "DEPENDENCY_MISSING_ERROR",
      "CONTRACT_VIOLATION_ERROR",
    ].map((code) => [code, { code }, 0, "quarantined", "Task failed with permanent error: oops"] as const),
    ...["INVALID_INPUT_ERROR", "INTEGRITY_MISMATCH_ERROR"].map((code) =>
      [code, { code }, 0, "failed", "Task failed due to invalid input: oops"] as const
    ),
    [
      "the last attempt's",
      { code: "TRANSIENT_ERROR" },
      2,
      "quarantined",
      "Task failed after 3 attempts: oops",
    ],
  ] as const
) {
  Deno.test(`a failure that is ${what} ends the job ${status}, after the handler of its transition`, () => {
    const change = waiting({}, retries);
    const outcome = result("failure", { error: { message: "oops", ...error } });
    assertEquals(taskAnswered(change, HELD, outcome), "result_accepted_failure");
    const { job } = change;
    assertEquals([job.status, job.state, job.error, job.failedState], ["running", "failed", message, "work"]);
    assertEquals("verdict" in job && job.verdict, { status, error: message });
    assertEquals(change.enqueue, []);
  });
}

Deno.test("without a transition for it, a failure ends the job at once", () => {
  const change = waiting();
  if (change.job.status === "waiting_for_worker") change.job = { ...change.job, transitions: {} };
  taskAnswered(change, HELD, result("failure", { error: { message: "oops", isFatal: true } }));
  assertEquals([change.job.status, change.job.error, change.job.failedState], ["failed", "oops", "work"]);
});

for (const code of [undefined, "TRANSIENT_ERROR"]) {
  Deno.test(`a failure with the code ${code} is tried again later, under a new id`, () => {
    const change = waiting({ progress: { taskId: "task", at: 1 } }, 1);
    const error = code === undefined ? { message: "oops" } : { code, message: "oops" };
    taskAnswered(change, HELD, result("failure", { error }));
    const { job } = change;
    assertEquals([job.status, job.error, job.lastTask, job.progress], [
      "waiting_for_worker",
      "oops",
      undefined,
      undefined,
    ]);
    assertEquals("task" in job && job.task, {
      id: "id-1",
      spec: someSpec(),
      retries: 2,
      since: 600,
      dispatchedAt: 50_000,
      retryAt: 1_200,
    });
    assertEquals("transitions" in job && job.transitions.success, "next");
    assertEquals(change.enqueue, []);
    assertEquals(change.history[1], {
      event_type: "task_retried",
      ...at,
      task_id: "id-1",
      attempt_number: 3,
    });
  });
}

Deno.test("a branch's result closes it; the others stay open", () => {
  const change = parallel(branch("task"), branch("other"));
  assertEquals(taskAnswered(change, HELD, result("success")), "parallel_branch_result_accepted");
  assertEquals(branchesOf(change), [
    { open: false, id: "task", type: "echo", result: { status: "success" } },
    branch("other"),
  ]);
  assertEquals(change.settle, [{ taskId: "task", workerId: "w" }]);
  assertEquals(change.history, [
    { event_type: "branch_finished", ...at, task_id: "task", worker_id: "w", duration_ms: 300 },
  ]);
});

Deno.test("the last branch's result leads on, with the results of all", () => {
  const change = parallel(CLOSED, branch("task"));
  taskAnswered(change, HELD, result("failure", { error: { message: "oops", isFatal: true } }));
  const { job } = change;
  assertEquals([job.status, job.state], ["running", "join"]);
  assertEquals(job.aggregationResults, { closed: { status: "success" }, task: { status: "failure" } });
  assertEquals(change.history[1], {
    event_type: "transition",
    ...at,
    state: "join",
    previous_state: "work",
    next_state: "join",
  });
});

Deno.test("a branch that fails is tried again by itself, and its last failure is its result", () => {
  const change = parallel(branch("other"), branch("task", 1));
  taskAnswered(change, HELD, result("failure"));
  assertEquals(branchesOf(change), [
    branch("other"),
    branch("id-1", 2, { dispatchedAt: 50_000, retryAt: 1_200 }),
  ]);
  assertEquals(change.history[1], { event_type: "task_retried", ...at, task_id: "id-1", attempt_number: 3 });
  const last = parallel(branch("other"), branch("task", 2));
  taskAnswered(last, HELD, result("failure"));
  assertEquals(branchesOf(last)[1]?.open, false);
});

Deno.test("a retry whose time has come is queued, not before", () => {
  const task = { id: "task", spec: someSpec(), retries: 1, since: 600, dispatchedAt: 30_000, retryAt: 1_001 };
  const phase = { status: "waiting_for_worker", transitions: { success: "next" } } as const;
  const early = changeOf({ ...phase, task });
  assertEquals(retriesDue(early), false);
  assertEquals([early.enqueue, early.history], [[], []]);
  const due = changeOf({ ...phase, task: { ...task, retryAt: 1_000 } });
  assertEquals(retriesDue(due), true);
  assertEquals(due.enqueue.map(({ id }) => id), ["task"]);
  assertEquals("task" in due.job && due.job.task, { ...task, dispatchedAt: 50_000, retryAt: undefined });
  assertEquals(retriesDue(waiting()), false);
  assertEquals(retriesDue(changeOf()), false);
});

Deno.test("of several branches those are queued whose time has come", () => {
  const change = parallel(
    CLOSED,
    branch("now", 1, { retryAt: 900 }),
    branch("later", 1, { retryAt: 1_100 }),
    branch("at work"),
  );
  assertEquals(retriesDue(change), true);
  assertEquals(change.enqueue.map(({ id }) => id), ["now"]);
  assertEquals(branchesOf(change).map((one) => one.open && [one.id, one.retryAt, one.dispatchedAt]), [
    false,
    ["now", undefined, 50_000],
    ["later", 1_100, 30_000],
    ["at work", undefined, 30_000],
  ]);
  assertEquals(retriesDue(parallel(branch("later", 1, { retryAt: 1_100 }))), false);
});

for (
  const [task, error] of [[HELD, "Worker task timed out."], [
    QUEUED,
    "No worker took the task in time.",
  ]] as const
) {
  const worker = "workerId" in task ? { worker_id: "w" } : {};
  Deno.test(`a task is given up (${error})`, () => {
    const change = waiting();
    taskTimedOut(change, task);
    const { job } = change;
    assertEquals(change.withdraw.map(({ id }) => id), ["task"]);
    assertEquals([job.status, job.state, job.error, job.failedState], ["running", "failed", error, "work"]);
    assertEquals("verdict" in job && job.verdict, { status: "failed", error });
    assertEquals([job.lastTask?.id, job.lastTask?.workerId], ["task", "workerId" in task ? "w" : undefined]);
    assertEquals(change.history[0], {
      event_type: "task_timed_out",
      ...at,
      task_id: "task",
      error,
      ...worker,
    });
  });
  Deno.test(`a branch is given up (${error})`, () => {
    const change = parallel(branch("other"), branch("task"));
    taskTimedOut(change, task);
    const failure = { status: "failure", error: { code: "TIMEOUT_ERROR", message: error } };
    assertEquals(branchesOf(change), [
      branch("other"),
      { open: false, id: "task", type: "echo", result: failure },
    ]);
    const last = parallel(CLOSED, branch("task"));
    taskTimedOut(last, task);
    assertEquals([last.job.state, last.job.aggregationResults?.task], ["join", failure]);
  });
}

const REDELIVERED = { event_type: "task_redelivered", ...at, task_id: "task", worker_id: "w" } as const;

Deno.test("a task whose worker is gone goes to another one under a new id, as the same attempt", () => {
  const facts: Partial<JobFacts> = { progress: { taskId: "task", at: 1 } };
  const change = waiting(facts as Partial<Job>, 1);
  workerLost(change, HELD);
  const { job } = change;
  assertEquals(change.withdraw.map(({ id }) => id), ["task"]);
  assertEquals("task" in job && job.task, {
    id: "id-1",
    spec: someSpec(),
    retries: 1,
    since: 600,
    dispatchedAt: 50_000,
  });
  assertEquals("transitions" in job && job.transitions.success, "next");
  assertEquals([job.lastTask, job.progress], [undefined, undefined]);
  assertEquals(change.enqueue.map(({ id, since }) => [id, since]), [["id-1", 600]]);
  assertEquals(change.history, [
    REDELIVERED,
    { event_type: "task_dispatched", ...at, task_id: "id-1", attempt_number: 2 },
  ]);
});

Deno.test("a branch whose worker is gone goes to another one, the others stay", () => {
  const change = parallel(CLOSED, branch("other"), branch("task", 1));
  workerLost(change, HELD);
  assertEquals(branchesOf(change), [CLOSED, branch("other"), branch("id-1", 1, { dispatchedAt: 50_000 })]);
  assertEquals(change.enqueue.map(({ id }) => id), ["id-1"]);
  assertEquals(change.history, [
    REDELIVERED,
    { event_type: "task_dispatched", ...at, task_id: "id-1", attempt_number: 2 },
  ]);
});

Deno.test("a task that a job does not wait for any longer is only taken away", () => {
  const late = changeOf();
  taskTimedOut(late, HELD);
  assertEquals([late.job, late.withdraw.map(({ id }) => id), late.enqueue], [changeOf().job, ["task"], []]);
  const lost = changeOf();
  workerLost(lost, HELD);
  assertEquals([lost.job, lost.withdraw.map(({ id }) => id), lost.enqueue], [changeOf().job, ["task"], []]);
});
