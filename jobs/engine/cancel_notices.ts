/**
 * Cancelled tasks: workers that listen are notified at once, the others by their next heartbeat.
 *
 * @module
 */

import type { Clock } from "../../config/clock.ts";
import { Groups } from "../model/groups.ts";

export interface CancelCommand {
  taskId: string;
  jobId: string;
}

/** Cancelled tasks that a worker has not answered are named in its heartbeats this long. */
const CANCEL_MEMORY_MS = 3_600_000;

/** Who listens for cancelled tasks, and which ones were not answered yet. */
export class CancelNotices {
  readonly #listeners = new Groups<string, (command: CancelCommand) => void>();
  /** By worker and task, when it was cancelled. */
  readonly #cancelledAt = new Map<string, Map<string, number>>();

  constructor(private readonly clock: Clock) {}

  /** Cancelled tasks that this worker was given and has not answered. */
  tasksOf(workerId: string): string[] {
    return [...this.#cancelledAt.get(workerId)?.keys() ?? []];
  }

  /** Calls the listener for cancelled tasks of a worker (of all workers: the empty id); returns the way to stop. */
  on(workerId: string, listener: (command: CancelCommand) => void): () => void {
    this.#listeners.add(workerId, listener);
    return () => this.#listeners.remove(workerId, listener);
  }

  /** Whether somebody listens for this worker's commands. */
  isListenedTo(workerId: string): boolean {
    return this.#listeners.has(workerId);
  }

  /** A task of a worker was cancelled. */
  announce(workerId: string, taskId: string, jobId: string): void {
    this.#cancelledAt.getOrInsertComputed(workerId, () => new Map()).set(taskId, this.clock.now());
    for (const id of [workerId, ""]) {
      for (const listener of this.#listeners.get(id) ?? []) listener({ taskId, jobId });
    }
  }

  /** A worker has answered a task. */
  forget(workerId: string, taskId: string): void {
    const tasks = this.#cancelledAt.get(workerId);
    if (tasks?.delete(taskId) && tasks.size === 0) this.#cancelledAt.delete(workerId);
  }

  /** Forgets what was cancelled long ago. */
  forgetOld(): void {
    const before = this.clock.now() - CANCEL_MEMORY_MS;
    for (const [workerId, tasks] of this.#cancelledAt) {
      for (const [taskId, at] of tasks) if (at < before) this.forget(workerId, taskId);
    }
  }
}
