/** What tests of jobs share: an engine with a port of its own. */
import type { Clock } from "../../config/clock.ts";
import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { Config, type Settings } from "../engine/config.ts";
import { OrchestratorEngine } from "../http/server.ts";
import type { Log } from "../model/errors.ts";
import type { JsonObject, JsonValue } from "../model/job.ts";
import type { Storage } from "../model/store.ts";
import { MemoryStorage } from "../stores/memory.ts";
import { makeId } from "../model/ids.ts";

/** What can be asked of an engine whose tokens are `client-token` and `worker-token`. */
export interface EngineAccess {
  url: string;
  /** A request with the client's token; `body` becomes JSON unless it is a text. */
  client(path: string, init?: RequestOptions): Promise<Answer>;
  /** A request with the workers' token. */
  worker(path: string, init?: RequestOptions): Promise<Answer>;
  /** Submits and returns the job's id. */
  submit(path: string, data?: JsonObject, headers?: Record<string, string>): Promise<string>;
  /** A worker that registers for these task types. */
  register(workerId: string, tasks: string[], more?: JsonObject): Promise<void>;
  /** Polls; undefined: nothing came. */
  take(workerId: string, waitSeconds?: number): Promise<Taken | undefined>;
  /** Answers a task. */
  answer(workerId: string, task: Taken, result: JsonValue): Promise<Answer>;
}

/** An engine in this process on a free port. */
export interface TestEngine extends EngineAccess, AsyncDisposable {
  engine: OrchestratorEngine;
  /** What was logged. */
  lines: { level: string; event: string; fields: Record<string, unknown> }[];
  /** Waits until the job is as wanted, and returns it. */
  until(jobId: string, wanted: (job: JsonObject) => boolean): Promise<JsonObject>;
}

/** A task as a test worker gets it. */
export interface Taken {
  job_id: string;
  task_id: string;
  type: string;
  params: JsonObject;
}

export interface RequestOptions {
  method?: string;
  body?: JsonValue;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** An answer, read. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  // deno-lint-ignore no-explicit-any -- tests look into answers of every shape
  json: any;
}

/** Asks the engine at an address. */
export function engineAccess(url: string): EngineAccess {
  const ask = async (path: string, init: RequestOptions, token: Record<string, string>): Promise<Answer> => {
    const body = init.body === undefined
      ? undefined
      : typeof init.body === "string"
      ? init.body
      : JSON.stringify(init.body);
    const response = await fetch(`${url}${path}`, {
      method: init.method ?? (body === undefined ? "GET" : "POST"),
      headers: { ...token, ...init.headers },
      body: body ?? null,
      signal: init.signal ?? null,
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type") === "application/json";
    return {
      status: response.status,
      headers: response.headers,
      text,
      json: isJson ? JSON.parse(text) : undefined,
    };
  };
  const client = (path: string, init: RequestOptions = {}) =>
    ask(path, init, { "x-avtomatika-token": "client-token" });
  const worker = (path: string, init: RequestOptions = {}) =>
    ask(path, init, { "x-worker-token": "worker-token" });
  return {
    url,
    client,
    worker,
    async submit(path, data = {}, headers = {}) {
      const answer = await client(path, { body: data, headers });
      if (answer.status !== 202) throw new Error(`Submission refused: ${answer.status} ${answer.text}`);
      return answer.json.job_id;
    },
    async register(workerId, tasks, more = {}) {
      const body = {
        worker_id: workerId,
        worker_type: "test",
        supported_tasks: tasks,
        max_concurrent_tasks: 10,
        ...more,
      };
      const answer = await worker("/_worker/workers/register", { body });
      if (answer.status !== 200) throw new Error(`Registration refused: ${answer.status} ${answer.text}`);
    },
    async take(workerId, waitSeconds = 5) {
      const answer = await worker(`/_worker/workers/${workerId}/tasks/next?wait=${waitSeconds}`);
      return answer.status === 200 ? answer.json : undefined;
    },
    answer: (workerId, task, result) =>
      worker("/_worker/tasks/result", {
        body: { job_id: task.job_id, task_id: task.task_id, worker_id: workerId, result },
      }),
  };
}

/** Starts one. */
export async function openTestEngine(
  options: {
    blueprints: StateMachineBlueprint[];
    config?: Partial<Settings>;
    storage?: Storage;
    clock?: Clock;
    log?: Log;
  },
): Promise<TestEngine> {
  const config = new Config({
    port: 0,
    clientToken: "client-token",
    workerToken: "worker-token",
    retryDelayMs: 5,
    ...options.config,
  });
  const lines: TestEngine["lines"] = [];
  const engine = new OrchestratorEngine(options.storage ?? new MemoryStorage(), config, {
    ...(options.clock === undefined ? {} : { clock: options.clock }),
    log: options.log ?? ((level, event, fields = {}) => lines.push({ level, event, fields })),
  });
  for (const blueprint of options.blueprints) engine.registerBlueprint(blueprint);
  const { url } = await engine.start();
  const access = engineAccess(url);
  return {
    ...access,
    engine,
    lines,
    async until(jobId, wanted) {
      const changed = Promise.withResolvers<void>();
      let hear = changed;
      const unhear = engine.onJob(() => hear.resolve());
      const patience = Date.now() + 60_000;
      try {
        for (;;) {
          hear = Promise.withResolvers<void>();
          const { json } = await access.client(`/api/jobs/${jobId}`);
          if (wanted(json)) return json;
          if (Date.now() > patience) {
            throw new Error(`The job never became as wanted: ${JSON.stringify(json)}`);
          }
          let timer: ReturnType<typeof setTimeout> | undefined;
          await Promise.race([hear.promise, new Promise((resolve) => timer = setTimeout(resolve, 200))]);
          clearTimeout(timer);
        }
      } finally {
        unhear();
      }
    },
    [Symbol.asyncDispose]: () => engine.stop(),
  };
}

/** An id that no job has. */
export function unknownId(): string {
  return makeId(Date.now());
}
