/**
 * How workers did lately: successes and failures by day, for their reputation.
 *
 * @module
 */

import type { Storage, Tally } from "../model/store.ts";

const DAY_MS = 86_400_000;
const REPUTATION_DAYS = 30;

/** The first day that still counts, in days of the calendar. @param wall calendar time */
export function firstDayOf(wall: number): number {
  return Math.floor(wall / DAY_MS) - REPUTATION_DAYS;
}

/** Counts in memory and stores the counts now and then. */
export class Tallies {
  readonly #storage: Storage;
  #tallies = new Map<string, Tally>();

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** A worker has answered a task. @param wall calendar time */
  count(workerId: string, succeeded: boolean, wall: number): void {
    const day = Math.floor(wall / DAY_MS);
    const key = `${workerId}\0${day}`;
    const tally = this.#tallies.get(key) ?? { workerId, day, succeeded: 0, failed: 0 };
    if (succeeded) tally.succeeded++;
    else tally.failed++;
    this.#tallies.set(key, tally);
  }

  /** Stores what was counted. */
  async flush(): Promise<void> {
    if (this.#tallies.size === 0) return;
    const tallies = [...this.#tallies.values()];
    this.#tallies = new Map();
    await this.#storage.addTallies(tallies);
  }
}
