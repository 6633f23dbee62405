/**
 * A storage in one SQLite file, for one engine: nothing to install, and everything survives the engine's death.
 *
 * Many requests share one transaction: changes wait until the event loop has delivered what arrived, then all are
 * applied together. The database runs in WAL mode with `synchronous=NORMAL`, in which a commit is only written, so it
 * survives kill -9 of the process; on top of that `commit` resolves only when the WAL was flushed to the disk
 * (`fdatasync`, on another thread, one for all commits that wait), so an accepted job survives power loss too. Only
 * assignments of tasks do not wait for the disk: after power loss such a task is simply assigned again.
 *
 * @module
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { setImmediate } from "node:timers";
import { DueSet, QueueIndex } from "./queue_index.ts";
import { ConfigError } from "../model/errors.ts";
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
  TaskRecord,
  WorkerProfile,
  WorkerRecord,
} from "../model/store.ts";
import type { HistoryEvent } from "../model/wire.ts";

// Rows that belong together have neighbouring keys (ids begin with the time), so a transaction touches few pages.
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL, client TEXT NOT NULL,
    status TEXT NOT NULL, blueprint TEXT NOT NULL, state TEXT NOT NULL, listed INTEGER NOT NULL,
    wake_at REAL, ended_at REAL, error TEXT, body TEXT NOT NULL);
  CREATE INDEX IF NOT EXISTS jobs_by_client ON jobs (client);
  CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (client, status);
  CREATE INDEX IF NOT EXISTS jobs_by_wake ON jobs (wake_at) WHERE wake_at IS NOT NULL;
  CREATE INDEX IF NOT EXISTS jobs_listed ON jobs (client) WHERE listed = 1;
  CREATE TABLE IF NOT EXISTS history (
    job_id TEXT NOT NULL, revision INTEGER NOT NULL, events TEXT NOT NULL,
    PRIMARY KEY (job_id, revision)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY, worker_id TEXT, taken_at REAL, record TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS idempotency (
    client TEXT NOT NULL, key TEXT NOT NULL, job_id TEXT NOT NULL, fingerprint TEXT NOT NULL,
    PRIMARY KEY (client, key)) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS idempotency_by_job ON idempotency (job_id);
  CREATE TABLE IF NOT EXISTS quotas (
    client TEXT NOT NULL, month TEXT NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (client, month)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS workers (
    id TEXT PRIMARY KEY, expires_at REAL NOT NULL, seen_at REAL NOT NULL, registered_at REAL NOT NULL,
    info TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS tallies (
    worker_id TEXT NOT NULL, day INTEGER NOT NULL, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
    PRIMARY KEY (worker_id, day)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`;
const SCHEMA_VERSION = 1;
/** An assignment this much older than the last stored time has reached its worker. */
const SURELY_SENT_MS = 1_000;

interface PendingWrite {
  apply(): void;
  /** Called when the transaction has been committed and, if it asked for that, is on the disk. */
  done(): void;
  failed(error: unknown): void;
  durable: boolean;
}

/** Keeps jobs in an SQLite file, which it holds for itself. */
export class SqliteStorage implements Storage {
  readonly label: string;
  readonly shared = false;
  #db: DatabaseSync;
  #sql: ReturnType<typeof prepare>;
  #wal: Deno.FsFile | undefined;
  #wakes = new DueSet();
  #index = new QueueIndex();
  /** Row numbers of the tasks: one index less to write. */
  #rows = new Map<string, number | bigint>();
  #time = 0;
  #queue: PendingWrite[] = [];
  #isScheduled = false;
  #unsynced: PendingWrite[] = [];
  #syncing: Promise<void> | undefined;
  #closed = false;

  /**
   * Opens or makes the file.
   *
   * @param path `:memory:` for a database without a file.
   * @throws ConfigError when it cannot be used: another engine has it, it is no database, or of a newer version.
   */
  constructor(path: string) {
    this.label = `sqlite:${path}`;
    this.#db = openDatabase(path);
    this.#sql = prepare(this.#db);
    this.#undoLastAssignments();
    this.#load();
    if (path !== ":memory:") this.#wal = Deno.openSync(`${path}-wal`, { read: true, write: true });
  }

  // An engine that was killed may have assigned tasks whose answers never left it; nobody knows, so they are queued again.
  #undoLastAssignments(): void {
    if (this.#sql.getSetting.get("closed") !== undefined) {
      this.#sql.deleteSetting.run("closed");
      return;
    }
    const lastStoredAt = Number(this.#sql.getSetting.get("time")?.value ?? 0);
    this.#sql.releaseSince.run(lastStoredAt - SURELY_SENT_MS);
  }

  #load(): void {
    this.#wakes = new DueSet();
    this.#index = new QueueIndex();
    this.#rows = new Map();
    for (const row of this.#db.prepare("SELECT id, wake_at FROM jobs WHERE wake_at IS NOT NULL").all()) {
      this.#wakes.set(String(row.id), Number(row.wake_at));
    }
    for (
      const row of this.#db.prepare("SELECT seq, worker_id, taken_at, record FROM tasks ORDER BY seq").all()
    ) {
      const record: TaskRecord = JSON.parse(String(row.record));
      this.#rows.set(record.id, Number(row.seq));
      this.#index.add(
        row.worker_id === null
          ? record
          : { ...record, workerId: String(row.worker_id), takenAt: Number(row.taken_at) },
      );
    }
    this.#time = Number(this.#sql.getSetting.get("time")?.value ?? 0);
  }

  // Puts a change into the next transaction.
  #change<T>(apply: () => T, durable = true): Promise<T> {
    if (this.#closed) return Promise.reject(new Error("The storage is closed."));
    return new Promise<T>((resolve, reject) => {
      let result: T;
      this.#queue.push({
        apply: () => void (result = apply()),
        done: () => resolve(result),
        failed: reject,
        durable,
      });
      // While the disk is busy with the last changes, those that will wait for it gather; the others need not.
      if (this.#syncing === undefined || !durable) this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#isScheduled = false;
    const changes = this.#queue;
    this.#queue = [];
    if (changes.length === 0) return;
    try {
      this.#sql.begin.run();
      for (const change of changes) change.apply();
      this.#sql.commit.run();
    } catch (error) {
      // All or nothing: no caller was answered yet. The queues in memory follow what the tables say.
      if (this.#db.isTransaction) this.#sql.rollback.run();
      this.#load();
      for (const change of changes) change.failed(error);
      return;
    }
    const durable = this.#wal === undefined ? [] : changes.filter((change) => change.durable);
    for (const change of changes) if (this.#wal === undefined || !change.durable) change.done();
    this.#unsynced.push(...durable);
    if (this.#unsynced.length > 0) this.#syncing ??= this.#sync();
  }

  async #sync(): Promise<void> {
    const changes = this.#unsynced;
    this.#unsynced = [];
    let fault: { error: unknown } | undefined;
    try {
      await this.#wal?.syncData();
    } catch (error) {
      fault = { error };
    }
    for (const change of changes) {
      if (fault === undefined) change.done();
      else change.failed(fault.error);
    }
    this.#syncing = this.#unsynced.length > 0 ? this.#sync() : undefined;
    if (this.#queue.length > 0) this.#schedule();
  }

  time(mine: number): Promise<number> {
    if (mine <= this.#time) return Promise.resolve(this.#time);
    this.#time = mine;
    return this.#change(() => {
      this.#sql.setSetting.run("time", String(mine));
      return mine;
    }, false);
  }

  commit(writes: readonly JobWrite[]): Promise<CommitOutcome> {
    return this.#change(() => {
      for (const write of writes) {
        const refusal = this.#refusal(write);
        if (refusal !== undefined) return refusal;
      }
      for (const write of writes) this.#apply(write);
      return DONE;
    });
  }

  #refusal({ job, settle, admission }: JobWrite): CommitOutcome | undefined {
    if (admission?.idempotency !== undefined) {
      const row = this.#sql.getKey.get(job.client, admission.idempotency.key);
      if (row !== undefined) {
        return { kind: "duplicate", jobId: String(row.job_id), fingerprint: String(row.fingerprint) };
      }
    }
    if (admission?.quota !== undefined) {
      const row = this.#sql.getUsage.get(job.client, admission.quota.month);
      if (Number(row?.used ?? 0) >= admission.quota.limit) return { kind: "over-quota" };
    }
    if ((this.#sql.getRevision.get(job.id)?.revision ?? 0) !== job.revision - 1) return CONFLICT;
    for (const { taskId, workerId } of settle ?? []) {
      if (this.#index.get(taskId)?.workerId !== workerId) return CONFLICT;
    }
  }

  #apply({ job, wakeAt, enqueue, settle, withdraw, history, admission }: JobWrite): void {
    const body = JSON.stringify(job);
    const endedAt = hasEnded(job) ? job.endedAt : null;
    const listed = job.listed ? 1 : 0;
    if (job.revision === 1) {
      this.#sql.insertJob.run(
        job.id,
        job.client,
        job.status,
        job.blueprint,
        job.state,
        listed,
        wakeAt,
        endedAt,
        job.error ?? null,
        body,
      );
    } else {
      this.#sql.updateJob.run(
        job.revision,
        job.status,
        job.state,
        listed,
        wakeAt,
        endedAt,
        job.error ?? null,
        body,
        job.id,
      );
    }
    if (history !== undefined && history.length > 0) {
      this.#sql.insertHistory.run(job.id, job.revision, JSON.stringify(history));
    }
    if (admission?.idempotency !== undefined) {
      const { key, fingerprint } = admission.idempotency;
      this.#sql.insertKey.run(job.client, key, job.id, fingerprint);
    }
    if (admission?.quota !== undefined) this.#sql.countUsage.run(job.client, admission.quota.month);
    this.#wakes.set(job.id, wakeAt ?? Infinity);
    for (const { taskId } of settle ?? []) this.#removeTask(taskId);
    for (const taskId of withdraw ?? []) this.#removeTask(taskId);
    for (const task of enqueue ?? []) {
      this.#rows.set(task.id, this.#sql.insertTask.run(JSON.stringify(task)).lastInsertRowid);
      this.#index.add(task);
    }
  }

  #removeTask(id: string): void {
    const seq = this.#rows.get(id);
    if (seq === undefined) return;
    this.#sql.deleteTask.run(seq);
    this.#rows.delete(id);
    this.#index.remove(id);
  }

  #holdTask(id: string, workerId: string | null, takenAt: number | null): void {
    this.#sql.holdTask.run(workerId, takenAt, this.#rows.get(id) ?? null);
  }

  read(jobId: string): Promise<{ job: Job; tasks: Task[] } | undefined> {
    const row = this.#sql.getJob.get(jobId);
    if (row === undefined) return Promise.resolve(undefined);
    return Promise.resolve({ job: readBody(row), tasks: this.#index.ofJob(jobId) });
  }

  claim(now: number, leaseUntil: number, limit: number): Promise<Job[]> {
    if (this.#wakes.due(now, 1).length === 0) return Promise.resolve([]);
    return this.#change(() =>
      this.#wakes.due(now, limit).flatMap((id) => {
        const row = this.#sql.getJob.get(id);
        this.#wake(id, leaseUntil);
        return row === undefined ? [] : [readBody(row)];
      }), false);
  }

  lease(jobId: string, revision: number, until: number): Promise<boolean> {
    return this.#change(() => {
      if (this.#sql.getRevision.get(jobId)?.revision !== revision) return false;
      this.#wake(jobId, until);
      return true;
    }, false);
  }

  #wake(jobId: string, at: number): void {
    this.#sql.setWake.run(at, jobId);
    this.#wakes.set(jobId, at);
  }

  take(profile: WorkerProfile, now: number): Promise<HeldTask | undefined> {
    if (this.#queue.length === 0 && this.#index.first(profile) === undefined) {
      return Promise.resolve(undefined);
    }
    return this.#change(() => {
      const task = this.#index.first(profile);
      if (task === undefined) return undefined;
      this.#holdTask(task.id, profile.workerId, now);
      return this.#index.hold(task.id, profile.workerId, now);
    }, false);
  }

  giveBack(taskId: string, workerId: string): Promise<void> {
    return this.#change(() => {
      if (this.#index.release(taskId, workerId)) this.#holdTask(taskId, null, null);
    }, false);
  }

  dueTasks(now: number, limit: number): Promise<Task[]> {
    return Promise.resolve(this.#index.due(now, limit));
  }

  heldBy(workerId: string): Promise<HeldTask[]> {
    return Promise.resolve(this.#index.heldBy(workerId));
  }

  putWorker({ id, expiresAt, seenAt, registeredAt, info }: WorkerRecord): Promise<void> {
    return this.#change(() => void this.#sql.putWorker.run(id, expiresAt, seenAt, registeredAt, info), false);
  }

  workers(): Promise<WorkerRecord[]> {
    return Promise.resolve(
      this.#sql.getWorkers.all().map((row) => ({
        id: String(row.id),
        expiresAt: Number(row.expires_at),
        seenAt: Number(row.seen_at),
        registeredAt: Number(row.registered_at),
        info: String(row.info),
      })),
    );
  }

  dropWorker(id: string, expiresAt: number): Promise<boolean> {
    return this.#change(() => this.#sql.dropWorker.run(id, expiresAt).changes === 1, false);
  }

  list({ client, status, blueprint, listed, search, limit, offset }: JobQuery): Promise<Job[]> {
    const where: string[] = [];
    const values: (string | number)[] = [];
    const narrow = (condition: string, ...value: (string | number)[]) => {
      where.push(condition);
      values.push(...value);
    };
    if (client !== undefined) narrow("client = ?", client);
    if (status !== undefined) narrow("status = ?", status);
    if (blueprint !== undefined) narrow("blueprint = ?", blueprint);
    if (listed) narrow("listed = 1");
    if (search !== undefined) {
      narrow(
        `instr(lower(id || char(10) || blueprint || char(10) || state || char(10) || coalesce(error, '')), ?) > 0`,
        search.toLowerCase(),
      );
    }
    const condition = where.length > 0 ? `WHERE ${where.join(" AND ")}` : "";
    // Named, because its order is the one asked for: the planner would rather sort a client's jobs than follow it.
    const index = client === undefined || listed
      ? ""
      : `INDEXED BY jobs_by_${status === undefined ? "client" : "status"}`;
    const query = this.#db.prepare(
      `SELECT body FROM jobs ${index} ${condition} ORDER BY seq DESC LIMIT ? OFFSET ?`,
    );
    return Promise.resolve(query.all(...values, limit, offset).map(readBody));
  }

  counts(client?: string): Promise<Partial<Record<Status, number>>> {
    const rows = client === undefined ? this.#sql.countAll.all() : this.#sql.countClient.all(client);
    return Promise.resolve(Object.fromEntries(rows.map((row) => [String(row.status), Number(row.count)])));
  }

  queues(): Promise<QueueDepth[]> {
    return Promise.resolve(this.#index.depths());
  }

  history(jobId: string): Promise<HistoryEvent[]> {
    const rows = this.#sql.getHistory.all(jobId);
    return Promise.resolve(rows.flatMap((row): HistoryEvent[] => JSON.parse(String(row.events))));
  }

  usage(client: string, month: string): Promise<number> {
    return Promise.resolve(Number(this.#sql.getUsage.get(client, month)?.used ?? 0));
  }

  addTallies(tallies: readonly Tally[]): Promise<void> {
    return this.#change(() => {
      for (const { workerId, day, succeeded, failed } of tallies) {
        this.#sql.addTally.run(workerId, day, succeeded, failed);
      }
    }, false);
  }

  tallies(sinceDay: number): Promise<Tally[]> {
    return Promise.resolve(
      this.#sql.sumTallies.all(sinceDay).map((row) => ({
        workerId: String(row.worker_id),
        day: sinceDay,
        succeeded: Number(row.succeeded),
        failed: Number(row.failed),
      })),
    );
  }

  get(key: string): Promise<string | undefined> {
    const value = this.#sql.getSetting.get(`value:${key}`)?.value;
    return Promise.resolve(value === undefined ? undefined : String(value));
  }

  set(key: string, value: string): Promise<void> {
    return this.#change(() => void this.#sql.setSetting.run(`value:${key}`, value));
  }

  prune(endedBefore: number, limit: number): Promise<number> {
    return this.#change(() => {
      const rows = this.#sql.oldJobs.all(endedBefore, limit);
      for (const id of rows.map((row) => String(row.id))) {
        this.#sql.deleteHistory.run(id);
        this.#sql.deleteKeys.run(id);
        this.#sql.deleteJob.run(id);
        this.#wakes.delete(id);
      }
      return rows.length;
    }, false);
  }

  subscribe(): () => void {
    return () => {};
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#flush();
    while (this.#syncing !== undefined) await this.#syncing;
    this.#sql.setSetting.run("closed", "1");
    this.#wal?.close();
    this.#db.close();
  }
}

const DONE: CommitOutcome = { kind: "done" };
const CONFLICT: CommitOutcome = { kind: "conflict" };

function readBody(row: Record<string, unknown>): Job {
  return JSON.parse(String(row.body));
}

function openDatabase(path: string): DatabaseSync {
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path);
    // Exclusive: the kernel drops the lock with the process, however it dies. The write makes the WAL file exist.
    db.exec("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;");
    db.exec("PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-32768;");
    const version = Number(db.prepare("PRAGMA user_version").get()?.user_version);
    if (version > SCHEMA_VERSION) {
      throw new ConfigError(
        `Cannot use ${path}: it was written by a newer version; use that one, or another file.`,
      );
    }
    db.exec(`BEGIN IMMEDIATE; ${SCHEMA} PRAGMA user_version=${SCHEMA_VERSION}; COMMIT`);
    return db;
  } catch (error) {
    db?.close();
    if (error instanceof ConfigError || !(error instanceof Error)) throw error;
    throw new ConfigError(`Cannot open ${path}: ${openingFault(error.message)}`);
  }
}

function openingFault(message: string): string {
  if (message.includes("locked")) return "another engine is using it; stop that one, or use another file.";
  if (message.includes("not a database")) return "it is not an SQLite file; name another one.";
  return `${message}; check that the folder exists and can be written to.`;
}

function prepare(db: DatabaseSync) {
  const sql = (text: string): StatementSync => db.prepare(text);
  return {
    begin: sql("BEGIN IMMEDIATE"),
    commit: sql("COMMIT"),
    rollback: sql("ROLLBACK"),
    insertJob: sql(
      `INSERT INTO jobs (id, revision, client, status, blueprint, state, listed, wake_at, ended_at, error, body)
       VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    updateJob: sql(
      `UPDATE jobs SET revision = ?, status = ?, state = ?, listed = ?, wake_at = ?, ended_at = ?, error = ?, body = ? WHERE id = ?`,
    ),
    getJob: sql("SELECT body FROM jobs WHERE id = ?"),
    getRevision: sql("SELECT revision FROM jobs WHERE id = ?"),
    setWake: sql("UPDATE jobs SET wake_at = ? WHERE id = ?"),
    deleteJob: sql("DELETE FROM jobs WHERE id = ?"),
    oldJobs: sql("SELECT id FROM jobs WHERE ended_at < ? ORDER BY seq LIMIT ?"),
    countClient: sql("SELECT status, count(*) AS count FROM jobs WHERE client = ? GROUP BY status"),
    countAll: sql("SELECT status, count(*) AS count FROM jobs GROUP BY status"),
    insertHistory: sql("INSERT INTO history (job_id, revision, events) VALUES (?, ?, ?)"),
    getHistory: sql("SELECT events FROM history WHERE job_id = ? ORDER BY revision"),
    deleteHistory: sql("DELETE FROM history WHERE job_id = ?"),
    insertTask: sql("INSERT INTO tasks (record) VALUES (?)"),
    holdTask: sql("UPDATE tasks SET worker_id = ?, taken_at = ? WHERE seq = ?"),
    deleteTask: sql("DELETE FROM tasks WHERE seq = ?"),
    getKey: sql("SELECT job_id, fingerprint FROM idempotency WHERE client = ? AND key = ?"),
    insertKey: sql("INSERT INTO idempotency (client, key, job_id, fingerprint) VALUES (?, ?, ?, ?)"),
    deleteKeys: sql("DELETE FROM idempotency WHERE job_id = ?"),
    getUsage: sql("SELECT used FROM quotas WHERE client = ? AND month = ?"),
    countUsage: sql(
      `INSERT INTO quotas (client, month, used) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET used = used + 1`,
    ),
    putWorker: sql(
      "INSERT OR REPLACE INTO workers (id, expires_at, seen_at, registered_at, info) VALUES (?, ?, ?, ?, ?)",
    ),
    getWorkers: sql("SELECT * FROM workers"),
    dropWorker: sql("DELETE FROM workers WHERE id = ? AND expires_at = ?"),
    addTally: sql(
      `INSERT INTO tallies (worker_id, day, succeeded, failed) VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed`,
    ),
    sumTallies: sql(
      `SELECT worker_id, sum(succeeded) AS succeeded, sum(failed) AS failed FROM tallies WHERE day >= ? GROUP BY worker_id`,
    ),
    getSetting: sql("SELECT value FROM settings WHERE key = ?"),
    deleteSetting: sql("DELETE FROM settings WHERE key = ?"),
    releaseSince: sql("UPDATE tasks SET worker_id = NULL, taken_at = NULL WHERE taken_at >= ?"),
    setSetting: sql("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)"),
  };
}
