/**
 * Webhooks: posts the end of a job to the address that its client gave.
 *
 * @module
 */

import { createHmac } from "node:crypto";
import { httpCall, NO_ANSWER } from "../model/http_call.ts";
import type { Job } from "../model/job.ts";
import { JobChange } from "../model/job_change.ts";
import type { EngineCore } from "./core.ts";
import type { JobRunner } from "./runner.ts";

const TIMEOUT_MS = 10_000;
/** How long to wait after so many failed tries; then it is given up. */
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

/** Reports the end of a job, and notes whether it was taken, is to be reported again, or is given up. */
export async function reportEnd(job: Job, core: EngineCore, runner: JobRunner): Promise<void> {
  const { webhook } = job;
  if (webhook === undefined || webhook.done !== undefined) return;
  const key = core.authenticator.named(job.client)?.tokenDigest;
  const error = await deliver(job, webhook.url, key, core.stopping);
  await runner.exclusively(job.id, async () => {
    const read = await core.storage.read(job.id);
    if (read?.job.revision !== job.revision) return;
    const rules = core.rules();
    const change = new JobChange(read.job, rules);
    const tries = webhook.tries + 1;
    const delayMs = error === undefined ? undefined : DELAYS_MS[tries - 1];
    const againAt = delayMs === undefined ? null : rules.now + delayMs;
    let done: string | undefined;
    if (error === undefined) {
      done = "delivered";
      change.note("webhook_delivered");
    } else if (againAt === null) {
      done = `given up: ${error}`;
      change.note("webhook_given_up", { error });
    }
    change.job = { ...job, webhook: { url: webhook.url, tries, done } };
    const write = change.write(againAt, rules.wall);
    write.job.lastEvent = job.lastEvent;
    await core.storage.commit([write]);
    if (againAt !== null) core.checks.schedule(againAt);
  });
}

/**
 * Posts a job's end. `X-Avtomatika-Signature` is `sha256=` and the HMAC-SHA256 of the body, whose key is the hex
 * SHA-256 of the client's token: the client can compute it, and the engine knows no more than that of the token.
 *
 * @returns What went wrong; undefined when it was taken (any 2xx).
 */
async function deliver(
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
  const signature = key ? `sha256=${createHmac("sha256", key).update(body).digest("hex")}` : undefined;
  const { status, text } = await httpCall(url, {
    method: "POST",
    headers: { "X-Avtomatika-Signature": signature },
    body,
    timeoutMs: TIMEOUT_MS,
    signal,
    skipsBody: true,
  });
  if (status === 0) return text === NO_ANSWER ? NO_ANSWER : "cannot be reached";
  // A redirect is none: it could lead to a host that is not allowed.
  return status >= 200 && status < 300 ? undefined : `answered ${status}`;
}
