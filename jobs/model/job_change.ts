/**
 * One change of a job, and the steps that every change is made of. Pure.
 *
 * @module
 */

import type { EndStatus, HistoryType, Job, JobFacts, OpenTask, Phase, Transitions, Verdict } from "./job.ts";
import { hasEnded } from "./job.ts";
import type { JobWrite, TaskRecord } from "./store.ts";
import type { HistoryEvent } from "./wire.ts";

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

/** Longest delay before a retry. */
const MAX_DELAY_MS = 60_000;

/** The job in another phase, with its facts alone: nothing of the phase that is left stays behind. */
export function enter(job: Job, phase: Phase, update: Partial<JobFacts> = {}): Job {
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

/** The job waits for this task, which is queued. */
export function dispatch(change: JobChange, task: OpenTask, transitions: Transitions, rules: Rules): void {
  change.job = enter(change.job, { status: "waiting_for_worker", task, transitions }, {
    lastTask: undefined,
    progress: undefined,
  });
  queueTask(change, task, rules);
}

/** Queues a task for the workers. */
export function queueTask(change: JobChange, task: OpenTask, rules: Rules): void {
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

/** How long the next attempt is put off after as many. */
export function delayMs(retries: number, rules: Rules): number {
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

/** The state that an outcome leads to, if any. */
export function targetOf(transitions: Transitions, outcome: string): string | undefined {
  return Object.hasOwn(transitions, outcome) ? transitions[outcome] : undefined;
}

/** The job goes to its next state. */
export function follow(
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

/** It failed for good: the handler of its "failure" transition runs, if there is one, but the end is decided. */
export function endAfterFailure(
  change: JobChange,
  verdict: Verdict,
  rules: Rules,
  transitions: Transitions = {},
): void {
  change.job = { ...change.job, failedState: change.job.state, error: verdict.error };
  endBy(change, "failure", verdict, rules, transitions);
}

/** Its end is decided; the handler that this outcome leads to, if any, runs before it. */
export function endBy(
  change: JobChange,
  outcome: "failure" | "cancelled",
  verdict: Verdict,
  rules: Rules,
  transitions: Transitions,
): void {
  const target = targetOf(transitions, outcome);
  if (target !== undefined) follow(change, target, rules, {}, verdict);
  else endJob(change, verdict.status, verdict.error, rules);
}

/** A job leaves its task, if it has one, which stays known to those who look at it later. */
export function leaveTask(change: JobChange, workerId: string | undefined): void {
  const { job } = change;
  if (job.status !== "waiting_for_worker") return;
  const { id, spec, dispatchedAt } = job.task;
  change.job = { ...job, lastTask: { id, spec, transitions: job.transitions, dispatchedAt, workerId } };
}
