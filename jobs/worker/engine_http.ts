/**
 * Requests to one engine: with the worker's token, bounded in time, and never a rejection.
 *
 * @module
 */
import { LinkedAbort } from "../model/abort.ts";
import { reasonOf } from "../model/errors.ts";
import { errorIn } from "../model/json.ts";
import type { RunState } from "./run_state.ts";

/** What an engine answered. Status 0: it could not be reached, and the text says why. */
export interface Answer {
  status: number;
  text: string;
  /** From Retry-After. */
  retryMs: number | undefined;
}

/** An engine that cannot be worked with now. */
export class ConnectionError extends Error {
  override name = "ConnectionError";
  constructor(message: string, readonly answer?: Answer) {
    super(message);
  }

  /** Whether the engine has understood and will not change its mind. */
  get isFinal(): boolean {
    const status = this.answer?.status ?? 0;
    return status >= 400 && status < 500 && status !== 429;
  }
}

const LONGEST_RETRY_SECONDS = 300;

/** One engine, as far as it is asked something. */
export class EngineHttp {
  /** The path of this worker there. */
  readonly workerPath: string;
  constructor(readonly run: RunState, readonly url: string, readonly token: string) {
    this.workerPath = `/_worker/workers/${encodeURIComponent(run.settings.id)}`;
  }

  /** Sends a request. A body is JSON. */
  async send(
    method: "GET" | "POST" | "PATCH",
    path: string,
    { body, timeoutMs = 30_000, signal = this.run.ended.signal }: {
      body?: string;
      timeoutMs?: number | undefined;
      signal?: AbortSignal | undefined;
    } = {},
  ): Promise<Answer> {
    using control = new LinkedAbort(signal);
    const cancelTimeout = this.run.clock.wake(timeoutMs, () => control.abort(new Error("no answer in time")));
    try {
      const response = await fetch(this.url + path, {
        method,
        headers: {
          "X-Worker-Token": this.token,
          ...body === undefined ? {} : { "Content-Type": "application/json" },
        },
        body: body ?? null,
        redirect: "manual",
        client: this.run.client,
        signal: control.signal,
      });
      const text = await response.text();
      const seconds = Number(response.headers.get("Retry-After") ?? NaN);
      const retryMs = seconds >= 0 ? Math.min(seconds, LONGEST_RETRY_SECONDS) * 1000 : undefined;
      return { status: response.status, text, retryMs };
    } catch (error) { // fetch() rejects for every kind of failure: name, connection, time
      return { status: 0, text: signal.aborted ? "stopped" : reasonOf(error), retryMs: undefined };
    } finally {
      cancelTimeout();
    }
  }

  /** Why an answer is not the one that was hoped for. */
  problem({ status, text }: Answer): string {
    if (status === 0) return `cannot reach ${this.url}: ${text}`;
    const error = errorIn(text);
    return error === undefined ? `status ${status}` : `${error} (${status})`;
  }

  /** The error of a request that was not granted. */
  refusal(what: string, answer: Answer): ConnectionError {
    const problem = this.problem(answer);
    const hint = answer.status === 401 ? "; WORKER_TOKEN must be a token that this engine knows" : "";
    return new ConnectionError(
      answer.status === 0 ? problem : `${this.url} refuses the ${what}: ${problem}${hint}`,
      answer,
    );
  }
}
