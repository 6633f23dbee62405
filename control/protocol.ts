/**
 * What goes over the control socket, read back by clients: answers, and the lines of `GET /events`. The types of both
 * sides come from these schemas.
 *
 * Moments (`at`, `since`, `readyBy`, `killAt`, `retryAt`) are milliseconds of the orchestrator's steady clock; the
 * first line tells that clock's present time beside the wall clock's. `null` as `killAt` means that it is over.
 *
 * @module
 */

import * as z from "zod/mini";
import { UserError } from "../config/errors.ts";
import type { ServiceState } from "../supervisor/model.ts";
import { STATUS } from "../terminal/palette.ts";

const exit = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("exited"), code: z.number() }),
  z.object({ kind: z.literal("killed"), signal: z.string() }),
]);

const outcome = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("stopped") }),
  z.object({ kind: z.literal("restarting") }),
  z.object({ kind: z.literal("ended"), exit }),
  z.object({ kind: z.literal("failed"), reason: z.string() }),
]);

const past = { failures: z.array(z.number()), restarts: z.number(), lastExit: z.nullable(exit) };

const pid = z.nullable(z.number());

const reason = z.string();

const never = z.pipe(z.nullable(z.number()), z.transform((value) => value ?? Infinity));

const state = z.discriminatedUnion("kind", [
  z.object({ ...past, kind: z.literal("pending"), waitingFor: z.array(z.string()) }),
  z.object({ ...past, kind: z.literal("starting"), pid, since: z.number(), readyBy: z.number() }),
  z.object({ ...past, kind: z.literal("running"), pid, since: z.number() }),
  z.object({
    ...past,
    kind: z.literal("stopping"),
    pid: z.number(),
    since: z.number(),
    killAt: never,
    then: outcome,
  }),
  z.object({ ...past, kind: z.literal("restarting"), attempt: z.number(), retryAt: z.number(), reason }),
  z.object({ ...past, kind: z.literal("stopped") }),
  z.object({ ...past, kind: z.literal("crashed"), exit, ranMs: z.number(), reason }),
  z.object({ ...past, kind: z.literal("failed"), exit: z.nullable(exit), ranMs: z.number(), reason }),
]);

const row = z.object({
  name: z.string(),
  title: z.string(),
  kind: z.enum(["service", "task", "external"]),
  port: z.nullable(z.number()),
  maxRetries: z.number(),
  state,
  recent: z.array(z.string()),
});

const position = z.nullable(z.object({ ino: z.number(), size: z.number() }));

const level = z.enum(["debug", "info", "warn", "error"]);

const time = z.number();

const message = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("hello"),
    time,
    at: z.number(),
    version: z.string(),
    pid: z.number(),
    stopping: z.boolean(),
    services: z.array(row),
    logs: z.nullable(
      z.object({ folder: z.string(), own: position, services: z.record(z.string(), position) }),
    ),
  }),
  z.object({ kind: z.literal("state"), time, at: z.number(), row, from: state, log: z.optional(position) }),
  z.object({
    kind: z.literal("output"),
    time,
    service: z.string(),
    stream: z.enum(["out", "err"]),
    text: z.string(),
    log: z.optional(position),
  }),
  z.object({ kind: z.literal("log"), time, level, message: z.string(), log: z.optional(position) }),
  z.object({ kind: z.literal("services"), time, services: z.array(row) }),
  z.object({
    kind: z.literal("exit"),
    time,
    status: z.number(),
    restarting: z.boolean(),
    remaining: z.array(z.string()),
  }),
]);

/** One line of the event stream. */
export type Message = z.infer<typeof message>;

/**
 * Reads a line of the event stream.
 *
 * @returns `null` for a line that an orchestrator of another version may send and that this one does not know
 */
export function readMessage(line: string): Message | null {
  try {
    return message.parse(JSON.parse(line));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.core.$ZodError) return null;
    throw error;
  }
}

const figure = z.nullable(z.number());

const serviceStatus = z.object({
  name: z.string(),
  title: z.string(),
  kind: z.string(),
  state: z.enum(Object.keys(STATUS) as ServiceState["kind"][]),
  pid: figure,
  port: figure,
  uptimeMs: figure,
  restarts: z.number(),
  lastExit: z.nullable(exit),
  note: z.string(),
  cpuMs: figure,
  memoryBytes: figure,
});

const statusAnswer = z.object({
  running: z.literal(true),
  pid: z.number(),
  version: z.string(),
  infrastructure: z.string(),
  detached: z.boolean(),
  startedAt: z.string(),
  stopping: z.boolean(),
  logs: z.nullable(z.string()),
  memoryBytes: figure,
  healthy: z.boolean(),
  services: z.array(serviceStatus),
});

/**
 * One service in plain figures. Spans and times are milliseconds, memory is bytes; `null`: there is none. `note` is what
 * there is to say besides the state; `cpuMs` and `memoryBytes` are those of its process group.
 */
export type ServiceStatus = z.infer<typeof serviceStatus>;

/** A run at one moment. `healthy`: every service runs, or has finished or was stopped by itself with status 0. */
export type Status = z.infer<typeof statusAnswer>;

const namesAnswer = z.object({ names: z.array(z.string()) });

const reloadAnswer = z.object({
  changes: z.array(z.object({
    name: z.string(),
    action: z.enum(["start", "stop", "restart", "unchanged"]),
    because: z.array(z.string()),
  })),
});

/** What `GET /status` answered. @throws {UserError} when it is of another version */
export function readStatus(answer: unknown): Status {
  const status = statusAnswer.safeParse(answer);
  if (status.success) return status.data;
  throw new UserError("The orchestrator that runs is of another version; stop it with its own program.");
}

/** What a reload answered. */
export function readChanges(answer: unknown): z.infer<typeof reloadAnswer>["changes"] {
  return reloadAnswer.parse(answer).changes;
}

/** The names of services that an answer lists. */
export function namesOf(answer: unknown): string[] {
  return namesAnswer.parse(answer).names;
}
