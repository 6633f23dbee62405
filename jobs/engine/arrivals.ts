/**
 * Request bodies on their way: each must have arrived within a time limit.
 *
 * @module
 */
import type { Clock } from "../../config/clock.ts";
import { HttpError } from "../model/errors.ts";

/** Bodies that are still arriving. One look a second for all of them costs less than a timer for each. */
export class Arrivals {
  #entries = new Set<{ late: () => void; by: number }>();

  constructor(readonly timeoutMs: number, readonly clock: Clock) {}

  /** What arrives in time. @throws HttpError 408 */
  wait<T>(reading: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const late = () => reject(new HttpError(408, "The body did not arrive in time"));
      const entry = { late, by: this.clock.now() + this.timeoutMs };
      this.#entries.add(entry);
      reading.then((value) => {
        this.#entries.delete(entry);
        resolve(value);
      }, (error) => {
        this.#entries.delete(entry);
        reject(error);
      });
    });
  }

  /** Gives up on those that are late. */
  expire(): void {
    const now = this.clock.now();
    for (const entry of this.#entries) {
      if (entry.by > now) continue;
      this.#entries.delete(entry);
      entry.late();
    }
  }
}
