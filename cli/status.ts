/**
 * `orchestrator status`: what runs, as a table or as JSON.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { formatSpan } from "../config/duration.ts";
import { ask } from "../control/client.ts";
import type { Status } from "../control/protocol.ts";
import type { Exit } from "../process/child.ts";
import { print } from "../terminal/outlet.ts";
import { STATUS, useColors } from "../terminal/palette.ts";
import { tableText } from "../terminal/table.ts";
import { formatUptime } from "../terminal/text.ts";
import { absence, NOTHING_RUNS, withRun } from "./with_run.ts";

/** Shows what runs. @returns 0 when all services run, 1 when one does not, 3 when nothing runs */
export function run(given: Given): Promise<number> {
  return withRun(given, async ({ socket }) => {
    const status = await ask(socket, "/status");
    print(given.has("json") ? JSON.stringify(status, null, 2) : await statusTable(status));
    return status.healthy ? 0 : 1;
  }, ({ infrastructure }) => {
    print(
      given.has("json")
        ? JSON.stringify({ running: false, infrastructure }, null, 2)
        : absence(infrastructure),
    );
    return NOTHING_RUNS;
  });
}

/** A status as a table with a line about the orchestrator itself below. */
export async function statusTable(status: Status): Promise<string> {
  const { pid, detached, startedAt, stopping, logs, memoryBytes, services } = status;
  const colored = useColors();
  const heads = [
    "Service",
    "Alias",
    "Status",
    "PID",
    "Port",
    "Uptime",
    "Restarts",
    "Last exit",
    "CPU",
    "Memory",
    "",
  ];
  const rows = services.map((service) => [
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
  ]);
  const paint = (cell: string, row: number, column: number) => {
    const service = services[row - 1]; // the headings come first
    return colored && service !== undefined && heads[column] === "Status"
      ? STATUS[service.state].paint(cell)
      : cell;
  };
  const facts = [
    `PID ${pid}`,
    detached ? "in the background" : "in the foreground",
    `since ${startedAt}`,
    `${formatMemory(memoryBytes)}`,
    ...(logs === null ? [] : [`logs in ${logs}`]),
    ...(stopping ? ["being stopped"] : []),
  ];
  return [await tableText([heads, ...rows], paint), "", `orchestrator: ${facts.join(", ")}`].join("\n");
}

function formatMemory(bytes: number | null): string {
  return bytes === null ? "-" : `${(bytes / 1_048_576).toFixed(1)} MiB`;
}

/** An exit as short as a column wants it: a signal says nothing about who sent it, which may have been us. */
function showExit(exit: Exit): string {
  return exit.kind === "exited" ? `status ${exit.code}` : exit.signal;
}
