/**
 * An index of open tasks in memory for the storages of a single engine: tasks by type in their order, who holds what, and moments that
 * come due. Nothing here is durable; the SQLite storage fills it from its tables.
 *
 * @module
 */
import {
  fits,
  type HeldTask,
  type QueueDepth,
  type Task,
  taskDueAt,
  type TaskRecord,
  type WorkerProfile,
} from "../model/store.ts";

const BUCKET_MS = 256;

/** Ids with a moment each, asked for by "which are due?". Adding and removing cost the same however many there are. */
export class DueSet {
  #at = new Map<string, number>();
  #buckets = new Map<number, Set<string>>();

  /** Sets the moment of an id; Infinity removes it. */
  set(id: string, at: number): void {
    this.delete(id);
    if (at === Infinity) return;
    this.#at.set(id, at);
    const key = Math.floor(at / BUCKET_MS);
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) this.#buckets.set(key, new Set([id]));
    else bucket.add(id);
  }

  delete(id: string): void {
    const at = this.#at.get(id);
    if (at === undefined) return;
    this.#at.delete(id);
    const key = Math.floor(at / BUCKET_MS);
    const bucket = this.#buckets.get(key);
    bucket?.delete(id);
    if (bucket?.size === 0) this.#buckets.delete(key);
  }

  /** Up to `limit` ids booked for `now` or earlier, the earliest first. */
  due(now: number, limit: number): string[] {
    const last = Math.floor(now / BUCKET_MS);
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

  oldest(): number | undefined {
    let oldest = Infinity;
    for (const { task } of this.#entries.slice(this.#head)) oldest = Math.min(oldest, task.since);
    return oldest === Infinity ? undefined : oldest;
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
  #byJob = new Map<string, string[]>();
  #queues = new Map<string, TypeQueue>();
  #held = new Map<string, Set<string>>();
  #due = new DueSet();
  #seq = 0;

  /** Adds a task, queued or held. */
  add(task: Task): void {
    const entry = { task, seq: ++this.#seq };
    this.#entries.set(task.id, entry);
    const siblings = this.#byJob.get(task.jobId);
    if (siblings === undefined) this.#byJob.set(task.jobId, [task.id]);
    else siblings.push(task.id);
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
    const siblings = this.#byJob.get(entry.task.jobId) ?? [];
    if (siblings.length <= 1) this.#byJob.delete(entry.task.jobId);
    else siblings.splice(siblings.indexOf(id), 1);
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
    return (this.#byJob.get(jobId) ?? []).flatMap((id) => this.get(id) ?? []);
  }

  heldBy(workerId: string): HeldTask[] {
    return [...this.#held.get(workerId) ?? []].flatMap((id) => {
      const task = this.get(id);
      return task?.workerId === undefined ? [] : [task];
    });
  }

  due(now: number, limit: number): Task[] {
    return this.#due.due(now, limit).flatMap((id) => this.get(id) ?? []);
  }

  depths(): QueueDepth[] {
    const depths = new Map<string, QueueDepth>();
    const depth = (type: string) => {
      const known = depths.get(type) ?? { type, queued: 0, held: 0 };
      depths.set(type, known);
      return known;
    };
    for (const [type, lane] of this.#queues) {
      if (lane.size === 0) continue;
      Object.assign(depth(type), { queued: lane.size, oldestSince: lane.oldest() });
    }
    for (const ids of this.#held.values()) {
      for (const id of ids) depth(this.get(id)?.type ?? "").held++;
    }
    return [...depths.values()];
  }

  #insert(entry: Entry): void {
    const { task } = entry;
    if (task.workerId === undefined) {
      let lane = this.#queues.get(task.type);
      if (lane === undefined) this.#queues.set(task.type, lane = new TypeQueue());
      lane.add(entry);
    } else {
      const held = this.#held.get(task.workerId);
      if (held === undefined) this.#held.set(task.workerId, new Set([task.id]));
      else held.add(task.id);
    }
    this.#due.set(task.id, taskDueAt(task));
  }

  #extract({ task }: Entry): void {
    if (task.workerId === undefined) {
      const lane = this.#queues.get(task.type);
      const entry = this.#entries.get(task.id);
      if (entry !== undefined) lane?.remove(entry);
      if (lane?.size === 0) this.#queues.delete(task.type);
    } else {
      const held = this.#held.get(task.workerId);
      held?.delete(task.id);
      if (held?.size === 0) this.#held.delete(task.workerId);
    }
  }
}
