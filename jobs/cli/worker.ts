/**
 * `orchestrator worker`.
 *
 * @module
 */

import { durationMs, type Given } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import { VariableReader } from "../model/variables.ts";
import { execTask } from "../worker/exec_worker.ts";
import type { TaskHandler } from "../worker/task.ts";
import { Worker } from "../worker/worker.ts";
import { type Environment, stopSignals } from "./environment.ts";
import { loadTasks } from "./scripts.ts";
import { runService, type Service } from "./service.ts";

const MOST_OUTPUT_BYTES = 1 << 30;

/** Runs a worker until a signal stops it; a second one ends its tasks at once. */
export function run(given: Given): Promise<number> {
  return runService(given, (service) => runWorker(given, service));
}

async function runWorker(given: Given, service: Service): Promise<number> {
  const { environment, config, log, out } = service;
  const graceMs = durationMs(given, "grace", 5_000);
  const limits = readLimits(given);
  const tasks = await readTasks(given, service);
  const unknown = [...limits.keys()].find((name) => tasks.every(([task]) => task !== name));
  if (unknown !== undefined) {
    throw new UserError(`--limit names "${unknown}", which is none of this worker's tasks.`);
  }

  using signals = stopSignals();
  const worker = new Worker({ environment, graceMs, log });
  for (const [name, handler] of tasks) worker.task(name, handler, { maxConcurrent: limits.get(name) });
  await using _health = serveHealth(environment, worker);
  const { id, engines, workerType, maxConcurrentTasks, tasks: names } = worker;
  if (config.logFormat === "text") {
    out.line([
      "Worker starting",
      `  Worker ID:       ${id} (${workerType}, ${maxConcurrentTasks} at once)`,
      `  Engine:          ${engines.join(", ")}`,
      `  Supported tasks: ${names.join(", ")}`,
      "",
    ].join("\n"));
  }
  log("info", "worker_starting", { worker: id, engines, tasks: names });
  await worker.run({ signal: signals.stop, force: signals.force });
  log("info", "worker_stopped", { worker: id });
  return 0;
}

function readLimits(given: Given): Map<string, number> {
  return new Map(
    pairs(given, "limit", "NAME=N").map(([name, text]) => {
      const limit = Number(text);
      if (Number.isInteger(limit) && limit >= 1) return [name, limit];
      throw new UserError(`--limit ${name}=${text} is no limit; give a whole number from 1.`);
    }),
  );
}

async function readTasks(given: Given, { environment, err }: Service): Promise<[string, TaskHandler][]> {
  const bytes = given.one("max-output") ?? String(16 << 20);
  const maxOutputBytes = Number(bytes);
  if (!(maxOutputBytes >= 1 && maxOutputBytes <= MOST_OUTPUT_BYTES)) {
    throw new UserError(
      `--max-output ${bytes} cannot be used; give a number from 1 to ${MOST_OUTPUT_BYTES}.`,
    );
  }
  const scripts = (await Promise.all(given.all("tasks").map(loadTasks))).flat();
  const commands = pairs(given, "exec", "NAME=COMMAND").map(([name, command]): [string, TaskHandler] => {
    const onStderr = (line: string, taskId: string) => err.line(`${name} ${taskId.slice(0, 8)} | ${line}`);
    return [name, execTask(name, command, { environment, maxOutputBytes, onStderr })];
  });
  if (scripts.length + commands.length > 0) return [...scripts, ...commands];
  throw new UserError(
    '"worker" needs --tasks FILE or --exec NAME=COMMAND; orchestrator worker --help shows how.',
  );
}

function serveHealth(environment: Environment, worker: Worker): AsyncDisposable | undefined {
  const variables = new VariableReader(environment);
  const port = variables.whole("WORKER_PORT", undefined, 0, 65_535);
  const [problem] = variables.problems;
  if (problem !== undefined) throw new UserError(problem);
  if (port === undefined) return undefined;
  try {
    return Deno.serve({ port, hostname: "127.0.0.1", onListen() {} }, (request) => {
      if (new URL(request.url).pathname !== "/health") return new Response("Not found\n", { status: 404 });
      return worker.connected ? new Response("OK\n") : new Response("Not registered\n", { status: 503 });
    });
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new UserError(`Cannot answer /health on port ${port}: it is taken; give another --health-port.`);
  }
}

function pairs(given: Given, option: string, like: string): [string, string][] {
  return given.all(option).map((text) => {
    const at = text.indexOf("=");
    if (at > 0 && at < text.length - 1) return [text.slice(0, at), text.slice(at + 1)];
    throw new UserError(`--${option} ${text} cannot be read; write --${option} ${like}.`);
  });
}
