/**
 * A storage in a Redis server (7 or later, or Valkey), for several engines and workers by the thousand.
 *
 * Every step is one script that the server runs alone, so engines need no locks among themselves and any of them may die
 * between two steps. Steps of one turn of the event loop travel in one packet. A step whose answer is lost with the
 * connection rejects: a commit may then have happened, which its repetition finds out by the revision, while an assignment is
 * undone as soon as the server is back, for the worker never received it. The last assignments of an engine that died are
 * undone, too: nobody knows whether they reached their workers.
 *
 * How durable a step is, is the server's matter: with `appendonly yes` it survives the server's death, and power loss too
 * with `appendfsync always` (with `everysec` the last second may be lost).
 *
 * Keys, all below `{PREFIX}:`, so that they lie in one slot of a cluster:
 *
 * | key | kind | holds |
 * |---|---|---|
 * | `job:ID` | hash | revision, status, client, seq, body; `find` (what a search looks into); `h<revision>` (history) |
 * | `by:STATUS:CLIENT`, `listed:CLIENT`, `clients` | sorted sets, set | job ids by order of insertion |
 * | `wake`, `ended`, `due` | sorted sets | jobs by wake-up and by end, tasks by when they are due |
 * | `task:ID`, `tasks:JOB`, `held:WORKER` | hash, sets | open tasks |
 * | `queue:LANE`, `lanes`, `lanes:version` | sorted sets, set | queued tasks in their order; see `laneOf` |
 * | `ages:TYPE`, `held` | sorted sets, hash | queued tasks by age, number of held ones by type |
 * | `idempotency`, `quota:MONTH`, `workers`, `engines`, `tally:DAY`, `values`, `time`, `beat`, `seq`, `format` | | small things |
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { ClientOfflineError, createClient, ErrorReply } from "@redis/client";
import { ConfigError } from "../model/errors.ts";
import { hasEnded, type HistoryEvent, type Job, type Status, STATUSES } from "../model/job.ts";
import {
  type CommitOutcome,
  fits,
  type HeldTask,
  type JobQuery,
  type JobWrite,
  type Notice,
  type QueueDepth,
  type Storage,
  type Tally,
  type Task,
  type TaskRecord,
  type WorkerProfile,
  type WorkerRecord,
} from "../model/store.ts";

const FORMAT = 1;
// A connection that says nothing for this long is given up; pings keep a healthy one talking.
const SILENCE_MS = 5_000;
const PING_MS = 1_500;
const RECONNECT_MS = 1_000;
// An engine that did not ask for the time for so long is dead.
const DEAD_MS = 5_000;
const OPEN_PATIENCE_MS = 3_000;
const PAGE = 1_000;
// One claim answers with no more text than this: its jobs are read together, and may be large.
const CLAIM_BYTES = 16 << 20;
const TALLY_SECONDS = 90 * 86_400;
const QUOTA_SECONDS = 400 * 86_400;

type Client = ReturnType<typeof makeClient>;

interface Place {
  url: string;
  prefix: string;
  /** Without a password. */
  label: string;
}

interface Lane {
  name: string;
  /** A task as they are in it; true only in what `fits` looks at. */
  like: TaskRecord;
}

/** Keeps jobs in a Redis server. */
export class RedisStorage implements Storage {
  readonly shared = true;
  readonly label: string;
  readonly warnings: readonly string[];
  #client: Client;
  #hearing: Client;
  #prefix: string;
  // Distinguishes own notices and own assignments from those of other engines.
  #origin = crypto.randomUUID();
  #assignments = 0;
  // Tasks assigned since the last call of `time`, and between the two before: those have surely reached their workers.
  #fresh = new Set<string>();
  #arrived = new Set<string>();
  #listeners = new Set<(notice: Notice) => void>();
  #lanes: { version: string; all: Lane[] } = { version: "0", all: [] };
  #repairs: (() => Promise<unknown>)[] = [];
  #closed = false;

  private constructor(place: Place, client: Client, hearing: Client, warnings: string[]) {
    this.label = place.label;
    this.warnings = warnings;
    this.#prefix = place.prefix;
    this.#client = client;
    this.#hearing = hearing;
  }

  /**
   * Connects to a server.
   *
   * @param spec `redis://[[user]:password@]host[:port][/db][?prefix=NAME]`; `rediss:` for TLS, `valkey:` like `redis:`.
   *   Keys begin with the prefix (`jobs`), so that several engines' worlds can share a server.
   * @throws ConfigError when it cannot be reached or used; the message holds no password.
   */
  static async open(spec: string): Promise<RedisStorage> {
    const place = parsePlace(spec);
    const client = makeClient(place.url);
    const hearing = makeClient(place.url);
    try {
      await connect(client, place.label);
      const warnings = await inspect(client, place);
      await hearing.connect();
      const storage = new RedisStorage(place, client, hearing, warnings);
      await hearing.subscribe(`${place.prefix}notices`, (text) => storage.#receive(text));
      return storage;
    } catch (error) {
      client.destroy();
      hearing.destroy();
      if (error instanceof ConfigError || !(error instanceof Error)) throw error;
      throw new ConfigError(
        `Cannot use ${place.label}: ${
          plain(error)
        }; check that the server runs there and takes this user and password.`,
      );
    }
  }

  async #send(args: string[]): Promise<unknown> {
    if (this.#closed) throw new Error("The storage is closed.");
    return await this.#client.sendCommand(args);
  }

  // One round trip, unless the server has forgotten the script (a restart, SCRIPT FLUSH).
  async #run(script: Script, args: string[]): Promise<unknown> {
    try {
      return await this.#send(["EVALSHA", script.digest, "1", this.#prefix, ...args]);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      if (!error.message.startsWith("NOSCRIPT")) throw this.#fault(error);
    }
    try {
      return await this.#send(["EVAL", script.text, "1", this.#prefix, ...args]);
    } catch (error) {
      throw error instanceof Error ? this.#fault(error) : error;
    }
  }

  #fault(error: Error): Error {
    return new Error(`${this.label} does not do its work: ${plain(error)}`, { cause: error });
  }

  async time(mine: number): Promise<number> {
    const arrived = this.#arrived;
    this.#arrived = this.#fresh;
    this.#fresh = new Set();
    const args = [String(mine), String(DEAD_MS), this.#origin, ...arrived];
    const shared = Number(
      await this.#run(TIME, args).catch((error) => {
        for (const id of arrived) this.#arrived.add(id);
        throw error;
      }),
    );
    // Engines ask each second, and were answered now: the moment to put right what an outage left open.
    for (const repair of this.#repairs.splice(0)) repair().catch(() => void this.#repairs.push(repair));
    return shared;
  }

  async commit(writes: readonly JobWrite[]): Promise<CommitOutcome> {
    for (const { settle } of writes) for (const { taskId } of settle ?? []) this.#forget(taskId);
    const [kind, jobId, fingerprint] = texts(await this.#run(COMMIT, commitArguments(this.#origin, writes)));
    switch (kind) {
      case "done":
      case "conflict":
      case "over-quota":
        return { kind };
      case "duplicate":
        return { kind, jobId, fingerprint };
      default:
        throw this.#fault(new Error("an answer that no commit gives"));
    }
  }

  async read(jobId: string): Promise<{ job: Job; tasks: Task[] } | undefined> {
    const [body, ...tasks] = texts(await this.#run(READ, [jobId]));
    return body === undefined ? undefined : { job: JSON.parse(body), tasks: readTasks(tasks) };
  }

  async claim(now: number, leaseUntil: number, limit: number): Promise<Job[]> {
    const args = [String(now), String(leaseUntil), String(limit), String(CLAIM_BYTES)];
    return texts(await this.#run(CLAIM, args)).map((body) => JSON.parse(body));
  }

  async lease(jobId: string, revision: number, until: number): Promise<boolean> {
    return await this.#run(LEASE, [jobId, String(revision), String(until)]) === 1;
  }

  async take(profile: WorkerProfile, now: number): Promise<HeldTask | undefined> {
    const assignment = `${this.#origin}.${++this.#assignments}`;
    for (;;) {
      const lanes = this.#lanes.all.filter(({ like }) => fits(like, profile)).map(({ name }) => name);
      const args = [this.#lanes.version, profile.workerId, String(now), assignment, ...lanes];
      let answer: string[];
      try {
        answer = texts(await this.#run(TAKE, args));
      } catch (error) {
        if (mayBeDone(error)) {
          this.#repairs.push(() => this.#run(RELEASE, [this.#origin, profile.workerId, "", assignment]));
        }
        throw error;
      }
      if (answer[0] !== "lanes") {
        const [task] = readHeld(answer);
        if (task !== undefined) this.#fresh.add(task.id);
        return task;
      }
      // Somebody queued tasks of a new sort: learn the sorts, ask again.
      const [, version, ...names] = answer;
      this.#lanes = { version, all: names.map(readLane) };
    }
  }

  #forget(taskId: string): void {
    if (!this.#fresh.delete(taskId)) this.#arrived.delete(taskId);
  }

  async giveBack(taskId: string, workerId: string): Promise<void> {
    this.#forget(taskId);
    const release = () => this.#run(RELEASE, [this.#origin, workerId, taskId, ""]);
    try {
      await release();
    } catch (error) {
      this.#repairs.push(release);
      throw error;
    }
  }

  async dueTasks(now: number, limit: number): Promise<Task[]> {
    return readTasks(texts(await this.#run(DUE, [String(now), String(limit)])));
  }

  async heldBy(workerId: string): Promise<HeldTask[]> {
    return readHeld(texts(await this.#run(HELD, [workerId])));
  }

  async putWorker({ id, expiresAt, ...record }: WorkerRecord): Promise<void> {
    await this.#plain(["HSET", `${this.#prefix}workers`, id, `${expiresAt} ${JSON.stringify(record)}`]);
  }

  async workers(): Promise<WorkerRecord[]> {
    const flat = texts(await this.#plain(["HGETALL", `${this.#prefix}workers`]));
    return inGroups(flat, 2).map(([id, text]) => {
      const space = text.indexOf(" ");
      return { id, expiresAt: Number(text.slice(0, space)), ...JSON.parse(text.slice(space + 1)) };
    });
  }

  async dropWorker(id: string, expiresAt: number): Promise<boolean> {
    return await this.#run(DROP_WORKER, [id, `${expiresAt} `]) === 1;
  }

  async list(query: JobQuery): Promise<Job[]> {
    const { client, status, blueprint, listed, search, limit, offset } = query;
    const wanted = search?.toLowerCase();
    const sets = listed
      ? ["listed"]
      : (status === undefined ? STATUSES : [status]).map((name) => `by:${name}`);
    const ids: string[] = [];
    let skipped = 0;
    for (let below = "+inf"; ids.length < limit;) {
      const args = [below, String(PAGE), client === undefined ? "0" : "1", client ?? "", ...sets];
      const rows = inGroups(texts(await this.#run(LIST, args)), 4);
      for (const [id, , rowStatus, find] of rows) {
        if (status !== undefined && rowStatus !== status) continue;
        if (blueprint !== undefined && find.split("\n")[0] !== blueprint) continue;
        if (wanted !== undefined && !`${id}\n${find}`.toLowerCase().includes(wanted)) continue;
        if (skipped++ < offset) continue;
        if (ids.push(id) === limit) break;
      }
      if (rows.length < PAGE) break;
      below = `(${rows[PAGE - 1][1]}`;
    }
    const bodies = await Promise.all(
      ids.map((id) => this.#plain(["HGET", `${this.#prefix}job:${id}`, "body"])),
    );
    return bodies.flatMap((body) => typeof body === "string" ? [JSON.parse(body)] : []);
  }

  async counts(client?: string): Promise<Partial<Record<Status, number>>> {
    const args = [client === undefined ? "0" : "1", client ?? "", ...STATUSES];
    const sums = numbers(await this.#run(COUNTS, args));
    return Object.fromEntries(STATUSES.map((status, n) => [status, sums[n]]).filter(([, sum]) => sum !== 0));
  }

  async queues(): Promise<QueueDepth[]> {
    return inGroups(texts(await this.#run(QUEUES, [])), 4).map(([type, queued, oldest, held]) => ({
      type,
      queued: Number(queued),
      held: Number(held),
      ...(oldest !== "" && { oldestSince: Number(oldest) }),
    }));
  }

  async history(jobId: string): Promise<HistoryEvent[]> {
    const fields = inGroups(texts(await this.#plain(["HGETALL", `${this.#prefix}job:${jobId}`])), 2);
    return fields
      .filter(([name]) => /^h\d+$/.test(name))
      .sort(([one], [other]) => Number(one.slice(1)) - Number(other.slice(1)))
      .flatMap(([, events]): HistoryEvent[] => JSON.parse(events));
  }

  async usage(client: string, month: string): Promise<number> {
    return Number(await this.#plain(["HGET", `${this.#prefix}quota:${month}`, client]));
  }

  async addTallies(tallies: readonly Tally[]): Promise<void> {
    if (tallies.length === 0) return;
    const rows = tallies.flatMap((one) => [one.day, one.workerId, one.succeeded, one.failed]);
    await this.#run(ADD_TALLIES, [String(TALLY_SECONDS), ...rows.map(String)]);
  }

  async tallies(sinceDay: number): Promise<Tally[]> {
    const sums = new Map<string, Tally>();
    for (const [name, count] of inGroups(texts(await this.#run(TALLIES, [String(sinceDay)])), 2)) {
      const workerId = name.slice(1);
      const sum = sums.get(workerId) ?? { workerId, day: sinceDay, succeeded: 0, failed: 0 };
      sum[name.startsWith("s") ? "succeeded" : "failed"] += Number(count);
      sums.set(workerId, sum);
    }
    return [...sums.values()];
  }

  async get(key: string): Promise<string | undefined> {
    const value = await this.#plain(["HGET", `${this.#prefix}values`, key]);
    return typeof value === "string" ? value : undefined;
  }

  async set(key: string, value: string): Promise<void> {
    await this.#plain(["HSET", `${this.#prefix}values`, key, value]);
  }

  async prune(endedBefore: number, limit: number): Promise<number> {
    return Number(await this.#run(PRUNE, [`(${endedBefore}`, String(limit)]));
  }

  subscribe(listener: (notice: Notice) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  #receive(text: string): void {
    if (text.startsWith(this.#origin)) return;
    const notices: Notice[] = JSON.parse(text.slice(this.#origin.length));
    for (const notice of notices) for (const listener of this.#listeners) listener(notice);
  }

  // A command that is no script.
  async #plain(args: string[]): Promise<unknown> {
    try {
      return await this.#send(args);
    } catch (error) {
      throw error instanceof Error ? this.#fault(error) : error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#hearing.destroy();
    if (this.#client.isReady) {
      const arrived = [...this.#arrived, ...this.#fresh];
      const leave = this.#run(LEAVE, [this.#origin, ...arrived]);
      this.#closed = true;
      // What is under way is answered first. If the connection breaks now, others will find this engine dead.
      await Promise.allSettled([leave, this.#client.close()]);
    }
    this.#closed = true;
    this.#client.destroy();
  }
}

function parsePlace(spec: string): Place {
  const refuse = (): never => {
    // The text may hold a password, so it is not repeated.
    throw new ConfigError(
      "Cannot read the Redis address; write redis://[:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME].",
    );
  };
  const text = spec.replace(/^valkey:/, "redis:");
  if (!URL.canParse(text)) refuse();
  const url = new URL(text);
  const prefix = url.searchParams.get("prefix") ?? "jobs";
  url.searchParams.delete("prefix");
  if (!/^rediss?:$/.test(url.protocol) || url.hostname === "" || !/^(\/\d*)?$/.test(url.pathname)) refuse();
  if (url.search !== "" || !/^[\w.-]{1,64}$/.test(prefix)) refuse();
  return { url: url.href, prefix: `{${prefix}}:`, label: `${url.protocol}//${url.host}${url.pathname}` };
}

function makeClient(url: string) {
  let connected = false;
  const client = createClient({
    url,
    RESP: 2,
    maintNotifications: "disabled",
    // While the server is away requests fail at once rather than pile up; what was sent is never sent twice.
    disableOfflineQueue: true,
    // A timer for each command would cost more than the command; silence of the connection is noticed instead.
    commandOptions: { timeout: undefined },
    pingInterval: PING_MS,
    socket: {
      connectTimeout: OPEN_PATIENCE_MS,
      socketTimeout: SILENCE_MS,
      // Once it was connected it reconnects for ever.
      reconnectStrategy: (tries: number) =>
        connected && Math.min(RECONNECT_MS, 25 * 2 ** tries) * (0.5 + Math.random() / 2),
    },
  });
  // Requests that fail reject by themselves; without a listener the process would end.
  client.on("error", () => {});
  client.once("ready", () => connected = true);
  return client;
}

// The first connection must come soon.
async function connect(client: Client, label: string): Promise<void> {
  for (const giveUpAt = performance.now() + OPEN_PATIENCE_MS;;) {
    try {
      await client.connect();
      return;
    } catch (error) {
      if (!(error instanceof Error) || error instanceof ErrorReply) throw error;
      if (performance.now() > giveUpAt) {
        throw new ConfigError(
          `Cannot reach ${label}: ${plain(error)}; start the server, or name another one.`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

// Whether the server can be used, and what about it may lose jobs.
async function inspect(client: Client, { prefix, label }: Place): Promise<string[]> {
  const info = String(await client.sendCommand(["INFO"]));
  const value = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, "m").exec(info)?.[1];
  const version = value("redis_version") ?? "0";
  if (Number.parseInt(version) < 7) {
    throw new ConfigError(`Cannot use ${label}: it is Redis ${version}; use 7 or later, or Valkey.`);
  }
  const format = Number(await client.sendCommand(["SET", `${prefix}format`, String(FORMAT), "NX", "GET"]));
  if (format > FORMAT) {
    throw new ConfigError(
      `Cannot use ${label}: a newer version wrote what is there; use that one, or another prefix.`,
    );
  }
  const warnings: string[] = [];
  if (value("aof_enabled") === "0") {
    warnings.push(`${label} keeps no append-only file, so jobs are lost when it ends; set "appendonly yes".`);
  }
  const policy = value("maxmemory_policy");
  if (value("maxmemory") !== "0" && policy !== undefined && policy !== "noeviction") {
    warnings.push(`${label} may throw jobs away when its memory is full; set "maxmemory-policy noeviction".`);
  }
  return warnings;
}

// Whether only the answer was lost: the server neither refused, nor was it away before it was asked.
function mayBeDone(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return !(cause instanceof ErrorReply || cause instanceof ClientOfflineError);
}

// A reason without trailing full stop, from a library's or the server's message.
function plain(error: Error): string {
  const inner = error instanceof AggregateError
    ? error.errors.find((one) => one instanceof Error)
    : undefined;
  return (inner instanceof Error ? inner.message : error.message).replace(/\.$/, "");
}

/**
 * Tasks that are alike in what `fits` looks at share a queue. So a worker's fitness is judged once for each queue,
 * however many tasks wait in it.
 */
function laneOf({ type, needs, maxCost, unknownCostPasses }: TaskRecord): string {
  return needs === undefined && maxCost === undefined
    ? JSON.stringify([type])
    : JSON.stringify([type, needs ?? null, maxCost ?? null, unknownCostPasses ?? false]);
}

function readLane(name: string): Lane {
  const [type, needs, maxCost, unknownCostPasses] = JSON.parse(name);
  const like: TaskRecord = {
    ...{ id: "", jobId: "", priority: 0, since: 0, strategy: "default", timeoutMs: 0, payload: "" },
    type,
    needs: needs ?? undefined,
    maxCost: maxCost ?? undefined,
    unknownCostPasses,
  };
  return { name, like };
}

// A text for each moment of engine time, in the same order: the bits of a positive number are in order.
function sortable(moment: number): string {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, moment);
  return bits.getBigUint64(0).toString(16).padStart(16, "0");
}

function commitArguments(origin: string, writes: readonly JobWrite[]): string[] {
  const args = [origin, String(writes.length), String(QUOTA_SECONDS)];
  for (const { job, wakeAt, enqueue, settle, withdraw, history, admission } of writes) {
    const { idempotency, quota } = admission ?? {};
    args.push(
      job.id,
      String(job.revision),
      job.client,
      job.status,
      `${job.blueprint}\n${job.state}\n${job.error ?? ""}`,
      JSON.stringify(job),
      wakeAt === null ? "" : String(wakeAt),
      hasEnded(job) ? String(job.endedAt) : "",
      job.listed ? "1" : "",
      history === undefined || history.length === 0 ? "" : JSON.stringify(history),
      idempotency === undefined ? "" : `${job.client}\0${idempotency.key}`,
      idempotency?.fingerprint ?? "",
      quota?.month ?? "",
      String(quota?.limit ?? 0),
      String(settle?.length ?? 0),
      String(withdraw?.length ?? 0),
      String(enqueue?.length ?? 0),
    );
    for (const { taskId, workerId } of settle ?? []) args.push(taskId, workerId);
    for (const taskId of withdraw ?? []) args.push(taskId);
    for (const task of enqueue ?? []) {
      const { payload, ...record } = task;
      args.push(
        task.id,
        task.type,
        laneOf(task),
        String(-task.priority),
        String(task.since),
        sortable(task.since),
        String(task.timeoutMs),
        task.queueBy === undefined ? "" : String(task.queueBy),
        JSON.stringify(record),
        payload,
      );
    }
  }
  return args;
}

// Scripts answer with tasks as four texts each: record, payload, worker and moment of its taking (empty when queued).
function readTasks(flat: string[]): Task[] {
  return inGroups(flat, 4).map(([record, payload, workerId, takenAt]) =>
    workerId === ""
      ? { ...JSON.parse(record), payload }
      : { ...JSON.parse(record), payload, workerId, takenAt: Number(takenAt) }
  );
}

function readHeld(flat: string[]): HeldTask[] {
  return readTasks(flat).flatMap((task) => task.workerId === undefined ? [] : [task]);
}

function texts(reply: unknown): string[] {
  return Array.isArray(reply) ? reply.map(String) : [];
}

function numbers(reply: unknown): number[] {
  return Array.isArray(reply) ? reply.map(Number) : [];
}

function inGroups(flat: string[], size: number): string[][] {
  return Array.from({ length: flat.length / size }, (_, n) => flat.slice(n * size, n * size + size));
}

interface Script {
  text: string;
  digest: string;
}

// With the first line the server refuses a script that it could not run to its end (memory full, read-only) before it
// has changed anything. `P` is the prefix of all keys.
function script(flags: string, ...parts: string[]): Script {
  const text = [`#!lua${flags && ` flags=${flags}`}`, "local P = KEYS[1]", ...parts].join("\n");
  return { text, digest: createHash("sha1").update(Buffer.from(text)).digest("hex") };
}

// Tasks as the answers hold them (see readTasks), appended to `out`.
const SHOW_TASK = `
local function show(out, id)
  local t = redis.call('HMGET', P .. 'task:' .. id, 'record', 'payload', 'worker', 'taken')
  if not t[1] then return end
  local n = #out
  out[n + 1], out[n + 2], out[n + 3], out[n + 4] = t[1], t[2], t[3] or '', t[4] or ''
end`;

// Engines listen on one channel; nothing is sent while there is only one.
const PUBLISH = `
local function others() return redis.call('PUBSUB', 'NUMSUB', P .. 'notices')[2] > 1 end
local function publish(origin, notices)
  redis.call('PUBLISH', P .. 'notices', origin .. cjson.encode(notices))
end`;

const LANES = `
local function enqueue(id, type, lane, rank, since, member)
  if redis.call('SADD', P .. 'lanes', lane) == 1 then
    redis.call('INCR', P .. 'lanes:version')
    -- Requirements may be anything: now and then forget queues that have run empty.
    if redis.call('SCARD', P .. 'lanes') % 128 == 0 then
      for _, name in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
        if name ~= lane and redis.call('EXISTS', P .. 'queue:' .. name) == 0 then
          redis.call('SREM', P .. 'lanes', name)
        end
      end
    end
  end
  redis.call('ZADD', P .. 'queue:' .. lane, rank, member)
  redis.call('ZADD', P .. 'ages:' .. type, since, id)
end
local function dequeue(id, type, lane, member)
  redis.call('ZREM', P .. 'queue:' .. lane, member)
  redis.call('ZREM', P .. 'ages:' .. type, id)
end
local function count_held(type, change)
  if redis.call('HINCRBY', P .. 'held', type, change) == 0 then redis.call('HDEL', P .. 'held', type) end
end`;

// Puts a held task back to its place in its queue.
const RELEASE_TASK = `
local function release(origin, id)
  local task = P .. 'task:' .. id
  local t = redis.call('HMGET', task, 'worker', 'type', 'lane', 'rank', 'since', 'member', 'queueBy')
  enqueue(id, t[2], t[3], t[4], t[5], t[6])
  redis.call('HDEL', task, 'worker', 'taken', 'assignment')
  redis.call('SREM', P .. 'held:' .. t[1], id)
  count_held(t[2], -1)
  if t[7] ~= '' then redis.call('ZADD', P .. 'due', t[7], id) else redis.call('ZREM', P .. 'due', id) end
  if others() then publish(origin, { { kind = 'queued', type = t[2] } }) end
end`;

// An assignment that has reached its worker no longer bears the engine's name: only the worker's death undoes it.
const CONFIRM = `
local function confirm(from)
  for n = from, #ARGV do redis.call('HDEL', P .. 'task:' .. ARGV[n], 'assignment') end
end`;

const TIME = script(
  "",
  PUBLISH,
  LANES,
  RELEASE_TASK,
  CONFIRM,
  `
local now, origin = ARGV[1], ARGV[3]
local known = redis.call('GET', P .. 'time') or now
local passed = tonumber(now) - tonumber(known)
if passed < 0 then now, passed = known, 0 end
redis.call('SET', P .. 'time', now)
confirm(4)
-- No engine is late for what no engine saw: an outage counts for little here.
local beat = redis.call('INCRBYFLOAT', P .. 'beat', math.min(passed, ARGV[2] / 4))
redis.call('ZADD', P .. 'engines', beat, origin)
for _, dead in ipairs(redis.call('ZRANGE', P .. 'engines', '-inf', beat - ARGV[2], 'BYSCORE')) do
  redis.call('ZREM', P .. 'engines', dead)
  for _, worker in ipairs(redis.call('HKEYS', P .. 'workers')) do
    for _, id in ipairs(redis.call('SMEMBERS', P .. 'held:' .. worker)) do
      local assignment = redis.call('HGET', P .. 'task:' .. id, 'assignment')
      if assignment and string.sub(assignment, 1, #dead) == dead then release(origin, id) end
    end
  end
end
return now`,
);

const LEAVE = script(
  "",
  CONFIRM,
  `
confirm(2)
redis.call('ZREM', P .. 'engines', ARGV[1])
return 1`,
);

const COMMIT = script(
  "",
  PUBLISH,
  LANES,
  `
local at = 3
local function group(names)
  local values = {}
  for _, name in ipairs(names) do
    at = at + 1
    values[name] = ARGV[at]
  end
  return values
end
local function groups(count, names)
  local list = {}
  for n = 1, tonumber(count) do list[n] = group(names) end
  return list
end
local WRITE = { 'id', 'revision', 'client', 'status', 'find', 'body', 'wake', 'ended', 'listed', 'history',
  'key', 'fingerprint', 'month', 'limit', 'settles', 'withdraws', 'enqueues' }
local TASK = { 'id', 'type', 'lane', 'rank', 'since', 'age', 'timeout', 'queueBy', 'record', 'payload' }

local writes = {}
for n = 1, tonumber(ARGV[2]) do
  local w = group(WRITE)
  w.settle = groups(w.settles, { 'id', 'worker' })
  w.withdraw = groups(w.withdraws, { 'id' })
  w.enqueue = groups(w.enqueues, TASK)
  writes[n] = w
end

for _, w in ipairs(writes) do
  if w.key ~= '' then
    local known = redis.call('HGET', P .. 'idempotency', w.key)
    if known then
      local cut = string.find(known, '\\n', 1, true)
      return { 'duplicate', string.sub(known, 1, cut - 1), string.sub(known, cut + 1) }
    end
  end
  if w.month ~= '' then
    local used = tonumber(redis.call('HGET', P .. 'quota:' .. w.month, w.client) or '0')
    if used >= tonumber(w.limit) then return { 'over-quota' } end
  end
  w.old = redis.call('HMGET', P .. 'job:' .. w.id, 'revision', 'status', 'client', 'seq', 'ended', 'listed')
  if tonumber(w.old[1] or '0') ~= tonumber(w.revision) - 1 then return { 'conflict' } end
  for _, settled in ipairs(w.settle) do
    if redis.call('HGET', P .. 'task:' .. settled.id, 'worker') ~= settled.worker then return { 'conflict' } end
  end
end

local notices = others() and {}
local function remove(id, withdrawn)
  local t = redis.call('HMGET', P .. 'task:' .. id, 'job', 'type', 'lane', 'member', 'worker')
  if not t[1] then return end
  if t[5] then
    redis.call('SREM', P .. 'held:' .. t[5], id)
    count_held(t[2], -1)
    if withdrawn and notices then
      notices[#notices + 1] = { kind = 'withdrawn', taskId = id, jobId = t[1], workerId = t[5] }
    end
  else
    dequeue(id, t[2], t[3], t[4])
  end
  redis.call('ZREM', P .. 'due', id)
  redis.call('SREM', P .. 'tasks:' .. t[1], id)
  redis.call('DEL', P .. 'task:' .. id)
end

for _, w in ipairs(writes) do
  local job, old, seq = P .. 'job:' .. w.id, w.old, w.old[4]
  local fields = { 'revision', w.revision, 'status', w.status, 'find', w.find, 'body', w.body }
  local function add(name, value)
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  if not seq then
    seq = redis.call('INCR', P .. 'seq')
    add('client', w.client)
    add('seq', seq)
    redis.call('SADD', P .. 'clients', w.client)
    if w.key ~= '' then
      add('key', w.key)
      redis.call('HSET', P .. 'idempotency', w.key, w.id .. '\\n' .. w.fingerprint)
    end
    if w.month ~= '' then
      redis.call('HINCRBY', P .. 'quota:' .. w.month, w.client, 1)
      redis.call('EXPIRE', P .. 'quota:' .. w.month, ARGV[3])
    end
  end
  if w.history ~= '' then add('h' .. w.revision, w.history) end
  if w.ended ~= (old[5] or '') then add('ended', w.ended) end
  if w.listed ~= (old[6] or '') then add('listed', w.listed) end
  redis.call('HSET', job, unpack(fields))
  if w.status ~= old[2] then
    if old[2] then redis.call('ZREM', P .. 'by:' .. old[2] .. ':' .. w.client, w.id) end
    redis.call('ZADD', P .. 'by:' .. w.status .. ':' .. w.client, seq, w.id)
  end
  if w.ended ~= '' then redis.call('ZADD', P .. 'ended', w.ended, w.id)
  elseif old[5] and old[5] ~= '' then redis.call('ZREM', P .. 'ended', w.id) end
  if w.listed ~= '' then redis.call('ZADD', P .. 'listed:' .. w.client, seq, w.id)
  elseif old[6] and old[6] ~= '' then redis.call('ZREM', P .. 'listed:' .. w.client, w.id) end
  if w.wake ~= '' then redis.call('ZADD', P .. 'wake', w.wake, w.id)
  elseif old[1] then redis.call('ZREM', P .. 'wake', w.id) end
  if notices then notices[#notices + 1] = { kind = 'job', id = w.id, client = w.client } end
  for _, settled in ipairs(w.settle) do remove(settled.id, false) end
  for _, withdrawn in ipairs(w.withdraw) do remove(withdrawn.id, true) end
  for _, t in ipairs(w.enqueue) do
    -- Members of equal rank sort as texts: by age, then by order of queueing.
    local member = t.age .. string.format('%014x', redis.call('INCR', P .. 'seq')) .. t.id
    redis.call('HSET', P .. 'task:' .. t.id, 'job', w.id, 'type', t.type, 'lane', t.lane, 'rank', t.rank,
      'since', t.since, 'member', member, 'timeout', t.timeout, 'queueBy', t.queueBy, 'record', t.record, 'payload', t.payload)
    redis.call('SADD', P .. 'tasks:' .. w.id, t.id)
    if t.queueBy ~= '' then redis.call('ZADD', P .. 'due', t.queueBy, t.id) end
    enqueue(t.id, t.type, t.lane, t.rank, t.since, member)
    if notices then notices[#notices + 1] = { kind = 'queued', type = t.type } end
  end
end
if notices then publish(ARGV[1], notices) end
return { 'done' }`,
);

const READ = script(
  "no-writes",
  SHOW_TASK,
  `
local body = redis.call('HGET', P .. 'job:' .. ARGV[1], 'body')
if not body then return {} end
local out = { body }
for _, id in ipairs(redis.call('SMEMBERS', P .. 'tasks:' .. ARGV[1])) do show(out, id) end
return out`,
);

const CLAIM = script(
  "",
  `
local out, size = {}, 0
for _, id in ipairs(redis.call('ZRANGE', P .. 'wake', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
  local body = redis.call('HGET', P .. 'job:' .. id, 'body')
  size = size + #body
  if #out > 0 and size > tonumber(ARGV[4]) then break end
  redis.call('ZADD', P .. 'wake', ARGV[2], id)
  out[#out + 1] = body
end
return out`,
);

const LEASE = script(
  "",
  `
if redis.call('HGET', P .. 'job:' .. ARGV[1], 'revision') ~= ARGV[2] then return 0 end
redis.call('ZADD', P .. 'wake', ARGV[3], ARGV[1])
return 1`,
);

const TAKE = script(
  "",
  LANES,
  SHOW_TASK,
  `
local version = redis.call('GET', P .. 'lanes:version') or '0'
if version ~= ARGV[1] then
  local out = redis.call('SMEMBERS', P .. 'lanes')
  table.insert(out, 1, version)
  table.insert(out, 1, 'lanes')
  return out
end
local lane, member, rank
for n = 5, #ARGV do
  local head = redis.call('ZRANGE', P .. 'queue:' .. ARGV[n], 0, 0, 'WITHSCORES')
  local its = tonumber(head[2])
  if its and (not lane or its < rank or (its == rank and head[1] < member)) then
    lane, member, rank = ARGV[n], head[1], its
  end
end
if not lane then return {} end
local id = string.sub(member, 31)
local task = P .. 'task:' .. id
local t = redis.call('HMGET', task, 'type', 'timeout')
redis.call('HSET', task, 'worker', ARGV[2], 'taken', ARGV[3], 'assignment', ARGV[4])
redis.call('SADD', P .. 'held:' .. ARGV[2], id)
redis.call('ZADD', P .. 'due', string.format('%.17g', tonumber(ARGV[3]) + tonumber(t[2])), id)
dequeue(id, t[1], lane, member)
count_held(t[1], 1)
local out = {}
show(out, id)
return out`,
);

// Takes one task from a worker, named by its id or by the assignment that gave it.
const RELEASE = script(
  "",
  PUBLISH,
  LANES,
  RELEASE_TASK,
  `
local ids = { ARGV[3] }
if ARGV[3] == '' then ids = redis.call('SMEMBERS', P .. 'held:' .. ARGV[2]) end
for _, id in ipairs(ids) do
  local t = redis.call('HMGET', P .. 'task:' .. id, 'worker', 'assignment')
  if t[1] == ARGV[2] and (ARGV[4] == '' or t[2] == ARGV[4]) then release(ARGV[1], id) end
end
return 1`,
);

const DUE = script(
  "no-writes",
  SHOW_TASK,
  `
local out = {}
for _, id in ipairs(redis.call('ZRANGE', P .. 'due', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  show(out, id)
end
return out`,
);

const HELD = script(
  "no-writes",
  SHOW_TASK,
  `
local out = {}
for _, id in ipairs(redis.call('SMEMBERS', P .. 'held:' .. ARGV[1])) do show(out, id) end
return out`,
);

const DROP_WORKER = script(
  "",
  `
local known = redis.call('HGET', P .. 'workers', ARGV[1])
if not known or string.sub(known, 1, #ARGV[2]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', P .. 'workers', ARGV[1])`,
);

const LIST = script(
  "no-writes",
  `
local clients = { ARGV[4] }
if ARGV[3] == '0' then clients = redis.call('SMEMBERS', P .. 'clients') end
local rows = {}
for _, client in ipairs(clients) do
  for n = 5, #ARGV do
    local found = redis.call('ZRANGE', P .. ARGV[n] .. ':' .. client, ARGV[1], '-inf', 'BYSCORE', 'REV',
      'LIMIT', 0, ARGV[2], 'WITHSCORES')
    for i = 1, #found, 2 do rows[#rows + 1] = { found[i], tonumber(found[i + 1]) } end
  end
end
table.sort(rows, function(a, b) return a[2] > b[2] end)
local out = {}
for n = 1, math.min(#rows, tonumber(ARGV[2])) do
  local job = redis.call('HMGET', P .. 'job:' .. rows[n][1], 'seq', 'status', 'find')
  out[#out + 1] = rows[n][1]
  for i = 1, 3 do out[#out + 1] = job[i] end
end
return out`,
);

const COUNTS = script(
  "no-writes",
  `
local clients = { ARGV[2] }
if ARGV[1] == '0' then clients = redis.call('SMEMBERS', P .. 'clients') end
local out = {}
for n = 3, #ARGV do
  local sum = 0
  for _, client in ipairs(clients) do sum = sum + redis.call('ZCARD', P .. 'by:' .. ARGV[n] .. ':' .. client) end
  out[#out + 1] = sum
end
return out`,
);

const QUEUES = script(
  "no-writes",
  `
local out, known = {}, {}
local function add(...) for _, value in ipairs({ ... }) do out[#out + 1] = value end end
for _, lane in ipairs(redis.call('SMEMBERS', P .. 'lanes')) do
  local type = cjson.decode(lane)[1]
  local oldest = redis.call('ZRANGE', P .. 'ages:' .. type, 0, 0, 'WITHSCORES')
  if oldest[2] and not known[type] then
    known[type] = true
    add(type, redis.call('ZCARD', P .. 'ages:' .. type), oldest[2], redis.call('HGET', P .. 'held', type) or 0)
  end
end
local held = redis.call('HGETALL', P .. 'held')
for n = 1, #held, 2 do
  if not known[held[n]] then add(held[n], 0, '', held[n + 1]) end
end
return out`,
);

const ADD_TALLIES = script(
  "",
  `
for n = 2, #ARGV, 4 do
  local key = P .. 'tally:' .. ARGV[n]
  redis.call('ZADD', P .. 'tallies', ARGV[n], ARGV[n])
  redis.call('HINCRBY', key, 's' .. ARGV[n + 1], ARGV[n + 2])
  redis.call('HINCRBY', key, 'f' .. ARGV[n + 1], ARGV[n + 3])
  redis.call('EXPIRE', key, ARGV[1])
end
return 1`,
);

const TALLIES = script(
  "no-writes",
  `
local out = {}
for _, day in ipairs(redis.call('ZRANGE', P .. 'tallies', ARGV[1], '+inf', 'BYSCORE')) do
  for _, value in ipairs(redis.call('HGETALL', P .. 'tally:' .. day)) do out[#out + 1] = value end
end
return out`,
);

const PRUNE = script(
  "allow-oom",
  `
local ids = redis.call('ZRANGE', P .. 'ended', '-inf', ARGV[1], 'BYSCORE', 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', P .. 'job:' .. id, 'status', 'client', 'key')
  redis.call('ZREM', P .. 'by:' .. job[1] .. ':' .. job[2], id)
  redis.call('ZREM', P .. 'listed:' .. job[2], id)
  redis.call('ZREM', P .. 'wake', id)
  redis.call('ZREM', P .. 'ended', id)
  if job[3] then redis.call('HDEL', P .. 'idempotency', job[3]) end
  redis.call('DEL', P .. 'job:' .. id)
end
return #ids`,
);
