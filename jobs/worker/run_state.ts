/**
 * What the connections of one run of a worker share: settings, the tasks that run, and the room for more.
 *
 * @module
 */
import type { Clock } from "../../config/clock.ts";
import type { Log } from "../model/errors.ts";
import type { Settings } from "./settings.ts";
import type { TaskHandler } from "./task.ts";
import { Notifier, Slots } from "./waiting.ts";

/** The function of a task type, and how many of it may run and do. */
export interface TaskType {
  readonly handler: TaskHandler;
  readonly maxConcurrent: number;
  running: number;
}

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
    this.slots = new Slots(settings.MAX_CONCURRENT_TASKS);
    this.changed = new Notifier(clock);
  }

  /** A task begins, for which a slot has been taken. */
  begin(type: TaskType | undefined): void {
    this.running++;
    if (type !== undefined) type.running++;
    this.changed.notify();
  }

  /** A task has ended: its slot is free, its result goes on its way. */
  end(type: TaskType | undefined): void {
    this.running--;
    if (type !== undefined) type.running--;
    this.undelivered++;
    this.slots.release();
    this.changed.notify();
  }

  /** A result has arrived, or nobody wants it. */
  delivered(): void {
    this.undelivered--;
    this.changed.notify();
  }

  /** Whether a task of this name could begin, as far as the limit of its type goes. An unknown one is answered at once. */
  isOpen(name: string): boolean {
    const type = this.types.get(name);
    return type === undefined || type.running < type.maxConcurrent;
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
