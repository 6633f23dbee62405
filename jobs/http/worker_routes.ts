/**
 * The worker protocol.
 *
 * @module
 */

import { HttpError } from "../model/errors.ts";
import { workerRoute } from "./route.ts";
import { z } from "zod";
import type { JobEngine } from "../engine/engine.ts";
import { checkWorker, RateLimit, workerToken } from "./access.ts";
import { readText } from "./body.ts";
import { check } from "./parameters.ts";
import { errorResponse, json, raw } from "./responses.ts";
import type { RequestContext, Route } from "./route.ts";
import { poll, recordEvent, socket } from "./worker_channel.ts";
import type { JsonObject, JsonValue } from "../model/job.ts";
import { isObject, parseBody } from "../model/json.ts";
import type { TaskResult } from "../model/job_change.ts";
import {
  AnyObject,
  Heartbeat,
  Registration,
  ResultAnswer,
  ResultBody,
  WireTask,
  WorkerEvent,
  WorkerId,
} from "../model/wire.ts";

const SMALL_RESULT_BYTES = 16 << 10;

/** A table: the routes of the worker protocol. */
export function workerRoutes(engine: JobEngine): Route[] {
  const { config } = engine.core;
  const limit = new RateLimit(engine);
  const read = async (request: Request) =>
    parseBody(await readText(request, config.maxResultBytes, engine.core.arrivals), config.maxDepth, false);
  // The id of a worker in the path, whose token is right.
  const known = ({ request, params }: RequestContext): string => {
    const token = workerToken(request);
    checkWorker(engine, params.worker_id, token);
    if (!WorkerId.safeParse(params.worker_id).success) throw new HttpError(400, "This is no worker's id");
    return params.worker_id;
  };
  return [
    {
      ...workerRoute("POST", "/_worker/workers/register", "Worker protocol"),
      summary: "A worker registers; tasks it held before are dispatched again",
      body: Registration,
      answers: {
        200: { description: "It is known", schema: z.object({ status: z.literal("registered") }) },
      },
      async handle({ request }) {
        const token = workerToken(request);
        const body = await read(request);
        const id = isObject(body) ? body.worker_id : undefined;
        if (typeof id !== "string" || id === "") {
          if (engine.core.authenticator.workerOf(token) === undefined) {
            return errorResponse(401, "Unauthorized: Invalid token or missing worker_id");
          }
          return errorResponse(400, "Missing required field: worker_id");
        }
        checkWorker(engine, id, token);
        await engine.workerRequests.register(check(Registration, body));
        return json({ status: "registered" });
      },
    },
    {
      ...workerRoute("PATCH", "/_worker/workers/{worker_id}", "Worker protocol"),
      summary: "A heartbeat: what the worker can take now. Empty: only that it is alive",
      body: Heartbeat,
      answers: {
        200: { description: "The whole record, or ttl_refreshed", schema: AnyObject },
        404: "An empty heartbeat of an unknown worker",
        429: "Too many",
      },
      async handle(call) {
        const id = known(call);
        limit.count(`heartbeat ${id}`);
        const text = await readText(call.request, config.maxSubmissionBytes, engine.core.arrivals);
        const body = heartbeatBody(text, config.maxDepth);
        if (body === undefined) {
          if (!await engine.workerRequests.seen(id)) return errorResponse(404, "Worker not found");
          return json({ status: "ttl_refreshed", cancelled_tasks: engine.core.cancels.tasksOf(id) });
        }
        const worker = await engine.workerRequests.heartbeat(id, check(Heartbeat, body));
        if (worker === undefined) return errorResponse(404, "Worker not found");
        const view = engine.core.workers.view(
          worker,
          (await engine.core.storage.heldBy(id)).length,
          engine.core.cancels.isListenedTo(id),
        );
        return json({
          ...view,
          status: worker.info.status,
          cancelled_tasks: engine.core.cancels.tasksOf(id),
        });
      },
    },
    {
      ...workerRoute("GET", "/_worker/workers/{worker_id}/tasks/next", "Worker protocol"),
      summary: "The next task, waited for",
      query: {
        wait: "Seconds to wait, at most the engine's setting",
        commands: "1: the answer may also be a command",
        tasks: "0: no task, only commands",
      },
      answers: {
        200: { description: "A task", schema: WireTask },
        204: { description: "None came" },
        429: "Too many polls that found nothing",
      },
      handle: (call) => poll(engine, call, known(call), limit),
    },
    {
      ...workerRoute("POST", "/_worker/tasks/result", "Worker protocol"),
      summary: "A task's result. Every result that must not be sent again is answered 200",
      body: ResultBody,
      answers: {
        200: { description: "It counted, or was ignored with a reason", schema: ResultAnswer },
        413: "The body is too large",
      },
      async handle({ request }) {
        const token = workerToken(request);
        const text = await readText(request, config.maxResultBytes, engine.core.arrivals);
        const body = parseBody(text, config.maxDepth, false);
        if (!isObject(body)) throw new HttpError(400, "Invalid JSON body");
        const { job_id: jobId, task_id: taskId, worker_id: workerId } = body;
        if (typeof workerId !== "string" || workerId === "") {
          if (engine.core.authenticator.workerOf(token) === undefined) {
            return errorResponse(401, "Unauthorized: No valid token found");
          }
          return errorResponse(400, "Could not identify authenticated worker.");
        }
        checkWorker(engine, workerId, token);
        if (typeof jobId !== "string" || typeof taskId !== "string" || jobId === "" || taskId === "") {
          return errorResponse(400, "job_id and task_id are required");
        }
        const outcome = outcomeOf(body, text.length <= SMALL_RESULT_BYTES);
        const answer = await engine.workerRequests.result(jobId, taskId, workerId, outcome);
        return "reason" in answer ? json(answer) : raw(`{"status":"${answer.status}"}`);
      },
    },
    {
      ...workerRoute("POST", "/_worker/events", "Worker protocol"),
      summary: "Progress of a task",
      body: WorkerEvent,
      answers: {
        200: { description: "It was read", schema: z.object({ status: z.string() }) },
      },
      async handle({ request }) {
        const token = workerToken(request);
        const body = await read(request);
        const id = isObject(body) && typeof body.worker_id === "string"
          ? body.worker_id
          : engine.core.authenticator.workerOf(token)?.id;
        if (id === undefined) return errorResponse(401, "Unauthorized: Invalid token or missing worker_id");
        checkWorker(engine, id, token);
        await recordEvent(engine, id, check(WorkerEvent, body));
        return json({ status: "accepted" });
      },
    },
    {
      ...workerRoute("GET", "/_worker/ws/{worker_id}", "Worker protocol"),
      summary: "A WebSocket: commands to the worker, progress from it",
      answers: { 101: { description: "It is open" } },
      handle: (call) => socket(engine, call.request, known(call)),
    },
    {
      ...workerRoute("GET", "/_worker/ws", "Worker protocol"),
      summary: "The same for workers that do not name themselves",
      answers: { 101: { description: "It is open" } },
      handle({ request }) {
        const worker = engine.core.authenticator.workerOf(workerToken(request));
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
    if (error instanceof HttpError && error.message === "Invalid JSON body") return undefined;
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
