/**
 * What follows from a task's result, its time-out, or the loss of its worker. Pure.
 *
 * @module
 */

import type { Branch, HistoryEvent, JsonObject, OpenTask, Transitions, Verdict } from "./job.ts";
import type { JobChange, Rules } from "./job_change.ts";
import {
  delayMs,
  dispatch,
  endAfterFailure,
  endCancelled,
  endJob,
  enter,
  follow,
  lastTaskOf,
  queueTask,
  targetOf,
} from "./job_change.ts";
import type { HeldTask, Task } from "./store.ts";

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
