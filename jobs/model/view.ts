/**
 * Jobs as their clients see them: never a token, moments as ISO texts.
 *
 * @module
 */
import type { Job, TaskSpec, Transitions } from "./job.ts";
import { hasEnded } from "./job.ts";
import type { Task } from "./store.ts";
import type { HistoryEntry, HistoryEvent, JobSummary, JobView } from "./wire.ts";

/** One job. */
export function jobView(job: Job, tasks: readonly Task[]): JobView {
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

/** One line of a list. */
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

/** A job's history. */
export function historyEntries(jobId: string, events: readonly HistoryEvent[]): HistoryEntry[] {
  return events.map((event, index) => ({
    ...event,
    event_id: `${jobId}:${index + 1}`,
    job_id: jobId,
    timestamp: iso(event.timestamp),
  }));
}

/** A moment as people and programs read it. */
export function iso(wall: number): string {
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

function waitsFor(job: Job, tasks: readonly Task[]): string | undefined {
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
