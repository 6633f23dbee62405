/**
 * `orchestrator worker`.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { durationMs } from "../../config/command.ts";
import { UserError } from "../../config/errors.ts";
import { execTask } from "../worker/exec_worker.ts";
import { WorkerError } from "../worker/settings.ts";
import { Worker } from "../worker/worker.ts";
import { configOf } from "./config.ts";
import { lineLog } from "./line_log.ts";
import { loadTasks } from "./scripts.ts";
import type { Streams, Variables } from "./streams.ts";
import { numberOf, readVariables, stopSignals, withStreams } from "./streams.ts";

/** Runs a worker until a signal stops it; a second one ends its tasks at once. */
export function run(given: Given): Promise<number> {
  return withStreams((streams) => runWorker(given, streams));
}

async function runWorker(given: Given, streams: Streams): Promise<number> {
  const variables = readVariables(given);
  const { environment } = variables;
  const config = configOf(variables);
  const log = lineLog(config.logFormat, config.logLevel, streams.out);
  const graceMs = durationMs(given, "grace", 5_000);
  const maxOutputBytes = numberOf(given, "max-output", 1, 1 << 30, 16 << 20);
  const limits = new Map(
    pairs(given, "limit", "NAME=N").map(([name, text]) => {
      const limit = Number(text);
      if (Number.isInteger(limit) && limit >= 1) return [name, limit] as const;
      throw new UserError(`--limit ${name}=${text} is no limit; give a whole number from 1.`);
    }),
  );
  const tasks = (await Promise.all(given.all("tasks").map(loadTasks))).flat();
  for (const [name, command] of pairs(given, "exec", "NAME=COMMAND")) {
    tasks.push([
      name,
      execTask(name, command, {
        environment,
        maxOutputBytes,
        onStderr: (line, { taskId }) => streams.err.line(`${name} ${taskId.slice(0, 8)} | ${line}`),
      }),
    ]);
  }
  if (tasks.length === 0) {
    throw new UserError(
      '"worker" needs --tasks FILE or --exec NAME=COMMAND; orchestrator worker --help shows how.',
    );
  }
  const unknown = [...limits.keys()].find((name) => tasks.every(([task]) => task !== name));
  if (unknown !== undefined) {
    throw new UserError(`--limit names "${unknown}", which is none of this worker's tasks.`);
  }

  using signals = stopSignals();
  const worker = makeWorker(variables, () => new Worker({ environment, graceMs, log }));
  for (const [name, handler] of tasks) {
    worker.task(name, handler, limits.has(name) ? { maxConcurrent: limits.get(name)! } : {});
  }
  await using _health = serveHealth(variables, worker);
  if (config.logFormat === "text") {
    streams.out.line([
      "Worker starting",
      `  Worker ID:       ${worker.id} (${worker.workerType}, ${worker.maxConcurrentTasks} at once)`,
      `  Engine:          ${worker.engines.join(", ")}`,
      `  Supported tasks: ${worker.tasks.join(", ")}`,
      "",
    ].join("\n"));
  }
  log("info", "worker_starting", { worker: worker.id, engines: worker.engines, tasks: worker.tasks });
  await worker.run({ signal: signals.stop, force: signals.force });
  log("info", "worker_stopped", { worker: worker.id });
  return 0;
}

function makeWorker({ inWordsOfOptions }: Variables, make: () => Worker): Worker {
  try {
    return make();
  } catch (error) {
    throw error instanceof WorkerError ? inWordsOfOptions(error) : error;
  }
}

function serveHealth({ environment, inWordsOfOptions }: Variables, worker: Worker): AsyncDisposable {
  const text = environment.WORKER_PORT;
  if (!text) return { [Symbol.asyncDispose]: () => Promise.resolve() };
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw inWordsOfOptions(new Error("WORKER_PORT must be a whole number from 0 to 65535."));
  }
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
