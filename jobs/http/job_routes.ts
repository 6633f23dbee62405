/**
 * The routes of jobs: to submit them, to read and follow them, and to decide about them.
 *
 * @module
 */
import { z } from "zod";
import type { JobEngine } from "../engine/engine.ts";
import type { Submission } from "../engine/client_requests.ts";
import { isWebhookAllowed } from "../engine/webhooks.ts";
import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { HttpError } from "../model/errors.ts";
import { isObject } from "../model/json.ts";
import * as wire from "../model/wire.ts";
import { clientOf, LIST_LIMIT, pageOf, readSubmission, secondsOf } from "./request.ts";
import { JSON_TYPE, type RequestContext, type Route, rows, textResponse } from "./route.ts";

const EVENTS_PING_MS = 15_000;

/** Outcomes that change nothing. */
const REFUSALS = {
  "unknown": [404, "Job not found"],
  "ended": [409, "Job is not in a state that can be cancelled (must be waiting for a worker)."],
  "not waiting": [409, "Job is not in a state that can be approved"],
  "wrong link": [401, "Unauthorized: Invalid link"],
  "not failed": [409, "Only failed and quarantined jobs can be run again"],
  "no blueprint": [409, "The job's blueprint is not registered any longer"],
  "not listed": [409, "Job is not on the quarantine list"],
} as const;

function refused(outcome: keyof typeof REFUSALS): HttpError {
  const [status, message] = REFUSALS[outcome];
  return new HttpError(status, message);
}

const at = rows("client", "Jobs");
const JOB = "/api/jobs/{id}";
const Changed = z.object({ status: z.string() });
const ChangedJob = z.object({ status: z.string(), job_id: z.string() });

/** A table: submissions, one for each blueprint with an endpoint. Their paths hold the version. */
export function submissionRoutes(engine: JobEngine): Route[] {
  return [...engine.core.blueprints.values()].filter(({ apiEndpoint }) => apiEndpoint !== undefined).map(
    (blueprint) => ({
      ...at(
        "POST",
        `/api${blueprint.apiVersion ? `/${blueprint.apiVersion}` : ""}${blueprint.apiEndpoint}`,
        `Submit a job of the blueprint ${blueprint.name}`,
      ),
      query: {
        webhook_url: "Where the job's end is posted to (also header X-Webhook-Url)",
        dispatch_timeout: "Seconds a task may wait for a worker (also header X-Dispatch-Timeout)",
        result_timeout: "Seconds a task may take (also header X-Result-Timeout)",
      },
      body: wire.AnyObject,
      answers: {
        202: ["The job is stored", wire.Accepted],
        413: "The body is too large",
        422: "The Idempotency-Key was used for another submission",
        429: "The quota is used up",
      },
      handle: (call) => submit(engine, blueprint, call),
    }),
  );
}

async function submit(
  engine: JobEngine,
  blueprint: StateMachineBlueprint,
  { request, client, query }: RequestContext,
): Promise<Response> {
  const data = await readSubmission(engine, request);
  if (!isObject(data)) throw new HttpError(400, "Invalid JSON body: it must be an object");
  const options = submissionOptions(engine, request.headers, query);
  const outcome = await engine.clientRequests.submit(client, blueprint, data, options);
  switch (outcome.kind) {
    case "accepted":
      return textResponse(`{"status":"accepted","job_id":"${outcome.jobId}"}`, JSON_TYPE, 202);
    case "over-quota":
      throw new HttpError(429, "Quota exceeded or not configured", {
        "retry-after": String(outcome.retryAfterSeconds),
      });
    case "key-reused":
      throw new HttpError(422, "This Idempotency-Key was used for another submission");
  }
}

function submissionOptions({ core }: JobEngine, headers: Headers, query: URLSearchParams): Submission {
  const key = headers.get("idempotency-key");
  if (key === "" || (key !== null && key.length > 200)) {
    throw new HttpError(400, "Idempotency-Key must have 1 to 200 characters");
  }
  const option = (name: string) => headers.get(`x-${name.replace("_", "-")}`) ?? query.get(name);
  const webhookUrl = option("webhook_url") ?? undefined;
  if (
    webhookUrl !== undefined &&
    (webhookUrl.length > 2000 || !isWebhookAllowed(webhookUrl, core.config.webhookHosts))
  ) {
    throw new HttpError(
      400,
      "Webhooks to this address are not allowed; its host must be listed in WEBHOOK_HOSTS",
    );
  }
  const traceparent = headers.get("traceparent") ?? "";
  const tracestate = headers.get("tracestate") ?? "";
  return {
    idempotencyKey: key === null ? undefined : `client ${key}`,
    webhook: webhookUrl === undefined ? undefined : { url: webhookUrl, tries: 0 },
    queueTimeoutMs: secondsOf(option("dispatch_timeout"), "dispatch_timeout"),
    resultTimeoutMs: secondsOf(option("result_timeout"), "result_timeout"),
    trace: /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(traceparent)
      ? { traceparent, ...(tracestate !== "" && tracestate.length <= 512 && { tracestate }) }
      : undefined,
  };
}

/** A table: jobs as their clients read them, and what may be done with one. */
export function jobRoutes(engine: JobEngine): Route[] {
  const { core, clientRequests } = engine;
  return [
    {
      ...at("GET", "/_public/jobs/quarantined", "Ids of own jobs on the quarantine list"),
      answers: { 200: ["Ids, newest first", z.array(z.string())] },
      handle: (call) => quarantined(engine, call),
    },
    {
      ...at(
        "POST",
        "/_public/webhooks/approval/{id}",
        "Decide for a job that waits for a human, by the owner's token or a one-time link (?secret=...)",
      ),
      access: "link",
      query: { secret: "Secret of the one-time link" },
      body: wire.Decision,
      answers: { 200: ["It goes on", ChangedJob], 409: "It waits for no decision" },
      handle(call) {
        const secret = call.query.get("secret") ?? call.request.headers.get("x-approval-secret");
        if (secret !== null) return approve(engine, call, secret);
        return approve(engine, { ...call, client: clientOf(engine, call.request) });
      },
    },
    {
      ...at("GET", "/api/jobs", "Own jobs, newest first"),
      query: {
        limit: `How many, at most ${LIST_LIMIT} (100)`,
        offset: "How many to pass over (0)",
        status: "Only those with this status",
        blueprint: "Only those of this blueprint",
        search: "Text in the id, blueprint, state or error",
      },
      answers: { 200: ["One entry a job", z.array(wire.JobSummary)], 400: "A parameter cannot be read" },
      async handle({ query, client }) {
        const page = pageOf(query, 100);
        const status = wire.JobStatus.optional().safeParse(query.get("status") ?? undefined);
        if (!status.success) throw new HttpError(400, "Invalid status parameter");
        const jobs = await core.storage.list({
          ...page,
          client: client.name,
          status: status.data,
          blueprint: query.get("blueprint") ?? undefined,
          search: query.get("search") || undefined,
        });
        return jobs.map(wire.jobSummary);
      },
    },
    {
      ...at("GET", "/api/jobs/events", "Changes of own jobs as they happen (server-sent events named job)"),
      answers: { 200: ["A stream", "text/event-stream"] },
      handle: ({ client, request }) => jobEvents(engine, client.name, request.signal),
    },
    {
      ...at("GET", "/api/jobs/quarantined", "Ids of own jobs on the quarantine list"),
      query: { limit: `How many, at most ${LIST_LIMIT}`, offset: "How many to pass over (0)" },
      answers: { 200: ["Ids, newest first", z.array(z.string())] },
      handle: (call) => quarantined(engine, call),
    },
    {
      ...at("GET", JOB, "A job"),
      answers: { 200: ["The job", wire.JobView] },
      async handle(call) {
        const { job, tasks } = await own(engine, call);
        return wire.jobView(job, tasks);
      },
    },
    {
      ...at("GET", `${JOB}/history`, "What happened to a job, oldest first"),
      query: { limit: "How many (all)", offset: "How many to pass over (0)" },
      answers: { 200: ["The entries", z.array(wire.HistoryEntry)] },
      async handle(call) {
        const { job } = await own(engine, call);
        const { limit, offset } = pageOf(call.query, Infinity, Infinity);
        const entries = wire.historyEntries(job.id, await core.storage.history(job.id));
        return entries.slice(offset, offset + limit);
      },
    },
    {
      ...at("POST", `${JOB}/cancel`, "End a job; a worker that runs its task is notified"),
      answers: { 200: ["It ends", Changed], 409: "It has ended before" },
      async handle(call) {
        await own(engine, call);
        const outcome = await clientRequests.cancel(call.id);
        if (outcome === "unknown" || outcome === "ended") throw refused(outcome);
        return { status: `cancellation_request_${outcome}` };
      },
    },
    {
      ...at("POST", `${JOB}/approve`, "Decide for a job that waits for a human"),
      body: wire.Decision,
      answers: { 200: ["It goes on", ChangedJob], 409: "It waits for no decision" },
      handle: (call) => approve(engine, call),
    },
    {
      ...at("POST", `${JOB}/approval-link`, "A one-time link with which somebody without a token can decide"),
      answers: {
        200: ["The link; an older one is void", z.object({ url: z.string() })],
        409: "It waits for no decision",
      },
      async handle(call) {
        await own(engine, call);
        const secret = await clientRequests.approvalLink(call.id);
        if (secret === undefined) throw refused("not waiting");
        const path = `/_public/webhooks/approval/${encodeURIComponent(call.id)}?secret=${secret}`;
        return { url: new URL(call.request.url).origin + path };
      },
    },
    {
      ...at("POST", `${JOB}/retry`, "Run a failed or quarantined job again from the state that failed"),
      answers: { 200: ["It runs again", ChangedJob], 409: "It has not failed" },
      async handle(call) {
        await own(engine, call);
        const outcome = await clientRequests.requeue(call.id);
        if (outcome !== "requeued") throw refused(outcome);
        return { status: outcome, job_id: call.id };
      },
    },
    {
      ...at("DELETE", `${JOB}/quarantine`, "Take a job off the quarantine list"),
      answers: { 200: ["It is off", Changed], 409: "It is not on the list" },
      async handle(call) {
        await own(engine, call);
        if (!await clientRequests.unlist(call.id)) throw refused("not listed");
        return { status: "removed" };
      },
    },
  ];
}

/** A job that the client may see; others are not there for it. */
async function own({ core }: JobEngine, { id, client }: RequestContext) {
  const read = await core.storage.read(id);
  if (read?.job.client !== client.name) throw refused("unknown");
  return read;
}

async function quarantined({ core }: JobEngine, { client, query }: RequestContext): Promise<string[]> {
  const page = pageOf(query, LIST_LIMIT);
  const jobs = await core.storage.list({ ...page, client: client.name, listed: true });
  return jobs.map((job) => job.id);
}

async function approve(engine: JobEngine, call: RequestContext, secret?: string): Promise<object> {
  const body = wire.Decision.safeParse(await readSubmission(engine, call.request));
  if (!body.success) throw new HttpError(400, "decision is required in body");
  const { decision } = body.data;
  if (secret === undefined) await own(engine, call);
  const outcome = await engine.clientRequests.approve(call.id, decision, secret);
  if (outcome === "approved") return { status: "approval_received", job_id: call.id };
  if (outcome === "invalid decision") {
    throw new HttpError(400, `Invalid decision '${decision}' for this job`);
  }
  // With a link nobody learns which jobs there are.
  throw refused(secret === undefined ? outcome : "wrong link");
}

/** Changes of a client's jobs as a stream of server-sent events. */
function jobEvents(engine: JobEngine, client: string, gone: AbortSignal): Response {
  const { stopping } = engine.core;
  const encoder = new TextEncoder();
  const over = new AbortController();
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => {
        // A reader that does not keep up misses changes rather than filling the memory; it can ask for the list.
        if ((controller.desiredSize ?? 0) > -1000) controller.enqueue(encoder.encode(text));
      };
      const unsubscribe = engine.onJob((job) => {
        if (job.client === client) send(`event: job\ndata: ${JSON.stringify(wire.jobSummary(job))}\n\n`);
      });
      const timer = setInterval(() => send(": still here\n\n"), EVENTS_PING_MS);
      over.signal.addEventListener("abort", () => {
        unsubscribe();
        clearInterval(timer);
      });
      const close = () => {
        over.abort();
        controller.close();
      };
      stopping.addEventListener("abort", close, { signal: over.signal });
      send(": hello\n\n");
    },
    cancel: () => over.abort(),
  });
  gone.addEventListener("abort", () => over.abort());
  return new Response(stream, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}
