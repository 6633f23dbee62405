/**
 * The panel as lines of text: pure, made of a snapshot and a size.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import type { ServiceSnapshot, ServiceState, Snapshot } from "../supervisor/model.ts";
import { isAtRest } from "../supervisor/model.ts";
import { describeState } from "./messages.ts";
import type { Paint } from "./palette.ts";
import { namePrefix, prefixPaint, STATUS } from "./palette.ts";
import type { Viewport } from "./text.ts";
import { centre, fit, formatUptime, oneLine } from "./text.ts";

/** What the user has chosen to see. */
export interface PanelState {
  /** The service the keys act on. */
  selected: string | null;
  /** The only service whose lines are streamed, or `null` for all. */
  narrowed: string | null;
  /** Whether the keys are explained. */
  help: boolean;
  colors: boolean;
  /** Stands in place of how to stop everything. */
  hint?: string | undefined;
}

interface Column {
  heading: string;
  cell(row: ServiceSnapshot, at: number): string;
}

function pidOf(state: ServiceState): number | null {
  return state.kind === "starting" || state.kind === "running" || state.kind === "stopping"
    ? state.pid
    : null;
}

const COLUMNS = {
  service: { heading: "Service", cell: (row) => row.title },
  alias: { heading: "Alias", cell: (row) => row.name },
  status: {
    heading: "Status",
    cell: (row) => `${STATUS[row.state.kind].mark} ${STATUS[row.state.kind].label}`,
  },
  pid: { heading: "PID", cell: (row) => `${pidOf(row.state) ?? "-"}` },
  port: { heading: "Port", cell: (row) => `${row.port ?? "-"}` },
  uptime: {
    heading: "Uptime",
    cell: ({ state }, at) =>
      pidOf(state) === null || !("since" in state) ? "-" : formatUptime(at - state.since),
  },
  note: { heading: "", cell: describeState },
} satisfies Record<string, Column>;

/** Which column goes first when the terminal is narrow. The name and the status stay. */
const DROPPED_FIRST = ["note", "pid", "service", "port", "uptime"] as const;

/** The fewest rows and columns at which the panel is more than one line. */
const SMALLEST = { rows: 10, columns: 40 };

/** The panel below the log stream: lines of exactly the screen's width at most, never more than its height allows. */
export function dashboard(snapshot: Snapshot, screen: Viewport, look: PanelState): string[] {
  const paint = (with_: Paint, text: string) => look.colors ? with_(text) : text;
  const { widthOf } = screen;
  if (screen.rows < 3 || screen.columns < 1) return []; // all of it for the stream
  if (screen.rows < SMALLEST.rows || screen.columns < SMALLEST.columns) {
    return [statusLine(snapshot, screen, look)];
  }

  const width = Math.min(screen.columns, 120);
  const inner = width - 4; // a border and a blank on both sides
  const tallest = Math.max(Math.floor(screen.rows * 0.6), SMALLEST.rows - 3);
  const side = paint(colors.gray, "│");
  const frame = (text: string) => `${side} ${text} ${side}`;

  const hints = hintLines(snapshot, look, inner, widthOf);
  const fixed = 3 + hints.length; // two borders, the headings
  const { shown, hidden } = window(snapshot.services, tallest - fixed, look.selected);
  const table = tableLines(shown, snapshot.at, inner, widthOf, paint, look.selected);
  if (hidden.length > 0) table.push(paint(colors.gray, fit(summary(hidden), inner, widthOf)));

  const spare = tallest - fixed - table.length + 1 - 2; // the headings count in both; a blank line and a title
  const names = snapshot.services.map(({ name }) => name);
  const logs = recentLogs(snapshot.services, Math.max(0, spare)).map(({ name, line }) => {
    const prefix = paint(prefixPaint(name, names), namePrefix(name, names, widthOf));
    return `${prefix} ${fit(line, inner - widthOf(prefix) - 1, widthOf)}`;
  });

  const title = " Nord City Orchestrator ";
  const left = Math.floor((width - 2 - title.length) / 2);
  const top = `╭${"─".repeat(left)}`;
  const topEnd = `${"─".repeat(width - 2 - title.length - left)}╮`;
  return [
    paint(colors.gray, top) + paint(colors.bold, title) + paint(colors.gray, topEnd),
    ...table.map((text, index) => {
      const name = shown[index - 1]?.name; // the headings come first
      return name !== undefined && name === look.selected ? `${side}›${text} ${side}` : frame(text);
    }),
    ...(logs.length > 0 ? ["", "Recent logs:"].map((text) => fit(text, inner, widthOf)) : []).map(frame),
    ...logs.map(frame),
    ...hints.map((line) => frame(paint(colors.gray, centre(line, inner, widthOf)))),
    paint(colors.gray, `╰${"─".repeat(width - 2)}╯`),
  ];
}

const KEYS = [
  "↑↓ choose",
  "Enter only its lines",
  "Esc all lines",
  "r restart",
  "s stop",
  "S start",
  "q stop all",
  "? hide",
];

/** What stands at the bottom of the panel: the keys, or what is going on. */
function hintLines(
  snapshot: Snapshot,
  look: PanelState,
  columns: number,
  widthOf: Viewport["widthOf"],
): string[] {
  if (!look.help) return [hintText(snapshot, look)];
  const [first = "", ...others] = KEYS;
  const lines = [first];
  for (const key of others) {
    const longer = `${lines.at(-1)} · ${key}`;
    if (widthOf(longer) <= columns) lines[lines.length - 1] = longer;
    else lines.push(key);
  }
  return lines;
}

function hintText(snapshot: Snapshot, look: PanelState): string {
  if (snapshot.stopping) {
    const names = snapshot.services.filter(({ state }) => !isAtRest(state)).map(({ name }) => name);
    return names.length > 0 ? `Stopping, waiting for ${names.join(", ")}; Ctrl+C kills` : "Stopped";
  }
  return look.narrowed === null
    ? look.hint ?? "Ctrl+C to stop all services"
    : `Only lines of ${look.narrowed}; Esc shows all`;
}

/** One line about all of them. */
function statusLine(snapshot: Snapshot, screen: Viewport, look: PanelState): string {
  const parts = snapshot.services.map(({ name, state }) => `${name} ${STATUS[state.kind].mark}`);
  const well = snapshot.services.filter(({ state }) => state.kind === "running").length;
  const line = fit(
    `${well}/${snapshot.services.length} running  ${parts.join("  ")}`,
    screen.columns,
    screen.widthOf,
  );
  return look.colors ? colors.bold(line) : line;
}

/** The rows that fit, with the chosen one among them. */
function window(
  rows: readonly ServiceSnapshot[],
  room: number,
  selected: string | null,
): { shown: readonly ServiceSnapshot[]; hidden: readonly ServiceSnapshot[] } {
  if (rows.length <= room) return { shown: rows, hidden: [] };
  const count = Math.max(1, room - 1); // a line counts those that are not shown
  const chosen = rows.findIndex(({ name }) => name === selected);
  const first = Math.min(Math.max(0, chosen - count + 1), rows.length - count);
  return {
    shown: rows.slice(first, first + count),
    hidden: [...rows.slice(0, first), ...rows.slice(first + count)],
  };
}

/** `… and 191 more: 190 RUNNING, 1 CRASHED` */
function summary(hidden: readonly ServiceSnapshot[]): string {
  const counts = new Map<string, number>();
  for (const { state } of hidden) {
    const { label } = STATUS[state.kind];
    counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const parts = [...counts].map(([label, count]) => `${count} ${label}`);
  return `… and ${hidden.length} more: ${parts.join(", ")}`;
}

function tableLines(
  rows: readonly ServiceSnapshot[],
  at: number,
  width: number,
  widthOf: Viewport["widthOf"],
  paint: (with_: Paint, text: string) => string,
  selected: string | null,
): string[] {
  const names = Object.keys(COLUMNS) as (keyof typeof COLUMNS)[];
  const cells = new Map(names.map((name) => [name, rows.map((row) => oneLine(COLUMNS[name].cell(row, at)))]));
  const natural = (name: keyof typeof COLUMNS) =>
    Math.max(widthOf(COLUMNS[name].heading), ...cells.get(name)!.map(widthOf));
  let kept = names.filter((name) => name !== "note" || natural(name) > 0);
  const needed = () => kept.reduce((sum, name) => sum + natural(name) + 2, -2);
  for (const name of DROPPED_FIRST) {
    if (needed() <= width) break;
    // A note is cut rather than dropped while something of it can be read.
    if (name === "note" && kept.includes("note") && needed() - natural("note") + 12 <= width) break;
    kept = kept.filter((other) => other !== name);
  }
  const line = (
    cell: (name: keyof typeof COLUMNS) => string,
    style: (text: string, name: string) => string,
  ) => {
    let used = 0;
    const text = kept.map((name) => {
      const columns = Math.max(0, Math.min(natural(name), width - used));
      used += columns + 2;
      return style(fit(cell(name), columns, widthOf), name);
    }).join("  ");
    return text + " ".repeat(Math.max(0, width - widthOf(text)));
  };
  return [
    paint(colors.bold, line((name) => COLUMNS[name].heading, (text) => text)),
    ...rows.map((row, index) =>
      line((name) => cells.get(name)?.[index] ?? "", (text, name) => {
        if (name === "status") return paint(STATUS[row.state.kind].paint, text);
        return name === kept[0] && row.name === selected ? paint(colors.inverse, text) : text;
      })
    ),
  ];
}

/** At most `room` recent lines, three a service: every service's last line comes before another's second. */
function recentLogs(rows: readonly ServiceSnapshot[], room: number): { name: string; line: string }[] {
  const counts = rows.map(() => 0);
  let left = room;
  for (let round = 1; round <= 3; round++) {
    rows.forEach((row, index) => {
      if (left === 0 || row.recent.length < round) return;
      counts[index] = round;
      left--;
    });
  }
  return rows.flatMap((row, index) =>
    row.recent.slice(row.recent.length - (counts[index] ?? 0)).map((line) => ({
      name: row.name,
      line: oneLine(line),
    }))
  );
}
