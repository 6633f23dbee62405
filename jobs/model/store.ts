/**
 * What an engine needs from a storage, and nothing more. Three ideas carry it:
 *
 * - A step of a job is one `commit`: the job's next revision, the tasks it queues, settles or withdraws, when an engine
 *   must check it again, and its history, all or nothing. `commit` resolves when it is as durable as the storage
 *   promises, so a storage may put many commits into one transaction or one round trip.
 * - A job has at most one wake-up. "Its handler is due", "an engine is busy with it until" (a lease), "retry at" and
 *   "report its end at" are all the same: a moment after which some engine claims the job and sees what to do.
 * - Queued tasks belong to nobody. A worker that asks is given the first one that it fits (`take`), in one atomic step.
 *
 * Moments called engine time are milliseconds on a line that all engines of one storage share, that never jumps, and
 * that stands still while no engine runs (see `time`), so neither restarts nor changes of the date disturb a time-out.
 *
 * @module
 */
import type { Job, Status, TaskSpec } from "./job.ts";
import type { HistoryEvent } from "./wire.ts";

/** A queued or assigned task. */
export interface TaskRecord extends Omit<TaskSpec, "params" | "queueTimeoutMs"> {
  id: string;
  jobId: string;
  /** Engine time of its first queueing; among equal priorities the oldest goes first, then the first enqueued. */
  since: number;
  /** Engine time by which it must be picked up. */
  queueBy?: number | undefined;
  /** The JSON text that the worker gets, made once. */
  payload: string;
}

/** What of a task says which workers may have it. */
export type Demands = Pick<TaskSpec, "type" | "needs" | "maxCost" | "unknownCostPasses">;

/** A task that is assigned to a worker. `takenAt` is engine time. */
export type HeldTask = TaskRecord & { workerId: string; takenAt: number };

/** A task and who has it, if anybody. */
export type Task = HeldTask | TaskRecord & { workerId?: undefined; takenAt?: undefined };

/** When a task must be checked: its result is due, or its pick-up. Infinity: never. */
export function taskDueAt(task: Task): number {
  return task.takenAt !== undefined ? task.takenAt + task.timeoutMs : task.queueBy ?? Infinity;
}

/** What makes an insertion refusable. */
export interface Admission {
  /** A repeated key of the same client returns the job of the first. `fingerprint` shows that another body used the same key. */
  idempotency?: { key: string; fingerprint: string } | undefined;
  /** At most `limit` insertions by this client in `month` ("2026-11"). */
  quota?: { month: string; limit: number } | undefined;
}

/** One job's part of a commit. */
export interface JobWrite {
  /** The next version; `job.revision` is the stored one plus 1, or 1 for a new job. Any other stored revision is a conflict. */
  job: Job;
  /** Engine time of the next look at it; null: none. Replaces what was booked or leased. */
  wakeAt: number | null;
  /** Tasks put into the queue. */
  enqueue?: TaskRecord[] | undefined;
  /** Tasks that must be assigned to this worker, else the commit is a conflict; they are removed. */
  settle?: { taskId: string; workerId: string }[];
  /** Tasks removed whether queued, held or unknown. */
  withdraw?: string[] | undefined;
  /** Entries appended to its history. */
  history?: HistoryEvent[] | undefined;
  /** For a new job. */
  admission?: Admission | undefined;
}

/** What became of a commit. Everything but `done` means that nothing was changed. */
export type CommitOutcome =
  | { kind: "done" }
  | { kind: "conflict" }
  | { kind: "duplicate"; jobId: string; fingerprint: string }
  | { kind: "over-quota" };

/** What a worker can do, as far as finding a task for it needs. */
export interface WorkerProfile {
  workerId: string;
  types: readonly string[];
  gpu?: { model: string; vram_gb: number } | undefined;
  models: readonly string[];
  /** Price a second; absent: unknown. */
  cost?: number | undefined;
}

/** Whether a worker may have a task by type, requirements and cost. */
export function fits(task: Demands, profile: WorkerProfile): boolean {
  if (!profile.types.includes(task.type)) return false;
  if (task.maxCost !== undefined) {
    if (profile.cost === undefined ? !task.unknownCostPasses : profile.cost > task.maxCost) return false;
  }
  const { gpu_info: gpu, installed_models: models } = task.needs ?? {};
  if (gpu !== undefined) {
    if (profile.gpu === undefined) return false;
    if (gpu.model !== undefined && !profile.gpu.model.includes(gpu.model)) return false;
    if (gpu.vram_gb !== undefined && profile.gpu.vram_gb < gpu.vram_gb) return false;
  }
  return models === undefined || models.every((name) => profile.models.includes(name));
}

/** A worker as it is remembered. `expiresAt` is engine time; `info` is what it reported, checked (JSON). */
export interface WorkerRecord {
  id: string;
  expiresAt: number;
  /** Wall time of its last heartbeat. */
  seenAt: number;
  registeredAt: number;
  /** JSON text of `WorkerInfo` (workers.ts); opaque here. */
  info: string;
}

/** Which jobs a list shows. Absent fields do not narrow. */
export interface JobQuery {
  client?: string | undefined;
  status?: Status | undefined;
  blueprint?: string | undefined;
  /** Only those on the quarantine list. */
  listed?: true | undefined;
  /** Text that the id, blueprint, state or error contains. */
  search?: string | undefined;
  limit: number;
  offset: number;
}

/** Depth of one task type's queue. `oldestSince` is engine time. */
export interface QueueDepth {
  type: string;
  queued: number;
  held: number;
  oldestSince?: number | undefined;
}

/** A day's finished tasks of one worker, for its reputation. `day` counts days since 1970 (UTC). */
export interface Tally {
  workerId: string;
  day: number;
  succeeded: number;
  failed: number;
}

/** What another engine of the same storage has done. Lost notices only cost time: engines also check by themselves. */
export type Notice =
  | { kind: "job"; id: string; client: string }
  | { kind: "queued"; type: string }
  | { kind: "withdrawn"; taskId: string; jobId: string; workerId: string };

/**
 * A storage. All methods may be called at once; each is atomic. A rejected promise means that the storage is not
 * working at the moment (disk full, server away) and that the change was not made or may not have been made.
 */
export interface Storage extends AsyncDisposable {
  /** For people: `memory`, `sqlite:jobs.sqlite`; never with a password. */
  readonly label: string;
  /** Whether several engines may use it at once. */
  readonly shared: boolean;
  /** What an operator should change so that no job can get lost; one sentence each. */
  readonly warnings?: readonly string[];

  /**
   * Stores this engine's engine time and returns the shared one: the latest that any engine ever stored, so the
   * line goes on after a restart where it stood. Start with 0. Engines call it about once a second.
   */
  time(mine: number): Promise<number>;

  /** Applies all of the writes or none. */
  commit(writes: readonly JobWrite[]): Promise<CommitOutcome>;

  /** A job and its open tasks. The values are the caller's own to keep and change. */
  read(jobId: string): Promise<{ job: Job; tasks: Task[] } | undefined>;

  /** Jobs whose wake-up is not later than `now`, the most overdue first; their wake-up becomes `leaseUntil`. */
  claim(now: number, leaseUntil: number, limit: number): Promise<Job[]>;

  /** Moves the wake-up of a job that still has this revision; false if it has another. */
  lease(jobId: string, revision: number, until: number): Promise<boolean>;

  /** Gives the asking worker the first queued task that it `fits` (priority, age, order of queueing). */
  take(profile: WorkerProfile, now: number): Promise<HeldTask | undefined>;

  /** Puts a task that this worker holds back to its place in the queue, under the same id: it was never delivered. */
  giveBack(taskId: string, workerId: string): Promise<void>;

  /** Tasks whose `taskDueAt` is not later than `now`. Stays true until somebody settles, withdraws or retakes them. */
  dueTasks(now: number, limit: number): Promise<Task[]>;

  /** Tasks that are assigned to a worker. */
  heldBy(workerId: string): Promise<HeldTask[]>;

  /** Adds or replaces a worker. */
  putWorker(record: WorkerRecord): Promise<void>;
  /** All workers, expired ones too. */
  workers(): Promise<WorkerRecord[]>;
  /** Forgets a worker whose record still expires at `expiresAt`. */
  dropWorker(id: string, expiresAt: number): Promise<boolean>;

  /** Jobs, newest first. */
  list(query: JobQuery): Promise<Job[]>;
  /** How many jobs have which status, of one client or of all. */
  counts(client?: string): Promise<Partial<Record<Status, number>>>;
  /** Task types that have queued or held tasks. */
  queues(): Promise<QueueDepth[]>;
  /** A job's history, oldest first. */
  history(jobId: string): Promise<HistoryEvent[]>;

  /** Adds finished tasks to the workers' counts. */
  addTallies(tallies: readonly Tally[]): Promise<void>;
  /** Counts since a day, summed by worker (`day` is the first day asked for). */
  tallies(sinceDay: number): Promise<Tally[]>;

  /** Small named values (last ticks of schedules, data stores of blueprints): JSON texts. */
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string): Promise<void>;

  /** Removes jobs that ended before (wall time), with their history; returns how many. */
  prune(endedBefore: number, limit: number): Promise<number>;

  /** Calls the listener for other engines' changes, on shared storages only. Returns the way to stop. */
  subscribe(listener: (notice: Notice) => void): () => void;
}
