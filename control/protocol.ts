/**
 * The lines of `GET /events`: what a run tells, as JSON, and how a client reads it back.
 *
 * Moments (`at`, `since`, `readyBy`, `killAt`, `retryAt`) are milliseconds of the orchestrator's steady clock; the
 * first line tells that clock's present time beside the wall clock's. `null` as `killAt` means that it is over.
 *
 * @module
 */

import * as z from "zod/mini";

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
