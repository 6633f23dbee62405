/**
 * A storage in memory: for tests and trials. Everything is gone when the process ends.
 *
 * @module
 */
import { DueSet, QueueIndex } from "./queue_index.ts";
import type { Job, Status } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import type {
  CommitOutcome,
  HeldTask,
  JobQuery,
  JobWrite,
  QueueDepth,
  Storage,
  Tally,
  Task,
  WorkerProfile,
  WorkerRecord,
} from "../model/store.ts";
import type { HistoryEvent } from "../model/wire.ts";

// Ended jobs and their history are kept as JSON: 100,000 of them cost their text and little more. An open job stays the
// value that was committed, which nobody changes; a reader gets one of its own, as from any other storage.
interface Row {
  revision: number;
  client: string;
  status: Status;
  endedAt: number | undefined;
  idempotencyKey: string | undefined;
  /** What a search looks into. */
  words: string;
  job: Job | string;
  history: HistoryEvent[] | string;
}

function jobOf({ job }: Row): Job {
  return JSON.parse(typeof job === "string" ? job : JSON.stringify(job));
}

function historyOf({ history }: Row): HistoryEvent[] {
  return JSON.parse(typeof history === "string" ? history : JSON.stringify(history));
}

/** Keeps jobs in this process. */
export class MemoryStorage implements Storage {
  readonly label = "memory";
  readonly shared = false;
  #time = 0;
  #jobs = new Map<string, Row>();
  #wakes = new DueSet();
  #index = new QueueIndex();
  #keys = new Map<string, { jobId: string; fingerprint: string }>();
  #usage = new Map<string, number>();
  #counts = new Map<string, Map<Status, number>>();
  #workers = new Map<string, WorkerRecord>();
  #tallies = new Map<string, Tally>();
  #values = new Map<string, string>();

  time(mine: number): Promise<number> {
    this.#time = Math.max(this.#time, mine);
    return Promise.resolve(this.#time);
  }

  commit(writes: readonly JobWrite[]): Promise<CommitOutcome> {
    for (const write of writes) {
      const refusal = this.#refusal(write);
      if (refusal !== undefined) return Promise.resolve(refusal);
    }
    for (const write of writes) this.#apply(write);
    return Promise.resolve(DONE);
  }

  #refusal({ job, settle, admission }: JobWrite): CommitOutcome | undefined {
    if (admission?.idempotency !== undefined) {
      const known = this.#keys.get(`${job.client}\0${admission.idempotency.key}`);
      if (known !== undefined) return { kind: "duplicate", ...known };
    }
    if (admission?.quota !== undefined) {
      const used = this.#usage.get(`${job.client}\0${admission.quota.month}`) ?? 0;
      if (used >= admission.quota.limit) return { kind: "over-quota" };
    }
    if ((this.#jobs.get(job.id)?.revision ?? 0) !== job.revision - 1) return CONFLICT;
    for (const { taskId, workerId } of settle ?? []) {
      if (this.#index.get(taskId)?.workerId !== workerId) return CONFLICT;
    }
  }

  #apply({ job, wakeAt, enqueue, settle, withdraw, history, admission }: JobWrite): void {
    if (admission?.idempotency !== undefined) {
      const { key, fingerprint } = admission.idempotency;
      this.#keys.set(`${job.client}\0${key}`, { jobId: job.id, fingerprint });
    }
    if (admission?.quota !== undefined) {
      const key = `${job.client}\0${admission.quota.month}`;
      this.#usage.set(key, (this.#usage.get(key) ?? 0) + 1);
    }
    const endedAt = hasEnded(job) ? job.endedAt : undefined;
    let row = this.#jobs.get(job.id);
    if (row === undefined) {
      const idempotencyKey = admission?.idempotency?.key;
      const { client, status } = job;
      row = { revision: 1, client, status, endedAt, idempotencyKey, words: "", job, history: [] };
      this.#jobs.set(job.id, row);
    } else {
      this.#count(row.client, row.status, -1);
      row.revision = job.revision;
      row.status = job.status;
      row.endedAt = endedAt;
    }
    row.job = endedAt === undefined ? job : JSON.stringify(job);
    row.words = `${job.id}\n${job.blueprint}\n${job.state}\n${job.error ?? ""}`;
    this.#count(row.client, row.status, 1);
    const events = typeof row.history === "string" ? historyOf(row) : row.history;
    if (history !== undefined) events.push(...history);
    row.history = endedAt === undefined ? events : JSON.stringify(events);
    this.#wakes.set(job.id, wakeAt ?? Infinity);
    if (settle !== undefined) { for (const { taskId } of settle) this.#index.remove(taskId); }
    if (withdraw !== undefined) { for (const taskId of withdraw) this.#index.remove(taskId); }
    if (enqueue !== undefined) { for (const task of enqueue) this.#index.add(task); }
  }

  #count(client: string, status: Status, change: 1 | -1): void {
    let counts = this.#counts.get(client);
    if (counts === undefined) this.#counts.set(client, counts = new Map());
    counts.set(status, (counts.get(status) ?? 0) + change);
  }

  read(jobId: string): Promise<{ job: Job; tasks: Task[] } | undefined> {
    const row = this.#jobs.get(jobId);
    if (row === undefined) return Promise.resolve(undefined);
    return Promise.resolve({ job: jobOf(row), tasks: this.#index.ofJob(jobId) });
  }

  claim(now: number, leaseUntil: number, limit: number): Promise<Job[]> {
    const ids = this.#wakes.due(now, limit);
    for (const id of ids) this.#wakes.set(id, leaseUntil);
    return Promise.resolve(ids.flatMap((id) => {
      const row = this.#jobs.get(id);
      return row === undefined ? [] : [jobOf(row)];
    }));
  }

  lease(jobId: string, revision: number, until: number): Promise<boolean> {
    if (this.#jobs.get(jobId)?.revision !== revision) return Promise.resolve(false);
    this.#wakes.set(jobId, until);
    return Promise.resolve(true);
  }

  take(profile: WorkerProfile, now: number): Promise<HeldTask | undefined> {
    const task = this.#index.first(profile);
    return Promise.resolve(task && this.#index.hold(task.id, profile.workerId, now));
  }

  giveBack(taskId: string, workerId: string): Promise<void> {
    this.#index.release(taskId, workerId);
    return Promise.resolve();
  }

  dueTasks(now: number, limit: number): Promise<Task[]> {
    return Promise.resolve(this.#index.due(now, limit));
  }

  heldBy(workerId: string): Promise<HeldTask[]> {
    return Promise.resolve(this.#index.heldBy(workerId));
  }

  putWorker(record: WorkerRecord): Promise<void> {
    this.#workers.set(record.id, { ...record });
    return Promise.resolve();
  }

  workers(): Promise<WorkerRecord[]> {
    return Promise.resolve([...this.#workers.values()].map((record) => ({ ...record })));
  }

  dropWorker(id: string, expiresAt: number): Promise<boolean> {
    if (this.#workers.get(id)?.expiresAt !== expiresAt) return Promise.resolve(false);
    return Promise.resolve(this.#workers.delete(id));
  }

  list({ client, status, blueprint, listed, search, limit, offset }: JobQuery): Promise<Job[]> {
    const found: Job[] = [];
    let skipped = 0;
    for (const row of [...this.#jobs.values()].reverse()) {
      if (found.length === limit) break;
      if (client !== undefined && row.client !== client) continue;
      if (status !== undefined && row.status !== status) continue;
      if (search !== undefined && !row.words.toLowerCase().includes(search.toLowerCase())) continue;
      // Most rows are only counted past, which needs no look inside.
      const narrow = blueprint !== undefined || listed;
      if (!narrow && skipped++ < offset) continue;
      const job = jobOf(row);
      if (blueprint !== undefined && job.blueprint !== blueprint) continue;
      if (listed && !job.listed) continue;
      if (narrow && skipped++ < offset) continue;
      found.push(job);
    }
    return Promise.resolve(found);
  }

  counts(client?: string): Promise<Partial<Record<Status, number>>> {
    const sum: Partial<Record<Status, number>> = {};
    for (const [owner, counts] of this.#counts) {
      if (client !== undefined && owner !== client) continue;
      for (const [status, count] of counts) if (count > 0) sum[status] = (sum[status] ?? 0) + count;
    }
    return Promise.resolve(sum);
  }

  queues(): Promise<QueueDepth[]> {
    return Promise.resolve(this.#index.depths());
  }

  history(jobId: string): Promise<HistoryEvent[]> {
    const row = this.#jobs.get(jobId);
    return Promise.resolve(row === undefined ? [] : historyOf(row));
  }

  usage(client: string, month: string): Promise<number> {
    return Promise.resolve(this.#usage.get(`${client}\0${month}`) ?? 0);
  }

  addTallies(tallies: readonly Tally[]): Promise<void> {
    for (const { workerId, day, succeeded, failed } of tallies) {
      const key = `${workerId}\0${day}`;
      const known = this.#tallies.get(key) ?? { workerId, day, succeeded: 0, failed: 0 };
      this.#tallies.set(key, {
        ...known,
        succeeded: known.succeeded + succeeded,
        failed: known.failed + failed,
      });
    }
    return Promise.resolve();
  }

  tallies(sinceDay: number): Promise<Tally[]> {
    const sums = new Map<string, Tally>();
    for (const { workerId, day, succeeded, failed } of this.#tallies.values()) {
      if (day < sinceDay) continue;
      const sum = sums.get(workerId) ?? { workerId, day: sinceDay, succeeded: 0, failed: 0 };
      sum.succeeded += succeeded;
      sum.failed += failed;
      sums.set(workerId, sum);
    }
    return Promise.resolve([...sums.values()]);
  }

  get(key: string): Promise<string | undefined> {
    return Promise.resolve(this.#values.get(key));
  }

  set(key: string, value: string): Promise<void> {
    this.#values.set(key, value);
    return Promise.resolve();
  }

  prune(endedBefore: number, limit: number): Promise<number> {
    let removed = 0;
    for (const [id, row] of this.#jobs) {
      if (removed >= limit) break;
      if (row.endedAt === undefined || row.endedAt >= endedBefore) continue;
      this.#jobs.delete(id);
      this.#wakes.delete(id);
      this.#count(row.client, row.status, -1);
      if (row.idempotencyKey !== undefined) this.#keys.delete(`${row.client}\0${row.idempotencyKey}`);
      removed++;
    }
    return Promise.resolve(removed);
  }

  subscribe(): () => void {
    return () => {};
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}

const DONE: CommitOutcome = { kind: "done" };
const CONFLICT: CommitOutcome = { kind: "conflict" };
