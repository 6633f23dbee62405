/**
 * The command line of the jobs: `engine`, `worker`, `job`, `workers`.
 *
 * Each command is a table of options; one that stands over a variable simply sets it, so the same reader checks both.
 * The engine and the worker are loaded only by the commands that run them.
 *
 * @module
 */
// @ts-types="../../config/std.d.ts"
import { cyan, green, red, yellow } from "@std/fmt/colors";
import { basename, extname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { BlueprintError, StateMachineBlueprint } from "../model/blueprint.ts";
import { Config, type Settings } from "../engine/config.ts";
import { ConfigError } from "../model/errors.ts";
import type { JsonObject } from "../model/job.ts";
import { type Command, type Given, helpOf, readArguments, UsageError } from "./options.ts";
import { stripControl } from "../model/text.ts";
import { lineLog, Output, table } from "./output.ts";
import type { TaskHandler, Worker } from "../worker/worker.ts";
import type { JobView } from "../model/wire.ts";

// --- What can be typed ------------------------------------------------------------------------------------------

const LOGGING = [
  {
    name: "log-level",
    value: "LEVEL",
    variable: "LOG_LEVEL",
    does: "DEBUG, INFO, WARNING or ERROR; default INFO",
  },
  {
    name: "log-format",
    value: "FORMAT",
    variable: "LOG_FORMAT",
    does: "text or json; default text on a terminal, else json",
  },
];

const ENGINE: Command = {
  name: "engine",
  about: "Runs the job engine: takes jobs over HTTP, runs their blueprints, dispatches tasks to workers.",
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
    { name: "schedules", value: "FILE", variable: "SCHEDULES_CONFIG_PATH", does: "jobs by the clock, TOML" },
    {
      name: "task-timeout",
      value: "SECONDS",
      variable: "WORKER_TIMEOUT_SECONDS",
      does: "from a task's pick-up to its result; default 300",
    },
    {
      name: "queue-timeout",
      value: "SECONDS",
      variable: "QUEUE_TIMEOUT_SECONDS",
      does: "from a task's queueing to its pick-up; default 0: no limit",
    },
    {
      name: "poll-timeout",
      value: "SECONDS",
      variable: "WORKER_POLL_TIMEOUT_SECONDS",
      does: "how long a worker's poll waits; default 30",
    },
    {
      name: "health-check-interval",
      value: "SECONDS",
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
      value: "SECONDS",
      variable: "WATCHER_INTERVAL_SECONDS",
      does: "longest time between two checks for due work; default 20",
    },
    { name: "rate-limiting", value: "BOOL", variable: "RATE_LIMITING_ENABLED", does: "default true" },
    {
      name: "retention",
      value: "SECONDS",
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
  more:
    `Tokens come from CLIENT_TOKEN and GLOBAL_WORKER_TOKEN, or from the files. Without any, the engine makes them, shows
them, and listens on this machine only. docs/jobs.md lists all variables.

A blueprint file is JavaScript, and also TypeScript when the program runs from its source with deno. Its default export
is a blueprint, several, or a function that makes them: export default ({ StateMachineBlueprint }) => { ... }

example:
  orchestrator engine --blueprints flow.js --storage memory`,
};

const WORKER: Command = {
  name: "worker",
  about: "Runs a worker: pulls tasks from the engine and performs them.",
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
    {
      name: "url",
      value: "URL",
      variable: "ORCHESTRATOR_URL",
      does: "the engine; default http://127.0.0.1:8080",
    },
    {
      name: "token",
      value: "TOKEN",
      variable: "WORKER_TOKEN",
      does: "others can see it in the process list: better use the variable",
    },
    { name: "id", value: "ID", variable: "WORKER_ID", does: "its name; default worker-UUID" },
    { name: "type", value: "TYPE", variable: "WORKER_TYPE", does: "default generic-cpu-worker" },
    { name: "concurrency", value: "N", variable: "MAX_CONCURRENT_TASKS", does: "tasks at once; default 10" },
    {
      name: "cost",
      value: "NUMBER",
      variable: "WORKER_COST_PER_SECOND",
      does: "its price a second, for strategies that look at it",
    },
    { name: "heartbeat", value: "SECONDS", variable: "HEARTBEAT_INTERVAL", does: "default 15" },
    { name: "poll-timeout", value: "SECONDS", variable: "TASK_POLL_TIMEOUT", does: "default 30" },
    {
      name: "websocket",
      variable: "WORKER_ENABLE_WEBSOCKETS",
      does: "receive commands over a WebSocket instead of polls",
    },
    { name: "grace", value: "SECONDS", does: "for running tasks at shutdown; default 5" },
    { name: "max-output", value: "BYTES", does: "longest result of a command; default 16777216" },
    {
      name: "health-port",
      value: "PORT",
      variable: "WORKER_PORT",
      does: "answer GET /health there: 200 while registered, else 503",
    },
    ...LOGGING,
  ],
  more:
    `A task file is JavaScript, and also TypeScript when the program runs from its source with deno: each function it exports is
the task of that name. Variables only: ORCHESTRATORS_CONFIG (several engines), MULTI_ORCHESTRATOR_MODE, WORKER_INDIVIDUAL_TOKEN,
CPU_CORES, GPU_MODEL, GPU_VRAM_GB, INSTALLED_MODELS, INSTALLED_SOFTWARE and more; docs/jobs.md lists all.

examples:
  orchestrator worker --tasks tasks.js
  orchestrator worker --exec echo_task='python3 echo.py' --limit echo_task=2`,
};

const CLIENT = [
  {
    name: "url",
    value: "URL",
    variable: "ORCHESTRATOR_URL",
    does: "the engine; default http://127.0.0.1:8080",
  },
  {
    name: "token",
    value: "TOKEN",
    variable: "CLIENT_TOKEN",
    does: "others can see it in the process list: better use the variable",
  },
  { name: "json", does: "print the engine's answer as JSON" },
];

const JOB: Record<string, Command> = {
  submit: {
    name: "job submit",
    about: "Submits a job and prints its id.",
    words: "BLUEPRINT [DATA]",
    options: [
      { name: "wait", does: "show its progress, then its result; exit 1 when it does not end well" },
      { name: "timeout", value: "SECONDS", does: "with --wait: stop waiting after this, exit 1" },
      { name: "idempotency-key", value: "KEY", does: "the same key with the same data gives the same job" },
      { name: "webhook-url", value: "URL", does: "report its end there" },
      { name: "dispatch-timeout", value: "SECONDS", does: "how long its tasks may wait for a worker" },
      { name: "result-timeout", value: "SECONDS", does: "how long its tasks may take" },
      ...CLIENT,
    ],
    more: `DATA is a JSON object, - reads it from stdin, nothing means {}.

example:
  orchestrator job submit test_flow '{"message":"Hello World","multiply":3}' --wait`,
  },
  status: { name: "job status", about: "Shows a job.", words: "ID", options: CLIENT },
  cancel: {
    name: "job cancel",
    about: "Ends a job; a worker that runs its task is notified.",
    words: "ID",
    options: CLIENT,
  },
  history: {
    name: "job history",
    about: "Shows what happened to a job, oldest first.",
    words: "ID",
    options: CLIENT,
  },
  list: {
    name: "job list",
    about: "Lists own jobs, newest first.",
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
      ...CLIENT,
    ],
  },
  approve: {
    name: "job approve",
    about: "Decides for a job that waits for a human; job status shows the possible decisions.",
    words: "ID DECISION",
    options: CLIENT,
  },
  retry: {
    name: "job retry",
    about: "Runs a failed or quarantined job again from the state that failed.",
    words: "ID",
    options: CLIENT,
  },
};

const WORKERS: Command = {
  name: "workers",
  about: "Lists the workers with a recent heartbeat.",
  options: CLIENT,
};

const JOB_HELP = `Submits, watches and changes jobs.

usage: orchestrator job COMMAND [words] [options]

commands:
${
  Object.values(JOB).map(({ name, words = "", about }) =>
    `  ${`${name.slice(4)} ${words}`.padEnd(24)} ${about}`
  ).join("\n")
}

orchestrator job COMMAND --help lists the options of one.

exit status: 0 done, 1 the job did not end well or in time, 2 a usage or configuration error`;

// --- Commands ---------------------------------------------------------------------------------------------------

/** Where a command writes. */
interface Streams {
  out: Output;
  err: Output;
  isTerminal: boolean;
}

/**
 * Runs `engine`, `worker`, `job ...` or `workers`.
 *
 * @returns the exit status: 0, 1 for a job that did not end well, 2 for an error that the user can correct
 */
export async function main(args: readonly string[]): Promise<number> {
  const streams: Streams = {
    out: new Output(Deno.stdout),
    err: new Output(Deno.stderr),
    isTerminal: Deno.stdout.isTerminal(),
  };
  try {
    return await perform(args, streams);
  } catch (error) {
    if (!await isUserError(error)) throw error;
    streams.err.line(`orchestrator: ${stripControl(error instanceof Error ? error.message : "")}`);
    return 2;
  } finally {
    await streams.out.flush();
    await streams.err.flush();
  }
}

async function isUserError(error: unknown): Promise<boolean> {
  if (error instanceof UsageError || error instanceof ConfigError || error instanceof BlueprintError) {
    return true;
  }
  const { ClientError } = await import("./client.ts");
  const { WorkerError } = await import("../worker/worker.ts");
  return error instanceof ClientError || error instanceof WorkerError;
}

async function perform([word, ...rest]: readonly string[], streams: Streams): Promise<number> {
  const run = async (command: Command, args: readonly string[], work: (given: Given) => Promise<number>) => {
    const given = readArguments(command, args);
    if (given !== undefined) return await work(given);
    streams.out.line(helpOf(command));
    return 0;
  };
  switch (word) {
    case "engine":
      return await run(ENGINE, rest, (given) => runEngine(given, streams));
    case "worker":
      return await run(WORKER, rest, (given) => runWorker(given, streams));
    case "workers":
      return await run(WORKERS, rest, (given) => listWorkers(given, streams));
    case "job": {
      const [verb = "", ...args] = rest;
      if (verb === "" || verb === "--help" || verb === "-h") {
        streams[verb === "" ? "err" : "out"].line(JOB_HELP);
        return verb === "" ? 2 : 0;
      }
      if (!Object.hasOwn(JOB, verb)) {
        throw new UsageError(
          `There is no command "job ${verb}"; the commands are ${
            Object.keys(JOB).map((name) => `job ${name}`).join(", ")
          }.`,
        );
      }
      return await run(JOB[verb], args, (given) => runJob(verb, given, streams));
    }
    default:
      throw new UsageError(
        `There is no command "${word ?? ""}"; the commands are engine, worker, job and workers.`,
      );
  }
}

/** Signals that ask to stop: the first aborts `stop`, the second `force`. */
function stopSignals(): { stop: AbortSignal; force: AbortSignal } & Disposable {
  const stop = new AbortController();
  const force = new AbortController();
  const onSignal = () => (stop.signal.aborted ? force : stop).abort();
  const names = ["SIGINT", "SIGTERM"] as const;
  for (const name of names) Deno.addSignalListener(name, onSignal);
  return {
    stop: stop.signal,
    force: force.signal,
    [Symbol.dispose]: () => names.forEach((name) => Deno.removeSignalListener(name, onSignal)),
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

// Settings of the engine, and of the log for worker and engine alike.
function configOf(given: Given, streams: Streams): Config {
  const format: Partial<Settings> = !given.environment.LOG_FORMAT && streams.isTerminal
    ? { logFormat: "text" }
    : {};
  try {
    return Config.fromEnvironment(given.environment, format);
  } catch (error) {
    if (error instanceof ConfigError) throw new UsageError(given.blame(error.message));
    throw error;
  }
}

// --- engine

async function runEngine(given: Given, streams: Streams): Promise<number> {
  const config = configOf(given, streams);
  const files = given.all("blueprints");
  if (files.length === 0) {
    throw new UsageError("orchestrator engine needs --blueprints FILE; examples/jobs/flow.js is one.");
  }
  const blueprints = (await Promise.all(files.map(loadBlueprints))).flat();
  using signals = stopSignals();
  const { OrchestratorEngine } = await import("../http/server.ts");
  const { openStorage } = await import("../stores/open.ts");
  const storage = await openStorage(config.storage);
  const log = lineLog(config.logFormat, config.logLevel, streams.out);
  await using engine = new OrchestratorEngine(storage, config, { log });
  for (const blueprint of blueprints) engine.registerBlueprint(blueprint);
  const { url, madeTokens } = await listen(engine, config, given);

  // Tokens are shown once, beside the log, so that no log holds them.
  if (madeTokens.client !== undefined) streams.err.line(`CLIENT_TOKEN=${madeTokens.client}`);
  if (madeTokens.worker !== undefined) {
    streams.err.line(`GLOBAL_WORKER_TOKEN=${madeTokens.worker}   (a worker's WORKER_TOKEN)`);
  }
  if (madeTokens.client !== undefined || madeTokens.worker !== undefined) {
    streams.err.line(
      "These tokens were made for this run, as none were configured; only this machine is served.",
    );
  }
  if (config.logFormat === "text") {
    streams.out.line(`Engine running on ${url}\n`);
    const endpoints = blueprints.flatMap(({ name, apiEndpoint, apiVersion }) =>
      apiEndpoint === undefined ? [] : [[
        `  POST /api${apiVersion === undefined ? "" : `/${apiVersion}`}${apiEndpoint}`,
        `submit a ${name} job`,
      ]]
    );
    const rows = [...endpoints, ["  GET  /api/jobs/{id}", "a job"], ["  GET  /", "the page"], [
      "  GET  /_public/docs",
      "all there is",
    ]];
    const width = Math.max(...rows.map(([path]) => path.length));
    streams.out.line(rows.map(([path, does]) => `${path.padEnd(width)}  ${does}`).join("\n"));
    streams.out.line("\nA request carries a client's token in the header X-Avtomatika-Token.\n");
  }
  log("INFO", "engine_running", { url, blueprints: blueprints.map(({ name }) => name) });
  await aborted(signals.stop);
  log("INFO", "engine_stopping");
  const stopped = engine.stop().then(() => 0);
  return await Promise.race([stopped, aborted(signals.force).then(() => 1)]);
}

async function listen(
  engine: { start(): Promise<{ url: string; madeTokens: { client?: string; worker?: string } }> },
  { host, port }: Config,
  given: Given,
): Promise<{ url: string; madeTokens: { client?: string; worker?: string } }> {
  try {
    return await engine.start();
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new UsageError(
        `Cannot listen on ${host}:${port}: the port is taken; stop what listens there or give another --port.`,
      );
    }
    if (error instanceof Deno.errors.AddrNotAvailable) {
      throw new UsageError(
        `Cannot listen on ${host}:${port}: this machine has no such address; give another --host.`,
      );
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new UsageError(
        `Cannot listen on ${host}:${port}: it is not permitted; ports below 1024 need a right to them.`,
      );
    }
    if (error instanceof ConfigError) throw new UsageError(given.blame(error.message));
    throw error;
  }
}

// --- Files of blueprints and tasks

const SCRIPTS = [".js", ".mjs"];
const TYPED_SCRIPTS = [".ts", ".mts"];

/** Blueprints of a file, or of all files in a folder. */
async function loadBlueprints(path: string): Promise<StateMachineBlueprint[]> {
  const files = await scriptsOf(path);
  return (await Promise.all(files.map(async (file) => {
    const { default: main, ...named } = await loadModule(file);
    const made: unknown = typeof main === "function" ? await call(file, main) : main;
    const found = [made, ...Object.values(named)].flat().filter((value): value is StateMachineBlueprint =>
      value instanceof StateMachineBlueprint
    );
    if (found.length === 0) {
      throw new UsageError(
        `${file} exports no blueprint; write: export default ({ StateMachineBlueprint }) => { ...; return flow; };`,
      );
    }
    return [...new Set(found)];
  }))).flat();
}

async function call(file: string, make: CallableFunction): Promise<unknown> {
  try {
    return await make({ StateMachineBlueprint });
  } catch (error) {
    throw unloadable(file, error);
  }
}

async function scriptsOf(path: string): Promise<string[]> {
  let isFolder: boolean;
  try {
    isFolder = (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new UsageError(`There is no file ${path}; check the name.`);
    }
    throw error;
  }
  if (!isFolder) return [path];
  const usable = Deno.build.standalone ? SCRIPTS : [...SCRIPTS, ...TYPED_SCRIPTS];
  const names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
  const files = names.filter((name) => usable.includes(extname(name)) && !/[._]test\.\w+$/.test(name));
  if (files.length > 0) return files.map((name) => join(path, name));
  throw new UsageError(`There is no blueprint in ${path}: it has no ${usable.join(" or ")} file.`);
}

/** What a script exports. @throws UsageError when it cannot be run here */
async function loadModule(path: string): Promise<Record<string, unknown>> {
  const kind = extname(path);
  if (![...SCRIPTS, ...TYPED_SCRIPTS].includes(kind)) {
    throw new UsageError(`Cannot load ${path}: "${kind}" is no script; use a .js or .ts file.`);
  }
  if (Deno.build.standalone && !SCRIPTS.includes(kind)) {
    throw new UsageError(
      `Cannot load ${path}: this program is compiled and runs JavaScript (.js, .mjs) only. ` +
        `Write it in JavaScript, or run the program from its source: deno run -A orchestrator.ts.`,
    );
  }
  if (!(await Deno.stat(path).catch(() => undefined))?.isFile) {
    throw new UsageError(`There is no file ${path}; check the name.`);
  }
  try {
    return await import(pathToFileURL(resolve(path)).href);
  } catch (error) {
    throw unloadable(path, error);
  }
}

// The script's error: its first line, and where in the file it is.
function unloadable(path: string, error: unknown): UsageError {
  const [message] = (error instanceof Error ? error.message : String(error)).split("\n");
  const where = error instanceof Error
    ? new RegExp(`${escaped(basename(path))}:(\\d+):(\\d+)`).exec(`${error.message}\n${error.stack}`)
    : null;
  const place = where === null ? path : `${path}, line ${where[1]}`;
  return new UsageError(
    `Cannot load ${place}: ${stripControl(message).replace(/ at file:\S+$/, "").replace(/\.$/, "")}.`,
  );
}

function escaped(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** The tasks of a file: its exported functions by name, and those in an object that is its default export. */
async function loadTasks(path: string): Promise<[string, TaskHandler][]> {
  const { default: main, ...named } = await loadModule(path);
  const listed = typeof main === "object" && main !== null ? Object.entries(main) : [];
  const tasks = [...Object.entries(named), ...listed].filter((entry): entry is [string, TaskHandler] =>
    typeof entry[1] === "function"
  );
  if (tasks.length > 0) return tasks;
  throw new UsageError(
    `${path} exports no function; write: export function echo_task(params) { return { status, data }; }`,
  );
}

// --- worker

async function runWorker(given: Given, streams: Streams): Promise<number> {
  const { Worker } = await import("../worker/worker.ts");
  const { execTask } = await import("../worker/exec_worker.ts");
  const config = configOf(given, streams);
  const log = lineLog(config.logFormat, config.logLevel, streams.out);
  const graceMs = number(given, "grace", 0, 86_400, 5) * 1000;
  const maxOutputBytes = number(given, "max-output", 1, 1 << 30, 16 << 20);
  const limits = new Map(
    pairs(given, "limit", "NAME=N").map(([name, text]) => {
      const limit = Number(text);
      if (Number.isInteger(limit) && limit >= 1) return [name, limit] as const;
      throw new UsageError(`--limit ${name}=${text} is no limit; give a whole number from 1.`);
    }),
  );
  const tasks = (await Promise.all(given.all("tasks").map(loadTasks))).flat();
  for (const [name, command] of pairs(given, "exec", "NAME=COMMAND")) {
    tasks.push([
      name,
      execTask(name, command, {
        environment: given.environment,
        maxOutputBytes,
        onStderr: (line, { taskId }) => streams.err.line(`${name} ${taskId.slice(0, 8)} | ${line}`),
      }),
    ]);
  }
  if (tasks.length === 0) {
    throw new UsageError("orchestrator worker needs --tasks FILE or --exec NAME=COMMAND; --help shows how.");
  }
  const unknown = [...limits.keys()].find((name) => tasks.every(([task]) => task !== name));
  if (unknown !== undefined) {
    throw new UsageError(`--limit names "${unknown}", which is none of this worker's tasks.`);
  }

  using signals = stopSignals();
  const worker = makeWorker(given, () => new Worker({ environment: given.environment, graceMs, log }));
  for (const [name, handler] of tasks) worker.task(name, handler, { maxConcurrent: limits.get(name) });
  await using _health = serveHealth(given, worker);
  if (config.logFormat === "text") {
    streams.out.line([
      "Worker starting",
      `  Worker ID:       ${worker.id} (${worker.workerType}, ${worker.maxConcurrentTasks} at once)`,
      `  Engine:          ${worker.engines.join(", ")}`,
      `  Supported tasks: ${worker.tasks.join(", ")}`,
      "",
    ].join("\n"));
  }
  log("INFO", "worker_starting", { worker: worker.id, engines: worker.engines, tasks: worker.tasks });
  await worker.run({ signal: signals.stop, force: signals.force });
  log("INFO", "worker_stopped", { worker: worker.id });
  return 0;
}

function makeWorker(given: Given, make: () => Worker): Worker {
  try {
    return make();
  } catch (error) {
    if (error instanceof Error && error.name === "WorkerError") {
      throw new UsageError(given.blame(error.message));
    }
    throw error;
  }
}

function serveHealth(given: Given, worker: Worker): AsyncDisposable {
  const text = given.environment.WORKER_PORT;
  if (!text) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new UsageError(given.blame("WORKER_PORT must be a whole number from 0 to 65535."));
  }
  try {
    return Deno.serve({ port, hostname: "127.0.0.1", onListen() {} }, (request) => {
      if (new URL(request.url).pathname !== "/health") return new Response("Not found\n", { status: 404 });
      return worker.connected ? new Response("OK\n") : new Response("Not registered\n", { status: 503 });
    });
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new UsageError(`Cannot answer /health on port ${port}: it is taken; give another --health-port.`);
  }
}

function pairs(given: Given, option: string, like: string): [string, string][] {
  return given.all(option).map((text) => {
    const at = text.indexOf("=");
    if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
    throw new UsageError(`--${option} ${text} cannot be read; write --${option} ${like}.`);
  });
}

function number(given: Given, option: string, least: number, most: number, fallback: number): number {
  const text = given.one(option);
  const value = Number(text ?? fallback);
  if (value >= least && value <= most) return value;
  throw new UsageError(`--${option} ${text} cannot be used; give a number from ${least} to ${most}.`);
}

// --- job, workers

async function clientOf(given: Given) {
  const { JobClient } = await import("./client.ts");
  const { ORCHESTRATOR_URL: url = "http://127.0.0.1:8080", CLIENT_TOKEN: token = "" } = given.environment;
  if (!/^https?:\/\/[^\s/]+/i.test(url)) {
    throw new UsageError(given.blame("ORCHESTRATOR_URL must be an address such as http://127.0.0.1:8080."));
  }
  if (token === "") {
    throw new UsageError(
      "There is no client token; set CLIENT_TOKEN to one that the engine knows. An engine without any shows the one it made when it starts.",
    );
  }
  return new JobClient(url, token);
}

async function listWorkers(given: Given, { out }: Streams): Promise<number> {
  const workers = await (await clientOf(given)).workers();
  if (given.has("json")) out.line(JSON.stringify(workers, null, 2));
  else if (workers.length === 0) {
    out.line("No worker is known; start one with: orchestrator worker --tasks FILE");
  } else {
    out.line(table(
      ["WORKER", "TYPE", "STATUS", "RUNNING", "TASKS", "LAST HEARTBEAT"],
      workers.map((worker) => [
        worker.worker_id,
        worker.worker_type,
        worker.status,
        `${worker.held_tasks} of ${worker.max_concurrent_tasks}`,
        worker.supported_tasks.join(","),
        worker.last_heartbeat_at,
      ]),
    ));
  }
  return 0;
}

async function runJob(verb: string, given: Given, streams: Streams): Promise<number> {
  const client = await clientOf(given);
  const { out } = streams;
  const [first = "", second = ""] = given.words;
  const say = (answer: unknown, text: string) => {
    out.line(given.has("json") ? JSON.stringify(answer, null, 2) : text);
    return 0;
  };
  switch (verb) {
    case "submit":
      return await submit(client, given, streams);
    case "status": {
      const job = await client.job(first);
      return say(job, describe(job, palette(streams)));
    }
    case "cancel": {
      const status = await client.cancel(first);
      return say({ status }, "Cancelled.");
    }
    case "approve": {
      const status = await client.approve(first, second);
      return say({ status }, `Decided: ${second}.`);
    }
    case "retry": {
      const status = await client.retry(first);
      return say({ status }, "It runs again.");
    }
    case "history": {
      const entries = await client.history(first);
      return say(
        entries,
        table(
          ["TIME", "EVENT", "STATE", "DETAIL"],
          entries.map((entry) => [
            entry.timestamp,
            entry.event_type,
            entry.state,
            [
              entry.next_state === undefined ? "" : `-> ${entry.next_state}`,
              entry.worker_id === undefined ? "" : `worker ${entry.worker_id}`,
              entry.attempt_number === undefined ? "" : `attempt ${entry.attempt_number}`,
              entry.duration_ms === undefined ? "" : `${Math.round(entry.duration_ms)} ms`,
              entry.error ?? "",
            ].filter((part) => part !== "").join(", "),
          ]),
        ),
      );
    }
    default: { // list
      const query = ["status", "blueprint", "search", "limit", "offset"].flatMap((name) => {
        const value = given.one(name);
        return value === undefined ? [] : [[name, value]];
      });
      const jobs = await client.jobs(Object.fromEntries(query));
      const { status } = palette(streams);
      if (jobs.length === 0) return say(jobs, "No job.");
      const text = table(
        ["JOB", "BLUEPRINT", "STATE", "STATUS", "CREATED", "ERROR"],
        jobs.map((job) => [
          job.job_id,
          job.blueprint_name,
          job.state,
          job.status,
          job.created_at,
          (job.error_message ?? "").slice(0, 80),
        ]),
      );
      const [heads, ...rows] = text.split("\n");
      return say(
        jobs,
        [heads, ...rows.map((row, index) => row.replace(jobs[index].status, status))].join("\n"),
      );
    }
  }
}

type JobClient = Awaited<ReturnType<typeof clientOf>>;

async function submit(client: JobClient, given: Given, streams: Streams): Promise<number> {
  const [blueprint, text = "{}"] = given.words;
  const data = readData(text === "-" ? await new Response(Deno.stdin.readable).text() : text);
  const timeoutMs = given.one("timeout") === undefined
    ? undefined
    : number(given, "timeout", 0, 1e6, 0) * 1000;
  const id = await client.submit(blueprint, data, {
    idempotencyKey: given.one("idempotency-key"),
    webhookUrl: given.one("webhook-url"),
    dispatchTimeout: given.one("dispatch-timeout"),
    resultTimeout: given.one("result-timeout"),
  });
  const asJson = given.has("json");
  if (!given.has("wait")) {
    streams.out.line(asJson ? JSON.stringify({ status: "accepted", job_id: id }, null, 2) : id);
    return 0;
  }
  return await follow(client, id, asJson, timeoutMs, streams);
}

function readData(text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new UsageError(
      `The job's data is not JSON: ${
        error instanceof Error ? error.message : ""
      }; write an object such as '{"message":"Hello"}'.`,
    );
  }
  if (isObject(value)) return value;
  throw new UsageError(`The job's data must be a JSON object such as '{"message":"Hello"}'.`);
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

// Progress goes to stderr, so that stdout holds the result alone.
async function follow(
  client: JobClient,
  id: string,
  asJson: boolean,
  timeoutMs: number | undefined,
  streams: Streams,
): Promise<number> {
  const { isEnded } = await import("./client.ts");
  using signals = stopSignals();
  const late = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const signal = late === undefined ? signals.stop : AbortSignal.any([signals.stop, late]);
  const paint = palette(streams);
  streams.err.line(`job ${id}`);
  let shown = "";
  let last: JobView | undefined;
  let isAway = false;
  const onAway = (error: Error) => {
    if (!isAway) streams.err.line(`${stripControl(error.message)} Waiting for it.`);
    isAway = true;
  };
  for await (const job of client.watch(id, signal, onAway)) {
    last = job;
    isAway = false;
    const line = progressLine(job, paint);
    if (line !== shown) streams.err.line(line);
    shown = line;
  }
  if (last === undefined || !isEnded(last)) {
    const why = late?.aborted ? "Not ended in time" : "No longer waiting";
    streams.err.line(`${why}; the job goes on: orchestrator job status ${id}`);
    return 1;
  }
  if (asJson) streams.out.line(JSON.stringify(last, null, 2));
  else if (last.status === "finished") streams.out.line(JSON.stringify(last.result ?? {}, null, 2));
  else {streams.err.line(
      `orchestrator: the job is ${last.status}${
        last.error_message ? `: ${stripControl(last.error_message)}` : ""
      }`,
    );}
  return last.status === "finished" ? 0 : 1;
}

/** Colours, if wanted: for what stands out in a text. */
interface Paint {
  status(word: string): string;
  name(word: string): string;
}

function palette({ isTerminal }: Streams): Paint {
  if (!isTerminal || Deno.noColor) return { status: (word) => word, name: (word) => word };
  const good = ["finished"];
  const bad = ["failed", "quarantined"];
  return {
    status: (word) => good.includes(word) ? green(word) : bad.includes(word) ? red(word) : yellow(word),
    name: cyan,
  };
}

function progressLine(job: JobView, paint: Paint): string {
  const { waiting_for: waits, progress } = job;
  const details = waits === undefined ? [] : [
    `for ${waits}`,
    progress?.progress === undefined ? "" : `${Math.round(progress.progress * 100)} %`,
    progress?.message ?? "",
  ];
  const head = `${paint.name(stripControl(job.current_state))}: ${paint.status(job.status)}`;
  return [head, ...details.filter((detail) => detail !== "").map(stripControl)].join(", ");
}

function describe(job: JobView, paint: Paint): string {
  const { progress, approval } = job;
  const rows: [string, string | undefined][] = [
    ["blueprint", job.blueprint_name],
    ["state", job.current_state],
    ["waits for", job.waiting_for],
    ["asked", approval && `${approval.message} (job approve ${job.id} ${approval.decisions.join("|")})`],
    [
      "progress",
      progress &&
      [
        progress.progress === undefined ? "" : `${Math.round(progress.progress * 100)} %`,
        progress.message ?? "",
      ].join(" ").trim(),
    ],
    ["worker", job.task_worker_id ?? undefined],
    ["created", job.created_at],
    ["ended", job.ended_at],
    ["error", job.error_message ?? undefined],
    ["data", JSON.stringify(job.initial_data)],
    [job.result === undefined ? "so far" : "result", JSON.stringify(job.result ?? job.state_history)],
  ];
  const lines = rows.flatMap(([name, value]) => value ? [`  ${name.padEnd(9)}  ${stripControl(value)}`] : []);
  return [`Job ${paint.name(job.id)} is ${paint.status(job.status)}`, ...lines].join("\n");
}
