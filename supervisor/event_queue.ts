/**
 * The events of a run for one reader, who takes them when it likes: a slow one makes the services' pipes wait.
 *
 * @module
 */

import type { Event, Listener } from "./model.ts";

/** Events that may wait for the reader until every pipe has to wait, too. */
const WAITING_EVENTS = 1_000;

/** A listener that hands events on to one `for await`. */
export class EventQueue implements Listener {
  readonly #events: Event[] = [];
  #arrived = Promise.withResolvers<void>();
  #taken = Promise.withResolvers<void>();
  #ended = false;

  event(event: Event): void {
    this.#events.push(event);
    this.#arrived.resolve();
  }

  backpressure(): Promise<void> | null {
    return this.#events.length < WAITING_EVENTS ? null : this.#taken.promise;
  }

  /** No more events come: the reader ends after the last one. Pipes wait no longer. */
  end(): void {
    this.#ended = true;
    this.#arrived.resolve();
    this.#taken.resolve();
  }

  /** The events in the order in which they happened, until `end`. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    for (;;) {
      for (let event = this.#events.shift(); event !== undefined; event = this.#events.shift()) yield event;
      if (this.#ended) return;
      this.#taken.resolve();
      this.#taken = Promise.withResolvers();
      this.#arrived = Promise.withResolvers();
      await this.#arrived.promise;
    }
  }
}
