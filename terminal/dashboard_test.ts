// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
// @ts-types="../config/std.d.ts"
import * as colors from "@std/fmt/colors";
import widthOf from "string-width";
import type { History, ServiceSnapshot, ServiceState, Snapshot } from "../supervisor/model.ts";
import type { Choices } from "./dashboard.ts";
import { dashboard } from "./dashboard.ts";
import { describeState, STATUS } from "./messages.ts";
import { loadMeasure, stripControl } from "./text.ts";

await loadMeasure();

const PAST: History = { failures: [], restarts: 0, lastExit: null };
const NONE: Choices = { selected: null, narrowed: null, help: false };

/** A row whose service has run since the moment 0. */
function row(name: string, fields: Partial<ServiceSnapshot> = {}): ServiceSnapshot {
  return {
    name,
    title: name,
    kind: "service",
    port: null,
    maxRetries: 3,
    state: { ...PAST, kind: "running", pid: 12345, since: 0 },
    recent: [],
    ...fields,
  };
}

/** The document's three services, five minutes after their start. */
function nordCity(recent: (name: string) => string[] = () => []): Snapshot {
  const state = (pid: number, since: number): ServiceState => ({ ...PAST, kind: "running", pid, since });
  return {
    at: 323_000,
    stopping: false,
    services: [
      row("db", { title: "Database Service", port: 8001, state: state(12345, 0), recent: recent("db") }),
      row("web", { title: "Web Service", port: 8003, state: state(12346, 2_000), recent: recent("web") }),
      row("bot", { title: "Bot Service", state: state(12347, 4_000), recent: recent("bot") }),
    ],
  };
}

const threeEach = (name: string) => [1, 2, 3].map((line) => `${name} line ${line}`);

/** The panel as it is without colours. */
function panel(
  snapshot: Snapshot,
  columns: number,
  rows: number,
  choices: Partial<Choices> = {},
  hint = "Ctrl+C to stop all services",
): string[] {
  colors.setColorEnabled(false);
  return dashboard(snapshot, { columns, rows }, { ...NONE, ...choices }, hint);
}

/** The panel as it is with colours. */
function painted(
  snapshot: Snapshot,
  columns: number,
  rows: number,
  choices: Partial<Choices> = {},
): string[] {
  colors.setColorEnabled(true);
  return dashboard(snapshot, { columns, rows }, { ...NONE, ...choices }, "Ctrl+C to stop all services");
}

Deno.test("the panel is the document's", () => {
  const logs: Record<string, string[]> = {
    db: ["2026-02-09 12:00:00 - INFO - Database connected"],
    web: ["2026-02-09 12:00:01 - INFO - Web service started"],
    bot: ["2026-02-09 12:00:02 - INFO - Bot polling started"],
  };
  assertEquals(panel(nordCity((name) => logs[name]!), 66, 24), [
    "╭──────────────────── Nord City Orchestrator ────────────────────╮",
    "│ Service           Alias  Status     PID    Port  Uptime        │",
    "│ Database Service  db     ● RUNNING  12345  8001  00:05:23      │",
    "│ Web Service       web    ● RUNNING  12346  8003  00:05:21      │",
    "│ Bot Service       bot    ● RUNNING  12347  -     00:05:19      │",
    "│                                                                │",
    "│ Recent logs:                                                   │",
    "│ [ db] 2026-02-09 12:00:00 - INFO - Database connected          │",
    "│ [web] 2026-02-09 12:00:01 - INFO - Web service started         │",
    "│ [bot] 2026-02-09 12:00:02 - INFO - Bot polling started         │",
    "│                  Ctrl+C to stop all services                   │",
    "╰────────────────────────────────────────────────────────────────╯",
  ]);
});

const STATES: Record<ServiceState["kind"], ServiceState> = {
  pending: { ...PAST, kind: "pending", waitingFor: ["db", "web"] },
  starting: { ...PAST, kind: "starting", pid: 7, since: 1_000, readyBy: 30_000 },
  running: { ...PAST, kind: "running", pid: 7, since: 1_000, restarts: 2 },
  stopping: { ...PAST, kind: "stopping", pid: 7, since: 1_000, killAt: 9_400, then: { kind: "stopped" } },
  restarting: { ...PAST, kind: "restarting", attempt: 2, retryAt: 4_100, reason: "exited with status 1" },
  stopped: { ...PAST, kind: "stopped" },
  crashed: {
    ...PAST,
    kind: "crashed",
    exit: { kind: "exited", code: 3 },
    ranMs: 50,
    reason: "exited with status 3",
  },
  failed: { ...PAST, kind: "failed", exit: null, ranMs: 0, reason: "port 80 is taken" },
};

for (
  const [kind, shown, colour] of [
    ["pending", "⏳ PENDING", 90],
    ["starting", "🔄 STARTING", 33],
    ["running", "● RUNNING", 32],
    ["stopping", "◌ STOPPING", 33],
    ["restarting", "↻ RESTARTING", 33],
    ["stopped", "○ STOPPED", 90],
    ["crashed", "✖ CRASHED", 31],
    ["failed", "✖ FAILED", 31],
  ] as const
) {
  Deno.test(`a service that is ${kind} is shown as ${shown}`, () => {
    const snapshot = { at: 3_000, stopping: false, services: [row("a", { state: STATES[kind] })] };
    assertStringIncludes(panel(snapshot, 80, 24).join("\n"), ` ${shown} `);
    assertStringIncludes(painted(snapshot, 80, 24).join("\n"), `\x1b[${colour}m${shown}`);
    assertEquals(STATUS[kind].mark, shown.split(" ")[0]);
  });
}

for (
  const [kind, note] of [
    ["pending", "waits for db, web"],
    ["starting", ""],
    ["running", "restarted 2x"],
    ["stopping", "SIGKILL in 7 s"],
    ["restarting", "in 1 s, attempt 2 of 3"],
    ["stopped", ""],
    ["crashed", "exited with status 3"],
    ["failed", "port 80 is taken"],
  ] as const
) {
  Deno.test(`of a service that is ${kind} the panel notes ${note || "nothing"}`, () => {
    const one = row("a", { state: STATES[kind] });
    assertEquals(describeState(one, 3_000), note);
    const whole = panel({ at: 3_000, stopping: false, services: [one] }, 120, 24).join("\n");
    if (note !== "") assertStringIncludes(whole, note);
  });
}

const MANY = Array.from({ length: 200 }, (_, index) => row(`service-${index}`, { recent: ["up"] }));
const STRANGE = [
  row("db", {
    title: "База данных",
    port: 5432,
    recent: ["подключено 🎉", "\t\x1b[2J\x1b[31mred\x1b[0m\x07"],
  }),
  row("веб", { title: "Веб 🚀", state: STATES.starting, recent: ["日本語の行".repeat(40), "👩‍👩‍👧‍👦 семья"] }),
  row("🤖", { title: "e\u0301 combining", state: STATES.pending, recent: [] }),
  row("a-rather-long-alias-for-a-service", {
    title: "x".repeat(300),
    state: STATES.failed,
    recent: ["x".repeat(5_000)],
  }),
];

const FAULTY = row("two", {
  state: { ...PAST, kind: "failed", exit: null, ranMs: 0, reason: "first line\nsecond \x1b[2J line" },
});

for (const [columns, rows] of [[40, 10], [60, 20], [80, 24], [81, 25], [120, 40], [250, 80]] as const) {
  for (
    const [what, snapshot] of [
      ["1 service", { at: 5_000, stopping: false, services: [row("a", { recent: ["hello"] })] }],
      ["3 services", nordCity(threeEach)],
      ["20 services", { at: 5_000, stopping: false, services: MANY.slice(0, 20) }],
      ["200 services", { at: 5_000, stopping: false, services: MANY }],
      ["wide names and control characters", { at: 5_000, stopping: false, services: STRANGE }],
      ["a fault of two lines", { at: 5_000, stopping: false, services: [FAULTY] }],
      ["services that stop", { at: 5_000, stopping: true, services: [row("a"), ...STRANGE] }],
    ] as const
  ) {
    Deno.test(`${what} make an upright panel on ${columns}x${rows}`, () => {
      for (
        const choices of [{}, { help: true }, { selected: snapshot.services.at(-1)!.name, narrowed: "a" }]
      ) {
        const lines = panel(snapshot, columns, rows, choices);
        assert(lines.length <= rows - 1, `${lines.length} lines leave nothing for the stream`);
        assertMatch(lines[0]!, /^╭─+ Nord City Orchestrator ─+╮$/);
        assertMatch(lines.at(-1)!, /^╰─+╯$/);
        for (const line of lines) {
          assertEquals(widthOf(line), Math.min(columns, 120), line);
          assert(!/[\x00-\x1f]/.test(line), JSON.stringify(line));
        }
        for (const line of lines.slice(1, -1)) assertMatch(line, /^│[ ›].* │$/);
        const coloured = painted(snapshot, columns, rows, choices);
        assertEquals(coloured.map((line) => stripControl(line)), lines, "colours change nothing else");
      }
    });
  }
}

Deno.test("columns line up below their headings, whatever is in them", () => {
  const lines = panel({ at: 5_000, stopping: false, services: STRANGE.slice(0, 3) }, 100, 30);
  const place = (line: string, text: string) => widthOf(line.slice(0, line.indexOf(text)));
  const [heading, ...rest] = lines.slice(1, 5);
  for (const [line, mark] of [[rest[0], "●"], [rest[1], "🔄"], [rest[2], "⏳"]]) {
    assertEquals(place(line!, mark!), place(heading!, "Status"), line);
  }
  assertEquals(place(rest[0]!, "5432"), place(heading!, "Port"));
  assertEquals(place(rest[1]!, "00:00:04"), place(heading!, "Uptime"));
});

Deno.test("a note too long for the panel is cut, its heading is not", () => {
  const state: ServiceState = {
    ...PAST,
    kind: "failed",
    exit: null,
    ranMs: 0,
    reason: "a reason ".repeat(20),
  };
  const lines = panel({ at: 0, stopping: false, services: [row("a", { state })] }, 80, 24);
  assert(!lines[1]!.includes("…"), lines[1]);
  assertMatch(lines[2]!, /a reason .*… │$/);
});

Deno.test("recent logs give way first, evenly; a quiet service keeps its own", () => {
  const snapshot = nordCity((name) => name === "bot" ? ["quiet"] : threeEach(name));
  const shownAt = (rows: number) =>
    panel(snapshot, 80, rows).filter((line) => /\[ *\w+\]/.test(line)).map((line) =>
      line.slice(2, -2).trim()
    );
  assertEquals(shownAt(40), [
    ...threeEach("db").map((line) => `[ db] ${line}`),
    ...threeEach("web").map((line) => `[web] ${line}`),
    "[bot] quiet",
  ]);
  assertEquals(shownAt(24), [
    "[ db] db line 2",
    "[ db] db line 3",
    "[web] web line 2",
    "[web] web line 3",
    "[bot] quiet",
  ]);
  assertEquals(shownAt(20), ["[ db] db line 3", "[web] web line 3", "[bot] quiet"]);
  assertEquals(shownAt(12), []);
  assertEquals(panel(snapshot, 80, 12).filter((line) => line.includes("RUNNING")).length, 3);
});

for (
  const [columns, headings] of [
    [80, ["Service", "Alias", "Status", "PID", "Port", "Uptime"]],
    [60, ["Alias", "Status", "Port", "Uptime"]],
    [40, ["Alias", "Status", "Port", "Uptime"]],
  ] as const
) {
  Deno.test(`a panel of ${columns} columns has the headings ${headings.join(", ")}`, () => {
    const wide = nordCity();
    const rows = wide.services.map((one) => ({ ...one, title: `${one.title} of the Nord City` }));
    const lines = panel({ ...wide, services: rows }, columns, 24);
    assertEquals(lines[1]!.slice(1, -1).trim().split(/ +/), [...headings]);
  });
}

for (const [columns, rows] of [[39, 24], [80, 9], [20, 5], [10, 3]] as const) {
  Deno.test(`${columns}x${rows} has room for a status line only`, () => {
    const lines = panel(nordCity(threeEach), columns, rows);
    assertEquals(lines.length, 1);
    assertEquals(widthOf(lines[0]!), columns);
    assertStringIncludes("3/3 running  db ●  web ●  bot ●", lines[0]!.trim().replace("…", ""));
  });
}

for (const [columns, rows] of [[80, 2], [80, 1], [0, 0]] as const) {
  Deno.test(`${columns}x${rows} has room for the stream only`, () => {
    assertEquals(panel(nordCity(threeEach), columns, rows), []);
  });
}

Deno.test("services that do not fit are counted, by what they do; the chosen one is always shown", () => {
  const rows = MANY.map((one, index) => index === 150 ? row("broken", { state: STATES.crashed }) : one);
  const snapshot = { at: 5_000, stopping: false, services: rows };
  const lines = panel(snapshot, 80, 24);
  assertStringIncludes(lines.join("\n"), "… and 191 more: 190 RUNNING, 1 CRASHED");
  assertStringIncludes(panel(snapshot, 80, 24, { selected: "service-123" }).join("\n"), "service-123 ");
});

Deno.test("the panel shows how to stop, whom it waits for, what is shown, and the keys", () => {
  const snapshot = nordCity();
  const hint = (text: string, at: Snapshot, choices: Partial<Choices> = {}, usual?: string) =>
    assertEquals(panel(at, 80, 24, choices, usual).at(-2)!.slice(1, -1).trim(), text);
  hint("Ctrl+C to stop all services", snapshot);
  hint("Ctrl+C to detach", snapshot, {}, "Ctrl+C to detach");
  hint("Only lines of web; Esc shows all", snapshot, { narrowed: "web" });
  hint("Stopping, waiting for db, web, bot; Ctrl+C kills", { ...snapshot, stopping: true });
  const stopped = snapshot.services.map((one) => ({ ...one, state: STATES.stopped }));
  hint("Stopped", { ...snapshot, stopping: true, services: stopped });
  for (const columns of [40, 80, 250]) {
    const keys = panel(snapshot, columns, 24, { help: true }).join("\n");
    for (
      const key of [
        "↑↓ choose",
        "Enter only its lines",
        "Esc all lines",
        "r restart",
        "s stop",
        "S start",
        "q stop all",
        "? hide",
      ]
    ) {
      assertStringIncludes(keys, key);
    }
  }
});

Deno.test("the chosen service stands out, without colours too", () => {
  const plain = panel(nordCity(), 80, 24, { selected: "web" });
  assertEquals(plain.filter((line) => line.startsWith("│›")).length, 1);
  assertStringIncludes(plain[3]!, "│›Web Service");
  assertStringIncludes(painted(nordCity(), 80, 24, { selected: "web" })[3]!, "\x1b[7mWeb Service");
});

Deno.test("a panel of 200 services is made in a few milliseconds", () => {
  const rows = MANY.map((one) => ({ ...one, recent: ["x".repeat(100_000), "日本語".repeat(1_000)] }));
  panel({ at: 0, stopping: false, services: rows }, 250, 80);
  const before = performance.now();
  for (let times = 0; times < 10; times++) panel({ at: 0, stopping: false, services: rows }, 250, 80);
  assert((performance.now() - before) / 10 < 100);
});
