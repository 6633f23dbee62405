/**
 * Hands on the events of a run: to listeners at once, `for await` loops when they like. Pipes wait for slow ones.
 *
 * @module
 */

import type { Event, Listener } from "./model.ts";

/** Events that may wait for a reader until every pipe has to wait, too. */
const WAITING_EVENTS = 1_000;

/** The listeners of a run. */
export class Listeners<One extends Listener = Listener> implements Listener {
  protected readonly all = new Set<One>();

  /** Adds a listener; the result removes it. */
  add(listener: One): () => void {
    this.all.add(listener);
    return () => this.all.delete(listener);
  }

  event(event: Event): void {
    for (const listener of this.all) listener.event(event);
  }

  backpressure(): Promise<void> | null {
    let all: Promise<void> | null = null;
    for (const listener of this.all) {
      const room = listener.backpressure?.();
      if (room) all = all === null ? room : Promise.all([all, room]).then(() => {});
    }
    return all;
  }
}

/** Hands the events of a run on to any number of `for await` loops, until the run ends. */
export class EventFeed extends Listeners<EventQueue> {
  #ended = false;

  /** The run has ended: so do the loops, after the last event. */
  end(): void {
    this.#ended = true;
    for (const queue of this.all) queue.end();
  }

  /** What happens from the first step of the loop on. */
  async *events(): AsyncGenerator<Event> {
    const queue = new EventQueue();
    if (this.#ended) queue.end();
    const remove = this.add(queue);
    try {
      yield* queue;
    } finally {
      remove();
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

  /** No more events come: the reader ends after the last one, and pipes wait no longer. */
  end(): void {
    this.#ended = true;
    this.#arrived.resolve();
    this.#taken.resolve();
  }

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
