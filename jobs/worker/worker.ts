/**
 * Worker SDK: pulls tasks from one engine or several, runs their functions, delivers what they return.
 *
 * @example
 * ```ts
 * import { Worker } from "../mod.ts";
 *
 * const worker = new Worker({ workerType: "demo", url: "http://127.0.0.1:8080", token: "test-worker-token" });
 * worker.task("echo_task", ({ message = "" }) => ({ status: "success", data: { message } }));
 * const stop = new AbortController();
 * stop.abort(); // here at once; a program would abort on SIGTERM
 * await worker.run({ signal: stop.signal });
 * ```
 *
 * @module
 */
import { DURATION_FORMS, spanOf } from "../../config/duration.ts";
import { UserError } from "../../config/errors.ts";
import { z } from "zod";
import { systemClock } from "../model/clock.ts";
import type { Log } from "../model/log.ts";
import type { JsonObject } from "../model/job.ts";
import { errorIn } from "../model/json.ts";
import { reasonOf } from "../model/errors.ts";
import { parseJson } from "../model/json.ts";
import { Command, WireTask } from "../model/wire.ts";

/** What a task's function is given besides its params. */
export interface TaskContext {
  taskId: string;
  jobId: string;
  priority: number;
  /** Aborted when the task is cancelled, runs out of time, or the worker stops. */
  signal: AbortSignal;
  /** Reports to the engine how far the task is (0 to 1). Called too fast, only the latest is sent; a lost one is no error. */
  sendProgress(progress: number, message?: string): Promise<void>;
  /** Reports to engines that this worker has something loaded (a model, a task type); it is then preferred for it. */
  addToHotCache(name: string): void;
  removeFromHotCache(name: string): void;
}

/** How a task ended. `status` names a transition; `success` and `failure` are the usual ones. */
export interface TaskOutcome {
  status: string;
  data?: JsonObject;
  /** Code PERMANENT_ERROR: a repeat is no use. INVALID_INPUT_ERROR: the params are wrong. Others are tried again. */
  error?: { code: string; message: string } | string;
}

/** The function of a task type. Nothing returned is a success without data; a throw is a failure that is tried again. */
export type TaskHandler = (
  params: JsonObject,
  context: TaskContext,
) => TaskOutcome | void | Promise<TaskOutcome | void>;

/** Settings given in code; they win over the environment. */
export interface WorkerOptions {
  workerType?: string;
  maxConcurrentTasks?: number;
  /** Its only engine. */
  url?: string;
  /** The name it registers under; two live workers must not share one. */
  id?: string;
  /** What the engine knows it by; needed here or in the environment. */
  token?: string;
  /** Where settings are read from; default: the process's environment. */
  environment?: Record<string, string | undefined>;
  /** Milliseconds that running tasks get to finish after `run` was stopped; default 5 000. */
  graceMs?: number;
  /** Where it logs; default: nowhere. */
  log?: Log;
}

/** A worker that cannot work as it is set up; the message says what to change. */
export class WorkerError extends UserError {
  override name = "WorkerError";
}

/** Why a task's `signal` was aborted: its `reason`. */
export class TaskStopped extends Error {
  override name = "TaskStopped";
  constructor(readonly why: "cancelled" | "timeout" | "shutdown") {
    super(`The task was stopped: ${why}.`);
  }
}

// --- Settings -------------------------------------------------------------------------------------------------

const seconds = (fallback: number) =>
  z.string().default(String(fallback)).transform((text, context) => {
    const spanMs = spanOf(text);
    if (spanMs !== null && spanMs <= 1e9) return spanMs;
    context.addIssue({ code: "custom", message: `must be ${DURATION_FORMS}.` });
    return z.NEVER;
  });
const whole = (least: number) =>
  z.coerce.number(`must be a whole number from ${least}.`).int("must be a whole number.")
    .min(least, `must be at least ${least}.`);
const url = z.string().regex(/^https?:\/\/[^\s/]+/i, "must be an address such as http://127.0.0.1:8080.")
  .transform((text) => text.replace(/\/+$/, ""));
const json = <T extends z.ZodType>(schema: T, like: string) =>
  z.string().transform((text, context) => {
    try {
      return schema.parse(JSON.parse(text));
    } catch { // the value may hold a token: only its shape is named
      context.addIssue({ code: "custom", message: `must be JSON like ${like}.` });
      return z.NEVER;
    }
  });
const models = json(z.array(z.looseObject({ name: z.string() })), `[{"name": "llama", "version": "3"}]`);

const Environment = z.object({
  ORCHESTRATOR_URL: url.default("http://127.0.0.1:8080"),
  ORCHESTRATORS_CONFIG: json(
    z.array(z.looseObject({ url, priority: z.number().default(10), token: z.string().optional() })).min(1),
    `[{"url": "http://one:8080", "priority": 1}]`,
  ).optional(),
  MULTI_ORCHESTRATOR_MODE: z.enum(["FAILOVER", "ROUND_ROBIN"], "must be FAILOVER or ROUND_ROBIN.")
    .default("FAILOVER"),
  WORKER_ID: z.string().regex(
    /^[^\s/\p{C}]{1,200}$/u,
    "must be 1 to 200 characters without spaces or slashes.",
  )
    .optional(),
  WORKER_TYPE: z.string().max(200, "must have at most 200 characters.").default("generic-cpu-worker"),
  WORKER_INDIVIDUAL_TOKEN: z.string().optional(),
  WORKER_TOKEN: z.string().optional(),
  MAX_CONCURRENT_TASKS: whole(1).default(10),
  WORKER_COST_PER_SECOND: z.coerce.number("must be a number.").min(0, "must not be negative.").optional(),
  CPU_CORES: whole(1).default(navigator.hardwareConcurrency),
  GPU_MODEL: z.string().optional(),
  GPU_VRAM_GB: z.coerce.number("must be a number.").min(0, "must not be negative.").default(0),
  INSTALLED_SOFTWARE: json(z.record(z.string(), z.unknown()), `{"ffmpeg": "6.1"}`).optional(),
  INSTALLED_MODELS: models.default([]),
  HEARTBEAT_INTERVAL: seconds(15),
  WORKER_HEARTBEAT_DEBOUNCE_DELAY: seconds(0.1),
  TASK_POLL_TIMEOUT: seconds(30),
  TASK_POLL_ERROR_DELAY: seconds(5),
  RESULT_MAX_RETRIES: whole(0).optional(),
  RESULT_RETRY_INITIAL_DELAY: seconds(1),
  WORKER_ENABLE_WEBSOCKETS: z.stringbool("must be true or false.").default(false),
});

interface Settings extends z.infer<typeof Environment> {
  id: string;
  engines: { url: string; token: string }[];
}

function readSettings(options: WorkerOptions): Settings {
  const { environment = Deno.env.toObject() } = options;
  const given = {
    ORCHESTRATOR_URL: options.url,
    WORKER_ID: options.id,
    WORKER_TYPE: options.workerType,
    MAX_CONCURRENT_TASKS: options.maxConcurrentTasks,
  };
  const filled = Object.entries({ ...environment, ...withoutHoles(given) }).filter(([, value]) =>
    String(value ?? "").trim() !== ""
  );
  const read = Environment.safeParse(Object.fromEntries(filled));
  if (!read.success) {
    throw new WorkerError(
      `Cannot set up the worker: ${
        read.error.issues.map(({ path, message }) => `${String(path[0])} ${message}`).join(" ")
      }`,
    );
  }
  const settings = read.data;
  const shared = options.token ?? settings.WORKER_INDIVIDUAL_TOKEN ?? settings.WORKER_TOKEN ?? "";
  const listed = options.url === undefined ? settings.ORCHESTRATORS_CONFIG : undefined;
  const engines = (listed ?? [{ url: settings.ORCHESTRATOR_URL, priority: 0, token: undefined }])
    .toSorted((a, b) => a.priority - b.priority || (a.url < b.url ? -1 : 1))
    .map(({ url, token = shared }) => ({ url, token }));
  if (engines.some(({ token }) => token === "")) {
    throw new WorkerError(
      "The worker has no token; set WORKER_TOKEN (or WORKER_INDIVIDUAL_TOKEN) to one that the engine knows.",
    );
  }
  return { ...settings, engines, id: settings.WORKER_ID ?? `worker-${crypto.randomUUID()}` };
}

function withoutHoles(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}

// --- Worker ---------------------------------------------------------------------------------------------------

interface TaskType {
  handler: TaskHandler;
  maxConcurrent: number;
  running: number;
}

/** Runs tasks of an engine, or of several. */
export class Worker {
  /** The name it registers under. Two live workers must not share one. */
  readonly id: string;
  /** Addresses of its engines, the preferred one first. */
  readonly engines: readonly string[];
  readonly workerType: string;
  readonly maxConcurrentTasks: number;
  readonly #settings: Settings;
  readonly #types = new Map<string, TaskType>();
  #session: Session | undefined;

  /** @throws WorkerError when a setting cannot be used; the message names all of them. */
  constructor(readonly options: WorkerOptions = {}) {
    this.#settings = readSettings(options);
    this.id = this.#settings.id;
    this.engines = this.#settings.engines.map(({ url }) => url);
    this.workerType = this.#settings.WORKER_TYPE;
    this.maxConcurrentTasks = this.#settings.MAX_CONCURRENT_TASKS;
  }

  /** Names of the tasks it can do. */
  get tasks(): string[] {
    return [...this.#types.keys()];
  }

  /** Whether at least one engine has it registered and answers. */
  get connected(): boolean {
    return this.#session?.connected ?? false;
  }

  /** Adds the function of a task type. `maxConcurrent` bounds this type below the worker's own limit. */
  task(
    name: string,
    handler: TaskHandler,
    { maxConcurrent = Infinity }: { maxConcurrent?: number } = {},
  ): this {
    if (this.#types.has(name)) {
      throw new WorkerError(`The task "${name}" is there twice; rename one of its functions.`);
    }
    if (!(maxConcurrent >= 1)) throw new WorkerError(`The limit of task "${name}" must be at least 1.`);
    this.#types.set(name, { handler, maxConcurrent, running: 0 });
    return this;
  }

  /**
   * Works until `signal` is aborted: then takes no more tasks, lets the running ones finish for `graceMs`, stops the
   * rest and gives them back to the engine. An abort of `force` ends the grace.
   *
   * @throws WorkerError when it has no task, or when an engine refuses it at its first registration.
   */
  async run(
    { signal = never, force: force = never }: { signal?: AbortSignal; force?: AbortSignal } = {},
  ): Promise<void> {
    if (this.#types.size === 0) {
      throw new WorkerError("The worker has no task; add a function with worker.task(NAME, FUNCTION).");
    }
    if (this.#session !== undefined) throw new WorkerError("This worker runs already.");
    this.#session = new Session(this.#settings, this.#types, this.options.log ?? (() => {}), signal);
    try {
      await this.#session.run(this.options.graceMs ?? 5_000, force);
    } finally {
      this.#session = undefined;
    }
  }
}

const never = new AbortController().signal;

/** Places for running tasks. Who waits gets one in turn. */
class Slots {
  #waiting: (() => void)[] = [];
  constructor(public free: number) {}

  /** Takes a place; resolves false when `signal` was aborted first. */
  acquire(signal: AbortSignal): boolean | Promise<boolean> {
    if (signal.aborted) return false;
    if (this.free > 0) {
      this.free--;
      return true;
    }
    return new Promise((resolve) => {
      const take = () => {
        signal.removeEventListener("abort", leave);
        resolve(true);
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(take), 1);
        resolve(false);
      };
      this.#waiting.push(take);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.free++;
    else next();
  }
}

/** An event that several may wait for, again and again. */
class Notifier {
  #waiting = new Set<() => void>();
  notify(): void {
    for (const wake of this.#waiting) wake();
  }
  /** Resolves at the next `notify`, after `ms`, or when `signal` is aborted. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#waiting.add(wake);
      signal.addEventListener("abort", wake, { once: true });
      if (signal.aborted) wake();
    });
  }
}

/** A day: what is waited for longer is not waited for by a timer. */
const LONG_MS = 86_400_000;

/** One run of a worker: what its connections share. */
class Session {
  readonly connections: EngineConnection[];
  readonly slots: Slots;
  readonly hotCache = new Set<string>();
  /** Notified when a task begins or ends, an engine comes or goes, the hot cache changes. */
  readonly changed = new Notifier();
  readonly client = Deno.createHttpClient({ http2: false, poolMaxIdlePerHost: 16 });
  /** Aborted when nothing is to be sent any more. */
  readonly ended = new AbortController();
  running = 0;
  /** Results on their way. */
  undelivered = 0;

  constructor(
    readonly settings: Settings,
    readonly types: Map<string, TaskType>,
    readonly log: Log,
    readonly stop: AbortSignal,
  ) {
    this.slots = new Slots(settings.MAX_CONCURRENT_TASKS);
    this.connections = settings.engines.map((engine) => new EngineConnection(this, engine.url, engine.token));
  }

  get connected(): boolean {
    return this.connections.some((connection) => connection.up);
  }

  async run(graceMs: number, force: AbortSignal): Promise<void> {
    const refused = new AbortController();
    const stop = AbortSignal.any([this.stop, refused.signal]);
    const aside = this.connections.flatMap((
      connection,
    ) => [connection.sendHeartbeats(), connection.listen()]);
    let refusal: unknown;
    await Promise.all(this.connections.map((connection) =>
      connection.work(stop).catch((error) => {
        refusal ??= error;
        refused.abort();
      })
    ));
    if (refusal === undefined) await this.#drain(graceMs, force);
    this.ended.abort();
    await Promise.all(aside);
    this.client.close();
    if (refusal !== undefined) throw refusal;
  }

  // Polls are over. A task that an engine was just assigning as its poll was broken off goes back by the first
  // registration (it is not among those named as running); what the grace did not suffice for by the second.
  async #drain(graceMs: number, force: AbortSignal): Promise<void> {
    await Promise.all(this.connections.map((connection) => connection.releaseOthers()));
    const busy = () => this.running + this.undelivered > 0;
    if (busy()) this.log("info", "worker_stopping", { running: this.running, grace_ms: graceMs });
    await this.#until(() => !busy(), graceMs, force);
    if (!busy()) return;
    for (const connection of this.connections) connection.stopTasks();
    await this.#until(() => this.running === 0, 3_000, never);
    await Promise.all(this.connections.map((connection) => connection.releaseOthers()));
  }

  async #until(done: () => boolean, ms: number, force: AbortSignal): Promise<void> {
    const by = systemClock.steady() + ms;
    while (!done() && !force.aborted && systemClock.steady() < by) {
      await this.changed.wait(by - systemClock.steady(), force);
    }
  }

  /** Names of the tasks that could begin now, as far as their own limits go. */
  open(): string[] {
    return [...this.types].filter(([, type]) => type.running < type.maxConcurrent).map(([name]) => name);
  }

  /** Waits until at least one task could begin as far as its own limit goes. */
  async untilOpen(signal: AbortSignal): Promise<boolean> {
    while (this.open().length === 0 && !signal.aborted) await this.changed.wait(LONG_MS, signal);
    return !signal.aborted;
  }

  /** Whether this engine is the one to poll: in fail-over mode the first that is up. */
  isTurnOf(connection: EngineConnection): boolean {
    return this.settings.MULTI_ORCHESTRATOR_MODE === "ROUND_ROBIN" ||
      this.connections.find((other) => other.up) === connection;
  }
}

/** An engine that cannot be worked with now. `forGood`: it has understood and refuses. */
class ConnectionError extends Error {
  constructor(message: string, readonly permanent = false, readonly retryMs?: number) {
    super(message);
  }
}

interface Answer {
  status: number;
  text: string;
  /** From Retry-After. */
  retryMs?: number;
}

interface HeldTask {
  task: WireTask;
  control: AbortController;
}

/** A worker that is full, or whose type is, for less than this does not bother the engine with it. */
const SHORT_WAIT_MS = 250;
/** Above this many results on their way no more tasks are taken. */
const MOST_UNDELIVERED = 200;
/** Polls at once while tasks come at once, which is within this. */
const MOST_POLLS = 4;
const AT_ONCE_MS = 20;
const LONGEST_RESULT_DELAY_MS = 16_000;

/** The connection to one engine: registration, heartbeats, polls, commands, results. */
class EngineConnection {
  /** Registered, and answered when last asked. */
  up = false;
  /** Tasks of this engine that have no delivered result. */
  readonly #held = new Map<string, HeldTask>();
  /** Task names of the last registration or heartbeat. */
  #announced: string[] = [];
  #wasUp = false;
  #beating: Promise<void> = Promise.resolve();
  /** Until then one poll at a time will do. */
  #singlePollUntil = 0;
  /** Times that it failed since a poll was last answered as it should be. */
  #failures = 0;
  #socket: WebSocket | undefined;

  constructor(readonly session: Session, readonly url: string, readonly token: string) {}

  // --- Requests

  async #send(
    method: "GET" | "POST" | "PATCH",
    path: string,
    { body, timeoutMs = 30_000, signal = this.session.ended.signal }: {
      body?: string;
      timeoutMs?: number;
      signal?: AbortSignal;
    } = {},
  ): Promise<Answer> {
    const control = new AbortController();
    const abort = () => control.abort();
    const timer = setTimeout(abort, timeoutMs);
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    try {
      const response = await fetch(this.url + path, {
        method,
        headers: body === undefined
          ? { "X-Worker-Token": this.token }
          : { "X-Worker-Token": this.token, "Content-Type": "application/json" },
        body,
        redirect: "manual",
        client: this.session.client,
        signal: control.signal,
      });
      const text = await response.text();
      const retryAfter = Number(response.headers.get("Retry-After") ?? NaN);
      return {
        status: response.status,
        text,
        ...retryAfter >= 0 ? { retryMs: Math.min(retryAfter, 300) * 1000 } : {},
      };
    } catch (error) {
      const why = !control.signal.aborted
        ? reasonOf(error)
        : signal.aborted
        ? "stopped"
        : "no answer in time";
      throw new ConnectionError(`cannot reach ${this.url}: ${why}`);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  // --- Registration and heartbeats

  async #register(
    change: { status?: "draining" } = {},
    how?: { timeoutMs?: number; signal?: AbortSignal },
  ): Promise<void> {
    const { settings, types } = this.session;
    const name = settings.GPU_MODEL;
    const answer = await this.#send("POST", "/_worker/workers/register", {
      body: JSON.stringify({
        worker_id: settings.id,
        worker_type: settings.WORKER_TYPE,
        supported_tasks: [...types.keys()],
        max_concurrent_tasks: settings.MAX_CONCURRENT_TASKS,
        installed_models: settings.INSTALLED_MODELS,
        installed_software: settings.INSTALLED_SOFTWARE,
        hostname: Deno.hostname(),
        ip_address: ownAddress(),
        resources: {
          cpu_cores: settings.CPU_CORES,
          gpu_info: name === undefined ? null : { model: name, vram_gb: settings.GPU_VRAM_GB },
        },
        cost_per_second: settings.WORKER_COST_PER_SECOND,
        capabilities: { websockets: settings.WORKER_ENABLE_WEBSOCKETS },
        status: "idle",
        load: this.session.running,
        hot_cache: [...this.session.hotCache],
        running_tasks: [...this.#held.keys()],
        ...change,
      }),
      ...how,
    });
    if (answer.status === 200) {
      this.#announced = [...types.keys()];
      return;
    }
    const refusal = `${this.url} refuses the registration: ${errorText(answer)}`;
    const hint = answer.status === 401 ? "; WORKER_TOKEN must be a token that this engine knows" : "";
    const forGood = answer.status >= 400 && answer.status < 500 && answer.status !== 429;
    throw new ConnectionError(refusal + hint, forGood, answer.retryMs);
  }

  // Reports what it can take now, and receives which of its tasks were cancelled. One after the other: the last report
  // must be the true one.
  #heartbeat(): Promise<void> {
    const next = () => this.#sendHeartbeat();
    return this.#beating = this.#beating.then(next, next);
  }

  async #sendHeartbeat(): Promise<void> {
    const open = this.session.open();
    const { MAX_CONCURRENT_TASKS, id } = this.session.settings;
    const answer = await this.#send("PATCH", `/_worker/workers/${encodeURIComponent(id)}`, {
      body: JSON.stringify({
        load: this.session.running,
        status: this.session.running >= MAX_CONCURRENT_TASKS ? "busy" : "idle",
        supported_tasks: open,
        hot_cache: [...this.session.hotCache],
      }),
    });
    if (answer.status === 404) {
      this.session.log("info", "worker_unknown", { engine: this.url });
      return await this.#register();
    }
    if (answer.status !== 200) {
      throw new ConnectionError(
        `${this.url} refuses the heartbeat: ${errorText(answer)}`,
        false,
        answer.retryMs,
      );
    }
    this.#announced = open;
    const cancelled = CancelledTasks.safeParse(parseJson(answer.text));
    for (const taskId of cancelled.data?.cancelled_tasks ?? []) this.#cancel(taskId);
  }

  // A heartbeat is due soon when this has changed.
  #loadKey(): string {
    return [this.session.running, ...this.session.hotCache].join();
  }

  // Whether something can be done that the last heartbeat did not name.
  #hasUnannounced(): boolean {
    return this.session.open().some((name) => !this.#announced.includes(name));
  }

  /** Sends heartbeats: on their interval, and soon after the load has changed. */
  async sendHeartbeats(): Promise<void> {
    const { settings, changed, ended: over, log } = this.session;
    let sent = "";
    let last = -Infinity;
    let announced = false;
    while (!over.signal.aborted) {
      if (!this.up) {
        await changed.wait(LONG_MS, over.signal);
        continue;
      }
      const wait = last + settings.HEARTBEAT_INTERVAL - systemClock.steady();
      if (wait > 0 && this.#loadKey() === sent && !this.#hasUnannounced()) {
        await changed.wait(wait, over.signal);
        continue;
      }
      if (wait > 0) {
        // A change of load is reported at most once a second: under load it would be a flood, and nobody needs it. But a
        // task may wait for what can be done again.
        const rest = this.#hasUnannounced() ? 0 : Math.min(wait, last + 1000 - systemClock.steady());
        await systemClock.sleep(Math.max(settings.WORKER_HEARTBEAT_DEBOUNCE_DELAY, rest), over.signal);
        if (over.signal.aborted) return;
      }
      last = systemClock.steady();
      sent = this.#loadKey();
      try {
        await this.#heartbeat();
        if (!announced) {
          log("info", "heartbeats_started", { engine: this.url, every_ms: settings.HEARTBEAT_INTERVAL });
        }
        announced = true;
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        if (over.signal.aborted) return;
        log("warn", "heartbeat_failed", { error: error.message });
        await systemClock.sleep(error.retryMs ?? 1_000, over.signal);
      }
    }
  }

  /** All tasks that the engine believes here, but that are not, go back to its queue. */
  async releaseOthers(): Promise<void> {
    if (!this.#wasUp) return;
    try {
      await this.#register({ status: "draining" }, { timeoutMs: 3_000 });
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error; // unreachable: it will notice the missing heartbeats
      this.session.log("warn", "release_failed", { error: error.message });
    }
  }

  // --- Polls

  /** Registers and polls until `stop`; begins again whenever the engine was away. */
  async work(stop: AbortSignal): Promise<void> {
    const { log, settings, changed } = this.session;
    while (!stop.aborted) {
      try {
        log("debug", "registering", { engine: this.url });
        // It names the tasks that run here, so that one whose delivery was lost with the connection is given out again.
        await this.#register({}, { signal: stop });
        log("info", "registered", { engine: this.url, worker: settings.id });
        this.up = this.#wasUp = true;
        changed.notify();
        await this.#poll(stop);
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        this.up = false;
        changed.notify();
        if (stop.aborted) return;
        if (error.permanent && !this.#wasUp) throw new WorkerError(`The engine at ${error.message}.`);
        const delay = Math.min(settings.TASK_POLL_ERROR_DELAY, 100 * 2 ** this.#failures++);
        log("warn", "engine_unavailable", { error: error.message, retry_in_ms: Math.round(delay) });
        await systemClock.sleep(error.retryMs ?? jittered(delay), stop);
      }
    }
  }

  async #poll(stop: AbortSignal): Promise<void> {
    const { session } = this;
    const { settings, slots } = session;
    // With fewer places than engines they take turns, so nobody may sit on one for long.
    const shares = settings.MULTI_ORCHESTRATOR_MODE === "ROUND_ROBIN" &&
      session.connections.length > settings.MAX_CONCURRENT_TASKS;
    const waitMs = shares ? Math.min(1_000, settings.TASK_POLL_TIMEOUT) : settings.TASK_POLL_TIMEOUT;
    session.log("info", "polling_started", { engine: this.url });
    const others = new Set<Promise<void>>();
    try {
      while (!stop.aborted) {
        if (!session.isTurnOf(this) || session.undelivered >= MOST_UNDELIVERED) {
          await session.changed.wait(1_000, stop);
          continue;
        }
        const slot = slots.acquire(stop);
        if (slot !== true && !await this.#pollCommandsUntil(slot)) break;
        const since = systemClock.steady();
        const taken = await this.#pollOnce(waitMs, stop);
        if (taken && others.size < MOST_POLLS - 1 && systemClock.steady() - since < AT_ONCE_MS) {
          const other = this.#pollMore(stop).then(() => void others.delete(other));
          others.add(other);
        }
        this.#failures = 0;
      }
    } finally {
      await Promise.all(others);
    }
  }

  // Tasks wait for workers: one poll after the other would spend its time on the way there and back.
  async #pollMore(stop: AbortSignal): Promise<void> {
    const { session } = this;
    const { slots, types } = session;
    const hasLimits = [...types.values()].some(({ maxConcurrent }) => maxConcurrent !== Infinity);
    if (hasLimits || systemClock.steady() < this.#singlePollUntil) return;
    try {
      while (session.undelivered < MOST_UNDELIVERED && slots.free > 0 && slots.acquire(stop) === true) {
        if (await this.#pollOnce(SHORT_WAIT_MS, stop)) continue;
        this.#singlePollUntil = systemClock.steady() + 1_000;
        return;
      }
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error; // the main poll fails likewise, and sees to it
      this.#singlePollUntil = systemClock.steady() + 1_000;
    }
  }

  // One poll, for which a slot has been taken. @returns whether a task began, and keeps the slot
  async #pollOnce(waitMs: number, stop: AbortSignal): Promise<boolean> {
    const { session } = this;
    let taken = false;
    try {
      await this.#announceOpen(stop);
      const since = systemClock.steady();
      const path = `/_worker/workers/${encodeURIComponent(session.settings.id)}/tasks/next?commands=1&wait=${
        waitMs / 1000
      }`;
      const answer = await this.#send("GET", path, { timeoutMs: waitMs + 5_000, signal: stop });
      if (answer.status === 200) taken = this.#receive(answer);
      else if (answer.status !== 204) {
        throw new ConnectionError(
          `${this.url} refuses the poll: ${errorText(answer)}`,
          false,
          answer.retryMs,
        );
      } else if (systemClock.steady() - since < Math.min(waitMs, SHORT_WAIT_MS)) {
        await systemClock.sleep(SHORT_WAIT_MS, stop); // an engine that does not hold polls must not be hammered
      }
      return taken;
    } finally {
      if (!taken) session.slots.release();
    }
  }

  // The engine gives out what the last heartbeat named. When a type has reached its own limit it must not be named;
  // one that is full for a moment only is waited for instead, as each heartbeat costs more than a short task. When all
  // are full there is nothing to ask for.
  async #announceOpen(stop: AbortSignal): Promise<void> {
    const { session } = this;
    const by = systemClock.steady() + SHORT_WAIT_MS;
    while (this.#announced.some((name) => !isOpen(session.types.get(name))) && !stop.aborted) {
      if (session.open().length === 0) await this.#pollCommandsUntil(session.untilOpen(stop));
      else if (systemClock.steady() >= by) return await this.#heartbeat();
      else await session.changed.wait(Math.max(1, by - systemClock.steady()), stop);
    }
  }

  // Takes in the answer to a poll. @returns whether a task began, and with it the slot was taken
  #receive(answer: Answer): boolean {
    const value = parseJson(answer.text);
    const command = Command.safeParse(value);
    if (command.success) {
      this.#cancel(command.data.task_id);
      return false;
    }
    const task = WireTask.safeParse(value);
    if (!task.success) throw new ConnectionError(`${this.url} sent a task that cannot be read`);
    // Only with several engines: each had room for this type when its poll began. Not named as running, it goes back.
    const type = this.session.types.get(task.data.type);
    if (type !== undefined && !isOpen(type)) {
      throw new ConnectionError(`${this.url} sent more than can be done now`);
    }
    this.#run(task.data, type);
    return true;
  }

  // --- Cancelling

  #cancel(taskId: string): void {
    this.#held.get(taskId)?.control.abort(new TaskStopped("cancelled"));
  }

  /** Stops what still runs, without results. */
  stopTasks(): void {
    for (const { control } of this.#held.values()) control.abort(new TaskStopped("shutdown"));
    this.#held.clear();
  }

  // A full worker does not poll for tasks, and would receive a cancel only by the next heartbeat.
  async #pollCommandsUntil(slot: Promise<boolean> | boolean): Promise<boolean> {
    const free = new AbortController();
    const polling = this.#pollCommands(free.signal);
    const got = await slot;
    free.abort();
    await polling;
    return got;
  }

  async #pollCommands(until: AbortSignal): Promise<void> {
    const { settings, log } = this.session;
    await systemClock.sleep(SHORT_WAIT_MS, until);
    const path = `/_worker/workers/${encodeURIComponent(settings.id)}/tasks/next?commands=1&tasks=0&wait=${
      settings.TASK_POLL_TIMEOUT / 1000
    }`;
    while (!until.aborted && this.#socket === undefined) {
      try {
        const since = systemClock.steady();
        const { status, text } = await this.#send("GET", path, {
          timeoutMs: settings.TASK_POLL_TIMEOUT + 5_000,
          signal: until,
        });
        const command = Command.safeParse(parseJson(text));
        if (status === 200 && command.success) this.#cancel(command.data.task_id);
        else if (systemClock.steady() - since < SHORT_WAIT_MS) await systemClock.sleep(1_000, until);
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        if (until.aborted) return;
        log("debug", "command_poll_failed", { error: error.message });
        await systemClock.sleep(jittered(settings.TASK_POLL_ERROR_DELAY), until);
      }
    }
  }

  /** Keeps a WebSocket open for commands and progress, when that is switched on. */
  async listen(): Promise<void> {
    const { settings, ended: over, log, changed } = this.session;
    if (!settings.WORKER_ENABLE_WEBSOCKETS) return;
    while (!over.signal.aborted) {
      if (!this.up) {
        await changed.wait(LONG_MS, over.signal);
        continue;
      }
      await this.#holdSocket();
      if (!over.signal.aborted) log("info", "socket_closed", { engine: this.url });
      await systemClock.sleep(jittered(settings.TASK_POLL_ERROR_DELAY), over.signal);
    }
  }

  #holdSocket(): Promise<void> {
    const { settings, ended: over } = this.session;
    const address = `${this.url.replace(/^http/i, "ws")}/_worker/ws/${encodeURIComponent(settings.id)}`;
    const socket = new WebSocket(address, { headers: { "X-Worker-Token": this.token } });
    const close = () => socket.close();
    over.signal.addEventListener("abort", close, { once: true });
    return new Promise((resolve) => {
      socket.onopen = () => {
        this.#socket = socket;
      };
      socket.onmessage = ({ data }) => {
        const command = Command.safeParse(typeof data === "string" ? parseJson(data) : undefined);
        if (command.success) this.#cancel(command.data.task_id);
      };
      socket.onerror = (event) => event.preventDefault(); // `onclose` follows
      socket.onclose = () => {
        this.#socket = undefined;
        over.signal.removeEventListener("abort", close);
        resolve();
      };
    });
  }

  // --- Tasks

  async #run(task: WireTask, type: TaskType | undefined): Promise<void> {
    const { session } = this;
    const control = new AbortController();
    this.#held.set(task.task_id, { task, control });
    session.running++;
    if (type !== undefined) type.running++;
    session.changed.notify();
    const started = systemClock.steady();
    session.log("info", "task_received", { task_id: task.task_id, job_id: task.job_id, type: task.type });

    const outcome = type === undefined
      ? failure("PERMANENT_ERROR", `Unsupported task: ${task.type}`)
      : await this.#perform(type.handler, task, control);

    if (type !== undefined) type.running--;
    session.running--;
    session.undelivered++;
    session.slots.release();
    session.changed.notify();
    const reason = control.signal.reason;
    const why = reason instanceof TaskStopped ? reason.why : undefined;
    const status = why ?? outcome.status;
    const ms = Math.round(systemClock.steady() - started);
    session.log("info", "task_ended", {
      task_id: task.task_id,
      job_id: task.job_id,
      type: task.type,
      status,
      ms,
    });
    // Out of time: the engine has settled it. Given back: another worker has it.
    if (why === undefined || why === "cancelled") {
      await this.#deliver(task, why === "cancelled" ? { status: "cancelled" } : outcome);
    }
    this.#held.delete(task.task_id);
    session.undelivered--;
    session.changed.notify();
  }

  async #perform(handler: TaskHandler, task: WireTask, control: AbortController): Promise<TaskOutcome> {
    const { hotCache, changed } = this.session;
    const limit = task.timeout_seconds;
    const timer = limit === undefined || limit > 2_000_000
      ? undefined
      : setTimeout(() => control.abort(new TaskStopped("timeout")), limit * 1000);
    const progress = new ProgressLine((value) => this.#sendProgress(task, value));
    try {
      const outcome = await handler(task.params, {
        taskId: task.task_id,
        jobId: task.job_id,
        priority: task.priority,
        signal: control.signal,
        sendProgress: (value, message) => progress.send({ progress: value, message }),
        addToHotCache: (name) => {
          hotCache.add(name);
          changed.notify();
        },
        removeFromHotCache: (name) => {
          hotCache.delete(name);
          changed.notify();
        },
      });
      if (outcome === undefined || outcome === null) return { status: "success" };
      if (typeof outcome !== "object" || typeof outcome.status !== "string") {
        return failure(
          "PERMANENT_ERROR",
          `The function of task ${task.type} returned something without a status; return { status, data }.`,
        );
      }
      return outcome;
    } catch (error) {
      return failure("TRANSIENT_ERROR", error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(timer);
    }
  }

  async #sendProgress(task: WireTask, value: Progress): Promise<void> {
    const event = {
      event: "progress_update",
      type: "progress_update",
      worker_id: this.session.settings.id,
      job_id: task.job_id,
      task_id: task.task_id,
      ...value,
    };
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(event));
      return;
    }
    try {
      await this.#send("POST", "/_worker/events", { body: JSON.stringify(event) });
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error; // news, not a result: the next one will do
    }
  }

  // --- Results

  async #deliver(task: WireTask, outcome: TaskOutcome): Promise<void> {
    const { settings, log, ended: over } = this.session;
    const fields = { task_id: task.task_id, job_id: task.job_id };
    const bodyOf = (result: TaskOutcome) => JSON.stringify({ ...fields, worker_id: settings.id, result });
    let body: string;
    try {
      body = bodyOf(outcome);
    } catch (error) { // BigInt, or a value that contains itself
      body = bodyOf(failure("PERMANENT_ERROR", `The result cannot be written as JSON: ${reasonOf(error)}`));
    }
    for (let tries = 0, replaced = false; !over.signal.aborted; tries++) {
      let problem: string;
      let retryMs: number | undefined;
      try {
        const answer = await this.#send("POST", "/_worker/tasks/result", { body, timeoutMs: 60_000 });
        if (answer.status === 200) {
          if (answer.text.includes('"ignored"')) {
            log("warn", "result_ignored", { ...fields, answer: answer.text });
          }
          return;
        }
        problem = errorText(answer);
        retryMs = answer.retryMs;
        if (!replaced && (answer.status === 400 || answer.status === 413)) {
          // A repeat would be refused as well; without a result the job would wait for its time-out.
          replaced = true;
          body = bodyOf(failure("PERMANENT_ERROR", `The engine refuses the result: ${problem}`));
          continue;
        }
        if (answer.status < 500 && ![401, 403, 408, 429].includes(answer.status)) {
          log("warn", "result_refused", { ...fields, error: problem });
          return;
        }
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        problem = error.message;
      }
      if (tries >= (settings.RESULT_MAX_RETRIES ?? Infinity)) {
        log("error", "result_dropped", { ...fields, error: problem });
        return;
      }
      log("warn", "result_delayed", { ...fields, error: problem });
      const delay = Math.min(LONGEST_RESULT_DELAY_MS, settings.RESULT_RETRY_INITIAL_DELAY * 2 ** tries);
      await systemClock.sleep(retryMs ?? jittered(delay), over.signal);
    }
  }
}

const CancelledTasks = z.looseObject({ cancelled_tasks: z.array(z.string()) });

interface Progress {
  progress: number;
  message?: string;
}

// Sends one at a time; while one is on its way only the newest is kept.
class ProgressLine {
  #waiting: Progress | undefined;
  #sending: Promise<void> | undefined;
  constructor(readonly transmit: (value: Progress) => Promise<void>) {}

  send(value: Progress): Promise<void> {
    this.#waiting = value;
    this.#sending ??= this.#drain();
    return this.#sending;
  }

  async #drain(): Promise<void> {
    while (this.#waiting !== undefined) {
      const value = this.#waiting;
      this.#waiting = undefined;
      await this.transmit(value);
    }
    this.#sending = undefined;
  }
}

function isOpen(type: TaskType | undefined): boolean {
  return type === undefined || type.running < type.maxConcurrent;
}

/** A failed outcome. */
export function failure(code: string, message: string): TaskOutcome {
  return { status: "failure", error: { code, message } };
}

// Workers that lost their engine at the same moment must not all come back at the same moment.
function jittered(ms: number): number {
  return ms * (0.75 + Math.random() / 2);
}

function errorText({ status, text }: Answer): string {
  const error = errorIn(text);
  return error === undefined ? `status ${status}` : `${error} (${status})`;
}

function ownAddress(): string {
  const outside = Deno.networkInterfaces().find(({ family, address }) =>
    family === "IPv4" && !address.startsWith("127.")
  );
  return outside?.address ?? "127.0.0.1";
}
