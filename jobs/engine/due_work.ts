/**
 * What is due: jobs to be woken, tasks that took too long, workers that are gone, ends to be reported.
 *
 * @module
 */

import { messageOf } from "../model/errors.ts";
import type { Job } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import { endJob, isRunnable, JobChange, retriesDue, taskTimedOut, wakeOf } from "../model/job_change.ts";
import type { Task } from "../model/store.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import { deliverWebhook, webhookDelayMs } from "./webhooks.ts";
import type { WorkerRequests } from "./worker_requests.ts";

/** Jobs that are claimed at a time. */
const CLAIM_LIMIT = 100;
/** Tasks timed out in one look. */
const DUE_LIMIT = 1000;

/** Carries out what is due. */
export class DueWork {
  readonly #core: EngineCore;
  readonly #runner: JobRunner;
  readonly #workerRequests: WorkerRequests;

  constructor(core: EngineCore, runner: JobRunner, workerRequests: WorkerRequests) {
    this.#core = core;
    this.#runner = runner;
    this.#workerRequests = workerRequests;
  }

  /** Carries out what is due now; a failure is logged. */
  async look(): Promise<void> {
    try {
      await this.#lookOnce();
    } catch (error) {
      this.#core.log("error", "due_work_failed", { error: messageOf(error) });
    }
  }

  async #lookOnce(): Promise<void> {
    const now = this.#core.now();
    await this.wakeJobs(now);
    await Promise.all((await this.#core.storage.dueTasks(now, DUE_LIMIT)).map((task) => this.#timeOut(task)));
    for (const worker of this.#core.workers.expired(now)) {
      if (!await this.#core.workers.forget(worker)) continue;
      this.#core.log("warn", "worker_lost", { worker_id: worker.id });
      this.#core.dispatcher.forget(worker.id);
      await Promise.all(
        (await this.#core.storage.heldBy(worker.id)).map((task) => this.#workerRequests.redeliver(task)),
      );
    }
  }

  async wakeJobs(now: number): Promise<void> {
    for (;;) {
      const room = Math.min(CLAIM_LIMIT, this.#core.config.maxConcurrentJobs - this.#runner.running.size);
      if (room <= 0) return;
      const jobs = await this.#core.storage.claim(now, Math.max(now + 1, this.#core.now() + LEASE_MS), room);
      await Promise.all(jobs.map((job) => this.#runner.running.has(job.id) ? undefined : this.#wake(job)));
      if (jobs.length < room || this.#core.stopping.aborted) return;
    }
  }

  async #wake(job: Job): Promise<void> {
    if (hasEnded(job)) {
      this.#core.inBackground(this.#deliver(job));
    } else if (job.status === "waiting_for_sub_job") {
      const child = await this.#core.storage.read(job.childId);
      if (child === undefined) {
        await this.#runner.step(job.id, (change, _tasks, rules) => {
          if (change.job.status !== "waiting_for_sub_job") return { stop: undefined };
          endJob(change, "failed", "The sub-job is not there any longer.", rules);
          return { go: undefined };
        });
      } else if (hasEnded(child.job)) await this.#runner.resumeParent(job.id, child.job);
      else await this.#core.storage.lease(job.id, job.revision, this.#core.now() + LEASE_MS);
    } else {
      await this.#runner.step(job.id, (change, _tasks, rules) => {
        if (change.job.revision !== job.revision) return { stop: undefined };
        if (!isRunnable(change.job) && !retriesDue(change, rules)) {
          const next = wakeOf(change.job, rules.now);
          if (next !== null) this.#core.inBackground(this.#core.storage.lease(job.id, job.revision, next));
          return { stop: undefined };
        }
        return { go: undefined };
      });
    }
  }

  async #timeOut(task: Task): Promise<void> {
    await this.#runner.step(task.jobId, (change, tasks, rules) => {
      const open = tasks.find((one) => one.id === task.id);
      if (open === undefined || open.workerId !== task.workerId || open.takenAt !== task.takenAt) {
        return { stop: undefined };
      }
      taskTimedOut(change, open, rules);
      this.#core.metrics.task("timeout");
      return { go: undefined };
    });
  }

  // The end of a job is reported to its webhook until somebody takes it, or nobody did for long.
  async #deliver(job: Job): Promise<void> {
    const { webhook } = job;
    if (webhook === undefined || webhook.done !== undefined) return;
    const failure = await deliverWebhook(
      job,
      webhook.url,
      this.#core.authenticator.named(job.client)?.tokenDigest,
      this.#core.stopping,
    );
    await this.#runner.exclusively(job.id, async () => {
      const read = await this.#core.storage.read(job.id);
      if (read === undefined || read.job.revision !== job.revision) return;
      const change = new JobChange(read.job);
      const rules = this.#core.rules();
      const tries = webhook.tries + 1;
      const delayMs = failure === undefined ? undefined : webhookDelayMs(tries);
      const done = failure === undefined
        ? "delivered"
        : delayMs === undefined
        ? `given up: ${failure}`
        : undefined;
      change.job = { ...job, webhook: { url: webhook.url, tries, done } };
      if (done !== undefined) {
        change.note(
          failure === undefined ? "webhook_delivered" : "webhook_given_up",
          rules,
          failure === undefined ? {} : { error: failure },
        );
      }
      const write = change.write(delayMs === undefined ? null : rules.now + delayMs, rules.wall);
      write.job.lastEvent = job.lastEvent;
      await this.#core.storage.commit([write]);
      if (delayMs !== undefined) this.#core.checks.schedule(rules.now + delayMs);
    });
  }
}
