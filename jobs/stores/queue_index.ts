/**
 * An index of open tasks in memory for the storages of a single engine: tasks by type in their order, who holds what, and
 * moments that come due. Nothing here is durable; the SQLite storage fills it from its tables.
 *
 * @module
 */

import { Groups } from "../model/groups.ts";
import type { HeldTask, QueueDepth, Task, TaskRecord, WorkerProfile } from "../model/store.ts";
import { fits, taskDueAt } from "../model/store.ts";

/** Ids with a moment each, asked for by "which are due?". Adding and removing cost the same however many there are. */
export class DueSet {
  #at = new Map<string, number>();
  #buckets = new Groups<number, string>();

  /** Sets the moment of an id; Infinity removes it. */
  set(id: string, at: number): void {
    this.delete(id);
    if (at === Infinity) return;
    this.#at.set(id, at);
    this.#buckets.add(bucketOf(at), id);
  }

  delete(id: string): void {
    const at = this.#at.get(id);
    if (at === undefined) return;
    this.#at.delete(id);
    this.#buckets.remove(bucketOf(at), id);
  }

  /** Up to `limit` ids booked for `now` or earlier, the earliest first. */
  due(now: number, limit: number): string[] {
    const last = bucketOf(now);
    const found: [string, number][] = [];
    for (const key of [...this.#buckets.keys()].filter((key) => key <= last).sort((a, b) => a - b)) {
      for (const id of this.#buckets.get(key) ?? []) {
        const at = this.#at.get(id) ?? Infinity;
        if (at <= now) found.push([id, at]);
      }
      if (found.length >= limit) break;
    }
    return found.sort((a, b) => a[1] - b[1]).slice(0, limit).map(([id]) => id);
  }
}

function bucketOf(moment: number): number {
  return Math.floor(moment / 256);
}

interface Entry {
  task: Task;
  seq: number;
}

function before(a: Entry, b: Entry): boolean {
  if (a.task.priority !== b.task.priority) return a.task.priority > b.task.priority;
  return a.task.since !== b.task.since ? a.task.since < b.task.since : a.seq < b.seq;
}

// Queued tasks of one type, in order. Nearly all arrive at the end and leave at the front, where both cost nothing.
class TypeQueue {
  #entries: Entry[] = [];
  #head = 0;

  get size(): number {
    return this.#entries.length - this.#head;
  }

  add(entry: Entry): void {
    const index = this.#indexOf(entry);
    if (index === this.#entries.length) this.#entries.push(entry);
    else this.#entries.splice(index, 0, entry);
  }

  remove(entry: Entry): void {
    const index = this.#indexOf(entry);
    if (this.#entries[index] !== entry) return;
    if (index !== this.#head) {
      this.#entries.splice(index, 1);
      return;
    }
    this.#head++;
    if (this.#head >= 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  first(profile: WorkerProfile): Entry | undefined {
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index];
      if (entry !== undefined && fits(entry.task, profile)) return entry;
    }
  }

  // First position whose entry does not come before this one.
  #indexOf(entry: Entry): number {
    let low = this.#head;
    let high = this.#entries.length;
    const last = this.#entries.at(-1);
    if (high > low && last !== undefined && before(last, entry)) return high;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#entries[middle];
      if (other !== undefined && before(other, entry)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** All open tasks of a storage: queued ones by type in their order, held ones by worker, all by job and by due time. */
export class QueueIndex {
  #entries = new Map<string, Entry>();
  #byJob = new Groups<string, string>();
  #queues = new Map<string, TypeQueue>();
  #held = new Groups<string, string>();
  #due = new DueSet();
  #seq = 0;

  /** Adds a task, queued or held. */
  add(task: Task): void {
    const entry = { task, seq: ++this.#seq };
    this.#entries.set(task.id, entry);
    this.#byJob.add(task.jobId, task.id);
    this.#insert(entry);
  }

  get(id: string): Task | undefined {
    return this.#entries.get(id)?.task;
  }

  remove(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#extract(entry);
    this.#due.delete(id);
    this.#entries.delete(id);
    this.#byJob.remove(entry.task.jobId, id);
  }

  /** The first queued task that the asking worker fits. */
  first(profile: WorkerProfile): TaskRecord | undefined {
    let best: Entry | undefined;
    for (const type of profile.types) {
      const found = this.#queues.get(type)?.first(profile);
      if (found !== undefined && (best === undefined || before(found, best))) best = found;
    }
    return best?.task;
  }

  /** Assigns a queued task to a worker. */
  hold(id: string, workerId: string, takenAt: number): HeldTask | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#extract(entry);
    const held = { ...entry.task, workerId, takenAt };
    entry.task = held;
    this.#insert(entry);
    return held;
  }

  /** Puts a held task back to its place in the queue. */
  release(id: string, workerId: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.task.workerId !== workerId) return false;
    this.#extract(entry);
    entry.task = { ...entry.task, workerId: undefined, takenAt: undefined };
    this.#insert(entry);
    return true;
  }

  ofJob(jobId: string): Task[] {
    return this.#tasks(this.#byJob.get(jobId) ?? []);
  }

  heldBy(workerId: string): HeldTask[] {
    return this.#tasks(this.#held.get(workerId) ?? []).filter((task) => task.workerId !== undefined);
  }

  due(now: number, limit: number): Task[] {
    return this.#tasks(this.#due.due(now, limit));
  }

  #tasks(ids: Iterable<string>): Task[] {
    return Array.from(ids).flatMap((id) => this.get(id) ?? []);
  }

  depths(): QueueDepth[] {
    const depths = new Map<string, QueueDepth>();
    for (const { task: { type, workerId, since } } of this.#entries.values()) {
      const depth = depths.getOrInsertComputed(type, () => ({ type, queued: 0, held: 0 }));
      if (workerId !== undefined) {
        depth.held++;
      } else {
        depth.queued++;
        depth.oldestSince = Math.min(since, depth.oldestSince ?? since);
      }
    }
    return [...depths.values()];
  }

  #insert(entry: Entry): void {
    const { task } = entry;
    this.#due.set(task.id, taskDueAt(task));
    if (task.workerId !== undefined) return this.#held.add(task.workerId, task.id);
    this.#queues.getOrInsertComputed(task.type, () => new TypeQueue()).add(entry);
  }

  #extract(entry: Entry): void {
    const { task } = entry;
    if (task.workerId !== undefined) return this.#held.remove(task.workerId, task.id);
    const queue = this.#queues.get(task.type);
    queue?.remove(entry);
    if (queue?.size === 0) this.#queues.delete(task.type);
  }
}
