/**
 * Jobs that wait for a worker, as this engine stored them: spares most results a read.
 *
 * @module
 */

import type { Job } from "../model/job.ts";
import type { HeldTask, Task } from "../model/store.ts";

/** Jobs that wait for a worker and are kept at hand. */
const MAX_CACHED_JOBS = 10_000;

/** A job that waits for a worker as this engine stored it, and its task once this engine has assigned it. */
interface CachedJob {
  job: Job;
  task?: HeldTask;
}

/** Holds jobs weakly, so that large ones do not fill the memory. It may be behind what is stored: the commit finds out. */
export class JobCache {
  readonly #jobs = new Map<string, WeakRef<CachedJob>>();

  /** A job was stored. */
  remember(job: Job): void {
    if (job.status !== "waiting_for_worker") {
      this.#jobs.delete(job.id);
      return;
    }
    if (this.#jobs.size >= MAX_CACHED_JOBS) {
      for (const oldest of this.#jobs.keys()) {
        this.#jobs.delete(oldest);
        break;
      }
    }
    this.#jobs.set(job.id, new WeakRef({ job }));
  }

  /** A task was given to a worker. */
  taken(task: HeldTask): void {
    const known = this.#jobs.get(task.jobId)?.deref();
    if (known?.job.status === "waiting_for_worker" && known.job.task.id === task.id) known.task = task;
  }

  /** What a read would most likely return for a job whose task this worker holds; good for one use. */
  recall(jobId: string, taskId: string, workerId: string): { job: Job; tasks: Task[] } | undefined {
    const { job, task } = this.#jobs.get(jobId)?.deref() ?? {};
    if (job === undefined || task?.id !== taskId || task.workerId !== workerId) return undefined;
    this.#jobs.delete(jobId);
    return { job, tasks: [task] };
  }
}
