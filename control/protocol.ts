/**
 * What passes over the control socket, once: the schemas of answers and events, and the types that come from them.
 *
 * Only clients load this module; a running orchestrator takes its types alone. Moments (`at`, `since`, `readyBy`,
 * `killAt`, `retryAt`) are milliseconds of the orchestrator's steady clock, whose present time the first event gives
 * beside the wall clock's. Spans end in `Ms`, sizes are bytes, and `null` means that there is none.
 *
 * @module
 */

import * as z from "zod/mini";
import { UserError } from "../config/errors.ts";
import { LEVELS } from "../config/levels.ts";

const time = z.number();
const text = z.string();
const figure = z.nullable(z.number());
const texts = z.readonly(z.array(text));

/** One of several shapes, known by its `kind`. */
function shape<const Kind extends string, Fields extends z.core.$ZodShape>(kind: Kind, fields: Fields) {
  return z.object({ kind: z.literal(kind), ...fields });
}

const exit = z.discriminatedUnion("kind", [
  shape("exited", { code: z.number() }),
  shape("killed", { signal: text }),
]);

const afterStop = z.discriminatedUnion("kind", [
  shape("stopped", {}),
  shape("restarting", {}),
  shape("ended", { exit }),
  shape("failed", { reason: text }),
]);

const history = {
  failures: z.readonly(z.array(time)),
  restarts: z.number(),
  lastExit: z.nullable(exit),
};

/** A moment that JSON writes as `null` where it never comes. */
const timeOrNever = z.pipe(figure, z.transform((at) => at ?? Infinity));

const state = z.discriminatedUnion("kind", [
  shape("pending", { ...history, waitingFor: texts }),
  shape("starting", { ...history, pid: figure, since: time, readyBy: time }),
  shape("running", { ...history, pid: figure, since: time }),
  shape("stopping", { ...history, pid: z.number(), since: time, killAt: timeOrNever, then: afterStop }),
  shape("restarting", { ...history, attempt: z.number(), retryAt: time, reason: text }),
  shape("stopped", history),
  shape("crashed", { ...history, exit, ranMs: z.number(), reason: text }),
  shape("failed", { ...history, exit: z.nullable(exit), ranMs: z.number(), reason: text }),
]);

const service = { name: text, title: text, kind: z.enum(["service", "task", "external"]) };

const row = z.object({ ...service, port: figure, maxRetries: z.number(), state, recent: texts });
const services = z.readonly(z.array(row));

const position = z.nullable(z.object({ ino: z.number(), size: z.number() }));
const log = z.optional(position);
const logs = z.nullable(z.object({ folder: text, own: position, services: z.record(text, position) }));

const message = z.discriminatedUnion("kind", [
  shape("hello", { time, at: time, version: text, pid: z.number(), stopping: z.boolean(), services, logs }),
  shape("state", { time, at: time, row, from: state, log }),
  shape("output", { time, service: text, stream: z.enum(["out", "err"]), text, log }),
  shape("log", { time, level: z.enum(LEVELS), message: text, log }),
  shape("services", { time, services }),
  shape("exit", { time, status: z.number(), restarting: z.boolean(), remaining: texts }),
]);

/** One line of `GET /events`. */
export type Message = z.infer<typeof message>;

/** A message of one kind. */
export type MessageOf<Kind extends Message["kind"]> = Extract<Message, { kind: Kind }>;

const serviceStatus = z.object({
  ...service,
  state: z.enum(state.def.options.flatMap(({ shape }) => shape.kind.def.values)),
  pid: figure,
  port: figure,
  uptimeMs: figure,
  restarts: z.number(),
  lastExit: z.nullable(exit),
  /** What is worth saying besides the state: what it waits for, when it is tried again, why it failed. */
  note: text,
  /** Of its process group, with what ended in it. */
  cpuMs: figure,
  /** Resident memory of its process group; what processes share counts for each. */
  memoryBytes: figure,
});

const status = z.object({
  running: z.literal(true),
  pid: z.number(),
  version: text,
  infrastructure: text,
  detached: z.boolean(),
  /** ISO time. */
  startedAt: text,
  /** The folder of the log files. */
  logs: z.nullable(text),
  /** Whether everything is being stopped. */
  stopping: z.boolean(),
  memoryBytes: figure,
  /** Whether every service runs, or is a task that has ended with status 0. */
  healthy: z.boolean(),
  services: z.readonly(z.array(serviceStatus)),
});

const change = z.object({
  name: text,
  action: z.enum(["start", "stop", "restart", "unchanged"]),
  /** What changed, by the names of fields and variables; never a value. */
  because: texts,
});

const names = z.object({ names: texts });

const ANSWERS = {
  "/status": status,
  "/start": names,
  "/restart": names,
  "/stop": names,
  "/reload": z.object({ changes: z.readonly(z.array(change)) }),
  "/self-restart": names,
};

/** A run at one moment. */
export type Status = z.infer<typeof status>;

/** One service at one moment. */
export type ServiceStatus = z.infer<typeof serviceStatus>;

/** What a reload does with one service. */
export type Change = z.infer<typeof change>;

/** Every path that is answered once, with its answer. `/events` is answered with messages until the run ends. */
export type Answers = { [Path in keyof typeof ANSWERS]: z.infer<(typeof ANSWERS)[Path]> };

/** What is sent to each path: nothing with `GET`, one JSON object with `POST`. */
export interface Bodies {
  "/status": [];
  "/start": [{ names: readonly string[] }];
  "/restart": [{ names: readonly string[]; dependents?: boolean; dependencies?: boolean }];
  /** Without names: everything, and the orchestrator itself. */
  "/stop": [{ names?: readonly string[] }];
  "/reload": [{ dryRun: boolean }];
  "/self-restart": [Record<never, never>];
}

/** Reads an answer. @throws {UserError} when it is that of another version */
export function readAnswer<Path extends keyof Answers>(path: Path, answer: unknown): Answers[Path] {
  const schemas: { [Path in keyof Answers]: z.ZodMiniType<Answers[Path]> } = ANSWERS;
  const read = schemas[path].safeParse(answer);
  if (read.success) return read.data;
  throw new UserError("The orchestrator that runs is of another version; stop it with its own program.");
}

/** Reads a line of events. @returns `null` for one that only an orchestrator of another version sends */
export function readMessage(line: string): Message | null {
  try {
    return message.parse(JSON.parse(line));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.core.$ZodError) return null;
    throw error;
  }
}
