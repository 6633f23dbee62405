/**
 * Assigns tasks to the polls of workers: a queued task chooses a waiting poll by its strategy, which then takes the first
 * task that fits from the storage.
 *
 * @module
 */

import type { Clock } from "../../config/clock.ts";
import { Groups } from "../model/groups.ts";
import type { HeldTask, Storage, TaskRecord } from "../model/store.ts";
import { fits } from "../model/store.ts";
import type { LiveWorker, Workers } from "./workers.ts";

interface Waiter {
  workerId: string;
  types: readonly string[];
  /** Aborted when its connection is gone. */
  signal: AbortSignal | undefined;
  /** Answers the poll; undefined: nothing came. */
  answer: (task: HeldTask | undefined) => void;
  isOver: boolean;
  isAsking: boolean;
}

/** The polls that wait for a task, by worker and by task type. */
export class Dispatcher {
  readonly #byType = new Groups<string, Waiter>();
  readonly #byWorker = new Groups<string, Waiter>();
  /** Counts what changed, so that a poll that found nothing knows whether something came meanwhile. */
  #epoch = 0;
  #turn = 0;
  #lastTurns = new Map<string, number>();
  #isClosed = false;

  constructor(
    private readonly storage: Storage,
    private readonly workers: Workers,
    private readonly clock: Clock,
    private readonly onTaken: (task: HeldTask) => void,
  ) {}

  get waiting(): number {
    return this.#byWorker.values().reduce((sum, waiters) => sum + waiters.size, 0);
  }

  /** The first task for a worker that is there or comes within `waitMs`. Takes none once `signal` is aborted. */
  async poll(
    worker: LiveWorker,
    signal: AbortSignal | undefined,
    waitMs: number,
  ): Promise<HeldTask | undefined> {
    if (signal?.aborted) return undefined;
    const { promise, resolve } = Promise.withResolvers<HeldTask | undefined>();
    const waiter: Waiter = {
      workerId: worker.id,
      types: [],
      signal,
      answer: (task) => {
        if (waiter.isOver) return;
        waiter.isOver = true;
        this.#remove(waiter);
        resolve(task);
      },
      isOver: false,
      isAsking: false,
    };
    const leave = () => waiter.answer(undefined);
    // What is queued between the storage's last answer and the wait calls nobody: the poll asks once more.
    for (let epoch = -1; epoch !== this.#epoch && !waiter.isOver && !signal?.aborted;) {
      epoch = this.#epoch;
      await this.#serve(waiter);
    }
    if (this.#isClosed || waitMs <= 0 || signal?.aborted) leave();
    if (waiter.isOver) return await promise;
    const stopTimer = this.clock.wake(waitMs, leave);
    signal?.addEventListener("abort", leave);
    this.#add(waiter);
    try {
      return await promise;
    } finally {
      stopTimer();
      signal?.removeEventListener("abort", leave);
    }
  }

  /** Tasks were queued by this engine: each calls one waiting poll. */
  queued(tasks: readonly TaskRecord[]): void {
    if (tasks.length === 0) return;
    this.#epoch++;
    for (const task of tasks) {
      const waiter = this.#choose(task);
      if (waiter !== undefined) this.#call(waiter);
    }
  }

  /** Another engine queued a task of this type. */
  queuedElsewhere(type: string): void {
    this.#epoch++;
    for (const waiter of this.#byType.get(type) ?? []) {
      if (waiter.isAsking) continue;
      this.#call(waiter);
      return;
    }
  }

  /** What a worker can do has changed: its waiting polls ask again. */
  changed(workerId: string): void {
    this.#epoch++;
    for (const waiter of [...this.#byWorker.get(workerId) ?? []]) {
      this.#remove(waiter);
      this.#add(waiter);
      if (!waiter.isAsking) this.#call(waiter);
    }
  }

  /** A worker has restarted: polls under its id are from before, and end. */
  dismiss(workerId: string): void {
    for (const waiter of [...this.#byWorker.get(workerId) ?? []]) waiter.answer(undefined);
  }

  /** A worker is gone. */
  forget(workerId: string): void {
    this.dismiss(workerId);
    this.#lastTurns.delete(workerId);
  }

  /** A task that could not be delivered goes back to its queue, and to another worker. */
  async returned(task: HeldTask): Promise<void> {
    await this.storage.giveBack(task.id, task.workerId);
    this.queued([task]);
  }

  /** Answers all polls without a task. */
  close(): void {
    this.#isClosed = true;
    for (const waiters of [...this.#byWorker.values()]) {
      for (const waiter of [...waiters]) waiter.answer(undefined);
    }
  }

  #add(waiter: Waiter): void {
    waiter.types = this.workers.get(waiter.workerId)?.profile.types ?? waiter.types;
    for (const type of waiter.types) this.#byType.add(type, waiter);
    this.#byWorker.add(waiter.workerId, waiter);
  }

  #remove(waiter: Waiter): void {
    for (const type of waiter.types) this.#byType.remove(type, waiter);
    this.#byWorker.remove(waiter.workerId, waiter);
  }

  #call(waiter: Waiter): void {
    // When the storage does not answer, the poll ends without a task, and the worker polls again.
    this.#serve(waiter).catch(() => waiter.answer(undefined));
  }

  /** Takes a task for a poll, when there is one. */
  async #serve(waiter: Waiter): Promise<void> {
    waiter.isAsking = true;
    try {
      for (let epoch = -1; epoch !== this.#epoch && !waiter.isOver;) {
        const worker = this.workers.get(waiter.workerId);
        if (worker === undefined) return;
        epoch = this.#epoch;
        const task = await this.storage.take(worker.profile, this.clock.now());
        if (task === undefined) continue;
        this.onTaken(task);
        if (waiter.isOver || waiter.signal?.aborted) return await this.returned(task);
        this.#lastTurns.set(waiter.workerId, ++this.#turn);
        return waiter.answer(task);
      }
    } finally {
      waiter.isAsking = false;
    }
  }

  #choose(task: TaskRecord): Waiter | undefined {
    let best: Waiter | undefined;
    let bestIsHot = false;
    let bestCost = Infinity;
    let ties = 1;
    // A thousand polls may wait: nothing is made for each of them.
    for (const waiter of this.#byType.get(task.type) ?? []) {
      if (waiter.isAsking) continue;
      const worker = this.workers.get(waiter.workerId);
      if (worker === undefined || !fits(task, worker.profile)) continue;
      const isHot = task.strategy === "default" && worker.info.hotCache.includes(task.type);
      const cost = this.#cost(task, worker);
      if (best === undefined || (isHot === bestIsHot ? cost < bestCost : isHot)) {
        best = waiter;
        bestIsHot = isHot;
        bestCost = cost;
        ties = 1;
      } // Among equals every one has the same chance.
      else if (isHot === bestIsHot && cost === bestCost && Math.random() * ++ties < 1) best = waiter;
    }
    return best;
  }

  // By the task's strategy; lower is better.
  #cost(task: TaskRecord, { id, info, profile }: LiveWorker): number {
    switch (task.strategy) {
      case "round_robin":
        return this.#lastTurns.get(id) ?? 0;
      case "least_connections":
        return info.load;
      case "cheapest":
        return profile.cost ?? Infinity;
      case "best_value": {
        const reputation = this.workers.reputation(id);
        return reputation > 0 ? (profile.cost ?? Infinity) / reputation : Infinity;
      }
      default:
        return info.oldCost ?? profile.cost ?? Infinity;
    }
  }
}
