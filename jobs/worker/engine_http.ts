/**
 * Requests to one engine: with the worker's token, bounded in time, and never a rejection.
 *
 * @module
 */
import { type HttpAnswer, type HttpCall, httpCall } from "../model/http_call.ts";
import { errorIn } from "../model/json.ts";
import type { RunState } from "./run_state.ts";

/** What an engine answered. */
export interface Answer extends HttpAnswer {
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

  /** Sends a request. */
  async send(
    method: HttpCall["method"],
    path: string,
    { timeoutMs = 30_000, signal = this.run.ended.signal, body = null }: Partial<HttpCall> = {},
  ): Promise<Answer> {
    const { client, clock } = this.run;
    const headers = { "X-Worker-Token": this.token };
    const call = { method, headers, body, timeoutMs, signal, client, clock };
    const answer = await httpCall(this.url + path, call);
    const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
    return { ...answer, retryMs: seconds >= 0 ? Math.min(seconds, LONGEST_RETRY_SECONDS) * 1000 : undefined };
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
