/**
 * The events of a run for readers who take them when they like: a slow one makes the services' pipes wait.
 *
 * @module
 */

import type { Event, Listener } from "./model.ts";

/** Events that may wait for the reader until every pipe has to wait, too. */
const WAITING_EVENTS = 1_000;

/** Hands the events of a run on to any number of `for await` loops, until the run ends. */
export class EventFeed implements Listener {
  readonly #queues = new Set<EventQueue>();
  #ended = false;

  event(event: Event): void {
    for (const queue of this.#queues) queue.event(event);
  }

  backpressure(): Promise<void> | null {
    const waits = [...this.#queues].flatMap((queue) => queue.backpressure() ?? []);
    return waits.length === 0 ? null : Promise.all(waits).then(() => {});
  }

  /** The run has ended: so do the loops, after the last event. */
  end(): void {
    this.#ended = true;
    for (const queue of this.#queues) queue.end();
  }

  /** What happens from the first step of the loop on. */
  async *events(): AsyncGenerator<Event> {
    const queue = new EventQueue();
    if (this.#ended) queue.end();
    this.#queues.add(queue);
    try {
      yield* queue;
    } finally {
      this.#queues.delete(queue);
      queue.end();
    }
  }
}

/** A listener that hands events on to one `for await`. */
class EventQueue implements Listener {
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
