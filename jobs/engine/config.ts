/**
 * Settings of an engine: defaults, over them the environment, over that what the program gives.
 *
 * @module
 */

import { levelOf, LEVELS } from "../../config/levels.ts";
import { ConfigError } from "../model/errors.ts";
import { VariableReader } from "../model/variables.ts";

/** Every setting. Times are milliseconds, sizes bytes. */
export type Settings = ReturnType<typeof readSettings>;

function readSettings(variables: VariableReader) {
  return {
    host: variables.text("API_HOST", "127.0.0.1"),
    port: variables.whole("API_PORT", 8080, 0, 65535),
    /** `memory`, `sqlite:PATH` or `redis://...`. */
    storage: variables.text("JOBS_STORAGE", undefined) ?? redisAddress(variables) ?? "sqlite:jobs.sqlite",
    /** Empty: none configured; the engine then makes one, and serves loopback only. */
    clientToken: variables.text("CLIENT_TOKEN", ""),
    workerToken: variables.text("GLOBAL_WORKER_TOKEN", ""),
    /** TOML files; empty: none. */
    clientsPath: variables.text("CLIENTS_CONFIG_PATH", ""),
    workersPath: variables.text("WORKERS_CONFIG_PATH", ""),
    schedulesPath: variables.text("SCHEDULES_CONFIG_PATH", ""),
    /** Name of this engine in logs. */
    instanceId: variables.text("INSTANCE_ID", "engine"),
    /** From a task's pick-up to its result, unless the task says otherwise. */
    workerTimeoutMs: variables.duration("WORKER_TIMEOUT_SECONDS", 300),
    /** From a task's queueing to its pick-up, unless the task says otherwise; 0: no limit. */
    queueTimeoutMs: variables.duration("QUEUE_TIMEOUT_SECONDS", 0),
    /** How long a poll waits for a task. */
    pollTimeoutMs: variables.duration("WORKER_POLL_TIMEOUT_SECONDS", 30),
    /** A worker is forgotten after twice this without a heartbeat. */
    healthCheckMs: variables.duration("WORKER_HEALTH_CHECK_INTERVAL_SECONDS", 60),
    /** Retries of a handler that throws and of a task that fails. */
    jobMaxRetries: variables.whole("JOB_MAX_RETRIES", 3, 0, 100),
    /** First retry delay; doubles. */
    retryDelayMs: 200,
    /** Longest time between two checks for due work. */
    watcherIntervalMs: variables.duration("WATCHER_INTERVAL_SECONDS", 20),
    /** Handlers running at once. */
    maxConcurrentJobs: variables.whole("EXECUTOR_MAX_CONCURRENT_JOBS", 100, 1, 100_000),
    /** A handler that takes longer has failed. */
    handlerTimeoutMs: variables.duration("HANDLER_TIMEOUT_SECONDS", 60),
    /** Handler runs of one job; more fail it. */
    maxTransitions: variables.whole("MAX_TRANSITIONS_PER_JOB", 100, 1, 1_000_000),
    rateLimiting: variables.flag("RATE_LIMITING_ENABLED", true),
    /** Heartbeats, and polls that found nothing, a minute and worker. */
    rateLimitPerMinute: variables.whole("RATE_LIMIT_PER_MINUTE", 600, 1, 1_000_000),
    maxSubmissionBytes: variables.whole("MAX_SUBMISSION_BYTES", 1 << 20, 1, 1 << 30),
    maxResultBytes: variables.whole("MAX_RESULT_BYTES", 16 << 20, 1, 1 << 30),
    /** Nesting of a body's JSON. */
    maxDepth: variables.whole("MAX_JSON_DEPTH", 64, 1, 1000),
    /** How long a body may take to arrive. */
    bodyTimeoutMs: variables.duration("BODY_TIMEOUT_SECONDS", 30),
    /** Jobs that ended longer ago are removed; 0: never. */
    retentionMs: variables.duration("JOB_RETENTION_SECONDS", 0),
    /** Hosts that job webhooks may go to, `*.example.org` included; empty: none; `*`: all. */
    webhookHosts: variables.text("WEBHOOK_HOSTS", "").split(/[\s,]+/).filter((host) => host !== ""),
    /** Time zone of schedules. */
    timeZone: variables.text("TZ", "UTC"),
    logLevel: variables.parsed("LOG_LEVEL", "info", `one of ${LEVELS.join(", ")}`, levelOf),
    logFormat: variables.choice("LOG_FORMAT", "json", ["json", "text"]),
  };
}

function redisAddress(variables: VariableReader): string | undefined {
  const host = variables.text("REDIS_HOST", undefined);
  if (host === undefined) return undefined;
  const port = variables.whole("REDIS_PORT", 6379, 1, 65535);
  return `redis://${host}:${port}/${variables.whole("REDIS_DB", 0, 0, 9999)}`;
}

/**
 * An engine's settings.
 *
 * @example
 * ```ts
 * import { Config } from "../mod.ts";
 *
 * const config = new Config({ clientToken: "test-client-token", workerToken: "test-worker-token" });
 * ```
 */
export interface Config extends Settings {}
export class Config {
  /** @throws ConfigError when a variable cannot be used; the message names all of them. */
  constructor(given: Partial<Settings> = {}, environment: Record<string, string | undefined> = {}) {
    const variables = new VariableReader(environment);
    Object.assign(this, readSettings(variables), given);
    if (variables.problems.length > 0) throw new ConfigError(variables.problems.join(" "));
  }
}
