/**
 * Webhooks: posts the end of a job to the address that its client gave.
 *
 * @module
 */
import { createHmac } from "node:crypto";
import type { Job } from "../model/job.ts";

const TIMEOUT_MS = 10_000;
const DELAYS_MS = [1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000];

/** Whether a webhook may go to an address: http or https, to an allowed host (`*`, a name, or `*.name`). */
export function isWebhookAllowed(address: string, hosts: readonly string[]): boolean {
  const url = URL.parse(address);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== "" || url.password !== "") {
    return false;
  }
  return hosts.some((host) =>
    host === "*" || host === url.hostname || (host.startsWith("*.") && url.hostname.endsWith(host.slice(1)))
  );
}

/** How long to wait after so many failed tries; undefined: it is given up. */
export function webhookDelayMs(tries: number): number | undefined {
  return DELAYS_MS[tries - 1];
}

/**
 * Posts a job's end. `X-Avtomatika-Signature` is `sha256=` and the HMAC-SHA256 of the body, whose key is the hex
 * SHA-256 of the client's token: the client can compute it, and the engine knows no more than that of the token.
 *
 * @returns What went wrong; undefined when it was taken (any 2xx).
 */
export async function deliverWebhook(
  job: Job,
  url: string,
  key: string | undefined,
  signal: AbortSignal,
): Promise<string | undefined> {
  const body = JSON.stringify({
    event: `job_${job.status}`,
    job_id: job.id,
    blueprint_name: job.blueprint,
    status: job.status,
    current_state: job.state,
    error_message: job.error ?? null,
    state_history: job.stateHistory,
  });
  const headers: Record<string, string> = { "content-type": "application/json" };
  if (key !== undefined && key !== "") {
    headers["x-avtomatika-signature"] = `sha256=${createHmac("sha256", key).update(body).digest("hex")}`;
  }
  try {
    // A redirect could lead to a host that is not allowed.
    const response = await fetch(url, {
      method: "POST",
      headers,
      body,
      redirect: "manual",
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    await response.body?.cancel();
    return response.ok ? undefined : `answered ${response.status}`;
  } catch (error) {
    // fetch() reports every kind of failure (name, connection, time) as an error of its own kind.
    return error instanceof Error && error.name === "TimeoutError"
      ? "no answer in time"
      : "cannot be reached";
  }
}
