/**
 * One task: from its arrival, through the function of its type, until its result is delivered.
 *
 * @module
 */
import { messageOf, reasonOf } from "../model/errors.ts";
import type { WireTask } from "../model/wire.ts";
import type { EngineConnection } from "./connection.ts";
import { Backoff } from "./run_state.ts";
import { failure, type TaskHandler, type TaskOutcome, TaskStopped } from "./task.ts";

/** Longer limits are left to the engine: timers do not count so far. */
const LONGEST_TIMEOUT_SECONDS = 2_000_000;
const RESULT_TIMEOUT_MS = 60_000;
const LONGEST_RESULT_DELAY_MS = 16_000;

/** Runs a task, for which a slot has been taken, and delivers its result. */
export async function runTask(engine: EngineConnection, task: WireTask): Promise<void> {
  const { run } = engine;
  const { task_id, job_id, type: name } = task;
  const type = run.typeOf(name);
  const control = new AbortController();
  engine.held.set(task_id, control);
  run.begin(type);
  const startedAt = run.clock.now();
  run.log("info", "task_received", { task_id, job_id, type: name });
  const outcome = await perform(engine, type.handler, task, control);
  run.end(type);
  const { reason } = control.signal;
  const why = reason instanceof TaskStopped ? reason.why : undefined;
  const ms = Math.round(run.clock.now() - startedAt);
  run.log("info", "task_ended", { task_id, job_id, type: name, status: why ?? outcome.status, ms });
  // Out of time: the engine has settled it. Given back: another worker has it.
  if (why === undefined) await deliver(engine, task, outcome);
  else if (why === "cancelled") await deliver(engine, task, { status: why });
  engine.held.delete(task_id);
  run.delivered();
}

async function perform(
  engine: EngineConnection,
  handler: TaskHandler,
  task: WireTask,
  control: AbortController,
): Promise<TaskOutcome> {
  const { run, run: { clock, hotCache } } = engine;
  const { task_id: taskId, job_id: jobId, timeout_seconds: limit = Infinity } = task;
  const cancelTimeout = limit <= LONGEST_TIMEOUT_SECONDS
    ? clock.wake(limit * 1000, () => control.abort(new TaskStopped("timeout")))
    : () => {};
  const sendEvent = newestOnly((body: string) => engine.sendEvent(body));
  try {
    const outcome = await handler(task.params, {
      taskId,
      jobId,
      priority: task.priority,
      signal: control.signal,
      sendProgress: (progress, message) => {
        const type = "progress_update"; // engines read one or the other key
        const fields = { worker_id: run.settings.id, job_id: jobId, task_id: taskId, progress, message };
        return sendEvent(JSON.stringify({ event: type, type, ...fields }));
      },
      addToHotCache: (name) => {
        hotCache.add(name);
        run.changed.notify();
      },
      removeFromHotCache: (name) => {
        hotCache.delete(name);
        run.changed.notify();
      },
    }) ?? { status: "success" };
    if (typeof outcome === "object" && typeof outcome.status === "string") return outcome;
    return failure(
      "PERMANENT_ERROR",
      `The function of task ${task.type} returned something without a status; return { status, data }.`,
    );
  } catch (error) {
    return failure("TRANSIENT_ERROR", messageOf(error));
  } finally {
    cancelTimeout();
  }
}

// Delivers an outcome: again and again, until the engine has it or refuses it for good.
async function deliver(
  engine: EngineConnection,
  task: WireTask,
  result: TaskOutcome,
  isReplaced = false,
): Promise<void> {
  const { clock, log, settings, ended: { signal } } = engine.run;
  const fields = { task_id: task.task_id, job_id: task.job_id };
  const backoff = new Backoff(settings.resultDelayMs, LONGEST_RESULT_DELAY_MS);
  let body: string;
  try {
    body = JSON.stringify({ ...fields, worker_id: settings.id, result });
  } catch (error) { // BigInt, or a value that contains itself
    const message = `The result cannot be written as JSON: ${reasonOf(error)}`;
    return await deliver(engine, task, failure("PERMANENT_ERROR", message));
  }
  for (let tries = 0; !signal.aborted; tries++) {
    const call = { body, timeoutMs: RESULT_TIMEOUT_MS };
    const answer = await engine.send("POST", "/_worker/tasks/result", call);
    const { status, text, problem: error, retryMs = backoff.nextMs() } = answer;
    if (status === 200) {
      if (text.includes('"ignored"')) log("warn", "result_ignored", { ...fields, answer: text });
      return;
    }
    if ((status === 400 || status === 413) && !isReplaced) {
      // A repeat would be refused as well; without a result the job would wait for its time-out.
      const refused = failure("PERMANENT_ERROR", `The engine refuses the result: ${error}`);
      return await deliver(engine, task, refused, true);
    }
    // An engine that is away, has another token for a moment or is busy may take it later.
    const isFinal = status > 0 && status < 500 && ![401, 403, 408, 429].includes(status);
    if (isFinal) return log("warn", "result_refused", { ...fields, error });
    if (tries >= settings.resultRetries) return log("error", "result_dropped", { ...fields, error });
    log("warn", "result_delayed", { ...fields, error });
    await clock.sleep(retryMs, signal);
  }
}

// Sends one at a time; while one is on its way only the newest is kept.
function newestOnly<T>(transmit: (value: T) => Promise<void>): (value: T) => Promise<void> {
  let waiting: T | undefined;
  let sending: Promise<void> | undefined;
  const drain = async () => {
    for (let value = waiting; value !== undefined; value = waiting) {
      waiting = undefined;
      await transmit(value);
    }
    sending = undefined;
  };
  return (value) => {
    waiting = value;
    return sending ??= drain();
  };
}
