/**
 * A storage in memory: for tests and trials. Everything is gone when the process ends.
 *
 * @module
 */
import type { Job, Status } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import type { JobQuery, JobWrite, Storage, Tally, WorkerRecord } from "../model/store.ts";
import type { HistoryEvent } from "../model/wire.ts";
import type { Insertion } from "./single_engine.ts";
import { SingleEngineStorage } from "./single_engine.ts";

// Ended jobs and their history are kept as JSON: 100,000 of them cost their text and little more. An open job stays the
// value that was committed, which nobody changes; a reader gets one of its own, as from any other storage.
interface Row extends Pick<Job, "revision" | "client" | "status" | "blueprint" | "listed"> {
  endedAt: number | undefined;
  idempotencyKey: string | undefined;
  /** What a search looks into. */
  words: string;
  job: Job | string;
  history: HistoryEvent[] | string;
}

function ownCopy<T>(value: T | string): T {
  return JSON.parse(typeof value === "string" ? value : JSON.stringify(value));
}

function addUp(sums: Map<string, Tally>, key: string, { workerId, day, succeeded, failed }: Tally): void {
  const sum = sums.getOrInsert(key, { workerId, day, succeeded: 0, failed: 0 });
  sum.succeeded += succeeded;
  sum.failed += failed;
}

/** Keeps jobs in this process. */
export class MemoryStorage extends SingleEngineStorage implements Storage {
  readonly label = "memory";
  #jobs = new Map<string, Row>();
  #keys = new Map<string, Insertion>();
  #usage = new Map<string, number>();
  #workers = new Map<string, WorkerRecord>();
  #tallies = new Map<string, Tally>();
  #settings = new Map<string, string>();

  protected change<T>(apply: () => T): Promise<T> {
    return Promise.resolve(apply());
  }

  protected jobOf(jobId: string): Job | undefined {
    const job = this.#jobs.get(jobId)?.job;
    return job === undefined ? undefined : ownCopy(job);
  }

  protected revisionOf(jobId: string): number {
    return this.#jobs.get(jobId)?.revision ?? 0;
  }

  protected insertedWith(client: string, key: string): Insertion | undefined {
    return this.#keys.get(`${client}\0${key}`);
  }

  protected used(client: string, month: string): number {
    return this.#usage.get(`${client}\0${month}`) ?? 0;
  }

  protected keepJob({ job, history = [], admission: { idempotency, quota } = {} }: JobWrite): void {
    const { id, client, blueprint } = job;
    if (idempotency !== undefined) {
      this.#keys.set(`${client}\0${idempotency.key}`, { jobId: id, fingerprint: idempotency.fingerprint });
    }
    if (quota !== undefined) this.#usage.set(`${client}\0${quota.month}`, this.used(client, quota.month) + 1);
    const known = this.#jobs.get(id);
    const before = known?.history ?? [];
    const events = typeof before === "string" ? ownCopy<HistoryEvent[]>(before) : before;
    events.push(...history);
    const endedAt = hasEnded(job) ? job.endedAt : undefined;
    this.#jobs.set(id, {
      revision: job.revision,
      client,
      status: job.status,
      blueprint,
      listed: job.listed,
      endedAt,
      idempotencyKey: known === undefined ? idempotency?.key : known.idempotencyKey,
      words: `${id}\n${blueprint}\n${job.state}\n${job.error ?? ""}`,
      job: endedAt === undefined ? job : JSON.stringify(job),
      history: endedAt === undefined ? events : JSON.stringify(events),
    });
  }

  putWorker(record: WorkerRecord): Promise<void> {
    this.#workers.set(record.id, record);
    return Promise.resolve();
  }

  workers(): Promise<WorkerRecord[]> {
    return Promise.resolve([...this.#workers.values()]);
  }

  dropWorker(id: string, expiresAt: number): Promise<boolean> {
    if (this.#workers.get(id)?.expiresAt !== expiresAt) return Promise.resolve(false);
    return Promise.resolve(this.#workers.delete(id));
  }

  list({ client, status, blueprint, listed, search, limit, offset }: JobQuery): Promise<Job[]> {
    const isWanted = (row: Row) =>
      (client === undefined || row.client === client) &&
      (status === undefined || row.status === status) &&
      (blueprint === undefined || row.blueprint === blueprint) &&
      (!listed || row.listed) &&
      (search === undefined || row.words.toLowerCase().includes(search.toLowerCase()));
    const found = [...this.#jobs.values()].reverse().values().filter(isWanted).drop(offset).take(limit);
    return Promise.resolve(found.map(({ job }) => ownCopy<Job>(job)).toArray());
  }

  counts(client?: string): Promise<Partial<Record<Status, number>>> {
    const counts: Partial<Record<Status, number>> = {};
    for (const row of this.#jobs.values()) {
      if (client === undefined || row.client === client) counts[row.status] = (counts[row.status] ?? 0) + 1;
    }
    return Promise.resolve(counts);
  }

  history(jobId: string): Promise<HistoryEvent[]> {
    return Promise.resolve(ownCopy(this.#jobs.get(jobId)?.history ?? []));
  }

  addTallies(tallies: readonly Tally[]): Promise<void> {
    for (const tally of tallies) addUp(this.#tallies, `${tally.workerId}\0${tally.day}`, tally);
    return Promise.resolve();
  }

  tallies(sinceDay: number): Promise<Tally[]> {
    const sums = new Map<string, Tally>();
    for (const tally of this.#tallies.values()) {
      if (tally.day >= sinceDay) addUp(sums, tally.workerId, { ...tally, day: sinceDay });
    }
    return Promise.resolve([...sums.values()]);
  }

  protected setting(key: string): string | undefined {
    return this.#settings.get(key);
  }

  protected keepSetting(key: string, value: string): void {
    this.#settings.set(key, value);
  }

  protected endedJobs(endedBefore: number, limit: number): string[] {
    const ended = this.#jobs.entries().filter(([, { endedAt = Infinity }]) => endedAt < endedBefore);
    return ended.take(limit).map(([id]) => id).toArray();
  }

  protected dropJob(jobId: string): void {
    const row = this.#jobs.get(jobId);
    if (row === undefined) return;
    this.#jobs.delete(jobId);
    if (row.idempotencyKey !== undefined) this.#keys.delete(`${row.client}\0${row.idempotencyKey}`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
