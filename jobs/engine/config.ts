/**
 * Settings of an engine: defaults, over them the environment, over that what the program gives.
 *
 * @module
 */

import { DURATION_FORMS, spanOf } from "../../config/duration.ts";
import { UserError } from "../../config/errors.ts";
import type { Level } from "../../config/levels.ts";
import { parseLevel } from "../../config/levels.ts";
import { ConfigError } from "../model/errors.ts";

/** Every setting. Times are milliseconds, sizes bytes. */
export interface Settings {
  host: string;
  port: number;
  /** `memory`, `sqlite:PATH` or `redis://...`. */
  storage: string;
  /** Empty: none configured; the engine then makes one, and serves loopback only. */
  clientToken: string;
  workerToken: string;
  /** TOML files; empty: none. */
  clientsPath: string;
  workersPath: string;
  schedulesPath: string;
  /** Name of this engine in logs. */
  instanceId: string;
  /** From a task's pick-up to its result, unless the task says otherwise. */
  workerTimeoutMs: number;
  /** From a task's queueing to its pick-up, unless the task says otherwise; 0: no limit. */
  queueTimeoutMs: number;
  /** How long a poll waits for a task. */
  pollTimeoutMs: number;
  /** A worker is forgotten after twice this without a heartbeat. */
  healthCheckMs: number;
  /** Retries of a handler that throws and of a task that fails. */
  jobMaxRetries: number;
  /** First retry delay; doubles. */
  retryDelayMs: number;
  /** Longest time between two checks for due work. */
  watcherIntervalMs: number;
  /** Handlers running at once. */
  maxConcurrentJobs: number;
  /** A handler that takes longer has failed. */
  handlerTimeoutMs: number;
  /** Handler runs of one job; more fail it. */
  maxTransitions: number;
  rateLimiting: boolean;
  /** Heartbeats, and polls that found nothing, a minute and worker. */
  rateLimitPerMinute: number;
  maxSubmissionBytes: number;
  maxResultBytes: number;
  /** Nesting of a body's JSON. */
  maxDepth: number;
  /** How long a body may take to arrive. */
  bodyTimeoutMs: number;
  /** Jobs that ended longer ago are removed; 0: never. */
  retentionMs: number;
  /** Hosts that job webhooks may go to, `*.example.org` included; empty: none; `*`: all. */
  webhookHosts: string[];
  /** Time zone of schedules. */
  timeZone: string;
  logLevel: Level;
  logFormat: "json" | "text";
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
  /** @throws ConfigError when a value cannot be used. */
  constructor(given: Partial<Settings> = {}, environment: Record<string, string | undefined> = {}) {
    const reader = new Reader(environment);
    const redisHost = reader.text("REDIS_HOST", "");
    const defaults: Settings = {
      host: reader.text("API_HOST", "127.0.0.1"),
      port: reader.whole("API_PORT", 8080, 0, 65535),
      storage: reader.text(
        "JOBS_STORAGE",
        redisHost === ""
          ? "sqlite:jobs.sqlite"
          : `redis://${redisHost}:${reader.whole("REDIS_PORT", 6379, 1, 65535)}/${
            reader.whole("REDIS_DB", 0, 0, 9999)
          }`,
      ),
      clientToken: reader.text("CLIENT_TOKEN", ""),
      workerToken: reader.text("GLOBAL_WORKER_TOKEN", ""),
      clientsPath: reader.text("CLIENTS_CONFIG_PATH", ""),
      workersPath: reader.text("WORKERS_CONFIG_PATH", ""),
      schedulesPath: reader.text("SCHEDULES_CONFIG_PATH", ""),
      instanceId: reader.text("INSTANCE_ID", "engine"),
      workerTimeoutMs: reader.seconds("WORKER_TIMEOUT_SECONDS", 300),
      queueTimeoutMs: reader.seconds("QUEUE_TIMEOUT_SECONDS", 0),
      pollTimeoutMs: reader.seconds("WORKER_POLL_TIMEOUT_SECONDS", 30),
      healthCheckMs: reader.seconds("WORKER_HEALTH_CHECK_INTERVAL_SECONDS", 60),
      jobMaxRetries: reader.whole("JOB_MAX_RETRIES", 3, 0, 100),
      retryDelayMs: 200,
      watcherIntervalMs: reader.seconds("WATCHER_INTERVAL_SECONDS", 20),
      maxConcurrentJobs: reader.whole("EXECUTOR_MAX_CONCURRENT_JOBS", 100, 1, 100_000),
      handlerTimeoutMs: reader.seconds("HANDLER_TIMEOUT_SECONDS", 60),
      maxTransitions: reader.whole("MAX_TRANSITIONS_PER_JOB", 100, 1, 1_000_000),
      rateLimiting: reader.flag("RATE_LIMITING_ENABLED", true),
      rateLimitPerMinute: reader.whole("RATE_LIMIT_PER_MINUTE", 600, 1, 1_000_000),
      maxSubmissionBytes: reader.whole("MAX_SUBMISSION_BYTES", 1 << 20, 1, 1 << 30),
      maxResultBytes: reader.whole("MAX_RESULT_BYTES", 16 << 20, 1, 1 << 30),
      maxDepth: reader.whole("MAX_JSON_DEPTH", 64, 1, 1000),
      bodyTimeoutMs: reader.seconds("BODY_TIMEOUT_SECONDS", 30),
      retentionMs: reader.seconds("JOB_RETENTION_SECONDS", 0),
      webhookHosts: reader.text("WEBHOOK_HOSTS", "").split(/[\s,]+/).filter((host) => host !== ""),
      timeZone: reader.text("TZ", "UTC"),
      logLevel: reader.level("LOG_LEVEL", "info"),
      logFormat: reader.choice("LOG_FORMAT", { JSON: "json", TEXT: "text" }, "json"),
    };
    reader.done();
    Object.assign(this, defaults, given);
  }

  /** Settings from a process environment, with `given` (flags) over them. */
  static fromEnvironment(
    environment: Record<string, string | undefined>,
    given: Partial<Settings> = {},
  ): Config {
    return new Config(given, environment);
  }
}

// Reads variables and gathers all faults, so that a user can correct them in one go. Values may be secrets: they are not shown.
class Reader {
  #faults: string[] = [];
  constructor(readonly environment: Record<string, string | undefined>) {}

  text(name: string, fallback: string): string {
    return this.environment[name]?.trim() || fallback;
  }
  whole(name: string, fallback: number, least: number, most: number): number {
    const text = this.text(name, String(fallback));
    const value = Number(text);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    this.#faults.push(`${name} must be a whole number from ${least} to ${most}.`);
    return fallback;
  }
  seconds(name: string, fallback: number): number {
    const spanMs = spanOf(this.text(name, String(fallback)));
    if (spanMs !== null && spanMs <= 1e12) return spanMs;
    this.#faults.push(`${name} must be ${DURATION_FORMS}.`);
    return fallback;
  }
  level(name: string, fallback: Level): Level {
    try {
      return parseLevel(this.text(name, fallback), name);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#faults.push(error.message);
      return fallback;
    }
  }
  flag(name: string, fallback: boolean): boolean {
    const text = this.text(name, String(fallback)).toLowerCase();
    if (["true", "1", "yes", "on"].includes(text)) return true;
    if (!["false", "0", "no", "off"].includes(text)) this.#faults.push(`${name} must be true or false.`);
    return false;
  }
  choice<T>(name: string, choices: Record<string, T>, fallback: T): T {
    const text = this.environment[name]?.trim().toUpperCase();
    if (!text) return fallback;
    const choice = Object.hasOwn(choices, text) ? choices[text] : undefined;
    if (choice !== undefined) return choice;
    this.#faults.push(`${name} must be one of ${Object.keys(choices).join(", ")}.`);
    return fallback;
  }
  done(): void {
    if (this.#faults.length > 0) throw new ConfigError(this.#faults.join(" "));
  }
}

/** Whether an address is reached from this machine only. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}
