/**
 * What the control socket answers, read back and shown.
 *
 * @module
 */

import * as z from "zod/mini";
import { formatSpan } from "../config/duration.ts";
import { UserError } from "../config/errors.ts";
import type { Exit } from "../process/child.ts";
import { STATUS, useColors } from "../terminal/palette.ts";
import { tableText } from "../terminal/table.ts";
import { formatUptime } from "../terminal/text.ts";

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

/** A status as a table with a line about the orchestrator itself below. */
export async function statusTable(answer: unknown): Promise<string> {
  const { pid, detached, startedAt, stopping, logs, memoryBytes, services } = readStatus(answer);
  const hue = useColors();
  const table = await tableText([
    ["Service", "Alias", "Status", "PID", "Port", "Uptime", "Restarts", "Last exit", "CPU", "Memory", ""],
    ...services.map((service) => [
      service.title,
      service.name,
      `${STATUS[service.state].mark} ${STATUS[service.state].label}`,
      `${service.pid ?? "-"}`,
      `${service.port ?? "-"}`,
      service.uptimeMs === null ? "-" : formatUptime(service.uptimeMs),
      `${service.restarts}`,
      service.lastExit === null ? "-" : showExit(service.lastExit),
      service.cpuMs === null ? "-" : formatSpan(service.cpuMs),
      formatMemory(service.memoryBytes),
      service.note,
    ]),
  ]);
  const painted = table.split("\n").map((line, index) => {
    const state = index === 0 ? null : STATUS[services[index - 1].state];
    return hue && state !== null ? line.replace(`${state.mark} ${state.label}`, state.paint) : line;
  });
  const facts = [
    `PID ${pid}`,
    detached ? "in the background" : "in the foreground",
    `since ${startedAt}`,
    `${formatMemory(memoryBytes)}`,
    ...(logs === null ? [] : [`logs in ${logs}`]),
    ...(stopping ? ["being stopped"] : []),
  ];
  return [...painted, "", `orchestrator: ${facts.join(", ")}`].join("\n");
}

function formatMemory(bytes: number | null): string {
  return bytes === null ? "-" : `${(bytes / 1_048_576).toFixed(1)} MiB`;
}

/** An exit as short as a column wants it: a signal says nothing about who sent it, which may have been us. */
function showExit(exit: Exit): string {
  return exit.kind === "exited" ? `status ${exit.code}` : exit.signal;
}
