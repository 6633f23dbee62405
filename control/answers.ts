/**
 * What the control socket answers, read back and shown.
 *
 * @module
 */

import * as z from "zod/mini";
import { UserError } from "../config/errors.ts";

const exit = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("exited"), code: z.number() }),
  z.object({ kind: z.literal("killed"), signal: z.string() }),
]);

const figure = z.nullable(z.number());

const statusAnswer = z.object({
  pid: z.number(),
  detached: z.boolean(),
  startedAt: z.string(),
  stopping: z.boolean(),
  logs: z.nullable(z.string()),
  memoryBytes: figure,
  healthy: z.boolean(),
  services: z.array(z.object({
    name: z.string(),
    title: z.string(),
    state: z.enum([
      "pending",
      "starting",
      "running",
      "stopping",
      "restarting",
      "stopped",
      "crashed",
      "failed",
    ]),
    pid: figure,
    port: figure,
    uptimeMs: figure,
    restarts: z.number(),
    lastExit: z.nullable(exit),
    note: z.string(),
    cpuMs: figure,
    memoryBytes: figure,
  })),
});

const namesAnswer = z.object({ names: z.array(z.string()) });

const reloadAnswer = z.object({
  changes: z.array(z.object({
    name: z.string(),
    action: z.enum(["start", "stop", "restart", "unchanged"]),
    because: z.array(z.string()),
  })),
});

/** What `GET /status` answered. @throws {UserError} when it is of another version */
export function readStatus(answer: unknown): z.infer<typeof statusAnswer> {
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
