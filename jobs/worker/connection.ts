/**
 * One engine: registers with it, keeps it up to date by heartbeats, polls it, begins again when it was away.
 *
 * @module
 */
import { z } from "zod";
import { parseJson } from "../model/json.ts";
import { CommandSocket } from "./command_socket.ts";
import { ConnectionError, EngineHttp } from "./engine_http.ts";
import { HeldTasks } from "./held_tasks.ts";
import { Polls } from "./polls.ts";
import type { RunState } from "./run_state.ts";
import { WorkerError } from "./settings.ts";
import { Backoff } from "./waiting.ts";

type State =
  | { kind: "unregistered" }
  /** Answered when last asked. `announced`: the task names of the last registration or heartbeat. */
  | { kind: "up"; announced: readonly string[] }
  /** Was up, and is to be registered with again. */
  | { kind: "away" };

/** What a heartbeat that was sent has said of the load, and when. */
interface Report {
  at: number;
  load: string;
}

const HeartbeatAnswer = z.looseObject({ cancelled_tasks: z.array(z.string()) });

const FIRST_RETRY_MS = 100;
const HEARTBEAT_RETRY_MS = 1_000;
/** A change of load is reported at most this often: under load it would be a flood, and nobody needs it. */
const LOAD_INTERVAL_MS = 1_000;
const RELEASE_TIMEOUT_MS = 3_000;

/** A worker's connection to one engine, for one run. */
export class EngineConnection {
  readonly engine: EngineHttp;
  readonly tasks: HeldTasks;
  readonly #socket: CommandSocket;
  #state: State = { kind: "unregistered" };
  #reporting: Promise<void> = Promise.resolve();

  /** @param isTurnOf Whether this is the engine to poll now. */
  constructor(
    readonly run: RunState,
    { url, token }: { url: string; token: string },
    readonly isTurnOf: (connection: EngineConnection) => boolean,
  ) {
    this.engine = new EngineHttp(run, url, token);
    this.#socket = new CommandSocket(this.engine, (value) => void this.tasks.obey(value));
    this.tasks = new HeldTasks(this.engine, (event) => this.#socket.send(event));
  }

  /** Registered, and answered when last asked. */
  get isUp(): boolean {
    return this.#state.kind === "up";
  }

  get isTurn(): boolean {
    return this.isTurnOf(this);
  }

  get hasSocket(): boolean {
    return this.#socket.isOpen;
  }

  /** Whether the engine may give out a task whose type has reached its own limit. */
  get isOverstated(): boolean {
    return this.#state.kind === "up" && this.#state.announced.some((name) => !this.run.isOpen(name));
  }

  /** Sends heartbeats and listens for commands until the run has ended. */
  async accompany(): Promise<void> {
    await Promise.all([this.#sendHeartbeats(), this.#socket.keepOpen(() => this.isUp)]);
  }

  /**
   * Registers and polls until `stop`; begins again whenever the engine was away.
   *
   * @throws WorkerError when it refuses the first registration
   */
  async work(stop: AbortSignal): Promise<void> {
    const { engine: { url }, run: { settings, log, clock, changed } } = this;
    const polls = new Polls(this);
    const backoff = new Backoff(FIRST_RETRY_MS, settings.TASK_POLL_ERROR_DELAY);
    while (!stop.aborted) {
      try {
        log("debug", "registering", { engine: url });
        await this.#register(stop);
        log("info", "registered", { engine: url, worker: settings.id });
        await polls.poll(stop, () => backoff.reset());
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        const isNew = this.#state.kind === "unregistered";
        if (!isNew) this.#state = { kind: "away" };
        changed.notify();
        if (stop.aborted) return;
        if (isNew && error.isFinal) throw new WorkerError(`The engine at ${error.message}.`);
        const delayMs = error.answer?.retryMs ?? backoff.nextMs();
        log("warn", "engine_unavailable", { error: error.message, retry_in_ms: Math.round(delayMs) });
        await clock.sleep(delayMs, stop);
      }
    }
  }

  /** All tasks that the engine believes here, but that are not, go back to its queue; it gives out no more. */
  async releaseOthers(): Promise<void> {
    if (this.#state.kind === "unregistered") return;
    try {
      await this.#sendRegistration("draining", { timeoutMs: RELEASE_TIMEOUT_MS });
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error; // unreachable: it will notice the missing heartbeats
      this.run.log("warn", "release_failed", { error: error.message });
    }
  }

  /** Reports what can be done now. One report after the other: the last must be the true one. */
  heartbeat(): Promise<void> {
    const next = () => this.#sendHeartbeat();
    return this.#reporting = this.#reporting.then(next, next);
  }

  // Sends heartbeats until the run has ended: on their interval, and soon after the load has changed.
  async #sendHeartbeats(): Promise<void> {
    const { settings, clock, log, ended: { signal } } = this.run;
    let isFirst = true;
    let last: Report | undefined;
    while (await this.#isDue(last)) {
      last = { at: clock.now(), load: this.#load() };
      try {
        await this.heartbeat();
        if (isFirst) {
          log("info", "heartbeats_started", {
            engine: this.engine.url,
            every_ms: settings.HEARTBEAT_INTERVAL,
          });
        }
        isFirst = false;
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        if (signal.aborted) return;
        log("warn", "heartbeat_failed", { error: error.message });
        await clock.sleep(error.answer?.retryMs ?? HEARTBEAT_RETRY_MS, signal);
      }
    }
  }

  // Resolves true when it is time for the next heartbeat, false when the run has ended.
  async #isDue(last: Report | undefined): Promise<boolean> {
    const { settings, clock, changed, ended: { signal } } = this.run;
    while (!signal.aborted) {
      if (!this.isUp) {
        await changed.wait(Infinity, signal);
        continue;
      }
      const waitMs = last === undefined ? 0 : last.at + settings.HEARTBEAT_INTERVAL - clock.now();
      if (last === undefined || waitMs <= 0) return true;
      const isUnderstated = this.#isUnderstated();
      if (isUnderstated || this.#load() !== last.load) {
        // A task may wait for what can be done again.
        const restMs = isUnderstated ? 0 : Math.min(waitMs, last.at + LOAD_INTERVAL_MS - clock.now());
        await clock.sleep(Math.max(settings.WORKER_HEARTBEAT_DEBOUNCE_DELAY, restMs), signal);
        return !signal.aborted;
      }
      await changed.wait(waitMs, signal);
    }
    return false;
  }

  // Whether something can be done that the last heartbeat did not name.
  #isUnderstated(): boolean {
    const state = this.#state;
    return state.kind === "up" && this.run.open().some((name) => !state.announced.includes(name));
  }

  #load(): string {
    return [this.run.running, ...this.run.hotCache].join();
  }

  async #sendHeartbeat(): Promise<void> {
    const { engine, run } = this;
    const open = run.open();
    const answer = await engine.send("PATCH", engine.workerPath, {
      body: JSON.stringify({
        load: run.running,
        status: run.running >= run.settings.MAX_CONCURRENT_TASKS ? "busy" : "idle",
        supported_tasks: open,
        hot_cache: [...run.hotCache],
      }),
    });
    if (answer.status === 404) {
      run.log("info", "worker_unknown", { engine: engine.url });
      return await this.#register();
    }
    if (answer.status !== 200) throw engine.refusal("heartbeat", answer);
    if (this.#state.kind === "up") this.#state = { kind: "up", announced: open };
    const { data } = HeartbeatAnswer.safeParse(parseJson(answer.text));
    for (const taskId of data?.cancelled_tasks ?? []) this.tasks.cancel(taskId);
  }

  // It names the tasks that run here: what the engine believes here besides is given out again.
  async #register(signal?: AbortSignal): Promise<void> {
    await this.#sendRegistration("idle", { signal });
    this.#state = { kind: "up", announced: [...this.run.types.keys()] };
    this.run.changed.notify();
  }

  async #sendRegistration(
    status: "idle" | "draining",
    how: { timeoutMs?: number; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { engine, tasks } = this;
    const { settings, types, running, hotCache } = this.run;
    const model = settings.GPU_MODEL;
    const body = JSON.stringify({
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
        gpu_info: model === undefined ? null : { model, vram_gb: settings.GPU_VRAM_GB },
      },
      cost_per_second: settings.WORKER_COST_PER_SECOND,
      capabilities: { websockets: settings.WORKER_ENABLE_WEBSOCKETS },
      status,
      load: running,
      hot_cache: [...hotCache],
      running_tasks: tasks.ids,
    });
    const answer = await engine.send("POST", "/_worker/workers/register", { body, ...how });
    if (answer.status !== 200) throw engine.refusal("registration", answer);
  }
}

function ownAddress(): string {
  const outside = Deno.networkInterfaces().find(({ family, address }) =>
    family === "IPv4" && !address.startsWith("127.")
  );
  return outside?.address ?? "127.0.0.1";
}
