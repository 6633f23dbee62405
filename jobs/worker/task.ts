/**
 * One run of a task: the function of its type, what it is given, how it ends.
 *
 * @module
 */
import type { Clock } from "../../config/clock.ts";
import type { JsonObject } from "../model/job.ts";
import type { WireTask } from "../model/wire.ts";

/** What a task's function is given besides its params. */
export interface TaskContext {
  taskId: string;
  jobId: string;
  priority: number;
  /** Aborted when the task is cancelled, runs out of time, or the worker stops. */
  signal: AbortSignal;
  /** Reports to the engine how far the task is (0 to 1). Called too fast, only the latest is sent; a lost one is no error. */
  sendProgress(progress: number, message?: string): Promise<void>;
  /** Reports to engines that this worker has something loaded (a model, a task type); it is then preferred for it. */
  addToHotCache(name: string): void;
  removeFromHotCache(name: string): void;
}

/** How a task ended. `status` names a transition; `success` and `failure` are the usual ones. */
export interface TaskOutcome {
  status: string;
  data?: JsonObject | undefined;
  /** Code PERMANENT_ERROR: a repeat is no use. INVALID_INPUT_ERROR: the params are wrong. Others are tried again. */
  error?: { code: string; message: string } | string | undefined;
}

/** The function of a task type. Nothing returned is a success without data; a throw is a failure that is tried again. */
export type TaskHandler = (
  params: JsonObject,
  context: TaskContext,
) => TaskOutcome | void | Promise<TaskOutcome | void>;

/** Why a task's `signal` was aborted: its `reason`. */
export class TaskStopped extends Error {
  override name = "TaskStopped";
  constructor(readonly why: "cancelled" | "timeout" | "shutdown") {
    super(`The task was stopped: ${why}.`);
  }
}

/** A failed outcome. */
export function failure(code: string, message: string): TaskOutcome {
  return { status: "failure", error: { code, message } };
}

/** What an engine is told of a running task. */
export interface Progress {
  progress: number;
  message?: string | undefined;
}

/** What tasks use of the worker that runs them. */
export interface TaskHost {
  clock: Clock;
  hotCache: Set<string>;
  /** Is notified of changes of the hot cache. */
  changed: { notify(): void };
}

/** Longer limits are left to the engine: timers do not count so far. */
const LONGEST_TIMEOUT_SECONDS = 2_000_000;

/** Runs the function of a task's type; `control` stops it. Its result is never a rejection. */
export async function performTask(
  handler: TaskHandler,
  task: WireTask,
  control: AbortController,
  { clock, hotCache, changed }: TaskHost,
  sendProgress: (value: Progress) => Promise<void>,
): Promise<TaskOutcome> {
  const { timeout_seconds: limit = Infinity } = task;
  const cancelTimeout = limit <= LONGEST_TIMEOUT_SECONDS
    ? clock.wake(limit * 1000, () => control.abort(new TaskStopped("timeout")))
    : () => {};
  const send = newestOnly(sendProgress);
  try {
    const outcome = await handler(task.params, {
      taskId: task.task_id,
      jobId: task.job_id,
      priority: task.priority,
      signal: control.signal,
      sendProgress: (progress, message) => send({ progress, message }),
      addToHotCache: (name) => {
        hotCache.add(name);
        changed.notify();
      },
      removeFromHotCache: (name) => {
        hotCache.delete(name);
        changed.notify();
      },
    }) ?? { status: "success" };
    if (typeof outcome === "object" && typeof outcome.status === "string") return outcome;
    return failure(
      "PERMANENT_ERROR",
      `The function of task ${task.type} returned something without a status; return { status, data }.`,
    );
  } catch (error) {
    return failure("TRANSIENT_ERROR", error instanceof Error ? error.message : String(error));
  } finally {
    cancelTimeout();
  }
}

// Sends one at a time; while one is on its way only the newest is kept.
function newestOnly<T>(transmit: (value: T) => Promise<void>): (value: T) => Promise<void> {
  let waiting: T | undefined;
  let sending: Promise<void> | undefined;
  const drain = async () => {
    for (let value = waiting; value !== undefined; value = waiting) {
      waiting = undefined;
      await transmit(value);
    }
    sending = undefined;
  };
  return (value) => {
    waiting = value;
    return sending ??= drain();
  };
}
