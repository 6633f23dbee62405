/**
 * The tasks of one engine that a worker holds: from their arrival, through the function of their type, until their result
 * is delivered.
 *
 * @module
 */
import { messageOf, reasonOf } from "../model/errors.ts";
import { Command, type WireTask } from "../model/wire.ts";
import type { Answer, EngineHttp } from "./engine_http.ts";
import { Backoff } from "./run_state.ts";
import { failure, type TaskHandler, type TaskOutcome, TaskStopped } from "./task.ts";

/** Longer limits are left to the engine: timers do not count so far. */
const LONGEST_TIMEOUT_SECONDS = 2_000_000;
const RESULT_TIMEOUT_MS = 60_000;
const LONGEST_RESULT_DELAY_MS = 16_000;

/** Tasks that have no delivered result. */
export class HeldTasks {
  readonly #held = new Map<string, AbortController>();

  constructor(readonly engine: EngineHttp) {}

  get ids(): string[] {
    return [...this.#held.keys()];
  }

  /** Runs a task, for which a slot has been taken, and delivers its result. */
  async run(task: WireTask): Promise<void> {
    const { run } = this.engine;
    const { task_id, job_id, type: name } = task;
    const type = run.typeOf(name);
    const control = new AbortController();
    this.#held.set(task_id, control);
    run.begin(type);
    const startedAt = run.clock.now();
    run.log("info", "task_received", { task_id, job_id, type: name });
    const outcome = await this.#perform(type.handler, task, control);
    run.end(type);
    const { reason } = control.signal;
    const why = reason instanceof TaskStopped ? reason.why : undefined;
    const ms = Math.round(run.clock.now() - startedAt);
    run.log("info", "task_ended", { task_id, job_id, type: name, status: why ?? outcome.status, ms });
    // Out of time: the engine has settled it. Given back: another worker has it.
    if (why === undefined) await this.#deliver(task, outcome);
    else if (why === "cancelled") await this.#deliver(task, { status: why });
    this.#held.delete(task_id);
    run.delivered();
  }

  /** Cancels the task that a command names. @returns whether the value is a command */
  obey(value: unknown): boolean {
    const { data } = Command.safeParse(value);
    if (data !== undefined) this.cancel(data.task_id);
    return data !== undefined;
  }

  cancel(taskId: string): void {
    this.#held.get(taskId)?.abort(new TaskStopped("cancelled"));
  }

  /** Stops what still runs, without results. */
  stop(): void {
    for (const control of this.#held.values()) control.abort(new TaskStopped("shutdown"));
    this.#held.clear();
  }

  async #perform(handler: TaskHandler, task: WireTask, control: AbortController): Promise<TaskOutcome> {
    const { run, run: { clock, hotCache } } = this.engine;
    const { task_id: taskId, job_id: jobId, timeout_seconds: limit = Infinity } = task;
    const cancelTimeout = limit <= LONGEST_TIMEOUT_SECONDS
      ? clock.wake(limit * 1000, () => control.abort(new TaskStopped("timeout")))
      : () => {};
    const sendEvent = newestOnly((body: string) => this.engine.sendEvent(body));
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
  async #deliver({ task_id, job_id }: WireTask, outcome: TaskOutcome): Promise<void> {
    const { settings, log } = this.engine.run;
    const fields = { task_id, job_id };
    const bodyOf = (result: TaskOutcome): string => {
      try {
        return JSON.stringify({ ...fields, worker_id: settings.id, result });
      } catch (error) { // BigInt, or a value that contains itself
        return bodyOf(failure("PERMANENT_ERROR", `The result cannot be written as JSON: ${reasonOf(error)}`));
      }
    };
    let answer = await this.#sendResult(bodyOf(outcome), fields);
    if (answer?.status === 400 || answer?.status === 413) {
      // A repeat would be refused as well; without a result the job would wait for its time-out.
      const message = `The engine refuses the result: ${answer.problem}`;
      answer = await this.#sendResult(bodyOf(failure("PERMANENT_ERROR", message)), fields);
    }
    if (answer === undefined) return;
    if (answer.status !== 200) log("warn", "result_refused", { ...fields, error: answer.problem });
    else if (answer.text.includes('"ignored"')) {
      log("warn", "result_ignored", { ...fields, answer: answer.text });
    }
  }

  // Resolves with an answer that a repeat would not change; undefined: given up.
  async #sendResult(body: string, fields: Record<string, unknown>): Promise<Answer | undefined> {
    const { clock, log, settings, ended: { signal } } = this.engine.run;
    const backoff = new Backoff(settings.resultDelayMs, LONGEST_RESULT_DELAY_MS);
    for (let tries = 0; !signal.aborted; tries++) {
      const call = { body, timeoutMs: RESULT_TIMEOUT_MS };
      const answer = await this.engine.send("POST", "/_worker/tasks/result", call);
      const { status, problem: error, retryMs = backoff.nextMs() } = answer;
      // An engine that is away, has another token for a moment or is busy may take it later.
      if (status > 0 && status < 500 && ![401, 403, 408, 429].includes(status)) return answer;
      if (tries >= settings.resultRetries) {
        log("error", "result_dropped", { ...fields, error });
        return undefined;
      }
      log("warn", "result_delayed", { ...fields, error });
      await clock.sleep(retryMs, signal);
    }
    return undefined;
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
