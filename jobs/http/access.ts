/**
 * Who may ask: tokens of clients and workers, whose job it is, and how often a worker may come for nothing.
 *
 * @module
 */

import { HttpError } from "../model/errors.ts";
import type { JobEngine } from "../engine/engine.ts";
import type { Client } from "../engine/tokens.ts";

export function clientOf(engine: JobEngine, request: Request): Client {
  const token = request.headers.get("x-avtomatika-token") ?? request.headers.get("x-client-token");
  if (token === null) throw new HttpError(401, "Missing X-Avtomatika-Token header");
  const client = engine.core.authenticator.client(token);
  if (client === undefined) throw new HttpError(401, "Unauthorized: Invalid token");
  return client;
}

export function workerToken(request: Request): string {
  const token = request.headers.get("x-worker-token");
  if (token === null) throw new HttpError(401, "Missing X-Worker-Token header");
  return token;
}

export function checkWorker(engine: JobEngine, workerId: string, token: string): void {
  const verdict = engine.core.authenticator.checkWorker(workerId, token);
  if (verdict === "wrong individual") {
    throw new HttpError(401, "Unauthorized: Invalid individual worker token");
  }
  if (verdict === "wrong global") throw new HttpError(401, "Unauthorized: No valid token found");
}

// Heartbeats and polls that find nothing, by worker, in fixed windows of a minute. Work itself is never counted.
export class RateLimit {
  #windows = new Map<string, { endsAt: number; count: number }>();
  constructor(readonly engine: JobEngine) {}

  /** Counts one; refuses it when there were too many. */
  count(key: string): void {
    const { rateLimiting, rateLimitPerMinute } = this.engine.core.config;
    if (!rateLimiting) return;
    const now = this.engine.core.clock.now();
    let window = this.#windows.get(key);
    if (window === undefined || window.endsAt <= now) {
      if (this.#windows.size > 10_000) this.#forget(now);
      this.#windows.set(key, window = { endsAt: now + 60_000, count: 0 });
    }
    if (++window.count <= rateLimitPerMinute) return;
    throw new HttpError(429, "Too Many Requests", {
      "retry-after": String(Math.ceil((window.endsAt - now) / 1000)),
    });
  }

  #forget(now: number): void {
    for (const [key, { endsAt }] of this.#windows) if (endsAt <= now) this.#windows.delete(key);
  }
}
