/**
 * How a job goes from state to state. Each function takes a `JobChange` (the job as it was read, and what is to be stored
 * with its next revision), decides what comes next and adds it; it reads no clock, no random numbers and no storage. The
 * engine commits the change.
 *
 * @module
 */
import { type Action, endsBadly, type StateMachineBlueprint, type TaskRequest } from "./blueprint.ts";
import {
  type Branch,
  type EndStatus,
  hasEnded,
  type HistoryEvent,
  type HistoryType,
  type Job,
  type JobFacts,
  type JsonObject,
  type OpenTask,
  type Phase,
  type TaskSpec,
  type Transitions,
  type Verdict,
} from "./job.ts";
import { copyObject } from "./json.ts";
import type { HeldTask, JobWrite, Task, TaskRecord } from "./store.ts";

/** What the transitions depend on besides the job. `now` is engine time, `wall` the calendar's. */
export interface Rules {
  now: number;
  wall: number;
  newId: () => string;
  maxRetries: number;
  retryDelayMs: number;
  workerTimeoutMs: number;
  queueTimeoutMs: number;
}

/** The next commit of a job, as far as it is gathered. */
export class JobChange {
  enqueue: TaskRecord[] = [];
  settle: { taskId: string; workerId: string }[] = [];
  withdraw: string[] = [];
  history: HistoryEvent[] = [];
  /** Sub-jobs that begin. */
  children: Job[] = [];
  admission: JobWrite["admission"];
  /** It had ended before this change. */
  readonly hadEnded: boolean;

  /** @param stored Revision that the storage has; 0: none yet. */
  constructor(public job: Job, readonly stored: number = job.revision) {
    this.hadEnded = hasEnded(job);
  }

  note(event_type: HistoryType, rules: Rules, more?: Partial<HistoryEvent>): void {
    this.history.push({ event_type, timestamp: rules.wall, state: this.job.state, ...more });
  }

  /** The job as it will be stored. */
  write(wakeAt: number | null, wall: number): JobWrite {
    const last = this.history.at(-1)?.event_type ?? this.job.lastEvent;
    const job = { ...this.job, revision: this.stored + 1, updatedAt: wall, lastEvent: last };
    const { enqueue, settle, withdraw, history, admission } = this;
    return { job, wakeAt, enqueue, settle, withdraw, history, admission };
  }
}

/** A worker's answer about a task, read. */
export interface TaskResult {
  status: string;
  data?: JsonObject;
  error: { code?: string; message: string; isFatal?: boolean };
  /** The whole result object, for branches and history. */
  raw: JsonObject;
  /** Whether `raw` is small enough for the history. */
  isSmall: boolean;
}

const PERMANENT = new Set([
  "PERMANENT_ERROR",
  "SECURITY_ERROR",
  "SECURITY_VIOLATION_ERROR",
  "DEPENDENCY_ERROR",
  "DEPENDENCY_MISSING_ERROR",
  "CONTRACT_VIOLATION_ERROR",
]);
const INVALID_INPUT = new Set(["INVALID_INPUT_ERROR", "INTEGRITY_MISMATCH_ERROR"]);

/** Longest delay before a retry. */
const MAX_DELAY_MS = 60_000;
/** Sub-jobs below sub-jobs. */
const MAX_DEPTH = 20;

// The facts alone, so that nothing of the state that is left stays behind.
function enter(job: Job, phase: Phase, update: Partial<JobFacts> = {}): Job {
  const facts: JobFacts = {
    id: job.id,
    revision: job.revision,
    blueprint: job.blueprint,
    client: job.client,
    plan: job.plan,
    clientParams: job.clientParams,
    state: job.state,
    initialData: job.initialData,
    stateHistory: job.stateHistory,
    createdAt: job.createdAt,
    updatedAt: job.updatedAt,
    steps: job.steps,
    lastEvent: job.lastEvent,
    error: job.error,
    failedState: job.failedState,
    parentId: job.parentId,
    depth: job.depth,
    trace: job.trace,
    webhook: job.webhook,
    queueTimeoutMs: job.queueTimeoutMs,
    resultTimeoutMs: job.resultTimeoutMs,
    lastTask: job.lastTask,
    aggregationResults: job.aggregationResults,
    listed: job.listed,
    progress: job.progress,
  };
  return { ...facts, ...update, ...phase };
}

/** Whether a handler of the job is due. */
export function isRunnable(job: Job): boolean {
  return job.status === "running" || job.status === "pending" || job.status === "awaiting_retry";
}

/** When an engine must check a job again, in engine time; null: not before something happens to it. */
export function wakeOf(job: Job, now: number): number | null {
  switch (job.status) {
    case "pending":
    case "running":
      return now;
    case "awaiting_retry":
      return job.retryAt;
    case "waiting_for_worker":
      return job.task.retryAt ?? null;
    case "waiting_for_parallel_tasks": {
      const moments = job.branches.flatMap((branch) =>
        branch.open && branch.retryAt !== undefined ? branch.retryAt : []
      );
      return moments.length === 0 ? null : Math.min(...moments);
    }
    case "waiting_for_human":
      return null;
    case "waiting_for_sub_job":
      // The child's end resumes its parent; this look is for an engine that died in between.
      return now + 10_000;
    case "finished":
    case "failed":
    case "quarantined":
    case "cancelled":
      return job.webhook !== undefined && job.webhook.done === undefined ? now : null;
  }
}

/** The job that a submission begins. */
export function newJob(
  given:
    & Pick<JobFacts, "id" | "blueprint" | "client" | "plan" | "clientParams" | "state" | "initialData">
    & Partial<
      Pick<JobFacts, "parentId" | "depth" | "trace" | "webhook" | "queueTimeoutMs" | "resultTimeoutMs">
    >,
  wall: number,
): JobChange {
  const change = new JobChange({
    ...given,
    revision: 0,
    stateHistory: {},
    createdAt: wall,
    updatedAt: wall,
    steps: 0,
    lastEvent: "job_created",
    status: "pending",
  }, 0);
  change.history.push({ event_type: "job_created", timestamp: wall, state: given.state });
  return change;
}

/** A state's handler has ended well. @throws Error when its action cannot be done; the change is then as it was. */
export function handlerDone(
  change: JobChange,
  blueprint: StateMachineBlueprint,
  action: Action | undefined,
  rules: Rules,
): void {
  const { job } = change;
  const verdict = job.status === "running" || job.status === "awaiting_retry" ? job.verdict : undefined;
  if (blueprint.ends(job.state)) {
    if (action !== undefined) {
      throw new Error(
        `The end state "${job.state}" returned an action; return none, or take away its "isEnd".`,
      );
    }
    if (verdict !== undefined) endJob(change, verdict.status, verdict.error, rules);
    else if (job.state === "quarantined") endJob(change, "quarantined", job.error, rules);
    else if (endsBadly(job.state)) endJob(change, "failed", job.error, rules);
    else endJob(change, "finished", undefined, rules);
    return;
  }
  if (action === undefined) {
    throw new Error(
      `The handler of state "${job.state}" returned no action; return one, or mark the state "isEnd".`,
    );
  }
  act(change, blueprint, action, verdict, rules);
}

function act(
  change: JobChange,
  blueprint: StateMachineBlueprint,
  action: Action,
  verdict: Verdict | undefined,
  rules: Rules,
): void {
  const { job } = change;
  switch (action.kind) {
    case "transition": {
      checkTargets(blueprint, job.state, { transition: action.to });
      const from = job.state;
      change.job = enter(job, { status: "running", verdict }, { state: action.to });
      change.note("transition", rules, { previous_state: from, next_state: action.to });
      return;
    }
    case "task": {
      const transitions = targets(blueprint, job.state, action.transitions);
      const spec = specOf(action.task, job, rules);
      const task: OpenTask = {
        id: rules.newId(),
        spec,
        retries: 0,
        since: rules.now,
        dispatchedAt: rules.wall,
      };
      dispatch(change, task, transitions, rules);
      return;
    }
    case "parallel": {
      checkTargets(blueprint, job.state, { parallel: action.aggregateInto });
      const specs = action.tasks.map((task) => specOf(task, job, rules));
      const branches: Branch[] = specs.map((spec) => ({
        open: true,
        id: rules.newId(),
        spec,
        retries: 0,
        since: rules.now,
        dispatchedAt: rules.wall,
      }));
      change.job = enter(
        job,
        { status: "waiting_for_parallel_tasks", branches, into: action.aggregateInto },
        {
          progress: undefined,
        },
      );
      change.note("parallel_started", rules, { next_state: action.aggregateInto });
      for (const branch of branches) if (branch.open) queueTask(change, branch, rules);
      joinBranches(change, rules);
      return;
    }
    case "approval": {
      const transitions = targets(blueprint, job.state, action.transitions);
      const { integration, message } = action;
      const question = { integration, message, askedAt: rules.wall };
      change.job = enter(job, { status: "waiting_for_human", question, transitions });
      change.note("approval_requested", rules);
      return;
    }
    case "sub_blueprint": {
      const transitions = targets(blueprint, job.state, action.transitions);
      if ((job.depth ?? 0) >= MAX_DEPTH) {
        throw new Error(`Sub-blueprints are nested deeper than ${MAX_DEPTH}.`);
      }
      const childId = rules.newId();
      const child = newJob({
        id: childId,
        blueprint: action.blueprint,
        client: job.client,
        plan: job.plan,
        clientParams: job.clientParams,
        state: "",
        initialData: copyObject(action.initialData, "initialData"),
        parentId: job.id,
        depth: (job.depth ?? 0) + 1,
        trace: job.trace,
        queueTimeoutMs: job.queueTimeoutMs,
        resultTimeoutMs: job.resultTimeoutMs,
      }, rules.wall);
      change.children.push(child.job);
      change.job = enter(job, { status: "waiting_for_sub_job", childId, transitions });
      change.note("sub_blueprint_started", rules);
      return;
    }
  }
}

// What a handler may lead to: what it says, else what its state declares; always states that exist, and declared ones.
function targets(
  blueprint: StateMachineBlueprint,
  state: string,
  given: Transitions | undefined,
): Transitions {
  const transitions = given ?? blueprint.states.get(state)?.to;
  if (transitions === undefined) {
    throw new Error(
      `State "${state}" does not say where it leads; give the action "transitions" or the state "to".`,
    );
  }
  checkTargets(blueprint, state, transitions);
  return { ...transitions };
}

function checkTargets(blueprint: StateMachineBlueprint, state: string, transitions: Transitions): void {
  const declared = blueprint.states.get(state)?.to;
  for (const [label, target] of Object.entries(transitions)) {
    if (!blueprint.has(target)) {
      throw new Error(`State "${state}" leads to "${target}", which is not a state of "${blueprint.name}".`);
    }
    if (declared !== undefined && !Object.values(declared).includes(target)) {
      throw new Error(`State "${state}" leads to "${target}", which its "to" does not name.`);
    }
    blueprint.noteEdge(state, target, label);
  }
}

function specOf(request: TaskRequest, job: Job, rules: Rules): TaskSpec {
  const { taskType, timeoutSeconds, queueTimeoutSeconds, priority = 0, maxCost } = request;
  if (typeof taskType !== "string" || taskType === "") throw new Error("A task needs a taskType.");
  for (const [name, value] of Object.entries({ timeoutSeconds, queueTimeoutSeconds, priority, maxCost })) {
    if (value !== undefined && !Number.isFinite(value)) throw new Error(`A task's ${name} must be a number.`);
  }
  const queueTimeoutMs = queueTimeoutSeconds === undefined
    ? job.queueTimeoutMs ?? (rules.queueTimeoutMs || undefined)
    : queueTimeoutSeconds * 1000;
  return {
    type: taskType,
    params: copyObject(request.params ?? {}, "params"),
    strategy: request.dispatchStrategy ?? "default",
    needs: request.resourceRequirements,
    timeoutMs: timeoutSeconds === undefined
      ? job.resultTimeoutMs ?? rules.workerTimeoutMs
      : timeoutSeconds * 1000,
    queueTimeoutMs,
    maxCost,
    unknownCostPasses: request.unknownCostPasses,
    priority,
  };
}

function dispatch(change: JobChange, task: OpenTask, transitions: Transitions, rules: Rules): void {
  change.job = enter(change.job, { status: "waiting_for_worker", task, transitions }, {
    lastTask: undefined,
    progress: undefined,
  });
  queueTask(change, task, rules);
}

function queueTask(change: JobChange, task: OpenTask, rules: Rules): void {
  const { id, spec } = task;
  change.enqueue.push({
    id,
    jobId: change.job.id,
    type: spec.type,
    priority: spec.priority,
    since: task.since,
    strategy: spec.strategy,
    needs: spec.needs,
    maxCost: spec.maxCost,
    unknownCostPasses: spec.unknownCostPasses,
    timeoutMs: spec.timeoutMs,
    queueBy: spec.queueTimeoutMs === undefined ? undefined : rules.now + spec.queueTimeoutMs,
    payload: JSON.stringify({
      job_id: change.job.id,
      task_id: id,
      type: spec.type,
      params: spec.params,
      priority: spec.priority,
      tracing_context: change.job.trace ?? {},
      timeout_seconds: spec.timeoutMs / 1000,
    }),
  });
  change.note("task_dispatched", rules, { task_id: id, attempt_number: task.retries + 1 });
}

/** A state's handler threw, or took too long. */
export function handlerFailed(change: JobChange, message: string, rules: Rules): void {
  const { job } = change;
  const retries = job.status === "awaiting_retry" ? job.retries : 0;
  const verdict = job.status === "running" || job.status === "awaiting_retry" ? job.verdict : undefined;
  change.note("state_failed", rules, { error: message, attempt_number: retries + 1 });
  if (retries < rules.maxRetries) {
    const retryAt = rules.now + delayMs(retries, rules);
    change.job = enter(job, { status: "awaiting_retry", retries: retries + 1, retryAt, verdict }, {
      error: verdict === undefined ? message : job.error,
    });
  } else if (verdict !== undefined) {
    endJob(change, verdict.status, verdict.error, rules);
  } else {
    change.job = { ...job, failedState: job.state };
    endJob(change, "quarantined", message, rules);
  }
}

function delayMs(retries: number, rules: Rules): number {
  return Math.min(MAX_DELAY_MS, rules.retryDelayMs * 2 ** retries);
}

/** The job ends, for good. */
export function endJob(change: JobChange, status: EndStatus, error: string | undefined, rules: Rules): void {
  const { job } = change;
  change.job = enter(job, { status, endedAt: rules.wall }, {
    error,
    listed: status === "quarantined" ? true : undefined,
  });
  change.note(`job_${status}`, rules, {
    ...(error === undefined ? {} : { error }),
    duration_ms: Math.max(0, rules.wall - job.createdAt),
  });
}

// The state that an outcome leads to, if any.
function targetOf(transitions: Transitions, outcome: string): string | undefined {
  return Object.hasOwn(transitions, outcome) ? transitions[outcome] : undefined;
}

// A task, question or sub-job came to an end that leads somewhere.
function follow(
  change: JobChange,
  state: string,
  rules: Rules,
  update: Partial<JobFacts> = {},
  verdict?: Verdict,
): void {
  const from = change.job.state;
  change.job = enter(change.job, { status: "running", verdict }, { ...update, state });
  change.note("transition", rules, { previous_state: from, next_state: state });
}

// It failed for good: the handler of its "failure" transition runs, but the end is decided.
function endAfterFailure(change: JobChange, verdict: Verdict, transitions: Transitions, rules: Rules): void {
  change.job = { ...change.job, failedState: change.job.state, error: verdict.error };
  const target = targetOf(transitions, "failure");
  if (target !== undefined) follow(change, target, rules, {}, verdict);
  else endJob(change, verdict.status, verdict.error, rules);
}

// Cancelled: the handler of its "cancelled" transition runs, but the end is decided.
function endCancelled(
  change: JobChange,
  transitions: Transitions,
  error: string | undefined,
  rules: Rules,
): void {
  const target = targetOf(transitions, "cancelled");
  if (target !== undefined) follow(change, target, rules, {}, { status: "cancelled" });
  else endJob(change, "cancelled", error, rules);
}

// The task that a job leaves, for those who look at it later.
function lastTaskOf(job: Job, workerId: string | undefined): JobFacts["lastTask"] {
  if (job.status !== "waiting_for_worker") return job.lastTask;
  const { id, spec, dispatchedAt } = job.task;
  return { id, spec, transitions: job.transitions, dispatchedAt, workerId };
}

/** How the answer to a result is called. */
export type ResultStatus =
  | "result_accepted_success"
  | "result_accepted_failure"
  | "result_accepted_cancelled"
  | "parallel_branch_result_accepted";

/** A worker returned the result of a task that is assigned to it. */
export function taskAnswered(
  change: JobChange,
  task: HeldTask,
  outcome: TaskResult,
  rules: Rules,
): ResultStatus {
  const { job } = change;
  change.settle.push({ taskId: task.id, workerId: task.workerId });
  const event: Partial<HistoryEvent> = {
    task_id: task.id,
    worker_id: task.workerId,
    duration_ms: Math.round(rules.now - task.takenAt),
    ...(outcome.status === "failure" ? { error: outcome.error.message } : {}),
    ...(outcome.isSmall ? { result: outcome.raw } : {}),
  };
  if (job.status === "waiting_for_parallel_tasks") {
    change.note("branch_finished", rules, event);
    branchAnswered(change, task.id, outcome, rules);
    return "parallel_branch_result_accepted";
  }
  if (job.status !== "waiting_for_worker") throw new Error(`Job ${job.id} waits for no task.`);
  change.note("task_finished", rules, { ...event, attempt_number: job.task.retries + 1 });
  const { transitions } = job;
  change.job = { ...job, lastTask: lastTaskOf(job, task.workerId) };
  if (outcome.status === "failure") {
    const verdict = verdictOn(outcome.error, job.task.retries, rules);
    if (verdict !== undefined) endAfterFailure(change, verdict, transitions, rules);
    else retryTask(change, job.task, transitions, outcome.error.message, rules);
    return "result_accepted_failure";
  }
  if (outcome.status === "cancelled") {
    endCancelled(change, transitions, undefined, rules);
    return "result_accepted_cancelled";
  }
  const stateHistory = { ...job.stateHistory, ...outcome.data };
  const target = targetOf(transitions, outcome.status);
  if (target !== undefined) {
    follow(change, target, rules, { stateHistory, error: undefined });
  } else {
    change.job = { ...change.job, failedState: job.state };
    endJob(change, "failed", `Worker returned unhandled status: ${outcome.status}`, rules);
  }
  return "result_accepted_success";
}

// What a failure means for good; undefined: another attempt.
function verdictOn(error: TaskResult["error"], retries: number, rules: Rules): Verdict | undefined {
  const { code, message } = error;
  if (error.isFatal) return { status: "failed", error: message };
  if (code !== undefined && PERMANENT.has(code)) {
    return { status: "quarantined", error: `Task failed with permanent error: ${message}` };
  }
  if (code !== undefined && INVALID_INPUT.has(code)) {
    return { status: "failed", error: `Task failed due to invalid input: ${message}` };
  }
  if (retries < rules.maxRetries) return undefined;
  return { status: "quarantined", error: `Task failed after ${retries + 1} attempts: ${message}` };
}

function nextAttempt(task: OpenTask, rules: Rules): OpenTask {
  const { spec, retries, since } = task;
  return {
    id: rules.newId(),
    spec,
    retries: retries + 1,
    since,
    dispatchedAt: rules.wall,
    retryAt: rules.now + delayMs(retries, rules),
  };
}

function retryTask(
  change: JobChange,
  task: OpenTask,
  transitions: Transitions,
  error: string,
  rules: Rules,
): void {
  const next = nextAttempt(task, rules);
  change.job = enter(change.job, { status: "waiting_for_worker", task: next, transitions }, {
    error,
    lastTask: undefined,
    progress: undefined,
  });
  change.note("task_retried", rules, { task_id: next.id, attempt_number: next.retries + 1 });
}

function branchAnswered(change: JobChange, taskId: string, outcome: TaskResult, rules: Rules): void {
  const { job } = change;
  if (job.status !== "waiting_for_parallel_tasks") return;
  const branches = job.branches.map((branch): Branch => {
    if (!branch.open || branch.id !== taskId) return branch;
    if (outcome.status === "failure" && verdictOn(outcome.error, branch.retries, rules) === undefined) {
      const next = nextAttempt(branch, rules);
      change.note("task_retried", rules, { task_id: next.id, attempt_number: next.retries + 1 });
      return { open: true, ...next };
    }
    return { open: false, id: branch.id, type: branch.spec.type, result: outcome.raw };
  });
  change.job = { ...job, branches };
  joinBranches(change, rules);
}

// When the last branch has its result, the job goes on.
function joinBranches(change: JobChange, rules: Rules): void {
  const { job } = change;
  if (job.status !== "waiting_for_parallel_tasks") return;
  const results: Record<string, JsonObject> = {};
  for (const branch of job.branches) {
    if (branch.open) return;
    results[branch.id] = branch.result;
  }
  follow(change, job.into, rules, { aggregationResults: results });
}

/** A retry's delay is over: what is due goes into the queue. False: nothing was due. */
export function retriesDue(change: JobChange, rules: Rules): boolean {
  const { job } = change;
  const isDue = (task: OpenTask) => task.retryAt !== undefined && task.retryAt <= rules.now;
  if (job.status === "waiting_for_worker" && isDue(job.task)) {
    const task = { ...job.task, retryAt: undefined, dispatchedAt: rules.wall };
    change.job = { ...job, task };
    queueTask(change, task, rules);
    return true;
  }
  if (job.status === "waiting_for_parallel_tasks") {
    const branches = job.branches.map((branch): Branch => {
      if (!branch.open || !isDue(branch)) return branch;
      const next = { ...branch, retryAt: undefined, dispatchedAt: rules.wall };
      queueTask(change, next, rules);
      return next;
    });
    change.job = { ...job, branches };
    return change.enqueue.length > 0;
  }
  return false;
}

/** A task's time is over: it was not picked up, or not answered. */
export function taskTimedOut(change: JobChange, task: Task, rules: Rules): void {
  const { job } = change;
  const error = task.workerId === undefined ? "No worker took the task in time." : "Worker task timed out.";
  change.withdraw.push(task.id);
  change.note("task_timed_out", rules, {
    task_id: task.id,
    error,
    ...(task.workerId === undefined ? {} : { worker_id: task.workerId }),
  });
  if (job.status === "waiting_for_parallel_tasks") {
    const result = { status: "failure", error: { code: "TIMEOUT_ERROR", message: error } };
    change.job = {
      ...job,
      branches: job.branches.map((branch): Branch =>
        branch.open && branch.id === task.id
          ? { open: false, id: branch.id, type: branch.spec.type, result }
          : branch
      ),
    };
    joinBranches(change, rules);
  } else if (job.status === "waiting_for_worker") {
    change.job = { ...job, lastTask: lastTaskOf(job, task.workerId) };
    endAfterFailure(change, { status: "failed", error }, job.transitions, rules);
  }
}

/** The worker that held a task is gone: the task goes to another one under a new id, and no attempt is counted. */
export function workerLost(change: JobChange, task: HeldTask, rules: Rules): void {
  const { job } = change;
  change.withdraw.push(task.id);
  change.note("task_redelivered", rules, { task_id: task.id, worker_id: task.workerId });
  const again = (open: OpenTask): OpenTask => ({ ...open, id: rules.newId(), dispatchedAt: rules.wall });
  if (job.status === "waiting_for_worker") {
    dispatch(change, again(job.task), job.transitions, rules);
  } else if (job.status === "waiting_for_parallel_tasks") {
    const branches = job.branches.map((branch): Branch => {
      if (!branch.open || branch.id !== task.id) return branch;
      const next = again(branch);
      queueTask(change, next, rules);
      return { open: true, ...next };
    });
    change.job = { ...job, branches };
  }
}

/** A person decided. @throws Error when the job waits for no such decision. */
export function decided(change: JobChange, decision: string, rules: Rules): void {
  const { job } = change;
  const target = job.status === "waiting_for_human" ? targetOf(job.transitions, decision) : undefined;
  if (job.status !== "waiting_for_human" || target === undefined) {
    throw new Error(`Job ${job.id} waits for no such decision.`);
  }
  change.note("approval_received", rules, {
    next_state: target,
    duration_ms: Math.max(0, rules.wall - job.question.askedAt),
  });
  follow(change, target, rules);
}

/** A sub-job ended: its parent goes on. */
export function childEnded(change: JobChange, child: Job, rules: Rules): void {
  const { job } = change;
  if (job.status !== "waiting_for_sub_job" || job.childId !== child.id) return;
  const outcome = child.status === "finished" ? "success" : "failure";
  const stateHistory = {
    ...job.stateHistory,
    [`sub_job_${child.id}_result`]: {
      outcome,
      final_state: child.state,
      error_message: child.error ?? null,
      state_history: child.stateHistory,
    },
  };
  change.note("sub_blueprint_finished", rules, child.error === undefined ? {} : { error: child.error });
  const target = targetOf(job.transitions, outcome) ?? "failed";
  const error = outcome === "success" ? undefined : child.error ?? `The sub-job ended ${child.status}.`;
  follow(change, target, rules, {
    stateHistory,
    error,
    ...(error === undefined ? {} : { failedState: job.state }),
  });
}

/** The client cancels the job. */
export function cancelled(change: JobChange, tasks: readonly Task[], rules: Rules): void {
  const { job } = change;
  change.note("cancel_requested", rules);
  change.job = {
    ...job,
    lastTask: lastTaskOf(job, tasks.find((task) => task.workerId !== undefined)?.workerId),
  };
  for (const task of tasks) change.withdraw.push(task.id);
  const transitions = "transitions" in job ? job.transitions : {};
  endCancelled(change, transitions, job.error, rules);
}

/** An ended job runs again from where it failed. */
export function requeued(change: JobChange, blueprint: StateMachineBlueprint, rules: Rules): void {
  const { job } = change;
  if (!hasEnded(job)) return;
  const state = job.failedState ?? (blueprint.ends(job.state) ? blueprint.start : job.state);
  change.job = enter(job, { status: "running" }, {
    state,
    error: undefined,
    failedState: undefined,
    listed: undefined,
    steps: 0,
    webhook: job.webhook === undefined ? undefined : { url: job.webhook.url, tries: 0 },
  });
  change.note("job_requeued", rules, { previous_state: job.state, next_state: state });
}
