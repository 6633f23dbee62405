/**
 * What workers ask for: they register, report, poll for tasks and answer them.
 *
 * @module
 */

import { hasEnded } from "../model/job.ts";
import type { HeldTask } from "../model/store.ts";
import type { ResultStatus, TaskResult } from "../model/job_change.ts";
import { taskAnswered, workerLost } from "../model/job_change.ts";
import type { Heartbeat, Registration } from "../model/wire.ts";
import type { EngineCore } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import type { LiveWorker } from "./workers.ts";

/** How often a poll of an unknown worker looks whether it has become known. */
const TICK_MS = 1_000;

/** Requests of workers. */
export class WorkerRequests {
  readonly #core: EngineCore;
  readonly #runner: JobRunner;

  constructor(core: EngineCore, runner: JobRunner) {
    this.#core = core;
    this.#runner = runner;
  }

  /** A worker registers: tasks it held before, except `running_tasks`, are dispatched again. */
  async register(message: Registration): Promise<void> {
    const now = this.#core.now();
    await this.#core.workers.register(message, now, this.#core.clock.wall());
    this.#core.log("info", "worker_registered", {
      worker_id: message.worker_id,
      worker_type: message.worker_type,
    });
    this.#core.dispatcher.dismiss(message.worker_id);
    const running = new Set(message.running_tasks);
    for (const task of await this.#core.storage.heldBy(message.worker_id)) {
      if (!running.has(task.id)) await this.redeliver(task);
    }
  }

  /** A heartbeat with content. */
  async heartbeat(workerId: string, message: Heartbeat): Promise<LiveWorker | undefined> {
    if (this.#core.workers.get(workerId) === undefined) {
      this.#core.log("info", "worker_registered_by_heartbeat", { worker_id: workerId });
    }
    const worker = await this.#core.workers.heartbeat(
      workerId,
      message,
      this.#core.now(),
      this.#core.clock.wall(),
    );
    this.#core.dispatcher.changed(workerId);
    return worker;
  }

  /** A sign of life; false: not known. */
  async seen(workerId: string): Promise<boolean> {
    const worker = this.#core.workers.get(workerId);
    if (worker === undefined) return false;
    await this.#core.workers.seen(worker, this.#core.now(), this.#core.clock.wall());
    return true;
  }

  /** The next task for a worker that comes within `waitMs`; `signal` is aborted when its connection is gone. */
  async poll(
    workerId: string,
    signal: AbortSignal | undefined,
    waitMs: number,
  ): Promise<HeldTask | undefined> {
    const until = this.#core.now() + waitMs;
    for (;;) {
      const leftMs = until - this.#core.now();
      const worker = this.#core.workers.get(workerId);
      if (worker !== undefined) {
        await this.#core.workers.seen(worker, this.#core.now(), this.#core.clock.wall());
        return await this.#core.dispatcher.poll(worker, signal, leftMs);
      }
      // Its heartbeat may make it known meanwhile, here or to another engine.
      if (signal === undefined || signal.aborted || leftMs <= 0 || this.#core.stopping.aborted) {
        return undefined;
      }
      await this.#core.clock.sleep(Math.min(leftMs, TICK_MS), AbortSignal.any([signal, this.#core.stopping]));
    }
  }

  /** A worker's answer. It counts only for a task that is assigned to this worker. */
  async result(
    jobId: string,
    taskId: string,
    workerId: string,
    outcome: TaskResult,
  ): Promise<{ status: ResultStatus } | { status: "ignored"; reason: string }> {
    this.#core.cancels.forget(workerId, taskId);
    const ignored = (reason: string) => ({ stop: { status: "ignored" as const, reason } });
    const answer = await this.#runner.step<{ status: ResultStatus } | { status: "ignored"; reason: string }>(
      jobId,
      (change, tasks, rules) => {
        const task = tasks.find((one) => one.id === taskId);
        if (hasEnded(change.job)) return ignored("The job has ended.");
        if (task === undefined) {
          return ignored("The task is not current: it was answered, withdrawn or given to another worker.");
        }
        if (task.workerId === undefined) return ignored("The task is not assigned to any worker.");
        if (task.workerId !== workerId) return ignored("The task is assigned to another worker.");
        return { go: { status: taskAnswered(change, task, outcome, rules) } };
      },
      () => this.#core.cache.recall(jobId, taskId, workerId),
    );
    if (answer === undefined) return { status: "ignored", reason: "Job not found" };
    if (answer.status !== "ignored") {
      this.#core.metrics.task(
        outcome.status === "failure" ? "failure" : outcome.status === "cancelled" ? "cancelled" : "success",
      );
      if (outcome.status !== "cancelled") {
        this.#core.tallies.count(workerId, outcome.status !== "failure", this.#core.clock.wall());
      }
    } else this.#core.metrics.task("ignored");
    return answer;
  }

  /** Keeps a worker's progress report in the job, if the task is assigned to this worker. */
  async progress(
    jobId: string,
    taskId: string,
    workerId: string | undefined,
    value?: number,
    message?: string,
  ): Promise<void> {
    await this.#runner.step(jobId, (change, tasks, rules) => {
      const task = tasks.find((one) => one.id === taskId);
      if (task?.workerId === undefined || (workerId !== undefined && task.workerId !== workerId)) {
        return { stop: undefined };
      }
      change.job = { ...change.job, progress: { taskId, value, message, at: rules.wall } };
      return { go: undefined };
    });
  }

  /** Has a task that its worker lost dispatched again. */
  async redeliver(task: HeldTask): Promise<void> {
    await this.#runner.step(task.jobId, (change, tasks, rules) => {
      const held = tasks.find((one) => one.id === task.id);
      if (held?.workerId !== task.workerId || held.takenAt !== task.takenAt) return { stop: undefined };
      workerLost(change, held, rules);
      this.#core.metrics.task("redelivered");
      return { go: undefined };
    });
  }
}
