/**
 * The engine's client interface in types: submit jobs, read them, follow them, decide for them.
 *
 * @module
 */
import { z } from "zod";
import { systemClock } from "../../config/clock.ts";
import { UserError } from "../../config/errors.ts";
import { LinkedAbort } from "../model/abort.ts";
import { reasonOf } from "../model/errors.ts";
import { httpCall } from "../model/http_call.ts";
import { END_STATUSES, type JsonObject } from "../model/job.ts";
import { errorIn, parseJson } from "../model/json.ts";
import { Accepted, HistoryEntry, JobSummary, JobView, WorkerView } from "../model/wire.ts";

/** A request that did not succeed. `status` 0: the engine could not be reached. The message never holds the token. */
export class ClientError extends UserError {
  override name = "ClientError";
  constructor(message: string, readonly status: number) {
    super(message);
  }
}

const Blueprints = z.array(
  z.object({ name: z.string(), endpoint: z.string().nullish(), version: z.string().nullish() }),
);
const StatusAnswer = z.object({ status: z.string() });

const TIMEOUT_MS = 60_000;
/** How long an engine that went away is left alone. */
const AWAY_MS = 1_000;

/** Whether a job has come to its end. */
export function isEnded(job: JobView): boolean {
  return END_STATUSES.some((status) => status === job.status);
}

/** One client of one engine. Every method throws ClientError when the engine refuses or is away. */
export class JobClient {
  readonly url: string;
  constructor(url: string, readonly token: string) {
    this.url = url.replace(/\/+$/, "");
  }

  /** Submits a job and returns its id. */
  async submit(
    blueprint: string,
    data: JsonObject,
    headers: Record<string, string | undefined>,
  ): Promise<string> {
    const known = await this.#ask(Blueprints, "GET", "/api/blueprints");
    const found = known.find(({ name }) => name === blueprint);
    if (found === undefined || !found.endpoint) {
      const open = known.flatMap(({ name, endpoint }) => endpoint ? [name] : []);
      throw new ClientError(
        found === undefined
          ? `The engine has no blueprint "${blueprint}"; it has ${open.join(", ") || "none"}.`
          : `The blueprint "${blueprint}" takes no submissions: it has no endpoint.`,
        404,
      );
    }
    const path = `/api${found.version ? `/${found.version}` : ""}${found.endpoint}`;
    return (await this.#ask(Accepted, "POST", path, JSON.stringify(data), headers)).job_id;
  }

  job(id: string): Promise<JobView> {
    return this.#ask(JobView, "GET", pathOf(id));
  }

  /** What happened to a job, oldest first. */
  history(id: string): Promise<HistoryEntry[]> {
    return this.#ask(z.array(HistoryEntry), "GET", pathOf(id, "/history"));
  }

  /** Own jobs, newest first. */
  jobs(query: Record<string, string>): Promise<JobSummary[]> {
    return this.#ask(z.array(JobSummary), "GET", `/api/jobs?${new URLSearchParams(query)}`);
  }

  /** The workers with a recent heartbeat. */
  workers(): Promise<WorkerView[]> {
    return this.#ask(z.array(WorkerView), "GET", "/api/workers");
  }

  /** Ends a job, decides for one that waits for a human, or runs one again; returns what the engine answers. */
  change(id: string, what: "cancel" | "approve" | "retry", body?: JsonObject): Promise<{ status: string }> {
    return this.#ask(StatusAnswer, "POST", pathOf(id, `/${what}`), body && JSON.stringify(body));
  }

  /**
   * The job now, and again after each of its changes, until it has ended or `signal` is aborted. Once the job was seen,
   * an engine that goes away (a restart) is waited for; `onAway` is called then.
   */
  async *watch(
    id: string,
    signal: AbortSignal,
    onAway: (error: ClientError) => void,
  ): AsyncGenerator<JobView> {
    yield await this.job(id);
    while (!signal.aborted) {
      using control = new LinkedAbort(signal);
      try {
        // The stream is opened before the job is read, so that no change falls between them.
        for await (const _ of this.#changes(id, control.signal)) {
          const job = await this.job(id);
          yield job;
          if (isEnded(job)) return;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ClientError) || error.status >= 400 && error.status < 500) throw error;
        onAway(error);
        await systemClock.sleep(AWAY_MS, signal);
      } finally {
        control.abort(); // ends the stream
      }
    }
  }

  // Yields at once, and whenever the engine reports that the job has changed.
  async *#changes(id: string, signal: AbortSignal): AsyncGenerator<void> {
    try {
      const call = { headers: this.#headers, redirect: "manual", signal } as const;
      const response = await fetch(`${this.url}/api/jobs/events`, call);
      if (!response.ok) throw this.#refusal(response.status, await response.text());
      yield;
      let rest = "";
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        // The id is in the summary that each event carries; what has changed is read from the job itself.
        if (lines.some((line) => line.startsWith("data:") && line.includes(id))) yield;
      }
    } catch (error) {
      if (error instanceof ClientError) throw error;
      throw new ClientError(`The engine at ${this.url} went away: ${reasonOf(error)}.`, 0);
    }
  }

  async #ask<T>(
    schema: z.ZodType<T>,
    method: "GET" | "POST",
    path: string,
    body?: string,
    headers: Record<string, string | undefined> = {},
  ): Promise<T> {
    const call = { method, body, headers: { ...headers, ...this.#headers }, timeoutMs: TIMEOUT_MS };
    const { status, text } = await httpCall(this.url + path, call);
    if (status < 200 || status > 299) throw this.#refusal(status, text);
    const { data } = schema.safeParse(parseJson(text));
    if (data !== undefined) return data;
    throw new ClientError(`What answers at ${this.url} is not this engine; check the address.`, 502);
  }

  get #headers(): Record<string, string> {
    return { "X-Client-Token": this.token };
  }

  #refusal(status: number, text: string): ClientError {
    const message = status === 0
      ? `Cannot reach the engine at ${this.url}: ${text}.`
      : errorIn(text) ?? `The engine answered with status ${status}.`;
    return new ClientError(message, status);
  }
}

function pathOf(id: string, what = ""): string {
  return `/api/jobs/${encodeURIComponent(id)}${what}`;
}
