/**
 * What follows from a task's result, its time-out, or the loss of its worker. Pure.
 *
 * @module
 */

import type { Branch, JsonObject, OpenTask, Transitions, Verdict } from "./job.ts";
import type { JobChange, Rules } from "./job_change.ts";
import {
  delayMs,
  dispatch,
  endAfterFailure,
  endBy,
  enter,
  follow,
  leaveTask,
  queueTask,
  targetOf,
} from "./job_change.ts";
import type { HeldTask, Task } from "./store.ts";
import type { HistoryEvent } from "./wire.ts";

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
    changeBranches(change, (branch) => {
      if (branch.id !== task.id) return branch;
      const isTriedAgain = outcome.status === "failure" &&
        verdictOn(outcome.error, branch.retries, rules) === undefined;
      return isTriedAgain ? nextAttempt(change, branch, rules) : closed(branch, outcome.raw);
    });
    joinBranches(change, rules);
    return "parallel_branch_result_accepted";
  }
  if (job.status !== "waiting_for_worker") throw new Error(`Job ${job.id} waits for no task.`);
  change.note("task_finished", rules, { ...event, attempt_number: job.task.retries + 1 });
  leaveTask(change, task.workerId);
  const { transitions } = job;
  if (outcome.status === "failure") {
    const verdict = verdictOn(outcome.error, job.task.retries, rules);
    if (verdict !== undefined) endAfterFailure(change, verdict, rules, transitions);
    else retryTask(change, job.task, transitions, outcome.error.message, rules);
    return "result_accepted_failure";
  }
  if (outcome.status === "cancelled") {
    endBy(change, "cancelled", { status: "cancelled" }, rules, transitions);
    return "result_accepted_cancelled";
  }
  const target = targetOf(transitions, outcome.status);
  if (target !== undefined) {
    follow(change, target, rules, {
      stateHistory: { ...job.stateHistory, ...outcome.data },
      error: undefined,
    });
  } else {
    const error = `Worker returned unhandled status: ${outcome.status}`;
    endAfterFailure(change, { status: "failed", error }, rules);
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

function nextAttempt<T extends OpenTask>(change: JobChange, task: T, rules: Rules): T {
  const next = {
    ...task,
    id: rules.newId(),
    retries: task.retries + 1,
    dispatchedAt: rules.wall,
    retryAt: rules.now + delayMs(task.retries, rules),
  };
  change.note("task_retried", rules, { task_id: next.id, attempt_number: next.retries + 1 });
  return next;
}

function retryTask(
  change: JobChange,
  task: OpenTask,
  transitions: Transitions,
  error: string,
  rules: Rules,
): void {
  const next = nextAttempt(change, task, rules);
  change.job = enter(change.job, { status: "waiting_for_worker", task: next, transitions }, {
    error,
    lastTask: undefined,
    progress: undefined,
  });
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
export function joinBranches(change: JobChange, rules: Rules): void {
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
  const queueIfDue = <T extends OpenTask>(task: T): T => {
    if (task.retryAt === undefined || task.retryAt > rules.now) return task;
    const due = { ...task, retryAt: undefined, dispatchedAt: rules.wall };
    queueTask(change, due, rules);
    return due;
  };
  const { job } = change;
  if (job.status === "waiting_for_worker") change.job = { ...job, task: queueIfDue(job.task) };
  changeBranches(change, queueIfDue);
  return change.enqueue.length > 0;
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
  if (job.status === "waiting_for_worker") {
    leaveTask(change, task.workerId);
    endAfterFailure(change, { status: "failed", error }, rules, job.transitions);
    return;
  }
  const result = { status: "failure", error: { code: "TIMEOUT_ERROR", message: error } };
  changeBranches(change, (branch) => branch.id === task.id ? closed(branch, result) : branch);
  joinBranches(change, rules);
}

/** The worker that held a task is gone: the task goes to another one under a new id, and no attempt is counted. */
export function workerLost(change: JobChange, task: HeldTask, rules: Rules): void {
  const { job } = change;
  change.withdraw.push(task.id);
  change.note("task_redelivered", rules, { task_id: task.id, worker_id: task.workerId });
  const again = <T extends OpenTask>(open: T): T => ({
    ...open,
    id: rules.newId(),
    dispatchedAt: rules.wall,
  });
  if (job.status === "waiting_for_worker") dispatch(change, again(job.task), job.transitions, rules);
  changeBranches(change, (branch) => {
    if (branch.id !== task.id) return branch;
    const next = again(branch);
    queueTask(change, next, rules);
    return next;
  });
}
