// @ts-types="./config/std.d.ts"
import {
  assert,
  assertEquals,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { defineServices } from "./config/definition.ts";
import { UserError } from "./config/errors.ts";
import { VERSION } from "./config/version.ts";
import type { RunOptions } from "./control/run_options.ts";
import { Orchestrator } from "./orchestrator.ts";
import { wholeLines } from "./testing/sink.ts";
import { isPortFree } from "./process/ports.ts";
import { Folder, freePort, isAlive, Run, runToEnd, TESTDATA, waitUntil } from "./testing/run.ts";
import { IDLE, PYTHON, script, UP } from "./testing/services.ts";
import { binary } from "./testing/sink.ts";

/** Three services like Nord City's that take a moment to start and to stop. */
async function nordCity(): Promise<{ folder: Folder; ports: number[] }> {
  const ports = [freePort(), freePort()];
  const folder = await Folder.make({
    services: [
      { name: "db", title: "Database", command: script("serves.py", ports[0]!), port: ports[0] },
      { name: "web", command: script("serves.py", ports[1]!), port: ports[1], dependencies: ["db"] },
      { name: "bot", command: UP.command, dependencies: ["db"], health: { log: "up" } },
    ],
  });
  return { folder, ports };
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.test(`${signal} stops all in reverse order, status 0, ports free, nothing left`, async () => {
    const { folder, ports } = await nordCity();
    await using _ = folder;
    await using run = new Run(folder);
    await run.line(/\[orchestrator\] web is running \(PID \d+, port \d+\)/);
    await run.line("bot is running");
    assertEquals(await run.stop(signal), 0);
    const stops = run.out.lines.filter((line) => /stopping|stopped/.test(line));
    // One of the first two may have stopped before the other one is asked to, where the machine is busy.
    assertEquals(stops.filter((line) => line.includes("stopping")), [
      "[orchestrator] stopping bot",
      "[orchestrator] stopping web",
      "[orchestrator] stopping db",
    ]);
    assertEquals(stops.at(-2), "[orchestrator] stopping db");
    assertMatch(stops.at(-1)!, /^\[orchestrator\] db stopped \(ran for [\d.]+ m?s\)$/);
    assertEquals([ports.map(isPortFree), run.processes(), run.err.text], [[true, true], [], ""]);
  });
}

Deno.test("a signal while services start: nothing more is started, status 0", async () => {
  const port = freePort();
  await using folder = await Folder.make({
    services: [
      { name: "db", command: `echo begun; ${script("serves.py", port, 30)}`, port },
      { name: "web", command: "echo started", dependencies: ["db"] },
    ],
  });
  await using run = new Run(folder);
  await run.line("[ db] begun");
  assertEquals(await run.stop("SIGINT"), 0);
  assert(!run.out.text.includes("[web] started"));
  assertEquals(run.out.lines.filter((line) => line.includes(" web ")), ["[orchestrator] web is not started"]);
});

Deno.test("it logs which service it waits for, and a second Ctrl+C kills at once", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: script("stubborn.sh"), timeout_stop: 600 }],
  });
  await using run = new Run(folder);
  await run.line("ready");
  run.signal("SIGINT");
  assertMatch(await run.line("waiting for"), /^\[orchestrator\] waiting for a \(SIGKILL in \d+ s\)$/);
  assertEquals(await run.stop("SIGINT"), 0);
});

Deno.test("a terminal that hangs up may send SIGHUP twice: services still get their time to stop", async () => {
  await using folder = await Folder.make();
  await folder.write(".env", `JOURNAL=${folder.path}/journal\n`);
  const services = [{ name: "a", command: script("journal.py", "a", 1), health: { log: "up" } }];
  await folder.write("services.json", JSON.stringify({ services }));
  await using run = new Run(folder);
  await run.line("a is running");
  run.signal("SIGHUP");
  await run.line("stopping a");
  assertEquals(await run.stop("SIGHUP"), 0);
  assertEquals(await folder.read("journal"), "a started\na stopping\na stopped\n");
});

Deno.test("a service that ignores the signal is killed after its time, and the stop is a success", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: script("stubborn.sh"), timeout_stop: "500ms" }],
  });
  await using run = new Run(folder);
  await run.line("ready");
  assertEquals(await run.stop(), 0);
  assertStringIncludes(run.out.text, "[a] no thanks");
});

Deno.test("a crash while running: CRASHED is logged, the others are stopped, the card comes last, status 1", async () => {
  await using folder = await Folder.make({
    services: [
      {
        name: "db",
        title: "Database Service",
        command: `echo up; until [ -e now ]; do sleep 0.02; done; exec ${PYTHON} ${TESTDATA}/breaks.py`,
        health: { log: "up" },
      },
      { name: "web", command: UP.command, dependencies: ["db"], health: { log: "up" } },
    ],
  });
  await using run = new Run(folder);
  await run.line("web is running");
  await folder.write("now", "");
  assertEquals(await run.code(), 1);
  const { lines } = run.out;
  const head = lines.findIndex((line) => line.includes("✖"));
  assertMatch(
    lines[head]!,
    /✖ Database Service \[db\] exited with status 1, after running for [\d.]+ (ms|s)\.$/,
  );
  const at = (text: string) => lines.findIndex((line) => line.includes(text));
  assert(at("db exited with status 1") < at("stopping web") && at("web stopped") < head, run.out.text);
  const card = lines.slice(head + 2).map((line) => line.replace(/^\[orchestrator\] {3}│ /, ""));
  assertEquals(card[0], "Traceback (most recent call last):");
  assertEquals([card.at(-1), card.length > 40], ["ValueError: no such table: users", true]);
});

Deno.test("a crash while starting: its last lines, its status, the others stopped in order, status 1", async () => {
  const ports = [freePort(), freePort()];
  await using folder = await Folder.make({
    services: [
      { name: "db", command: script("serves.py", ports[0]!), port: ports[0] },
      {
        name: "web",
        command: `for n in $(seq 30); do echo "line $n"; done; printf 'last words'; kill -KILL $$`,
        port: ports[1],
        dependencies: ["db"],
      },
      { name: "late", command: "echo late", dependencies: ["web"] },
    ],
  });
  await using run = new Run(folder);
  assertEquals(await run.code(), 1);
  const { lines } = run.out;
  const head = lines.findIndex((line) =>
    line.includes("✖ web [web] killed by SIGKILL, perhaps out of memory")
  );
  assert(head > lines.findIndex((line) => line.includes("db stopped")), run.out.text);
  const numbers = Array.from({ length: 19 }, (_, index) => `line ${index + 12}`);
  assertEquals(lines.slice(head + 2).map((line) => line.replace(/^.*│ /, "")), [...numbers, "last words"]);
  assert(!run.out.text.includes("[late]"));
  assertStringIncludes(run.out.text, "[ web] last words\n");
});

Deno.test("a failed start is reported as such", async () => {
  await using folder = await Folder.make({
    services: [{ name: "db", command: IDLE, port: freePort(), timeout_start: "300ms" }],
  });
  const { code, out } = await runToEnd(folder, []);
  assertEquals(code, 1);
  assertMatch(
    out.trimEnd().split("\n").at(-1)!,
    /^\[orchestrator\] ✖ db \[db\] was not ready within 300 ms, after running for \d+ ms\.$/,
  );
});

Deno.test("when all ended by themselves with 0, so does the orchestrator", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: "echo one" }, { name: "bcd", command: "printf two" }],
  });
  const { code, out, err } = await runToEnd(folder, []);
  assertEquals([code, err], [0, ""]);
  for (const line of ["[  a] one", "[bcd] two"]) assert(out.split("\n").includes(line), out);
});

Deno.test("a missing .env is a warning, and the run goes on", async () => {
  await using folder = await Folder.make({ env: null, services: [{ name: "a", command: "echo hello" }] });
  const { code, out } = await runToEnd(folder, []);
  assertEquals(code, 0);
  assertEquals(out.split("\n")[0], `[orchestrator] There is no ${folder.path}/.env; the defaults apply.`);
  assertStringIncludes(out, "[a] hello\n");
});

Deno.test("services get the variables of .env and where Python looks for modules", async () => {
  await using folder = await Folder.make({
    env: { COLOUR: "green", HOME: "/elsewhere" },
    services: [{ name: "a", command: 'echo "$COLOUR $HOME $SHAPE $PYTHONPATH $PYTHONUNBUFFERED"' }],
  });
  const environment = { SHAPE: "round", COLOUR: "red", PYTHONPATH: "/mine" };
  const { out } = await runToEnd(folder, [], { environment });
  assertStringIncludes(out, `[a] green /elsewhere round ${folder.path}:/mine 1\n`);
});

Deno.test("bytes of any kind come out as they went in, apart from how a line ends", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: "head -c 3000000 /dev/urandom | tee copy" }],
  });
  await using run = new Run(folder);
  assertEquals(await run.code(), 0);
  const lines = binary(run.out.bytes).split("\n").filter((line) => !line.startsWith("[orchestrator] "));
  const copy = binary(await Deno.readFile(`${folder.path}/copy`));
  const expected = wholeLines(copy).split("\n").map((line, index, all) =>
    index < all.length - 1 ? `[a] ${line}` : ""
  );
  assert(lines.join("\n") === expected.join("\n"), "they differ");
});

Deno.test("lines come when they are written, whole, without waiting for more", async () => {
  await using folder = await Folder.make({
    services: [{
      name: "a",
      command: "echo one; until [ -e go ]; do sleep 0.02; done; printf 'tw'; sleep 0.1; echo o; sleep 1000",
    }],
  });
  await using run = new Run(folder);
  await run.line("[a] one");
  await folder.write("go", "");
  assertEquals(await run.line(/^\[a\] tw/), "[a] two");
  await run.stop();
});

for (const [what, patience] of [["once all run", true], ["right after its start", false]] as const) {
  Deno.test(`killed without warning ${what}: the guard stops everything, stubborn ones too`, async () => {
    await using folder = await Folder.make({
      services: [
        { name: "a", command: script("stubborn.sh"), timeout_stop: 1 },
        { name: "b", command: script("has_grandchild.sh"), timeout_stop: 1 },
        { name: "c", command: UP.command, timeout_stop: 1 },
      ],
    });
    await using run = new Run(folder);
    if (patience) {
      await run.line("ready");
      await run.line("[b] up");
      await run.line("[c] up");
    } else await waitUntil(() => run.processes().length > 0, "something is started");
    run.signal("SIGKILL");
    await run.code();
    await run.allGone(30_000);
  });
}

Deno.test("services get the time to stop from the guard, too", async () => {
  await using folder = await Folder.make();
  await folder.write(".env", `JOURNAL=${folder.path}/journal\n`);
  await folder.write(
    "services.json",
    JSON.stringify({
      services: [{ name: "a", command: script("journal.py", "a", 1), health: { log: "up" } }],
    }),
  );
  await using run = new Run(folder);
  await run.line("a is running");
  run.signal("SIGKILL");
  await run.code();
  await run.allGone();
  assertEquals(await folder.read("journal"), "a started\na stopping\na stopped\n");
});

Deno.test("the guard knows the groups, also of what has cleared its environment", async () => {
  await using folder = await Folder.make({
    services: [
      { name: "gone", command: "exit 0" },
      { name: "a", command: `echo "PID $$"; exec env -i /bin/sh ${TESTDATA}/stubborn.sh`, timeout_stop: 1 },
    ],
  });
  // A variable that looks like the guard's own list of groups does not concern it.
  const bystander = new Deno.Command("sleep", { args: ["1000"], detached: true }).spawn();
  const environment = { [`group_${bystander.pid}`]: "x", NOTES: `\ngroup_${bystander.pid}=` };
  await using run = new Run(folder, [], { environment });
  const pid = Number(/PID (\d+)/.exec(await run.line(/^\[ *a\] PID/))![1]);
  await run.line("ready");
  run.signal("SIGKILL");
  await run.code();
  await run.allGone(30_000);
  const ended = !isAlive(pid);
  if (!ended) Deno.kill(-pid, "SIGKILL");
  const spared = isAlive(bystander.pid);
  bystander.kill();
  await bystander.status;
  assertEquals([ended, spared], [true, true]);
});

Deno.test("a guard that was killed is replaced", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: script("stubborn.sh"), timeout_stop: 1 }],
  });
  await using run = new Run(folder);
  const guards = () => run.processes().filter(({ command }) => command.includes("orchestrator-guard"));
  await run.line("a is running"); // it is more than a second old
  const [first] = guards();
  Deno.kill(first!.pid, "SIGKILL");
  await waitUntil(() => guards().some(({ pid }) => pid !== first!.pid), "there is another");
  run.signal("SIGKILL");
  await run.code();
  await run.allGone(30_000);
});

Deno.test("a probe that runs is gone as well when the orchestrator is killed", async () => {
  await using folder = await Folder.make({
    services: [{
      name: "a",
      command: IDLE,
      timeout_stop: 1,
      health: { command: "echo $$ >probe; exec sleep 1000", timeout: 600 },
    }],
  });
  await using run = new Run(folder);
  const probe = Number(
    await waitUntil(async () => (await folder.read("probe")).trim() || null, "it is probed"),
  );
  run.signal("SIGKILL");
  await run.code();
  await run.allGone(30_000);
  assert(!isAlive(probe));
});

Deno.test("a pipe that nobody reads does not stop the reactions", async () => {
  await using folder = await Folder.make({
    services: [
      { name: "a", command: script("floods.py", 0) },
      { name: "b", command: `${UP.command}`, timeout_stop: 600, health: { log: "up" } },
    ],
  });
  await using run = new Run(folder, [], { stdout: "unread" });
  const flood = await waitUntil(
    () => run.processes().find(({ command }) => /^python3.*floods\.py/.test(command.replace(/^\S*\//, ""))),
    "it floods",
  );
  let worked = "";
  let still = 0;
  await waitUntil(async () => {
    const before = worked;
    worked = (await Deno.readTextFile(`/proc/${flood.pid}/stat`)).split(" ").slice(13, 15).join();
    still = worked === before ? still + 1 : 0;
    return still > 30; // it has not worked for a while: it can't
  }, "all pipes are full");
  const askedAt = performance.now();
  assertEquals(await run.stop(), 0);
  assertLess(performance.now() - askedAt, 9_000);
});

Deno.test("an end is acted on although nobody reads the output", async () => {
  await using folder = await Folder.make({
    services: [
      { name: "a", command: script("floods.py", 0) },
      { name: "b", command: "sleep 2; exit 3" },
    ],
  });
  await using run = new Run(folder, [], { stdout: "unread" });
  assertEquals(await run.code(), 1);
});

Deno.test("a reader that leaves takes no service along, and a stop still stops all", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: script("floods.py", 0) }, { name: "b", command: `touch up; ${IDLE}` }],
  });
  await using run = new Run(folder, [], { shell: '"$@" | head -n 1; echo $? >after; exit 0' });
  await waitUntil(
    async () => (await folder.read("after")) === "" && run.out.lines.length === 1,
    "head has left",
  );
  const processes = run.processes();
  const orchestrator = processes.find(({ command }) =>
    /--infrastructure/.test(command) && !/^\/bin\/sh/.test(command)
  )!;
  assert(processes.some(({ command }) => command.includes("sleep 1000")), JSON.stringify(processes));
  Deno.kill(orchestrator.pid, "SIGTERM");
  assertEquals(await run.code(), 0);
});

Deno.test("a full disk stops no service", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: `${script("floods.py", 20_000)}; true` }],
  });
  await using run = new Run(folder, [], { shell: '"$@" >/dev/full' });
  assertEquals(await run.code(), 0);
});

Deno.test("no secret of .env is ever printed by the orchestrator itself", async () => {
  const port = freePort();
  await using folder = await Folder.make({
    env: `TOKEN=s3cret-1\nPASSWORD='s3cret-2'\nbad line s3cret-3\nFOLDER=s3cret-4\nPROGRAM=s3cret-5\n`,
    services: [
      { name: "a", command: ["${PROGRAM}"], critical: false },
      { name: "b", command: IDLE, working_dir: "${FOLDER}", critical: false },
      { name: "c", command: "exit 3", environment: { X: "${TOKEN}" }, critical: false },
      {
        name: "d",
        command: IDLE,
        critical: false,
        timeout_start: 1,
        health: { http: `http://user:\${PASSWORD}@127.0.0.1:${port}/\${TOKEN}` },
      },
      { name: "e", command: ["python", "${TOKEN}.py"], critical: false },
    ],
  });
  await using run = new Run(folder);
  assertEquals(await run.code(), 1);
  assert(!/s3cret/.test(run.out.text + run.err.text), run.out.text + run.err.text);
});

Deno.test("as a library: run, events, snapshot and stop", async () => {
  await using folder = await Folder.make();
  const services = defineServices({ a: UP, b: { ...UP, dependencies: ["a"] } });
  const options: RunOptions = { infrastructure: folder.path, services, dashboard: "none" };
  const orchestrator = new Orchestrator(["b"], options);
  assertEquals(orchestrator.snapshot().services, []);
  const seen: string[] = [];
  const watching = (async () => {
    for await (const event of orchestrator.events()) {
      if (event.kind !== "state") continue;
      seen.push(`${event.row.name} ${event.row.state.kind}`);
      if (seen.at(-1) === "b running") {
        assertEquals(orchestrator.snapshot(1).services.map(({ recent }) => recent), [["up"], ["up"]]);
        orchestrator.stop();
      }
    }
  })();
  assertEquals(await orchestrator.run(), 0);
  await watching;
  assertEquals(seen, [
    ..."a starting,a running,b starting,b running".split(","),
    ..."b stopping,b stopped,a stopping,a stopped".split(","),
  ]);
});

Deno.test("as a library: what users can fix is thrown before anything starts", async () => {
  await using folder = await Folder.make();
  const services = defineServices({ a: { command: "touch started", port: 80, portEnv: "A_PORT" } });
  const run = (names: string[], more: RunOptions = {}) =>
    new Orchestrator(names, { infrastructure: folder.path, services, dashboard: "none", ...more }).run();
  await assertRejects(() => run(["b"]), UserError, `"b"`);
  await assertRejects(() => run([], { envFile: "/no/such/.env" }), UserError, "/no/such/.env");
  await assertRejects(() => run([], { infrastructure: "/no/such" }), UserError, "/no/such");
  await folder.write(".env", "A_PORT=none\n");
  await assertRejects(() => run([]), UserError, "A_PORT");
  assertEquals(await folder.read("started"), "");
});

Deno.test("as a library: the events end with the run, also with one that can't begin or has nothing to do", async () => {
  await using folder = await Folder.make();
  const story = async (orchestrator: Orchestrator) => {
    const texts: string[] = [];
    for await (const event of orchestrator.events()) if (event.kind === "log") texts.push(event.message);
    return texts;
  };
  const options: RunOptions = { infrastructure: folder.path, services: [], dashboard: "none" };
  const idle = new Orchestrator([], options);
  assertEquals(await Promise.all([story(idle), idle.run()]), [[], 0]);
  assertEquals(await story(idle), []);
  const wrong = new Orchestrator(["x"], options);
  assertEquals((await Promise.allSettled([story(wrong), wrong.run()])).map(({ status }) => status), [
    "fulfilled",
    "rejected",
  ]);
  const crashed = new Orchestrator([], {
    ...options,
    services: defineServices({ a: { command: "exit 3" } }),
  });
  const [texts, status] = await Promise.all([story(crashed), crashed.run()]);
  assertMatch(texts.at(-1) ?? "", /^✖ a \[a\] exited with status 3, after running for \d+ ms\.$/);
  assertEquals(status, 1);
});

Deno.test("as a library: a stop before the run makes it end at once", async () => {
  await using folder = await Folder.make();
  const services = defineServices({ a: UP });
  const orchestrator = new Orchestrator([], { infrastructure: folder.path, services, dashboard: "none" });
  await orchestrator.stop();
  assertEquals(await orchestrator.run(), 0);
});

const UNKNOWN = 'There is no service "wbe"; did you mean "web"? The services are db, web, bot.';

for (
  const [what, args, environment, message] of [
    ["an unknown option", ["--sevices=db"], {}, "There is no option --sevices; did you mean --services?"],
    ["an unknown name", ["--services", "wbe"], {}, UNKNOWN],
    ["an unknown name in the foreground", ["--service", "wbe"], {}, UNKNOWN],
    [
      "an unknown folder",
      ["--infrastructure", "/no/such"],
      {},
      "There is no folder /no/such; place the orchestrator beside infrastructure/ or name the folder with --infrastructure DIR.",
    ],
    [
      "a bad port",
      [],
      { WEB_SERVICE_PORT: "s3cret" },
      'Cannot use WEB_SERVICE_PORT, the port of "web": its value is not a whole number from 1 to 65535.',
    ],
    [
      "a missing env file",
      ["--env-file", "/no/such/.env"],
      {},
      "There is no file /no/such/.env; check what --env-file names.",
    ],
    ["an env file that is a folder", ["--env-file", "/"], {}, "Cannot read /: it is a folder; name a file."],
    [
      "a missing services file",
      ["--config", "/no/such.yaml"],
      {},
      "Cannot read the services file /no/such.yaml: there is no such file.",
    ],
    [
      "no services file to read",
      ["--config", "/"],
      {},
      "Cannot read the services file /: it is a folder; put a file there, or name another one with --config.",
    ],
    [
      "an empty name",
      ["--services", "db,,web"],
      {},
      "--services holds an empty name; for example --services db,web.",
    ],
    [
      "--service beside --services",
      ["--service", "db", "--services", "web"],
      {},
      "--service runs one service in the foreground, --services several; give one of them.",
    ],
    ["--json without --list", ["--json"], {}, "--json needs --list."],
    [
      "--wait without --detach",
      ["--wait", "5s"],
      {},
      "--wait needs --detach, or names to start in an orchestrator that runs.",
    ],
    [
      "a wait that is no duration",
      ["-d", "--wait", "soon"],
      {},
      '--wait takes a duration, not "soon"; use seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m.',
    ],
    [
      "a level that is none",
      ["--log-level", "loud"],
      {},
      "--log-level must be one of debug, info, warn, error.",
    ],
  ] as const
) {
  Deno.test(`${what} is a sentence on stderr and status 2, before anything starts`, async () => {
    await using folder = await Folder.make();
    const whole = (args as readonly string[]).includes("--infrastructure")
      ? args
      : [...args, "--infrastructure", folder.path];
    assertEquals(await runToEnd(null, whole, { environment }), {
      code: 2,
      out: "",
      err: `orchestrator: ${message}\n`,
    });
  });
}

Deno.test("a required variable that is missing is reported before anything starts, status 2", async () => {
  await using folder = await Folder.make({
    services: [
      { name: "db", command: "touch started" },
      { name: "web", command: IDLE, env_required: ["TOKEN", "KEY"] },
    ],
  });
  const { code, out, err } = await runToEnd(folder, []);
  assertEquals([code, out, await folder.read("started")], [2, "", ""]);
  assertEquals(
    err,
    `orchestrator: Cannot start "web": it needs TOKEN, KEY; set them in ${folder.path}/.env.\n`,
  );
});

Deno.test("--services starts what is named and what it needs, and logs what it added", async () => {
  await using folder = await Folder.make({
    services: [
      { name: "db", command: UP.command, health: { log: "up" } },
      { name: "web", command: UP.command, dependencies: ["db"] },
      { name: "bot", command: UP.command, dependencies: ["db"], health: { log: "up" } },
    ],
  });
  await using run = new Run(folder, ["--services=bot"]);
  await run.line("[orchestrator] bot is running");
  await run.stop();
  assertEquals(run.out.lines[0], "[orchestrator] db is added: bot depends on it");
  assert(!run.out.text.includes("web"), run.out.text);
});

Deno.test("--list shows the services as a table, --json as data, with the ports of the environment", async () => {
  await using folder = await Folder.make({ env: { WEB_SERVICE_PORT: 9003 } });
  const { code, out } = await runToEnd(folder, ["--list"], {
    environment: { DATABASE_SERVICE_PORT: undefined },
  });
  assertEquals(code, 0);
  assertEquals(out.trimEnd().split("\n").map((line) => line.split(/ {2,}/)), [
    ["Alias", "Service", "Port", "Entry point", "Depends on"],
    ["db", "Database Service", "8001", "services/database_service/src/main.py", "-"],
    ["web", "Web Service", "9003", "services/web_service/src/main.py", "db"],
    ["bot", "Bot Service", "-", "services/bot_service/src/main.py", "db"],
  ]);
  const json = JSON.parse((await runToEnd(folder, ["-l", "--json"])).out);
  assertEquals(
    json.map(({ name, port, dependencies }: Record<string, unknown>) => [name, port, dependencies]),
    [
      ["db", Number(Deno.env.get("DATABASE_SERVICE_PORT") ?? 8001), []],
      ["web", 9003, ["db"]],
      ["bot", null, ["db"]],
    ],
  );
});

Deno.test("a look at the services writes nothing, their first start keeps what their file means", async () => {
  await using folder = await Folder.make({ services: [{ name: "a", command: "true" }] });
  const kept = ".orchestrator/services.cache.json";
  assertEquals((await runToEnd(folder, ["--list"])).code, 0);
  assertEquals(await folder.read(kept), "");
  assertEquals((await runToEnd(folder, [])).code, 0);
  const { services } = JSON.parse(await folder.read(kept));
  assertEquals(services.map(({ name }: { name: string }) => name), ["a"]);
});

Deno.test("a start with an error in the services file reports it once and leaves nothing", async () => {
  await using folder = await Folder.make({ services: [{ name: "a" }] });
  const { code, out, err } = await runToEnd(folder, []);
  assertEquals([code, out, err], [
    2,
    "",
    "orchestrator: services.json:3:5 services[0].command: missing; use a list of words, or a text for /bin/sh -c\n",
  ]);
  await assertRejects(() => Deno.stat(`${folder.path}/.orchestrator`), Deno.errors.NotFound);
});

Deno.test("--help and --version work also where nothing can be read", async () => {
  const args = ["--infrastructure", "/no/such"];
  const help = await runToEnd(null, ["--help", ...args]);
  assertEquals([help.code, help.err], [0, ""]);
  assertStringIncludes(help.out, "db, web, bot");
  assertEquals((await runToEnd(null, ["-V", ...args])).out, `orchestrator ${VERSION}\n`);
});

Deno.test("the help shows the names of the folder's own services", async () => {
  await using folder = await Folder.make({ services: [{ name: "shop", command: "true" }] });
  const { out } = await runToEnd(folder, ["--help"]);
  assertStringIncludes(out, "services: shop");
  assertStringIncludes(out, "--service shop");
});
