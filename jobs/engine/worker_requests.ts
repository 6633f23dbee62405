/**
 * What workers ask for: they register, report, poll for tasks and answer them.
 *
 * @module
 */

import { hasEnded } from "../model/job.ts";
import type { JobChange, ResultStatus, TaskResult } from "../model/job_change.ts";
import { taskAnswered } from "../model/job_change.ts";
import type { HeldTask, Task } from "../model/store.ts";
import type { Heartbeat, Registration } from "../model/wire.ts";
import type { EngineCore } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import { TICK_MS } from "./timers.ts";
import type { LiveWorker } from "./workers.ts";

/** What became of a result. */
export type ResultAnswer = { status: ResultStatus } | { status: "ignored"; reason: string };

export class WorkerRequests {
  constructor(private readonly core: EngineCore, private readonly runner: JobRunner) {}

  /** A worker registers: tasks it held before, except `running_tasks`, are dispatched again. */
  async register(message: Registration): Promise<void> {
    const { dispatcher, log, storage, workers } = this.core;
    const { worker_id, worker_type, running_tasks } = message;
    await workers.register(message);
    log("info", "worker_registered", { worker_id, worker_type });
    dispatcher.dismiss(worker_id);
    const running = new Set(running_tasks);
    for (const task of await storage.heldBy(worker_id)) {
      if (!running.has(task.id)) await this.runner.redeliver(task);
    }
  }

  /** A heartbeat with content. */
  async heartbeat(workerId: string, message: Heartbeat): Promise<LiveWorker | undefined> {
    const { dispatcher, log, workers } = this.core;
    if (workers.get(workerId) === undefined) {
      log("info", "worker_registered_by_heartbeat", { worker_id: workerId });
    }
    const worker = await workers.heartbeat(workerId, message);
    dispatcher.changed(workerId);
    return worker;
  }

  /** A sign of life; false: not known. */
  async seen(workerId: string): Promise<boolean> {
    const worker = this.core.workers.get(workerId);
    if (worker === undefined) return false;
    await this.core.workers.seen(worker);
    return true;
  }

  /** The next task for a worker that comes within `waitMs`; `signal` is aborted when its connection is gone. */
  async poll(
    workerId: string,
    signal: AbortSignal | undefined,
    waitMs: number,
  ): Promise<HeldTask | undefined> {
    const { clock, dispatcher, stopping, workers } = this.core;
    const until = clock.now() + waitMs;
    for (;;) {
      const leftMs = until - clock.now();
      const worker = workers.get(workerId);
      if (worker !== undefined) {
        await workers.seen(worker);
        return await dispatcher.poll(worker, signal, leftMs);
      }
      // Its heartbeat may make it known meanwhile, here or to another engine.
      if (signal === undefined || signal.aborted || leftMs <= 0 || stopping.aborted) return undefined;
      await clock.sleep(Math.min(leftMs, TICK_MS), AbortSignal.any([signal, stopping]));
    }
  }

  /** A worker's answer. It counts only for a task that is assigned to this worker. */
  async result(jobId: string, taskId: string, workerId: string, outcome: TaskResult): Promise<ResultAnswer> {
    const { cache, cancels, metrics, workers } = this.core;
    cancels.forget(workerId, taskId);
    const act = (change: JobChange, tasks: Task[]): ResultAnswer => {
      const task = tasks.find((one) => one.id === taskId);
      const ignored = (reason: string): ResultAnswer => ({ status: "ignored", reason });
      if (hasEnded(change.job)) return ignored("The job has ended.");
      if (task === undefined) {
        return ignored("The task is not current: it was answered, withdrawn or given to another worker.");
      }
      if (task.workerId === undefined) return ignored("The task is not assigned to any worker.");
      if (task.workerId !== workerId) return ignored("The task is assigned to another worker.");
      return { status: taskAnswered(change, task, outcome) };
    };
    const answer = await this.runner.step(jobId, act, () => cache.recall(jobId, taskId, workerId));
    if (answer === undefined) return { status: "ignored", reason: "Job not found" };
    const { status } = outcome;
    if (answer.status === "ignored") metrics.task("ignored");
    else {
      metrics.task(status === "failure" || status === "cancelled" ? status : "success");
      if (status !== "cancelled") workers.count(workerId, status !== "failure");
    }
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
    await this.runner.step(jobId, (change, tasks) => {
      const task = tasks.find((one) => one.id === taskId);
      if (task?.workerId === undefined || (workerId !== undefined && task.workerId !== workerId)) return;
      change.job = { ...change.job, progress: { taskId, value, message, at: change.rules.wall } };
    });
  }
}
