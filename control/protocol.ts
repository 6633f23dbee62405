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

const figure = z.nullable(z.number());
const texts = z.readonly(z.array(z.string()));

const exit = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("exited"), code: z.number() }),
  z.object({ kind: z.literal("killed"), signal: z.string() }),
]);

const afterStop = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("stopped") }),
  z.object({ kind: z.literal("restarting") }),
  z.object({ kind: z.literal("ended"), exit }),
  z.object({ kind: z.literal("failed"), reason: z.string() }),
]);

const history = {
  failures: z.readonly(z.array(z.number())),
  restarts: z.number(),
  lastExit: z.nullable(exit),
};

/** A moment that JSON writes as `null` where it never comes. */
const momentOrNever = z.pipe(figure, z.transform((at) => at ?? Infinity));

const state = z.discriminatedUnion("kind", [
  z.object({ ...history, kind: z.literal("pending"), waitingFor: texts }),
  z.object({
    ...history,
    kind: z.literal("starting"),
    pid: figure,
    since: z.number(),
    readyBy: z.number(),
  }),
  z.object({ ...history, kind: z.literal("running"), pid: figure, since: z.number() }),
  z.object({
    ...history,
    kind: z.literal("stopping"),
    pid: z.number(),
    since: z.number(),
    killAt: momentOrNever,
    then: afterStop,
  }),
  z.object({
    ...history,
    kind: z.literal("restarting"),
    attempt: z.number(),
    retryAt: z.number(),
    reason: z.string(),
  }),
  z.object({ ...history, kind: z.literal("stopped") }),
  z.object({ ...history, kind: z.literal("crashed"), exit, ranMs: z.number(), reason: z.string() }),
  z.object({
    ...history,
    kind: z.literal("failed"),
    exit: z.nullable(exit),
    ranMs: z.number(),
    reason: z.string(),
  }),
]);

const service = { name: z.string(), title: z.string(), kind: z.enum(["service", "task", "external"]) };

const row = z.object({ ...service, port: figure, maxRetries: z.number(), state, recent: texts });

const position = z.nullable(z.object({ ino: z.number(), size: z.number() }));

const time = z.number();
const log = z.optional(position);

const message = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("hello"),
    time,
    at: z.number(),
    version: z.string(),
    pid: z.number(),
    stopping: z.boolean(),
    services: z.readonly(z.array(row)),
    logs: z.nullable(
      z.object({ folder: z.string(), own: position, services: z.record(z.string(), position) }),
    ),
  }),
  z.object({ kind: z.literal("state"), time, at: z.number(), row, from: state, log }),
  z.object({
    kind: z.literal("output"),
    time,
    service: z.string(),
    stream: z.enum(["out", "err"]),
    text: z.string(),
    log,
  }),
  z.object({ kind: z.literal("log"), time, level: z.enum(LEVELS), message: z.string(), log }),
  z.object({ kind: z.literal("services"), time, services: z.readonly(z.array(row)) }),
  z.object({
    kind: z.literal("exit"),
    time,
    status: z.number(),
    restarting: z.boolean(),
    remaining: texts,
  }),
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
  note: z.string(),
  /** Of its process group, with what ended in it. */
  cpuMs: figure,
  /** Resident memory of its process group; what processes share counts for each. */
  memoryBytes: figure,
});

const status = z.object({
  running: z.literal(true),
  pid: z.number(),
  version: z.string(),
  infrastructure: z.string(),
  detached: z.boolean(),
  /** ISO time. */
  startedAt: z.string(),
  /** The folder of the log files. */
  logs: z.nullable(z.string()),
  /** Whether everything is being stopped. */
  stopping: z.boolean(),
  memoryBytes: figure,
  /** Whether every service runs, or is a task that has ended with status 0. */
  healthy: z.boolean(),
  services: z.readonly(z.array(serviceStatus)),
});

const change = z.object({
  name: z.string(),
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
