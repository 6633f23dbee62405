/**
 * Tasks as those who write their functions see them.
 *
 * @module
 */
import type { JsonObject } from "../model/job.ts";

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

/** The function of a task type, and how many of it may run and do. */
export interface TaskType {
  readonly handler: TaskHandler;
  readonly maxConcurrent: number;
  running: number;
}

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
