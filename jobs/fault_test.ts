// Engines and workers are killed with -9 under load, in an order that a seed decides; then the books are checked.
// KILL_SEED repeats a run, KILL_SECONDS makes it longer.
// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import { redisMissing, RedisServer } from "./testing/redis_server.ts";
import { hasEnded, type Job } from "./model/job.ts";
import { openStorage } from "./stores/open.ts";

const SEED = Number(Deno.env.get("KILL_SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
const LOAD_MS = Number(Deno.env.get("KILL_SECONDS") ?? 10) * 1000;
// After the last kill: leases (15 s) run out, dead workers are missed, what is left is done.
const REST_MS = 90_000;
const CONFIG = new URL("../deno.json", import.meta.url).pathname;
const TASKS_OF = { single: 2, fork: 3, parent: 0 };

type Kind = keyof typeof TASKS_OF;

function random(seed: number): () => number {
  // A linear congruence is chance enough to choose victims by.
  let state = seed >>> 0;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// A script of jobs/testing that may be killed and started again.
class Mortal {
  readonly lines: string[] = [];
  #child: Deno.ChildProcess | undefined;
  #read: Promise<void> = Promise.resolve();

  constructor(readonly script: string, public args: string[]) {}

  /** Resolves with its first line; undefined: it ended without one. */
  start(): Promise<string | undefined> {
    const url = new URL(`./testing/${this.script}`, import.meta.url);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--config", CONFIG, url.pathname, ...this.args],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#child = child;
    const first = Promise.withResolvers<string | undefined>();
    this.#read = (async () => {
      let rest = "";
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + text).split("\n");
        rest = lines.pop() ?? "";
        this.lines.push(...lines);
        first.resolve(lines[0]);
      }
      await child.status;
      first.resolve(undefined);
    })();
    return first.promise;
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#read;
    this.#child = undefined;
  }
}

// What an engine answers; undefined: nobody is there, or there no longer, or it cannot at the moment.
async function ask(url: string, init: RequestInit & { key?: string } = {}): Promise<string | undefined> {
  const { key, ...request } = init;
  const headers: Record<string, string> = { "x-client-token": "client-token" };
  if (key !== undefined) headers["idempotency-key"] = key;
  try {
    const response = await fetch(url, { ...request, headers, signal: AbortSignal.timeout(10_000) });
    const text = await response.text();
    if (response.ok) return text;
    assert(response.status >= 500, `answered with ${response.status} ${text}`);
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error;
  }
}

// A client that tries any engine until one answers 202; the key makes sure that trying twice is submitting once.
async function submit(
  urls: string[],
  kind: Kind,
  label: string,
  data: Record<string, number>,
): Promise<string> {
  const body = JSON.stringify({ ...data, label });
  for (let turn = Math.floor(data.pauseMs!);; turn++) {
    const answer = await ask(`${urls[turn % urls.length]}/api/v1/jobs/${kind}`, {
      method: "POST",
      body,
      key: label,
    });
    if (answer !== undefined) return JSON.parse(answer).job_id;
    await sleep(20);
  }
}

function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  return listeners.map((listener) => {
    listener.close();
    return listener.addr.port;
  });
}

async function killingSpree(storage: string, engineCount: number): Promise<void> {
  console.log(`KILL_SEED=${SEED}`);
  const chance = random(SEED);
  const ports = freePorts(engineCount);
  const urls = ports.map((port) => `http://127.0.0.1:${port}`);
  const engines = ports.map((port) => new Mortal("crash_engine.ts", [storage, String(port)]));
  const workers = [0, 1].map((n) => new Mortal("crash_worker.ts", [`worker-${n}`, "4", ...urls]));
  const mortals = [...engines, ...workers];
  const accepted = new Map<string, { kind: Kind; label: string }>();
  let ending = false;
  let kills = 0;
  let labels = 0;

  const client = async () => {
    while (!ending) {
      const kind = (["single", "single", "fork", "parent"] as const)[Math.floor(chance() * 4)];
      const label = `job ${labels++}`;
      const data = { pauseMs: chance() * 60, priority: Math.floor(chance() * 3) };
      const id = await submit(urls, kind!, label, data);
      assert(!accepted.has(id), `${label} was given the id of ${accepted.get(id)?.label}`);
      accepted.set(id, { kind: kind!, label });
      await sleep(chance() * 40);
    }
  };

  try {
    const started = await Promise.all(engines.map((engine) => engine.start()));
    assertEquals(started, urls, "not all engines have started");
    for (const worker of workers) void worker.start();
    const clients = [client(), client(), client()];
    for (const until = performance.now() + LOAD_MS; performance.now() < until;) {
      await sleep(200 + chance() * 800);
      const victim = mortals[Math.floor(chance() * mortals.length)];
      await victim!.kill();
      kills++;
      // A worker comes back as itself or as somebody else.
      if (victim!.script === "crash_worker.ts" && chance() < 0.5) victim!.args[0] = `worker-${kills}-again`;
      void victim!.start();
    }
    ending = true;
    await Promise.all(clients);
    await rest(urls, accepted.size);
  } finally {
    ending = true;
    await Promise.all(mortals.map((mortal) => mortal.kill()));
  }
  await audit(storage, accepted, workers.flatMap((worker) => worker.lines));
  console.log(`${accepted.size} jobs, ${kills} kills`);
}

// Until nothing is open any longer.
async function rest(urls: string[], count: number): Promise<void> {
  const ended = ["finished", "failed", "quarantined", "cancelled"];
  for (const giveUpAt = performance.now() + REST_MS;;) {
    const answer = await ask(`${urls[0]}/api/dashboard`);
    if (answer !== undefined) {
      const open = Object.entries(JSON.parse(answer).jobs).filter(([status, n]) =>
        !ended.includes(status) && n !== 0
      );
      if (open.length === 0) return;
    }
    assert(performance.now() < giveUpAt, `of ${count} jobs some never end: ${answer?.slice(0, 400)}`);
    await sleep(100);
  }
}

async function audit(
  storage: string,
  accepted: Map<string, { kind: Kind; label: string }>,
  counted: string[],
): Promise<void> {
  await using store = await openStorage(storage);
  const all: Job[] = [];
  for (let page: Job[]; (page = await store.list({ limit: 500, offset: all.length })).length > 0;) {
    all.push(...page);
  }
  const own = all.filter((job) => job.parentId === undefined);
  const faults: string[] = [];
  // Submitted is stored, and nothing else is.
  const stored = new Set(own.map((job) => job.id));
  for (const [id, { label }] of accepted) if (!stored.has(id)) faults.push(`${label} (${id}) is lost`);
  for (const job of own) {
    if (!accepted.has(job.id)) faults.push(`${job.initialData.label} (${job.id}) is doubled`);
  }
  const parents = own.filter((job) => job.blueprint === "parent").length;
  if (all.length - own.length !== parents) {
    faults.push(`${parents} parents, ${all.length - own.length} children`);
  }
  for (const job of all) {
    const history = await store.history(job.id);
    const count = (type: string) => history.filter((entry) => entry.event_type === type).length;
    const fault = (what: string) =>
      faults.push(
        `${job.blueprint} ${job.id}: ${what}; ${history.map((entry) => entry.event_type).join(" ")}`,
      );
    if (!hasEnded(job) || job.status !== "finished") fault(`${job.status} ${job.error ?? ""}`);
    if (count("job_finished") !== 1 || count("job_created") !== 1) fault("begun or ended more than once");
    const results = count("task_finished") + count("branch_finished");
    const wanted = TASKS_OF[job.blueprint as Kind];
    if (results !== wanted) fault(`${results} results counted instead of ${wanted}`);
    if ((await store.read(job.id))?.tasks.length !== 0) fault("it still has tasks");
  }
  // Each result whose count was confirmed to a worker is another task's.
  const tasks = counted.map((line) => line.split(" ")[0]);
  if (new Set(tasks).size !== tasks.length) faults.push("a task's result was counted twice");
  assertEquals(faults.slice(0, 20), [], `${faults.length} faults`);
  assertEquals(await store.queues(), []);
}

// A flood of submissions, and the engine is killed in the middle of it.
async function flood(storage: string): Promise<void> {
  const [port] = freePorts(1);
  const url = `http://127.0.0.1:${port}/api/v1/jobs/fork`;
  const engine = new Mortal("crash_engine.ts", [storage, String(port)]);
  const accepted: string[] = [];
  try {
    for (let round = 1; round <= 2; round++) {
      await engine.start();
      let killed: Promise<void> | undefined;
      await Promise.all(Array.from({ length: 20 }, async () => {
        for (let answer; (answer = await ask(url, { method: "POST", body: "{}" })) !== undefined;) {
          accepted.push(JSON.parse(answer).job_id);
          if (accepted.length === round * 300) killed = engine.kill();
        }
      }));
      await killed;
    }
  } finally {
    await engine.kill();
  }
  await using store = await openStorage(storage);
  assert(accepted.length >= 600);
  for (const id of accepted) assertEquals((await store.read(id))?.job.id, id);
}

async function withSqlite(body: (storage: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(`sqlite:${folder}/jobs.sqlite`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function redisTest(sentence: string, body: (storage: string) => Promise<void>): void {
  Deno.test({
    name: `redis: ${sentence}${redisMissing === undefined ? "" : ` (ignored: ${redisMissing})`}`,
    ignore: redisMissing !== undefined,
    fn: async () => {
      await using server = await RedisServer.start();
      await body(server.url);
    },
  });
}

const ACCEPTED = "what was accepted is there after kill -9 in the middle of submissions";
const SPREE = "killed with -9 again and again, nothing is lost, doubled or left waiting";

Deno.test(`sqlite: ${ACCEPTED}`, () => withSqlite(flood));
redisTest(ACCEPTED, flood);

Deno.test(`sqlite: ${SPREE}`, () => withSqlite((storage) => killingSpree(storage, 1)));
redisTest(SPREE, (storage) => killingSpree(storage, 3));

redisTest(
  "a job whose engine died in the middle of a handler goes on with another engine",
  async (storage) => {
    const ports = freePorts(2);
    const dying = new Mortal("crash_engine.ts", [storage, String(ports[0]), "stuck"]);
    const other = new Mortal("crash_engine.ts", [storage, String(ports[1])]);
    const [dyingUrl, otherUrl] = ports.map((port) => `http://127.0.0.1:${port}`);
    try {
      await Promise.all([dying.start(), other.start()]);
      const id = await submit([dyingUrl!], "single", "orphan", { pauseMs: 0 });
      const state = async () => JSON.parse(await ask(`${otherUrl}/api/v1/jobs/${id}`) ?? "{}").status;
      assert(["pending", "running"].includes(await state()));
      await dying.kill();
      for (const giveUpAt = performance.now() + REST_MS; await state() !== "waiting_for_worker";) {
        assert(performance.now() < giveUpAt, `the job is still ${await state()}`);
        await sleep(50);
      }
    } finally {
      await Promise.all([dying.kill(), other.kill()]);
    }
  },
);
