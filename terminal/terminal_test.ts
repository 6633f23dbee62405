/**
 * The dashboard on a real terminal: what someone sees, scrolls back to and gets back.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import widthOf from "string-width";
import { Folder, isAlive, processesWith, type ServiceFields, waitUntil } from "../testing/run.ts";
import { commandLine, type TerminalOptions, TestTerminal, whyNoTerminal } from "../testing/terminal.ts";

const missing = whyNoTerminal();

/** A test on a real terminal, ignored with the reason where there is none. */
function onTerminal(name: string, test: () => Promise<void>): void {
  Deno.test({
    name: missing === null ? name : `${name} (ignored: ${missing})`,
    ignore: missing !== null,
    fn: test,
  });
}

/** A terminal and the folder of the services that are started in it. */
class Session implements AsyncDisposable {
  constructor(readonly terminal: TestTerminal, readonly folder: Folder) {}

  static async open(services: readonly ServiceFields[], options: TerminalOptions = {}): Promise<Session> {
    const folder = await Folder.make({ services });
    return new Session(await TestTerminal.open(options), folder);
  }

  /** What to type to start the orchestrator with this folder. */
  command(...args: string[]): string {
    return commandLine(...args, "--infrastructure", this.folder.path);
  }

  /** Starts the orchestrator and waits until the panel shows that so many services run. */
  async start(running: number, ...args: string[]): Promise<void> {
    await this.terminal.type(this.command(...args));
    await this.untilRunning(running);
  }

  async untilRunning(count: number): Promise<string[]> {
    return await waitUntil(async () => {
      const rows = await this.terminal.rows();
      return rows.filter((row) => row.includes("● RUNNING")).length === count && panelOf(rows).length > 0
        ? rows
        : null;
    }, `${count} services run`);
  }

  /** The orchestrator's own process. */
  async pid(): Promise<number> {
    const name = this.folder.path;
    const isIt = (command: string) =>
      command.includes("--infrastructure") && command.includes(name) && !command.startsWith("tmux");
    return await waitUntil(
      () => processesWith(this.terminal.mark).find(({ command }) => isIt(command))?.pid,
      "it runs",
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.terminal[Symbol.asyncDispose]();
    await this.folder[Symbol.asyncDispose]();
  }
}

/** The rows of the panel at the bottom of a screen, or none when there is no whole one. */
function panelOf(rows: readonly string[]): string[] {
  const last = rows.findLastIndex((row) => row.startsWith("╰"));
  const first = rows.slice(0, last + 1).findLastIndex((row) => row.startsWith("╭"));
  return first === -1 ? [] : rows.slice(first, last + 1);
}

/** Asserts that the panel is whole, upright and at the bottom. */
function assertPinned(rows: readonly string[], columns: number): void {
  const panel = panelOf(rows);
  const all = rows.join("\n");
  assertGreater(panel.length, 4, all);
  assertMatch(panel[0]!, /^╭─+ Nord City Orchestrator ─+╮$/, all);
  assertEquals(panel.at(-1), rows.at(-1), `the panel is at the bottom:\n${all}`);
  for (const row of panel) assertEquals(widthOf(row), Math.min(columns, 120), all);
  for (const row of panel.slice(1, -1)) assertMatch(row, /^│ .* │$/, all);
}

/** The numbers of the lines `[ name] text NUMBER end` that a scrollback holds, in order; all of them whole. */
function numbersIn(lines: readonly string[], name: string): number[] {
  return lines.filter((line) => line.startsWith("[") && line.includes(`${name}] line `)).map((line) => {
    const found = /^\[ *\w+\] line (\d+) end$/.exec(line);
    assert(found !== null, `a torn line: ${line}`);
    return Number(found[1]);
  });
}

const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

/** A service that prints numbered lines, so many at a time, and then stays. */
function counter(
  name: string,
  { blocks, each, pause = "0.02" }: { blocks: number; each: number; pause?: string },
) {
  const block = `seq -f 'line %g end' $((i*${each}+1)) $(((i+1)*${each}))`;
  return {
    name,
    command:
      `i=0; while [ $i -lt ${blocks} ]; do ${block}; i=$((i+1)); sleep ${pause}; done; echo all of ${name}; exec sleep 1000`,
  };
}

const IDLE = { name: "idle", command: "echo idle is up; exec sleep 1000" };

// ------------------------------------------------------------------------------------------------------------------
// The stream and the panel

onTerminal(
  "every line scrolls whole and once into the scrollback, above a panel that stays at the bottom",
  async () => {
    const wide = `printf 'wide %s end\\n' ${"0123456789".repeat(30)}; printf '%s' ${"x".repeat(72)}; echo; `;
    await using session = await Session.open([
      counter("db", { blocks: 10, each: 40 }),
      counter("web", { blocks: 10, each: 40 }),
      { ...IDLE, command: wide + IDLE.command },
    ]);
    const { terminal } = session;
    await session.start(3);
    await terminal.shows("[  db] all of db");
    const rows = await terminal.shows("[ web] all of web");
    assertPinned(rows, 80);
    const expected = [
      /^╭─+ Nord City Orchestrator ─+╮$/,
      /^│ Service {2}Alias {2}Status {5}PID +Port {2}Uptime +│$/,
      ...["db", "web", "idle"].map((name) =>
        new RegExp(`^│ ${name} +${name} +● RUNNING  \\d+ +- +00:0\\d:\\d\\d +│$`)
      ),
      /^│ +│$/,
      /^│ Recent logs: +│$/,
      /^│ \[ {2}db\] line 400 end +│$/,
      /^│ \[ {2}db\] all of db +│$/,
      /^│ \[ web\] line 400 end +│$/,
      /^│ \[ web\] all of web +│$/,
      /^│ \[idle\] idle is up +│$/,
      /^│ +Ctrl\+C to stop all services +│$/,
      /^╰─+╯$/,
    ];
    const panel = panelOf(rows);
    assertEquals(panel.length, expected.length, panel.join("\n"));
    for (const [index, row] of panel.entries()) assertMatch(row, expected[index]!);
    const { cursorShown, alternateScreen, region } = await terminal.state();
    assertEquals({ cursorShown, alternateScreen }, { cursorShown: false, alternateScreen: false });
    assertEquals(region, [0, 24 - panelOf(rows).length - 1]);
    const lines = await terminal.history();
    assertEquals(numbersIn(lines, "db"), upTo(400));
    assertEquals(numbersIn(lines, "web"), upTo(400));
    assertEquals(lines.filter((line) => line === `[idle] wide ${"0123456789".repeat(30)} end`).length, 1);
    assertEquals(lines.filter((line) => line === `[idle] ${"x".repeat(72)}`).length, 1);
    assertEquals(
      lines.filter((line) => line.startsWith("╭")).length,
      1,
      "no copy of the panel scrolled away",
    );
  },
);

for (const [columns, rows] of [[40, 10], [60, 20], [120, 40], [250, 80]] as const) {
  onTerminal(`a terminal of ${columns}x${rows} has room for both`, async () => {
    await using session = await Session.open([counter("db", { blocks: 1, each: 100 }), IDLE, {
      ...IDLE,
      name: "web",
    }], { columns, rows });
    await session.start(3);
    const seen = await session.terminal.shows(/^\[.*is running/);
    assertPinned(seen, columns);
    assertEquals(numbersIn(await session.terminal.history(), "db"), upTo(100));
  });
}

onTerminal("below 40x10 the panel is one status line", async () => {
  await using session = await Session.open([counter("db", { blocks: 1, each: 100 }), IDLE], {
    columns: 36,
    rows: 9,
  });
  const { terminal } = session;
  await terminal.type(session.command());
  const rows = await terminal.shows(/^2\/2 running {2}db ● {2}idle ●$/);
  assertEquals(rows[8], "2/2 running  db ●  idle ●");
  assertEquals(numbersIn(await terminal.history(), "db"), upTo(100));
});

onTerminal("twenty services are shown as far as there is room, and arrows bring the others", async () => {
  const names = upTo(20).map((number) => ({ ...IDLE, name: `s${number}` }));
  await using session = await Session.open(names);
  const { terminal } = session;
  await terminal.type(session.command());
  const rows = await terminal.shows(/… and 11 more: 11 RUNNING/);
  assertPinned(rows, 80);
  await terminal.keys("Up"); // from none chosen to the last
  await terminal.shows(/│›s20 +s20 +● RUNNING/);
});

onTerminal("what services print can neither break the panel nor touch the terminal", async () => {
  const nasty = [
    String.raw`\033[2J\033[H\033[10;10Hmoved`,
    String.raw`\033[1;3r\033[?1049h\033[?25hmodes`,
    String.raw`\033]0;stolen title\007titled`,
    String.raw`\033[41mred ground`,
    String.raw`one\rtwo\rthree`,
    String.raw`\033c\033[!preset \b\b\b\a`,
    String.raw`not UTF-8: \377\376 \303`,
    String.raw`Привет 🎉 日本`,
  ].map((text) => `printf '${text}\\n'`).join("; ");
  await using session = await Session.open([
    { name: "веб", title: "Веб 🚀", command: `${nasty}; ${IDLE.command}` },
    IDLE,
  ]);
  const { terminal } = session;
  const titleBefore = (await terminal.state()).title;
  await session.start(2);
  await terminal.shows("[ веб] idle is up");
  const rows = await terminal.rows();
  assertPinned(rows, 80);
  const lines = await terminal.history();
  for (const text of ["moved", "modes", "titled", "red ground", "one", "two", "three", "Привет 🎉 日本"]) {
    assertEquals(lines.filter((line) => line === `[ веб] ${text}`).length, 1, text);
  }
  assertEquals(lines.filter((line) => line.startsWith("[ веб] not UTF-8: ")).length, 1);
  const { alternateScreen, cursorShown, title } = await terminal.state();
  assertEquals({ alternateScreen, cursorShown, title }, {
    alternateScreen: false,
    cursorShown: false,
    title: titleBefore,
  });
  const styled = await terminal.rows("styled");
  assert(styled.some((row) => row.includes("\x1b[41mred ground")), "colours of a service are kept");
  assert(
    !panelOf(rows).some((_, index) => styled.at(-1 - index)!.includes("\x1b[41m")),
    "and end with the line",
  );
});

onTerminal("statuses have their colours, and none with NO_COLOR", async () => {
  await using session = await Session.open([IDLE]);
  await session.start(1);
  const rows = await session.terminal.rows("styled");
  assert(rows.some((row) => row.includes("\x1b[32m● RUNNING")));
  assert(rows.some((row) => row.includes("\x1b[36m[idle]")));
  await using plain = await Session.open([IDLE], { environment: { NO_COLOR: "1" } });
  await plain.start(1);
  assertPinned(await plain.terminal.rows(), 80);
  for (const row of await plain.terminal.rows("styled")) assert(!row.includes("\x1b["), row);
});

onTerminal("a service that prints without pause slows neither the panel nor a stop", async () => {
  await using session = await Session.open([
    { name: "flood", command: "exec yes 'a line of a flood that never ends'" },
    { name: "quiet", command: "i=0; while :; do i=$((i+1)); echo quiet $i; sleep 0.1; done" },
  ]);
  const { terminal } = session;
  await session.start(2);
  await terminal.shows(/^│ \[quiet\] quiet ([2-9]\d|\d{3,})/); // in the panel, after two seconds
  const before = performance.now();
  await terminal.keys("C-c");
  await terminal.ready();
  assertLess(performance.now() - before, 10_000);
  assertEquals(await terminal.run("echo status $?"), ["status 0"]);
  const rows = await terminal.rows();
  assertEquals(panelOf(rows).filter((row) => row.includes("○ STOPPED")).length, 2);
});

// ------------------------------------------------------------------------------------------------------------------
// Changes of size

onTerminal("no line is lost while the window changes its size", async () => {
  await using session = await Session.open([counter("db", { blocks: 100, each: 20, pause: "0.05" }), IDLE]);
  const { terminal } = session;
  await session.start(2);
  for (
    const [columns, rows] of [
      [120, 40],
      [60, 20],
      [61, 21],
      [62, 22],
      [42, 10],
      [250, 80],
      [30, 5],
      [80, 24],
      [81, 50],
    ]
  ) {
    await terminal.resize(columns!, rows!);
    await terminal.resize(columns! - 1, rows!);
    await waitUntil(async () => (await terminal.rows()).length === rows, "the window has that size");
    await terminal.shows(columns! < 40 ? /running/ : /Ctrl\+C to stop/);
  }
  await terminal.resize(100, 30);
  const rows = await terminal.shows("[  db] all of db");
  await waitUntil(async () => {
    const panel = panelOf(await terminal.rows());
    return panel.length > 0 && widthOf(panel[0]!) === 100;
  }, "the panel has found its place");
  assertGreater(rows.length, 0);
  assertPinned(await terminal.rows(), 100);
  const numbers = numbersIn(await terminal.history(), "db");
  assertEquals([...new Set(numbers)], upTo(2_000));
});

onTerminal(
  "a screen that a narrower window has emptied is filled again with what was read last",
  async () => {
    await using session = await Session.open([counter("db", { blocks: 1, each: 50 }), IDLE], {
      columns: 120,
      rows: 24,
    });
    const { terminal } = session;
    await session.start(2);
    await terminal.resize(45, 12);
    const rows = await waitUntil(async () => {
      const now = await terminal.rows();
      return panelOf(now).length > 0 && widthOf(panelOf(now)[0]!) === 45 && now.some((row) => /^\[/.test(row))
        ? now
        : null;
    }, "lines stand above the panel");
    assertPinned(rows, 45);
    assertEquals([...new Set(numbersIn(await terminal.history(), "db"))], upTo(50));
  },
);

// ------------------------------------------------------------------------------------------------------------------
// Keys

onTerminal(
  "Enter narrows the stream to the chosen service and prints its kept lines first, Esc widens it",
  async () => {
    await using session = await Session.open([
      {
        name: "db",
        command: "echo early db; while [ ! -e go ]; do sleep 0.05; done; echo late db; exec sleep 1000",
      },
      {
        name: "web",
        command:
          "echo early web; while [ ! -e go ]; do sleep 0.05; done; echo late web; while [ ! -e on ]; do sleep 0.05; done; echo last web; exec sleep 1000",
      },
    ]);
    const { terminal, folder } = session;
    await session.start(2);
    await terminal.keys("Down");
    await waitUntil(
      async () => (await terminal.rows("styled")).some((row) => row.includes("\x1b[7mdb")),
      "db is chosen",
    );
    await terminal.keys("Enter");
    await terminal.shows("Only lines of db; Esc shows all");
    await folder.write("go", "");
    await terminal.shows(/^\[ db\] late db/);
    await terminal.shows(/^│ \[web\] late web/); // the panel knows, the stream is silent
    const narrowed = await terminal.history();
    assertEquals(narrowed.filter((line) => line === "[ db] early db").length, 2);
    assertEquals(narrowed.filter((line) => line === "[web] late web").length, 0);
    await terminal.keys("Escape");
    await terminal.shows("Ctrl+C to stop all services");
    await folder.write("on", "");
    await terminal.shows(/^\[web\] last web/);
  },
);

onTerminal("? shows the keys and hides them, q stops everything", async () => {
  await using session = await Session.open([IDLE]);
  const { terminal } = session;
  await session.start(1);
  await terminal.keys("?");
  await terminal.shows("Enter only its lines");
  assertPinned(await terminal.rows(), 80);
  await terminal.keys("?");
  await terminal.shows("Ctrl+C to stop all services");
  await terminal.keys("q");
  await terminal.ready();
  assertEquals(await terminal.run("echo status $?"), ["status 0"]);
});

onTerminal("what is pasted is no command, and what is typed after it is", async () => {
  await using session = await Session.open([IDLE]);
  const { terminal } = session;
  await session.start(1);
  await terminal.paste("quit, quickly\n".repeat(200));
  await terminal.keys("?");
  await terminal.shows("Enter only its lines");
  assertPinned(await terminal.rows(), 80);
  await terminal.keys("q");
  await terminal.ready();
});

// ------------------------------------------------------------------------------------------------------------------
// Ways out

/** Asserts that a terminal is as a shell wants it, and that all that was started in it is gone. */
async function assertGivenBack(session: Session, stty: readonly string[]): Promise<void> {
  const { terminal } = session;
  const rows = await terminal.ready();
  assertEquals(await terminal.run("stty -a"), stty);
  await terminal.paste("# no marks");
  await terminal.shows(/^\$> # no marks$/);
  await terminal.keys("Enter");
  const { cursorShown, region, alternateScreen } = await terminal.state();
  assertEquals({ cursorShown, alternateScreen, region }, {
    cursorShown: true,
    alternateScreen: false,
    region: [0, rows.length - 1],
  });
  const ours = () =>
    processesWith(terminal.mark).filter(({ command }) => !/^\S*tmux |^\/bin\/sh$/.test(command));
  await waitUntil(() => ours().length === 0, "nothing is left of it");
}

onTerminal(
  "after Ctrl+C the last panel stays, the prompt stands below it and the terminal is as before",
  async () => {
    await using session = await Session.open([counter("db", { blocks: 1, each: 30 }), {
      ...IDLE,
      dependencies: ["db"],
    }]);
    const { terminal } = session;
    const stty = await terminal.run("stty -a");
    await session.start(2);
    assert((await terminal.state()).cursorShown === false);
    await terminal.keys("C-c");
    const rows = await terminal.ready();
    const prompt = rows.indexOf("$>");
    assertMatch(rows[prompt - 1]!, /^╰─+╯$/);
    const panel = panelOf(rows);
    assertEquals(panel.filter((row) => row.includes("○ STOPPED")).length, 2);
    const lines = await terminal.history();
    const place = (text: string) => lines.findIndex((line) => line.startsWith(`[orchestrator] ${text}`));
    assertGreater(place("stopping idle"), 0);
    assertGreater(place("idle stopped"), place("stopping idle"));
    assertGreater(place("stopping db"), place("idle stopped"));
    assertGreater(place("db stopped"), place("stopping db"));
    assertEquals(await terminal.run("echo status $?"), ["status 0"]);
    await assertGivenBack(session, stty);
  },
);

onTerminal("Ctrl+C while services are starting starts nothing more", async () => {
  await using session = await Session.open([IDLE, { ...IDLE, name: "late", dependencies: ["idle"] }]);
  const { terminal } = session;
  const stty = await terminal.run("stty -a");
  await terminal.type(session.command());
  await terminal.shows(/idle +idle +(🔄 STARTING|● RUNNING)/);
  await terminal.keys("C-c");
  await assertGivenBack(session, stty);
  const lines = await terminal.history();
  assert(lines.includes("[orchestrator] late is not started"));
  assert(!lines.some((line) => line.startsWith("[late] ")));
});

onTerminal("a second Ctrl+C kills at once, and the panel announces that before", async () => {
  await using session = await Session.open([{
    name: "stubborn",
    command: "trap '' TERM INT; echo deaf; while :; do sleep 0.1; done",
  }]);
  const { terminal } = session;
  const stty = await terminal.run("stty -a");
  await session.start(1);
  await terminal.keys("C-c");
  await terminal.shows("Stopping, waiting for stubborn; Ctrl+C kills");
  await terminal.shows(/◌ STOPPING .*SIGKILL in \d+ s/);
  const before = performance.now();
  await terminal.keys("C-c");
  await assertGivenBack(session, stty);
  assertLess(performance.now() - before, 9_000);
});

onTerminal("Ctrl+Z gives the terminal back, fg takes it again", async () => {
  await using session = await Session.open([
    {
      name: "db",
      command: "echo up; while [ ! -e go ]; do sleep 0.05; done; echo while away; exec sleep 1000",
    },
  ]);
  const { terminal, folder } = session;
  const stty = await terminal.run("stty -a");
  await session.start(1);
  await terminal.keys("C-z");
  await terminal.ready();
  assertEquals(await terminal.run("stty -a"), stty);
  assert((await terminal.state()).cursorShown);
  await folder.write("go", "");
  await terminal.type("fg");
  await terminal.shows(/^\[db\] while away/);
  const rows = await session.untilRunning(1);
  assertPinned(rows, 80);
  assertEquals((await terminal.state()).cursorShown, false);
  await terminal.keys("C-c");
  await assertGivenBack(session, stty);
});

onTerminal("Ctrl+Z also stops a run whose services print without pause", async () => {
  await using session = await Session.open([
    { name: "flood", command: "exec yes 'a line of a flood that never ends'" },
  ]);
  const { terminal } = session;
  const stty = await terminal.run("stty -a");
  await session.start(1);
  await terminal.keys("C-z");
  await terminal.ready();
  assertEquals(await terminal.run("stty -a"), stty);
  await terminal.type("fg");
  await session.untilRunning(1);
  await terminal.keys("C-c");
  await assertGivenBack(session, stty);
});

onTerminal(
  "when it is killed without warning, the guard gives the terminal back and stops the services",
  async () => {
    const once =
      "exec 2>/dev/null; trap 'echo TERM >>signals' TERM; while [ ! -e signals ]; do sleep 0.05; done; sleep 0.3"; // for a second time
    await using session = await Session.open([{ name: "db", command: once }, IDLE]);
    const { terminal, folder } = session;
    const stty = await terminal.run("stty -a");
    await session.start(2);
    const pid = await session.pid();
    Deno.kill(pid, "SIGKILL");
    await waitUntil(() => !isAlive(pid), "it is gone");
    await waitUntil(async () => (await terminal.state()).cursorShown, "the cursor is shown again");
    await terminal.keys("Enter"); // its prompt may have come before the guard gave the terminal back
    await assertGivenBack(session, stty);
    assertEquals(await folder.read("signals"), "TERM\n");
  },
);

onTerminal("closing the window stops everything in order", async () => {
  await using session = await Session.open([
    { name: "db", command: "trap 'echo db >>order; exit 0' TERM; while :; do sleep 0.05; done" },
    {
      name: "web",
      command: "trap 'echo web >>order; exit 0' TERM; while :; do sleep 0.05; done",
      dependencies: ["db"],
    },
  ]);
  await session.start(2);
  await session.terminal.closeWindow();
  await waitUntil(() => processesWith(session.terminal.mark).length === 0, "nothing is left of it");
  assertEquals(await session.folder.read("order"), "web\ndb\n");
});

onTerminal("the last thing on the screen after a crash is its card, with the whole traceback", async () => {
  const traceback = [
    "Traceback (most recent call last):",
    ...upTo(15).flatMap((line) => [`  File "main.py", line ${line}, in <module>`, `    step_${line}()`]),
    "ValueError: no such city",
  ];
  await using session = await Session.open([
    { name: "web", title: "Web Service", command: "cat traceback >&2; exit 3" },
    IDLE,
  ]);
  const { terminal, folder } = session;
  await folder.write("traceback", traceback.join("\n")); // no newline at its end
  const stty = await terminal.run("stty -a");
  await terminal.type(`${session.command()}; echo status $?`);
  await assertGivenBack(session, stty);
  const lines = (await terminal.history()).map((line) => line.replace(/^\[orchestrator\] /, ""));
  const card = lines.slice(lines.findIndex((line) => line.startsWith("✖ Web")), lines.indexOf("status 1"));
  assertMatch(card[0]!, /^✖ Web Service \[web\] exited with status 3, after running for \d+ ms\.$/);
  assertEquals(card.slice(2), traceback.map((line) => `  │ ${line}`));
  assert(lines.some((line) => /│ Web Service +web +✖ CRASHED/.test(line)), "the panel above it stays");
  assert(lines.some((line) => line.includes("○ STOPPED")));
});

onTerminal("an error in the services file leaves no trace of a dashboard", async () => {
  await using session = await Session.open([IDLE]);
  const { terminal } = session;
  const stty = await terminal.run("stty -a");
  const output = await terminal.run(`${session.command("--services", "idel")}; echo status $?`);
  assertEquals(output, [
    'orchestrator: There is no service "idel"; did you mean "idle"? The services are idle.',
    "status 2",
  ]);
  await assertGivenBack(session, stty);
});

// ------------------------------------------------------------------------------------------------------------------
// Terminals that are none, or not ours

for (
  const [what, environment, wrap] of [
    ["--no-dashboard", {}, (command: string) => `${command} --no-dashboard`],
    ["TERM=dumb", { TERM: "dumb" }, (command: string) => `TERM=dumb ${command}`],
    ["CI", {}, (command: string) => `CI=true ${command}`],
    ["a pipe", {}, (command: string) => `${command} | cat`],
  ] as const
) {
  onTerminal(`with ${what} there is a plain stream of lines`, async () => {
    await using session = await Session.open([IDLE, { name: "b", command: "echo b is up" }], { environment });
    const { terminal } = session;
    await terminal.type(wrap(session.command()));
    await terminal.shows(/^\[orchestrator\] idle is running/);
    const rows = await terminal.shows("[   b] b is up");
    assert(!rows.some((row) => /[╭╰│]/.test(row)), rows.join("\n"));
    assert(rows.includes("[idle] idle is up"));
    const coloured = (await terminal.rows("styled")).some((row) => row.includes("\x1b[36m[idle]"));
    assertEquals(coloured, what !== "a pipe");
    await terminal.keys("C-c");
    if (what !== "a pipe") await terminal.shows(/^\[orchestrator\] idle stopped/); // Ctrl+C ends cat, too
    await terminal.ready();
  });
}

for (
  const [what, redirection] of [["/dev/null as stdin", "</dev/null"], ["stdin closed", "<&-"], [
    "stderr closed",
    "2>&-",
  ]]
) {
  onTerminal(`with ${what} the panel is drawn and Ctrl+C stops`, async () => {
    await using session = await Session.open([IDLE]);
    const { terminal } = session;
    const stty = await terminal.run("stty -a");
    await terminal.type(`${session.command()} ${redirection}`);
    assertPinned(await session.untilRunning(1), 80);
    await terminal.resize(90, 30);
    await waitUntil(
      async () => panelOf(await terminal.rows()).some((row) => widthOf(row) === 90),
      "it follows a resize",
    );
    await terminal.resize(80, 24);
    await terminal.keys("C-c");
    await assertGivenBack(session, stty);
    assert(
      !(await terminal.history()).some((line) => /\d+;\d+R/.test(line)),
      "no answer of the terminal is left over",
    );
  });
}

onTerminal("with stdout closed it runs and stops all the same", async () => {
  await using session = await Session.open([{ name: "a", command: "echo $$ >pid; exec sleep 1000" }]);
  const { terminal, folder } = session;
  const stty = await terminal.run("stty -a");
  await terminal.type(`${session.command()} >&-`);
  const pid = Number(
    await waitUntil(async () => (await folder.read("pid")).trim() || null, "the service runs"),
  );
  assert(isAlive(pid));
  await terminal.keys("C-c");
  await assertGivenBack(session, stty);
});

onTerminal("in the background it is not stopped for touching the terminal, and draws nothing", async () => {
  await using session = await Session.open([IDLE]);
  const { terminal } = session;
  await terminal.type(`${session.command()} &`);
  await terminal.shows("[idle] idle is up");
  await terminal.shows(/^\[orchestrator\] idle is running/);
  assertMatch((await terminal.run("jobs")).join(""), /\[1\] \+ Running +\S+/);
  assert(!(await terminal.rows()).some((row) => /[╭╰│]/.test(row)));
  await terminal.type("kill %1; wait %1; echo status $?");
  await terminal.shows("[orchestrator] idle stopped");
  await terminal.shows(/^status 0/);
});

// ------------------------------------------------------------------------------------------------------------------
// What is written

onTerminal("an idle dashboard writes little and rests, and a change of state is shown at once", async () => {
  await using session = await Session.open([
    {
      name: "a",
      command: "exec sleep 1000",
      restart_policy: "always",
      max_retries: 100,
      retry_delay: 1,
      retry_delay_max: 1,
    },
    IDLE,
  ]);
  const { terminal } = session;
  await session.start(2);
  const pid = await session.pid();
  const cpuMs = () => {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10; // ticks of a hundredth of a second
  };
  const from = {
    cpu: cpuMs(),
    at: performance.now(),
    uptime: (await terminal.rows()).join().match(/00:00:(\d\d)/)![1],
  };
  const until = String(Number(from.uptime) + 4).padStart(2, "0");
  await terminal.shows(`00:00:${until}`);
  const share = (cpuMs() - from.cpu) / (performance.now() - from.at);
  assertLess(share, 0.2, "it is busy with nothing");
  const reactionsMs: number[] = [];
  for (let times = 0; times < 4; times++) {
    const row = (await session.untilRunning(2)).find((text) => /^│ a /.test(text))!;
    const service = Number(/RUNNING +(\d+)/.exec(row)![1]);
    const killedAt = performance.now();
    Deno.kill(service, "SIGKILL");
    await terminal.shows("↻ RESTARTING");
    reactionsMs.push(performance.now() - killedAt);
  }
  assertLess(Math.min(...reactionsMs), 250, `${reactionsMs}`);
});
