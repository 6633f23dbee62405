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
import { ConfigError } from "../model/errors.ts";
import type { Job, Status } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import type { JobQuery, JobWrite, Storage, Tally, TaskRecord, WorkerRecord } from "../model/store.ts";
import type { HistoryEvent } from "../model/wire.ts";
import { DueSet, QueueIndex } from "./queue_index.ts";
import type { Insertion } from "./single_engine.ts";
import { SingleEngineStorage } from "./single_engine.ts";

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
/** What a search looks into. */
const WORDS = "id || char(10) || blueprint || char(10) || state || char(10) || coalesce(error, '')";

const STATEMENTS = {
  begin: "BEGIN IMMEDIATE",
  commit: "COMMIT",
  rollback: "ROLLBACK",
  putJob: `
    INSERT INTO jobs (id, revision, client, status, blueprint, state, listed, wake_at, ended_at, error, body)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    revision = excluded.revision, status = excluded.status, state = excluded.state, listed = excluded.listed,
    wake_at = excluded.wake_at, ended_at = excluded.ended_at, error = excluded.error, body = excluded.body`,
  getJob: "SELECT body FROM jobs WHERE id = ?",
  getRevision: "SELECT revision FROM jobs WHERE id = ?",
  getWakes: "SELECT id, wake_at FROM jobs WHERE wake_at IS NOT NULL",
  setWake: "UPDATE jobs SET wake_at = ? WHERE id = ?",
  deleteJob: "DELETE FROM jobs WHERE id = ?",
  oldJobs: "SELECT id FROM jobs WHERE ended_at < ? ORDER BY seq LIMIT ?",
  countClient: "SELECT status, count(*) AS count FROM jobs WHERE client = ? GROUP BY status",
  countAll: "SELECT status, count(*) AS count FROM jobs GROUP BY status",
  insertHistory: "INSERT INTO history (job_id, revision, events) VALUES (?, ?, ?)",
  getHistory: "SELECT events FROM history WHERE job_id = ? ORDER BY revision",
  deleteHistory: "DELETE FROM history WHERE job_id = ?",
  getTasks: "SELECT seq, worker_id, taken_at, record FROM tasks ORDER BY seq",
  insertTask: "INSERT INTO tasks (record) VALUES (?)",
  holdTask: "UPDATE tasks SET worker_id = ?, taken_at = ? WHERE seq = ?",
  releaseSince: "UPDATE tasks SET worker_id = NULL, taken_at = NULL WHERE taken_at >= ?",
  deleteTask: "DELETE FROM tasks WHERE seq = ?",
  getKey: "SELECT job_id AS jobId, fingerprint FROM idempotency WHERE client = ? AND key = ?",
  insertKey: "INSERT INTO idempotency (client, key, job_id, fingerprint) VALUES (?, ?, ?, ?)",
  deleteKeys: "DELETE FROM idempotency WHERE job_id = ?",
  getUsage: "SELECT used FROM quotas WHERE client = ? AND month = ?",
  countUsage:
    "INSERT INTO quotas (client, month, used) VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET used = used + 1",
  putWorker:
    "INSERT OR REPLACE INTO workers (id, expires_at, seen_at, registered_at, info) VALUES (?, ?, ?, ?, ?)",
  getWorkers: `
    SELECT id, expires_at AS expiresAt, seen_at AS seenAt, registered_at AS registeredAt, info FROM workers`,
  dropWorker: "DELETE FROM workers WHERE id = ? AND expires_at = ?",
  addTally: `
    INSERT INTO tallies (worker_id, day, succeeded, failed) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed`,
  sumTallies: `
    SELECT worker_id AS workerId, ?1 AS day, sum(succeeded) AS succeeded, sum(failed) AS failed
    FROM tallies WHERE day >= ?1 GROUP BY worker_id`,
  getSetting: "SELECT value FROM settings WHERE key = ?",
  setSetting: "INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)",
  deleteSetting: "DELETE FROM settings WHERE key = ?",
};

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
export class SqliteStorage extends SingleEngineStorage implements Storage {
  readonly label: string;
  #db: DatabaseSync;
  #sql: ReturnType<typeof prepare>;
  #wal: Deno.FsFile | undefined;
  /** Row numbers of the tasks: one index less to write. */
  #rows = new Map<string, number | bigint>();
  protected override pending: PendingWrite[] = [];
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
    super();
    this.label = `sqlite:${path}`;
    this.#db = openDatabase(path);
    this.#sql = prepare(this.#db);
    // An engine that was killed may have assigned tasks whose answers never left it; nobody knows, so they are queued again.
    if (this.setting("closed") !== undefined) this.#sql.deleteSetting.run("closed");
    else this.#sql.releaseSince.run(Number(this.setting("time") ?? 0) - SURELY_SENT_MS);
    this.#load();
    if (path !== ":memory:") this.#wal = Deno.openSync(`${path}-wal`, { read: true, write: true });
  }

  #load(): void {
    this.wakes = new DueSet();
    this.index = new QueueIndex();
    this.#rows = new Map();
    for (const row of this.#sql.getWakes.all()) this.wakes.set(String(row.id), Number(row.wake_at));
    for (const row of this.#sql.getTasks.all()) {
      const record: TaskRecord = JSON.parse(String(row.record));
      this.#rows.set(record.id, Number(row.seq));
      this.index.add(
        row.worker_id === null
          ? record
          : { ...record, workerId: String(row.worker_id), takenAt: Number(row.taken_at) },
      );
    }
    this.storedTime = Number(this.setting("time") ?? 0);
  }

  // Puts a change into the next transaction.
  protected change<T>(apply: () => T, durable = true): Promise<T> {
    if (this.#closed) return Promise.reject(new Error("The storage is closed."));
    return new Promise<T>((resolve, reject) => {
      let result: T;
      this.pending.push({
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
    const changes = this.pending;
    this.pending = [];
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
    for (const change of changes) {
      if (change.durable && this.#wal !== undefined) this.#unsynced.push(change);
      else change.done();
    }
    if (this.#unsynced.length > 0) this.#syncing ??= this.#sync();
  }

  async #sync(): Promise<void> {
    const changes = this.#unsynced;
    this.#unsynced = [];
    try {
      await this.#wal?.syncData();
      for (const change of changes) change.done();
    } catch (error) {
      for (const change of changes) change.failed(error);
    }
    this.#syncing = this.#unsynced.length > 0 ? this.#sync() : undefined;
    if (this.pending.length > 0) this.#schedule();
  }

  protected jobOf(jobId: string): Job | undefined {
    const row = this.#sql.getJob.get(jobId);
    return row && readBody(row);
  }

  protected revisionOf(jobId: string): number {
    return Number(this.#sql.getRevision.get(jobId)?.revision ?? 0);
  }

  protected insertedWith(client: string, key: string): Insertion | undefined {
    return select<Insertion>(this.#sql.getKey, client, key)[0];
  }

  protected used(client: string, month: string): number {
    return Number(this.#sql.getUsage.get(client, month)?.used ?? 0);
  }

  protected keepJob({ job, wakeAt, history = [], admission: { idempotency, quota } = {} }: JobWrite): void {
    this.#sql.putJob.run(
      job.id,
      job.revision,
      job.client,
      job.status,
      job.blueprint,
      job.state,
      job.listed ? 1 : 0,
      wakeAt,
      hasEnded(job) ? job.endedAt : null,
      job.error ?? null,
      JSON.stringify(job),
    );
    if (history.length > 0) this.#sql.insertHistory.run(job.id, job.revision, JSON.stringify(history));
    if (idempotency !== undefined) {
      this.#sql.insertKey.run(job.client, idempotency.key, job.id, idempotency.fingerprint);
    }
    if (quota !== undefined) this.#sql.countUsage.run(job.client, quota.month);
  }

  protected override keepTask(task: TaskRecord): void {
    this.#rows.set(task.id, this.#sql.insertTask.run(JSON.stringify(task)).lastInsertRowid);
  }

  protected override keepHolder(taskId: string, workerId: string | null, takenAt: number | null): void {
    this.#sql.holdTask.run(workerId, takenAt, this.#rows.get(taskId) ?? null);
  }

  protected override dropTask(taskId: string): void {
    this.#sql.deleteTask.run(this.#rows.get(taskId) ?? null);
    this.#rows.delete(taskId);
  }

  protected override keepWake(jobId: string, at: number): void {
    this.#sql.setWake.run(at, jobId);
  }

  putWorker({ id, expiresAt, seenAt, registeredAt, info }: WorkerRecord): Promise<void> {
    return this.change(() => void this.#sql.putWorker.run(id, expiresAt, seenAt, registeredAt, info), false);
  }

  workers(): Promise<WorkerRecord[]> {
    return Promise.resolve(select<WorkerRecord>(this.#sql.getWorkers));
  }

  dropWorker(id: string, expiresAt: number): Promise<boolean> {
    return this.change(() => this.#sql.dropWorker.run(id, expiresAt).changes === 1, false);
  }

  list({ client, status, blueprint, listed, search, limit, offset }: JobQuery): Promise<Job[]> {
    const conditions: [string, string | undefined][] = [
      ["client = ?", client],
      ["status = ?", status],
      ["blueprint = ?", blueprint],
      [`instr(lower(${WORDS}), ?) > 0`, search?.toLowerCase()],
    ];
    const narrowing = conditions.filter(([, value]) => value !== undefined);
    const where = [listed ? "listed = 1" : "TRUE", ...narrowing.map(([condition]) => condition)].join(
      " AND ",
    );
    // Named, because its order is the one asked for: the planner would rather sort a client's jobs than follow it.
    const index = client === undefined || listed
      ? ""
      : `INDEXED BY jobs_by_${status === undefined ? "client" : "status"}`;
    const query = this.#db.prepare(
      `SELECT body FROM jobs ${index} WHERE ${where} ORDER BY seq DESC LIMIT ? OFFSET ?`,
    );
    const values = narrowing.flatMap(([, value]) => value ?? []);
    return Promise.resolve(query.all(...values, limit, offset).map(readBody));
  }

  counts(client?: string): Promise<Partial<Record<Status, number>>> {
    const rows = client === undefined ? this.#sql.countAll.all() : this.#sql.countClient.all(client);
    return Promise.resolve(Object.fromEntries(rows.map((row) => [String(row.status), Number(row.count)])));
  }

  history(jobId: string): Promise<HistoryEvent[]> {
    const rows = this.#sql.getHistory.all(jobId);
    return Promise.resolve(rows.flatMap((row): HistoryEvent[] => JSON.parse(String(row.events))));
  }

  addTallies(tallies: readonly Tally[]): Promise<void> {
    return this.change(() => {
      for (const { workerId, day, succeeded, failed } of tallies) {
        this.#sql.addTally.run(workerId, day, succeeded, failed);
      }
    }, false);
  }

  tallies(sinceDay: number): Promise<Tally[]> {
    return Promise.resolve(select<Tally>(this.#sql.sumTallies, sinceDay));
  }

  protected setting(key: string): string | undefined {
    const value = this.#sql.getSetting.get(key)?.value;
    return value === undefined ? undefined : String(value);
  }

  protected keepSetting(key: string, value: string): void {
    this.#sql.setSetting.run(key, value);
  }

  protected endedJobs(endedBefore: number, limit: number): string[] {
    return this.#sql.oldJobs.all(endedBefore, limit).map((row) => String(row.id));
  }

  protected dropJob(jobId: string): void {
    this.#sql.deleteHistory.run(jobId);
    this.#sql.deleteKeys.run(jobId);
    this.#sql.deleteJob.run(jobId);
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

// What a statement selects under the names of a type's fields.
function select<T>(statement: StatementSync, ...values: (string | number)[]): T[] {
  return statement.all(...values).map((row) => ({ ...row }) as T);
}

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

function prepare(db: DatabaseSync): Record<keyof typeof STATEMENTS, StatementSync> {
  const statements = Object.entries(STATEMENTS).map(([name, text]) => [name, db.prepare(text)]);
  return Object.fromEntries(statements);
}
