// Signature only; the worker itself follows.
import type { JsonObject, JsonValue } from "./job.ts";

/** What a task's function is given besides its params. */
export interface TaskContext {
  taskId: string;
  jobId: string;
  priority: number;
  /** Aborted when the task is cancelled, runs out of time, or the worker stops. */
  signal: AbortSignal;
  sendProgress(progress: number, message?: string): Promise<void>;
  addToHotCache(name: string): void;
  removeFromHotCache(name: string): void;
}

/** How a task ended. `status` names a transition; `success` and `failure` are the usual ones. */
export interface TaskOutcome {
  status: string;
  data?: JsonObject;
  error?: { code: string; message: string } | string;
}

/** Runs tasks of an engine. */
export class Worker {
  constructor(
    readonly options: {
      workerType?: string;
      maxConcurrentTasks?: number;
      url?: string;
      id?: string;
      token?: string;
      environment?: Record<string, string | undefined>;
    } = {},
  ) {}
  /** Adds the function of a task type. A throw in it is a transient failure. */
  task(
    _name: string,
    _handler: (params: JsonObject, context: TaskContext) => TaskOutcome | Promise<TaskOutcome>,
    _options?: { maxConcurrent?: number },
  ): this {
    return this;
  }
  /** Works until `signal` is aborted. */
  run(_options?: { signal?: AbortSignal }): Promise<void> {
    return Promise.resolve();
  }
}
export type { JsonValue };
