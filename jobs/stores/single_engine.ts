/**
 * What the storages of a single engine share: its open tasks and wake-ups in memory, and what a commit checks and
 * changes there. How rows are kept is up to each storage.
 *
 * @module
 */
import type { Job } from "../model/job.ts";
import type {
  CommitOutcome,
  HeldTask,
  JobWrite,
  QueueDepth,
  Task,
  TaskRecord,
  WorkerProfile,
} from "../model/store.ts";
import { DueSet, QueueIndex } from "./queue_index.ts";

/** The job that was inserted with an idempotency key. */
export interface Insertion {
  jobId: string;
  fingerprint: string;
}

/** A storage for one engine. Its rows are read and written only within a change. */
export abstract class SingleEngineStorage {
  readonly shared = false;
  protected wakes = new DueSet();
  protected index = new QueueIndex();
  /** Changes that wait to be applied. */
  protected pending: readonly unknown[] = [];
  /** Engine time as it was stored last. */
  protected storedTime = 0;

  /** Does something that is whole or undone. `durable`: resolves when it is as durable as the storage promises. */
  protected abstract change<T>(apply: () => T, durable?: boolean): Promise<T>;
  protected abstract jobOf(jobId: string): Job | undefined;
  /** 0: there is none. */
  protected abstract revisionOf(jobId: string): number;
  protected abstract insertedWith(client: string, key: string): Insertion | undefined;
  protected abstract used(client: string, month: string): number;
  /** Keeps a job's next revision, its history, and what is counted of its admission. */
  protected abstract keepJob(write: JobWrite): void;
  protected abstract endedJobs(endedBefore: number, limit: number): string[];
  protected abstract dropJob(jobId: string): void;
  protected abstract setting(key: string): string | undefined;
  protected abstract keepSetting(key: string, value: string): void;

  // What a storage without a memory of its own need not keep.
  protected keepWake(_jobId: string, _at: number): void {}
  protected keepTask(_task: TaskRecord): void {}
  protected keepHolder(_taskId: string, _workerId: string | null, _takenAt: number | null): void {}
  protected dropTask(_taskId: string): void {}

  time(mine: number): Promise<number> {
    if (mine <= this.storedTime) return Promise.resolve(this.storedTime);
    this.storedTime = mine;
    return this.change(() => {
      this.keepSetting("time", String(mine));
      return mine;
    }, false);
  }

  commit(writes: readonly JobWrite[]): Promise<CommitOutcome> {
    return this.change((): CommitOutcome => {
      for (const write of writes) {
        const refusal = this.#refusal(write);
        if (refusal !== undefined) return refusal;
      }
      for (const write of writes) this.#apply(write);
      return { kind: "done" };
    });
  }

  #refusal({ job, settle, admission }: JobWrite): CommitOutcome | undefined {
    const { idempotency, quota } = admission ?? {};
    if (idempotency !== undefined) {
      const first = this.insertedWith(job.client, idempotency.key);
      if (first !== undefined) return { kind: "duplicate", ...first };
    }
    if (quota !== undefined && this.used(job.client, quota.month) >= quota.limit) {
      return { kind: "over-quota" };
    }
    if (this.revisionOf(job.id) !== job.revision - 1) return { kind: "conflict" };
    for (const { taskId, workerId } of settle ?? []) {
      if (this.index.get(taskId)?.workerId !== workerId) return { kind: "conflict" };
    }
  }

  #apply(write: JobWrite): void {
    this.keepJob(write);
    this.wakes.set(write.job.id, write.wakeAt ?? Infinity);
    for (const { taskId } of write.settle ?? []) this.#removeTask(taskId);
    for (const taskId of write.withdraw ?? []) this.#removeTask(taskId);
    for (const task of write.enqueue ?? []) {
      this.keepTask(task);
      this.index.add(task);
    }
  }

  #removeTask(taskId: string): void {
    if (this.index.get(taskId) === undefined) return;
    this.dropTask(taskId);
    this.index.remove(taskId);
  }

  read(jobId: string): Promise<{ job: Job; tasks: Task[] } | undefined> {
    const job = this.jobOf(jobId);
    return Promise.resolve(job && { job, tasks: this.index.ofJob(jobId) });
  }

  claim(now: number, leaseUntil: number, limit: number): Promise<Job[]> {
    if (this.wakes.due(now, 1).length === 0) return Promise.resolve([]);
    return this.change(() =>
      this.wakes.due(now, limit).flatMap((id) => {
        this.#wake(id, leaseUntil);
        return this.jobOf(id) ?? [];
      }), false);
  }

  lease(jobId: string, revision: number, until: number): Promise<boolean> {
    return this.change(() => {
      if (this.revisionOf(jobId) !== revision) return false;
      this.#wake(jobId, until);
      return true;
    }, false);
  }

  #wake(jobId: string, at: number): void {
    this.keepWake(jobId, at);
    this.wakes.set(jobId, at);
  }

  take(profile: WorkerProfile, now: number): Promise<HeldTask | undefined> {
    // A poll that finds nothing costs no transaction.
    if (this.pending.length === 0 && this.index.first(profile) === undefined) {
      return Promise.resolve(undefined);
    }
    return this.change(() => {
      const task = this.index.first(profile);
      if (task === undefined) return undefined;
      this.keepHolder(task.id, profile.workerId, now);
      return this.index.hold(task.id, profile.workerId, now);
    }, false);
  }

  giveBack(taskId: string, workerId: string): Promise<void> {
    return this.change(() => {
      if (this.index.release(taskId, workerId)) this.keepHolder(taskId, null, null);
    }, false);
  }

  dueTasks(now: number, limit: number): Promise<Task[]> {
    return Promise.resolve(this.index.due(now, limit));
  }

  heldBy(workerId: string): Promise<HeldTask[]> {
    return Promise.resolve(this.index.heldBy(workerId));
  }

  queues(): Promise<QueueDepth[]> {
    return Promise.resolve(this.index.depths());
  }

  get(key: string): Promise<string | undefined> {
    return Promise.resolve(this.setting(`value:${key}`));
  }

  set(key: string, value: string): Promise<void> {
    return this.change(() => this.keepSetting(`value:${key}`, value));
  }

  prune(endedBefore: number, limit: number): Promise<number> {
    return this.change(() => {
      const ids = this.endedJobs(endedBefore, limit);
      for (const id of ids) {
        this.dropJob(id);
        this.wakes.delete(id);
      }
      return ids.length;
    }, false);
  }

  /** Nobody else changes anything. */
  subscribe(): () => void {
    return () => {};
  }
}
