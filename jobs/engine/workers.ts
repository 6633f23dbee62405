/** Who is connected, what each can do, and when it was last heard from. */
import type { Heartbeat, Registration, WorkerHistoryEntry, WorkerView } from "../model/wire.ts";
import type { JsonObject } from "../model/job.ts";
import type { Storage, TaskAsk, WorkerRecord } from "../model/store.ts";

/** What a worker said of itself, cleaned. */
export interface WorkerInfo {
  type: string;
  /** Everything it ever said that it can do. */
  skills: string[];
  /** What it can take now, as its last heartbeat said; a full worker says nothing. */
  available: string[];
  status: string;
  load: number;
  maxTasks: number;
  hotCache: string[];
  models: { name: string; version?: string | null }[];
  resources: JsonObject;
  gpu?: { model: string; vram_gb: number };
  hostname?: string;
  ip?: string;
  /** Price a second. */
  cost?: number;
  /** The older field, used by the default strategy. */
  oldCost?: number;
  /** What it said last, oldest first. */
  history?: WorkerHistoryEntry[];
}

/** Entries kept of a worker's history: they travel with its record, and go with it. */
const HISTORY_LENGTH = 20;

/** A worker that this engine knows. `expiresAt` is engine time. */
export interface LiveWorker {
  id: string;
  info: WorkerInfo;
  expiresAt: number;
  seenAt: number;
  registeredAt: number;
  ask: TaskAsk;
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
export function mergeInfo(known: WorkerInfo, said: Heartbeat): WorkerInfo {
  const listed = said.supported_tasks ?? said.available_skills ?? said.supported_skills;
  const able = [
    ...said.supported_tasks ?? [],
    ...said.supported_skills ?? [],
    ...said.available_skills ?? [],
  ];
  const gpu = said.resources?.gpu_info;
  return {
    type: said.worker_type ?? known.type,
    skills: able.every((name) => known.skills.includes(name))
      ? known.skills
      : [...new Set([...known.skills, ...able])],
    available: listed ?? known.available,
    status: said.status ?? known.status,
    load: said.load ?? known.load,
    maxTasks: said.max_concurrent_tasks ?? known.maxTasks,
    hotCache: said.hot_cache ?? known.hotCache,
    models: said.installed_models?.map(({ name, version }) => ({ name, version })) ?? known.models,
    resources: said.resources ? JSON.parse(JSON.stringify(said.resources)) : known.resources,
    gpu: said.resources === undefined || said.resources === null
      ? known.gpu
      : gpu
      ? { model: gpu.model ?? "", vram_gb: gpu.vram_gb ?? 0 }
      : undefined,
    hostname: said.hostname ?? known.hostname,
    ip: said.ip_address ?? known.ip,
    cost: said.cost_per_second ?? known.cost,
    oldCost: said.cost ?? known.oldCost,
  };
}

function noted(info: WorkerInfo, type: WorkerHistoryEntry["event_type"], wall: number): WorkerInfo {
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
   * workers that have registered anew with another engine.
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
      this.#live.set(record.id, this.#revive(record));
    }
    return restarted;
  }

  #revive({ id, expiresAt, seenAt, registeredAt, info: text }: WorkerRecord): LiveWorker {
    const info: WorkerInfo = JSON.parse(text);
    return { id, info, expiresAt, seenAt, registeredAt, ask: this.#askOf(id, info) };
  }

  #askOf(workerId: string, info: WorkerInfo): TaskAsk {
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

  /** A worker registers: its record begins anew. */
  register(said: Registration, now: number, wall: number): Promise<void> {
    const info = { ...mergeInfo(UNKNOWN, said), history: this.#live.get(said.worker_id)?.info.history };
    return this.#keep(said.worker_id, noted(info, "registered", wall), wall, now, wall);
  }

  /** A heartbeat with content; from a worker that is not known it is a registration. */
  async heard(id: string, said: Heartbeat, now: number, wall: number): Promise<LiveWorker | undefined> {
    const known = this.#live.get(id);
    const info = { ...mergeInfo(known?.info ?? UNKNOWN, said), history: known?.info.history };
    const type = known === undefined ? "registered" : "status_update";
    await this.#keep(id, noted(info, type, wall), known?.registeredAt ?? wall, now, wall);
    return this.#live.get(id);
  }

  /** A sign of life without content. Stored only now and then. */
  async seen(worker: LiveWorker, now: number, wall: number): Promise<void> {
    worker.seenAt = wall;
    if (worker.expiresAt - now > this.ttlMs * 0.75) return;
    await this.#keep(worker.id, worker.info, worker.registeredAt, now, wall);
  }

  async #keep(id: string, info: WorkerInfo, registeredAt: number, now: number, wall: number): Promise<void> {
    const expiresAt = now + this.ttlMs;
    this.#live.set(id, { id, info, expiresAt, seenAt: wall, registeredAt, ask: this.#askOf(id, info) });
    await this.storage.putWorker({ id, expiresAt, seenAt: wall, registeredAt, info: JSON.stringify(info) });
  }

  /** Gives everybody the whole time again: nobody could be heard while no engine ran. */
  async grace(now: number): Promise<void> {
    for (const { id, info, registeredAt, seenAt } of [...this.#live.values()]) {
      await this.#keep(id, info, registeredAt, now, seenAt);
    }
  }

  /** Forgets a worker whose time has run out; false: it was heard by another engine. */
  async forget(worker: LiveWorker): Promise<boolean> {
    if (!await this.storage.dropWorker(worker.id, worker.expiresAt)) return false;
    if (this.#live.get(worker.id)?.expiresAt === worker.expiresAt) this.#live.delete(worker.id);
    return true;
  }

  /** 1 until there is something to tell. */
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
      cost_per_second: worker.ask.cost ?? null,
      reputation: this.reputation(id),
      registered_at: new Date(registeredAt).toISOString(),
      last_heartbeat_at: new Date(seenAt).toISOString(),
      websocket,
    };
  }
}
