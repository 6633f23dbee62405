/**
 * One engine as a worker that is registered there: keeps it up to date by heartbeats, and listens for its commands.
 *
 * @module
 */
import { z } from "zod";
import { parseJson } from "../model/json.ts";
import { ConnectionError, EngineHttp } from "./engine_http.ts";
import { jittered } from "./run_state.ts";
import { HeldTasks } from "./held_tasks.ts";

type State =
  | { kind: "unregistered" }
  /** Answered when last asked. `announced`: the task names of the last registration or heartbeat. */
  | { kind: "up"; announced: readonly string[] }
  /** Was up, and is to be registered with again. */
  | { kind: "away" };

const HeartbeatAnswer = z.looseObject({ cancelled_tasks: z.array(z.string()) });

const HEARTBEAT_RETRY_MS = 1_000;
/** A change of load is reported at most this often: under load it would be a flood, and nobody needs it. */
const LOAD_INTERVAL_MS = 1_000;
const RELEASE_TIMEOUT_MS = 3_000;

/** A worker's connection to one engine, for one run. */
export class EngineConnection extends EngineHttp {
  readonly tasks = new HeldTasks(this);
  #state: State = { kind: "unregistered" };
  #reporting: Promise<void> = Promise.resolve();

  /** Registered at least once. */
  get isKnown(): boolean {
    return this.#state.kind !== "unregistered";
  }

  /** Registered, and answered when last asked. */
  get isUp(): boolean {
    return this.#state.kind === "up";
  }

  /** Whether the engine may give out a task whose type has reached its own limit. */
  get isOverstated(): boolean {
    return this.#state.kind === "up" && this.#state.announced.some((name) => !this.run.isOpen(name));
  }

  /** Names the tasks that run here: what the engine believes here besides is given out again. */
  async register(signal?: AbortSignal): Promise<void> {
    await this.#sendRegistration("idle", { signal });
    this.#state = { kind: "up", announced: [...this.run.types.keys()] };
    this.run.changed.notify();
  }

  /** It has failed: nothing is expected of it until it is registered with again. */
  lose(): void {
    if (this.isKnown) this.#state = { kind: "away" };
    this.run.changed.notify();
  }

  /** All tasks that the engine believes here, but that are not, go back to its queue; it gives out no more. */
  async releaseOthers(): Promise<void> {
    if (!this.isKnown) return;
    try {
      await this.#sendRegistration("draining", { timeoutMs: RELEASE_TIMEOUT_MS });
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error; // unreachable: it will notice the missing heartbeats
      this.run.log("warn", "release_failed", { error: error.message });
    }
  }

  /** Sends heartbeats and listens for commands until the run has ended. */
  async accompany(): Promise<void> {
    await Promise.all([this.#sendHeartbeats(), this.#keepSocket()]);
  }

  /** Reports what can be done now. One report after the other: the last must be the true one. */
  heartbeat(): Promise<void> {
    const next = () => this.#sendHeartbeat();
    return this.#reporting = this.#reporting.then(next, next);
  }

  async #sendHeartbeats(): Promise<void> {
    const { settings, clock, log, ended: { signal } } = this.run;
    let hasStarted = false;
    let last = { at: -Infinity, load: "" };
    while (await this.#isDue(last)) {
      last = { at: clock.now(), load: this.#load };
      try {
        await this.heartbeat();
        const started = { engine: this.url, every_ms: settings.heartbeatMs };
        if (!hasStarted) log("info", "heartbeats_started", started);
        hasStarted = true;
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        if (signal.aborted) return;
        log("warn", "heartbeat_failed", { error: error.message });
        await clock.sleep(error.answer?.retryMs ?? HEARTBEAT_RETRY_MS, signal);
      }
    }
  }

  // Resolves true when it is time for the next heartbeat: on their interval, and soon after the load has changed; false
  // when the run has ended.
  async #isDue(last: { at: number; load: string }): Promise<boolean> {
    const { run, run: { settings, clock, changed, ended: { signal } } } = this;
    while (!signal.aborted) {
      const state = this.#state;
      const waitMs = state.kind === "up" ? last.at + settings.heartbeatMs - clock.now() : Infinity;
      if (waitMs <= 0) return true;
      // A task may wait for what can be done again.
      const isUnderstated = state.kind === "up" && run.open().some((name) => !state.announced.includes(name));
      if (isUnderstated || (this.isUp && this.#load !== last.load)) {
        const restMs = isUnderstated ? 0 : Math.min(waitMs, last.at + LOAD_INTERVAL_MS - clock.now());
        await clock.sleep(Math.max(settings.heartbeatDebounceMs, restMs), signal);
        return !signal.aborted;
      }
      await changed.wait(waitMs, signal);
    }
    return false;
  }

  get #load(): string {
    return [this.run.running, ...this.run.hotCache].join();
  }

  async #sendHeartbeat(): Promise<void> {
    const { run } = this;
    const open = run.open();
    const answer = await this.send("PATCH", this.workerPath, {
      body: JSON.stringify({
        load: run.running,
        status: run.running >= run.settings.maxTasks ? "busy" : "idle",
        supported_tasks: open,
        hot_cache: [...run.hotCache],
      }),
    });
    if (answer.status === 404) {
      run.log("info", "worker_unknown", { engine: this.url });
      return await this.register();
    }
    if (answer.status !== 200) throw this.refusal("heartbeat", answer);
    if (this.isUp) this.#state = { kind: "up", announced: open };
    const { data } = HeartbeatAnswer.safeParse(parseJson(answer.text));
    for (const taskId of data?.cancelled_tasks ?? []) this.tasks.cancel(taskId);
  }

  async #sendRegistration(
    status: "idle" | "draining",
    how: { timeoutMs?: number; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { tasks, run: { settings, types, running, hotCache } } = this;
    const body = JSON.stringify({
      worker_id: settings.id,
      worker_type: settings.type,
      supported_tasks: [...types.keys()],
      max_concurrent_tasks: settings.maxTasks,
      hostname: Deno.hostname(),
      ip_address: ownAddress(),
      ...settings.machine,
      capabilities: { websockets: settings.usesSocket },
      status,
      load: running,
      hot_cache: [...hotCache],
      running_tasks: tasks.ids,
    });
    const answer = await this.send("POST", "/_worker/workers/register", { body, ...how });
    if (answer.status !== 200) throw this.refusal("registration", answer);
  }

  // Opens a WebSocket, when that is switched on, and another one after it has closed.
  async #keepSocket(): Promise<void> {
    const { run, run: { settings, clock, ended: { signal } } } = this;
    while (settings.usesSocket) {
      await run.until(() => this.isUp, Infinity, signal);
      if (!signal.aborted) await this.#holdSocket(signal);
      if (signal.aborted) return;
      run.log("info", "socket_closed", { engine: this.url });
      await clock.sleep(jittered(settings.errorDelayMs), signal);
    }
  }

  // Resolves when the socket has closed.
  async #holdSocket(signal: AbortSignal): Promise<void> {
    const { url, token, tasks, run: { settings: { id } } } = this;
    const address = `${url.replace(/^http/i, "ws")}/_worker/ws/${encodeURIComponent(id)}`;
    const socket = new WebSocket(address, { headers: { "X-Worker-Token": token } });
    this.socket = socket;
    const close = () => socket.close();
    signal.addEventListener("abort", close);
    socket.onmessage = ({ data }) => tasks.obey(parseJson(String(data)));
    socket.onerror = (event) => event.preventDefault(); // `onclose` follows
    await new Promise((resolve) => socket.onclose = resolve);
    signal.removeEventListener("abort", close);
  }
}

function ownAddress(): string {
  const outside = Deno.networkInterfaces().find(({ family, address }) =>
    family === "IPv4" && !address.startsWith("127.")
  );
  return outside?.address ?? "127.0.0.1";
}
