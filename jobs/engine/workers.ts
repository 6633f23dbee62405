/**
 * The registered workers: what each can do, what it costs, when its last heartbeat came, and how reliable it was lately.
 *
 * @module
 */

import type { Clock } from "../../config/clock.ts";
import type { Heartbeat, Registration, WorkerHistoryEntry, WorkerView } from "../model/wire.ts";
import type { JsonObject } from "../model/job.ts";
import type { Storage, Tally, WorkerProfile, WorkerRecord } from "../model/store.ts";

/** What a worker reports about itself, checked; and what counts for it before. */
class WorkerInfo {
  type = "unknown";
  /** Every task type it ever named. */
  skills: string[] = [];
  /** What it can take now, by its last heartbeat; a full worker names nothing. */
  available: string[] = [];
  status = "idle";
  load = 0;
  maxTasks = 1;
  hotCache: string[] = [];
  models: { name: string; version?: string | null | undefined }[] = [];
  resources: JsonObject = {};
  gpu?: WorkerProfile["gpu"];
  hostname?: string | undefined;
  ip?: string | undefined;
  /** Price a second. */
  cost?: number | undefined;
  /** The older field, used by the default strategy. */
  oldCost?: number | undefined;
  /** Its last registrations and heartbeats, oldest first. */
  history?: WorkerHistoryEntry[] | undefined;
}

/** Entries kept of a worker's history: they are stored and removed with its record. */
const HISTORY_LENGTH = 20;
const DAY_MS = 86_400_000;
/** Tasks of so many days count for a worker's reputation. */
const REPUTATION_DAYS = 30;

/** A worker that this engine knows. */
export interface LiveWorker extends Omit<WorkerRecord, "info"> {
  info: WorkerInfo;
  profile: WorkerProfile;
}

/** Merges a message into what is known. Unknown fields, and those that belong to the engine, are left out. */
function merged(known: WorkerInfo, message: Heartbeat): WorkerInfo {
  const { available_skills, resources, supported_skills, supported_tasks } = message;
  const named = [supported_tasks, supported_skills, available_skills].flatMap((names) => names ?? []);
  const reported = resources?.gpu_info;
  const gpu = reported ? { model: reported.model ?? "", vram_gb: reported.vram_gb ?? 0 } : undefined;
  return {
    type: message.worker_type ?? known.type,
    skills: [...new Set([...known.skills, ...named])],
    available: supported_tasks ?? available_skills ?? supported_skills ?? known.available,
    status: message.status ?? known.status,
    load: message.load ?? known.load,
    maxTasks: message.max_concurrent_tasks ?? known.maxTasks,
    hotCache: message.hot_cache ?? known.hotCache,
    models: message.installed_models?.map(({ name, version }) => ({ name, version })) ?? known.models,
    resources: resources ? JSON.parse(JSON.stringify(resources)) : known.resources,
    gpu: resources ? gpu : known.gpu,
    hostname: message.hostname ?? known.hostname,
    ip: message.ip_address ?? known.ip,
    cost: message.cost_per_second ?? known.cost,
    oldCost: message.cost ?? known.oldCost,
  };
}

/** The workers of an engine, kept in its storage. */
export class Workers {
  readonly #live = new Map<string, LiveWorker>();
  readonly #reputations = new Map<string, number>();
  /** Counted, but not stored yet. */
  #tallies = new Map<string, Tally>();

  constructor(
    private readonly storage: Storage,
    private readonly clock: Clock,
    private readonly ttlMs: number,
    private readonly costOf: (workerId: string) => number | undefined,
  ) {}

  /**
   * Reads what the storage remembers; again for storages that several engines share. Resolves with the ids of known
   * workers that have registered again with another engine.
   */
  async load(): Promise<string[]> {
    const restarted: string[] = [];
    const records = await this.storage.workers();
    const ids = new Set(records.map((record) => record.id));
    for (const id of this.#live.keys()) if (!ids.has(id)) this.#live.delete(id);
    for (const record of records) {
      const known = this.#live.get(record.id);
      if (known !== undefined && known.registeredAt < record.registeredAt) {
        known.registeredAt = record.registeredAt;
        restarted.push(record.id);
      }
      if (known === undefined || known.seenAt < record.seenAt) {
        this.#remember(record, JSON.parse(record.info));
      }
    }
    return restarted;
  }

  #remember({ id, expiresAt, seenAt, registeredAt }: WorkerRecord, info: WorkerInfo): void {
    const profile = {
      workerId: id,
      // It asks, so it has room: an empty list is a heartbeat that the end of its last task has overtaken.
      types: info.available.length > 0 ? info.available : info.skills,
      gpu: info.gpu,
      models: info.models.map((model) => model.name),
      cost: info.cost ?? this.costOf(id),
    };
    this.#live.set(id, { id, info, expiresAt, seenAt, registeredAt, profile });
  }

  get(id: string): LiveWorker | undefined {
    return this.#live.get(id);
  }

  /** Those whose time has not run out. */
  alive(): LiveWorker[] {
    return [...this.#live.values()].filter((worker) => worker.expiresAt > this.clock.now());
  }

  /** The others. */
  expired(): LiveWorker[] {
    return [...this.#live.values()].filter((worker) => worker.expiresAt <= this.clock.now());
  }

  /** A worker registers: its record is replaced. */
  register(message: Registration): Promise<void> {
    return this.#update(message.worker_id, new WorkerInfo(), message, "registered", this.clock.wall());
  }

  /** A heartbeat with content; from a worker that is not known it is a registration. */
  async heartbeat(id: string, message: Heartbeat): Promise<LiveWorker | undefined> {
    const known = this.#live.get(id);
    if (known === undefined) await this.register({ ...message, worker_id: id });
    else await this.#update(id, known.info, message, "status_update", known.registeredAt);
    return this.#live.get(id);
  }

  #update(
    id: string,
    known: WorkerInfo,
    message: Heartbeat,
    event_type: WorkerHistoryEntry["event_type"],
    registeredAt: number,
  ): Promise<void> {
    const info = merged(known, message);
    const timestamp = new Date(this.clock.wall()).toISOString();
    const entry = { timestamp, event_type, status: info.status, load: info.load };
    info.history = [...this.#live.get(id)?.info.history ?? [], entry].slice(-HISTORY_LENGTH);
    return this.#keep({ id, info, registeredAt, seenAt: this.clock.wall() });
  }

  /** An empty heartbeat or a poll. Stored only now and then. */
  async seen(worker: LiveWorker): Promise<void> {
    worker.seenAt = this.clock.wall();
    if (worker.expiresAt - this.clock.now() <= this.ttlMs * 0.75) await this.#keep(worker);
  }

  async #keep(
    { id, info, registeredAt, seenAt }: Pick<LiveWorker, "id" | "info" | "registeredAt" | "seenAt">,
  ): Promise<void> {
    const expiresAt = this.clock.now() + this.ttlMs;
    const record = { id, expiresAt, seenAt, registeredAt, info: JSON.stringify(info) };
    this.#remember(record, info);
    await this.storage.putWorker(record);
  }

  /** Gives everybody the whole time again: no heartbeat could arrive while no engine ran. */
  async extendAll(): Promise<void> {
    for (const worker of [...this.#live.values()]) await this.#keep(worker);
  }

  /** Forgets a worker whose time has run out; false: another engine got a heartbeat. */
  async forget(worker: LiveWorker): Promise<boolean> {
    if (!await this.storage.dropWorker(worker.id, worker.expiresAt)) return false;
    if (this.#live.get(worker.id)?.expiresAt === worker.expiresAt) this.#live.delete(worker.id);
    return true;
  }

  /** Share of successes among its tasks, four decimals; 1 until tasks have ended. */
  reputation(id: string): number {
    return this.#reputations.get(id) ?? 1;
  }

  /** A worker has answered a task. */
  count(workerId: string, succeeded: boolean): void {
    const day = this.#today();
    const none = { workerId, day, succeeded: 0, failed: 0 };
    this.#tallies.getOrInsert(`${workerId}\0${day}`, none)[succeeded ? "succeeded" : "failed"]++;
  }

  async storeCounts(): Promise<void> {
    if (this.#tallies.size === 0) return;
    const tallies = [...this.#tallies.values()];
    this.#tallies = new Map();
    await this.storage.addTallies(tallies);
  }

  /** Computes the reputations from what is stored; workers without tasks keep theirs. */
  async rate(): Promise<void> {
    for (
      const { workerId, succeeded, failed } of await this.storage.tallies(this.#today() - REPUTATION_DAYS)
    ) {
      const all = succeeded + failed;
      if (all > 0) this.#reputations.set(workerId, Math.round(succeeded / all * 10_000) / 10_000);
    }
  }

  /** In days of the calendar since 1970. */
  #today(): number {
    return Math.floor(this.clock.wall() / DAY_MS);
  }

  view(worker: LiveWorker, held: number, websocket: boolean): WorkerView {
    const { id, info, seenAt, registeredAt } = worker;
    return {
      worker_id: id,
      worker_type: info.type,
      status: info.status,
      supported_tasks: info.skills,
      max_concurrent_tasks: info.maxTasks,
      load: info.load,
      held_tasks: held,
      hot_cache: info.hotCache,
      installed_models: info.models,
      resources: info.resources,
      hostname: info.hostname ?? null,
      ip_address: info.ip ?? null,
      cost_per_second: worker.profile.cost ?? null,
      reputation: this.reputation(id),
      registered_at: new Date(registeredAt).toISOString(),
      last_heartbeat_at: new Date(seenAt).toISOString(),
      websocket,
    };
  }
}
