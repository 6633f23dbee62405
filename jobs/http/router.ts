/**
 * The HTTP interface: a table of routes, found by path, guarded by tokens, fed with checked bodies. The OpenAPI document
 * is made from the same table.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { gzipSync } from "node:zlib";
import { z } from "zod";
import type { TaskResult } from "../model/transitions.ts";
import { BlueprintError, type StateMachineBlueprint } from "../model/blueprint.ts";
import { ConfigError, messageOf } from "../model/errors.ts";
import type { RequestContext, Route } from "./route.ts";
import type { JobEngine, Submission } from "../engine/engine.ts";
import type { Job, JsonObject, JsonValue, Status } from "../model/job.ts";
import { drain, readText } from "./body.ts";
import { BodyError, isObject, parseBody } from "../model/json.ts";
import { openapiRoutes } from "./openapi.ts";
import { pageRoutes } from "./page/mod.ts";
import type { Task } from "../model/store.ts";
import type { Client } from "../engine/tokens.ts";
import { historyEntries, jobSummary, jobView } from "../model/view.ts";
import { isWebhookAllowed } from "../engine/webhooks.ts";
import {
  Accepted,
  AnyObject,
  Dashboard,
  Decision,
  ErrorAnswer,
  Heartbeat,
  HistoryEntry,
  JobStatus,
  JobSummary,
  JobView,
  Registration,
  ResultAnswer,
  ResultBody,
  WireTask,
  WorkerEvent,
  WorkerHistoryEntry,
  WorkerId,
  WorkerView,
} from "../model/wire.ts";

/** A request that is answered with an error status and a sentence. */
class HttpError extends Error {
  constructor(readonly status: number, message: string, readonly headers: Record<string, string> = {}) {
    super(message);
  }
}

// One header and no more: the runtime has a shorter way for such answers.
const JSON_TYPE = { "content-type": "application/json" };
/** Answers below this size are not worth the work of compressing them. */
const COMPRESS_FROM_CHARACTERS = 500;
const SERVER_EVENTS_PING_MS = 15_000;
const LIST_LIMIT = 1000;
const SMALL_RESULT_BYTES = 16 << 10;

function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers: { ...JSON_TYPE, ...headers } });
}

function raw(text: string): Response {
  return new Response(text, { headers: JSON_TYPE });
}

// An answer that may be large: compressed where the request allows it.
function largeJson({ request }: RequestContext, value: unknown): Response {
  const text = JSON.stringify(value);
  const accepts = request.headers.get("accept-encoding") ?? "";
  if (text.length < COMPRESS_FROM_CHARACTERS || !/\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))/.test(accepts)) {
    return raw(text);
  }
  const headers = { ...JSON_TYPE, "content-encoding": "gzip", vary: "Accept-Encoding" };
  return new Response(new Uint8Array(gzipSync(text, { level: 1 })), { headers });
}

function errorResponse(status: number, error: string, headers: Record<string, string> = {}): Response {
  return json({ error }, status, headers);
}

// ---- Finding the route ----------------------------------------------------------------------------------------------

interface Node {
  children: Map<string, Node>;
  parameter?: Node;
  routes: Map<string, RouteMatch>;
}

/** A route and the names of the parameters in its path. */
interface RouteMatch {
  route: Route;
  names: string[];
}

function emptyNode(): Node {
  return { children: new Map(), routes: new Map() };
}

function addRoute(root: Node, path: string, route: Route): void {
  let node = root;
  const names: string[] = [];
  for (const segment of path.split("/").slice(1)) {
    const name = /^\{(\w+)\}$/.exec(segment)?.[1];
    if (name !== undefined) {
      names.push(name);
      node = node.parameter ??= emptyNode();
    } else {
      let child = node.children.get(segment);
      if (child === undefined) node.children.set(segment, child = emptyNode());
      node = child;
    }
  }
  node.routes.set(route.method, { route, names });
}

// The route for a method below a node; `values` receives the parameters. A fixed segment goes before a parameter.
function findRoute(
  node: Node,
  segments: readonly string[],
  index: number,
  method: string,
  values: string[],
): RouteMatch | undefined {
  if (index === segments.length) return node.routes.get(method);
  const child = node.children.get(segments[index]);
  const found = child && findRoute(child, segments, index + 1, method, values);
  if (found !== undefined || node.parameter === undefined || segments[index] === "") return found;
  values.push(segments[index]);
  const below = findRoute(node.parameter, segments, index + 1, method, values);
  if (below === undefined) values.pop();
  return below;
}

const METHODS = ["GET", "POST", "PATCH", "DELETE"];

/** Answers requests for an engine. */
export function handler(
  engine: JobEngine,
): (request: Request) => Promise<Response> {
  const root = emptyNode();
  const table = routes(engine);
  const versions = new Set([...engine.blueprints.values()].map((blueprint) => blueprint.apiVersion ?? ""));
  versions.add("");
  for (const route of table) {
    if (!route.path.startsWith("/api/") || route.path.startsWith("/api/{")) addRoute(root, route.path, route);
    else {for (const version of versions) {
        addRoute(root, `/api${version && `/${version}`}${route.path.slice(4)}`, route);
      }}
  }
  for (const blueprint of engine.blueprints.values()) {
    if (blueprint.apiEndpoint === undefined) continue;
    const { apiVersion, apiEndpoint } = blueprint;
    addRoute(root, `/api${apiVersion ? `/${apiVersion}` : ""}${apiEndpoint}`, submission(engine, blueprint));
  }
  return async (request) => {
    try {
      const { url } = request;
      const start = url.indexOf("/", url.indexOf("//") + 2);
      const mark = url.indexOf("?", start);
      const path = mark === -1 ? url.slice(start) : url.slice(start, mark);
      const segments = path.split("/");
      const values: string[] = [];
      const method = request.method === "HEAD" ? "GET" : request.method;
      const match = findRoute(root, segments, 1, method, values);
      if (match === undefined) {
        await drain(request);
        const allowed = METHODS.filter((other) => findRoute(root, segments, 1, other, []) !== undefined);
        if (allowed.length === 0) return errorResponse(404, "404: Not Found");
        return errorResponse(405, "405: Method Not Allowed", { allow: allowed.join(", ") });
      }
      const { route } = match;
      const call: RequestContext = {
        request,
        params: values.length === 0 ? NOTHING : named(match.names, values),
        query: mark === -1 ? NO_QUERY : new URLSearchParams(url.slice(mark + 1)),
      };
      if (route.access === "client") call.client = clientOf(engine, request);
      return await route.handle(call);
    } catch (error) {
      if (error instanceof HttpError) {
        await drain(request);
        return errorResponse(error.status, error.message, error.headers);
      }
      if (error instanceof BodyError) return errorResponse(error.status, error.message);
      if (error instanceof BlueprintError || error instanceof ConfigError) {
        return errorResponse(400, error.message);
      }
      engine.log("ERROR", "request_failed", { method: request.method, error: messageOf(error) });
      // The storage does not work at the moment; nothing was accepted, so a repeat helps.
      return errorResponse(503, "The engine cannot store anything at the moment; try again.", {
        "retry-after": "5",
      });
    }
  };
}

const NOTHING: Record<string, string> = {};
const NO_QUERY = new URLSearchParams();

function named(names: readonly string[], values: readonly string[]): Record<string, string> {
  const params: Record<string, string> = {};
  for (const [index, name] of names.entries()) {
    const value = values[index];
    try {
      params[name] = value.includes("%") ? decodeURIComponent(value) : value;
    } catch (error) {
      if (error instanceof URIError) throw new HttpError(400, "The path is not valid UTF-8.");
      throw error;
    }
  }
  return params;
}

// ---- Tokens ---------------------------------------------------------------------------------------------------------

function clientOf(engine: JobEngine, request: Request): Client {
  const token = request.headers.get("x-avtomatika-token") ?? request.headers.get("x-client-token");
  if (token === null) throw new HttpError(401, "Missing X-Avtomatika-Token header");
  const client = engine.authenticator.client(token);
  if (client === undefined) throw new HttpError(401, "Unauthorized: Invalid token");
  return client;
}

function workerToken(request: Request): string {
  const token = request.headers.get("x-worker-token");
  if (token === null) throw new HttpError(401, "Missing X-Worker-Token header");
  return token;
}

function checkWorker(engine: JobEngine, workerId: string, token: string): void {
  const verdict = engine.authenticator.checkWorker(workerId, token);
  if (verdict === "wrong individual") {
    throw new HttpError(401, "Unauthorized: Invalid individual worker token");
  }
  if (verdict === "wrong global") throw new HttpError(401, "Unauthorized: No valid token found");
}

// Heartbeats and polls that find nothing, by worker, in fixed windows of a minute. Work itself is never counted.
class RateLimit {
  #windows = new Map<string, { endsAt: number; count: number }>();
  constructor(readonly engine: JobEngine) {}

  /** Counts one; refuses it when there were too many. */
  count(key: string): void {
    const { rateLimiting, rateLimitPerMinute } = this.engine.config;
    if (!rateLimiting) return;
    const now = this.engine.now();
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

// ---- Bodies ---------------------------------------------------------------------------------------------------------

function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue.path.join(".");
  throw new BodyError(400, where === "" ? issue.message : `Invalid field ${where}: ${issue.message}`);
}

// ---- Routes ---------------------------------------------------------------------------------------------------------

const UNAUTHORIZED = { 401: { description: "No token, or a wrong one", schema: ErrorAnswer } };
const NO_JOB = { 404: { description: "No such job of this client", schema: ErrorAnswer } };
const BAD_BODY = {
  400: { description: "The body cannot be read or has a wrong field", schema: ErrorAnswer },
};

/** A blueprint's submissions. */
function submission(engine: JobEngine, blueprint: StateMachineBlueprint): Route {
  const { config } = engine;
  return {
    method: "POST",
    path: `/api${blueprint.apiVersion ? `/${blueprint.apiVersion}` : ""}${blueprint.apiEndpoint}`,
    access: "client",
    group: "Jobs",
    summary: `Submit a job of the blueprint ${blueprint.name}`,
    query: {
      webhook_url: "Where the job's end is posted to (also header X-Webhook-Url)",
      dispatch_timeout: "Seconds a task may wait for a worker (also header X-Dispatch-Timeout)",
      result_timeout: "Seconds a task may take (also header X-Result-Timeout)",
    },
    body: AnyObject,
    answers: {
      202: { description: "The job is stored", schema: Accepted },
      413: { description: "The body is too large", schema: ErrorAnswer },
      422: { description: "The Idempotency-Key was used for another submission", schema: ErrorAnswer },
      429: { description: "The quota is used up", schema: ErrorAnswer },
      ...BAD_BODY,
      ...UNAUTHORIZED,
    },
    async handle({ request, client, query }) {
      const text = await readText(request, config.maxSubmissionBytes, engine.arrivals);
      const data = parseBody(text, config.maxDepth, true);
      if (!isObject(data)) throw new BodyError(400, "Invalid JSON body: it must be an object");
      if (client === undefined) throw new HttpError(401, "Unauthorized: Invalid token");
      const outcome = await engine.submit(client, blueprint, data, submissionOptions(engine, request, query));
      if (outcome.kind === "over-quota") {
        return errorResponse(429, "Quota exceeded or not configured", {
          "retry-after": String(outcome.retryAfterSeconds),
        });
      }
      if (outcome.kind === "key-reused") {
        return errorResponse(422, "This Idempotency-Key was used for another submission");
      }
      return new Response(`{"status":"accepted","job_id":"${outcome.jobId}"}`, ACCEPTED);
    },
  };
}

const ACCEPTED = { status: 202, headers: JSON_TYPE };

// The options in a submission's headers and query.
function submissionOptions(engine: JobEngine, request: Request, query: URLSearchParams): Submission {
  const { headers } = request;
  const more: Submission = {};
  const key = headers.get("idempotency-key");
  if (key !== null) {
    if (key === "" || key.length > 200) {
      throw new HttpError(400, "Idempotency-Key must have 1 to 200 characters");
    }
    more.idempotencyKey = `client ${key}`;
  }
  const webhookUrl = headers.get("x-webhook-url") ?? query.get("webhook_url");
  if (webhookUrl !== null) {
    if (webhookUrl.length > 2000 || !isWebhookAllowed(webhookUrl, engine.config.webhookHosts)) {
      throw new HttpError(
        400,
        "Webhooks to this address are not allowed; its host must be listed in WEBHOOK_HOSTS",
      );
    }
    more.webhookUrl = webhookUrl;
  }
  more.queueTimeoutMs = secondsOf(
    headers.get("x-dispatch-timeout") ?? query.get("dispatch_timeout"),
    "dispatch_timeout",
  );
  more.resultTimeoutMs = secondsOf(
    headers.get("x-result-timeout") ?? query.get("result_timeout"),
    "result_timeout",
  );
  const traceparent = headers.get("traceparent");
  if (traceparent !== null && /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(traceparent)) {
    const tracestate = headers.get("tracestate");
    more.trace = { traceparent, ...(tracestate === null || tracestate.length > 512 ? {} : { tracestate }) };
  }
  return more;
}

function secondsOf(text: string | null, name: string): number | undefined {
  if (text === null) return undefined;
  const seconds = Number(text);
  if (text.trim() === "" || !(seconds > 0 && seconds <= 1e9)) {
    throw new HttpError(400, `${name} must be a number of seconds`);
  }
  return seconds * 1000;
}

function wholeNumber(query: URLSearchParams, name: string, fallback: number, most: number): number {
  const text = query.get(name);
  if (text === null) return fallback;
  if (!/^\d{1,9}$/.test(text)) throw new HttpError(400, `Invalid limit/offset parameter`);
  return Math.min(Number(text), most);
}

/** The whole table, without the blueprints' submissions. */
export function routes(engine: JobEngine): Route[] {
  const table: Route[] = [
    ...publicRoutes(engine),
    ...jobRoutes(engine),
    ...workerRoutes(engine),
    ...pageRoutes(),
  ];
  const submissions = [...engine.blueprints.values()]
    .filter((blueprint) => blueprint.apiEndpoint !== undefined)
    .map((blueprint) => submission(engine, blueprint));
  return [...table, ...openapiRoutes(() => [...submissions, ...table])];
}

function publicRoutes(engine: JobEngine): Route[] {
  return [
    {
      method: "GET",
      path: "/_public/status",
      access: "public",
      group: "Public",
      summary: "Whether the engine is up",
      answers: { 200: { description: "It is", schema: z.object({ status: z.literal("ok") }) } },
      handle: () => json({ status: "ok" }),
    },
    {
      method: "GET",
      path: "/_public/metrics",
      access: "public",
      group: "Public",
      summary: "Metrics in Prometheus' text form",
      answers: { 200: { description: "The metrics", type: "text/plain" } },
      handle: async () =>
        new Response(
          engine.metrics.text({
            queues: await engine.storage.queues(),
            workers: engine.workers.alive(engine.now()).length,
            polls: engine.dispatcher.waiting,
          }),
          { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } },
        ),
    },
    {
      method: "GET",
      path: "/_public/jobs/quarantined",
      access: "client",
      group: "Jobs",
      summary: "Ids of own jobs on the quarantine list",
      answers: { 200: { description: "Ids, newest first", schema: z.array(z.string()) }, ...UNAUTHORIZED },
      handle: (call) => quarantined(engine, call),
    },
    {
      method: "POST",
      path: "/_public/webhooks/approval/{id}",
      access: "public",
      group: "Jobs",
      summary:
        "Decide for a job that waits for a human, by the owner's token or a one-time link (?secret=...)",
      query: { secret: "Secret of the one-time link" },
      body: Decision,
      answers: {
        200: { description: "It goes on", schema: z.object({ status: z.string(), job_id: z.string() }) },
        409: { description: "It waits for no decision", schema: ErrorAnswer },
        ...BAD_BODY,
        ...UNAUTHORIZED,
        ...NO_JOB,
      },
      handle: (call) => {
        const secret = call.query.get("secret") ?? call.request.headers.get("x-approval-secret");
        if (secret !== null) return approve(engine, call, secret);
        return approve(engine, { ...call, client: clientOf(engine, call.request) });
      },
    },
  ];
}

async function quarantined(engine: JobEngine, { client, query }: RequestContext): Promise<Response> {
  const limit = wholeNumber(query, "limit", LIST_LIMIT, LIST_LIMIT);
  const offset = wholeNumber(query, "offset", 0, Infinity);
  const jobs = await engine.storage.list({ client: client?.name, listed: true, limit, offset });
  return json(jobs.map((job) => job.id));
}

// A job that the client may see; others are not there for it.
async function own(
  engine: JobEngine,
  { params, client }: RequestContext,
): Promise<{ job: Job; tasks: Task[] }> {
  const read = await engine.storage.read(params.id);
  if (read === undefined || read.job.client !== client?.name) throw new HttpError(404, "Job not found");
  return read;
}

async function approve(engine: JobEngine, call: RequestContext, secret?: string): Promise<Response> {
  const { maxSubmissionBytes, maxDepth } = engine.config;
  const text = await readText(call.request, maxSubmissionBytes, engine.arrivals);
  const body = parseBody(text, maxDepth, true);
  const decision = Decision.safeParse(body);
  if (!decision.success) throw new BodyError(400, "decision is required in body");
  if (secret === undefined) await own(engine, call);
  const outcome = await engine.approve(call.params.id, decision.data.decision, secret);
  switch (outcome) {
    case "approved":
      return json({ status: "approval_received", job_id: call.params.id });
    case "unknown":
      return errorResponse(
        secret === undefined ? 404 : 401,
        secret === undefined ? "Job not found" : "Unauthorized: Invalid link",
      );
    case "wrong link":
      return errorResponse(401, "Unauthorized: Invalid link");
    case "not waiting":
      // With a link nobody learns which jobs there are.
      return secret === undefined
        ? errorResponse(409, "Job is not in a state that can be approved")
        : errorResponse(401, "Unauthorized: Invalid link");
    case "invalid decision":
      return errorResponse(400, `Invalid decision '${decision.data.decision}' for this job`);
  }
}

function jobRoutes(engine: JobEngine): Route[] {
  const jobPath = "/api/jobs/{id}";
  return [
    {
      method: "GET",
      path: "/api/jobs",
      access: "client",
      group: "Jobs",
      summary: "Own jobs, newest first",
      query: {
        limit: `How many, at most ${LIST_LIMIT} (100)`,
        offset: "How many to pass over (0)",
        status: "Only those with this status",
        blueprint: "Only those of this blueprint",
        search: "Text in the id, blueprint, state or error",
      },
      answers: {
        200: { description: "One entry a job", schema: z.array(JobSummary) },
        400: { description: "A parameter cannot be read", schema: ErrorAnswer },
        ...UNAUTHORIZED,
      },
      async handle(call) {
        const { query, client } = call;
        const limit = wholeNumber(query, "limit", 100, LIST_LIMIT);
        const offset = wholeNumber(query, "offset", 0, Infinity);
        const status = query.get("status") ?? undefined;
        const known = status === undefined ? undefined : JobStatus.safeParse(status);
        if (known !== undefined && !known.success) throw new HttpError(400, "Invalid status parameter");
        const jobs = await engine.storage.list({
          client: client?.name,
          status: known?.data,
          blueprint: query.get("blueprint") ?? undefined,
          search: query.get("search") || undefined,
          limit,
          offset,
        });
        return largeJson(call, jobs.map(jobSummary));
      },
    },
    {
      method: "GET",
      path: "/api/jobs/events",
      access: "client",
      group: "Jobs",
      summary: "Changes of own jobs as they happen (server-sent events named job)",
      answers: { 200: { description: "A stream", type: "text/event-stream" }, ...UNAUTHORIZED },
      handle: ({ client, request }) => jobEvents(engine, client?.name, request.signal),
    },
    {
      method: "GET",
      path: "/api/jobs/quarantined",
      access: "client",
      group: "Jobs",
      summary: "Ids of own jobs on the quarantine list",
      query: { limit: `How many, at most ${LIST_LIMIT}`, offset: "How many to pass over (0)" },
      answers: { 200: { description: "Ids, newest first", schema: z.array(z.string()) }, ...UNAUTHORIZED },
      handle: (call) => quarantined(engine, call),
    },
    {
      method: "GET",
      path: jobPath,
      access: "client",
      group: "Jobs",
      summary: "A job",
      answers: { 200: { description: "The job", schema: JobView }, ...NO_JOB, ...UNAUTHORIZED },
      async handle(call) {
        const { job, tasks } = await own(engine, call);
        return largeJson(call, jobView(job, tasks));
      },
    },
    {
      method: "GET",
      path: `${jobPath}/history`,
      access: "client",
      group: "Jobs",
      summary: "What happened to a job, oldest first",
      query: { limit: "How many (all)", offset: "How many to pass over (0)" },
      answers: {
        200: { description: "The entries", schema: z.array(HistoryEntry) },
        ...NO_JOB,
        ...UNAUTHORIZED,
      },
      async handle(call) {
        const { job } = await own(engine, call);
        const offset = wholeNumber(call.query, "offset", 0, Infinity);
        const limit = wholeNumber(call.query, "limit", 1e9, Infinity);
        const entries = historyEntries(job.id, await engine.storage.history(job.id));
        return largeJson(call, entries.slice(offset, offset + limit));
      },
    },
    {
      method: "POST",
      path: `${jobPath}/cancel`,
      access: "client",
      group: "Jobs",
      summary: "End a job; a worker that runs its task is notified",
      answers: {
        200: { description: "It ends", schema: z.object({ status: z.string() }) },
        409: { description: "It has ended before", schema: ErrorAnswer },
        ...NO_JOB,
        ...UNAUTHORIZED,
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        const outcome = await engine.cancel(call.params.id);
        if (outcome === "unknown") return errorResponse(404, "Job not found");
        if (outcome === "ended") {
          return errorResponse(
            409,
            "Job is not in a state that can be cancelled (must be waiting for a worker).",
          );
        }
        return json({
          status: outcome === "sent" ? "cancellation_request_sent" : "cancellation_request_accepted",
        });
      },
    },
    {
      method: "POST",
      path: `${jobPath}/approve`,
      access: "client",
      group: "Jobs",
      summary: "Decide for a job that waits for a human",
      body: Decision,
      answers: {
        200: { description: "It goes on", schema: z.object({ status: z.string(), job_id: z.string() }) },
        409: { description: "It waits for no decision", schema: ErrorAnswer },
        ...BAD_BODY,
        ...NO_JOB,
        ...UNAUTHORIZED,
      },
      handle: (call) => approve(engine, call),
    },
    {
      method: "POST",
      path: `${jobPath}/approval-link`,
      access: "client",
      group: "Jobs",
      summary: "A one-time link with which somebody without a token can decide",
      answers: {
        200: { description: "The link; an older one is void", schema: z.object({ url: z.string() }) },
        409: { description: "It waits for no decision", schema: ErrorAnswer },
        ...NO_JOB,
        ...UNAUTHORIZED,
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        const secret = await engine.approvalLink(call.params.id);
        if (secret === undefined) return errorResponse(409, "Job is not in a state that can be approved");
        const { origin } = new URL(call.request.url);
        return json({
          url: `${origin}/_public/webhooks/approval/${encodeURIComponent(call.params.id)}?secret=${secret}`,
        });
      },
    },
    {
      method: "POST",
      path: `${jobPath}/retry`,
      access: "client",
      group: "Jobs",
      summary: "Run a failed or quarantined job again from the state that failed",
      answers: {
        200: { description: "It runs again", schema: z.object({ status: z.string(), job_id: z.string() }) },
        409: { description: "It has not failed", schema: ErrorAnswer },
        ...NO_JOB,
        ...UNAUTHORIZED,
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        switch (await engine.requeue(call.params.id)) {
          case "requeued":
            return json({ status: "requeued", job_id: call.params.id });
          case "unknown":
            return errorResponse(404, "Job not found");
          case "not failed":
            return errorResponse(409, "Only failed and quarantined jobs can be run again");
          case "no blueprint":
            return errorResponse(409, "The job's blueprint is not registered any longer");
        }
      },
    },
    {
      method: "DELETE",
      path: `${jobPath}/quarantine`,
      access: "client",
      group: "Jobs",
      summary: "Take a job off the quarantine list",
      answers: {
        200: { description: "It is off", schema: z.object({ status: z.string() }) },
        409: { description: "It is not on the list", schema: ErrorAnswer },
        ...NO_JOB,
        ...UNAUTHORIZED,
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        if (!await engine.unlist(call.params.id)) {
          return errorResponse(409, "Job is not on the quarantine list");
        }
        return json({ status: "removed" });
      },
    },
    {
      method: "GET",
      path: "/api/workers",
      access: "client",
      group: "Workers",
      summary: "Workers with a recent heartbeat",
      answers: { 200: { description: "The workers", schema: z.array(WorkerView) }, ...UNAUTHORIZED },
      async handle(call) {
        const workers = engine.workers.alive(engine.now());
        const views = workers.map(async (worker) => {
          const held = await engine.storage.heldBy(worker.id);
          return engine.workers.view(worker, held.length, engine.listensForCommands(worker.id));
        });
        return largeJson(call, await Promise.all(views));
      },
    },
    {
      method: "GET",
      path: "/api/workers/{worker_id}/history",
      access: "client",
      group: "Workers",
      summary: "The last registrations and heartbeats of a worker, oldest first",
      answers: {
        200: { description: "Its registrations and heartbeats", schema: z.array(WorkerHistoryEntry) },
        404: { description: "No such worker", schema: ErrorAnswer },
        ...UNAUTHORIZED,
      },
      handle({ params }) {
        const worker = engine.workers.get(params.worker_id);
        return worker === undefined
          ? errorResponse(404, "Worker not found")
          : json(worker.info.history ?? []);
      },
    },
    {
      method: "GET",
      path: "/api/dashboard",
      access: "client",
      group: "Workers",
      summary: "Own jobs by status, queues, and the last minutes by second",
      answers: { 200: { description: "The figures", schema: Dashboard }, ...UNAUTHORIZED },
      async handle(call) {
        const now = engine.now();
        const queues = await engine.storage.queues();
        const counts: Partial<Record<Status, number>> = await engine.storage.counts(call.client?.name);
        return largeJson(call, {
          workers: { total: engine.workers.alive(now).length },
          jobs: { queued: queues.reduce((sum, queue) => sum + queue.queued, 0), ...counts },
          queues: queues.map(({ type, queued, held, oldestSince }) => ({
            type,
            queued,
            held,
            oldest_seconds: oldestSince === undefined
              ? 0
              : Math.max(0, Math.round((now - oldestSince) / 1000)),
          })),
          samples: engine.metrics.samples,
        });
      },
    },
    {
      method: "GET",
      path: "/api/blueprints",
      access: "client",
      group: "Jobs",
      summary: "The blueprints",
      answers: {
        200: {
          description: "Name, endpoint and version of each",
          schema: z.array(
            z.object({ name: z.string(), endpoint: z.string().nullable(), version: z.string().nullable() }),
          ),
        },
        ...UNAUTHORIZED,
      },
      handle: () =>
        json([...engine.blueprints.values()].map(({ name, apiEndpoint, apiVersion }) => ({
          name,
          endpoint: apiEndpoint ?? null,
          version: apiVersion ?? null,
        }))),
    },
    {
      method: "GET",
      path: "/api/blueprints/{name}/graph",
      access: "client",
      group: "Jobs",
      summary: "A blueprint's graph",
      query: { format: "dot (default), mermaid or json" },
      answers: {
        200: { description: "The graph", type: "text/vnd.graphviz" },
        404: { description: "No such blueprint", schema: ErrorAnswer },
        ...UNAUTHORIZED,
      },
      handle({ params, query }) {
        const blueprint = engine.blueprints.get(params.name);
        if (blueprint === undefined) return errorResponse(404, "Blueprint not found");
        const format = query.get("format") ?? "dot";
        if (format === "json") {
          const states = [...blueprint.states.values()].map((state) => ({
            name: state.name,
            is_start: state.isStart,
            is_end: state.isEnd,
          }));
          return json({ name: blueprint.name, states, edges: blueprint.edges() });
        }
        if (format === "mermaid") {
          return new Response(blueprint.toMermaid(), {
            headers: { "content-type": "text/plain; charset=utf-8" },
          });
        }
        return new Response(blueprint.toDot(), { headers: { "content-type": "text/vnd.graphviz" } });
      },
    },
    {
      method: "POST",
      path: "/api/admin/reload-workers",
      access: "client",
      group: "Administration",
      summary: "Read the workers file again",
      answers: {
        200: { description: "It was read", schema: z.object({ status: z.string() }) },
        400: { description: "There is none, or it cannot be used", schema: ErrorAnswer },
        ...UNAUTHORIZED,
      },
      async handle({ request }) {
        await drain(request);
        await engine.reloadWorkers();
        return json({ status: "worker_configs_reloaded" });
      },
    },
  ];
}

function jobEvents(engine: JobEngine, client: string | undefined, gone: AbortSignal): Response {
  const encoder = new TextEncoder();
  let end = () => {};
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => {
        // A reader that does not keep up misses changes rather than filling the memory; it can ask for the list.
        if ((controller.desiredSize ?? 0) > -1000) controller.enqueue(encoder.encode(text));
      };
      const unhear = engine.onJob((job) => {
        if (job.client === client) send(`event: job\ndata: ${JSON.stringify(jobSummary(job))}\n\n`);
      });
      const timer = setInterval(() => send(": still here\n\n"), SERVER_EVENTS_PING_MS);
      const close = () => {
        end();
        controller.close();
      };
      end = () => {
        unhear();
        clearInterval(timer);
        engine.stopping.removeEventListener("abort", close);
        end = () => {};
      };
      engine.stopping.addEventListener("abort", close);
      gone.addEventListener("abort", () => end());
      send(": hello\n\n");
    },
    cancel: () => end(),
  });
  return new Response(stream, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}

// ---- Worker protocol ------------------------------------------------------------------------------------------------

function workerRoutes(engine: JobEngine): Route[] {
  const { config } = engine;
  const limit = new RateLimit(engine);
  const read = async (request: Request) =>
    parseBody(await readText(request, config.maxResultBytes, engine.arrivals), config.maxDepth, false);
  // The id of a worker in the path, whose token is right.
  const known = ({ request, params }: RequestContext): string => {
    const token = workerToken(request);
    checkWorker(engine, params.worker_id, token);
    if (!WorkerId.safeParse(params.worker_id).success) throw new HttpError(400, "This is no worker's id");
    return params.worker_id;
  };
  return [
    {
      method: "POST",
      path: "/_worker/workers/register",
      access: "worker",
      group: "Worker protocol",
      summary: "A worker registers; tasks it held before are dispatched again",
      body: Registration,
      answers: {
        200: { description: "It is known", schema: z.object({ status: z.literal("registered") }) },
        ...BAD_BODY,
        ...UNAUTHORIZED,
      },
      async handle({ request }) {
        const token = workerToken(request);
        const body = await read(request);
        const id = isObject(body) ? body.worker_id : undefined;
        if (typeof id !== "string" || id === "") {
          if (engine.authenticator.workerOf(token) === undefined) {
            return errorResponse(401, "Unauthorized: Invalid token or missing worker_id");
          }
          return errorResponse(400, "Missing required field: worker_id");
        }
        checkWorker(engine, id, token);
        await engine.register(check(Registration, body));
        return json({ status: "registered" });
      },
    },
    {
      method: "PATCH",
      path: "/_worker/workers/{worker_id}",
      access: "worker",
      group: "Worker protocol",
      summary: "A heartbeat: what the worker can take now. Empty: only that it is alive",
      body: Heartbeat,
      answers: {
        200: { description: "The whole record, or ttl_refreshed", schema: AnyObject },
        404: { description: "An empty heartbeat of an unknown worker", schema: ErrorAnswer },
        429: { description: "Too many", schema: ErrorAnswer },
        ...BAD_BODY,
        ...UNAUTHORIZED,
      },
      async handle(call) {
        const id = known(call);
        limit.count(`heartbeat ${id}`);
        const text = await readText(call.request, config.maxSubmissionBytes, engine.arrivals);
        const body = heartbeatBody(text, config.maxDepth);
        if (body === undefined) {
          if (!await engine.seen(id)) return errorResponse(404, "Worker not found");
          return json({ status: "ttl_refreshed", cancelled_tasks: engine.cancelledTasks(id) });
        }
        const worker = await engine.heartbeat(id, check(Heartbeat, body));
        if (worker === undefined) return errorResponse(404, "Worker not found");
        const view = engine.workers.view(
          worker,
          (await engine.storage.heldBy(id)).length,
          engine.listensForCommands(id),
        );
        return json({ ...view, status: worker.info.status, cancelled_tasks: engine.cancelledTasks(id) });
      },
    },
    {
      method: "GET",
      path: "/_worker/workers/{worker_id}/tasks/next",
      access: "worker",
      group: "Worker protocol",
      summary: "The next task, waited for",
      query: {
        wait: "Seconds to wait, at most the engine's setting",
        commands: "1: the answer may also be a command",
        tasks: "0: no task, only commands",
      },
      answers: {
        200: { description: "A task", schema: WireTask },
        204: { description: "None came" },
        429: { description: "Too many polls that found nothing", schema: ErrorAnswer },
        ...UNAUTHORIZED,
      },
      handle: (call) => poll(engine, call, known(call), limit),
    },
    {
      method: "POST",
      path: "/_worker/tasks/result",
      access: "worker",
      group: "Worker protocol",
      summary: "A task's result. Every result that must not be sent again is answered 200",
      body: ResultBody,
      answers: {
        200: { description: "It counted, or was ignored with a reason", schema: ResultAnswer },
        413: { description: "The body is too large", schema: ErrorAnswer },
        ...BAD_BODY,
        ...UNAUTHORIZED,
      },
      async handle({ request }) {
        const token = workerToken(request);
        const text = await readText(request, config.maxResultBytes, engine.arrivals);
        const body = parseBody(text, config.maxDepth, false);
        if (!isObject(body)) throw new BodyError(400, "Invalid JSON body");
        const { job_id: jobId, task_id: taskId, worker_id: workerId } = body;
        if (typeof workerId !== "string" || workerId === "") {
          if (engine.authenticator.workerOf(token) === undefined) {
            return errorResponse(401, "Unauthorized: No valid token found");
          }
          return errorResponse(400, "Could not identify authenticated worker.");
        }
        checkWorker(engine, workerId, token);
        if (typeof jobId !== "string" || typeof taskId !== "string" || jobId === "" || taskId === "") {
          return errorResponse(400, "job_id and task_id are required");
        }
        const outcome = outcomeOf(body, text.length <= SMALL_RESULT_BYTES);
        const answer = await engine.result(jobId, taskId, workerId, outcome);
        return "reason" in answer ? json(answer) : raw(`{"status":"${answer.status}"}`);
      },
    },
    {
      method: "POST",
      path: "/_worker/events",
      access: "worker",
      group: "Worker protocol",
      summary: "Progress of a task",
      body: WorkerEvent,
      answers: {
        200: { description: "It was read", schema: z.object({ status: z.string() }) },
        ...BAD_BODY,
        ...UNAUTHORIZED,
      },
      async handle({ request }) {
        const token = workerToken(request);
        const body = await read(request);
        const id = isObject(body) && typeof body.worker_id === "string"
          ? body.worker_id
          : engine.authenticator.workerOf(token)?.id;
        if (id === undefined) return errorResponse(401, "Unauthorized: Invalid token or missing worker_id");
        checkWorker(engine, id, token);
        await recordEvent(engine, id, check(WorkerEvent, body));
        return json({ status: "accepted" });
      },
    },
    {
      method: "GET",
      path: "/_worker/ws/{worker_id}",
      access: "worker",
      group: "Worker protocol",
      summary: "A WebSocket: commands to the worker, progress from it",
      answers: { 101: { description: "It is open" }, ...UNAUTHORIZED },
      handle: (call) => socket(engine, call.request, known(call)),
    },
    {
      method: "GET",
      path: "/_worker/ws",
      access: "worker",
      group: "Worker protocol",
      summary: "The same for workers that do not name themselves",
      answers: { 101: { description: "It is open" }, ...UNAUTHORIZED },
      handle({ request }) {
        const worker = engine.authenticator.workerOf(workerToken(request));
        if (worker === undefined) return errorResponse(401, "Unauthorized: No valid token found");
        return socket(engine, request, worker.id ?? "");
      },
    },
  ];
}

// A heartbeat's content; undefined: nothing that could be read, which keeps the worker alive all the same.
function heartbeatBody(text: string, maxDepth: number): JsonObject | undefined {
  let body: JsonValue;
  try {
    body = parseBody(text, maxDepth, false);
  } catch (error) {
    if (error instanceof BodyError && error.message === "Invalid JSON body") return undefined;
    throw error;
  }
  return isObject(body) && Object.keys(body).length > 0 ? body : undefined;
}

// Reads a worker's result of a task. Anything that is no result fails the job with a sentence; see the protocol.
function outcomeOf(body: JsonObject, isSmall: boolean): TaskResult {
  const isFlat = body.result === undefined && typeof body.status === "string";
  const result = isFlat ? body : body.result ?? {};
  const unreadable = (message: string): TaskResult => ({
    status: "failure",
    error: { message, isFatal: true },
    raw: { status: "failure", error: { message } },
    isSmall,
  });
  if (!isObject(result)) return unreadable("Worker returned a result that is not an object.");
  const { status, data, error } = result;
  if (status !== undefined && status !== null && typeof status !== "string") {
    return unreadable("Worker returned a status that is not a text.");
  }
  const raw: JsonObject = isFlat ? { status, data, error } : result;
  return {
    status: status || "success",
    data: isObject(data) ? data : undefined,
    error: errorOf(error, result.error_message ?? body.error_message),
    raw,
    isSmall,
  };
}

function errorOf(error: JsonValue | undefined, fallback: JsonValue | undefined): TaskResult["error"] {
  if (isObject(error)) {
    const { code, message } = error;
    return {
      ...(typeof code === "string" ? { code } : {}),
      message: typeof message === "string" && message !== "" ? message : "No error message provided.",
    };
  }
  if (typeof error === "string" && error !== "") return { message: error };
  return {
    message: typeof fallback === "string" && fallback !== "" ? fallback : "No error details provided.",
  };
}

async function poll(
  engine: JobEngine,
  { query, request }: RequestContext,
  workerId: string,
  limit: RateLimit,
): Promise<Response> {
  const waitText = query.get("wait");
  const longest = engine.config.pollTimeoutMs;
  const waitMs = waitText === null ? longest : Math.min(longest, secondsOf(waitText, "wait") ?? 0);
  const wantsCommands = query.get("commands") === "1";
  const { signal } = request;
  if (query.get("tasks") !== "0") {
    // A turn of the event loop, in which the runtime notices connections that were closed behind their request.
    await new Promise((resolve) => setImmediate(resolve));
    const task = await engine.poll(workerId, signal, 0);
    if (task !== undefined) return raw(task.payload);
  }
  if (!wantsCommands) return await taskPoll(engine, workerId, signal, waitMs, limit);
  // Whichever comes first: a task, or a command.
  const answered = new AbortController();
  const command = Promise.withResolvers<Response>();
  const unhear = engine.onCancel(workerId, ({ taskId, jobId }) => {
    command.resolve(json({ command: "cancel_task", type: "cancel_task", task_id: taskId, job_id: jobId }));
  });
  const both = AbortSignal.any([signal, answered.signal]);
  try {
    const task = query.get("tasks") === "0"
      ? engine.clock.sleep(waitMs, AbortSignal.any([both, engine.stopping])).then(() =>
        new Response(null, { status: 204 })
      )
      : taskPoll(engine, workerId, both, waitMs, limit);
    const answer = await Promise.race([task, command.promise]);
    answered.abort();
    return answer;
  } finally {
    unhear();
  }
}

async function taskPoll(
  engine: JobEngine,
  workerId: string,
  signal: AbortSignal,
  waitMs: number,
  limit: RateLimit,
): Promise<Response> {
  const task = await engine.poll(workerId, signal, waitMs);
  if (task === undefined) {
    if (!signal.aborted) limit.count(`poll ${workerId}`);
    return new Response(null, { status: 204 });
  }
  return raw(task.payload);
}

async function recordEvent(
  engine: JobEngine,
  workerId: string | undefined,
  event: WorkerEvent,
): Promise<void> {
  const kind = event.event ?? event.type ?? event.event_type;
  if (kind !== "progress_update" && kind !== "progress") return;
  const jobId = event.job_id ?? event.target_job_id;
  const taskId = event.task_id ?? event.target_task_id;
  if (jobId === undefined || taskId === undefined) return;
  const value = event.progress ?? event.payload?.progress;
  const message = event.message ?? event.payload?.message;
  await engine.progress(jobId, taskId, workerId, value, message);
}

// One open socket a worker; a listener without a name may be many.
const SOCKETS = new WeakMap<JobEngine, Map<string, WebSocket>>();

function socket(engine: JobEngine, request: Request, workerId: string): Response {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return errorResponse(426, "This path speaks WebSocket only", { upgrade: "websocket" });
  }
  const { socket, response } = Deno.upgradeWebSocket(request);
  const sockets = SOCKETS.get(engine) ?? new Map<string, WebSocket>();
  SOCKETS.set(engine, sockets);
  let end = () => {};
  socket.onopen = () => {
    if (workerId !== "") {
      sockets.get(workerId)?.close(1008, "Another connection of this worker was opened");
      sockets.set(workerId, socket);
    }
    const unhear = engine.onCancel(workerId, ({ taskId, jobId }) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(
        JSON.stringify({ command: "cancel_task", type: "cancel_task", task_id: taskId, job_id: jobId }),
      );
    });
    const stop = () => socket.close(1001, "The engine stops");
    engine.stopping.addEventListener("abort", stop);
    end = () => {
      unhear();
      engine.stopping.removeEventListener("abort", stop);
      // Only its own entry: a newer connection of the same worker stays.
      if (sockets.get(workerId) === socket) sockets.delete(workerId);
    };
  };
  socket.onclose = () => end();
  socket.onerror = () => end();
  socket.onmessage = (message) => {
    const event = readEvent(message.data, engine.config.maxDepth);
    if (event === undefined) return;
    recordEvent(engine, workerId === "" ? undefined : workerId, event).catch((error) => {
      engine.log("ERROR", "progress_not_stored", { error: messageOf(error) });
    });
  };
  return response;
}

function readEvent(data: unknown, maxDepth: number): WorkerEvent | undefined {
  if (typeof data !== "string" || data.length > 100_000) return undefined;
  try {
    return WorkerEvent.safeParse(parseBody(data, maxDepth, false)).data;
  } catch (error) {
    if (error instanceof BodyError) return undefined;
    throw error;
  }
}
