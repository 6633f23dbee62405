/**
 * The JSON shapes of the HTTP interface, shared by the engine, the workers and the command line, and jobs in them as
 * their clients see them: never a token, moments as ISO texts. Requests are checked by these schemas, leniently where
 * existing workers differ (unknown fields are kept or ignored), strictly where a wrong type would matter. The OpenAPI
 * document is made from them; those that are exported have a name in it.
 *
 * @module
 */
import { z } from "zod";
import type { Job, JsonObject, JsonValue, TaskSpec, Transitions } from "./job.ts";
import { hasEnded, HISTORY_TYPES, STATUSES } from "./job.ts";

export const Json: z.ZodType<JsonValue> = z.unknown().transform((value) => value as JsonValue);

/** A JSON object with any fields. */
export const AnyObject: z.ZodType<JsonObject> = z.record(z.string(), z.unknown()).transform((value) =>
  value as JsonObject
);

const TraceHeaders = z.object({ traceparent: z.string().optional(), tracestate: z.string().optional() });
const Name = z.string().min(1).max(200);
const NonNegative = z.number().nonnegative();

/** An id as workers choose it: printable, no slash. */
export const WorkerId = z.string().regex(
  /^[^\s\/\p{C}]{1,200}$/u,
  "must be 1 to 200 printable characters without spaces or slashes",
);

const SkillName = z.union([Name, z.looseObject({ name: Name }).transform((skill) => skill.name)]);

/** What a worker says about itself, on registration; the same fields, all optional, on a heartbeat. */
const workerFields = {
  worker_type: Name.optional(),
  supported_tasks: z.array(Name).max(10_000).optional(),
  supported_skills: z.array(SkillName).max(10_000).optional(),
  available_skills: z.array(Name).max(10_000).optional(),
  max_concurrent_tasks: z.number().int().min(1).max(1_000_000).optional(),
  status: z.string().max(50).optional(),
  load: NonNegative.optional(),
  hot_cache: z.array(z.string().max(500)).max(10_000).optional(),
  installed_models: z.array(z.looseObject({ name: Name, version: z.string().nullish() })).max(10_000)
    .optional(),
  hostname: z.string().max(500).nullish(),
  ip_address: z.string().max(500).nullish(),
  resources: z.looseObject({
    cpu_cores: NonNegative.nullish(),
    gpu_info: z.looseObject({ model: z.string().nullish(), vram_gb: z.number().nullish() }).nullish(),
  }).nullish(),
  cost_per_second: NonNegative.nullish(),
  cost: NonNegative.nullish(),
  capabilities: z.looseObject({ websockets: z.boolean().nullish() }).nullish(),
  /** Ids of tasks it still runs; on registration all others that it held go back to the queue. */
  running_tasks: z.array(z.string()).max(1_000_000).optional(),
};

/** POST /_worker/workers/register */
export const Registration = z.looseObject({ worker_id: WorkerId, ...workerFields });
export type Registration = z.infer<typeof Registration>;

/** PATCH /_worker/workers/{worker_id} */
export const Heartbeat = z.looseObject(workerFields);
export type Heartbeat = z.infer<typeof Heartbeat>;

/** A task as a worker gets it. */
export const WireTask = z.object({
  job_id: z.string(),
  task_id: z.string(),
  type: z.string(),
  params: AnyObject,
  priority: z.number(),
  tracing_context: TraceHeaders,
  /** Seconds it may take. */
  timeout_seconds: z.number().optional(),
});
export type WireTask = z.infer<typeof WireTask>;

/** A command to a worker, over its WebSocket or an answer to a poll with `commands=1`. Both keys mean the same. */
export const Command = z.object({
  command: z.literal("cancel_task"),
  type: z.literal("cancel_task"),
  task_id: z.string(),
  job_id: z.string(),
});
export type Command = z.infer<typeof Command>;

/** POST /_worker/tasks/result */
export const ResultBody = z.looseObject({
  job_id: z.string().min(1).max(200),
  task_id: z.string().min(1).max(200),
  worker_id: z.string().max(200).optional(),
  result: Json.optional(),
});
export type ResultBody = z.infer<typeof ResultBody>;

/** Answer to a result. `ignored`: nothing was changed; do not send it again. */
export const ResultAnswer = z.object({ status: z.string(), reason: z.string().optional() });

/** Worker to engine, by WebSocket or POST /_worker/events. */
export const WorkerEvent = z.looseObject({
  event: z.string().optional(),
  type: z.string().optional(),
  event_type: z.string().optional(),
  task_id: z.string().optional(),
  job_id: z.string().optional(),
  target_task_id: z.string().optional(),
  target_job_id: z.string().optional(),
  progress: z.number().optional(),
  message: z.string().max(10_000).optional(),
  payload: z.looseObject({ progress: z.number().optional(), message: z.string().max(10_000).optional() })
    .optional(),
});

export type WorkerEvent = z.infer<typeof WorkerEvent>;

/** POST an approval. */
export const Decision = z.looseObject({ decision: z.string().min(1).max(200) });

export const ErrorAnswer = z.object({ error: z.string() });
export const Accepted = z.object({ status: z.literal("accepted"), job_id: z.string() });

export const JobStatus = z.enum(STATUSES);

const TaskInfo = z.object({
  type: z.string(),
  params: AnyObject,
  transitions: z.record(z.string(), z.string()),
  dispatch_strategy: z.string(),
  resource_requirements: AnyObject.nullable(),
  timeout_seconds: z.number(),
  max_cost: z.number().nullable(),
  priority: z.number(),
});

/** A job as its client sees it. Moments ending in `_at` are ISO texts. */
export const JobView = z.object({
  id: z.string(),
  blueprint_name: z.string(),
  current_state: z.string(),
  status: JobStatus,
  initial_data: AnyObject,
  state_history: AnyObject,
  created_at: z.string(),
  updated_at: z.string(),
  retry_count: z.number(),
  error_message: z.string().nullable(),
  client_config: z.object({ plan: z.string(), params: AnyObject }),
  tracing_context: TraceHeaders,
  /** What a waiting job waits for, in words. */
  waiting_for: z.string().optional(),
  current_task_info: TaskInfo.optional(),
  current_task_transitions: z.record(z.string(), z.string()).optional(),
  current_task_id: z.string().optional(),
  task_worker_id: z.string().nullable().optional(),
  task_dispatched_at: z.string().optional(),
  active_branches: z.array(z.string()).optional(),
  aggregation_target: z.string().optional(),
  aggregation_results: z.record(z.string(), AnyObject).optional(),
  approval: z.object({
    integration: z.string(),
    message: z.string(),
    decisions: z.array(z.string()),
    asked_at: z.string(),
  })
    .optional(),
  child_job_id: z.string().optional(),
  parent_job_id: z.string().optional(),
  progress: z.object({
    task_id: z.string(),
    progress: z.number().optional(),
    message: z.string().optional(),
    at: z.string(),
  })
    .optional(),
  /** What the last state left in state_history, once finished. */
  result: AnyObject.optional(),
  ended_at: z.string().optional(),
  webhook: z.object({ url: z.string(), delivery: z.string() }).optional(),
});
export type JobView = z.infer<typeof JobView>;

export const JobSummary = z.object({
  job_id: z.string(),
  event_type: z.string(),
  timestamp: z.string(),
  blueprint_name: z.string(),
  state: z.string(),
  status: JobStatus,
  created_at: z.string(),
  error_message: z.string().nullable(),
});
export type JobSummary = z.infer<typeof JobSummary>;

export const HistoryEntry = z.object({
  event_id: z.string(),
  job_id: z.string(),
  timestamp: z.string(),
  event_type: z.enum(HISTORY_TYPES),
  state: z.string(),
  previous_state: z.string().optional(),
  next_state: z.string().optional(),
  task_id: z.string().optional(),
  worker_id: z.string().optional(),
  attempt_number: z.number().optional(),
  duration_ms: z.number().optional(),
  error: z.string().optional(),
  /** The worker's whole result, when it is small. */
  result: AnyObject.optional(),
});
export type HistoryEntry = z.infer<typeof HistoryEntry>;

/** An entry as it is stored, with a moment of wall time. */
export type HistoryEvent = Omit<HistoryEntry, "event_id" | "job_id" | "timestamp"> & { timestamp: number };

export const WorkerHistoryEntry = z.object({
  timestamp: z.string(),
  event_type: z.enum(["registered", "status_update"]),
  status: z.string(),
  load: z.number(),
});
export type WorkerHistoryEntry = z.infer<typeof WorkerHistoryEntry>;

export const WorkerView = z.object({
  worker_id: z.string(),
  worker_type: z.string(),
  status: z.string(),
  supported_tasks: z.array(z.string()),
  max_concurrent_tasks: z.number(),
  load: z.number(),
  /** Tasks assigned to it, as the engine counts them. */
  held_tasks: z.number(),
  hot_cache: z.array(z.string()),
  installed_models: z.array(z.object({ name: z.string(), version: z.string().nullish() })),
  resources: AnyObject,
  hostname: z.string().nullable(),
  ip_address: z.string().nullable(),
  cost_per_second: z.number().nullable(),
  reputation: z.number(),
  registered_at: z.string(),
  last_heartbeat_at: z.string(),
  websocket: z.boolean(),
});
export type WorkerView = z.infer<typeof WorkerView>;

export const Dashboard = z.object({
  workers: z.object({ total: z.number() }),
  jobs: z.record(z.string(), z.number()),
  queues: z.array(
    z.object({ type: z.string(), queued: z.number(), held: z.number(), oldest_seconds: z.number() }),
  ),
  /** One point a second, the newest last: counted by the engine that answers. `seconds` is wall time since 1970. */
  samples: z.array(z.object({
    seconds: z.number(),
    submitted: z.number(),
    ended: z.number(),
    queued: z.number(),
    held: z.number(),
  })),
});
export type Dashboard = z.infer<typeof Dashboard>;

interface Holding {
  id: string;
  workerId?: string | undefined;
}

/** One job. `tasks`: its open ones, and who has them. */
export function jobView(job: Job, tasks: readonly Holding[]): JobView {
  const view: JobView = {
    id: job.id,
    blueprint_name: job.blueprint,
    current_state: job.state,
    status: job.status,
    initial_data: job.initialData,
    state_history: job.stateHistory,
    created_at: iso(job.createdAt),
    updated_at: iso(job.updatedAt),
    retry_count: retriesOf(job),
    error_message: job.error ?? null,
    client_config: { plan: job.plan, params: job.clientParams },
    tracing_context: job.trace ?? {},
  };
  const waitingFor = waitsFor(job, tasks);
  if (waitingFor !== undefined) view.waiting_for = waitingFor;
  const last = job.status === "waiting_for_worker"
    ? { ...job.task, transitions: job.transitions, workerId: undefined }
    : job.lastTask;
  if (last !== undefined) {
    const { id, spec, transitions, dispatchedAt, workerId } = last;
    view.current_task_info = taskInfo(spec, transitions);
    view.current_task_id = id;
    view.task_worker_id = tasks.find((task) => task.id === id)?.workerId ?? workerId ?? null;
    view.task_dispatched_at = iso(dispatchedAt);
  }
  if ("transitions" in job) view.current_task_transitions = job.transitions;
  if (job.status === "waiting_for_parallel_tasks") {
    view.active_branches = job.branches.flatMap((branch) => branch.open ? branch.id : []);
    view.aggregation_target = job.into;
    view.aggregation_results = Object.fromEntries(
      job.branches.flatMap((branch) => branch.open ? [] : [[branch.id, branch.result]]),
    );
  } else if (job.aggregationResults !== undefined) view.aggregation_results = job.aggregationResults;
  if (job.status === "waiting_for_human") {
    const { integration, message, askedAt } = job.question;
    view.approval = { integration, message, decisions: Object.keys(job.transitions), asked_at: iso(askedAt) };
  }
  if (job.status === "waiting_for_sub_job") view.child_job_id = job.childId;
  if (job.parentId !== undefined) view.parent_job_id = job.parentId;
  if (job.progress !== undefined) view.progress = progressView(job.progress);
  if (hasEnded(job)) {
    view.ended_at = iso(job.endedAt);
    if (job.status === "finished") view.result = job.stateHistory;
  }
  if (job.webhook !== undefined) {
    view.webhook = {
      url: job.webhook.url,
      delivery: job.webhook.done ?? `pending (${job.webhook.tries} tries)`,
    };
  }
  return view;
}

function progressView({ taskId, value, message, at }: NonNullable<Job["progress"]>): JobView["progress"] {
  return {
    task_id: taskId,
    ...(value === undefined ? {} : { progress: value }),
    ...(message === undefined ? {} : { message }),
    at: iso(at),
  };
}

export function jobSummary(job: Job): JobSummary {
  return {
    job_id: job.id,
    event_type: job.lastEvent,
    timestamp: iso(job.updatedAt),
    blueprint_name: job.blueprint,
    state: job.state,
    status: job.status,
    created_at: iso(job.createdAt),
    error_message: job.error ?? null,
  };
}

export function historyEntries(jobId: string, events: readonly HistoryEvent[]): HistoryEntry[] {
  return events.map((event, index) => ({
    ...event,
    event_id: `${jobId}:${index + 1}`,
    job_id: jobId,
    timestamp: iso(event.timestamp),
  }));
}

/** A moment as people and programs read it. */
function iso(wall: number): string {
  return new Date(wall).toISOString();
}

function retriesOf(job: Job): number {
  if (job.status === "awaiting_retry") return job.retries;
  return job.status === "waiting_for_worker" ? job.task.retries : 0;
}

function taskInfo(spec: TaskSpec, transitions: Transitions): NonNullable<JobView["current_task_info"]> {
  return {
    type: spec.type,
    params: spec.params,
    transitions,
    dispatch_strategy: spec.strategy,
    resource_requirements: spec.needs === undefined ? null : { ...spec.needs },
    timeout_seconds: spec.timeoutMs / 1000,
    max_cost: spec.maxCost ?? null,
    priority: spec.priority,
  };
}

function waitsFor(job: Job, tasks: readonly Holding[]): string | undefined {
  switch (job.status) {
    case "waiting_for_worker": {
      const { spec, retryAt } = job.task;
      if (retryAt !== undefined) return `the next attempt of its task "${spec.type}"`;
      const holder = tasks.find((task) => task.id === job.task.id)?.workerId;
      return holder === undefined
        ? `a worker for "${spec.type}"${needs(spec)}`
        : `the result of "${spec.type}" from worker "${holder}"`;
    }
    case "waiting_for_parallel_tasks": {
      const open = job.branches.filter((branch) => branch.open).length;
      return `${open} of ${job.branches.length} parallel tasks`;
    }
    case "waiting_for_human":
      return `a decision: ${Object.keys(job.transitions).join(", ")}`;
    case "waiting_for_sub_job":
      return `its sub-job ${job.childId}`;
    case "awaiting_retry":
      return `the next attempt of state "${job.state}"`;
    default:
      return undefined;
  }
}

function needs({ needs: { gpu_info: gpu, installed_models: models } = {}, maxCost }: TaskSpec): string {
  const demands = [
    ...gpu === undefined
      ? []
      : [`a GPU${gpu.model ? ` "${gpu.model}"` : ""}${gpu.vram_gb ? ` of ${gpu.vram_gb} GB` : ""}`],
    ...models === undefined || models.length === 0 ? [] : [`the models ${models.join(", ")}`],
    ...maxCost === undefined ? [] : [`a cost of at most ${maxCost} a second`],
  ];
  return demands.length === 0 ? "" : ` with ${demands.join(" and ")}`;
}
