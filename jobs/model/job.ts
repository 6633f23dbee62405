/**
 * What a job is. A job is one union over its status: a field exists only in the states where it is true. Job values
 * are never changed in place; a step makes a new one, and the storage keeps it under the next revision.
 *
 * @module
 */

export type JsonValue = string | number | boolean | null | JsonValue[] | JsonObject;
/** A missing field reads as `undefined`. */
export interface JsonObject {
  [key: string]: JsonValue | undefined;
}

/** W3C trace headers, the only request headers that a job keeps. */
export interface Trace {
  traceparent?: string | undefined;
  tracestate?: string | undefined;
}

/** How a task chooses among the workers that poll. Unknown names mean `default`. */
export type Strategy = "default" | "round_robin" | "least_connections" | "cheapest" | "best_value";

/** What a worker must have to be given a task. */
export interface Requirements {
  gpu_info?: { model?: string; vram_gb?: number } | undefined;
  installed_models?: string[] | undefined;
}

/** A piece of work as a handler asked for it. Times are milliseconds. */
export interface TaskSpec {
  type: string;
  params: JsonObject;
  strategy: Strategy;
  needs?: Requirements | undefined;
  /** From pick-up to result. */
  timeoutMs: number;
  /** From queueing to pick-up; absent: as long as it takes. */
  queueTimeoutMs?: number | undefined;
  /** Highest price a second of the worker. */
  maxCost?: number | undefined;
  /** Whether a worker that names no price passes `maxCost`. */
  unknownCostPasses?: boolean | undefined;
  /** Higher goes first. */
  priority: number;
}

/** A task of a job that has no result yet. `retryAt` (engine time) is set while it waits for its next attempt. */
export interface OpenTask {
  id: string;
  spec: TaskSpec;
  /** 0 for the first attempt; a delivery to another worker after a death is not an attempt. */
  retries: number;
  /** Engine time of its first queueing: its age in the queue. */
  since: number;
  /** Wall time of the last queueing. */
  dispatchedAt: number;
  retryAt?: number | undefined;
}

/** One branch of a parallel step: open, or closed with the worker's result. */
export type Branch = ({ open: true } & OpenTask) | {
  open: false;
  id: string;
  type: string;
  result: JsonObject;
};

/** Outcome name to the name of the next state. */
export type Transitions = Record<string, string>;

/** Statuses in which nothing more happens. */
export const END_STATUSES = ["finished", "failed", "quarantined", "cancelled"] as const;

export type EndStatus = typeof END_STATUSES[number];

/** An end that is already decided while the handlers that belong to it still run. */
export interface Verdict {
  status: Exclude<EndStatus, "finished">;
  error?: string | undefined;
}

/** What all jobs have. Moments are wall-clock milliseconds unless noted otherwise. */
export interface JobFacts {
  id: string;
  /** Counts the stored versions, from 1. */
  revision: number;
  blueprint: string;
  /** Name of the client that owns it (never its token); a sub-job has its parent's. */
  client: string;
  plan: string;
  clientParams: JsonObject;
  /** Name of the blueprint's state it is in. */
  state: string;
  initialData: JsonObject;
  stateHistory: JsonObject;
  createdAt: number;
  updatedAt: number;
  /** Handlers run so far, bounded by the setting `maxTransitions`. */
  steps: number;
  lastEvent: HistoryType;
  error?: string | undefined;
  /** State whose handler or task failed for good: where a retry of the job begins. */
  failedState?: string | undefined;
  parentId?: string | undefined;
  /** Sub-jobs above it. */
  depth?: number | undefined;
  trace?: Trace | undefined;
  /** Where the end is reported to. `tries` counts failed deliveries; `done` says that it was delivered or given up. */
  webhook?: { url: string; tries: number; done?: string | undefined } | undefined;
  /** Defaults of this job's tasks, from the submission's headers. */
  queueTimeoutMs?: number | undefined;
  resultTimeoutMs?: number | undefined;
  /** The last single task that was dispatched, kept after its end for those who look. */
  lastTask?: {
    id: string;
    spec: TaskSpec;
    transitions: Transitions;
    dispatchedAt: number;
    workerId?: string | undefined;
  } | undefined;
  /** Results of the last parallel step by task id, for the aggregator and for those who look. */
  aggregationResults?: Record<string, JsonObject> | undefined;
  /** On the quarantine list (and not taken off it). */
  listed?: true | undefined;
  progress?:
    | { taskId: string; value?: number | undefined; message?: string | undefined; at: number }
    | undefined;
}

/** What is true only in some states. */
export type Phase =
  | { status: "pending" }
  | { status: "running"; verdict?: Verdict | undefined }
  /** `retryAt` is engine time. */
  | { status: "awaiting_retry"; retries: number; retryAt: number; verdict?: Verdict | undefined }
  | { status: "waiting_for_worker"; task: OpenTask; transitions: Transitions }
  | { status: "waiting_for_parallel_tasks"; branches: Branch[]; into: string }
  | {
    status: "waiting_for_human";
    question: { integration: string; message: string; askedAt: number };
    transitions: Transitions;
    /** SHA-256 of the one-time link's secret; gone once used. */
    linkHash?: string | undefined;
  }
  | { status: "waiting_for_sub_job"; childId: string; transitions: Transitions }
  | { status: EndStatus; endedAt: number };

export type Job = JobFacts & Phase;

export type Status = Job["status"];

/** All of them, in the order in which they are listed and counted. */
export const STATUSES = [
  "pending",
  "running",
  "awaiting_retry",
  "waiting_for_worker",
  "waiting_for_parallel_tasks",
  "waiting_for_human",
  "waiting_for_sub_job",
  ...END_STATUSES,
] as const satisfies readonly Status[];

/** Whether a job has ended. */
export function hasEnded(job: Job): job is JobFacts & Extract<Phase, { endedAt: number }> {
  return "endedAt" in job;
}

export const HISTORY_TYPES = [
  "job_created",
  "state_started",
  "state_finished",
  "state_failed",
  "transition",
  "task_dispatched",
  "task_redelivered",
  "task_retried",
  "task_finished",
  "task_timed_out",
  "parallel_started",
  "branch_finished",
  "approval_requested",
  "approval_received",
  "sub_blueprint_started",
  "sub_blueprint_finished",
  "cancel_requested",
  "job_requeued",
  "job_finished",
  "job_failed",
  "job_quarantined",
  "job_cancelled",
  "webhook_delivered",
  "webhook_given_up",
] as const;

export type HistoryType = typeof HISTORY_TYPES[number];
