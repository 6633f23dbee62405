/**
 * Time for the engine. Spans, leases and time-outs are measured on the steady line, which no change of the
 * machine's date moves; the wall is only for what people read and for the calendar of schedules.
 *
 * @module
 */

/** Where the engine's time comes from. */
export interface Clock {
  /** Milliseconds on a line that never jumps. Its zero has no meaning. */
  steady(): number;
  /** Milliseconds since 1970, as the machine's calendar has it. */
  wall(): number;
  /** Resolves after `ms`, or at once when `signal` is aborted. Never rejects. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** The machine's own clock. */
export const systemClock: Clock = {
  steady: () => performance.now(),
  wall: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener("abort", done);
    }),
};
