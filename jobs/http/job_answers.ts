/**
 * Answers about jobs that several routes give.
 *
 * @module
 */

import { HttpError } from "../model/errors.ts";
import type { JobEngine } from "../engine/engine.ts";
import { readText } from "./body.ts";
import { LIST_LIMIT, wholeNumber } from "./parameters.ts";
import { errorResponse, json } from "./responses.ts";
import type { RequestContext } from "./route.ts";
import type { Job } from "../model/job.ts";
import { parseBody } from "../model/json.ts";
import type { Task } from "../model/store.ts";
import { Decision } from "../model/wire.ts";

export async function quarantined(engine: JobEngine, { client, query }: RequestContext): Promise<Response> {
  const limit = wholeNumber(query, "limit", LIST_LIMIT, LIST_LIMIT);
  const offset = wholeNumber(query, "offset", 0, Infinity);
  const jobs = await engine.core.storage.list({ client: client?.name, listed: true, limit, offset });
  return json(jobs.map((job) => job.id));
}

export async function approve(engine: JobEngine, call: RequestContext, secret?: string): Promise<Response> {
  const { maxSubmissionBytes, maxDepth } = engine.core.config;
  const text = await readText(call.request, maxSubmissionBytes, engine.core.arrivals);
  const body = parseBody(text, maxDepth, true);
  const decision = Decision.safeParse(body);
  if (!decision.success) throw new HttpError(400, "decision is required in body");
  if (secret === undefined) await own(engine, call);
  const outcome = await engine.clientRequests.approve(call.params.id, decision.data.decision, secret);
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

// A job that the client may see; others are not there for it.
export async function own(
  engine: JobEngine,
  { params, client }: RequestContext,
): Promise<{ job: Job; tasks: Task[] }> {
  const read = await engine.core.storage.read(params.id);
  if (read === undefined || read.job.client !== client?.name) throw new HttpError(404, "Job not found");
  return read;
}
