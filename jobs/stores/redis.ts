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
import { ConfigError } from "../model/errors.ts";
import type { Job, Status } from "../model/job.ts";
import { STATUSES } from "../model/job.ts";
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
  type WorkerProfile,
  type WorkerRecord,
} from "../model/store.ts";
import type { HistoryEvent } from "../model/wire.ts";
import {
  type Address,
  type Client,
  connect,
  faultOf,
  inspect,
  makeClient,
  mayBeDone,
  parseAddress,
} from "./redis_connection.ts";
import {
  commitArguments,
  inGroups,
  type Lane,
  numbers,
  readHeld,
  readLane,
  readTasks,
  texts,
} from "./redis_rows.ts";
import {
  ADD_TALLIES,
  CLAIM,
  COMMIT,
  COUNTS,
  DROP_WORKER,
  DUE,
  HELD,
  LEASE,
  LEAVE,
  LIST,
  PRUNE,
  QUEUES,
  READ,
  RELEASE,
  type Script,
  TAKE,
  TALLIES,
  TIME,
} from "./redis_scripts.ts";

// An engine that did not ask for the time for so long is dead.
const DEAD_MS = 5_000;
const PAGE = 1_000;
// One claim answers with no more text than this: its jobs are read together, and may be large.
const CLAIM_BYTES = 16 << 20;
const TALLY_SECONDS = 90 * 86_400;

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
      await connect(client, address.label);
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
  async #run(script: Script, args: string[]): Promise<unknown> {
    const rest = ["1", this.#prefix, ...args];
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
    const args = [String(mine), String(DEAD_MS), this.#origin, ...arrived];
    const shared = Number(
      await this.#run(TIME, args).catch((error) => {
        for (const id of arrived) this.#arrived.add(id);
        throw error;
      }),
    );
    // Engines ask each second, and were answered now: the moment to repair what an outage left open.
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
        return { kind, jobId: String(jobId), fingerprint: String(fingerprint) };
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
      // Tasks of a new lane were queued: load the lanes, then try again.
      const [, version = "0", ...names] = answer;
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
    const fields = inGroups(texts(await this.#send(["HGETALL", `${this.#prefix}job:${jobId}`])), 2);
    return fields
      .filter(([name]) => /^h\d+$/.test(name))
      .sort(([one], [other]) => Number(one.slice(1)) - Number(other.slice(1)))
      .flatMap(([, events]): HistoryEvent[] => JSON.parse(events));
  }

  async usage(client: string, month: string): Promise<number> {
    return Number(await this.#send(["HGET", `${this.#prefix}quota:${month}`, client]));
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
    const value = await this.#send(["HGET", `${this.#prefix}values`, key]);
    return typeof value === "string" ? value : undefined;
  }

  async set(key: string, value: string): Promise<void> {
    await this.#send(["HSET", `${this.#prefix}values`, key, value]);
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

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#subscriber.destroy();
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
