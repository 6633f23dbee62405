/**
 * The routes of the engine as a whole: whether it is up, its figures, its workers and its blueprints.
 *
 * @module
 */
import { z } from "zod";
import type { EngineCore } from "../engine/core.ts";
import type { JobEngine } from "../engine/engine.ts";
import type { LiveWorker } from "../engine/workers.ts";
import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { HttpError } from "../model/errors.ts";
import { Dashboard, WorkerHistoryEntry, WorkerView } from "../model/wire.ts";
import { type Route, rows, textResponse } from "./route.ts";

const atPublic = rows("public", "Public");
const atWorkers = rows("client", "Workers");
const atBlueprints = rows("client", "Jobs");
const BlueprintView = z.object({
  name: z.string(),
  endpoint: z.string().nullable(),
  version: z.string().nullable(),
});

/** A table. */
export function overviewRoutes(engine: JobEngine): Route[] {
  const { core } = engine;
  return [
    {
      ...atPublic("GET", "/_public/status", "Whether the engine is up"),
      answers: { 200: ["It is", z.object({ status: z.literal("ok") })] },
      handle: () => ({ status: "ok" }),
    },
    {
      ...atPublic("GET", "/_public/metrics", "Metrics in Prometheus' text form"),
      answers: { 200: ["The metrics", "text/plain"] },
      async handle() {
        const text = core.metrics.text({
          queues: await core.storage.queues(),
          workers: core.workers.alive().length,
          polls: core.dispatcher.waiting,
        });
        return textResponse(text, "text/plain; version=0.0.4; charset=utf-8");
      },
    },
    {
      ...atWorkers("GET", "/api/workers", "Workers with a recent heartbeat"),
      answers: { 200: ["The workers", z.array(WorkerView)] },
      handle: () => Promise.all(core.workers.alive().map((worker) => workerView(core, worker))),
    },
    {
      ...atWorkers(
        "GET",
        "/api/workers/{worker_id}/history",
        "The last registrations and heartbeats of a worker, oldest first",
      ),
      answers: {
        200: ["Its registrations and heartbeats", z.array(WorkerHistoryEntry)],
        404: "No such worker",
      },
      handle({ id }) {
        const worker = core.workers.get(id);
        if (worker === undefined) throw new HttpError(404, "Worker not found");
        return worker.info.history ?? [];
      },
    },
    {
      ...atWorkers("GET", "/api/dashboard", "Own jobs by status, queues, and the last minutes by second"),
      answers: { 200: ["The figures", Dashboard] },
      async handle({ client }) {
        const now = core.clock.now();
        const queues = await core.storage.queues();
        return {
          workers: { total: core.workers.alive().length },
          jobs: {
            queued: queues.reduce((sum, queue) => sum + queue.queued, 0),
            ...await core.storage.counts(client.name),
          },
          queues: queues.map(({ type, queued, held, oldestSince = now }) => ({
            type,
            queued,
            held,
            oldest_seconds: Math.max(0, Math.round((now - oldestSince) / 1000)),
          })),
          samples: core.metrics.samples,
        };
      },
    },
    {
      ...atBlueprints("GET", "/api/blueprints", "The blueprints"),
      answers: { 200: ["Name, endpoint and version of each", z.array(BlueprintView)] },
      handle: () =>
        [...core.blueprints.values()].map(({ name, apiEndpoint, apiVersion }) => ({
          name,
          endpoint: apiEndpoint ?? null,
          version: apiVersion ?? null,
        })),
    },
    {
      ...atBlueprints("GET", "/api/blueprints/{name}/graph", "A blueprint's graph"),
      query: { format: "dot (default), mermaid or json" },
      answers: { 200: ["The graph", "text/vnd.graphviz"], 404: "No such blueprint" },
      handle({ id, query }) {
        const blueprint = core.blueprints.get(id);
        if (blueprint === undefined) throw new HttpError(404, "Blueprint not found");
        return graph(blueprint, query.get("format"));
      },
    },
    {
      ...rows("client", "Administration")("POST", "/api/admin/reload-workers", "Read the workers file again"),
      answers: {
        200: ["It was read", z.object({ status: z.string() })],
        400: "There is none, or it cannot be used",
      },
      async handle() {
        await engine.reloadWorkers();
        return { status: "worker_configs_reloaded" };
      },
    },
  ];
}

/** A worker as clients see it, and as it is answered its heartbeats. */
export async function workerView(core: EngineCore, worker: LiveWorker): Promise<WorkerView> {
  const held = await core.storage.heldBy(worker.id);
  return core.workers.view(worker, held.length, core.cancels.isListenedTo(worker.id));
}

function graph(blueprint: StateMachineBlueprint, format: string | null): object {
  switch (format) {
    case "json":
      return {
        name: blueprint.name,
        states: [...blueprint.states.values()].map(({ name, isStart, isEnd }) => ({
          name,
          is_start: isStart,
          is_end: isEnd,
        })),
        edges: blueprint.edges(),
      };
    case "mermaid":
      return textResponse(blueprint.toMermaid(), "text/plain; charset=utf-8");
    default:
      return textResponse(blueprint.toDot(), "text/vnd.graphviz");
  }
}
