/**
 * Events and states in words and colours.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import { formatSpan } from "../config/duration.ts";
import { Tail } from "../process/lines.ts";
import type { Level } from "../config/levels.ts";
import type { Event, RunResult, ServiceSnapshot, ServiceState, StateEvent } from "../supervisor/model.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import { displayWidth, stripControl, useColors } from "./text.ts";

type Paint = (text: string) => string;

/** How each state is shown; `docs/supervision.md` shows what moves a service between them. */
export const STATUS: Record<ServiceState["kind"], { mark: string; label: string; paint: Paint }> = {
  pending: { mark: "⏳", label: "PENDING", paint: colors.gray },
  starting: { mark: "🔄", label: "STARTING", paint: colors.yellow },
  running: { mark: "●", label: "RUNNING", paint: colors.green },
  stopping: { mark: "◌", label: "STOPPING", paint: colors.yellow },
  restarting: { mark: "↻", label: "RESTARTING", paint: colors.yellow },
  stopped: { mark: "○", label: "STOPPED", paint: colors.gray },
  crashed: { mark: "✖", label: "CRASHED", paint: colors.red },
  failed: { mark: "✖", label: "FAILED", paint: colors.red },
};

/** The colours of services' prefixes, in turn. */
const PREFIX_PAINTS: readonly Paint[] = [
  colors.cyan,
  colors.magenta,
  colors.blue,
  colors.green,
  colors.yellow,
];

/** What stands before each line of a service: `[  db]`, as wide as the longest of `names`. */
export function namePrefix(name: string, names: readonly string[]): string {
  const widest = Math.max(...names.map(displayWidth));
  return `[${" ".repeat(Math.max(0, widest - displayWidth(name)))}${name}]`;
}

/** The colour of a service's prefix by its place among all; the orchestrator's own is bold. */
export function prefixPaint(name: string, names: readonly string[]): Paint {
  return PREFIX_PAINTS[names.indexOf(name) % PREFIX_PAINTS.length] ?? colors.bold;
}

/** What a table shows of a state besides its name, or nothing. */
export function describeState({ state, kind, maxRetries }: ServiceSnapshot, at: number): string {
  switch (state.kind) {
    case "pending":
      return state.waitingFor.length > 0 ? `waits for ${state.waitingFor.join(", ")}` : "";
    case "restarting": {
      const inText = `in ${Math.max(0, Math.round((state.retryAt - at) / 1_000))} s`;
      return state.attempt > 0 ? `${inText}, attempt ${state.attempt} of ${maxRetries}` : inText;
    }
    case "stopping":
      return state.killAt === Infinity
        ? "SIGKILL sent"
        : `SIGKILL in ${Math.max(0, Math.ceil((state.killAt - at) / 1_000))} s`;
    case "crashed":
    case "failed":
      return state.reason;
    case "running":
      return state.restarts > 0 ? `restarted ${state.restarts}x` : "";
    case "stopped":
      return kind === "task" && state.lastExit !== null ? "done" : "";
    case "starting":
      return "";
  }
}

/** The message for a change of state, or `null` when it needs none. */
export function describeChange({ row, from, at }: StateEvent): { level: Level; message: string } | null {
  const { name, kind, port, state: to } = row;
  const as = (level: Level, message: string) => ({ level, message });
  const span = "since" in from ? formatSpan(at - from.since) : "";
  const ran = span === "" ? "" : ` (ran for ${span})`;
  switch (to.kind) {
    case "starting":
      return as("debug", `${name} is starting`);
    case "running": {
      if (kind === "external") {
        return as("info", `${name} is available${span === "" ? "" : ` after ${span}`}`);
      }
      const facts = [to.pid === null ? "" : `PID ${to.pid}`, port === null ? "" : `port ${port}`].filter(
        Boolean,
      );
      return as("info", `${name} is running${facts.length > 0 ? ` (${facts.join(", ")})` : ""}`);
    }
    case "stopping":
      if (to.then.kind === "failed") return as("warn", `${name} ${to.then.reason}; stopping it`);
      if (to.then.kind === "ended") {
        return as("warn", `${name} ended; stopping the processes that it left running`);
      }
      return as("info", `stopping ${name}`);
    case "stopped":
      if (kind === "external") return as("debug", `no longer waiting for ${name}`);
      if (from.kind === "pending") return as("info", `${name} is not started`);
      if (from.kind === "restarting") return as("info", `${name} is not restarted`);
      return as("info", `${name} ${kind === "task" ? "finished" : "stopped"}${ran}`);
    case "restarting":
      return as("warn", `${name} ${to.reason}; restarting ${describeState(row, at)}`);
    case "crashed":
    case "failed":
      return as("error", `${name} ${to.reason}`);
    case "pending":
      return from.kind === "stopping" ? as("info", `${name} stopped${ran} and is restarting`) : null;
  }
}

/** What a view of lines shows of an event, or `null` when that is nothing. */
export function shownMessage(event: Exclude<Event, { kind: "output" }>): string | null {
  if (event.kind === "services") return null;
  const described = event.kind === "log" ? event : describeChange(event);
  return described === null || described.level === "debug" ? null : described.message;
}

/** The last `count` lines, and those before them that belong to the same traceback. */
function lastWithTraceback(lines: readonly string[], count: number): readonly string[] {
  const from = Math.max(0, lines.length - count);
  let start = from;
  const isLink = (line = "") => /^(During handling of|The above exception)/.test(line);
  for (let index = from; index >= 0; index--) {
    const line = lines[index] ?? "";
    const inside = /^(\s|$)/.test(line) || isLink(line) || isLink(lines[index + 2]);
    if (/Traceback \(most recent call last\):$/.test(line)) start = index;
    else if (!inside && index !== from) break;
  }
  return lines.slice(start);
}

/** What is printed last when a service brought the run to its end. */
export function crashCard(row: ServiceSnapshot, lines: readonly string[], color: boolean): string[] {
  const { state, title, name } = row;
  if (state.kind !== "crashed" && state.kind !== "failed") return [];
  const red = (text: string) => color ? colors.red(text) : text;
  const ran = state.ranMs > 0 ? `, after running for ${formatSpan(state.ranMs)}` : "";
  const shown = lastWithTraceback(lines, 20)
    .map((line) => `  ${red("│")} ${stripControl(line, color)}${color ? "\x1b[0m" : ""}`);
  return [
    red(`✖ ${title} [${name}] ${state.reason.replace(/\.$/, "")}${ran}.`),
    ...shown.length > 0 ? [`Its last ${shown.length === 1 ? "line" : `${shown.length} lines`}:`] : [],
    ...shown,
  ];
}

/** What a run reports at its end. */
export function finalMessages(result: RunResult, supervisor: Supervisor): string[] {
  const card = result.failedService === null ? [] : crashCard(
    result.failedService,
    supervisor.tail(result.failedService.name, Tail.KEPT_LINES),
    useColors(),
  );
  const left = supervisor.snapshot().services.filter(({ state }) => state.kind === "pending");
  const blocked = result.status === 1 && result.failedService === null
    ? left.map((row) => `${row.name} was not started: it ${describeState(row, 0)}`)
    : [];
  return [...result.remaining, ...blocked, ...card];
}
