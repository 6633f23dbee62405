/**
 * One HTTP request, bounded in time, that never rejects: `fetch` knows many kinds of failure, and callers one.
 *
 * @module
 */
import { type Clock, systemClock } from "../../config/clock.ts";
import { LinkedAbort } from "./abort.ts";
import { reasonOf } from "./errors.ts";

/** What was answered. Status 0: nothing was, and the text says why. */
export interface HttpAnswer {
  status: number;
  headers: Headers;
  text: string;
}

/** A request; its body is JSON. */
export interface HttpCall {
  method: "GET" | "POST" | "PATCH";
  /** Those that are not defined are left out. */
  headers?: Record<string, string | undefined>;
  body?: string | null | undefined;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Whether only status and headers matter, and nobody reads what a stranger sends after them. */
  skipsBody?: boolean;
  client?: Deno.HttpClient;
  clock?: Clock;
}

/** The text of an answer that did not come within the time of its request. */
export const NO_ANSWER = "no answer in time";

const never = new AbortController().signal;

/** Sends a request and reads its answer. A redirect is an answer like any other. */
export async function httpCall(
  url: string,
  { headers = {}, body = null, timeoutMs, signal = never, skipsBody, clock = systemClock, ...init }: HttpCall,
): Promise<HttpAnswer> {
  using control = new LinkedAbort(signal);
  const cancelTimeout = clock.wake(timeoutMs, () => control.abort(new Error(NO_ANSWER)));
  try {
    const sent = new Headers(body === null ? {} : { "Content-Type": "application/json" });
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) sent.set(name, value);
    const request = { ...init, headers: sent, body, redirect: "manual", signal: control.signal } as const;
    const response = await fetch(url, request);
    if (skipsBody) await response.body?.cancel();
    return {
      status: response.status,
      headers: response.headers,
      text: skipsBody ? "" : await response.text(),
    };
  } catch (error) { // fetch() rejects for every kind of failure: name, connection, time
    return { status: 0, headers: new Headers(), text: signal.aborted ? "stopped" : reasonOf(error) };
  } finally {
    cancelTimeout();
  }
}
