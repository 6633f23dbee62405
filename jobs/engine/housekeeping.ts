/**
 * Once a second: engine time, leases of handlers that take long, other engines' workers, counts. Rarely: the rest.
 *
 * @module
 */

import { messageOf } from "../model/errors.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import { firstDayOf } from "./tallies.ts";

const TICK_MS = 1_000;

/** Keeps an engine and its storage in order. */
export class Housekeeping {
  readonly #core: EngineCore;
  readonly #runner: JobRunner;

  constructor(core: EngineCore, runner: JobRunner) {
    this.#core = core;
    this.#runner = runner;
  }

  /** Runs until the engine stops. */
  async run(): Promise<void> {
    const signal = this.#core.stopping;
    for (let second = 1; !signal.aborted; second++) {
      await this.#core.clock.sleep(TICK_MS, signal);
      if (signal.aborted) return;
      this.#core.arrivals.expire();
      try {
        const shared = await this.#core.storage.time(this.#core.now());
        if (shared > this.#core.now()) this.#core.setTime(shared);
        for (const [id, { revision }] of this.#runner.running) {
          await this.#core.storage.lease(id, revision, this.#core.now() + LEASE_MS);
        }
        const queues = await this.#core.storage.queues();
        const sum = (key: "queued" | "held") => queues.reduce((total, queue) => total + queue[key], 0);
        this.#core.metrics.sample(Math.floor(this.#core.clock.wall() / 1000), sum("queued"), sum("held"));
        if (this.#core.storage.shared) {
          for (const id of await this.#core.workers.load()) this.#core.dispatcher.dismiss(id);
          for (const queue of queues) if (queue.queued > 0) this.#core.dispatcher.queuedElsewhere(queue.type);
        }
        if (second % 10 === 0) await this.#core.tallies.flush();
        if (second % 60 === 0) this.#core.cancels.forgetOld();
        if (second % 3600 === 0) await this.#core.workers.rate(firstDayOf(this.#core.clock.wall()));
        if (second % 60 === 0 && this.#core.config.retentionMs > 0) {
          await this.#core.storage.prune(this.#core.clock.wall() - this.#core.config.retentionMs, 1000);
        }
      } catch (error) {
        this.#core.log("error", "storage_unavailable", { error: messageOf(error) });
      }
    }
  }
}
