/**
 * The registered workers: what each can do, what it costs, and when its last heartbeat came.
 *
 * @module
 */
import type { Heartbeat, Registration, WorkerHistoryEntry, WorkerView } from "../model/wire.ts";
import type { JsonObject } from "../model/job.ts";
import type { Storage, WorkerProfile, WorkerRecord } from "../model/store.ts";

/** What a worker reports about itself, checked. */
export interface WorkerInfo {
  type: string;
  /** Every task type it ever named. */
  skills: string[];
  /** What it can take now, by its last heartbeat; a full worker names nothing. */
  available: string[];
  status: string;
  load: number;
  maxTasks: number;
  hotCache: string[];
  models: { name: string; version?: string | null | undefined }[];
  resources: JsonObject;
  gpu?: { model: string; vram_gb: number } | undefined;
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

/** A worker that this engine knows. `expiresAt` is engine time. */
export interface LiveWorker {
  id: string;
  info: WorkerInfo;
  expiresAt: number;
  seenAt: number;
  registeredAt: number;
  profile: WorkerProfile;
}

const UNKNOWN: WorkerInfo = {
  type: "unknown",
  skills: [],
  available: [],
  status: "idle",
  load: 0,
  maxTasks: 1,
  hotCache: [],
  models: [],
  resources: {},
};

/** Merges a message into what is known. Unknown fields, and those that belong to the engine, are left out. */
export function mergeInfo(known: WorkerInfo, message: Heartbeat): WorkerInfo {
  const listed = message.supported_tasks ?? message.available_skills ?? message.supported_skills;
  const able = [
    ...message.supported_tasks ?? [],
    ...message.supported_skills ?? [],
    ...message.available_skills ?? [],
  ];
  const gpu = message.resources?.gpu_info;
  return {
    type: message.worker_type ?? known.type,
    skills: able.every((name) => known.skills.includes(name))
      ? known.skills
      : [...new Set([...known.skills, ...able])],
    available: listed ?? known.available,
    status: message.status ?? known.status,
    load: message.load ?? known.load,
    maxTasks: message.max_concurrent_tasks ?? known.maxTasks,
    hotCache: message.hot_cache ?? known.hotCache,
    models: message.installed_models?.map(({ name, version }) => ({ name, version })) ?? known.models,
    resources: message.resources ? JSON.parse(JSON.stringify(message.resources)) : known.resources,
    gpu: message.resources === undefined || message.resources === null
      ? known.gpu
      : gpu
      ? { model: gpu.model ?? "", vram_gb: gpu.vram_gb ?? 0 }
      : undefined,
    hostname: message.hostname ?? known.hostname,
    ip: message.ip_address ?? known.ip,
    cost: message.cost_per_second ?? known.cost,
    oldCost: message.cost ?? known.oldCost,
  };
}

function withHistory(info: WorkerInfo, type: WorkerHistoryEntry["event_type"], wall: number): WorkerInfo {
  const { status, load, history = [] } = info;
  const entry = { timestamp: new Date(wall).toISOString(), event_type: type, status, load };
  return { ...info, history: [...history, entry].slice(-HISTORY_LENGTH) };
}

/** The workers of an engine, kept in its storage. */
export class Workers {
  #live = new Map<string, LiveWorker>();
  #reputations = new Map<string, number>();

  constructor(
    readonly storage: Storage,
    readonly ttlMs: number,
    readonly costOf: (workerId: string) => number | undefined,
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
      if (known !== undefined && known.seenAt >= record.seenAt) continue;
      this.#live.set(record.id, this.#restore(record));
    }
    return restarted;
  }

  #restore({ id, expiresAt, seenAt, registeredAt, info: text }: WorkerRecord): LiveWorker {
    const info: WorkerInfo = JSON.parse(text);
    return { id, info, expiresAt, seenAt, registeredAt, profile: this.#profileOf(id, info) };
  }

  #profileOf(workerId: string, info: WorkerInfo): WorkerProfile {
    return {
      workerId,
      // It asks, so it has room: an empty list is a heartbeat that the end of its last task has overtaken.
      types: info.available.length > 0 ? info.available : info.skills,
      gpu: info.gpu,
      models: info.models.map((model) => model.name),
      cost: info.cost ?? this.costOf(workerId),
    };
  }

  get(id: string): LiveWorker | undefined {
    return this.#live.get(id);
  }

  /** Those whose time has not run out. */
  alive(now: number): LiveWorker[] {
    return [...this.#live.values()].filter((worker) => worker.expiresAt > now);
  }

  expired(now: number): LiveWorker[] {
    return [...this.#live.values()].filter((worker) => worker.expiresAt <= now);
  }

  /** A worker registers: its record is replaced. */
  register(message: Registration, now: number, wall: number): Promise<void> {
    const info = { ...mergeInfo(UNKNOWN, message), history: this.#live.get(message.worker_id)?.info.history };
    return this.#keep(message.worker_id, withHistory(info, "registered", wall), wall, now, wall);
  }

  /** A heartbeat with content; from a worker that is not known it is a registration. */
  async heartbeat(
    id: string,
    message: Heartbeat,
    now: number,
    wall: number,
  ): Promise<LiveWorker | undefined> {
    const known = this.#live.get(id);
    const info = { ...mergeInfo(known?.info ?? UNKNOWN, message), history: known?.info.history };
    const type = known === undefined ? "registered" : "status_update";
    await this.#keep(id, withHistory(info, type, wall), known?.registeredAt ?? wall, now, wall);
    return this.#live.get(id);
  }

  /** An empty heartbeat or a poll. Stored only now and then. */
  async seen(worker: LiveWorker, now: number, wall: number): Promise<void> {
    worker.seenAt = wall;
    if (worker.expiresAt - now > this.ttlMs * 0.75) return;
    await this.#keep(worker.id, worker.info, worker.registeredAt, now, wall);
  }

  async #keep(id: string, info: WorkerInfo, registeredAt: number, now: number, wall: number): Promise<void> {
    const expiresAt = now + this.ttlMs;
    this.#live.set(id, {
      id,
      info,
      expiresAt,
      seenAt: wall,
      registeredAt,
      profile: this.#profileOf(id, info),
    });
    await this.storage.putWorker({ id, expiresAt, seenAt: wall, registeredAt, info: JSON.stringify(info) });
  }

  /** Gives everybody the whole time again: no heartbeat could arrive while no engine ran. */
  async extendAll(now: number): Promise<void> {
    for (const { id, info, registeredAt, seenAt } of [...this.#live.values()]) {
      await this.#keep(id, info, registeredAt, now, seenAt);
    }
  }

  /** Forgets a worker whose time has run out; false: another engine got a heartbeat. */
  async forget(worker: LiveWorker): Promise<boolean> {
    if (!await this.storage.dropWorker(worker.id, worker.expiresAt)) return false;
    if (this.#live.get(worker.id)?.expiresAt === worker.expiresAt) this.#live.delete(worker.id);
    return true;
  }

  /** 1 until tasks have ended. */
  reputation(id: string): number {
    return this.#reputations.get(id) ?? 1;
  }

  /** Share of successes among the tasks finished since a day, four decimals; workers without any keep theirs. */
  async rate(sinceDay: number): Promise<void> {
    for (const { workerId, succeeded, failed } of await this.storage.tallies(sinceDay)) {
      const all = succeeded + failed;
      if (all > 0) this.#reputations.set(workerId, Math.round(succeeded / all * 10_000) / 10_000);
    }
  }

  /** As clients see it. */
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
