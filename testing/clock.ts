/**
 * A clock that stands still until a test moves it.
 *
 * @module
 */

import type { Clock } from "../config/clock.ts";
import { sleepBy } from "../config/clock.ts";

/** Lets everything run that needs no clock. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setTimeout(resolve));
}

/** A clock that is moved by hand. */
export class ManualClock implements Clock {
  #now = 0;
  #wall: number;
  readonly #wakes = new Set<{ at: number; action: () => void }>();

  constructor(wall: number = Date.UTC(2026, 0, 15, 12)) {
    this.#wall = wall;
  }

  now(): number {
    return this.#now;
  }

  wall(): number {
    return this.#wall;
  }

  wake(ms: number, action: () => void): () => void {
    const wake = { at: this.#now + ms, action };
    this.#wakes.add(wake);
    return () => this.#wakes.delete(wake);
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return ms <= 0 ? Promise.resolve() : sleepBy(this, ms, signal);
  }

  /** Lets time pass; those who wait are woken in their order, and what they do then is done before time goes on. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      const [next] = [...this.#wakes].toSorted((one, other) => one.at - other.at);
      if (next === undefined || next.at > end) break;
      this.#move(next.at);
      this.#wakes.delete(next);
      next.action();
    }
    this.#move(end);
    await settled();
  }

  /** Lets time pass, `stepMs` at a time, until something is there that takes real time, too, such as a process's end. */
  async passUntil<T>(something: Promise<T>, stepMs = 10): Promise<T> {
    let isThere = false;
    something.finally(() => isThere = true).catch(() => {}); // whoever awaits it hears of a failure
    while (!isThere) await this.advance(stepMs);
    return await something;
  }

  /** Sets the calendar, as an administrator might; the steady time does not move. */
  setWall(wall: number): void {
    this.#wall = wall;
  }

  #move(to: number): void {
    const passed = Math.max(0, to - this.#now);
    this.#now += passed;
    this.#wall += passed;
  }
}
