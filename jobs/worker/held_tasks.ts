/**
 * The tasks of one engine that this worker holds: from their arrival until their result is delivered.
 *
 * @module
 */
import { reasonOf } from "../model/errors.ts";
import { Command, type WireTask } from "../model/wire.ts";
import type { Answer, EngineHttp } from "./engine_http.ts";
import { failure, performTask, type Progress, type TaskOutcome, TaskStopped } from "./task.ts";
import { Backoff } from "./waiting.ts";

const RESULT_TIMEOUT_MS = 60_000;
const LONGEST_RESULT_DELAY_MS = 16_000;

/** Tasks that have no delivered result. */
export class HeldTasks {
  readonly #held = new Map<string, AbortController>();

  /** @param sendOverSocket Sends an event if a socket is open for it, and says whether. */
  constructor(readonly engine: EngineHttp, readonly sendOverSocket: (event: string) => boolean) {}

  /** Their ids. */
  get ids(): string[] {
    return [...this.#held.keys()];
  }

  /** Runs a task, for which a slot has been taken, and delivers its result. */
  async run(task: WireTask): Promise<void> {
    const { run } = this.engine;
    const { task_id, job_id, type: name } = task;
    const type = run.types.get(name);
    const control = new AbortController();
    this.#held.set(task_id, control);
    run.begin(type);
    const startedAt = run.clock.now();
    run.log("info", "task_received", { task_id, job_id, type: name });

    const outcome = type === undefined
      ? failure("PERMANENT_ERROR", `Unsupported task: ${name}`)
      : await performTask(type.handler, task, control, run, (value) => this.#sendProgress(task, value));

    run.end(type);
    const { reason } = control.signal;
    const why = reason instanceof TaskStopped ? reason.why : undefined;
    const ms = Math.round(run.clock.now() - startedAt);
    run.log("info", "task_ended", { task_id, job_id, type: name, status: why ?? outcome.status, ms });
    // Out of time: the engine has settled it. Given back: another worker has it.
    if (why === undefined) await deliverResult(this.engine, task, outcome);
    else if (why === "cancelled") await deliverResult(this.engine, task, { status: why });
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

  async #sendProgress({ task_id, job_id }: WireTask, value: Progress): Promise<void> {
    const type = "progress_update"; // engines read one or the other key
    const worker_id = this.engine.run.settings.id;
    const body = JSON.stringify({ event: type, type, worker_id, job_id, task_id, ...value });
    if (this.sendOverSocket(body)) return;
    await this.engine.send("POST", "/_worker/events", { body }); // a lost one is no error: the next one will do
  }
}

// Delivers an outcome: again and again, until the engine has it or refuses it for good.
async function deliverResult(engine: EngineHttp, task: WireTask, outcome: TaskOutcome): Promise<void> {
  const { settings, log } = engine.run;
  const fields = { task_id: task.task_id, job_id: task.job_id };
  const bodyOf = (result: TaskOutcome) => JSON.stringify({ ...fields, worker_id: settings.id, result });
  let body: string;
  try {
    body = bodyOf(outcome);
  } catch (error) { // BigInt, or a value that contains itself
    body = bodyOf(failure("PERMANENT_ERROR", `The result cannot be written as JSON: ${reasonOf(error)}`));
  }
  let answer = await sendResult(engine, body, fields);
  if (answer?.status === 400 || answer?.status === 413) {
    // A repeat would be refused as well; without a result the job would wait for its time-out.
    const message = `The engine refuses the result: ${engine.problem(answer)}`;
    answer = await sendResult(engine, bodyOf(failure("PERMANENT_ERROR", message)), fields);
  }
  if (answer === undefined) return;
  if (answer.status !== 200) log("warn", "result_refused", { ...fields, error: engine.problem(answer) });
  else if (answer.text.includes('"ignored"')) {
    log("warn", "result_ignored", { ...fields, answer: answer.text });
  }
}

// Resolves with an answer that a repeat would not change; undefined: given up.
async function sendResult(
  engine: EngineHttp,
  body: string,
  fields: Record<string, unknown>,
): Promise<Answer | undefined> {
  const { clock, log, settings, ended } = engine.run;
  const { RESULT_MAX_RETRIES: mostRetries = Infinity } = settings;
  const backoff = new Backoff(settings.RESULT_RETRY_INITIAL_DELAY, LONGEST_RESULT_DELAY_MS);
  for (let tries = 0; !ended.signal.aborted; tries++) {
    const answer = await engine.send("POST", "/_worker/tasks/result", { body, timeoutMs: RESULT_TIMEOUT_MS });
    if (isFinal(answer)) return answer;
    const error = engine.problem(answer);
    if (tries >= mostRetries) {
      log("error", "result_dropped", { ...fields, error });
      return undefined;
    }
    log("warn", "result_delayed", { ...fields, error });
    await clock.sleep(answer.retryMs ?? backoff.nextMs(), ended.signal);
  }
  return undefined;
}

// An engine that is away, has another token for a moment or is busy may take it later.
function isFinal({ status }: Answer): boolean {
  return status > 0 && status < 500 && ![401, 403, 408, 429].includes(status);
}
