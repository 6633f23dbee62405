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
import { Polls } from "./polls.ts";
import { RunState } from "./run_state.ts";
import { readSettings, type Settings, WorkerError, type WorkerOptions } from "./settings.ts";
import type { TaskHandler, TaskType } from "./task.ts";

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
  /** Those of the run; none while it does not run. */
  #connections: EngineConnection[] = [];

  /** @throws WorkerError when a setting cannot be used; the message names all of them. */
  constructor(readonly options: WorkerOptions = {}) {
    this.#settings = readSettings(options);
    this.id = this.#settings.id;
    this.engines = this.#settings.engines.map(({ url }) => url);
    this.workerType = this.#settings.type;
    this.maxConcurrentTasks = this.#settings.maxTasks;
  }

  /** Names of the tasks it can do. */
  get tasks(): string[] {
    return [...this.#types.keys()];
  }

  /** Whether at least one engine has it registered and answers. */
  get connected(): boolean {
    return this.#connections.some(({ isUp }) => isUp);
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
    if (this.#connections.length > 0) throw new WorkerError("This worker runs already.");
    const { clock = systemClock, log = () => {}, graceMs = GRACE_MS } = this.options;
    const run = new RunState(this.#settings, this.#types, clock, log);
    this.#connections = this.#settings.engines.map(({ url, token }) => new EngineConnection(run, url, token));
    const accompanying = this.#connections.map((connection) => connection.accompany());
    try {
      await this.#poll(signal);
      await this.#drain(run, graceMs, force);
    } finally {
      run.ended.abort();
      await Promise.all(accompanying);
      run.client.close();
      this.#connections = [];
    }
  }

  // Resolves when all polls are over. An engine that refuses the worker ends the polls of all.
  async #poll(signal: AbortSignal): Promise<void> {
    using stop = new LinkedAbort(signal);
    const ends = await Promise.allSettled(this.#connections.map(async (connection) => {
      // In fail-over mode the first that is up is polled.
      const isTurn = () =>
        this.#settings.takesTurns || this.#connections.find(({ isUp }) => isUp) === connection;
      try {
        await new Polls(connection, isTurn).work(stop.signal);
      } finally {
        stop.abort();
      }
    }));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  }

  // A task that an engine was just assigning as its poll was broken off goes back by the first registration (it is not
  // among those named as running); what the grace did not suffice for by the second.
  async #drain(run: RunState, graceMs: number, force: AbortSignal): Promise<void> {
    const release = () => Promise.all(this.#connections.map((connection) => connection.releaseOthers()));
    await release();
    const isDone = () => run.running + run.undelivered === 0;
    if (!isDone()) run.log("info", "worker_stopping", { running: run.running, grace_ms: graceMs });
    if (await run.until(isDone, graceMs, force)) return;
    for (const connection of this.#connections) connection.stopTasks();
    await run.until(() => run.running === 0, STOP_MS, never);
    await release();
  }
}

const never = new AbortController().signal;
