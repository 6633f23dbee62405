/**
 * Settings of a worker: defaults, over them the environment, over that what the program gives.
 *
 * @module
 */
import { z } from "zod";
import type { Clock } from "../../config/clock.ts";
import { UserError } from "../../config/errors.ts";
import type { Log } from "../model/errors.ts";
import { parseJson } from "../model/json.ts";
import { VariableReader } from "../model/variables.ts";
import { AnyObject, WorkerId } from "../model/wire.ts";

/** Settings given in code; they win over the environment. */
export interface WorkerOptions {
  workerType?: string | undefined;
  maxConcurrentTasks?: number | undefined;
  /** Its only engine. */
  url?: string | undefined;
  /** The name it registers under; two live workers must not share one. */
  id?: string | undefined;
  /** What the engine knows it by; needed here or in the environment. */
  token?: string | undefined;
  /** Where settings are read from; default: the process's environment. */
  environment?: Record<string, string | undefined>;
  /** Milliseconds that running tasks get to finish after `run` was stopped; default 5 000. */
  graceMs?: number;
  /** Where it logs; default: nowhere. */
  log?: Log;
  /** Where its time comes from; default: the machine. */
  clock?: Clock;
}

/** A worker that cannot work as it is set up; the message names what to change. */
export class WorkerError extends UserError {
  override name = "WorkerError";
}

const LONGEST_SPAN_MS = 1e9;

const Url = z.string().regex(/^https?:\/\/[^\s/]+/i).transform((text) => text.replace(/\/+$/, ""));
const Engines = z.array(
  z.looseObject({ url: Url, priority: z.number().default(10), token: z.string().optional() }),
).min(1);
const Models = z.array(z.looseObject({ name: z.string() }));
const Amount = z.coerce.number().min(0);

/** Every setting. Times are milliseconds. */
export type Settings = ReturnType<typeof readSettings>;

/** @throws WorkerError when a setting cannot be used; the message names all of them. */
export function readSettings(options: WorkerOptions) {
  const variables = new VariableReader(variablesOf(options));
  const read = <T>(name: string, schema: z.ZodType<T>, must: string) =>
    variables.parsed(name, undefined, must, (text) => schema.safeParse(text).data);
  const readJson = <T>(name: string, schema: z.ZodType<T>, like: string) =>
    variables.parsed(name, undefined, `JSON like ${like}`, (text) => schema.safeParse(parseJson(text)).data);
  const readSpan = (name: string, seconds: number) => variables.duration(name, seconds, LONGEST_SPAN_MS);

  const url = read("ORCHESTRATOR_URL", Url, "an address such as http://127.0.0.1:8080");
  const listed = readJson("ORCHESTRATORS_CONFIG", Engines, `[{"url": "http://one:8080", "priority": 1}]`);
  const one = { url: url ?? "http://127.0.0.1:8080", priority: 0, token: undefined };
  const shared = options.token ??
    variables.text("WORKER_INDIVIDUAL_TOKEN", variables.text("WORKER_TOKEN", ""));
  const model = variables.text("GPU_MODEL", undefined);
  const vram = read("GPU_VRAM_GB", Amount, "a number of at least 0") ?? 0;
  const settings = {
    id: read("WORKER_ID", WorkerId, "1 to 200 printable characters without spaces or slashes") ??
      `worker-${crypto.randomUUID()}`,
    type: read("WORKER_TYPE", z.string().max(200), "a text of at most 200 characters") ??
      "generic-cpu-worker",
    /** The preferred one first. */
    engines: (options.url === undefined ? listed ?? [one] : [one])
      .toSorted((a, b) => a.priority - b.priority || (a.url < b.url ? -1 : 1))
      .map(({ url, token = shared }) => ({ url, token })),
    /** Whether all engines are polled, not only the first that is up. */
    takesTurns: variables.choice("MULTI_ORCHESTRATOR_MODE", "FAILOVER", ["FAILOVER", "ROUND_ROBIN"]) ===
      "ROUND_ROBIN",
    maxTasks: variables.whole("MAX_CONCURRENT_TASKS", 10, 1),
    /** The machine in a registration, as it is sent. */
    machine: {
      installed_models: readJson("INSTALLED_MODELS", Models, `[{"name": "llama", "version": "3"}]`) ?? [],
      installed_software: readJson("INSTALLED_SOFTWARE", AnyObject, `{"ffmpeg": "6.1"}`),
      resources: {
        cpu_cores: variables.whole("CPU_CORES", navigator.hardwareConcurrency, 1),
        gpu_info: model === undefined ? null : { model, vram_gb: vram },
      },
      cost_per_second: read("WORKER_COST_PER_SECOND", Amount, "a number of at least 0"),
    },
    heartbeatMs: readSpan("HEARTBEAT_INTERVAL", 15),
    heartbeatDebounceMs: readSpan("WORKER_HEARTBEAT_DEBOUNCE_DELAY", 0.1),
    pollMs: readSpan("TASK_POLL_TIMEOUT", 30),
    errorDelayMs: readSpan("TASK_POLL_ERROR_DELAY", 5),
    resultRetries: variables.whole("RESULT_MAX_RETRIES", Infinity, 0),
    resultDelayMs: readSpan("RESULT_RETRY_INITIAL_DELAY", 1),
    usesSocket: variables.flag("WORKER_ENABLE_WEBSOCKETS", false),
  };
  if (variables.problems.length > 0) {
    throw new WorkerError(`Cannot set up the worker: ${variables.problems.join(" ")}`);
  }
  if (settings.engines.some(({ token }) => token === "")) {
    throw new WorkerError(
      "The worker has no token; set WORKER_TOKEN (or WORKER_INDIVIDUAL_TOKEN) to one that the engine knows.",
    );
  }
  return settings;
}

/** The environment, and over it the options that stand for variables. */
function variablesOf({ environment, ...options }: WorkerOptions): Record<string, string | undefined> {
  const given = {
    ORCHESTRATOR_URL: options.url,
    WORKER_ID: options.id,
    WORKER_TYPE: options.workerType,
    MAX_CONCURRENT_TASKS: options.maxConcurrentTasks?.toString(),
  };
  return {
    ...environment ?? Deno.env.toObject(),
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
}
