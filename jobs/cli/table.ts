/**
 * The rows of the command table that belong to jobs: the engine, workers, and what clients do with jobs.
 *
 * An option that stands over a variable simply sets it, so the same reader checks both.
 *
 * @module
 */

import type { Command, Option } from "../../config/command.ts";

const LOGGING: readonly Option[] = [
  {
    name: "log-level",
    value: "LEVEL",
    variable: "LOG_LEVEL",
    does: "debug, info, warn or error; default info",
  },
  {
    name: "log-format",
    value: "FORMAT",
    variable: "LOG_FORMAT",
    does: "text or json; default text on a terminal, else json",
  },
];

const ENGINE_URL: Option = {
  name: "url",
  value: "URL",
  variable: "ORCHESTRATOR_URL",
  does: "the engine; default http://127.0.0.1:8080",
};

const tokenOption = (variable: string): Option => ({
  name: "token",
  value: "TOKEN",
  variable,
  does: "others can see it in the process list: better use the variable",
});

const CLIENT: readonly Option[] = [
  ENGINE_URL,
  tokenOption("CLIENT_TOKEN"),
  { name: "json", does: "the engine's answer as JSON" },
];

const STATUS = "exit status: 0 done, 1 the job did not end well or in time, 2 an error to correct";

/** Commands of clients that do one thing with one job. */
function jobCommand(
  name: string,
  does: string,
  load: Command["load"],
  { words = "ID", options = [], example = "5f0c..." }: {
    words?: string;
    options?: readonly Option[];
    example?: string;
  } = {},
): Command {
  return {
    name: `job ${name}`,
    group: "Jobs",
    words,
    does,
    options: [...options, ...CLIENT],
    examples: [[`job ${name} ${example}`.trimEnd(), ""]],
    more: STATUS,
    load,
  };
}

/** The commands of jobs. */
export const JOB_COMMANDS: readonly Command[] = [
  {
    name: "engine",
    group: "Jobs",
    does:
      "run the job engine: it takes jobs over HTTP, runs their blueprints and dispatches tasks to workers",
    options: [
      {
        name: "blueprints",
        value: "FILE",
        many: true,
        does: "a file of blueprints, or a folder of them; needed, may be repeated",
      },
      { name: "port", value: "PORT", variable: "API_PORT", does: "default 8080; 0: a free one" },
      { name: "host", value: "ADDRESS", variable: "API_HOST", does: "default 127.0.0.1" },
      {
        name: "storage",
        value: "STORAGE",
        variable: "JOBS_STORAGE",
        does: "sqlite:PATH, memory or redis://HOST:PORT/DB; default sqlite:jobs.sqlite",
      },
      {
        name: "clients",
        value: "FILE",
        variable: "CLIENTS_CONFIG_PATH",
        does: "clients with plans and quotas, TOML",
      },
      {
        name: "workers",
        value: "FILE",
        variable: "WORKERS_CONFIG_PATH",
        does: "workers with tokens of their own, TOML",
      },
      {
        name: "schedules",
        value: "FILE",
        variable: "SCHEDULES_CONFIG_PATH",
        does: "jobs by the clock, TOML",
      },
      {
        name: "task-timeout",
        value: "TIME",
        variable: "WORKER_TIMEOUT_SECONDS",
        does: "from a task's pick-up to its result; default 300",
      },
      {
        name: "queue-timeout",
        value: "TIME",
        variable: "QUEUE_TIMEOUT_SECONDS",
        does: "from a task's queueing to its pick-up; default 0: no limit",
      },
      {
        name: "poll-timeout",
        value: "TIME",
        variable: "WORKER_POLL_TIMEOUT_SECONDS",
        does: "how long a worker's poll waits; default 30",
      },
      {
        name: "health-check-interval",
        value: "TIME",
        variable: "WORKER_HEALTH_CHECK_INTERVAL_SECONDS",
        does: "a worker silent for twice this is gone; default 60",
      },
      {
        name: "max-retries",
        value: "N",
        variable: "JOB_MAX_RETRIES",
        does: "of a failed task or handler; default 3",
      },
      {
        name: "max-concurrent-jobs",
        value: "N",
        variable: "EXECUTOR_MAX_CONCURRENT_JOBS",
        does: "handlers running at once; default 100",
      },
      {
        name: "watcher-interval",
        value: "TIME",
        variable: "WATCHER_INTERVAL_SECONDS",
        does: "longest time between two checks for due work; default 20",
      },
      { name: "rate-limiting", value: "BOOL", variable: "RATE_LIMITING_ENABLED", does: "default true" },
      {
        name: "retention",
        value: "TIME",
        variable: "JOB_RETENTION_SECONDS",
        does: "ended jobs are removed after this; default 0: never",
      },
      {
        name: "webhook-hosts",
        value: "HOSTS",
        variable: "WEBHOOK_HOSTS",
        does: "hosts that webhooks may go to, comma separated; default none",
      },
      { name: "time-zone", value: "ZONE", variable: "TZ", does: "of schedules; default UTC" },
      { name: "instance-id", value: "NAME", variable: "INSTANCE_ID", does: "name of this engine in its log" },
      ...LOGGING,
    ],
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
    options: [
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
      ENGINE_URL,
      tokenOption("WORKER_TOKEN"),
      { name: "id", value: "ID", variable: "WORKER_ID", does: "its name; default worker-UUID" },
      { name: "type", value: "TYPE", variable: "WORKER_TYPE", does: "default generic-cpu-worker" },
      {
        name: "concurrency",
        value: "N",
        variable: "MAX_CONCURRENT_TASKS",
        does: "tasks at once; default 10",
      },
      {
        name: "cost",
        value: "NUMBER",
        variable: "WORKER_COST_PER_SECOND",
        does: "its price a second, for strategies that look at it",
      },
      { name: "heartbeat", value: "TIME", variable: "HEARTBEAT_INTERVAL", does: "default 15" },
      { name: "poll-timeout", value: "TIME", variable: "TASK_POLL_TIMEOUT", does: "default 30" },
      {
        name: "websocket",
        variable: "WORKER_ENABLE_WEBSOCKETS",
        does: "receive commands over a WebSocket instead of polls",
      },
      { name: "grace", value: "TIME", does: "for running tasks at shutdown; default 5" },
      { name: "max-output", value: "BYTES", does: "longest result of a command; default 16777216" },
      {
        name: "health-port",
        value: "PORT",
        variable: "WORKER_PORT",
        does: "answer GET /health there: 200 while registered, else 503",
      },
      ...LOGGING,
    ],
    examples: [
      ["worker --tasks tasks.js", ""],
      ["worker --exec echo_task='python3 echo.py' --limit echo_task=2", ""],
    ],
    more:
      `A task file is JavaScript, and also TypeScript when the program runs from its source with deno: each function it exports is the task of that name. Variables only: ORCHESTRATORS_CONFIG (several engines), MULTI_ORCHESTRATOR_MODE, WORKER_INDIVIDUAL_TOKEN, CPU_CORES, GPU_MODEL, GPU_VRAM_GB, INSTALLED_MODELS, INSTALLED_SOFTWARE and more; docs/jobs.md lists all.`,
    load: () => import("./worker.ts"),
  },
  {
    ...jobCommand("submit", "submit a job and print its id", () => import("./submit.ts"), {
      words: "BLUEPRINT [DATA]",
      options: [
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
      ],
    }),
    examples: [[`job submit test_flow '{"message":"Hello World","multiply":3}' --wait`, ""]],
    more: `DATA is a JSON object, - reads it from stdin, nothing means {}.\n\n${STATUS}`,
  },
  jobCommand("status", "show a job", async () => ({ run: (await import("./job.ts")).showJob })),
  jobCommand("cancel", "end a job; a worker that runs its task is notified", async () => ({
    run: (await import("./job.ts")).cancelJob,
  })),
  jobCommand("history", "show what happened to a job, oldest first", async () => ({
    run: (await import("./job.ts")).showHistory,
  })),
  jobCommand(
    "list",
    "list own jobs, newest first",
    async () => ({ run: (await import("./job.ts")).listJobs }),
    {
      words: "",
      example: "--status failed",
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
    },
  ),
  jobCommand(
    "approve",
    "decide for a job that waits for a human; job status shows the possible decisions",
    async () => ({ run: (await import("./job.ts")).approveJob }),
    { words: "ID DECISION", example: "5f0c... approved" },
  ),
  jobCommand("retry", "run a failed or quarantined job again from the state that failed", async () => ({
    run: (await import("./job.ts")).retryJob,
  })),
  {
    name: "workers",
    group: "Jobs",
    does: "list the workers with a recent heartbeat",
    options: CLIENT,
    examples: [["workers", ""]],
    load: () => import("./workers.ts"),
  },
];
