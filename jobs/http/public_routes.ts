/**
 * Routes without a client's token.
 *
 * @module
 */

import { clientRoute, publicRoute } from "./route.ts";
import { z } from "zod";
import type { JobEngine } from "../engine/engine.ts";
import { clientOf } from "./access.ts";
import { approve, quarantined } from "./job_answers.ts";
import { json } from "./responses.ts";
import type { Route } from "./route.ts";
import { Decision } from "../model/wire.ts";

/** The routes that anybody may ask for, and those that check by themselves who asks. */
export function publicRoutes(engine: JobEngine): Route[] {
  return [
    {
      ...publicRoute("GET", "/_public/status", "Public"),
      summary: "Whether the engine is up",
      answers: { 200: { description: "It is", schema: z.object({ status: z.literal("ok") }) } },
      handle: () => json({ status: "ok" }),
    },
    {
      ...publicRoute("GET", "/_public/metrics", "Public"),
      summary: "Metrics in Prometheus' text form",
      answers: { 200: { description: "The metrics", type: "text/plain" } },
      handle: async () =>
        new Response(
          engine.core.metrics.text({
            queues: await engine.core.storage.queues(),
            workers: engine.core.workers.alive().length,
            polls: engine.core.dispatcher.waiting,
          }),
          { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } },
        ),
    },
    {
      ...clientRoute("GET", "/_public/jobs/quarantined", "Jobs"),
      summary: "Ids of own jobs on the quarantine list",
      answers: { 200: { description: "Ids, newest first", schema: z.array(z.string()) } },
      handle: (call) => quarantined(engine, call),
    },
    {
      ...publicRoute("POST", "/_public/webhooks/approval/{id}", "Jobs"),
      access: "link",
      summary:
        "Decide for a job that waits for a human, by the owner's token or a one-time link (?secret=...)",
      query: { secret: "Secret of the one-time link" },
      body: Decision,
      answers: {
        200: { description: "It goes on", schema: z.object({ status: z.string(), job_id: z.string() }) },
        409: "It waits for no decision",
      },
      handle: (call) => {
        const secret = call.query.get("secret") ?? call.request.headers.get("x-approval-secret");
        if (secret !== null) return approve(engine, call, secret);
        return approve(engine, { ...call, client: clientOf(engine, call.request) });
      },
    },
  ];
}
