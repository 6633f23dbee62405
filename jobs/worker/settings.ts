/**
 * Settings of a worker: defaults, over them the environment, over that what the program gives.
 *
 * @module
 */
import { z } from "zod";
import { DURATION_FORMS, spanOf } from "../../config/duration.ts";
import { UserError } from "../../config/errors.ts";
import type { Clock } from "../../config/clock.ts";
import type { Log } from "../model/errors.ts";
import { WorkerId } from "../model/wire.ts";

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

/** A worker that cannot work as it is set up; the message says what to change. */
export class WorkerError extends UserError {
  override name = "WorkerError";
}

const LONGEST_SPAN_MS = 1e9;

const span = (fallbackSeconds: number) =>
  z.string().default(String(fallbackSeconds)).transform((text, context) => {
    const spanMs = spanOf(text);
    if (spanMs !== null && spanMs <= LONGEST_SPAN_MS) return spanMs;
    context.addIssue({ code: "custom", message: `must be ${DURATION_FORMS}` });
    return z.NEVER;
  });
const whole = (least: number) =>
  z.coerce.number(`must be a whole number from ${least}`).int("must be a whole number")
    .min(least, `must be at least ${least}`);
const amount = z.coerce.number("must be a number").min(0, "must not be negative");
const url = z.string().regex(/^https?:\/\/[^\s/]+/i, "must be an address such as http://127.0.0.1:8080")
  .transform((text) => text.replace(/\/+$/, ""));
const json = <T extends z.ZodType>(schema: T, like: string) =>
  z.string().transform((text, context) => {
    try {
      return schema.parse(JSON.parse(text));
    } catch { // the value may hold a token: only its shape is named
      context.addIssue({ code: "custom", message: `must be JSON like ${like}` });
      return z.NEVER;
    }
  });

const Environment = z.object({
  ORCHESTRATOR_URL: url.default("http://127.0.0.1:8080"),
  ORCHESTRATORS_CONFIG: json(
    z.array(z.looseObject({ url, priority: z.number().default(10), token: z.string().optional() })).min(1),
    `[{"url": "http://one:8080", "priority": 1}]`,
  ).optional(),
  MULTI_ORCHESTRATOR_MODE: z.enum(["FAILOVER", "ROUND_ROBIN"], "must be FAILOVER or ROUND_ROBIN")
    .default("FAILOVER"),
  WORKER_ID: WorkerId.optional(),
  WORKER_TYPE: z.string().max(200, "must have at most 200 characters").default("generic-cpu-worker"),
  WORKER_INDIVIDUAL_TOKEN: z.string().optional(),
  WORKER_TOKEN: z.string().optional(),
  MAX_CONCURRENT_TASKS: whole(1).default(10),
  WORKER_COST_PER_SECOND: amount.optional(),
  CPU_CORES: whole(1).default(navigator.hardwareConcurrency),
  GPU_MODEL: z.string().optional(),
  GPU_VRAM_GB: amount.default(0),
  INSTALLED_SOFTWARE: json(z.record(z.string(), z.unknown()), `{"ffmpeg": "6.1"}`).optional(),
  INSTALLED_MODELS: json(
    z.array(z.looseObject({ name: z.string() })),
    `[{"name": "llama", "version": "3"}]`,
  ).default([]),
  HEARTBEAT_INTERVAL: span(15),
  WORKER_HEARTBEAT_DEBOUNCE_DELAY: span(0.1),
  TASK_POLL_TIMEOUT: span(30),
  TASK_POLL_ERROR_DELAY: span(5),
  RESULT_MAX_RETRIES: whole(0).optional(),
  RESULT_RETRY_INITIAL_DELAY: span(1),
  WORKER_ENABLE_WEBSOCKETS: z.stringbool("must be true or false").default(false),
});

/** Every setting, by the variable it is read from. Times are milliseconds. */
export interface Settings extends z.infer<typeof Environment> {
  id: string;
  /** The preferred one first. */
  engines: { url: string; token: string }[];
}

/** @throws WorkerError when a setting cannot be used; the message names all of them. */
export function readSettings(options: WorkerOptions): Settings {
  const given = Object.entries({
    ...options.environment ?? Deno.env.toObject(),
    ...options.url !== undefined && { ORCHESTRATOR_URL: options.url },
    ...options.id !== undefined && { WORKER_ID: options.id },
    ...options.workerType !== undefined && { WORKER_TYPE: options.workerType },
    ...options.maxConcurrentTasks !== undefined && { MAX_CONCURRENT_TASKS: options.maxConcurrentTasks },
  }).filter(([, value]) => String(value ?? "").trim() !== "");
  const { data: settings, error } = Environment.safeParse(Object.fromEntries(given));
  if (error !== undefined) {
    const problems = error.issues.map(({ path, message }) => ` ${String(path[0])} ${message}.`);
    throw new WorkerError(`Cannot set up the worker:${problems.join("")}`);
  }
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
