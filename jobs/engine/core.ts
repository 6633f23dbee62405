/**
 * What all parts of the engine share: its storage and settings, time, who is connected, and work in the background.
 *
 * @module
 */

import type { Clock } from "../../config/clock.ts";
import type { StateMachineBlueprint } from "../model/blueprint.ts";
import type { Log } from "../model/errors.ts";
import { messageOf } from "../model/errors.ts";
import { makeId } from "../model/ids.ts";
import type { Job } from "../model/job.ts";
import type { Rules } from "../model/job_change.ts";
import type { HeldTask, Storage, Task } from "../model/store.ts";
import { CancelNotices } from "./cancel_notices.ts";
import type { Config } from "./config.ts";
import { Dispatcher } from "./dispatcher.ts";
import { Metrics } from "./metrics.ts";
import type { EngineClock } from "./timers.ts";
import { Arrivals, DueChecks, engineClock } from "./timers.ts";
import { Authenticator } from "./tokens.ts";
import { Workers } from "./workers.ts";

/** While an engine is busy with a job, others leave it alone for this long; renewed as long as it lives. */
export const LEASE_MS = 15_000;

/** Called with each job that has changed, for live views. */
export type JobListener = (job: Job) => void;

/** The parts and services of one engine. */
export class EngineCore {
  readonly blueprints = new Map<string, StateMachineBlueprint>();
  readonly metrics = new Metrics();
  readonly listeners = new Set<JobListener>();
  readonly cache = new JobCache();
  readonly clock: EngineClock;
  readonly arrivals: Arrivals;
  readonly cancels: CancelNotices;
  readonly checks: DueChecks;
  readonly workers: Workers;
  readonly dispatcher: Dispatcher;
  authenticator = new Authenticator([], [], undefined);
  readonly #stopping = new AbortController();
  /** Aborted when the engine stops. */
  readonly stopping = this.#stopping.signal;
  readonly #background = new Set<Promise<unknown>>();

  constructor(readonly storage: Storage, readonly config: Config, machine: Clock, readonly log: Log) {
    const clock = this.clock = engineClock(machine);
    this.arrivals = new Arrivals(config.bodyTimeoutMs, machine);
    this.cancels = new CancelNotices(clock);
    this.checks = new DueChecks(clock, config.watcherIntervalMs);
    const costOf = (workerId: string) => this.authenticator.grant(workerId)?.cost;
    this.workers = new Workers(storage, clock, config.healthCheckMs * 2, costOf);
    this.dispatcher = new Dispatcher(storage, this.workers, clock, (task) => {
      this.checks.schedule(task.takenAt + task.timeoutMs);
      this.cache.taken(task);
    });
  }

  stop(): void {
    this.#stopping.abort();
  }

  /** What transitions depend on, as it is now. */
  rules(): Rules {
    const { jobMaxRetries: maxRetries, retryDelayMs, workerTimeoutMs, queueTimeoutMs } = this.config;
    const wall = this.clock.wall();
    return {
      now: this.clock.now(),
      wall,
      newId: () => makeId(wall),
      maxRetries,
      retryDelayMs,
      workerTimeoutMs,
      queueTimeoutMs,
      startOf: (blueprint) => this.blueprints.get(blueprint)?.start,
    };
  }

  /** Does something that nobody waits for; a failure is logged. */
  inBackground(work: Promise<unknown>): void {
    const guarded = work.catch((error) =>
      this.log("error", "background_failed", { error: messageOf(error) })
    );
    this.#background.add(guarded);
    void guarded.finally(() => this.#background.delete(guarded));
  }

  /** Resolves when the work in the background is done, or after `limitMs`. */
  async settle(limitMs: number): Promise<void> {
    const settled = new AbortController();
    await Promise.race([Promise.allSettled(this.#background), this.clock.sleep(limitMs, settled.signal)]);
    settled.abort();
  }
}

/** Jobs that wait for a worker and are kept at hand. */
const MAX_CACHED_JOBS = 10_000;

/**
 * Jobs that wait for a worker as this engine stored them, with their task once it is assigned: spares most results a
 * read. Held weakly, so that large ones do not fill the memory. It may be behind what is stored: the commit finds out.
 */
class JobCache {
  readonly #jobs = new Map<string, WeakRef<{ job: Job; task?: HeldTask }>>();

  /** A job was stored. */
  remember(job: Job): void {
    if (job.status !== "waiting_for_worker") {
      this.#jobs.delete(job.id);
      return;
    }
    if (this.#jobs.size >= MAX_CACHED_JOBS) {
      const [oldest = ""] = this.#jobs.keys();
      this.#jobs.delete(oldest);
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
