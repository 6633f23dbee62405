/**
 * For tests of workers: one that runs until the end of a scope, and an engine that answers as the test wants.
 *
 * @module
 */
import type { JsonObject } from "../model/job.ts";
import type { WorkerOptions } from "../worker/settings.ts";
import type { TaskHandler } from "../worker/task.ts";
import { Worker } from "../worker/worker.ts";

/** A worker that runs until the end of the scope. */
export class Running implements AsyncDisposable {
  readonly stop = new AbortController();
  readonly force = new AbortController();
  readonly ended: Promise<void>;
  readonly lines: string[] = [];
  readonly worker: Worker;

  constructor(
    engines: string | readonly string[],
    tasks: Record<string, TaskHandler>,
    options: WorkerOptions & { limits?: Record<string, number> } = {},
  ) {
    const urls = [engines].flat();
    const { limits = {}, environment = {}, ...rest } = options;
    this.worker = new Worker({
      id: `worker-${crypto.randomUUID().slice(0, 8)}`,
      token: "worker-token",
      log: (level, event, fields = {}) => this.lines.push(`${level} ${event} ${JSON.stringify(fields)}`),
      ...rest,
      environment: {
        ORCHESTRATORS_CONFIG: JSON.stringify(urls.map((url, priority) => ({ url, priority }))),
        TASK_POLL_ERROR_DELAY: "0.1",
        RESULT_RETRY_INITIAL_DELAY: "0.02",
        ...environment,
      },
    });
    for (const [name, handler] of Object.entries(tasks)) {
      this.worker.task(name, handler, { maxConcurrent: limits[name] });
    }
    this.ended = this.worker.run({ signal: this.stop.signal, force: this.force.signal });
    this.ended.catch(() => {}); // looked at by the test, or at the end
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    this.force.abort();
    await this.ended;
  }
}

/** A request that the engine got. */
export interface Received {
  method: string;
  path: string;
  body: JsonObject;
  at: number;
}

/** Answers as the test wants, and records its requests. */
export function fakeEngine(answer: (received: Received, count: number) => Response | Promise<Response>) {
  const received: Received[] = [];
  const gone = new AbortController();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const text = await request.text();
    const entry = {
      method: request.method,
      path: new URL(request.url).pathname.replace(/workers\/worker-[^/]+/, "workers/ID"),
      body: text === "" ? {} : JSON.parse(text),
      at: performance.now(),
    };
    received.push(entry);
    return await answer(
      entry,
      received.filter(({ path, method }) => path === entry.path && method === entry.method).length,
    );
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    received,
    of: (path: string) => received.filter((entry) => entry.path === path),
    /** The body of the first request, or a later one, for a path. */
    bodyOf(path: string, index = 0): JsonObject {
      const { body } = this.of(path)[index] ?? {};
      if (body === undefined) throw new Error(`There was no request ${index} for ${path}.`);
      return body;
    },
    /** Milliseconds between one request for a path and the next. */
    gapsOf(path: string): number[] {
      const times = this.of(path).map(({ at }) => at);
      return times.slice(1).map((at, index) => at - (times[index] ?? at));
    },
    /** A poll that nothing comes to. */
    wait: () =>
      new Promise<Response>((resolve) => {
        gone.signal.addEventListener("abort", () => resolve(new Response(null, { status: 204 })));
      }),
    async [Symbol.asyncDispose]() {
      gone.abort();
      await server.shutdown();
    },
  };
}
