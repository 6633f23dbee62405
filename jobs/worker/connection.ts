/**
 * One engine as a worker sees it: requests to it, a registration that heartbeats keep true, and its commands.
 *
 * @module
 */
import { z } from "zod";
import { type HttpAnswer, type HttpCall, httpCall } from "../model/http_call.ts";
import { errorIn, parseJson } from "../model/json.ts";
import { Command } from "../model/wire.ts";
import { jittered, type RunState } from "./run_state.ts";
import { TaskStopped } from "./task.ts";

/** What an engine answered. */
export interface Answer extends HttpAnswer {
  /** From Retry-After. */
  retryMs: number | undefined;
  /** Why it is not the one that was hoped for, if it is not. */
  problem: string;
}

/** An engine that cannot be worked with now. `isFinal`: it has understood, and will not change its mind. */
export class ConnectionError extends Error {
  override name = "ConnectionError";
  constructor(message: string, readonly isFinal = false, readonly retryMs?: number) {
    super(message);
  }
}

type State =
  | { kind: "unregistered" }
  /** Answered when last asked. `announced`: the task names of the last registration or heartbeat. */
  | { kind: "up"; announced: readonly string[] }
  /** Was up, and is to be registered with again. */
  | { kind: "away" };

const HeartbeatAnswer = z.looseObject({ cancelled_tasks: z.array(z.string()) });

const LONGEST_RETRY_SECONDS = 300;
const HEARTBEAT_RETRY_MS = 1_000;
/** A change of load is reported at most this often: under load it would be a flood, and nobody needs it. */
const LOAD_INTERVAL_MS = 1_000;
const RELEASE_TIMEOUT_MS = 3_000;

/** A worker's connection to one engine, for one run. */
export class EngineConnection {
  /** What stops its tasks that have no delivered result, by their ids. */
  readonly held = new Map<string, AbortController>();
  /** The path of this worker there. */
  readonly workerPath: string;
  #state: State = { kind: "unregistered" };
  #reporting: Promise<void> = Promise.resolve();
  #socket: WebSocket | undefined;

  constructor(readonly run: RunState, readonly url: string, readonly token: string) {
    this.workerPath = `/_worker/workers/${encodeURIComponent(run.settings.id)}`;
  }

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

  async send(
    method: HttpCall["method"],
    path: string,
    { body, timeoutMs = 30_000, signal = this.run.ended.signal }: Partial<HttpCall> = {},
  ): Promise<Answer> {
    const { client, clock } = this.run;
    const headers = { "X-Worker-Token": this.token };
    const call = { method, headers, body, timeoutMs, signal, client, clock };
    const answer = await httpCall(this.url + path, call);
    const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
    const retryMs = seconds >= 0 ? Math.min(seconds, LONGEST_RETRY_SECONDS) * 1000 : undefined;
    return { ...answer, retryMs, problem: this.#problem(answer) };
  }

  /** Sends an event by the shortest way. A lost one is no error: the next one will do. */
  async sendEvent(body: string): Promise<void> {
    if (this.hasSocket) this.#socket?.send(body);
    else await this.send("POST", "/_worker/events", { body });
  }

  get hasSocket(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  #problem({ status, text }: HttpAnswer): string {
    if (status === 0) return `cannot reach ${this.url}: ${text}`;
    const error = status < 300 ? undefined : errorIn(text);
    return error === undefined ? `status ${status}` : `${error} (${status})`;
  }

  /** The error of a request that was not granted. */
  refusal(what: string, { status, problem, retryMs }: Answer): ConnectionError {
    if (status === 0) return new ConnectionError(problem);
    const hint = status === 401 ? "; WORKER_TOKEN must be a token that this engine knows" : "";
    const isFinal = status >= 400 && status < 500 && status !== 429;
    return new ConnectionError(`${this.url} refuses the ${what}: ${problem}${hint}`, isFinal, retryMs);
  }

  /** Cancels the task that a command names. @returns whether the value is a command */
  obey(value: unknown): boolean {
    const { data } = Command.safeParse(value);
    if (data !== undefined) this.cancel(data.task_id);
    return data !== undefined;
  }

  cancel(taskId: string): void {
    this.held.get(taskId)?.abort(new TaskStopped("cancelled"));
  }

  /** Stops what still runs, without results. */
  stopTasks(): void {
    for (const control of this.held.values()) control.abort(new TaskStopped("shutdown"));
    this.held.clear();
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
        await clock.sleep(error.retryMs ?? HEARTBEAT_RETRY_MS, signal);
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
    for (const taskId of data?.cancelled_tasks ?? []) this.cancel(taskId);
  }

  async #sendRegistration(
    status: "idle" | "draining",
    how: { timeoutMs?: number; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { settings, types, running, hotCache } = this.run;
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
      running_tasks: [...this.held.keys()],
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
    const { url, token, run: { settings: { id } } } = this;
    const address = `${url.replace(/^http/i, "ws")}/_worker/ws/${encodeURIComponent(id)}`;
    const socket = new WebSocket(address, { headers: { "X-Worker-Token": token } });
    this.#socket = socket;
    const close = () => socket.close();
    signal.addEventListener("abort", close);
    socket.onmessage = ({ data }) => this.obey(parseJson(String(data)));
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
