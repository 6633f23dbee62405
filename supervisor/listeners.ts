/**
 * Who hears the events of a run, and how long pipes wait for them.
 *
 * @module
 */

import type { Event, Listener } from "./model.ts";

/** The listeners of a run. */
export class Listeners {
  readonly #all = new Set<Listener>();

  /** Adds a listener; the result removes it. */
  add(listener: Listener): () => void {
    this.#all.add(listener);
    return () => this.#all.delete(listener);
  }

  /** Hands an event to every listener. */
  emit(event: Event): void {
    for (const listener of this.#all) listener.event(event);
  }

  /** Resolves when every listener has room; `null`: all have. */
  backpressure(): Promise<void> | null {
    let all: Promise<unknown> | null = null;
    for (const listener of this.#all) {
      const room = listener.backpressure?.();
      if (room) all = all === null ? room : Promise.all([all, room]);
    }
    return all === null ? null : all.then(() => {});
  }
}
