// @ts-types="../../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { changeOf, flow, someRules, someSpec, waiting } from "../testing/job.ts";
import type { Action, TaskRequest } from "./blueprint.ts";
import type { Job, Phase } from "./job.ts";
import type { JobChange } from "./job_change.ts";
import type { Task } from "./store.ts";
import {
  cancelled,
  childEnded,
  decided,
  handlerDone,
  handlerFailed,
  newJob,
  requeued,
} from "./transitions.ts";

/** The parts of a history entry that every entry has. */
const at = { timestamp: 50_000, state: "work" };

function done(action: Action | undefined, given?: Partial<Job> & Phase, rules = someRules()): JobChange {
  const change = changeOf(given, rules);
  handlerDone(change, flow(), action);
  return change;
}

function outcomeOf({ job }: JobChange): unknown[] {
  return [job.status, job.state, job.error];
}

Deno.test("a new job is pending, with its beginning in its history", () => {
  const given = {
    id: "new",
    blueprint: "flow",
    client: "ann",
    plan: "gold",
    clientParams: {},
    state: "work",
    initialData: { a: 1 },
  };
  const change = newJob(given, someRules());
  assertEquals(change.job as unknown, {
    ...given,
    revision: 0,
    stateHistory: {},
    createdAt: 50_000,
    updatedAt: 50_000,
    steps: 0,
    lastEvent: "job_created",
    status: "pending",
  });
  assertEquals(change.write(1_000, 50_000).job.revision, 1);
  assertEquals(change.history, [{ event_type: "job_created", ...at }]);
});

for (
  const [state, status, error] of [
    ["end", "finished", undefined],
    ["finished", "finished", undefined],
    ["failed", "failed", "earlier"],
    ["error", "failed", "earlier"],
    ["quarantined", "quarantined", "earlier"],
  ] as const
) {
  Deno.test(`a job ends ${status} in the state "${state}"`, () => {
    assertEquals(outcomeOf(done(undefined, { status: "running", state, error: "earlier" })), [
      status,
      state,
      error,
    ]);
  });
}

for (
  const phase of [
    { status: "running", verdict: { status: "cancelled", error: "why" } },
    { status: "awaiting_retry", retries: 1, retryAt: 0, verdict: { status: "cancelled", error: "why" } },
  ] as const
) {
  Deno.test(`an end that was decided before holds in every end state (${phase.status})`, () => {
    for (const state of ["end", "failed", "quarantined"]) {
      assertEquals(outcomeOf(done(undefined, { ...phase, state })), ["cancelled", state, "why"]);
    }
  });
}

Deno.test("an end state takes no action, any other needs one", () => {
  assertThrows(
    () => done({ kind: "transition", to: "work" }, { status: "running", state: "end" }),
    Error,
    'The end state "end" returned an action; return none, or take away its "isEnd".',
  );
  assertThrows(
    () => done(undefined),
    Error,
    'The handler of state "work" returned no action; return one, or mark the state "isEnd".',
  );
});

Deno.test("a transition is kept in the history, and a decided end stays decided", () => {
  const verdict = { status: "failed", error: "why" } as const;
  const change = done({ kind: "transition", to: "next" }, { status: "running", verdict });
  assertEquals(outcomeOf(change), ["running", "next", undefined]);
  assertEquals("verdict" in change.job && change.job.verdict, verdict);
  assertEquals(change.history, [
    { event_type: "transition", ...at, state: "next", previous_state: "work", next_state: "next" },
  ]);
});

for (
  const [state, action, message] of [
    [
      "work",
      { kind: "transition", to: "nowhere" },
      'State "work" leads to "nowhere", which is not a state of "flow".',
    ],
    [
      "strict",
      { kind: "transition", to: "end" },
      'State "strict" leads to "end", which its "to" does not name.',
    ],
    [
      "work",
      { kind: "parallel", tasks: [], aggregateInto: "nowhere" },
      'State "work" leads to "nowhere", which is not a state of "flow".',
    ],
    [
      "work",
      { kind: "task", taskType: "echo" },
      'State "work" does not say where it leads; give the action "transitions" or the state "to".',
    ],
    [
      "strict",
      { kind: "task", taskType: "echo", transitions: { success: "end" } },
      'State "strict" leads to "end", which its "to" does not name.',
    ],
    [
      "work",
      { kind: "approval", integration: "", message: "?", transitions: { yes: "nowhere" } },
      'State "work" leads to "nowhere", which is not a state of "flow".',
    ],
    [
      "work",
      { kind: "sub_blueprint", blueprintName: "flow", initialData: {}, transitions: { success: "nowhere" } },
      'State "work" leads to "nowhere", which is not a state of "flow".',
    ],
  ] as [string, Action, string][]
) {
  Deno.test(`${action.kind} is refused: ${message}`, () => {
    assertThrows(() => done(action, { status: "running", state }), Error, message);
  });
}

Deno.test("ways that a state does not declare are noted for the drawing", () => {
  const blueprint = flow();
  handlerDone(changeOf(), blueprint, { kind: "transition", to: "next" });
  handlerDone(
    changeOf(),
    blueprint,
    { kind: "parallel", tasks: [{ taskType: "echo" }], aggregateInto: "next" },
  );
  handlerDone(
    changeOf(),
    blueprint,
    { kind: "task", taskType: "echo", transitions: { success: "end" } },
  );
  assertEquals(blueprint.edges().filter(({ from }) => from === "work"), [
    { from: "work", to: "next", label: "transition" },
    { from: "work", to: "next", label: "parallel" },
    { from: "work", to: "end", label: "success" },
  ]);
});

Deno.test("a task is queued, and the job waits for its result", () => {
  const change = done({ kind: "task", taskType: "echo" }, {
    status: "running",
    state: "strict",
    lastTask: { id: "l", spec: someSpec(), transitions: {}, dispatchedAt: 1 },
    progress: { taskId: "l", at: 1 },
  });
  const { job } = change;
  assertEquals(outcomeOf(change), ["waiting_for_worker", "strict", undefined]);
  assertEquals([job.lastTask, job.progress], [undefined, undefined]);
  assertEquals("transitions" in job && job.transitions, { success: "next" });
  assertEquals("task" in job && job.task, {
    id: "id-1",
    spec: {
      ...someSpec({ params: {}, timeoutMs: 300_000 }),
      needs: undefined,
      queueTimeoutMs: undefined,
      maxCost: undefined,
      unknownCostPasses: undefined,
    },
    retries: 0,
    since: 1_000,
    dispatchedAt: 50_000,
  });
  assertEquals(change.enqueue.map(({ id }) => id), ["id-1"]);
  assertEquals(change.history, [
    { event_type: "task_dispatched", ...at, state: "strict", task_id: "id-1", attempt_number: 1 },
  ]);
});

for (
  const [what, request, job, rules, result, queue] of [
    ["the engine's", {}, {}, { queueTimeoutMs: 7_000 }, 300_000, 7_000],
    ["none in the queue", {}, {}, {}, 300_000, undefined],
    ["the job's", {}, { resultTimeoutMs: 1, queueTimeoutMs: 2 }, { queueTimeoutMs: 7_000 }, 1, 2],
    [
      "the task's",
      { timeoutSeconds: 3, queueTimeoutSeconds: 4 },
      { resultTimeoutMs: 1, queueTimeoutMs: 2 },
      {},
      3_000,
      4_000,
    ],
  ] as const
) {
  Deno.test(`a task's time limits: ${what}`, () => {
    const action = {
      kind: "task",
      taskType: "echo",
      ...request,
      transitions: { success: "end" },
    } as const;
    const { enqueue } = done(action, { status: "running", ...job }, someRules(rules));
    assertEquals([enqueue[0]?.timeoutMs, enqueue[0]?.queueBy], [
      result,
      queue === undefined ? queue : 1_000 + queue,
    ]);
  });
}

Deno.test("a task is queued as its request says", () => {
  const request: TaskRequest = {
    taskType: "echo",
    params: { say: "hi" },
    dispatchStrategy: "cheapest",
    resourceRequirements: { installed_models: ["m"] },
    maxCost: 2,
    unknownCostPasses: true,
    priority: 5,
  };
  const [task] = done({ kind: "task", ...request, transitions: { success: "end" } }).enqueue;
  assertEquals([task?.strategy, task?.needs, task?.maxCost, task?.unknownCostPasses, task?.priority], [
    "cheapest",
    { installed_models: ["m"] },
    2,
    true,
    5,
  ]);
  assertEquals(JSON.parse(task?.payload ?? "").params, { say: "hi" });
});

for (
  const [request, message] of [
    [{ taskType: "" }, "A task needs a taskType."],
    [{ taskType: 5 }, "A task needs a taskType."],
    ...["timeoutSeconds", "queueTimeoutSeconds", "priority", "maxCost"].map((name) =>
      [{ taskType: "echo", [name]: NaN }, `A task's ${name} must be a number.`] as const
    ),
  ] as const
) {
  Deno.test(`a task is refused: ${JSON.stringify(request)}`, () => {
    const task = request as TaskRequest;
    assertThrows(() => done({ kind: "task", ...task, transitions: { success: "end" } }), Error, message);
  });
}

Deno.test("parallel tasks are all queued, and the job waits for all of them", () => {
  const change = done(
    { kind: "parallel", tasks: [{ taskType: "one" }, { taskType: "two" }], aggregateInto: "next" },
    { status: "running", progress: { taskId: "l", at: 1 } },
  );
  const { job } = change;
  assertEquals(outcomeOf(change), ["waiting_for_parallel_tasks", "work", undefined]);
  assertEquals(job.progress, undefined);
  assertEquals("into" in job && job.into, "next");
  const branches = "branches" in job ? job.branches : [];
  assertEquals(
    branches.map((one) => one.open && [one.id, one.spec.type, one.retries, one.since, one.dispatchedAt]),
    [["id-1", "one", 0, 1_000, 50_000], ["id-2", "two", 0, 1_000, 50_000]],
  );
  assertEquals(change.enqueue.map(({ id, type }) => [id, type]), [["id-1", "one"], ["id-2", "two"]]);
  assertEquals(change.history, [
    { event_type: "parallel_started", ...at, next_state: "next" },
    { event_type: "task_dispatched", ...at, task_id: "id-1", attempt_number: 1 },
    { event_type: "task_dispatched", ...at, task_id: "id-2", attempt_number: 1 },
  ]);
});

Deno.test("no tasks side by side are done at once", () => {
  const change = done({ kind: "parallel", tasks: [], aggregateInto: "next" });
  assertEquals(outcomeOf(change), ["running", "next", undefined]);
  assertEquals(change.job.aggregationResults, {});
});

Deno.test("a question waits for a human", () => {
  const change = done({ kind: "approval", integration: "chat", message: "Go?", transitions: { yes: "end" } });
  const { job } = change;
  assertEquals(outcomeOf(change), ["waiting_for_human", "work", undefined]);
  assertEquals("question" in job && job.question, { integration: "chat", message: "Go?", askedAt: 50_000 });
  assertEquals("transitions" in job && job.transitions, { yes: "end" });
  assertEquals(change.history, [{ event_type: "approval_requested", ...at }]);
});

Deno.test("a sub-job is its parent's client's, one deeper, with the parent's trace and time limits", () => {
  const action = {
    kind: "sub_blueprint",
    blueprintName: "other",
    initialData: { b: 1 },
    transitions: { success: "end" },
  } as const;
  const change = done(action, {
    status: "running",
    depth: 2,
    trace: { traceparent: "t" },
    queueTimeoutMs: 1,
    resultTimeoutMs: 2,
  });
  assertEquals(change.job.status === "waiting_for_sub_job" && change.job.childId, "id-1");
  assertEquals(change.history, [{ event_type: "sub_blueprint_started", ...at }]);
  assertEquals(change.children.map(({ job }) => job) as unknown, [{
    id: "id-1",
    revision: 0,
    blueprint: "other",
    client: "ann",
    plan: "gold",
    clientParams: { color: "red" },
    state: "begin",
    initialData: { b: 1 },
    parentId: "job",
    depth: 3,
    trace: { traceparent: "t" },
    queueTimeoutMs: 1,
    resultTimeoutMs: 2,
    stateHistory: {},
    createdAt: 50_000,
    updatedAt: 50_000,
    steps: 0,
    lastEvent: "job_created",
    status: "pending",
  }]);
  assertEquals(change.children[0]?.history, [{ event_type: "job_created", ...at, state: "begin" }]);
  assertEquals(done(action).children[0]?.job.depth, 1);
  assertEquals(done(action, { status: "running", depth: 19 }).children.length, 1);
  assertThrows(
    () => done(action, { status: "running", depth: 20 }),
    Error,
    "Sub-blueprints are nested deeper than 20.",
  );
  assertThrows(
    () => done({ ...action, blueprintName: "gone" }),
    Error,
    'There is no blueprint "gone".',
  );
});

Deno.test("a handler that fails is run again later, each time after twice as long", () => {
  const first = changeOf();
  handlerFailed(first, "oops");
  assertEquals(outcomeOf(first), ["awaiting_retry", "work", "oops"]);
  assertEquals(first.job.status === "awaiting_retry" && [first.job.retries, first.job.retryAt], [1, 1_100]);
  assertEquals(first.history, [{ event_type: "state_failed", ...at, error: "oops", attempt_number: 1 }]);
  const second = changeOf({ status: "awaiting_retry", retries: 1, retryAt: 0 });
  handlerFailed(second, "oops");
  assertEquals(second.job.status === "awaiting_retry" && [second.job.retries, second.job.retryAt], [
    2,
    1_200,
  ]);
  assertEquals(second.history[0]?.attempt_number, 2);
});

Deno.test("after its last attempt the job is quarantined, in the state that failed", () => {
  const change = changeOf({ status: "awaiting_retry", retries: 2, retryAt: 0 });
  handlerFailed(change, "oops");
  assertEquals(outcomeOf(change), ["quarantined", "work", "oops"]);
  assertEquals([change.job.failedState, change.job.listed], ["work", true]);
});

Deno.test("a handler that fails changes nothing about an end that was decided before", () => {
  const verdict = { status: "cancelled", error: "why" } as const;
  for (
    const phase of [
      { status: "running", verdict },
      { status: "awaiting_retry", retries: 1, retryAt: 0, verdict },
    ] as const
  ) {
    const change = changeOf({ ...phase, error: "why" });
    handlerFailed(change, "oops");
    assertEquals(outcomeOf(change), ["awaiting_retry", "work", "why"]);
    assertEquals("verdict" in change.job && change.job.verdict, verdict);
  }
  const last = changeOf({ status: "awaiting_retry", retries: 2, retryAt: 0, verdict, failedState: "before" });
  handlerFailed(last, "oops");
  assertEquals(outcomeOf(last), ["cancelled", "work", "why"]);
  assertEquals(last.job.failedState, "before");
});

const QUESTION = {
  status: "waiting_for_human",
  question: { integration: "", message: "?", askedAt: 30_000 },
  transitions: { yes: "next" },
} as const;

Deno.test("a decision leads where its transition says", () => {
  const change = changeOf(QUESTION);
  decided(change, "yes");
  assertEquals(outcomeOf(change), ["running", "next", undefined]);
  assertEquals(change.history, [
    { event_type: "approval_received", ...at, next_state: "next", duration_ms: 20_000 },
    { event_type: "transition", ...at, state: "next", previous_state: "work", next_state: "next" },
  ]);
  const early = changeOf(QUESTION, someRules({ wall: 10_000 }));
  decided(early, "yes");
  assertEquals(early.history[0]?.duration_ms, 0);
});

Deno.test("only the decisions that a job waits for are taken", () => {
  const message = "Job job waits for no such decision.";
  assertThrows(() => decided(changeOf(QUESTION), "no"), Error, message);
  assertThrows(() => decided(changeOf(QUESTION), "toString"), Error, message);
  assertThrows(() => decided(waiting(), "success"), Error, message);
});

function parent(transitions: Record<string, string>): JobChange {
  return changeOf({ status: "waiting_for_sub_job", childId: "child", transitions, error: "earlier" });
}

function child(given: Partial<Job> & Phase): Job {
  return changeOf({ id: "child", state: "end", stateHistory: { done: 1 }, ...given }).job;
}

Deno.test("a sub-job that finished leads its parent on, with what it did", () => {
  const change = parent({ success: "next" });
  childEnded(change, child({ status: "finished", endedAt: 1 }));
  assertEquals(outcomeOf(change), ["running", "next", undefined]);
  assertEquals(change.job.failedState, undefined);
  assertEquals(change.job.stateHistory, {
    before: 1,
    sub_job_child_result: {
      outcome: "success",
      final_state: "end",
      error_message: null,
      state_history: { done: 1 },
    },
  });
  assertEquals(change.history, [
    { event_type: "sub_blueprint_finished", ...at },
    { event_type: "transition", ...at, state: "next", previous_state: "work", next_state: "next" },
  ]);
});

for (
  const [given, error] of [
    [{ status: "failed", endedAt: 1, error: "oops" }, "oops"],
    [{ status: "quarantined", endedAt: 1, error: "oops" }, "oops"],
    [{ status: "cancelled", endedAt: 1 }, "The sub-job ended cancelled."],
  ] as const
) {
  Deno.test(`a sub-job that ended ${given.status} is its parent's failure`, () => {
    const change = parent({ failure: "next" });
    childEnded(change, child(given));
    assertEquals(outcomeOf(change), ["running", "next", error]);
    assertEquals(change.job.failedState, "work");
    const its = "error" in given ? given.error : undefined;
    const result = {
      outcome: "failure",
      final_state: "end",
      error_message: its ?? null,
      state_history: { done: 1 },
    };
    assertEquals(change.job.stateHistory.sub_job_child_result, result);
    assertEquals(change.history[0]?.error, its);
  });
}

Deno.test("a parent without a transition for its sub-job's end goes to the state failed", () => {
  const change = parent({});
  childEnded(change, child({ status: "finished", endedAt: 1 }));
  assertEquals(outcomeOf(change), ["running", "failed", undefined]);
});

Deno.test("the end of another job, or of one that is not waited for any longer, changes nothing", () => {
  const other = changeOf({ id: "other", status: "finished", endedAt: 1 }).job;
  const waits = parent({ success: "next" });
  childEnded(waits, other);
  assertEquals([waits.job.status, waits.history], ["waiting_for_sub_job", []]);
  const runs = changeOf();
  childEnded(runs, child({ status: "finished", endedAt: 1 }));
  assertEquals([runs.job.status, runs.history], ["running", []]);
});

const TASK = {
  jobId: "job",
  type: "echo",
  priority: 0,
  since: 0,
  strategy: "default",
  timeoutMs: 1,
  payload: "",
} as const;

Deno.test("a cancelled job leaves its tasks, and the handler of its transition runs", () => {
  const change = waiting({ error: "earlier" });
  const tasks: Task[] = [{ ...TASK, id: "one" }, { ...TASK, id: "task", workerId: "w", takenAt: 1 }];
  cancelled(change, tasks);
  const { job } = change;
  assertEquals(outcomeOf(change), ["running", "end", "earlier"]);
  assertEquals("verdict" in job && job.verdict, { status: "cancelled", error: "earlier" });
  assertEquals(change.withdraw.map(({ id }) => id), ["one", "task"]);
  assertEquals([job.lastTask?.id, job.lastTask?.workerId], ["task", "w"]);
  assertEquals(change.history, [
    { event_type: "cancel_requested", ...at },
    { event_type: "transition", ...at, state: "end", previous_state: "work", next_state: "end" },
  ]);
});

Deno.test("a cancelled job without a transition for it ends at once, with the error it had", () => {
  const change = changeOf({ status: "running", error: "earlier" });
  cancelled(change, []);
  assertEquals(outcomeOf(change), ["cancelled", "work", "earlier"]);
});

for (
  const [what, given, state] of [
    ["where it failed", { state: "failed", failedState: "next" }, "next"],
    ["at its start, when it ended well", { state: "end" }, "work"],
    ["in the state it was in", { state: "next" }, "next"],
  ] as const
) {
  Deno.test(`an ended job runs again ${what}`, () => {
    const webhook = { url: "http://x", tries: 3, done: "delivered" };
    const change = changeOf({
      status: "quarantined",
      endedAt: 1,
      error: "e",
      listed: true,
      webhook,
      ...given,
    });
    requeued(change, flow());
    const { job } = change;
    assertEquals(outcomeOf(change), ["running", state, undefined]);
    assertEquals([job.failedState, job.listed, job.steps, job.webhook], [
      undefined,
      undefined,
      0,
      { url: "http://x", tries: 0 },
    ]);
    assertEquals(change.history, [
      { event_type: "job_requeued", ...at, state, previous_state: given.state, next_state: state },
    ]);
  });
}

Deno.test("a job that has not ended is not run again, and one without a webhook gets none", () => {
  const open = waiting();
  requeued(open, flow());
  assertEquals([open.job.status, open.history], ["waiting_for_worker", []]);
  const change = changeOf({ status: "failed", endedAt: 1 });
  requeued(change, flow());
  assertEquals(change.job.webhook, undefined);
});
