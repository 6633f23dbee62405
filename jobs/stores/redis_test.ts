// @ts-types="../../config/std.d.ts"
import { assert, assertEquals, assertRejects } from "@std/assert";
import { redisMissing, RedisServer } from "../testing/redis_server.ts";
import { ConfigError } from "../model/errors.ts";
import type { Job } from "../model/job.ts";
import type { Notice, TaskRecord, WorkerProfile } from "../model/store.ts";
import { someJob, storeContract } from "../testing/store_contract.ts";
import { RedisStorage } from "./redis.ts";

// One server for the contract: each test has a prefix of its own.
let shared: RedisServer | undefined;
let prefixes = 0;

if (redisMissing === undefined) {
  Deno.test.beforeAll(async () => {
    shared = await RedisServer.start();
  });
  Deno.test.afterAll(() => shared?.[Symbol.asyncDispose]());
}

storeContract("redis", async () => {
  const url = `${shared?.url}/0?prefix=test-${++prefixes}`;
  const storage = await RedisStorage.open(url);
  return {
    storage,
    reopen: async () => {
      await storage[Symbol.asyncDispose]();
      return await RedisStorage.open(url);
    },
    second: () => RedisStorage.open(url),
  };
}, redisMissing);

interface Bench {
  server: RedisServer;
  /** Opens one more engine's view. */
  open: (query?: string) => Promise<RedisStorage>;
}

// A test with a server of its own.
function redisTest(sentence: string, options: string[], body: (bench: Bench) => Promise<void>): void {
  Deno.test({
    name: `redis: ${sentence}${redisMissing === undefined ? "" : ` (ignored: ${redisMissing})`}`,
    ignore: redisMissing !== undefined,
    fn: async () => {
      await using server = await RedisServer.start(options);
      await using opened = new AsyncDisposableStack();
      const open = async (query = "") => opened.use(await RedisStorage.open(`${server.url}${query}`));
      await body({ server, open });
    },
  });
}

const ASK: WorkerProfile = { workerId: "w", types: ["echo"], models: [] };

function someTask(job: Job, id: string, change: Partial<TaskRecord> = {}): TaskRecord {
  const facts = { jobId: job.id, type: "echo", priority: 0, since: 1, strategy: "default" as const };
  return { id, ...facts, timeoutMs: 1000, payload: "{}", ...change };
}

// Tries until the server answers again.
async function patiently<T>(act: () => Promise<T>): Promise<T> {
  for (const giveUpAt = performance.now() + 20_000;;) {
    try {
      return await act();
    } catch (error) {
      if (performance.now() > giveUpAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

// Speaks on for a server until it is asked to hold an answer back.
class Eavesdropper implements AsyncDisposable {
  #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  #connections = new Set<Deno.Conn>();
  #done: Promise<void>;
  /** The connection that next says this is cut before the answer passes. */
  cutAfter: string | undefined;

  constructor(serverPort: number) {
    this.#done = this.#accept(serverPort);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#listener.addr.port}`;
  }

  async #accept(serverPort: number): Promise<void> {
    const served: Promise<void>[] = [];
    for await (const client of this.#listener) served.push(this.#serve(client, serverPort));
    await Promise.all(served);
  }

  async #serve(client: Deno.Conn, serverPort: number): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: serverPort });
    const pair = [client, server];
    for (const one of pair) this.#connections.add(one);
    let cutting = false;
    const pass = async (from: Deno.Conn, to: Deno.Conn, see: (chunk: Uint8Array) => boolean) => {
      const buffer = new Uint8Array(1 << 16);
      try {
        for (let size; (size = await from.read(buffer)) !== null;) {
          if (!see(buffer.subarray(0, size))) break;
          await write(to, buffer.subarray(0, size));
        }
      } catch {
        // Reset by either end, or closed here: so is the pair.
      }
      for (const one of pair) if (this.#connections.delete(one)) one.close();
    };
    await Promise.all([
      pass(client, server, (chunk) => {
        if (this.cutAfter !== undefined && new TextDecoder().decode(chunk).includes(this.cutAfter)) {
          cutting = true;
          this.cutAfter = undefined;
        }
        return true;
      }),
      pass(server, client, () => !cutting),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const one of this.#connections) if (this.#connections.delete(one)) one.close();
    await this.#done;
  }
}

async function write(to: Deno.Conn, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length;) at += await to.write(chunk.subarray(at));
}

redisTest("of two engines each job and each task goes to one", [], async ({ open }) => {
  const [one, other] = [await open(), await open()];
  const engine = (n: number) => n % 2 === 0 ? one : other;
  const jobs = Array.from({ length: 200 }, () => someJob());
  await Promise.all(
    jobs.map((job, n) => engine(n).commit([{ job, wakeAt: n, enqueue: [someTask(job, `task-${job.id}`)] }])),
  );
  const claims = await Promise.all(
    Array.from({ length: 30 }, (_, n) => engine(n).claim(1000, 2000, 20)),
  );
  const claimed = claims.flat().map((job) => job.id);
  assertEquals(claimed.length, 200);
  assertEquals(new Set(claimed).size, 200);
  const takes = await Promise.all(
    Array.from({ length: 220 }, (_, n) => engine(n).take({ ...ASK, workerId: `w${n % 3}` }, 5)),
  );
  const taken = takes.flatMap((task) => task?.id ?? []);
  assertEquals(taken.length, 200);
  assertEquals(new Set(taken).size, 200);
  // A worker may ask one engine and answer the other.
  const task = takes[0];
  assert(task !== undefined);
  const job = jobs.find((one) => one.id === task.jobId);
  assert(job !== undefined);
  const settle = [{ taskId: task.id, workerId: task.workerId }];
  const both = await Promise.all(
    [one, other].map((engine) => engine.commit([{ job: { ...job, revision: 2 }, wakeAt: null, settle }])),
  );
  assertEquals(both.map((outcome) => outcome.kind).toSorted(), ["conflict", "done"]);
});

redisTest("worlds with different prefixes do not meet", [], async ({ open }) => {
  const [one, other] = [await open("?prefix=one"), await open("/0?prefix=other")];
  const job = someJob();
  await one.commit([{ job, wakeAt: 1, enqueue: [someTask(job, "t")] }]);
  assertEquals(await other.read(job.id), undefined);
  assertEquals(await other.take(ASK, 1), undefined);
  assertEquals(await other.claim(9, 10, 9), []);
});

redisTest("scripts that the server forgot are given to it again", [], async ({ server, open }) => {
  const storage = await open();
  const job = someJob();
  await storage.commit([{ job, wakeAt: 1, enqueue: [someTask(job, "t")] }]);
  await server.command("SCRIPT", "FLUSH");
  assertEquals((await storage.take(ASK, 1))?.id, "t");
  assertEquals((await storage.claim(9, 10, 9)).length, 1);
});

for (const [how, signal] of [["stopped", "SIGTERM"], ["killed", "SIGKILL"]] as const) {
  redisTest(
    `while the server is ${how} requests fail at once, and nothing is lost after it`,
    [],
    async ({ server, open }) => {
      const [storage, other] = [await open(), await open()];
      const job = someJob();
      await storage.commit([{ job, wakeAt: 1, enqueue: [someTask(job, "t")] }]);
      await storage.take(ASK, 5);
      const heard: Notice[] = [];
      const stop = other.subscribe((notice) => heard.push(notice));
      await server.down(signal);
      const before = performance.now();
      await assertRejects(() => storage.read(job.id), Error, "does not do its work");
      await assertRejects(() => storage.commit([{ job: someJob(), wakeAt: null }]), Error, storage.label);
      await assertRejects(() => storage.get("a"), Error);
      assert(performance.now() - before < 4_500, "failing took as long as noticing silence");
      await server.up();
      const read = await patiently(() => storage.read(job.id));
      assertEquals(read?.job, job);
      assertEquals(read?.tasks.map((task) => task.workerId), ["w"]);
      const next = { ...job, revision: 2 };
      const settle = [{ taskId: "t", workerId: "w" }];
      // Notices work again, too.
      while (heard.length === 0) {
        const probe = someJob();
        await patiently(() => storage.commit([{ job: probe, wakeAt: null }]));
      }
      assertEquals((await storage.commit([{ job: next, wakeAt: null, settle }])).kind, "done");
      stop();
    },
  );
}

redisTest("an assignment whose answer was lost is undone", [], async ({ server, open }) => {
  const direct = await open();
  await using eavesdropper = new Eavesdropper(server.port);
  await using storage = await RedisStorage.open(eavesdropper.url);
  const job = someJob();
  await direct.commit([{ job, wakeAt: null, enqueue: [someTask(job, "first"), someTask(job, "second")] }]);
  assertEquals((await storage.take({ ...ASK, workerId: "lucky" }, 1))?.id, "first");
  eavesdropper.cutAfter = "unlucky";
  await assertRejects(() => storage.take({ ...ASK, workerId: "unlucky" }, 1), Error, "does not do its work");
  assertEquals((await direct.heldBy("unlucky")).map((task) => task.id), ["second"]);
  await patiently(async () => {
    await storage.time(0);
    assertEquals(await direct.heldBy("unlucky"), []);
  });
  assertEquals((await direct.take(ASK, 1))?.id, "second");
  assertEquals((await direct.heldBy("lucky")).map((task) => task.id), ["first"]);
});

redisTest(
  "the last assignments of an engine that died are undone, earlier ones stay",
  [],
  async ({ open }) => {
    const [dying, other] = [await open(), await open()];
    const job = someJob();
    await dying.putWorker({ id: "w", expiresAt: 1e9, seenAt: 1, registeredAt: 1, info: "{}" });
    await dying.commit([{ job, wakeAt: null, enqueue: [someTask(job, "early"), someTask(job, "late")] }]);
    assertEquals((await dying.take(ASK, 1))?.id, "early");
    for (let now = 1_000; now <= 3_000; now += 1_000) await dying.time(now);
    assertEquals((await dying.take(ASK, 3_000))?.id, "late");
    const held = async () => (await other.heldBy("w")).map((task) => task.id).toSorted();
    await other.time(900_000); // whatever happened here happened to all engines
    assertEquals(await held(), ["early", "late"]);
    for (let now = 901_000; now <= 906_000; now += 1_000) await other.time(now);
    assertEquals(await held(), ["early"]);
    assertEquals((await other.take({ ...ASK, workerId: "v" }, 906_000))?.id, "late");
  },
);

redisTest("a commit whose answer was lost is found done by its repetition", [], async ({ server, open }) => {
  const direct = await open();
  await using eavesdropper = new Eavesdropper(server.port);
  await using storage = await RedisStorage.open(eavesdropper.url);
  await storage.commit([{ job: someJob(), wakeAt: null }]); // the server knows the script from now on
  const job = someJob();
  const admission = { idempotency: { key: "lost-key", fingerprint: "f" } };
  eavesdropper.cutAfter = "lost-key";
  await assertRejects(() => storage.commit([{ job, wakeAt: 5, admission }]), Error, "does not do its work");
  const again = await patiently(() => storage.commit([{ job: someJob(), wakeAt: 5, admission }]));
  assertEquals(again, { kind: "duplicate", jobId: job.id, fingerprint: "f" });
  eavesdropper.cutAfter = "second-state";
  const next = { ...job, revision: 2, state: "second-state" };
  await assertRejects(() => storage.commit([{ job: next, wakeAt: null }]), Error, "does not do its work");
  assertEquals(await patiently(() => storage.commit([{ job: next, wakeAt: null }])), { kind: "conflict" });
  assertEquals((await direct.read(job.id))?.job, next);
});

redisTest("a server that stops answering is given up", [], async ({ server, open }) => {
  const storage = await open();
  server.pause(true);
  try {
    await assertRejects(() => storage.get("a"), Error, "does not do its work");
  } finally {
    server.pause(false);
  }
  assertEquals(await patiently(() => storage.get("a")), undefined);
});

redisTest("large values pass whole, and a claim answers in bearable pieces", [], async ({ open }) => {
  const storage = await open();
  const text = "Grüße \u{1F600}\0\r\n".repeat(600_000);
  const job = someJob({ stateHistory: { text } });
  const payload = JSON.stringify({ text });
  const history = [{ event_type: "task_finished" as const, timestamp: 1, state: "s", result: { text } }];
  await storage.commit([{ job, wakeAt: 1, enqueue: [someTask(job, "t", { payload })], history }]);
  for (let n = 2; n < 5; n++) {
    await storage.commit([{ job: someJob({ stateHistory: { text } }), wakeAt: n }]);
  }
  assertEquals((await storage.read(job.id))?.job, job);
  assertEquals((await storage.take(ASK, 1))?.payload, payload);
  assertEquals(await storage.history(job.id), history);
  const first = await storage.claim(10, 100, 10);
  assert(first.length > 0 && first.length < 4, `${first.length} claimed at once`);
  let rest = 0;
  for (let more = 1; more > 0; rest += more) more = (await storage.claim(10, 100, 10)).length;
  assertEquals(first.length + rest, 4);
});

redisTest(
  "many kinds of requirements and priorities keep their order and leave nothing",
  [],
  async ({ server, open }) => {
    const storage = await open();
    const job = someJob();
    const enqueue = Array.from(
      { length: 500 },
      (_, n) => someTask(job, `t${n}`, { priority: (n * 7919) % 500 / 8, maxCost: n + 1 }),
    );
    await storage.commit([{ job, wakeAt: null, enqueue }]);
    const wanted = enqueue.toSorted((one, other) => other.priority - one.priority).map(({ id }) => id);
    const taken: string[] = [];
    for (let task; (task = await storage.take({ ...ASK, cost: 1 }, 1)) !== undefined;) taken.push(task.id);
    assertEquals(taken, wanted);
    assertEquals((await storage.queues()).map(({ queued, held }) => [queued, held]), [[0, 500]]);
    const settle = taken.map((taskId) => ({ taskId, workerId: "w" }));
    const ended = { ...job, revision: 2, status: "finished", endedAt: 5 } as Job;
    assertEquals((await storage.commit([{ job: ended, wakeAt: null, settle }])).kind, "done");
    assertEquals(await storage.prune(6, 10), 1);
    assertEquals(await storage.queues(), []);
    const keys = (await server.command("KEYS", "*")).trim().split("\n").map((key) => key.split(":")[1]);
    assertEquals(keys.toSorted(), ["clients", "format", "lanes", "lanes", "seq"]);
    const more = someJob();
    const others = Array.from({ length: 300 }, (_, n) => someTask(more, `m${n}`, { maxCost: 1000 + n }));
    await storage.commit([{ job: more, wakeAt: null, enqueue: others }]);
    assert(Number(await server.command("SCARD", "{jobs}:lanes")) < 500, "empty queues are not forgotten");
  },
);

redisTest("a server whose memory is full refuses a step whole", [], async ({ server, open }) => {
  const storage = await open();
  const job = someJob();
  await storage.commit([{ job, wakeAt: 1, enqueue: [someTask(job, "t")] }]);
  assertEquals((await storage.take(ASK, 1))?.id, "t");
  await server.command("CONFIG", "SET", "maxmemory", "1");
  const next = { ...job, revision: 2 };
  const settle = [{ taskId: "t", workerId: "w" }];
  await assertRejects(() => storage.commit([{ job: next, wakeAt: null, settle }]), Error, "OOM");
  assertEquals((await storage.read(job.id))?.tasks.map((task) => task.workerId), ["w"]);
  await server.command("CONFIG", "SET", "maxmemory", "0");
  assertEquals((await storage.commit([{ job: next, wakeAt: null, settle }])).kind, "done");
});

redisTest("no message holds the password", [], async ({ server }) => {
  await server.command("CONFIG", "SET", "requirepass", "s3cret-w0rd");
  const place = `127.0.0.1:${server.port}`;
  const refused = (label: string, reason: string) =>
    `Cannot use ${label}: ${reason}; check that the server runs there and takes this user and password.`;
  const unread = "Cannot read the Redis address; write redis://[:PASSWORD@]HOST[:PORT][/DB][?prefix=NAME].";
  const wrong = "WRONGPASS invalid username-password pair or user is disabled";
  for (
    const [address, message] of [
      [`redis://:wr0ng-w0rd@${place}`, refused(`redis://${place}`, wrong)],
      [`redis://${place}`, refused(`redis://${place}`, "NOAUTH Authentication required")],
      [`redis://:s3cret-w0rd@${place}/99`, refused(`redis://${place}/99`, "ERR DB index is out of range")],
      [`redis://:s3cret-w0rd@${place}/0?prefix=a%20b`, unread],
      [`redis://:s3cret-w0rd@${place}/zero`, unread],
      [`redis://:s3cret-w0rd@`, unread],
    ] as const
  ) {
    const error = await assertRejects(() => RedisStorage.open(address), ConfigError);
    assertEquals(error.message, message);
    assert(!/w0rd/.test(`${error.message}${error.stack}`), error.message);
  }
  const storage = await RedisStorage.open(`redis://:s3cret-w0rd@${place}/3?prefix=p`);
  assertEquals(storage.label, `redis://${place}/3`);
  await storage[Symbol.asyncDispose]();
  const closed = await assertRejects(() => storage.get("a"), Error);
  assertEquals(closed.message, `redis://${place}/3 does not do its work: The storage is closed`);
});

redisTest(
  "an operator is warned of settings that lose jobs",
  ["--appendonly", "no"],
  async ({ server, open }) => {
    const label = server.url;
    assertEquals((await open()).warnings, [
      `${label} keeps no append-only file, so jobs are lost when it ends; set "appendonly yes".`,
    ]);
    await server.command("CONFIG", "SET", "appendonly", "yes");
    await server.command("CONFIG", "SET", "maxmemory", "1gb");
    assertEquals((await open()).warnings, []);
    await server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
    assertEquals((await open()).warnings, [
      `${label} may throw jobs away when its memory is full; set "maxmemory-policy noeviction".`,
    ]);
  },
);

Deno.test("a Redis server that is not there is reported in one sentence", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const url = `redis://127.0.0.1:${port}`;
  const error = await assertRejects(() => RedisStorage.open(url), ConfigError);
  assertEquals(
    error.message,
    `Cannot reach ${url}: connect ECONNREFUSED 127.0.0.1:${port}; start the server, or name another one.`,
  );
});
