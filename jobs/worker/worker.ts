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
import { LinkedAbort } from "../model/abort.ts";
import { systemClock } from "../../config/clock.ts";
import { EngineConnection } from "./connection.ts";
import { RunState, type TaskType } from "./run_state.ts";
import { readSettings, type Settings, WorkerError, type WorkerOptions } from "./settings.ts";
import type { TaskHandler } from "./task.ts";

const GRACE_MS = 5_000;
/** What tasks that were stopped get to end. */
const STOP_MS = 3_000;

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
  #run: WorkerRun | undefined;

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
    return this.#run?.connected ?? false;
  }

  /** Adds the function of a task type. `maxConcurrent` bounds this type below the worker's own limit. */
  task(
    name: string,
    handler: TaskHandler,
    { maxConcurrent = Infinity }: { maxConcurrent?: number | undefined } = {},
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
    { signal = never, force = never }: { signal?: AbortSignal; force?: AbortSignal } = {},
  ): Promise<void> {
    if (this.#types.size === 0) {
      throw new WorkerError("The worker has no task; add a function with worker.task(NAME, FUNCTION).");
    }
    if (this.#run !== undefined) throw new WorkerError("This worker runs already.");
    const { clock = systemClock, log = () => {}, graceMs = GRACE_MS } = this.options;
    this.#run = new WorkerRun(new RunState(this.#settings, this.#types, clock, log));
    try {
      await this.#run.run(signal, graceMs, force);
    } finally {
      this.#run = undefined;
    }
  }
}

const never = new AbortController().signal;

/** One run of a worker: its connections, from the first registration to the last result. */
class WorkerRun {
  readonly #connections: EngineConnection[];

  constructor(readonly state: RunState) {
    this.#connections = state.settings.engines.map((engine) =>
      new EngineConnection(state, engine, (connection) => this.#isTurnOf(connection))
    );
  }

  get connected(): boolean {
    return this.#connections.some(({ isUp }) => isUp);
  }

  async run(signal: AbortSignal, graceMs: number, force: AbortSignal): Promise<void> {
    using stop = new LinkedAbort(signal);
    const accompanying = this.#connections.map((connection) => connection.accompany());
    const ends = await Promise.allSettled(this.#connections.map(async (connection) => {
      try {
        await connection.work(stop.signal);
      } finally {
        stop.abort(); // one that is refused ends all
      }
    }));
    const refused = ends.find((end) => end.status === "rejected");
    if (refused === undefined) await this.#drain(graceMs, force);
    this.state.ended.abort();
    await Promise.all(accompanying);
    this.state.client.close();
    if (refused !== undefined) throw refused.reason;
  }

  // Polls are over. A task that an engine was just assigning as its poll was broken off goes back by the first
  // registration (it is not among those named as running); what the grace did not suffice for by the second.
  async #drain(graceMs: number, force: AbortSignal): Promise<void> {
    const { state } = this;
    const release = () => Promise.all(this.#connections.map((connection) => connection.releaseOthers()));
    await release();
    const isDone = () => state.running + state.undelivered === 0;
    if (!isDone()) state.log("info", "worker_stopping", { running: state.running, grace_ms: graceMs });
    if (await state.until(isDone, graceMs, force)) return;
    for (const { tasks } of this.#connections) tasks.stop();
    await state.until(() => state.running === 0, STOP_MS, never);
    await release();
  }

  // In fail-over mode the first that is up is polled.
  #isTurnOf(connection: EngineConnection): boolean {
    return this.state.settings.MULTI_ORCHESTRATOR_MODE === "ROUND_ROBIN" ||
      this.#connections.find(({ isUp }) => isUp) === connection;
  }
}
