/**
 * When to look at what is due: regularly, and at moments that are known before.
 *
 * @module
 */

import type { Clock } from "../../config/clock.ts";

/** How often the engine looks at what is due, whatever it knows. */
const TICK_MS = 1_000;

/** Sleeps until something is due. */
export class DueChecks {
  readonly #clock: Clock;
  readonly #now: () => number;
  readonly #periodMs: number;
  readonly #checksAt = new Set<number>();
  #nextCheckAt = 0;
  #regularCheckAt = 0;
  #wakeUp = new AbortController();

  /**
   * @param now engine time
   * @param longestMs the longest time between two looks that is asked for; 0 leaves it to the engine
   */
  constructor(clock: Clock, now: () => number, longestMs: number) {
    this.#clock = clock;
    this.#now = now;
    this.#periodMs = Math.min(TICK_MS, longestMs || TICK_MS);
  }

  /** Something will be due then; the next look is no later. What is later than the next regular look needs no note. */
  schedule(at: number): void {
    if (at >= this.#regularCheckAt) return;
    this.#checksAt.add(Math.ceil(at));
    if (at >= this.#nextCheckAt) return;
    this.#nextCheckAt = at;
    this.#wakeUp.abort();
  }

  /**
   * Looks until it is told to stop.
   *
   * @param look must not throw
   */
  async watch(look: () => Promise<void>, stopping: AbortSignal): Promise<void> {
    stopping.addEventListener("abort", () => this.#wakeUp.abort());
    while (!stopping.aborted) {
      this.#wakeUp = new AbortController();
      const now = this.#now();
      if (now < this.#nextCheckAt) {
        await this.#clock.sleep(this.#nextCheckAt - now, this.#wakeUp.signal);
        continue;
      }
      for (const at of this.#checksAt) if (at <= now) this.#checksAt.delete(at);
      this.#regularCheckAt = now + this.#periodMs;
      this.#nextCheckAt = Math.min(this.#regularCheckAt, ...this.#checksAt);
      await look();
    }
  }
}
