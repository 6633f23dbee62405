/**
 * Talks to the engine: requests with a client's token, and the events of jobs.
 *
 * @module
 */
import type { JobSummary } from "../../../model/wire.ts";

/** The engine sends something every 15 seconds; a connection that is silent for longer is dead. */
const SILENCE_MS = 40_000;

/** The engine, for one token. */
export class Engine {
  /** Whether events come in. */
  isLive = false;
  /** How far the engine's calendar is ahead of this one. */
  skewMs = 0;
  readonly #closed = new AbortController();

  /** `onUnknownToken` is called when the engine does not take the token, unless the engine is closed. */
  constructor(private readonly token: string, private readonly onUnknownToken: (message: string) => void) {}

  /** Ends everything that is under way. */
  close(): void {
    this.#closed.abort();
  }

  /** Asks for a value. @throws Error with the reason of a refusal */
  async get<Value>(path: string): Promise<Value> {
    return await (await this.#request(path)).json();
  }

  /** Asks for a change. @throws Error with the reason of a refusal */
  async post(path: string, body: unknown): Promise<void> {
    const headers = { "Content-Type": "application/json" };
    await this.#request(path, { method: "POST", headers, body: JSON.stringify(body) });
  }

  /** Jobs that have changed, until the engine is closed. The connection is made again after every break. */
  async *events(): AsyncGenerator<JobSummary | "opened" | "lost"> {
    let waitMs = 0;
    while (!this.#closed.signal.aborted) {
      // Browsers open few connections to one host; tabs that nobody sees need none.
      if (document.hidden) {
        await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
        continue;
      }
      try {
        yield* this.#connection();
      } catch {
        // Any break is the same: it is shown, and the connection is made again.
      }
      waitMs = this.isLive ? 500 : Math.min(Math.max(waitMs * 2, 500), 10_000);
      this.isLive = false;
      if (this.#closed.signal.aborted) return;
      yield "lost";
      await new Promise((done) => setTimeout(done, waitMs));
    }
  }

  async *#connection(): AsyncGenerator<JobSummary | "opened"> {
    const stream = new AbortController();
    const signal = AbortSignal.any([this.#closed.signal, stream.signal]);
    document.addEventListener("visibilitychange", () => document.hidden && stream.abort(), { signal });
    let timer: number | undefined;
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => stream.abort(), SILENCE_MS);
    };
    try {
      wait();
      const { body } = await this.#request("api/jobs/events", { signal });
      this.isLive = true;
      yield "opened";
      const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done = true, value } = await reader?.read() ?? {};
        if (done) return;
        wait();
        const lines = (rest + value).split(/\r?\n/);
        rest = lines.pop() ?? "";
        for (const line of lines) if (line.startsWith("data:")) yield JSON.parse(line.slice(5));
      }
    } finally {
      clearTimeout(timer);
      stream.abort();
    }
  }

  async #request(path: string, options: RequestInit = {}): Promise<Response> {
    const response = await fetch(path, {
      cache: "no-store",
      signal: this.#closed.signal,
      ...options,
      headers: { ...options.headers, "X-Client-Token": this.token },
    });
    if (response.status === 401) {
      const message = "The engine does not know this token.";
      if (!this.#closed.signal.aborted) this.onUnknownToken(message);
      throw new Error(message);
    }
    if (!response.ok) {
      const { error } = await response.json().catch(() => ({}));
      throw new Error(error ?? `The engine answered ${response.status}.`);
    }
    const sentAt = Date.parse(response.headers.get("date") ?? "");
    if (sentAt) this.skewMs = sentAt - Date.now();
    return response;
  }
}
