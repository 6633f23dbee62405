/**
 * The worker protocol: registrations, heartbeats, tasks and their results, and what waits for them: polls and WebSockets.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { z } from "zod";
import type { CancelCommand } from "../engine/cancel_notices.ts";
import type { EngineCore } from "../engine/core.ts";
import type { JobEngine } from "../engine/engine.ts";
import { HttpError, messageOf } from "../model/errors.ts";
import type { JsonObject, JsonValue } from "../model/job.ts";
import type { TaskResult } from "../model/job_change.ts";
import { isObject, parseBody } from "../model/json.ts";
import type { HeldTask } from "../model/store.ts";
import * as wire from "../model/wire.ts";
import { workerView } from "./overview_routes.ts";
import { check, readText, secondsOf } from "./request.ts";
import { type RequestContext, type Route, rows, textResponse } from "./route.ts";

const WORKER = "/_worker/workers/{worker_id}";
const SMALL_RESULT_BYTES = 16 << 10;

/** A table. */
export function workerRoutes(engine: JobEngine): Route[] {
  const { core, workerRequests } = engine;
  const { maxResultBytes, maxSubmissionBytes, maxDepth } = core.config;
  const at = rows("worker", "Worker protocol");
  const count = rateLimit(core);
  const sockets = new Map<string, WebSocket>();
  return [
    {
      ...at(
        "POST",
        "/_worker/workers/register",
        "A worker registers; tasks it held before are dispatched again",
      ),
      body: wire.Registration,
      answers: { 200: ["It is known", z.object({ status: z.literal("registered") })] },
      async handle({ request, token }) {
        const body = parseBody(await readText(core, request, maxResultBytes), maxDepth, false);
        const id = isObject(body) ? textOf(body.worker_id) : undefined;
        checkWorker(core, token, id, "Unauthorized: Invalid token or missing worker_id");
        if (id === undefined) throw new HttpError(400, "Missing required field: worker_id");
        await workerRequests.register(check(wire.Registration, body));
        return { status: "registered" };
      },
    },
    {
      ...at("PATCH", WORKER, "A heartbeat: what the worker can take now. Empty: only that it is alive"),
      body: wire.Heartbeat,
      answers: {
        200: ["The whole record, or ttl_refreshed", wire.AnyObject],
        404: "An empty heartbeat of an unknown worker",
        429: "Too many",
      },
      async handle(call) {
        const id = workerIn(core, call);
        count(`heartbeat ${id}`);
        const body = heartbeatBody(await readText(core, call.request, maxSubmissionBytes), maxDepth);
        if (body === undefined) {
          if (!await workerRequests.seen(id)) throw new HttpError(404, "Worker not found");
          return { status: "ttl_refreshed", cancelled_tasks: core.cancels.tasksOf(id) };
        }
        const worker = await workerRequests.heartbeat(id, check(wire.Heartbeat, body));
        if (worker === undefined) throw new HttpError(404, "Worker not found");
        const view = await workerView(core, worker);
        return { ...view, cancelled_tasks: core.cancels.tasksOf(id) };
      },
    },
    {
      ...at("GET", `${WORKER}/tasks/next`, "The next task, waited for"),
      query: {
        wait: "Seconds to wait, at most the engine's setting",
        commands: "1: the answer may also be a command",
        tasks: "0: no task, only commands",
      },
      answers: {
        200: ["A task", wire.WireTask],
        204: ["None came"],
        429: "Too many polls that found nothing",
      },
      handle: (call) => poll(engine, call, workerIn(core, call), count),
    },
    {
      ...at(
        "POST",
        "/_worker/tasks/result",
        "A task's result. Every result that must not be sent again is answered 200",
      ),
      body: wire.ResultBody,
      answers: {
        200: ["It counted, or was ignored with a reason", wire.ResultAnswer],
        413: "The body is too large",
      },
      async handle({ request, token }) {
        const text = await readText(core, request, maxResultBytes);
        const body = parseBody(text, maxDepth, false);
        if (!isObject(body)) throw new HttpError(400, "Invalid JSON body");
        const workerId = textOf(body.worker_id);
        checkWorker(core, token, workerId);
        if (workerId === undefined) throw new HttpError(400, "Could not identify authenticated worker.");
        const [jobId, taskId] = [textOf(body.job_id), textOf(body.task_id)];
        if (jobId === undefined || taskId === undefined) {
          throw new HttpError(400, "job_id and task_id are required");
        }
        const outcome = outcomeOf(body, text.length <= SMALL_RESULT_BYTES);
        return await workerRequests.result(jobId, taskId, workerId, outcome);
      },
    },
    {
      ...at("POST", "/_worker/events", "Progress of a task"),
      body: wire.WorkerEvent,
      answers: { 200: ["It was read", z.object({ status: z.string() })] },
      async handle({ request, token }) {
        const body = parseBody(await readText(core, request, maxResultBytes), maxDepth, false);
        const id = isObject(body) && typeof body.worker_id === "string"
          ? body.worker_id
          : core.authenticator.workerOf(token)?.id;
        if (id === undefined) {
          throw new HttpError(401, "Unauthorized: Invalid token or missing worker_id");
        }
        checkWorker(core, token, id);
        await recordEvent(engine, id, check(wire.WorkerEvent, body));
        return { status: "accepted" };
      },
    },
    {
      ...at("GET", "/_worker/ws/{worker_id}", "A WebSocket: commands to the worker, progress from it"),
      answers: { 101: ["It is open"] },
      handle: (call) => openSocket(engine, call.request, sockets, workerIn(core, call)),
    },
    {
      ...at("GET", "/_worker/ws", "The same for workers that do not name themselves"),
      answers: { 101: ["It is open"] },
      handle({ request, token }) {
        checkWorker(core, token, undefined);
        return openSocket(engine, request, sockets, core.authenticator.workerOf(token)?.id);
      },
    },
  ];
}

// ---- Who asks -------------------------------------------------------------------------------------------------------

/** Checks the token of a worker, or of one that has not named itself: then `stranger` refuses a wrong one. */
function checkWorker(
  { authenticator }: EngineCore,
  token: string,
  workerId: string | undefined,
  stranger = "Unauthorized: No valid token found",
): void {
  if (workerId === undefined) {
    if (authenticator.workerOf(token) === undefined) throw new HttpError(401, stranger);
    return;
  }
  const verdict = authenticator.checkWorker(workerId, token);
  if (verdict === "wrong individual") {
    throw new HttpError(401, "Unauthorized: Invalid individual worker token");
  }
  if (verdict === "wrong global") throw new HttpError(401, "Unauthorized: No valid token found");
}

/** The worker in the path, whose token is right. */
function workerIn(core: EngineCore, { token, id }: RequestContext): string {
  checkWorker(core, token, id);
  if (!wire.WorkerId.safeParse(id).success) throw new HttpError(400, "This is no worker's id");
  return id;
}

/** Counts heartbeats and polls that find nothing, by worker, in fixed minutes, and refuses those beyond the limit. */
function rateLimit({ config, clock }: EngineCore): (key: string) => void {
  const counts = new Map<string, number>();
  let endsAt = 0;
  return (key) => {
    if (!config.rateLimiting) return;
    const now = clock.now();
    if (now >= endsAt) {
      counts.clear();
      endsAt = now + 60_000;
    }
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    if (count <= config.rateLimitPerMinute) return;
    throw new HttpError(429, "Too Many Requests", {
      "retry-after": String(Math.ceil((endsAt - now) / 1000)),
    });
  };
}

// ---- What they send -------------------------------------------------------------------------------------------------

/** A text with something in it. */
function textOf(value: JsonValue | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

/** A heartbeat's content; undefined: nothing that could be read, which keeps the worker alive all the same. */
function heartbeatBody(text: string, maxDepth: number): JsonObject | undefined {
  try {
    const body = parseBody(text, maxDepth, false);
    return isObject(body) && Object.keys(body).length > 0 ? body : undefined;
  } catch (error) {
    if (error instanceof HttpError && error.message === "Invalid JSON body") return undefined;
    throw error;
  }
}

/** Reads a worker's result of a task. Anything that is no result fails the job with a sentence; see the protocol. */
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
  return {
    status: status || "success",
    data: isObject(data) ? data : undefined,
    error: errorOf(error, result.error_message ?? body.error_message),
    raw: isFlat ? { status, data, error } : result,
    isSmall,
  };
}

function errorOf(error: JsonValue | undefined, fallback: JsonValue | undefined): TaskResult["error"] {
  if (isObject(error)) {
    const { code, message } = error;
    return {
      ...(typeof code === "string" ? { code } : {}),
      message: textOf(message) ?? "No error message provided.",
    };
  }
  return { message: textOf(error) ?? textOf(fallback) ?? "No error details provided." };
}

/** Keeps the progress that an event reports; `workerId` is missing where any worker may have sent it. */
async function recordEvent(
  { workerRequests }: JobEngine,
  workerId: string | undefined,
  event: wire.WorkerEvent,
): Promise<void> {
  const kind = event.event ?? event.type ?? event.event_type;
  if (kind !== "progress_update" && kind !== "progress") return;
  const jobId = event.job_id ?? event.target_job_id;
  const taskId = event.task_id ?? event.target_task_id;
  if (jobId === undefined || taskId === undefined) return;
  const value = event.progress ?? event.payload?.progress;
  const message = event.message ?? event.payload?.message;
  await workerRequests.progress(jobId, taskId, workerId, value, message);
}

// ---- What waits -----------------------------------------------------------------------------------------------------

function cancelCommand({ taskId, jobId }: CancelCommand): string {
  return JSON.stringify({ command: "cancel_task", type: "cancel_task", task_id: taskId, job_id: jobId });
}

async function poll(
  { core, workerRequests }: JobEngine,
  { query, request: { signal } }: RequestContext,
  workerId: string,
  count: (key: string) => void,
): Promise<Response> {
  const waitMs = Math.min(core.config.pollTimeoutMs, secondsOf(query.get("wait"), "wait") ?? Infinity);
  const commandsOnly = query.get("tasks") === "0";
  if (!commandsOnly) {
    // A turn of the event loop, in which the runtime notices connections that were closed behind their request.
    await new Promise((resolve) => setImmediate(resolve));
    const task = await workerRequests.poll(workerId, signal, 0);
    if (task !== undefined) return textResponse(task.payload);
  }
  const nextTask = async (gone: AbortSignal) => {
    const task = await workerRequests.poll(workerId, gone, waitMs);
    if (task === undefined && !gone.aborted) count(`poll ${workerId}`);
    return task;
  };
  const answer = (task: HeldTask | undefined) =>
    task === undefined ? new Response(null, { status: 204 }) : textResponse(task.payload);
  if (query.get("commands") !== "1") return answer(await nextTask(signal));
  // A command ends the wait.
  const commanded = new AbortController();
  const over = AbortSignal.any([signal, commanded.signal]);
  let command: CancelCommand | undefined;
  const unsubscribe = core.cancels.on(workerId, (cancelled) => {
    command ??= cancelled;
    commanded.abort();
  });
  try {
    if (commandsOnly) await core.clock.sleep(waitMs, AbortSignal.any([over, core.stopping]));
    const task = commandsOnly ? undefined : await nextTask(over);
    if (command === undefined) return answer(task);
    // Only one of both can be the answer: a task that was given out in the same moment goes back to its queue.
    if (task !== undefined) await core.dispatcher.returned(task);
    return textResponse(cancelCommand(command));
  } finally {
    unsubscribe();
  }
}

/** `sockets` holds the one open socket of each worker; of those without a name there may be many. */
function openSocket(
  engine: JobEngine,
  request: Request,
  sockets: Map<string, WebSocket>,
  workerId?: string,
): Response {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    throw new HttpError(426, "This path speaks WebSocket only", { upgrade: "websocket" });
  }
  const { cancels, config, log, stopping } = engine.core;
  const { socket, response } = Deno.upgradeWebSocket(request);
  const over = new AbortController();
  socket.onopen = () => {
    if (workerId !== undefined) {
      sockets.get(workerId)?.close(1008, "Another connection of this worker was opened");
      sockets.set(workerId, socket);
    }
    const unsubscribe = cancels.on(workerId ?? "", (cancelled) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(cancelCommand(cancelled));
    });
    const stop = () => socket.close(1001, "The engine stops");
    stopping.addEventListener("abort", stop, { signal: over.signal });
    over.signal.addEventListener("abort", () => {
      unsubscribe();
      // Only its own entry: a newer connection of the same worker stays.
      if (workerId !== undefined && sockets.get(workerId) === socket) sockets.delete(workerId);
    });
  };
  socket.onclose = () => over.abort();
  socket.onerror = () => over.abort();
  socket.onmessage = ({ data }) => {
    const event = readEvent(data, config.maxDepth);
    if (event === undefined) return;
    recordEvent(engine, workerId, event).catch((error) => {
      log("error", "progress_not_stored", { error: messageOf(error) });
    });
  };
  return response;
}

function readEvent(data: unknown, maxDepth: number): wire.WorkerEvent | undefined {
  if (typeof data !== "string" || data.length > 100_000) return undefined;
  try {
    return wire.WorkerEvent.safeParse(parseBody(data, maxDepth, false)).data;
  } catch (error) {
    if (error instanceof HttpError) return undefined;
    throw error;
  }
}
