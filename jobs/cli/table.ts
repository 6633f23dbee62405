/**
 * The rows of the command table that belong to jobs: the engine, workers, and what clients do with jobs.
 *
 * An option that stands over a variable simply sets it, so the same reader checks both.
 *
 * @module
 */

import type { Command, Option } from "../../config/command.ts";

/** Name, value, variable, and what it does. */
type Setting = readonly [name: string, value: string, variable: string, does: string];

/** Options over variables. */
function settings(...rows: Setting[]): Option[] {
  return rows.map(([name, value, variable, does]) => ({ name, value, variable, does }));
}

const LOGGING: readonly Setting[] = [
  ["log-level", "LEVEL", "LOG_LEVEL", "debug, info, warn or error; default info"],
  ["log-format", "FORMAT", "LOG_FORMAT", "text or json; default text on a terminal, else json"],
];

const ENGINE_URL: Setting = ["url", "URL", "ORCHESTRATOR_URL", "the engine; default http://127.0.0.1:8080"];

function tokenOf(variable: string): Setting {
  return ["token", "TOKEN", variable, "others can see it in the process list: better use the variable"];
}

const CLIENT: readonly Option[] = [
  ...settings(ENGINE_URL, tokenOf("CLIENT_TOKEN")),
  { name: "json", does: "the engine's answer as JSON" },
];

const ENGINE_OPTIONS: readonly Option[] = [
  {
    name: "blueprints",
    value: "FILE",
    many: true,
    does: "a file of blueprints, or a folder of them; needed, may be repeated",
  },
  ...settings(
    ["port", "PORT", "API_PORT", "default 8080; 0: a free one"],
    ["host", "ADDRESS", "API_HOST", "default 127.0.0.1"],
    [
      "storage",
      "STORAGE",
      "JOBS_STORAGE",
      "sqlite:PATH, memory or redis://HOST:PORT/DB; default sqlite:jobs.sqlite",
    ],
    ["clients", "FILE", "CLIENTS_CONFIG_PATH", "clients with plans and quotas, TOML"],
    ["workers", "FILE", "WORKERS_CONFIG_PATH", "workers with tokens of their own, TOML"],
    ["schedules", "FILE", "SCHEDULES_CONFIG_PATH", "jobs by the clock, TOML"],
    ["task-timeout", "TIME", "WORKER_TIMEOUT_SECONDS", "from a task's pick-up to its result; default 300"],
    [
      "queue-timeout",
      "TIME",
      "QUEUE_TIMEOUT_SECONDS",
      "from a task's queueing to its pick-up; default 0: no limit",
    ],
    ["poll-timeout", "TIME", "WORKER_POLL_TIMEOUT_SECONDS", "how long a worker's poll waits; default 30"],
    [
      "health-check-interval",
      "TIME",
      "WORKER_HEALTH_CHECK_INTERVAL_SECONDS",
      "a worker silent for twice this is gone; default 60",
    ],
    ["max-retries", "N", "JOB_MAX_RETRIES", "of a failed task or handler; default 3"],
    ["max-concurrent-jobs", "N", "EXECUTOR_MAX_CONCURRENT_JOBS", "handlers running at once; default 100"],
    [
      "watcher-interval",
      "TIME",
      "WATCHER_INTERVAL_SECONDS",
      "longest time between two checks for due work; default 20",
    ],
    ["rate-limiting", "BOOL", "RATE_LIMITING_ENABLED", "default true"],
    ["retention", "TIME", "JOB_RETENTION_SECONDS", "ended jobs are removed after this; default 0: never"],
    [
      "webhook-hosts",
      "HOSTS",
      "WEBHOOK_HOSTS",
      "hosts that webhooks may go to, comma separated; default none",
    ],
    ["time-zone", "ZONE", "TZ", "of schedules; default UTC"],
    ["instance-id", "NAME", "INSTANCE_ID", "name of this engine in its log"],
    ...LOGGING,
  ),
];

const WORKER_OPTIONS: readonly Option[] = [
  {
    name: "tasks",
    value: "FILE",
    many: true,
    does: "a file whose exported functions are tasks; may be repeated",
  },
  {
    name: "exec",
    value: "NAME=COMMAND",
    many: true,
    does: "a task that is a command: params on stdin, result on stdout; may be repeated",
  },
  { name: "limit", value: "NAME=N", many: true, does: "at most N of this task at once; may be repeated" },
  ...settings(
    ENGINE_URL,
    tokenOf("WORKER_TOKEN"),
    ["id", "ID", "WORKER_ID", "its name; default worker-UUID"],
    ["type", "TYPE", "WORKER_TYPE", "default generic-cpu-worker"],
    ["concurrency", "N", "MAX_CONCURRENT_TASKS", "tasks at once; default 10"],
    ["cost", "NUMBER", "WORKER_COST_PER_SECOND", "its price a second, for strategies that look at it"],
    ["heartbeat", "TIME", "HEARTBEAT_INTERVAL", "default 15"],
    ["poll-timeout", "TIME", "TASK_POLL_TIMEOUT", "default 30"],
  ),
  {
    name: "websocket",
    variable: "WORKER_ENABLE_WEBSOCKETS",
    does: "receive commands over a WebSocket instead of polls",
  },
  { name: "grace", value: "TIME", does: "for running tasks at shutdown; default 5" },
  { name: "max-output", value: "BYTES", does: "longest result of a command; default 16777216" },
  ...settings(
    ["health-port", "PORT", "WORKER_PORT", "answer GET /health there: 200 while registered, else 503"],
    ...LOGGING,
  ),
];

const SUBMIT_OPTIONS: readonly Option[] = [
  { name: "wait", does: "show its progress, then its result; exit 1 when it does not end well" },
  {
    name: "timeout",
    value: "TIME",
    example: "60s",
    does: "with --wait: stop waiting after this, exit 1",
  },
  { name: "idempotency-key", value: "KEY", does: "the same key with the same data gives the same job" },
  { name: "webhook-url", value: "URL", does: "report its end there" },
  {
    name: "dispatch-timeout",
    value: "TIME",
    example: "60s",
    does: "how long its tasks may wait for a worker",
  },
  { name: "result-timeout", value: "TIME", example: "5m", does: "how long its tasks may take" },
];

const STATUS = "exit status: 0 done, 1 the job did not end well or in time, 2 an error to correct";

/** A command of clients. */
function jobCommand(name: string, does: string, more: Partial<Command> = {}): Command {
  return {
    name: `job ${name}`,
    group: "Jobs",
    words: "ID",
    does,
    examples: [[`job ${name} 5f0c...`, ""]],
    more: STATUS,
    ...more,
    options: [...more.options ?? [], ...CLIENT],
    load: () => import("./job.ts"),
  };
}

/** The commands of jobs. */
export const JOB_COMMANDS: readonly Command[] = [
  {
    name: "engine",
    group: "Jobs",
    does:
      "run the job engine: it takes jobs over HTTP, runs their blueprints and dispatches tasks to workers",
    options: ENGINE_OPTIONS,
    examples: [["engine --blueprints flow.js --storage memory", ""]],
    more:
      `Tokens come from CLIENT_TOKEN and GLOBAL_WORKER_TOKEN, or from the files. Without any, the engine makes them, shows them, and listens on this machine only. docs/jobs.md lists all variables.

A blueprint file is JavaScript, and also TypeScript when the program runs from its source with deno. Its default export is a blueprint, several, or a function that makes them: export default ({ StateMachineBlueprint }) => { ... }`,
    load: () => import("./engine.ts"),
  },
  {
    name: "worker",
    group: "Jobs",
    does: "run a worker: it pulls tasks from the engine and performs them",
    options: WORKER_OPTIONS,
    examples: [
      ["worker --tasks tasks.js", ""],
      ["worker --exec echo_task='python3 echo.py' --limit echo_task=2", ""],
    ],
    more:
      `A task file is JavaScript, and also TypeScript when the program runs from its source with deno: each function it exports is the task of that name. Variables only: ORCHESTRATORS_CONFIG (several engines), MULTI_ORCHESTRATOR_MODE, WORKER_INDIVIDUAL_TOKEN, CPU_CORES, GPU_MODEL, GPU_VRAM_GB, INSTALLED_MODELS, INSTALLED_SOFTWARE and more; docs/jobs.md lists all.`,
    load: () => import("./worker.ts"),
  },
  jobCommand("submit", "submit a job and print its id", {
    words: "BLUEPRINT [DATA]",
    options: SUBMIT_OPTIONS,
    examples: [[`job submit test_flow '{"message":"Hello World","multiply":3}' --wait`, ""]],
    more: `DATA is a JSON object, - reads it from stdin, nothing means {}.\n\n${STATUS}`,
  }),
  jobCommand("status", "show a job"),
  jobCommand("cancel", "end a job; a worker that runs its task is notified"),
  jobCommand("history", "show what happened to a job, oldest first"),
  jobCommand("list", "list own jobs, newest first", {
    words: "",
    options: [
      {
        name: "status",
        value: "STATUS",
        does: "only those with this status, such as finished or waiting_for_worker",
      },
      { name: "blueprint", value: "NAME", does: "only those of this blueprint" },
      { name: "search", value: "TEXT", does: "text in the id, blueprint, state or error" },
      { name: "limit", value: "N", does: "default 100" },
      { name: "offset", value: "N", does: "how many to pass over" },
    ],
    examples: [["job list --status failed", ""]],
  }),
  jobCommand("approve", "decide for a job that waits for a human; job status shows the possible decisions", {
    words: "ID DECISION",
    examples: [["job approve 5f0c... approved", ""]],
  }),
  jobCommand("retry", "run a failed or quarantined job again from the state that failed"),
  {
    name: "workers",
    group: "Jobs",
    does: "list the workers with a recent heartbeat",
    options: CLIENT,
    examples: [["workers", ""]],
    load: () => import("./job.ts"),
  },
];
