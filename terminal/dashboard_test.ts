// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import widthOf from "string-width";
import { crashCard, describeChange, describeState } from "./messages.ts";
import { dashboard } from "./dashboard.ts";
import { fit, formatUptime, stripControl } from "./text.ts";
import type { History, ServiceSnapshot, ServiceState, Snapshot } from "../supervisor/model.ts";
import type { Key } from "./keys.ts";
import { KeyReader } from "./keys.ts";
import type { PanelState } from "./dashboard.ts";
import { STATUS } from "./palette.ts";

/** Colours can't be made where NO_COLOR is set; the tests on a terminal see them there, too. */
const CAN_COLOUR = !Deno.noColor;

const PAST: History = { failures: [], restarts: 0, lastExit: null };
const PLAIN: PanelState = { selected: null, narrowed: null, help: false, colors: false };

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

function panel(snapshot: Snapshot, columns: number, rows: number, look: Partial<PanelState> = {}): string[] {
  return dashboard(snapshot, { columns, rows, widthOf }, { ...PLAIN, ...look });
}

// ------------------------------------------------------------------------------------------------------------------
// The panel

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
    if (CAN_COLOUR) {
      assertStringIncludes(panel(snapshot, 80, 24, { colors: true }).join("\n"), `\x1b[${colour}m${shown}`);
    }
    assertEquals(STATUS[kind].mark, shown.split(" ")[0]);
  });
}

for (
  const [kind, said] of [
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
  Deno.test(`of a service that is ${kind} the panel says ${said || "nothing more"}`, () => {
    const one = row("a", { state: STATES[kind] });
    assertEquals(describeState(one, 3_000), said);
    const whole = panel({ at: 3_000, stopping: false, services: [one] }, 120, 24).join("\n");
    if (said !== "") assertStringIncludes(whole, said);
  });
}

Deno.test("after a SIGKILL the panel no longer counts down to it", () => {
  const state: ServiceState = {
    ...PAST,
    kind: "stopping",
    pid: 7,
    since: 0,
    killAt: Infinity,
    then: { kind: "stopped" },
  };
  assertEquals(describeState(row("a", { state }), 3_000), "SIGKILL sent");
});

Deno.test("a task that has ended well is done", () => {
  const state: ServiceState = { ...PAST, kind: "stopped", lastExit: { kind: "exited", code: 0 } };
  assertEquals(describeState(row("a", { kind: "task", state }), 0), "done");
  assertEquals(describeState(row("a", { state }), 0), "");
});

for (
  const [ms, shown] of [
    [-5, "00:00:00"],
    [999, "00:00:00"],
    [61_000, "00:01:01"],
    [323_000, "00:05:23"],
    [86_399_999, "23:59:59"],
    [360_000_000, "100:00:00"],
  ] as const
) {
  Deno.test(`an uptime of ${ms} ms is shown as ${shown}`, () => assertEquals(formatUptime(ms), shown));
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
      for (const look of [{}, { help: true }, { selected: snapshot.services.at(-1)!.name, narrowed: "a" }]) {
        const lines = panel(snapshot, columns, rows, look);
        assert(lines.length <= rows - 1, `${lines.length} lines leave nothing for the stream`);
        assertMatch(lines[0]!, /^╭─+ Nord City Orchestrator ─+╮$/);
        assertMatch(lines.at(-1)!, /^╰─+╯$/);
        for (const line of lines) {
          assertEquals(widthOf(line), Math.min(columns, 120), line);
          assert(!/[\x00-\x1f]/.test(line), JSON.stringify(line));
        }
        for (const line of lines.slice(1, -1)) assertMatch(line, /^│[ ›].* │$/);
        const coloured = panel(snapshot, columns, rows, { ...look, colors: true });
        assertEquals(coloured.map((line) => stripControl(line, false)), lines, "colours change nothing else");
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

Deno.test("the panel says how to stop, whom it waits for, what is shown, and the keys", () => {
  const snapshot = nordCity();
  const hint = (text: string, at: Snapshot, look: Partial<PanelState> = {}) =>
    assertStringIncludes(panel(at, 80, 24, look).at(-2)!, ` ${text} `);
  hint("Ctrl+C to stop all services", snapshot);
  hint("Ctrl+C to detach", snapshot, { hint: "Ctrl+C to detach" });
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
  const coloured = panel(nordCity(), 80, 24, { selected: "web", colors: true });
  assertStringIncludes(coloured[3]!, CAN_COLOUR ? "\x1b[7mWeb Service" : "Web Service");
});

Deno.test("a panel of 200 services is made in a few milliseconds", () => {
  const rows = MANY.map((one) => ({ ...one, recent: ["x".repeat(100_000), "日本語".repeat(1_000)] }));
  panel({ at: 0, stopping: false, services: rows }, 250, 80);
  const before = performance.now();
  for (let times = 0; times < 10; times++) panel({ at: 0, stopping: false, services: rows }, 250, 80);
  assert((performance.now() - before) / 10 < 100);
});

// ------------------------------------------------------------------------------------------------------------------
// Texts

for (
  const [text, columns, fitted] of [
    ["abc", 5, "abc  "],
    ["abc", 3, "abc"],
    ["abcd", 3, "ab…"],
    ["", 2, "  "],
    ["abc", 0, ""],
    ["abc", 1, "…"],
    ["🔄🔄", 3, "🔄…"],
    ["🔄🔄", 2, "… "],
    ["日本語", 5, "日本…"],
    ["日本語", 4, "日… "],
    ["e\u0301e\u0301e\u0301", 2, "e\u0301…"],
    ["👩‍👩‍👧‍👦x", 3, "👩‍👩‍👧‍👦x"],
    ["Веб", 4, "Веб "],
  ] as const
) {
  Deno.test(`"${text}" fits ${columns} columns as "${fitted}"`, () => {
    assertEquals(fit(text, columns, widthOf), fitted);
    assertEquals(widthOf(fitted), columns);
  });
}

for (
  const [text, plain, coloured] of [
    ["plain\ttext\n", "plain\ttext\n", "plain\ttext\n"],
    ["\x1b[31mred\x1b[0m\n", "red\n", "\x1b[31mred\x1b[0m\x1b[0m\n"],
    ["\x1b[38;2;1;2;3mrgb\n", "rgb\n", "\x1b[38;2;1;2;3mrgb\x1b[0m\n"],
    ["\x1b[38:5:9mcolons\n", "colons\n", "\x1b[38:5:9mcolons\x1b[0m\n"],
    ["\x1b[2J\x1b[H\x1b[3;4Hhere\n", "here\n", "here\n"],
    ["\x1b[?1049h\x1b[?25lapp\x1b[?25h\n", "app\n", "app\n"],
    ["\x1b[1;5r\x1b[6n\x1b[cask\n", "ask\n", "ask\n"],
    ["\x1b]0;a title\x07text\n", "text\n", "text\n"],
    ["\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", "link\n", "link\n"],
    ["\x1bP1$r\x1b\\dcs \x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\\n", "dcs \n", "dcs \n"],
    ["\x1bc\x1b7\x1b8\x1b(0\x1b#8reset\n", "reset\n", "reset\n"],
    ["bell\x07 back\x08space \x0b\x0c\x0e\x0f\x7f\n", "bell backspace \n", "bell backspace \n"],
    ["\u009b2J\u0085c1\u009d0;t\n", "2Jc10;t\n", "2Jc10;t\n"],
    ["cut off \x1b[3\n", "cut off 3\n", "cut off 3\n"],
    ["cut off \x1b\n", "cut off \n", "cut off \n"],
    ["\x1b[>4;2mkeys\x1b[<u\n", "keys\n", "keys\n"],
    ["Ж 日本 🎉\n", "Ж 日本 🎉\n", "Ж 日本 🎉\n"],
  ] as const
) {
  Deno.test(`${JSON.stringify(text)} is shown as ${JSON.stringify(plain)}`, () => {
    assertEquals(stripControl(text, false), plain);
    assertEquals(stripControl(text, true), coloured);
  });
}

Deno.test("a line of megabytes of escape sequences is cleaned in time", () => {
  for (const piece of ["\x1b[", "\x1b]", "\x1b[31m", "\x1bP", "x\x1b", "\x1b]0;t"]) {
    const before = performance.now();
    stripControl(piece.repeat(500_000), true);
    assert(performance.now() - before < 3_000, JSON.stringify(piece));
  }
});

for (
  const [typed, keys] of [
    ["\x1b[A", [{ kind: "up" }]],
    ["\x1bOB", [{ kind: "down" }]],
    ["\r", [{ kind: "enter" }]],
    ["\n", [{ kind: "enter" }]],
    ["\x1b", [{ kind: "escape" }]],
    ["q?", [{ kind: "character", character: "q" }, { kind: "character", character: "?" }]],
    ["\x1b[24;1R", [{ kind: "located", row: 24 }]],
    ["\x1b[A\x1b[B\x1b", [{ kind: "up" }, { kind: "down" }, { kind: "escape" }]],
    ["\x1b[C\x1b[5~\x1b[1;5D\x1b[?62;c", []],
    ["\x1b[200~q\x1b[A\rq\x1b[201~\x1b[A", [{ kind: "up" }]],
    ["?\x1b[200~q\x1b[201~\x1b[200~q\x1b[200~q\x1b[201~\r", [
      { kind: "character", character: "?" },
      { kind: "enter" },
    ]],
    ["ж🎉", [{ kind: "character", character: "ж" }, { kind: "character", character: "🎉" }]],
    ["", []],
  ] as [string, Key[]][]
) {
  Deno.test(`typing ${JSON.stringify(typed)} means ${JSON.stringify(keys)}`, () => {
    assertEquals(new KeyReader().read(typed), keys);
  });
}

Deno.test("a paste is passed over wherever the reads divide it", () => {
  const typed = "\x1b[200~quit\r\x1b[20\x1b[201~?";
  for (let first = 6; first < typed.length; first++) {
    for (let second = first; second < typed.length; second++) {
      const reader = new KeyReader();
      const parts = [typed.slice(0, first), typed.slice(first, second), typed.slice(second)];
      const keys = parts.flatMap((part) => reader.read(part));
      assertEquals(keys, [{ kind: "character", character: "?" }], JSON.stringify(parts));
    }
  }
});

// ------------------------------------------------------------------------------------------------------------------
// The crash card

const CRASHED = row("web", {
  title: "Web Service",
  state: {
    ...PAST,
    kind: "crashed",
    exit: { kind: "killed", signal: "SIGKILL" },
    ranMs: 65_000,
    reason: "killed by SIGKILL, perhaps out of memory",
  },
});

Deno.test("a crash card says which, how, after how long, and the last lines", () => {
  assertEquals(crashCard(CRASHED, ["one", "two \x1b[2J"], false), [
    "✖ Web Service [web] killed by SIGKILL, perhaps out of memory, after running for 1 min 5 s.",
    "Its last 2 lines:",
    "  │ one",
    "  │ two ",
  ]);
  assertEquals(crashCard(CRASHED, [], false).length, 1);
  assertEquals(crashCard(row("a"), ["x"], false), []);
  assertStringIncludes(crashCard(CRASHED, ["\x1b[33myellow"], true)[2]!, "\x1b[33myellow\x1b[0m");
});

Deno.test("a crash card holds twenty lines, or more where a traceback began before", () => {
  const shown = (lines: string[]) => crashCard(CRASHED, lines, false).slice(2).map((line) => line.slice(4));
  const quiet = Array.from({ length: 50 }, (_, index) => `request ${index}`);
  assertEquals(shown(quiet), quiet.slice(-20));
  const frames = Array.from({ length: 30 }, (_, index) => [`  File "main.py", line ${index}`, "    go()"])
    .flat();
  const traceback = ["Traceback (most recent call last):", ...frames, "ValueError: no"];
  assertEquals(shown([...quiet, ...traceback]), traceback);
  const chained = [
    ...traceback,
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    ...traceback,
  ];
  assertEquals(shown([...quiet, ...chained]), chained);
  const grouped = [
    "  + Exception Group Traceback (most recent call last):",
    ...frames.map((line) => `  |${line}`),
    "    +------",
  ];
  assertEquals(shown([...quiet, ...grouped]), grouped);
  const before = [...traceback, ...quiet];
  assertEquals(shown(before), quiet.slice(-20), "a traceback of long ago is not dug out");
});

Deno.test("a change of state is told with what someone wants to know", () => {
  const told = (from: ServiceState, to: ServiceState) =>
    describeChange({ kind: "state", time: 0, at: 3_500, row: row("a", { state: to, port: 80 }), from })
      ?.message;
  assertEquals(told(STATES.starting, STATES.running), "a is running (PID 7, port 80)");
  assertEquals(told(STATES.running, STATES.stopping), "stopping a");
  assertEquals(told(STATES.stopping, STATES.stopped), "a stopped (ran for 2.5 s)");
  assertEquals(told(STATES.running, STATES.crashed), "a exited with status 3");
  assertEquals(told(STATES.pending, STATES.stopped), "a is not started");
  assertEquals(
    told(STATES.running, STATES.restarting),
    "a exited with status 1; restarting in 1 s, attempt 2 of 3",
  );
});
