/**
 * Measures the job engine with every storage beside a bare `Deno.serve`, in one run. `README.md` beside this file says
 * what each figure means.
 *
 *     deno task bench:jobs                              everything
 *     deno task bench:jobs --only sqlite --rounds 5     one storage, fewer rounds
 *     deno task bench:jobs --kept 0                     without the 100,000 jobs for the memory
 *     deno task bench:jobs --profiles FOLDER            with processor profiles of the engines, which cost some time
 *
 * The engine is the command as users run it, in a process of its own; so are the client and each worker. Linux only: it
 * reads /proc.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { parseArgs } from "@std/cli/parse-args";
import { redisMissing, RedisServer } from "../jobs/testing/redis_server.ts";

const CLIENT_TOKEN = "bench-client-token";
const WORKER_TOKEN = "bench-worker-token";
const SUBMIT = "/api/v1/jobs/noop";
const ACCEPTED = '{"status":"result_accepted_success"}';
/** Connections of the client, each with one request on its way. */
const CLIENT_CONNECTIONS = 16;
/** Tasks that a worker takes at once; each place has a connection of its own. */
const WORKER_PLACES = 10;
const WORKERS = 4;
const ANSWER_LIMIT_MS = 120_000;
const START_LIMIT_MS = 30_000;
const WARM_UP_JOBS = 5_000;
const LATENCY_JOBS = 500;
/** Requests of one round against the bare server. */
const BARE_REQUESTS = 15_000;

const FLOW = `export default ({ StateMachineBlueprint }) => {
  const flow = new StateMachineBlueprint({ name: "noop", apiEndpoint: "/jobs/noop", apiVersion: "v1" });
  flow.handlerFor("start", { isStart: true, to: { success: "completed" } }, ({ initialData, actions }) =>
    actions.dispatchTask({ taskType: "noop", params: { n: initialData.n } }));
  flow.handlerFor("completed", { isEnd: true });
  return flow;
};
`;

// ------------------------------------------------------------------------------------------------------------------
// 1. A client that costs little
// Plain HTTP/1.1 over a connection that stays open; the bare limit is measured with the same one.

interface Answer {
  status: number;
  body: string;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

class Connection implements Disposable {
  #buffer = new Uint8Array(1 << 16);
  private constructor(readonly conn: Deno.TcpConn) {}

  static async open(url: string): Promise<Connection> {
    const { hostname, port } = new URL(url);
    const conn = await Deno.connect({ hostname, port: Number(port) });
    conn.setNoDelay(true);
    return new Connection(conn);
  }

  /** Sends one request and reads its answer, whose length must be given. */
  async ask(request: Uint8Array): Promise<Answer> {
    for (let sent = 0; sent < request.length;) {
      sent += await this.conn.write(sent === 0 ? request : request.subarray(sent));
    }
    for (let size = 0;;) {
      const read = await this.conn.read(size === 0 ? this.#buffer : this.#buffer.subarray(size));
      if (read === null) throw new Error("the server closed the connection");
      size += read;
      const answer = readAnswer(decoder.decode(this.#buffer.subarray(0, size)));
      if (answer !== undefined) return answer;
      if (size === this.#buffer.length) {
        const larger = new Uint8Array(size * 2);
        larger.set(this.#buffer);
        this.#buffer = larger;
      }
    }
  }

  [Symbol.dispose](): void {
    this.conn.close();
  }
}

// An answer that is there as a whole. What is asked for here is ASCII, so characters are bytes.
function readAnswer(text: string): Answer | undefined {
  const end = text.indexOf("\r\n\r\n");
  if (end === -1) return undefined;
  const status = Number(text.slice(9, 12));
  const at = text.indexOf("\r\ncontent-length: ");
  if (at === -1 || at > end) {
    if (status !== 204) throw new Error(`an answer without its length: ${text.slice(0, end)}`);
    return { status, body: "" };
  }
  const length = Number(text.slice(at + 18, text.indexOf("\r\n", at + 18)));
  const start = end + 4;
  if (text.length < start + length) return undefined;
  return { status, body: text.slice(start) };
}

function request(method: string, path: string, token: string, body?: string): Uint8Array {
  const length = body === undefined
    ? ""
    : `content-type: application/json\r\ncontent-length: ${body.length}\r\n`;
  return encoder.encode(`${method} ${path} HTTP/1.1\r\nhost: bench\r\n${token}${length}\r\n${body ?? ""}`);
}

const AS_CLIENT = `x-client-token: ${CLIENT_TOKEN}\r\n`;
const AS_WORKER = `x-worker-token: ${WORKER_TOKEN}\r\n`;

/** Milliseconds since 1970 in fine steps: processes compare theirs. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// ------------------------------------------------------------------------------------------------------------------
// 2. The roles
// Each runs in a process of its own, gets its orders as lines on stdin, and answers with lines on stdout.

/** What a role is ordered to do. */
type Order =
  | { do: "flood"; url: string; requests: number }
  | { do: "submit"; url: string; jobs: number }
  | { do: "latency"; url: string; jobs: number }
  | { do: "work"; url: string; id: string }
  | { do: "rest" };

/** What a role says. */
type Word =
  | { kind: "ready"; url?: string }
  | { kind: "done"; from: number; to: number; samples?: number[] }
  | { kind: "gone" }
  | { kind: "results"; count: number; at: number };

function say(word: Word): void {
  console.log(JSON.stringify(word));
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}

async function* orders(): AsyncGenerator<Order> {
  for await (const line of lines(Deno.stdin.readable)) yield JSON.parse(line);
}

/** Nothing but a server: the most that any engine on it could do. */
async function bareServer(): Promise<void> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => new Response());
  say({ kind: "ready", url: `http://127.0.0.1:${server.addr.port}` });
  for await (const _ of orders());
  await server.shutdown();
}

/** Answers what an engine answers, and does nothing for it: the most that these clients and workers could get. */
async function stub(): Promise<void> {
  const headers = { "content-type": "application/json" };
  const id = crypto.randomUUID();
  const task = JSON.stringify({ job_id: id, task_id: id, type: "noop", params: { n: 1 } });
  const waiting: ((answer: Response) => void)[] = [];
  let queued = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    if (request.url.endsWith("/tasks/next")) {
      if (queued === 0) return await new Promise<Response>((resolve) => waiting.push(resolve));
      queued--;
      return new Response(task, { headers });
    }
    await request.text();
    if (request.url.endsWith("/result")) return new Response(ACCEPTED, { headers });
    if (!request.url.endsWith(SUBMIT)) return new Response("{}", { headers });
    const next = waiting.shift();
    if (next === undefined) queued++;
    else next(new Response(task, { headers }));
    return new Response(`{"status":"accepted","job_id":"${id}"}`, { status: 202, headers });
  });
  say({ kind: "ready", url: `http://127.0.0.1:${server.addr.port}` });
  for await (const order of orders()) {
    // Polls of workers that rest are not there any longer.
    if (order.do === "rest") {
      waiting.length = 0;
      say({ kind: "ready" });
    }
  }
  await server.shutdown();
}

async function client(): Promise<void> {
  say({ kind: "ready" });
  for await (const order of orders()) {
    if (order.do === "flood") {
      const empty = encoder.encode("GET / HTTP/1.1\r\nhost: bench\r\n\r\n");
      say(await inParallel(order.url, order.requests, () => empty, 200));
    } else if (order.do === "submit") {
      const submission = (n: number) => request("POST", SUBMIT, AS_CLIENT, JSON.stringify({ n }));
      say(await inParallel(order.url, order.jobs, submission, 202));
    } else if (order.do === "latency") {
      say(await oneByOne(order.url, order.jobs));
    }
  }
}

async function inParallel(
  url: string,
  count: number,
  make: (n: number) => Uint8Array,
  expected: number,
): Promise<Word> {
  const connections = await Promise.all(
    Array.from({ length: CLIENT_CONNECTIONS }, () => Connection.open(url)),
  );
  let next = 0;
  const from = now();
  await Promise.all(connections.map(async (connection) => {
    while (next < count) {
      const { status, body } = await connection.ask(make(next++));
      if (status !== expected) throw new Error(`answered with ${status} ${body}`);
    }
  }));
  const to = now();
  for (const connection of connections) connection[Symbol.dispose]();
  return { kind: "done", from, to };
}

// A job at a time: submitted, then asked for until its end is seen.
async function oneByOne(url: string, count: number): Promise<Word> {
  using connection = await Connection.open(url);
  const samples: number[] = [];
  const from = now();
  for (let n = 0; n < count; n++) {
    await sleep(2);
    const submission = request("POST", SUBMIT, AS_CLIENT, JSON.stringify({ n }));
    const since = now();
    const { body } = await connection.ask(submission);
    const look = request("GET", `/api/v1/jobs/${JSON.parse(body).job_id}`, AS_CLIENT);
    while (!(await connection.ask(look)).body.includes('"status":"finished"'));
    samples.push(now() - since);
  }
  return { kind: "done", from, to: now(), samples };
}

/** A worker whose tasks take no time. Each of its places polls, answers, polls. */
async function worker(): Promise<void> {
  let places: Promise<void>[] = [];
  let connections: Connection[] = [];
  let count = 0;
  let at = 0;
  let reported = 0;
  // Counting aloud would take more time than the work.
  const timer = setInterval(() => {
    if (count !== reported) say({ kind: "results", count: reported = count, at });
  }, 10);
  const place = async (connection: Connection, id: string) => {
    const poll = request("GET", `/_worker/workers/${id}/tasks/next`, AS_WORKER);
    for (;;) {
      const { status, body } = await connection.ask(poll);
      if (status === 204) continue;
      if (status !== 200) throw new Error(`poll answered with ${status} ${body}`);
      const { job_id, task_id } = JSON.parse(body);
      const result = { job_id, task_id, worker_id: id, result: { status: "success", data: { ok: true } } };
      const answer = await connection.ask(
        request("POST", "/_worker/tasks/result", AS_WORKER, JSON.stringify(result)),
      );
      if (answer.body !== ACCEPTED) {
        throw new Error(`result answered with ${answer.status} ${answer.body}`);
      }
      count++;
      at = now();
    }
  };
  say({ kind: "ready" });
  for await (const order of orders()) {
    if (order.do === "work") {
      const { url, id } = order;
      using registering = await Connection.open(url);
      const body = { worker_id: id, supported_tasks: ["noop"], max_concurrent_tasks: WORKER_PLACES };
      const { status } = await registering.ask(
        request("POST", "/_worker/workers/register", AS_WORKER, JSON.stringify(body)),
      );
      if (status !== 200) throw new Error(`registration answered with ${status}`);
      connections = await Promise.all(Array.from({ length: WORKER_PLACES }, () => Connection.open(url)));
      let isResting = false;
      places = connections.map((connection) =>
        place(connection, id).catch((error) => {
          if (!isResting) throw error; // else the poll that waits was hung up on
        })
      );
      resting = () => isResting = true;
      count = reported = 0;
      say({ kind: "ready" });
    } else if (order.do === "rest") {
      resting();
      for (const connection of connections) connection[Symbol.dispose]();
      await Promise.all(places);
      say({ kind: "ready" });
    }
  }
  clearInterval(timer);
}

let resting: () => void = () => {};

// ------------------------------------------------------------------------------------------------------------------
// 3. Processes

const children = new Set<Deno.ChildProcess>();

function start(command: string, args: string[], options: Deno.CommandOptions): Deno.ChildProcess {
  const child = new Deno.Command(command, { ...options, args }).spawn();
  children.add(child);
  child.status.then(() => children.delete(child));
  return child;
}

async function end(child: Deno.ChildProcess): Promise<void> {
  if (!children.has(child)) return;
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), 10_000);
  await child.status;
  clearTimeout(late);
}

/** Rejects when it takes longer; nothing here waits without a limit. */
async function within<T>(what: string, limitMs: number, work: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`${what} took longer than ${limitMs / 1000} s`)),
    limitMs,
  );
  try {
    return await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** A role in its own process. */
class Role {
  /** Results that it has counted since it was ordered to work, and the moment of the last one. */
  results = { count: 0, at: 0 };
  /** Called when `results` has changed. */
  counted: () => void = () => {};
  readonly #orders: WritableStreamDefaultWriter<Uint8Array>;
  #next = Promise.withResolvers<Word>();

  private constructor(readonly name: string, readonly child: Deno.ChildProcess) {
    this.#orders = child.stdin.getWriter();
    void this.#listen();
  }

  static async start(name: "bare" | "stub" | "client" | "worker"): Promise<Role & { url: string }> {
    const args = ["run", "-A", "--no-check", "--config", CONFIG, import.meta.filename ?? "", "--role", name];
    const role = new Role(name, start(Deno.execPath(), args, { stdin: "piped", stdout: "piped" }));
    const word = await role.#hear(START_LIMIT_MS);
    return Object.assign(role, { url: word.kind === "ready" ? word.url ?? "" : "" });
  }

  async #listen(): Promise<void> {
    for await (const line of lines(this.child.stdout)) {
      const word: Word = JSON.parse(line);
      if (word.kind === "results") {
        this.results = word;
        this.counted();
      } else this.#next.resolve(word);
    }
    this.#next.resolve({ kind: "gone" });
  }

  async #hear(limitMs: number): Promise<Word> {
    const word = await within(`waiting for the ${this.name}`, limitMs, this.#next.promise);
    this.#next = Promise.withResolvers();
    if (word.kind === "gone") throw new Error(`the ${this.name} has failed`);
    return word;
  }

  /** Gives an order and waits until it is done. */
  async send(order: Order): Promise<{ from: number; to: number; samples: number[] }> {
    await this.#orders.write(encoder.encode(`${JSON.stringify(order)}\n`));
    const word = await this.#hear(ANSWER_LIMIT_MS);
    return word.kind === "done" ? { samples: [], ...word } : { from: 0, to: 0, samples: [] };
  }
}

/** An engine under measurement, as `orchestrator engine` runs it with its default settings. */
class Engine {
  private constructor(readonly storage: string, readonly child: Deno.ChildProcess, readonly url: string) {}

  static async start(storage: string, folder: string, profiles?: string): Promise<Engine> {
    const output = `${folder}/${storage.replace(/\W.*/, "")}.log`;
    const engine = [`${ROOT}/orchestrator.ts`, "engine", "--blueprints", `${folder}/flow.js`];
    const profile = profiles === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profiles}`];
    const run = [Deno.execPath(), "run", "-A", "--no-check", ...profile, "--config", CONFIG, ...engine];
    // The shell makes the redirection and is replaced: reading the log would cost this side of the measurement.
    const line = ["-c", 'out=$1; shift; exec "$@" > "$out"', "sh", output, ...run, "--storage", storage];
    const child = start("/bin/sh", [...line, "--port", "0", "--log-format", "json"], {
      env: { CLIENT_TOKEN, GLOBAL_WORKER_TOKEN: WORKER_TOKEN },
      cwd: folder,
      stdin: "null",
    });
    const find = async () => {
      while (children.has(child)) {
        const text = await Deno.readTextFile(output).catch(() => "");
        const url = /"event":"engine_running".*?"url":"(.*?)"/.exec(text)?.[1];
        if (url !== undefined) return url;
        await sleep(20);
      }
      throw new Error(`the engine with ${storage} did not start`);
    };
    return new Engine(storage, child, await within("starting an engine", START_LIMIT_MS, find()));
  }

  get #proc(): string {
    return `/proc/${this.child.pid}`;
  }

  /** Seconds of processor time so far. */
  cpu(): number {
    return cpuOf(this.child.pid);
  }

  /** Resident memory now, in MiB. */
  memory(): number {
    const status = Deno.readTextFileSync(`${this.#proc}/status`);
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
  }

  /** Jobs by status, as the engine says. */
  async counts(): Promise<Record<string, number>> {
    using connection = await Connection.open(this.url);
    const { body } = await connection.ask(request("GET", "/api/dashboard", AS_CLIENT));
    return JSON.parse(body).jobs;
  }
}

function cpuOf(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

// ------------------------------------------------------------------------------------------------------------------
// 4. Measuring

const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");
const CONFIG = `${ROOT}/deno.json`;

/** Rates of one measure, one a round, and the processor time of the measured process over all rounds. */
class Figures {
  values: number[] = [];
  #cpu = 0;
  #seconds = 0;
  #count = 0;

  add(count: number, seconds: number, cpuSeconds: number): void {
    this.values.push(count / seconds);
    this.#cpu += cpuSeconds;
    this.#seconds += seconds;
    this.#count += count;
  }

  get median(): number {
    return quantile(this.values, 0.5);
  }

  get best(): number {
    return Math.max(...this.values);
  }

  get range(): string {
    return `${whole(Math.min(...this.values))}–${whole(this.best)}`;
  }

  /** Processor time for one, and the share of one processor that it was. */
  get cost(): string {
    return `${whole(this.#cpu / this.#count * 1e6)} µs, ${whole(this.#cpu / this.#seconds * 100)} %`;
  }
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en");
}

function progress(text: string): void {
  console.error(text);
}

/** A storage, its engine and what was measured with it. */
interface Subject {
  name: string;
  engine: Engine;
  redis?: RedisServer;
  one: Figures;
  four: Figures;
  submissions: Figures;
  latency: number[];
  /** MiB before the first job and after all of them, jobs that are kept, jobs a second on the way. */
  kept?: { before: number; after: number; jobs: number; rate: number; server?: string };
}

interface Crew {
  client: Role;
  workers: Role[];
}

async function toWork(workers: readonly Role[], url: string): Promise<void> {
  for (const [index, role] of workers.entries()) {
    role.results = { count: 0, at: 0 };
    await role.send({ do: "work", url, id: `worker-${index}` });
  }
}

async function toRest(workers: readonly Role[]): Promise<void> {
  for (const role of workers) await role.send({ do: "rest" });
}

// Until the workers at work have counted so many results together; returns the moment of the last.
async function results(workers: readonly Role[], wanted: number): Promise<number> {
  const all = Promise.withResolvers<void>();
  const look = () => {
    if (workers.reduce((sum, role) => sum + role.results.count, 0) >= wanted) all.resolve();
  };
  for (const role of workers) role.counted = look;
  look();
  await within(`waiting for ${wanted} results`, ANSWER_LIMIT_MS, all.promise);
  return Math.max(...workers.map((role) => role.results.at));
}

/** Submits jobs while workers do them. @returns jobs a second from the first submission to the last end */
async function run(
  { client }: Crew,
  workers: readonly Role[],
  engine: { url: string; child: Deno.ChildProcess },
  jobs: number,
  figures?: Figures,
): Promise<number> {
  await toWork(workers, engine.url);
  const cpuBefore = cpuOf(engine.child.pid);
  const { from } = await client.send({ do: "submit", url: engine.url, jobs });
  const seconds = (await results(workers, jobs) - from) / 1000;
  figures?.add(jobs, seconds, cpuOf(engine.child.pid) - cpuBefore);
  await toRest(workers);
  return jobs / seconds;
}

async function flood({ client }: Crew, bare: Role & { url: string }, figures?: Figures): Promise<void> {
  const cpuBefore = cpuOf(bare.child.pid);
  const { from, to } = await client.send({ do: "flood", url: bare.url, requests: BARE_REQUESTS });
  const seconds = (to - from) / 1000;
  figures?.add(BARE_REQUESTS / 3, seconds, cpuOf(bare.child.pid) - cpuBefore);
}

async function submitAlone({ client, workers }: Crew, subject: Subject, jobs: number): Promise<void> {
  const { engine } = subject;
  const cpuBefore = engine.cpu();
  const { from, to } = await client.send({ do: "submit", url: engine.url, jobs });
  const seconds = (to - from) / 1000;
  subject.submissions.add(jobs, seconds, engine.cpu() - cpuBefore);
  // What waits now is done before the next measure.
  await toWork(workers, engine.url);
  await results(workers, jobs);
  await toRest(workers);
}

async function audit({ engine }: Subject): Promise<number> {
  const counts = await engine.counts();
  const { finished = 0, ...others } = counts;
  const open = Object.entries(others).filter(([status, count]) => status !== "queued" && count > 0);
  if (open.length > 0) throw new Error(`not all jobs have ended well: ${JSON.stringify(counts)}`);
  return finished;
}

async function keep(crew: Crew, subject: Subject, before: number, wanted: number): Promise<void> {
  const { engine, redis } = subject;
  let jobs = await audit(subject);
  const first = jobs;
  let seconds = 0;
  while (jobs < wanted) {
    const more = Math.min(10_000, wanted - jobs);
    seconds += more / await run(crew, crew.workers, engine, more);
    jobs = await audit(subject);
    progress(`  ${subject.name}: ${whole(jobs)} jobs kept, ${whole(engine.memory())} MiB`);
  }
  const rate = (jobs - first) / seconds;
  const server = redis && /used_memory_human:(\S+)/.exec(await redis.command("info", "memory"))?.[1];
  subject.kept = { before, after: engine.memory(), jobs, rate, ...(server === undefined ? {} : { server }) };
}

// ------------------------------------------------------------------------------------------------------------------
// 5. The tables

function row(...cells: string[]): string {
  return `| ${cells.join(" | ")} |`;
}

function report(bare: Figures, stubs: Figures[], subjects: readonly Subject[], jobs: number): string {
  const limit = bare.median;
  const share = (value: number, of = limit) => `${whole(value / of * 100)} %`;
  const rates: [string, string, Figures][] = [
    ["no engine, ready answers", "1", stubs[0]!],
    ["no engine, ready answers", String(WORKERS), stubs[1]!],
  ];
  for (const { name, one, four } of subjects) {
    rates.push([name, "1", one], [name, String(WORKERS), four]);
  }
  const ms = (value: number) => value.toFixed(2);
  return [
    `Limit of the design: ${whole(limit * 3)} empty requests a second, 3 for a job: ${whole(limit)} jobs/s`,
    `(${bare.range} in ${bare.values.length} rounds, processor time ${bare.cost} of a processor).`,
    "",
    `### ${whole(jobs)} jobs, from the first submission to the last end`,
    "",
    row("storage", "workers", "jobs/s", "of the limit", "range", "best of best", "engine's processor time"),
    row("---", "--:", "--:", "--:", "--:", "--:", "--:"),
    ...rates.map(([name, workers, figures]) =>
      row(
        ...[name, workers, whole(figures.median), share(figures.median), figures.range],
        ...[share(figures.best, bare.best), figures.cost],
      )
    ),
    "",
    "### Submissions alone",
    "",
    row("storage", "submissions/s", "of the bare server", "range", "engine's processor time"),
    row("---", "--:", "--:", "--:", "--:"),
    ...subjects.map(({ name, submissions: one }) =>
      row(name, whole(one.median), share(one.median / 3), one.range, one.cost)
    ),
    "",
    "### One job at a time, from its submission until its end is seen",
    "",
    row("storage", "p50 ms", "p99 ms", "jobs"),
    row("---", "--:", "--:", "--:"),
    ...subjects.map(({ name, latency }) =>
      row(name, ms(quantile(latency, 0.5)), ms(quantile(latency, 0.99)), whole(latency.length))
    ),
    "",
    ...subjects.some(({ kept }) => kept) ? memoryTable(subjects) : [],
  ].join("\n");
}

function memoryTable(subjects: readonly Subject[]): string[] {
  return [
    "### Resident memory of the engine",
    "",
    row("storage", "before", "after", "jobs kept", "jobs/s on the way", "beside it"),
    row("---", "--:", "--:", "--:", "--:", "---"),
    ...subjects.flatMap(({ name, kept }) =>
      kept === undefined ? [] : row(
        name,
        `${whole(kept.before)} MiB`,
        `${whole(kept.after)} MiB`,
        whole(kept.jobs),
        whole(kept.rate),
        kept.server === undefined ? "" : `server ${kept.server}`,
      )
    ),
    "",
    "Kept with default settings: every job with its history (nothing is removed unless a retention is set).",
  ];
}

// ------------------------------------------------------------------------------------------------------------------
// 6. Main

interface Flags {
  only?: string;
  rounds: number;
  jobs: number;
  kept: number;
  profiles?: string;
}

// What is measured, with all that must not outlive it.
interface Bench {
  folder: string;
  subjects: Subject[];
  redis: RedisServer[];
}

async function measure({ folder, subjects, redis: servers }: Bench, flags: Flags): Promise<void> {
  await Deno.writeTextFile(`${folder}/flow.js`, FLOW);
  const bare = await Role.start("bare");
  const empty = await Role.start("stub");
  const client = await Role.start("client");
  const workers = await Promise.all(Array.from({ length: WORKERS }, () => Role.start("worker")));
  const crew: Crew = { client, workers };
  for (const name of (flags.only ?? "memory,sqlite,redis").split(",")) {
    if (name === "redis" && redisMissing !== undefined) {
      progress(`redis is left out: ${redisMissing}`);
      continue;
    }
    const redis = name === "redis" ? await RedisServer.start() : undefined;
    if (redis !== undefined) servers.push(redis);
    const storage = redis?.url ?? (name === "sqlite" ? `sqlite:${folder}/jobs.sqlite` : "memory");
    const engine = await Engine.start(storage, folder, flags.profiles);
    const [one, four, submissions] = [new Figures(), new Figures(), new Figures()];
    subjects.push({
      name,
      engine,
      ...(redis === undefined ? {} : { redis }),
      one,
      four,
      submissions,
      latency: [],
    });
  }
  const before = subjects.map(({ engine }) => engine.memory());
  progress("warming up");
  await flood(crew, bare);
  const runStub = async (used: Role[], jobs: number, figures?: Figures) => {
    await run(crew, used, empty, jobs, figures);
    await empty.send({ do: "rest" });
  };
  await runStub(workers, WARM_UP_JOBS);
  for (const { engine } of subjects) await run(crew, workers, engine, WARM_UP_JOBS);
  const [limit, stubOne, stubFour] = [new Figures(), new Figures(), new Figures()];
  for (let round = 1; round <= flags.rounds; round++) {
    progress(`round ${round} of ${flags.rounds}`);
    await flood(crew, bare, limit);
    await runStub(workers.slice(0, 1), flags.jobs, stubOne);
    await runStub(workers, flags.jobs, stubFour);
    for (const subject of subjects) {
      await run(crew, workers.slice(0, 1), subject.engine, flags.jobs, subject.one);
      await run(crew, workers, subject.engine, flags.jobs, subject.four);
      await submitAlone(crew, subject, flags.jobs);
    }
  }
  for (const subject of subjects) {
    progress(`latency: ${subject.name}`);
    await toWork(workers.slice(0, 1), subject.engine.url);
    const order = { do: "latency", url: subject.engine.url, jobs: LATENCY_JOBS } as const;
    subject.latency = (await client.send(order)).samples;
    await toRest(workers.slice(0, 1));
    await audit(subject);
  }
  if (flags.kept > 0) {
    for (const [index, subject] of subjects.entries()) await keep(crew, subject, before[index]!, flags.kept);
  }
  console.log(report(limit, [stubOne, stubFour], subjects, flags.jobs));
}

async function main(flags: Flags): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "bench-jobs-" });
  const bench: Bench = { folder, subjects: [], redis: [] };
  const interrupted = Promise.withResolvers<void>();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(name, () => {
      Deno.exitCode = 130;
      interrupted.resolve();
    });
  }
  try {
    await Promise.race([measure(bench, flags), interrupted.promise]);
  } finally {
    await Promise.all([...children].map(end));
    for (const server of bench.redis) await server[Symbol.asyncDispose]();
    await Deno.remove(folder, { recursive: true });
  }
  Deno.exit(); // a measure that was interrupted may still wait for its limit
}

const ROLES: Record<string, () => Promise<void>> = { bare: bareServer, stub, client, worker };

if (import.meta.main) {
  const { role, only, rounds, jobs, kept, profiles } = parseArgs(Deno.args, {
    string: ["role", "only", "rounds", "jobs", "kept", "profiles"],
    default: { rounds: "15", jobs: "1000", kept: "100000" },
  });
  if (role !== undefined) await ROLES[role]!();
  else await main({ only, rounds: Number(rounds), jobs: Number(jobs), kept: Number(kept), profiles });
}
