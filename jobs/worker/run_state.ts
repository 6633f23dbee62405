/**
 * What the connections of one run of a worker share: settings, the tasks that run, the room for more, and what their
 * loops wait for.
 *
 * @module
 */
import type { Clock } from "../../config/clock.ts";
import { LinkedAbort } from "../model/abort.ts";
import type { Log } from "../model/errors.ts";
import type { Settings } from "./settings.ts";
import { failure, type TaskType } from "./task.ts";

/** One run of a worker, as all its engines see it. */
export class RunState {
  readonly slots: Slots;
  readonly hotCache = new Set<string>();
  /** Notified when a task begins or ends, an engine comes or goes, the hot cache changes. */
  readonly changed: Notifier;
  readonly client = Deno.createHttpClient({ http2: false, poolMaxIdlePerHost: 16 });
  /** Aborted when nothing is to be sent any more. */
  readonly ended = new AbortController();
  running = 0;
  /** Results on their way. */
  undelivered = 0;

  constructor(
    readonly settings: Settings,
    readonly types: ReadonlyMap<string, TaskType>,
    readonly clock: Clock,
    readonly log: Log,
  ) {
    this.slots = new Slots(settings.maxTasks);
    this.changed = new Notifier(clock);
  }

  /** A task begins, for which a slot has been taken. */
  begin(type: TaskType): void {
    this.running++;
    type.running++;
    this.changed.notify();
  }

  /** A task has ended: its slot is free, its result goes on its way. */
  end(type: TaskType): void {
    this.running--;
    type.running--;
    this.undelivered++;
    this.slots.release();
    this.changed.notify();
  }

  /** A result has arrived, or nobody wants it. */
  delivered(): void {
    this.undelivered--;
    this.changed.notify();
  }

  /** The type of that name. A task of an unknown one begins at once, and fails. */
  typeOf(name: string): TaskType {
    const handler = () => failure("PERMANENT_ERROR", `Unsupported task: ${name}`);
    return this.types.get(name) ?? { handler, maxConcurrent: Infinity, running: 0 };
  }

  /** Whether a task of this name could begin, as far as the limit of its type goes. */
  isOpen(name: string): boolean {
    const { running, maxConcurrent } = this.typeOf(name);
    return running < maxConcurrent;
  }

  /** Names of the tasks that could begin now, as far as their own limits go. */
  open(): string[] {
    return [...this.types.keys()].filter((name) => this.isOpen(name));
  }

  /** Waits until `done`, for `ms` at most, or until `signal` is aborted. @returns whether it is done */
  async until(done: () => boolean, ms: number, signal: AbortSignal): Promise<boolean> {
    const by = this.clock.now() + ms;
    while (!done() && !signal.aborted && this.clock.now() < by) {
      await this.changed.wait(by - this.clock.now(), signal);
    }
    return done();
  }
}

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
