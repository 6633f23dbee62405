/**
 * Where time comes from. Spans are measured on the steady line, which no change of the machine's date moves; the wall
 * is only for what people read and for calendars. Whoever waits takes a `Clock`, so that tests move it by hand.
 *
 * @module
 */

/** A source of time. A wake-up is a hint: whoever is woken looks at the clock and at its own state. */
export interface Clock {
  /** Milliseconds on a line that never jumps. Its zero has no meaning. */
  now(): number;
  /** Milliseconds since 1970, as the machine's calendar has it. */
  wall(): number;
  /** Calls `action` once when `ms` have passed. The result cancels that; late or again it does nothing. */
  wake(ms: number, action: () => void): () => void;
  /** Resolves after `ms`, or at once when `signal` fires. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The longest that a timer of the runtime can wait: 24 days. */
const LONGEST_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  wake(ms, action) {
    const timer = setTimeout(action, Math.min(Math.ceil(ms), LONGEST_MS));
    return () => clearTimeout(timer);
  },
  sleep: (ms, signal) => sleepBy(systemClock, ms, signal),
};

/** The `sleep` of a clock by its `wake`. */
export function sleepBy(clock: Pick<Clock, "wake">, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const done = () => {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.wake(ms, done);
    signal?.addEventListener("abort", done);
  });
}
