/**
 * The panel as lines of text: pure, made of a snapshot and a size.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import type { ServiceSnapshot, Snapshot } from "../supervisor/model.ts";
import { isAtRest } from "../supervisor/model.ts";
import { describeState, namePrefix, prefixPaint, STATUS } from "./messages.ts";
import type { Size } from "./text.ts";
import { displayWidth, fit, formatUptime, oneLine } from "./text.ts";

/** What someone at the terminal has chosen to see. */
export interface Choices {
  /** The service the keys act on. */
  selected: string | null;
  /** The only service whose lines are streamed, or `null` for all. */
  narrowed: string | null;
  /** Whether the keys are explained. */
  help: boolean;
}

interface Column {
  name: string;
  heading: string;
  cell(service: ServiceSnapshot, at: number): string;
}

const COLUMNS: readonly Column[] = [
  { name: "service", heading: "Service", cell: ({ title }) => title },
  { name: "alias", heading: "Alias", cell: ({ name }) => name },
  {
    name: "status",
    heading: "Status",
    cell: ({ state }) => `${STATUS[state.kind].mark} ${STATUS[state.kind].label}`,
  },
  { name: "pid", heading: "PID", cell: ({ state }) => `${("pid" in state ? state.pid : null) ?? "-"}` },
  { name: "port", heading: "Port", cell: ({ port }) => `${port ?? "-"}` },
  {
    name: "uptime",
    heading: "Uptime",
    cell: ({ state }, at) => "pid" in state && state.pid !== null ? formatUptime(at - state.since) : "-",
  },
  { name: "note", heading: "", cell: describeState },
];

/** Which column goes first when the terminal is narrow. The name and the status stay. */
const DROPPED_FIRST = ["note", "pid", "service", "port", "uptime"];

/** The fewest columns to which a note is cut; it is dropped where there are less. */
const LEAST_NOTE = 12;

/** The fewest rows and columns at which the panel is more than one line. */
const SMALLEST: Size = { rows: 10, columns: 40 };

const TITLE = " Nord City Orchestrator ";

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

/**
 * The panel below the log stream: lines of exactly the screen's width at most, never more than its height allows.
 *
 * @param hint stands at the bottom while nothing more urgent does
 */
export function dashboard(snapshot: Snapshot, screen: Size, choices: Choices, hint: string): string[] {
  if (screen.rows < 3 || screen.columns < 1) return []; // all of it for the stream
  if (screen.rows < SMALLEST.rows || screen.columns < SMALLEST.columns) {
    return [colors.bold(fit(statusLine(snapshot), screen.columns))];
  }

  const { services } = snapshot;
  const width = Math.min(screen.columns, 120);
  const inner = width - 4; // a border and a blank on both sides
  const tallest = Math.max(Math.floor(screen.rows * 0.6), SMALLEST.rows - 3);
  const side = colors.gray("│");
  const frame = (text: string) => `${side} ${text} ${side}`;

  const hints = choices.help ? keyLines(inner) : [hintText(snapshot, choices, hint)];
  const fixed = 3 + hints.length; // two borders, the headings
  const shown = visible(services, tallest - fixed, choices.selected);
  const table = tableLines(shown, snapshot.at, inner, choices.selected);
  const hidden = services.filter((service) => !shown.includes(service));
  if (hidden.length > 0) table.push(colors.gray(fit(summary(hidden), inner)));

  const spare = tallest - fixed - table.length + 1 - 2; // the headings count in both; a blank line and a title
  const names = services.map(({ name }) => name);
  const logs = recentLogs(services, Math.max(0, spare)).map(({ name, line }) => {
    const prefix = namePrefix(name, names);
    return `${prefixPaint(name, names)(prefix)} ${fit(line, inner - displayWidth(prefix) - 1)}`;
  });

  const left = Math.floor((width - 2 - TITLE.length) / 2);
  const top = `╭${"─".repeat(left)}`;
  const topEnd = `${"─".repeat(width - 2 - TITLE.length - left)}╮`;
  return [
    colors.gray(top) + colors.bold(TITLE) + colors.gray(topEnd),
    ...table.map((text, index) => {
      const name = shown[index - 1]?.name; // the headings come first
      return name !== undefined && name === choices.selected ? `${side}›${text} ${side}` : frame(text);
    }),
    ...(logs.length > 0 ? ["", "Recent logs:"] : []).map((text) => frame(fit(text, inner))),
    ...logs.map(frame),
    ...hints.map((text) => {
      const before = " ".repeat(Math.max(0, Math.floor((inner - displayWidth(text)) / 2)));
      return frame(colors.gray(fit(before + text, inner)));
    }),
    colors.gray(`╰${"─".repeat(width - 2)}╯`),
  ];
}

/** The keys on as many lines as they need. */
function keyLines(columns: number): string[] {
  const [first = "", ...others] = KEYS;
  const lines = [first];
  for (const key of others) {
    const longer = `${lines.at(-1)} · ${key}`;
    if (displayWidth(longer) <= columns) lines[lines.length - 1] = longer;
    else lines.push(key);
  }
  return lines;
}

function hintText({ stopping, services }: Snapshot, { narrowed }: Choices, hint: string): string {
  if (!stopping) return narrowed === null ? hint : `Only lines of ${narrowed}; Esc shows all`;
  const names = services.filter(({ state }) => !isAtRest(state)).map(({ name }) => name);
  return names.length > 0 ? `Stopping, waiting for ${names.join(", ")}; Ctrl+C kills` : "Stopped";
}

/** One line about all of them. */
function statusLine({ services }: Snapshot): string {
  const marks = services.map(({ name, state }) => `${name} ${STATUS[state.kind].mark}`);
  const running = services.filter(({ state }) => state.kind === "running").length;
  return `${running}/${services.length} running  ${marks.join("  ")}`;
}

/** The services for which there is room, with the selected one among them. */
function visible(
  services: readonly ServiceSnapshot[],
  room: number,
  selected: string | null,
): readonly ServiceSnapshot[] {
  if (services.length <= room) return services;
  const count = Math.max(1, room - 1); // a line counts those that are not shown
  const last = Math.max(services.findIndex(({ name }) => name === selected) + 1, count);
  return services.slice(last - count, last);
}

/** `… and 191 more: 190 RUNNING, 1 CRASHED` */
function summary(hidden: readonly ServiceSnapshot[]): string {
  const byLabel = Map.groupBy(hidden, ({ state }) => STATUS[state.kind].label);
  const counts = Array.from(byLabel, ([label, { length }]) => `${length} ${label}`);
  return `… and ${hidden.length} more: ${counts.join(", ")}`;
}

/** The headings, and a line for each service. */
function tableLines(
  services: readonly ServiceSnapshot[],
  at: number,
  columns: number,
  selected: string | null,
): string[] {
  let kept = COLUMNS.map(({ name, heading, cell }) => {
    const cells = services.map((service) => oneLine(cell(service, at)));
    return { name, heading, cells, width: Math.max(...[heading, ...cells].map(displayWidth)) };
  }).filter(({ width }) => width > 0);
  const excess = () => kept.reduce((sum, { width }) => sum + width + 2, -2) - columns;
  for (const name of DROPPED_FIRST) {
    if (excess() <= 0) break;
    const width = kept.find((column) => column.name === name)?.width ?? 0;
    if (name === "note" && width - excess() >= LEAST_NOTE) break;
    kept = kept.filter((column) => column.name !== name);
  }
  let left = columns;
  for (const column of kept) {
    column.width = Math.max(0, Math.min(column.width, left));
    left -= column.width + 2;
  }
  const line = (texts: readonly string[]) => texts.join("  ") + " ".repeat(Math.max(0, left + 2));
  return [
    colors.bold(line(kept.map(({ heading, width }) => fit(heading, width)))),
    ...services.map((service, index) =>
      line(kept.map(({ name, cells, width }, place) => {
        const text = fit(cells[index] ?? "", width);
        if (name === "status") return STATUS[service.state.kind].paint(text);
        return place === 0 && service.name === selected ? colors.inverse(text) : text;
      }))
    ),
  ];
}

/** At most `room` recent lines, three a service: every service's last line comes before another's second. */
function recentLogs(services: readonly ServiceSnapshot[], room: number): { name: string; line: string }[] {
  const chosen = [1, 2, 3].flatMap((count) => services.filter(({ recent }) => recent.length >= count))
    .slice(0, room);
  return services.flatMap((service) => {
    const { name, recent } = service;
    const count = chosen.filter((other) => other === service).length;
    return recent.slice(recent.length - count).map((line) => ({ name, line: oneLine(line) }));
  });
}
