/**
 * The commands that talk to the orchestrator which runs in a folder: most of them send it one request.
 *
 * @module
 */

import { systemClock } from "../config/clock.ts";
import type { Given } from "../config/command.ts";
import { formatSpan } from "../config/duration.ts";
import type { Home } from "../config/settings.ts";
import { findHome } from "../config/settings.ts";
import { ask, findRun, lines, PAUSE_MS, reach, request } from "../control/client.ts";
import { conclude, Mirror, waitFor } from "../control/mirror.ts";
import type { ServiceStatus, Status } from "../control/protocol.ts";
import type { RunRecord } from "../control/run_folder.ts";
import type { RunOptions } from "../control/run_options.ts";
import type { Exit } from "../process/child.ts";
import { isSame } from "../process/procfs.ts";
import { STATUS } from "../terminal/messages.ts";
import { print } from "../terminal/outlet.ts";
import { formatUptime, tableText, useColors } from "../terminal/text.ts";
import { homeOptions, namesOf, show, waitLimitMs } from "./options.ts";

/** Nothing runs here: the exit status of a command that needs a run. */
const NOTHING_RUNS = 3;

/**
 * Finds the run of the folder and talks to it.
 *
 * @param absent what to do when nothing runs there; by default it is reported on stderr
 * @returns the exit status
 */
export async function withRun(
  given: Given,
  talk: (socket: string, record: RunRecord) => Promise<number>,
  absent: (home: Home) => number | Promise<number> = reportAbsence,
): Promise<number> {
  const home = findHome(homeOptions(given));
  const record = await findRun(home);
  return record === null ? absent(home) : await reach(record, (socket) => talk(socket, record));
}

function reportAbsence({ infrastructure }: Home): number {
  print(absence(infrastructure), Deno.stderr);
  return NOTHING_RUNS;
}

function absence(infrastructure: string): string {
  return `Nothing is running in ${infrastructure}. Start it with: orchestrator -d`;
}

/** Shows what runs. @returns 0 when all services run, 1 when one does not, 3 when nothing runs */
export function showStatus(given: Given): Promise<number> {
  return withRun(given, async (socket) => {
    const status = await ask(socket, "/status");
    await show(given, status, () => statusTable(status));
    return status.healthy ? 0 : 1;
  }, async ({ infrastructure }) => {
    await show(given, { running: false, infrastructure }, () => absence(infrastructure));
    return NOTHING_RUNS;
  });
}

/** The columns of a status: the heading of each with what it shows of a service. */
const COLUMNS: readonly (readonly [head: string, cell: (service: ServiceStatus) => string])[] = [
  ["Service", ({ title }) => title],
  ["Alias", ({ name }) => name],
  ["Status", ({ state }) => `${STATUS[state].mark} ${STATUS[state].label}`],
  ["PID", ({ pid }) => `${pid ?? "-"}`],
  ["Port", ({ port }) => `${port ?? "-"}`],
  ["Uptime", ({ uptimeMs }) => uptimeMs === null ? "-" : formatUptime(uptimeMs)],
  ["Restarts", ({ restarts }) => `${restarts}`],
  ["Last exit", ({ lastExit }) => lastExit === null ? "-" : showExit(lastExit)],
  ["CPU", ({ cpuMs }) => cpuMs === null ? "-" : formatSpan(cpuMs)],
  ["Memory", ({ memoryBytes }) => formatMemory(memoryBytes)],
  ["", ({ note }) => note],
];

/** A status as a table with a line about the orchestrator itself below. */
export async function statusTable(status: Status): Promise<string> {
  const { pid, detached, startedAt, stopping, logs, memoryBytes, services } = status;
  const cells = [
    COLUMNS.map(([head]) => head),
    ...services.map((row) => COLUMNS.map(([, cell]) => cell(row))),
  ];
  const colored = useColors();
  const paint = (cell: string, row: number, column: number) => {
    const service = services[row - 1]; // the headings come first
    return colored && service !== undefined && COLUMNS[column]?.[0] === "Status"
      ? STATUS[service.state].paint(cell)
      : cell;
  };
  const facts = [
    `PID ${pid}`,
    detached ? "in the background" : "in the foreground",
    `since ${startedAt}`,
    formatMemory(memoryBytes),
    ...(logs === null ? [] : [`logs in ${logs}`]),
    ...(stopping ? ["being stopped"] : []),
  ];
  return [await tableText(cells, paint), "", `orchestrator: ${facts.join(", ")}`].join("\n");
}

function formatMemory(bytes: number | null): string {
  return bytes === null ? "-" : `${(bytes / 1_048_576).toFixed(1)} MiB`;
}

/** An exit as short as a column wants it: a signal does not show who sent it, which may have been us. */
function showExit(exit: Exit): string {
  return exit.kind === "exited" ? `status ${exit.code}` : exit.signal;
}

/** Prints events, one JSON object a line, until the run ends. */
export function showEvents(given: Given): Promise<number> {
  return withRun(given, async (socket) => {
    for await (const line of lines(await request(socket, "GET", "/events"))) print(line);
    return 0;
  });
}

/**
 * Starts services in the orchestrator that runs, and waits until they do.
 *
 * @param asked their names
 * @returns the exit status, or `null` when none runs
 */
export async function startThere(
  options: RunOptions,
  asked: readonly string[],
  limitMs: number,
): Promise<number | null> {
  const record = await findRun(findHome(options));
  if (record === null) return null;
  return await reach(record, async (socket) => {
    using mirror = await Mirror.open(socket, 1_000);
    const { names } = await ask(socket, "/start", { names: asked });
    return await conclude(mirror, await waitFor(mirror, { names, goal: "running", asked, limitMs }));
  });
}

/** Restarts services and waits until they run. */
export function restart(given: Given): Promise<number> {
  const [asked, limitMs] = [namesOf(given), waitLimitMs(given)];
  return withRun(given, async (socket) => {
    using mirror = await Mirror.open(socket, 1_000);
    const { names } = await ask(socket, "/restart", {
      names: asked,
      dependents: given.has("with-dependents"),
      dependencies: given.has("with-dependencies"),
    });
    return await conclude(mirror, await waitFor(mirror, { names, goal: "restarted", asked, limitMs }));
  });
}

/** Stops services and waits until they have stopped. Where nothing runs, that is what was wanted: exit status 0. */
export function stop(given: Given): Promise<number> {
  const [names, limitMs] = [namesOf(given), waitLimitMs(given)];
  return withRun(given, async (socket, record) => {
    using mirror = await Mirror.open(socket, 0);
    if (names.length === 0) {
      await ask(socket, "/stop", {});
      return await waitForEnd(mirror, record, limitMs);
    }
    const stopped = await ask(socket, "/stop", { names });
    const result = await waitFor(mirror, { names: stopped.names, goal: "stopped", limitMs });
    // Nobody is left to keep running for: the end of the run is a stop, too.
    return result.kind === "exit" ? result.status ?? 1 : await conclude(mirror, result);
  }, (home) => {
    reportAbsence(home);
    return 0;
  });
}

/** Follows a run to its end, the last of its process included. */
async function waitForEnd(mirror: Mirror, record: RunRecord, limitMs: number): Promise<number> {
  const lateAt = performance.now() + limitMs;
  const result = await waitFor(mirror, { names: null, goal: "exited", limitMs });
  if (result.kind !== "exit") return await conclude(mirror, result);
  while (isSame(record.orchestrator, record.bootId) && performance.now() < lateAt) {
    await systemClock.sleep(PAUSE_MS);
  }
  print(`The orchestrator with PID ${record.orchestrator.pid} has stopped.`);
  return result.status ?? 1;
}

/** Has the services file and `.env` read again, and shows what changed, or would. */
export function reload(given: Given): Promise<number> {
  return withRun(given, async (socket) => {
    const { changes } = await ask(socket, "/reload", { dryRun: given.has("dry-run") });
    const { describeChanges } = await import("../control/reload.ts");
    await show(given, changes, () => describeChanges(changes).join("\n"));
    return 0;
  });
}

/** Has the orchestrator stop everything and start again as the same process. */
export function restartSelf(given: Given): Promise<number> {
  return withRun(given, async (socket, record) => {
    using mirror = await Mirror.open(socket, 0);
    await ask(socket, "/self-restart", {});
    const result = await waitFor(mirror, { names: null, goal: "exited" });
    if (result.kind === "exit" && result.restarting) {
      print(`The orchestrator with PID ${record.orchestrator.pid} is restarting.`);
      return 0;
    }
    print("orchestrator: It has stopped and was not started again.", Deno.stderr);
    return 1;
  });
}
