/**
 * One change of a job: the steps that every change is made of, and what follows from a task's result, its time-out, or
 * the loss of its worker. Pure.
 *
 * @module
 */

import type {
  Branch,
  EndStatus,
  HistoryType,
  Job,
  JobFacts,
  JsonObject,
  OpenTask,
  Phase,
  Transitions,
  Verdict,
} from "./job.ts";
import type { HeldTask, JobWrite, Task, TaskRecord } from "./store.ts";
import type { HistoryEvent, WireTask } from "./wire.ts";

/** What the transitions depend on besides the job. `now` is engine time, `wall` the calendar's. */
export interface Rules {
  now: number;
  wall: number;
  newId: () => string;
  maxRetries: number;
  retryDelayMs: number;
  workerTimeoutMs: number;
  queueTimeoutMs: number;
  /** The start state of a blueprint; undefined: there is none of this name. */
  startOf: (blueprint: string) => string | undefined;
}

/** Longest delay before a retry. */
const MAX_DELAY_MS = 60_000;

/** The next commit of a job, as far as it is gathered, by the steps that every change is made of. */
export class JobChange {
  enqueue: TaskRecord[] = [];
  settle: { taskId: string; workerId: string }[] = [];
  withdraw: Task[] = [];
  history: HistoryEvent[] = [];
  /** Sub-jobs that begin. */
  children: JobChange[] = [];
  admission: JobWrite["admission"];
  /** The job as it was. */
  readonly before: Job;

  /**
   * @param rules as they are now; whoever changes the job later brings them up to date
   * @param stored revision that the storage has; 0: none yet
   */
  constructor(public job: Job, public rules: Rules, readonly stored: number = job.revision) {
    this.before = job;
  }

  /** Nothing was changed yet. */
  get isEmpty(): boolean {
    return this.job === this.before && this.history.length === 0;
  }

  /** The revision that the storage will have. */
  get revision(): number {
    return this.stored + 1;
  }

  /** The change after this one, once this one is stored. */
  next(rules: Rules): JobChange {
    return new JobChange({ ...this.job, revision: this.revision }, rules);
  }

  note(event_type: HistoryType, more?: Partial<HistoryEvent>): void {
    this.history.push({ event_type, timestamp: this.rules.wall, state: this.job.state, ...more });
  }

  /** The job as it will be stored. */
  write(wakeAt: number | null, wall: number): JobWrite {
    const last = this.history.at(-1)?.event_type ?? this.job.lastEvent;
    const job = { ...this.job, revision: this.revision, updatedAt: wall, lastEvent: last };
    const { enqueue, settle, history, admission } = this;
    const withdraw = this.withdraw.map(({ id }) => id);
    return { job, wakeAt, enqueue, settle, withdraw, history, admission };
  }

  /** The job is in another phase: nothing of the one that it leaves stays behind. */
  enter(phase: Phase, update: Partial<JobFacts> = {}): void {
    this.job = { ...factsOf(this.job), ...update, ...phase };
  }

  /** The job goes to its next state. */
  follow(state: string, update: Partial<JobFacts> = {}, verdict?: Verdict): void {
    const from = this.job.state;
    this.enter({ status: "running", verdict }, { ...update, state });
    this.note("transition", { previous_state: from, next_state: state });
  }

  /** The job waits for this task. */
  awaitTask(task: OpenTask, transitions: Transitions, update: Partial<JobFacts> = {}): void {
    const left = { lastTask: undefined, progress: undefined };
    this.enter({ status: "waiting_for_worker", task, transitions }, { ...left, ...update });
  }

  /** Queues a task for the workers. */
  queue(task: OpenTask): void {
    const { id, since, spec: { params, queueTimeoutMs, ...spec } } = task;
    const { id: jobId, trace = {} } = this.job;
    const payload: WireTask = {
      job_id: jobId,
      task_id: id,
      type: spec.type,
      params,
      priority: spec.priority,
      tracing_context: trace,
      timeout_seconds: spec.timeoutMs / 1000,
    };
    const queueBy = queueTimeoutMs === undefined ? undefined : this.rules.now + queueTimeoutMs;
    this.enqueue.push({ ...spec, id, jobId, since, queueBy, payload: JSON.stringify(payload) });
    this.note("task_dispatched", { task_id: id, attempt_number: task.retries + 1 });
  }

  /** The job leaves its task, if it has one, which stays known to those who look at it later. */
  leaveTask(workerId: string | undefined): void {
    const { job } = this;
    if (job.status !== "waiting_for_worker") return;
    const { id, spec, dispatchedAt } = job.task;
    this.job = { ...job, lastTask: { id, spec, transitions: job.transitions, dispatchedAt, workerId } };
  }

  /** When the next attempt is due after as many retries. */
  retryAt(retries: number): number {
    return this.rules.now + Math.min(MAX_DELAY_MS, this.rules.retryDelayMs * 2 ** retries);
  }

  /** The job ends, for good. */
  end(status: EndStatus, error?: string): void {
    const { wall } = this.rules;
    const durationMs = Math.max(0, wall - this.job.createdAt);
    this.enter({ status, endedAt: wall }, { error, listed: status === "quarantined" ? true : undefined });
    this.note(`job_${status}`, { ...(error === undefined ? {} : { error }), duration_ms: durationMs });
  }

  /** It failed for good: the handler of its "failure" transition runs, if there is one, but the end is decided. */
  fail(verdict: Verdict, transitions: Transitions = {}): void {
    this.job = { ...this.job, failedState: this.job.state, error: verdict.error };
    this.endBy("failure", verdict, transitions);
  }

  /** Its end is decided; the handler that this outcome leads to, if any, runs before it. */
  endBy(outcome: "failure" | "cancelled", verdict: Verdict, transitions: Transitions): void {
    const target = targetOf(transitions, outcome);
    if (target !== undefined) this.follow(target, {}, verdict);
    else this.end(verdict.status, verdict.error);
  }
}

function factsOf(job: Job): JobFacts {
  return {
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
}

/** The state that an outcome leads to, if any. */
export function targetOf(transitions: Transitions, outcome: string): string | undefined {
  return Object.hasOwn(transitions, outcome) ? transitions[outcome] : undefined;
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

/** A worker's answer about a task, read. */
export interface TaskResult {
  status: string;
  data?: JsonObject | undefined;
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

/** How the answer to a result is called. */
export type ResultStatus =
  | "result_accepted_success"
  | "result_accepted_failure"
  | "result_accepted_cancelled"
  | "parallel_branch_result_accepted";

/** A worker returned the result of a task that is assigned to it. */
export function taskAnswered(change: JobChange, task: HeldTask, outcome: TaskResult): ResultStatus {
  const { job, rules } = change;
  change.settle.push({ taskId: task.id, workerId: task.workerId });
  const event: Partial<HistoryEvent> = {
    task_id: task.id,
    worker_id: task.workerId,
    duration_ms: Math.round(rules.now - task.takenAt),
    ...(outcome.status === "failure" ? { error: outcome.error.message } : {}),
    ...(outcome.isSmall ? { result: outcome.raw } : {}),
  };
  if (job.status === "waiting_for_parallel_tasks") {
    change.note("branch_finished", event);
    changeBranches(change, (branch) => {
      if (branch.id !== task.id) return branch;
      const isTriedAgain = outcome.status === "failure" &&
        verdictOn(outcome.error, branch.retries, rules) === undefined;
      return isTriedAgain ? nextAttempt(change, branch) : closed(branch, outcome.raw);
    });
    joinBranches(change);
    return "parallel_branch_result_accepted";
  }
  if (job.status !== "waiting_for_worker") throw new Error(`Job ${job.id} waits for no task.`);
  change.note("task_finished", { ...event, attempt_number: job.task.retries + 1 });
  change.leaveTask(task.workerId);
  const { transitions } = job;
  if (outcome.status === "failure") {
    const verdict = verdictOn(outcome.error, job.task.retries, rules);
    if (verdict !== undefined) change.fail(verdict, transitions);
    else change.awaitTask(nextAttempt(change, job.task), transitions, { error: outcome.error.message });
    return "result_accepted_failure";
  }
  if (outcome.status === "cancelled") {
    change.endBy("cancelled", { status: "cancelled" }, transitions);
    return "result_accepted_cancelled";
  }
  const target = targetOf(transitions, outcome.status);
  if (target !== undefined) {
    change.follow(target, { stateHistory: { ...job.stateHistory, ...outcome.data }, error: undefined });
  } else {
    change.fail({ status: "failed", error: `Worker returned unhandled status: ${outcome.status}` });
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

function nextAttempt<T extends OpenTask>(change: JobChange, task: T): T {
  const { newId, wall } = change.rules;
  const retries = task.retries + 1;
  const next = { ...task, id: newId(), retries, dispatchedAt: wall, retryAt: change.retryAt(task.retries) };
  change.note("task_retried", { task_id: next.id, attempt_number: retries + 1 });
  return next;
}

type OpenBranch = Extract<Branch, { open: true }>;

// What becomes of each branch that has no result yet. A job without branches stays as it is.
function changeBranches(change: JobChange, become: (branch: OpenBranch) => Branch): void {
  const { job } = change;
  if (job.status !== "waiting_for_parallel_tasks") return;
  change.job = { ...job, branches: job.branches.map((branch) => branch.open ? become(branch) : branch) };
}

function closed({ id, spec }: OpenBranch, result: JsonObject): Branch {
  return { open: false, id, type: spec.type, result };
}

/** When the last branch has its result, the job goes on. */
export function joinBranches(change: JobChange): void {
  const { job } = change;
  if (job.status !== "waiting_for_parallel_tasks") return;
  const results: Record<string, JsonObject> = {};
  for (const branch of job.branches) {
    if (branch.open) return;
    results[branch.id] = branch.result;
  }
  change.follow(job.into, { aggregationResults: results });
}

/** A retry's delay is over: what is due goes into the queue. False: nothing was due. */
export function retriesDue(change: JobChange): boolean {
  const { job, rules } = change;
  const queueIfDue = <T extends OpenTask>(task: T): T => {
    if (task.retryAt === undefined || task.retryAt > rules.now) return task;
    const due = { ...task, retryAt: undefined, dispatchedAt: rules.wall };
    change.queue(due);
    return due;
  };
  if (job.status === "waiting_for_worker") change.job = { ...job, task: queueIfDue(job.task) };
  changeBranches(change, queueIfDue);
  return change.enqueue.length > 0;
}

/** A task's time is over: it was not picked up, or not answered. */
export function taskTimedOut(change: JobChange, task: Task): void {
  const { job } = change;
  const error = task.workerId === undefined ? "No worker took the task in time." : "Worker task timed out.";
  change.withdraw.push(task);
  change.note("task_timed_out", {
    task_id: task.id,
    error,
    ...(task.workerId === undefined ? {} : { worker_id: task.workerId }),
  });
  if (job.status === "waiting_for_worker") {
    change.leaveTask(task.workerId);
    change.fail({ status: "failed", error }, job.transitions);
    return;
  }
  const result = { status: "failure", error: { code: "TIMEOUT_ERROR", message: error } };
  changeBranches(change, (branch) => branch.id === task.id ? closed(branch, result) : branch);
  joinBranches(change);
}

/** The worker that held a task is gone: the task goes to another one under a new id, and no attempt is counted. */
export function workerLost(change: JobChange, task: HeldTask): void {
  const { job, rules } = change;
  change.withdraw.push(task);
  change.note("task_redelivered", { task_id: task.id, worker_id: task.workerId });
  const again = <T extends OpenTask>(open: T): T => {
    const next = { ...open, id: rules.newId(), dispatchedAt: rules.wall };
    change.queue(next);
    return next;
  };
  if (job.status === "waiting_for_worker") change.awaitTask(again(job.task), job.transitions);
  changeBranches(change, (branch) => branch.id === task.id ? again(branch) : branch);
}
