/**
 * What all parts of the engine share: its storage and settings, time, who is connected, and work in the background.
 *
 * @module
 */

import type { StateMachineBlueprint } from "../model/blueprint.ts";
import type { Clock } from "../../config/clock.ts";
import { messageOf } from "../model/errors.ts";
import { makeId } from "../model/ids.ts";
import type { Job } from "../model/job.ts";
import type { Rules } from "../model/job_change.ts";
import type { Log } from "../model/errors.ts";
import type { Storage } from "../model/store.ts";
import { Arrivals } from "./arrivals.ts";
import { CancelNotices } from "./cancel_notices.ts";
import type { Config } from "./config.ts";
import { Dispatcher } from "./dispatcher.ts";
import { DueChecks } from "./due_checks.ts";
import { JobCache } from "./job_cache.ts";
import { Metrics } from "./metrics.ts";
import { Tallies } from "./tallies.ts";
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
  readonly workers: Workers;
  readonly dispatcher: Dispatcher;
  /** Bodies of requests that are on their way. */
  readonly arrivals: Arrivals;
  readonly cancels: CancelNotices;
  readonly cache = new JobCache();
  readonly checks: DueChecks;
  readonly tallies: Tallies;
  authenticator = new Authenticator([], [], undefined);
  readonly #stopping = new AbortController();
  readonly #background = new Set<Promise<unknown>>();
  #offset = 0;

  constructor(readonly storage: Storage, readonly config: Config, readonly clock: Clock, readonly log: Log) {
    const now = () => this.now();
    this.workers = new Workers(storage, config.healthCheckMs * 2, (id) => this.authenticator.grant(id)?.cost);
    this.arrivals = new Arrivals(config.bodyTimeoutMs, clock);
    this.cancels = new CancelNotices(now);
    this.checks = new DueChecks(clock, now, config.watcherIntervalMs);
    this.tallies = new Tallies(storage);
    this.dispatcher = new Dispatcher(storage, this.workers, now, clock, (task) => {
      this.checks.schedule(task.takenAt + task.timeoutMs);
      this.cache.taken(task);
    });
  }

  /** Engine time: it goes on where the last engine on this storage stopped, and all engines on it share it. */
  now(): number {
    return this.#offset + this.clock.now();
  }

  /** Takes over the time of the storage; engine time never goes back once the engine runs. */
  setTime(time: number): void {
    this.#offset += time - this.now();
  }

  /** Aborted when the engine stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  /** Begins the stop. */
  stop(): void {
    this.#stopping.abort();
  }

  /** What transitions depend on, as it is now. */
  rules(): Rules {
    const { config } = this;
    const wall = this.clock.wall();
    return {
      now: this.now(),
      wall,
      newId: () => makeId(wall),
      maxRetries: config.jobMaxRetries,
      retryDelayMs: config.retryDelayMs,
      workerTimeoutMs: config.workerTimeoutMs,
      queueTimeoutMs: config.queueTimeoutMs,
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
