/**
 * What waits: polls for tasks and commands, and WebSockets of workers.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import type { JobEngine } from "../engine/engine.ts";
import type { RateLimit } from "./access.ts";
import { secondsOf } from "./parameters.ts";
import { errorResponse, json, raw } from "./responses.ts";
import type { RequestContext } from "./route.ts";
import { HttpError, messageOf } from "../model/errors.ts";
import { parseBody } from "../model/json.ts";
import { WorkerEvent } from "../model/wire.ts";

export async function poll(
  engine: JobEngine,
  { query, request }: RequestContext,
  workerId: string,
  limit: RateLimit,
): Promise<Response> {
  const waitText = query.get("wait");
  const longest = engine.core.config.pollTimeoutMs;
  const waitMs = waitText === null ? longest : Math.min(longest, secondsOf(waitText, "wait") ?? 0);
  const wantsCommands = query.get("commands") === "1";
  const { signal } = request;
  if (query.get("tasks") !== "0") {
    // A turn of the event loop, in which the runtime notices connections that were closed behind their request.
    await new Promise((resolve) => setImmediate(resolve));
    const task = await engine.workerRequests.poll(workerId, signal, 0);
    if (task !== undefined) return raw(task.payload);
  }
  if (!wantsCommands) return await taskPoll(engine, workerId, signal, waitMs, limit);
  // Whichever comes first: a task, or a command.
  const answered = new AbortController();
  const command = Promise.withResolvers<Response>();
  const unhear = engine.core.cancels.on(workerId, ({ taskId, jobId }) => {
    command.resolve(json({ command: "cancel_task", type: "cancel_task", task_id: taskId, job_id: jobId }));
  });
  const both = AbortSignal.any([signal, answered.signal]);
  try {
    const task = query.get("tasks") === "0"
      ? engine.core.clock.sleep(waitMs, AbortSignal.any([both, engine.core.stopping])).then(() =>
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
  const task = await engine.workerRequests.poll(workerId, signal, waitMs);
  if (task === undefined) {
    if (!signal.aborted) limit.count(`poll ${workerId}`);
    return new Response(null, { status: 204 });
  }
  return raw(task.payload);
}

export async function recordEvent(
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
  await engine.workerRequests.progress(jobId, taskId, workerId, value, message);
}

// One open socket a worker; a listener without a name may be many.
const SOCKETS = new WeakMap<JobEngine, Map<string, WebSocket>>();

export function socket(engine: JobEngine, request: Request, workerId: string): Response {
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
    const unhear = engine.core.cancels.on(workerId, ({ taskId, jobId }) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(
        JSON.stringify({ command: "cancel_task", type: "cancel_task", task_id: taskId, job_id: jobId }),
      );
    });
    const stop = () => socket.close(1001, "The engine stops");
    engine.core.stopping.addEventListener("abort", stop);
    end = () => {
      unhear();
      engine.core.stopping.removeEventListener("abort", stop);
      // Only its own entry: a newer connection of the same worker stays.
      if (sockets.get(workerId) === socket) sockets.delete(workerId);
    };
  };
  socket.onclose = () => end();
  socket.onerror = () => end();
  socket.onmessage = (message) => {
    const event = readEvent(message.data, engine.core.config.maxDepth);
    if (event === undefined) return;
    recordEvent(engine, workerId === "" ? undefined : workerId, event).catch((error) => {
      engine.core.log("error", "progress_not_stored", { error: messageOf(error) });
    });
  };
  return response;
}

function readEvent(data: unknown, maxDepth: number): WorkerEvent | undefined {
  if (typeof data !== "string" || data.length > 100_000) return undefined;
  try {
    return WorkerEvent.safeParse(parseBody(data, maxDepth, false)).data;
  } catch (error) {
    if (error instanceof HttpError) return undefined;
    throw error;
  }
}
