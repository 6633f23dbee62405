/**
 * Submitting a job: one route for each blueprint with an endpoint.
 *
 * @module
 */

import { HttpError } from "../model/errors.ts";
import { clientRoute } from "./route.ts";
import type { JobEngine } from "../engine/engine.ts";
import type { Submission } from "../engine/client_requests.ts";
import { isWebhookAllowed } from "../engine/webhooks.ts";
import { readText } from "./body.ts";
import { secondsOf } from "./parameters.ts";
import { errorResponse, JSON_TYPE } from "./responses.ts";
import type { Route } from "./route.ts";
import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { isObject, parseBody } from "../model/json.ts";
import { Accepted, AnyObject } from "../model/wire.ts";

/** A blueprint's submissions. */
export function submission(engine: JobEngine, blueprint: StateMachineBlueprint): Route {
  const { config } = engine.core;
  return {
    ...clientRoute(
      "POST",
      `/api${blueprint.apiVersion ? `/${blueprint.apiVersion}` : ""}${blueprint.apiEndpoint}`,
      "Jobs",
    ),
    summary: `Submit a job of the blueprint ${blueprint.name}`,
    query: {
      webhook_url: "Where the job's end is posted to (also header X-Webhook-Url)",
      dispatch_timeout: "Seconds a task may wait for a worker (also header X-Dispatch-Timeout)",
      result_timeout: "Seconds a task may take (also header X-Result-Timeout)",
    },
    body: AnyObject,
    answers: {
      202: { description: "The job is stored", schema: Accepted },
      413: "The body is too large",
      422: "The Idempotency-Key was used for another submission",
      429: "The quota is used up",
    },
    async handle({ request, client, query }) {
      const text = await readText(request, config.maxSubmissionBytes, engine.core.arrivals);
      const data = parseBody(text, config.maxDepth, true);
      if (!isObject(data)) throw new HttpError(400, "Invalid JSON body: it must be an object");
      if (client === undefined) throw new HttpError(401, "Unauthorized: Invalid token");
      const outcome = await engine.clientRequests.submit(
        client,
        blueprint,
        data,
        submissionOptions(engine, request, query),
      );
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
    if (webhookUrl.length > 2000 || !isWebhookAllowed(webhookUrl, engine.core.config.webhookHosts)) {
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
