/**
 * What a worker sends to one engine: requests with its token, and events over a WebSocket where there is one.
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
  /** Why it is not the one that was hoped for, if it is not. */
  problem: string;
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
  socket: WebSocket | undefined;
  constructor(readonly run: RunState, readonly url: string, readonly token: string) {
    this.workerPath = `/_worker/workers/${encodeURIComponent(run.settings.id)}`;
  }

  async send(
    method: HttpCall["method"],
    path: string,
    { body, timeoutMs = 30_000, signal = this.run.ended.signal }: Partial<HttpCall> = {},
  ): Promise<Answer> {
    const { client, clock } = this.run;
    const headers = { "X-Worker-Token": this.token };
    const call = { method, headers, body, timeoutMs, signal, client, clock };
    const answer = await httpCall(this.url + path, call);
    const seconds = Number(answer.headers.get("Retry-After") ?? NaN);
    const retryMs = seconds >= 0 ? Math.min(seconds, LONGEST_RETRY_SECONDS) * 1000 : undefined;
    return { ...answer, retryMs, problem: this.#problem(answer) };
  }

  /** Sends an event by the shortest way. A lost one is no error: the next one will do. */
  async sendEvent(body: string): Promise<void> {
    if (this.hasSocket) this.socket?.send(body);
    else await this.send("POST", "/_worker/events", { body });
  }

  get hasSocket(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  #problem({ status, text }: HttpAnswer): string {
    if (status === 0) return `cannot reach ${this.url}: ${text}`;
    const error = status < 300 ? undefined : errorIn(text);
    return error === undefined ? `status ${status}` : `${error} (${status})`;
  }

  /** The error of a request that was not granted. */
  refusal(what: string, answer: Answer): ConnectionError {
    const { status, problem } = answer;
    const hint = status === 401 ? "; WORKER_TOKEN must be a token that this engine knows" : "";
    return new ConnectionError(
      status === 0 ? problem : `${this.url} refuses the ${what}: ${problem}${hint}`,
      answer,
    );
  }
}
