/**
 * A storage in a Redis server (7 or later, or Valkey), for several engines and workers by the thousand.
 *
 * Every step is one script that the server runs alone, so engines need no locks among themselves and any of them may die
 * between two steps. Steps of one turn of the event loop travel in one packet. A step whose answer is lost with the
 * connection rejects: a commit may then have happened, which its repetition finds out by the revision, while an assignment is
 * undone as soon as the server is back, for the worker never received it. The last assignments of an engine that died are
 * undone, too: nobody knows whether they reached their workers.
 *
 * How durable a step is depends on the server: with `appendonly yes` it survives the server's death, and power loss too
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
 * | `queue:LANE`, `lanes`, `lanes:version` | sorted sets, set | queued tasks in their order; see `Lane` |
 * | `ages:TYPE`, `held` | sorted sets, hash | queued tasks by age, number of held ones by type |
 * | `idempotency`, `quota:MONTH`, `workers`, `engines`, `tally:DAY`, `values`, `time`, `beat`, `seq`, `format` | | small things |
 *
 * @module
 */
import { ClientOfflineError, createClient, ErrorReply } from "@redis/client";
import { ConfigError } from "../model/errors.ts";
import type { Job, Status } from "../model/job.ts";
import { STATUSES } from "../model/job.ts";
import type {
  CommitOutcome,
  HeldTask,
  JobQuery,
  JobWrite,
  Notice,
  QueueDepth,
  Storage,
  Tally,
  Task,
  WorkerProfile,
  WorkerRecord,
} from "../model/store.ts";
import { fits } from "../model/store.ts";
import type { HistoryEvent } from "../model/wire.ts";
import type { Lane, Script } from "./redis_scripts.ts";
import * as scripts from "./redis_scripts.ts";
import { inGroups, readHeld, readTasks, texts } from "./redis_scripts.ts";

// An engine that did not ask for the time for so long is dead.
const DEAD_MS = 5_000;
const PAGE = 1_000;
// One claim answers with no more text than this: its jobs are read together, and may be large.
const CLAIM_BYTES = 16 << 20;
const TALLY_SECONDS = 90 * 86_400;
const FORMAT = 1;
// A connection that is silent for this long is closed; pings keep a healthy one busy.
const SILENCE_MS = 5_000;
const PING_MS = 1_500;
const RECONNECT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 3_000;

/** Keeps jobs in a Redis server. */
export class RedisStorage implements Storage {
  readonly shared = true;
  readonly label: string;
  readonly warnings: readonly string[];
  #client: Client;
  #subscriber: Client;
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

  private constructor(address: Address, client: Client, subscriber: Client, warnings: string[]) {
    this.label = address.label;
    this.warnings = warnings;
    this.#prefix = address.prefix;
    this.#client = client;
    this.#subscriber = subscriber;
  }

  /**
   * Connects to a server.
   *
   * @param spec `redis://[[user]:password@]host[:port][/db][?prefix=NAME]`; `rediss:` for TLS, `valkey:` like `redis:`.
   *   Keys begin with the prefix (`jobs`), so that several engines' worlds can share a server.
   * @throws ConfigError when it cannot be reached or used; the message holds no password.
   */
  static async open(spec: string): Promise<RedisStorage> {
    const address = parseAddress(spec);
    const client = makeClient(address.url);
    const subscriber = makeClient(address.url);
    try {
      await client.connect().catch((error) => {
        if (error instanceof ErrorReply) throw error;
        throw new ConfigError(
          `Cannot reach ${address.label}: ${faultOf(error)}; start the server, or name another one.`,
        );
      });
      const warnings = await inspect(client, address);
      await subscriber.connect();
      const storage = new RedisStorage(address, client, subscriber, warnings);
      await subscriber.subscribe(`${address.prefix}notices`, (text) => storage.#receive(text));
      return storage;
    } catch (error) {
      client.destroy();
      subscriber.destroy();
      if (error instanceof ConfigError || !(error instanceof Error)) throw error;
      throw new ConfigError(
        `Cannot use ${address.label}: ${
          faultOf(error)
        }; check that the server runs there and takes this user and password.`,
      );
    }
  }

  // A command without a script, or a script.
  async #send(args: string[]): Promise<unknown> {
    try {
      if (this.#closed) throw new Error("The storage is closed.");
      return await this.#client.sendCommand(args);
    } catch (error) {
      throw error instanceof Error ? this.#fault(error) : error;
    }
  }

  // One round trip, unless the server has forgotten the script (a restart, SCRIPT FLUSH).
  async #run(script: Script, args: readonly (string | number)[]): Promise<unknown> {
    const rest = ["1", this.#prefix, ...args.map(String)];
    try {
      return await this.#send(["EVALSHA", script.digest, ...rest]);
    } catch (error) {
      const isForgotten = error instanceof Error && error.cause instanceof Error &&
        error.cause.message.startsWith("NOSCRIPT");
      if (!isForgotten) throw error;
      return await this.#send(["EVAL", script.text, ...rest]);
    }
  }

  #fault(error: Error): Error {
    return new Error(`${this.label} does not do its work: ${faultOf(error)}`, { cause: error });
  }

  async time(mine: number): Promise<number> {
    const arrived = this.#arrived;
    this.#arrived = this.#fresh;
    this.#fresh = new Set();
    const shared = await this.#run(scripts.TIME, [mine, DEAD_MS, this.#origin, ...arrived]).catch((error) => {
      for (const id of arrived) this.#arrived.add(id);
      throw error;
    });
    // Engines ask each second, and were answered now: the moment to repair what an outage left open.
    for (const repair of this.#repairs.splice(0)) repair().catch(() => void this.#repairs.push(repair));
    return Number(shared);
  }

  async commit(writes: readonly JobWrite[]): Promise<CommitOutcome> {
    for (const { settle } of writes) for (const { taskId } of settle ?? []) this.#forget(taskId);
    const args = scripts.commitArguments(this.#origin, writes);
    const [kind, jobId = "", fingerprint = ""] = texts(await this.#run(scripts.COMMIT, args));
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
    const [body, ...tasks] = texts(await this.#run(scripts.READ, [jobId]));
    return body === undefined ? undefined : { job: JSON.parse(body), tasks: readTasks(tasks) };
  }

  async claim(now: number, leaseUntil: number, limit: number): Promise<Job[]> {
    const bodies = texts(await this.#run(scripts.CLAIM, [now, leaseUntil, limit, CLAIM_BYTES]));
    return bodies.map((body) => JSON.parse(body));
  }

  async lease(jobId: string, revision: number, until: number): Promise<boolean> {
    return await this.#run(scripts.LEASE, [jobId, revision, until]) === 1;
  }

  async take(profile: WorkerProfile, now: number): Promise<HeldTask | undefined> {
    const assignment = `${this.#origin}.${++this.#assignments}`;
    for (;;) {
      const lanes = this.#lanes.all.filter((lane) => fits(lane, profile)).map(({ name }) => name);
      const args = [this.#lanes.version, profile.workerId, now, assignment, ...lanes];
      let answer: string[];
      try {
        answer = texts(await this.#run(scripts.TAKE, args));
      } catch (error) {
        if (mayBeDone(error)) {
          this.#repairs.push(() =>
            this.#run(scripts.RELEASE, [this.#origin, profile.workerId, "", assignment])
          );
        }
        throw error;
      }
      if (answer[0] !== "lanes") {
        const [task] = readHeld(answer);
        if (task !== undefined) this.#fresh.add(task.id);
        return task;
      }
      // Tasks of a new lane were queued: load the lanes, then try again.
      const [, version = "0", ...names] = answer;
      this.#lanes = { version, all: names.map(scripts.readLane) };
    }
  }

  #forget(taskId: string): void {
    if (!this.#fresh.delete(taskId)) this.#arrived.delete(taskId);
  }

  async giveBack(taskId: string, workerId: string): Promise<void> {
    this.#forget(taskId);
    const release = () => this.#run(scripts.RELEASE, [this.#origin, workerId, taskId, ""]);
    try {
      await release();
    } catch (error) {
      this.#repairs.push(release);
      throw error;
    }
  }

  async dueTasks(now: number, limit: number): Promise<Task[]> {
    return readTasks(texts(await this.#run(scripts.DUE, [now, limit])));
  }

  async heldBy(workerId: string): Promise<HeldTask[]> {
    return readHeld(texts(await this.#run(scripts.HELD, [workerId])));
  }

  async putWorker({ id, expiresAt, ...record }: WorkerRecord): Promise<void> {
    await this.#send(["HSET", `${this.#prefix}workers`, id, `${expiresAt} ${JSON.stringify(record)}`]);
  }

  async workers(): Promise<WorkerRecord[]> {
    const flat = texts(await this.#send(["HGETALL", `${this.#prefix}workers`]));
    return inGroups(flat, 2).map(([id, text]) => {
      const space = text.indexOf(" ");
      return { id, expiresAt: Number(text.slice(0, space)), ...JSON.parse(text.slice(space + 1)) };
    });
  }

  async dropWorker(id: string, expiresAt: number): Promise<boolean> {
    return await this.#run(scripts.DROP_WORKER, [id, `${expiresAt} `]) === 1;
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
      const args = [below, PAGE, client === undefined ? "0" : "1", client ?? "", ...sets];
      const rows = inGroups(texts(await this.#run(scripts.LIST, args)), 4);
      for (const [id, , rowStatus, find] of rows) {
        if (status !== undefined && rowStatus !== status) continue;
        if (blueprint !== undefined && find.split("\n")[0] !== blueprint) continue;
        if (wanted !== undefined && !`${id}\n${find}`.toLowerCase().includes(wanted)) continue;
        if (skipped++ < offset) continue;
        if (ids.push(id) === limit) break;
      }
      const last = rows.at(-1);
      if (last === undefined || rows.length < PAGE) break;
      below = `(${last[1]}`;
    }
    const bodies = await Promise.all(
      ids.map((id) => this.#send(["HGET", `${this.#prefix}job:${id}`, "body"])),
    );
    return bodies.flatMap((body) => typeof body === "string" ? [JSON.parse(body)] : []);
  }

  async counts(client?: string): Promise<Partial<Record<Status, number>>> {
    const args = [client === undefined ? "0" : "1", client ?? "", ...STATUSES];
    const sums = texts(await this.#run(scripts.COUNTS, args)).map(Number);
    return Object.fromEntries(STATUSES.map((status, n) => [status, sums[n]]).filter(([, sum]) => sum !== 0));
  }

  async queues(): Promise<QueueDepth[]> {
    return inGroups(texts(await this.#run(scripts.QUEUES, [])), 4).map(([type, queued, oldest, held]) => ({
      type,
      queued: Number(queued),
      held: Number(held),
      ...(oldest !== "" && { oldestSince: Number(oldest) }),
    }));
  }

  async history(jobId: string): Promise<HistoryEvent[]> {
    const fields = inGroups(texts(await this.#send(["HGETALL", `${this.#prefix}job:${jobId}`])), 2);
    return fields
      .filter(([name]) => /^h\d+$/.test(name))
      .sort(([one], [other]) => Number(one.slice(1)) - Number(other.slice(1)))
      .flatMap(([, events]): HistoryEvent[] => JSON.parse(events));
  }

  async addTallies(tallies: readonly Tally[]): Promise<void> {
    if (tallies.length === 0) return;
    const rows = tallies.flatMap((one) => [one.day, one.workerId, one.succeeded, one.failed]);
    await this.#run(scripts.ADD_TALLIES, [TALLY_SECONDS, ...rows]);
  }

  async tallies(sinceDay: number): Promise<Tally[]> {
    const sums = new Map<string, Tally>();
    for (const [name, count] of inGroups(texts(await this.#run(scripts.TALLIES, [sinceDay])), 2)) {
      const workerId = name.slice(1);
      const sum = sums.getOrInsert(workerId, { workerId, day: sinceDay, succeeded: 0, failed: 0 });
      sum[name.startsWith("s") ? "succeeded" : "failed"] += Number(count);
    }
    return [...sums.values()];
  }

  async get(key: string): Promise<string | undefined> {
    const value = await this.#send(["HGET", `${this.#prefix}values`, key]);
    return typeof value === "string" ? value : undefined;
  }

  async set(key: string, value: string): Promise<void> {
    await this.#send(["HSET", `${this.#prefix}values`, key, value]);
  }

  async prune(endedBefore: number, limit: number): Promise<number> {
    return Number(await this.#run(scripts.PRUNE, [`(${endedBefore}`, limit]));
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

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#subscriber.destroy();
    if (this.#client.isReady) {
      const arrived = [...this.#arrived, ...this.#fresh];
      const leave = this.#run(scripts.LEAVE, [this.#origin, ...arrived]);
      this.#closed = true;
      // What is under way is answered first. If the connection breaks now, others will find this engine dead.
      await Promise.allSettled([leave, this.#client.close()]);
    }
    this.#closed = true;
    this.#client.destroy();
  }
}

type Client = ReturnType<typeof makeClient>;

interface Address {
  url: string;
  /** What keys begin with. */
  prefix: string;
  /** Without a password. */
  label: string;
}

function parseAddress(spec: string): Address {
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
  const giveUpAt = performance.now() + CONNECT_TIMEOUT_MS;
  let connected = false;
  const client = createClient({
    url,
    RESP: 2,
    maintNotifications: "disabled",
    // While the server is away requests fail at once rather than pile up; what was sent is never sent twice.
    disableOfflineQueue: true,
    // A timer for each command would cost more than the command; silence of the connection is noticed instead.
    commandOptions: { timeout: 0 },
    pingInterval: PING_MS,
    socket: {
      connectTimeout: CONNECT_TIMEOUT_MS,
      socketTimeout: SILENCE_MS,
      // The first time must succeed soon; once it was connected it reconnects for ever.
      reconnectStrategy: (tries: number, cause: Error) =>
        (connected || (performance.now() < giveUpAt && !(cause instanceof ErrorReply))) &&
        Math.min(RECONNECT_MS, 25 * 2 ** tries) * (0.5 + Math.random() / 2),
    },
  });
  // Requests that fail reject by themselves; without a listener the process would end.
  client.on("error", () => {});
  client.once("ready", () => connected = true);
  return client;
}

// Checks that the server can be used; answers what about it may lose jobs.
async function inspect(client: Client, { prefix, label }: Address): Promise<string[]> {
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
function faultOf(error: Error): string {
  const inner = error instanceof AggregateError
    ? error.errors.find((one) => one instanceof Error)
    : undefined;
  return (inner instanceof Error ? inner.message : error.message).replace(/\.$/, "");
}
