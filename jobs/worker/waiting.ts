/**
 * What the loops of a worker wait for: a place for a task, a change, the end of a growing delay.
 *
 * @module
 */
import { LinkedAbort } from "../model/abort.ts";
import type { Clock } from "../../config/clock.ts";

/** Places for running tasks. Who waits gets one in turn. */
export class Slots {
  readonly #waiting = new Set<() => void>();
  constructor(public free: number) {}

  /** Takes a place if one is free. */
  tryAcquire(): boolean {
    if (this.free === 0) return false;
    this.free--;
    return true;
  }

  /** Takes a place when its turn has come; resolves false when `signal` is aborted first. */
  async acquire(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.tryAcquire()) return true;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const take = () => resolve(true);
    const leave = () => {
      if (this.#waiting.delete(take)) resolve(false);
    };
    this.#waiting.add(take);
    signal.addEventListener("abort", leave);
    const taken = await promise;
    signal.removeEventListener("abort", leave);
    return taken;
  }

  /** Gives a place back, to who waits longest for one. */
  release(): void {
    const [take] = this.#waiting;
    if (take === undefined) {
      this.free++;
    } else {
      this.#waiting.delete(take);
      take();
    }
  }
}

/** An event that several may wait for, again and again. */
export class Notifier {
  readonly #waiting = new Set<LinkedAbort>();
  constructor(readonly clock: Clock) {}

  notify(): void {
    for (const waiting of this.#waiting) waiting.abort();
  }

  /** Resolves at the next `notify`, after `ms`, or when `signal` is aborted. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    using waiting = new LinkedAbort(signal);
    this.#waiting.add(waiting);
    await this.clock.sleep(ms, waiting.signal);
    this.#waiting.delete(waiting);
  }
}

/** Delays between tries: each twice as long as the one before, up to a limit. */
export class Backoff {
  #tries = 0;
  constructor(readonly firstMs: number, readonly longestMs: number, readonly random = Math.random) {}

  nextMs(): number {
    return jittered(Math.min(this.longestMs, this.firstMs * 2 ** this.#tries++), this.random);
  }

  reset(): void {
    this.#tries = 0;
  }
}

/** A time around `ms`: workers that lost their engine at the same moment must not all come back at the same moment. */
export function jittered(ms: number, random = Math.random): number {
  return ms * (0.75 + random() / 2);
}
