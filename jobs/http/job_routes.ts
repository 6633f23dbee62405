/**
 * Routes of clients: their jobs, and what the engine does.
 *
 * @module
 */

import { HttpError } from "../model/errors.ts";
import { clientRoute } from "./route.ts";
import { z } from "zod";
import type { JobEngine } from "../engine/engine.ts";
import { own } from "./job_answers.ts";
import { drain } from "./body.ts";
import { jobEvents } from "./job_events.ts";
import { approve, quarantined } from "./job_answers.ts";
import { LIST_LIMIT, wholeNumber } from "./parameters.ts";
import { errorResponse, json, largeJson } from "./responses.ts";
import type { Route } from "./route.ts";
import type { Status } from "../model/job.ts";
import { historyEntries, jobSummary, jobView } from "../model/wire.ts";
import {
  Dashboard,
  Decision,
  HistoryEntry,
  JobStatus,
  JobSummary,
  JobView,
  WorkerHistoryEntry,
  WorkerView,
} from "../model/wire.ts";

/** The routes of clients. */
export function jobRoutes(engine: JobEngine): Route[] {
  return [...jobReading(engine), ...jobActions(engine), ...overviewRoutes(engine)];
}

const JOB = "/api/jobs/{id}";

/** A table: jobs as a client reads them. */
function jobReading(engine: JobEngine): Route[] {
  return [
    {
      ...clientRoute("GET", "/api/jobs", "Jobs"),
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
        400: "A parameter cannot be read",
      },
      async handle(call) {
        const { query, client } = call;
        const limit = wholeNumber(query, "limit", 100, LIST_LIMIT);
        const offset = wholeNumber(query, "offset", 0, Infinity);
        const status = query.get("status") ?? undefined;
        const known = status === undefined ? undefined : JobStatus.safeParse(status);
        if (known !== undefined && !known.success) throw new HttpError(400, "Invalid status parameter");
        const jobs = await engine.core.storage.list({
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
      ...clientRoute("GET", "/api/jobs/events", "Jobs"),
      summary: "Changes of own jobs as they happen (server-sent events named job)",
      answers: { 200: { description: "A stream", type: "text/event-stream" } },
      handle: ({ client, request }) => jobEvents(engine, client?.name, request.signal),
    },
    {
      ...clientRoute("GET", "/api/jobs/quarantined", "Jobs"),
      summary: "Ids of own jobs on the quarantine list",
      query: { limit: `How many, at most ${LIST_LIMIT}`, offset: "How many to pass over (0)" },
      answers: { 200: { description: "Ids, newest first", schema: z.array(z.string()) } },
      handle: (call) => quarantined(engine, call),
    },
    {
      ...clientRoute("GET", JOB, "Jobs"),
      summary: "A job",
      answers: { 200: { description: "The job", schema: JobView } },
      async handle(call) {
        const { job, tasks } = await own(engine, call);
        return largeJson(call, jobView(job, tasks));
      },
    },
    {
      ...clientRoute("GET", `${JOB}/history`, "Jobs"),
      summary: "What happened to a job, oldest first",
      query: { limit: "How many (all)", offset: "How many to pass over (0)" },
      answers: {
        200: { description: "The entries", schema: z.array(HistoryEntry) },
      },
      async handle(call) {
        const { job } = await own(engine, call);
        const offset = wholeNumber(call.query, "offset", 0, Infinity);
        const limit = wholeNumber(call.query, "limit", 1e9, Infinity);
        const entries = historyEntries(job.id, await engine.core.storage.history(job.id));
        return largeJson(call, entries.slice(offset, offset + limit));
      },
    },
  ];
}

/** A table: what a client may do with a job. */
function jobActions(engine: JobEngine): Route[] {
  return [
    {
      ...clientRoute("POST", `${JOB}/cancel`, "Jobs"),
      summary: "End a job; a worker that runs its task is notified",
      answers: {
        200: { description: "It ends", schema: z.object({ status: z.string() }) },
        409: "It has ended before",
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        const outcome = await engine.clientRequests.cancel(call.params.id);
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
      ...clientRoute("POST", `${JOB}/approve`, "Jobs"),
      summary: "Decide for a job that waits for a human",
      body: Decision,
      answers: {
        200: { description: "It goes on", schema: z.object({ status: z.string(), job_id: z.string() }) },
        409: "It waits for no decision",
      },
      handle: (call) => approve(engine, call),
    },
    {
      ...clientRoute("POST", `${JOB}/approval-link`, "Jobs"),
      summary: "A one-time link with which somebody without a token can decide",
      answers: {
        200: { description: "The link; an older one is void", schema: z.object({ url: z.string() }) },
        409: "It waits for no decision",
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        const secret = await engine.clientRequests.approvalLink(call.params.id);
        if (secret === undefined) return errorResponse(409, "Job is not in a state that can be approved");
        const { origin } = new URL(call.request.url);
        return json({
          url: `${origin}/_public/webhooks/approval/${encodeURIComponent(call.params.id)}?secret=${secret}`,
        });
      },
    },
    {
      ...clientRoute("POST", `${JOB}/retry`, "Jobs"),
      summary: "Run a failed or quarantined job again from the state that failed",
      answers: {
        200: { description: "It runs again", schema: z.object({ status: z.string(), job_id: z.string() }) },
        409: "It has not failed",
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        switch (await engine.clientRequests.requeue(call.params.id)) {
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
      ...clientRoute("DELETE", `${JOB}/quarantine`, "Jobs"),
      summary: "Take a job off the quarantine list",
      answers: {
        200: { description: "It is off", schema: z.object({ status: z.string() }) },
        409: "It is not on the list",
      },
      async handle(call) {
        await drain(call.request);
        await own(engine, call);
        if (!await engine.clientRequests.unlist(call.params.id)) {
          return errorResponse(409, "Job is not on the quarantine list");
        }
        return json({ status: "removed" });
      },
    },
  ];
}

/** A table: workers, figures, blueprints and administration. */
function overviewRoutes(engine: JobEngine): Route[] {
  return [
    {
      ...clientRoute("GET", "/api/workers", "Workers"),
      summary: "Workers with a recent heartbeat",
      answers: { 200: { description: "The workers", schema: z.array(WorkerView) } },
      async handle(call) {
        const workers = engine.core.workers.alive();
        const views = workers.map(async (worker) => {
          const held = await engine.core.storage.heldBy(worker.id);
          return engine.core.workers.view(worker, held.length, engine.core.cancels.isListenedTo(worker.id));
        });
        return largeJson(call, await Promise.all(views));
      },
    },
    {
      ...clientRoute("GET", "/api/workers/{worker_id}/history", "Workers"),
      summary: "The last registrations and heartbeats of a worker, oldest first",
      answers: {
        200: { description: "Its registrations and heartbeats", schema: z.array(WorkerHistoryEntry) },
        404: "No such worker",
      },
      handle({ params }) {
        const worker = engine.core.workers.get(params.worker_id);
        return worker === undefined
          ? errorResponse(404, "Worker not found")
          : json(worker.info.history ?? []);
      },
    },
    {
      ...clientRoute("GET", "/api/dashboard", "Workers"),
      summary: "Own jobs by status, queues, and the last minutes by second",
      answers: { 200: { description: "The figures", schema: Dashboard } },
      async handle(call) {
        const now = engine.core.clock.now();
        const queues = await engine.core.storage.queues();
        const counts: Partial<Record<Status, number>> = await engine.core.storage.counts(call.client?.name);
        return largeJson(call, {
          workers: { total: engine.core.workers.alive().length },
          jobs: { queued: queues.reduce((sum, queue) => sum + queue.queued, 0), ...counts },
          queues: queues.map(({ type, queued, held, oldestSince }) => ({
            type,
            queued,
            held,
            oldest_seconds: oldestSince === undefined
              ? 0
              : Math.max(0, Math.round((now - oldestSince) / 1000)),
          })),
          samples: engine.core.metrics.samples,
        });
      },
    },
    {
      ...clientRoute("GET", "/api/blueprints", "Jobs"),
      summary: "The blueprints",
      answers: {
        200: {
          description: "Name, endpoint and version of each",
          schema: z.array(
            z.object({ name: z.string(), endpoint: z.string().nullable(), version: z.string().nullable() }),
          ),
        },
      },
      handle: () =>
        json([...engine.core.blueprints.values()].map(({ name, apiEndpoint, apiVersion }) => ({
          name,
          endpoint: apiEndpoint ?? null,
          version: apiVersion ?? null,
        }))),
    },
    {
      ...clientRoute("GET", "/api/blueprints/{name}/graph", "Jobs"),
      summary: "A blueprint's graph",
      query: { format: "dot (default), mermaid or json" },
      answers: {
        200: { description: "The graph", type: "text/vnd.graphviz" },
        404: "No such blueprint",
      },
      handle({ params, query }) {
        const blueprint = engine.core.blueprints.get(params.name);
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
      ...clientRoute("POST", "/api/admin/reload-workers", "Administration"),
      summary: "Read the workers file again",
      answers: {
        200: { description: "It was read", schema: z.object({ status: z.string() }) },
        400: "There is none, or it cannot be used",
      },
      async handle({ request }) {
        await drain(request);
        await engine.reloadWorkers();
        return json({ status: "worker_configs_reloaded" });
      },
    },
  ];
}
