/**
 * The JSON shapes of the HTTP interface, shared by the engine, the workers and the command line. Requests are checked
 * by these schemas, and the OpenAPI document is made from them. Requests are read leniently where existing workers
 * differ (unknown fields are kept or ignored), strictly where a wrong type would matter.
 *
 * @module
 */
import { z } from "zod";
import type { JsonObject, JsonValue } from "./job.ts";
import { HISTORY_TYPES, STATUSES } from "./job.ts";

/** Any JSON. */
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

/** A command to a worker, over its WebSocket or an answer to a poll that said `commands=1`. Both keys mean the same. */
export const Command = z.object({
  command: z.literal("cancel_task"),
  type: z.literal("cancel_task"),
  task_id: z.string(),
  job_id: z.string(),
});
export type Command = z.infer<typeof Command>;

/** The `result` of a task, or the body itself from workers that send it flat. Any other status is a transition's name. */
export const TaskResult = z.looseObject({
  status: z.string().max(200).nullish(),
  data: Json.optional(),
  error: z.union([z.string(), z.looseObject({ code: z.string().nullish(), message: z.string().nullish() })])
    .nullish(),
});
export type TaskResult = z.infer<typeof TaskResult>;

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

/** Every status of a job. */
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

/** A job in a list. */
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

/** An entry of a job's history. */
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

/** An entry of a worker's history. */
export const WorkerHistoryEntry = z.object({
  timestamp: z.string(),
  event_type: z.enum(["registered", "status_update"]),
  status: z.string(),
  load: z.number(),
});
export type WorkerHistoryEntry = z.infer<typeof WorkerHistoryEntry>;

/** A worker as clients see it. */
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

/** GET dashboard. */
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
