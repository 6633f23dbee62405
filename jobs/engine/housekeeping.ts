/**
 * What an engine does by itself: jobs to be woken, tasks that took too long, workers that are gone; and once a second
 * engine time, leases of handlers that take long, other engines' workers, counts.
 *
 * @module
 */

import { messageOf } from "../model/errors.ts";
import type { Job } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import { isRunnable, JobChange, retriesDue, taskTimedOut, wakeOf } from "../model/job_change.ts";
import type { Task } from "../model/store.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import { TICK_MS } from "./timers.ts";
import { reportEnd } from "./webhooks.ts";

/** Jobs that are claimed at a time. */
const CLAIM_LIMIT = 100;
/** Tasks timed out in one check. */
const DUE_LIMIT = 1000;
/** Jobs removed at a time. */
const PRUNE_LIMIT = 1000;

/** Keeps an engine and its storage in order. */
export class Housekeeping {
  constructor(private readonly core: EngineCore, private readonly runner: JobRunner) {}

  /** Carries out what is due now; a failure is logged. */
  async check(): Promise<void> {
    const { clock, dispatcher, log, storage, workers } = this.core;
    try {
      const now = clock.now();
      await this.wakeJobs(now);
      await Promise.all((await storage.dueTasks(now, DUE_LIMIT)).map((task) => this.#timeOut(task)));
      for (const worker of workers.expired()) {
        if (!await workers.forget(worker)) continue;
        log("warn", "worker_lost", { worker_id: worker.id });
        dispatcher.forget(worker.id);
        await Promise.all((await storage.heldBy(worker.id)).map((task) => this.runner.redeliver(task)));
      }
    } catch (error) {
      log("error", "due_work_failed", { error: messageOf(error) });
    }
  }

  /** Goes on with the jobs whose wake-up is not later than `now`. */
  async wakeJobs(now: number): Promise<void> {
    const { clock, config, stopping, storage } = this.core;
    const { running } = this.runner;
    for (;;) {
      const room = Math.min(CLAIM_LIMIT, config.maxConcurrentJobs - running.size);
      if (room <= 0) return;
      const jobs = await storage.claim(now, Math.max(now + 1, clock.now() + LEASE_MS), room);
      await Promise.all(jobs.map((job) => running.has(job.id) ? undefined : this.#wake(job)));
      if (jobs.length < room || stopping.aborted) return;
    }
  }

  async #wake(job: Job): Promise<void> {
    const { clock, storage } = this.core;
    if (hasEnded(job)) this.core.inBackground(reportEnd(job, this.core, this.runner));
    else if (job.status === "waiting_for_sub_job") {
      const child = await storage.read(job.childId);
      if (child === undefined) {
        await this.runner.step(job.id, (change) => {
          if (change.job.status !== "waiting_for_sub_job") return;
          change.end("failed", "The sub-job is not there any longer.");
        });
      } else if (hasEnded(child.job)) await this.runner.resumeParent(job.id, child.job);
      else await storage.lease(job.id, job.revision, clock.now() + LEASE_MS);
    } else await this.runner.exclusively(job.id, () => this.#runOrRetry(job));
  }

  async #runOrRetry({ id, revision }: Job): Promise<void> {
    const read = await this.core.storage.read(id);
    if (read?.job.revision !== revision) return;
    const change = new JobChange(read.job, this.core.rules());
    if (isRunnable(change.job) || retriesDue(change)) {
      await this.runner.runAndSave(change);
      return;
    }
    const wakeAt = wakeOf(read.job, change.rules.now);
    if (wakeAt !== null) await this.core.storage.lease(id, revision, wakeAt);
  }

  async #timeOut(task: Task): Promise<void> {
    await this.runner.step(task.jobId, (change, tasks) => {
      const open = tasks.find((one) => one.id === task.id);
      if (open === undefined || open.workerId !== task.workerId || open.takenAt !== task.takenAt) return;
      taskTimedOut(change, open);
      this.core.metrics.task("timeout");
    });
  }

  /** Works once a second until the engine stops. */
  async run(): Promise<void> {
    const { arrivals, clock, log, stopping } = this.core;
    for (let second = 1;; second++) {
      await clock.sleep(TICK_MS, stopping);
      if (stopping.aborted) return;
      arrivals.expire();
      try {
        await this.#everySecond();
        if (second % 10 === 0) await this.core.workers.storeCounts();
        if (second % 60 === 0) await this.#everyMinute();
        if (second % 3600 === 0) await this.core.workers.rate();
      } catch (error) {
        log("error", "storage_unavailable", { error: messageOf(error) });
      }
    }
  }

  async #everySecond(): Promise<void> {
    const { clock, dispatcher, metrics, storage, workers } = this.core;
    const shared = await storage.time(clock.now());
    if (shared > clock.now()) clock.setNow(shared);
    for (const [id, { run }] of this.runner.running) {
      await storage.lease(id, run.change.revision, clock.now() + LEASE_MS);
    }
    const queues = await storage.queues();
    metrics.sample(Math.floor(clock.wall() / 1000), queues);
    if (!storage.shared) return;
    for (const id of await workers.load()) dispatcher.dismiss(id);
    for (const { queued, type } of queues) if (queued > 0) dispatcher.queuedElsewhere(type);
  }

  async #everyMinute(): Promise<void> {
    const { cancels, clock, config, storage } = this.core;
    cancels.forgetOld();
    if (config.retentionMs > 0) await storage.prune(clock.wall() - config.retentionMs, PRUNE_LIMIT);
  }
}
