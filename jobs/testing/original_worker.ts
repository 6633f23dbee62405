/**
 * A worker that behaves as the original Python one does on the wire, bad habits included: it registers once and never
 * again, a heartbeat's 404 means nothing to it, at its limit it says that it can do nothing, it polls one at a time and
 * rests after an error, and it gives a result up after five attempts that were not answered with 200.
 *
 * @module
 */

/** Its settings, in seconds; the defaults are the original's. */
export interface Habits {
  url: string;
  id: string;
  token: string;
  maxTasks: number;
  heartbeat?: number;
  debounce?: number;
  pollTimeout?: number;
  errorDelay?: number;
  idleDelay?: number;
  resultRetries?: number;
  resultDelay?: number;
}

type Json = Record<string, unknown>;
/** A task's function; a throw is reported as TRANSIENT_ERROR. */
export type Handler = (params: Json, taskId: string, jobId: string) => Promise<Json> | Json;

/** Runs until the end of its scope. */
export class OriginalWorker implements AsyncDisposable {
  /** What it asked, and how that was answered: `POST /path 200`, or `failed` for a broken connection. */
  readonly wire: string[] = [];
  readonly dropped: string[] = [];
  readonly ran: string[] = [];
  load = 0;
  readonly #stop = new AbortController();
  readonly #tasks = new Set<Promise<void>>();
  readonly #loops: Promise<unknown>[];
  #debounce: ReturnType<typeof setTimeout> | undefined;
  #beats = new Set<Promise<void>>();

  constructor(readonly habits: Habits, readonly handlers: Record<string, Handler>) {
    this.#loops = [this.#communicate()];
  }

  async #ask(method: string, path: string, body?: Json): Promise<{ status: number; value: unknown }> {
    const shown = `${method} ${path.replace(`/workers/${this.habits.id}`, "/workers/ID")}`;
    try {
      const response = await fetch(this.habits.url + path, {
        method,
        headers: {
          "X-Worker-Token": this.habits.token,
          "Content-Type": "application/json",
          "Accept-Encoding": "gzip, deflate",
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal: AbortSignal.any([
          this.#stop.signal,
          AbortSignal.timeout(((this.habits.pollTimeout ?? 30) + 5) * 1000),
        ]),
      });
      const text = await response.text();
      this.wire.push(`${shown} ${response.status}`);
      // aiohttp reads JSON only from what calls itself that.
      const isJson = response.headers.get("content-type")?.startsWith("application/json") ?? false;
      return { status: response.status, value: isJson ? JSON.parse(text) : undefined };
    } catch {
      if (!this.#stop.signal.aborted) this.wire.push(`${shown} failed`);
      return { status: 0, value: undefined };
    }
  }

  get #state(): { status: string; supported_tasks: string[] } {
    return this.load >= this.habits.maxTasks
      ? { status: "busy", supported_tasks: [] }
      : { status: "idle", supported_tasks: Object.keys(this.handlers) };
  }

  async #communicate(): Promise<void> {
    await this.#ask("POST", "/_worker/workers/register", {
      worker_id: this.habits.id,
      worker_type: "test-worker",
      supported_tasks: this.#state.supported_tasks,
      max_concurrent_tasks: this.habits.maxTasks,
      installed_models: [],
      hostname: "test",
      ip_address: "127.0.0.1",
      resources: { cpu_cores: 4, gpu_info: null },
    });
    this.#loops.push(this.#poll());
    while (!this.#stop.signal.aborted) {
      await this.#beat();
      await this.#rest(this.habits.heartbeat ?? 15);
    }
  }

  async #beat(): Promise<void> {
    await this.#ask("PATCH", `/_worker/workers/${this.habits.id}`, {
      load: this.load,
      ...this.#state,
      hot_cache: [],
    });
  }

  #loadChanged(): void {
    clearTimeout(this.#debounce);
    if (this.#stop.signal.aborted) return;
    this.#debounce = setTimeout(() => {
      const beat = this.#beat().then(() => void this.#beats.delete(beat));
      this.#beats.add(beat);
    }, (this.habits.debounce ?? 0.1) * 1000);
  }

  async #poll(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      if (this.#state.status === "busy") {
        await this.#rest(this.habits.idleDelay ?? 0.01);
        continue;
      }
      const { status, value } = await this.#ask("GET", `/_worker/workers/${this.habits.id}/tasks/next`);
      if (status === 200 && value !== undefined) {
        this.load++;
        this.#loadChanged();
        const run = this.#run(value as Json).then(() => void this.#tasks.delete(run));
        this.#tasks.add(run);
      } else if (status !== 204) {
        await this.#rest(this.habits.errorDelay ?? 5);
      }
      if (this.load === 0) await this.#rest(this.habits.idleDelay ?? 0.01);
    }
  }

  async #run(task: Json): Promise<void> {
    const { task_id, job_id } = task;
    const type = String(task.type);
    this.ran.push(String(task_id));
    const handler = this.handlers[type];
    let result: Json;
    try {
      result = handler === undefined
        ? { status: "failure", error_message: `Unsupported task: ${type}` }
        : await handler(task.params as Json, String(task_id), String(job_id));
    } catch (error) {
      result = {
        status: "failure",
        error: { code: "TRANSIENT_ERROR", message: String((error as Error).message) },
      };
    }
    await this.#deliver({ job_id, task_id, worker_id: this.habits.id, result });
    this.load--;
    this.#loadChanged();
  }

  async #deliver(body: Json): Promise<void> {
    for (let attempt = 0; attempt < (this.habits.resultRetries ?? 5); attempt++) {
      const { status } = await this.#ask("POST", "/_worker/tasks/result", body);
      if (status === 200 || this.#stop.signal.aborted) return;
      await this.#rest((this.habits.resultDelay ?? 1) * 2 ** attempt);
    }
    this.dropped.push(String(body.task_id));
  }

  #rest(seconds: number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stop.signal.aborted) return resolve();
      const done = () => {
        clearTimeout(timer);
        this.#stop.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, seconds * 1000);
      this.#stop.signal.addEventListener("abort", done);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#debounce);
    await Promise.all([...this.#loops, ...this.#tasks, ...this.#beats]);
    await Promise.all(this.#loops);
  }
}
