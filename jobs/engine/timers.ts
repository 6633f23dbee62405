/**
 * Time in an engine: its clock, the moments at which something is due, and bodies that must arrive in time.
 *
 * @module
 */

import type { Clock } from "../../config/clock.ts";
import { HttpError } from "../model/errors.ts";

/** How often the engine checks for due work, whatever it knows. */
export const TICK_MS = 1_000;

/** Engine time: it goes on where the last engine on this storage stopped, and all engines on it share it. */
export interface EngineClock extends Clock {
  /** Takes over the time of the storage; engine time never goes back once the engine runs. */
  setNow(time: number): void;
}

export function engineClock(machine: Clock): EngineClock {
  let offset = 0;
  const now = () => offset + machine.now();
  return {
    now,
    setNow: (time) => void (offset += time - now()),
    wall: () => machine.wall(),
    wake: (ms, action) => machine.wake(ms, action),
    sleep: (ms, signal) => machine.sleep(ms, signal),
  };
}

/** When to check for due work: regularly, and at moments that are known before. */
export class DueChecks {
  readonly #periodMs: number;
  readonly #checksAt = new Set<number>();
  #nextCheckAt = 0;
  #regularCheckAt = 0;
  #wakeUp = new AbortController();

  /** @param longestMs the longest time between two checks that is asked for; 0 leaves it to the engine */
  constructor(private readonly clock: Clock, longestMs: number) {
    this.#periodMs = Math.min(TICK_MS, longestMs || TICK_MS);
  }

  /** Something will be due then; the next check is no later. What is later than the next regular check needs no note. */
  schedule(at: number): void {
    if (at >= this.#regularCheckAt) return;
    this.#checksAt.add(Math.ceil(at));
    if (at >= this.#nextCheckAt) return;
    this.#nextCheckAt = at;
    this.#wakeUp.abort();
  }

  /** Calls `check`, which must not throw, until `stopping` is aborted. */
  async watch(check: () => Promise<void>, stopping: AbortSignal): Promise<void> {
    stopping.addEventListener("abort", () => this.#wakeUp.abort());
    while (!stopping.aborted) {
      this.#wakeUp = new AbortController();
      const now = this.clock.now();
      if (now < this.#nextCheckAt) {
        await this.clock.sleep(this.#nextCheckAt - now, this.#wakeUp.signal);
        continue;
      }
      for (const at of this.#checksAt) if (at <= now) this.#checksAt.delete(at);
      this.#regularCheckAt = now + this.#periodMs;
      this.#nextCheckAt = Math.min(this.#regularCheckAt, ...this.#checksAt);
      await check();
    }
  }
}

/** Request bodies that are still arriving. One check a second for all of them costs less than a timer for each. */
export class Arrivals {
  readonly #arriving = new Set<{ late: () => void; by: number }>();

  constructor(private readonly timeoutMs: number, private readonly clock: Clock) {}

  /** What arrives in time. @throws HttpError 408 */
  async wait<T>(reading: Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const late = () => reject(new HttpError(408, "The body did not arrive in time"));
    const arriving = { late, by: this.clock.now() + this.timeoutMs };
    this.#arriving.add(arriving);
    reading.then(resolve, reject);
    try {
      return await promise;
    } finally {
      this.#arriving.delete(arriving);
    }
  }

  /** Gives up on those that are late. */
  expire(): void {
    for (const { by, late } of this.#arriving) if (by <= this.clock.now()) late();
  }
}
