// @ts-types="../config/std.d.ts"
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertMatch,
  assertThrows,
} from "@std/assert";
import { defineServices } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import { describeChange, describeState } from "../terminal/messages.ts";
import { ManualClock } from "../testing/clock.ts";
import { Folder, freePort, isAlive, LIMIT_MS, waitUntil } from "../testing/run.ts";
import { IDLE, READY, script, UP, WELL } from "../testing/services.ts";
import { Inside } from "../testing/supervisor.ts";

Deno.test("what depends on a service with a port starts when the port answers", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    web: { ...UP, dependencies: ["db"] },
    db: { command: script("serves.py", port, 0.3), port },
  });
  const state = await run.is("web", "starting");
  assertEquals(run.story, ["db starting", "db running", "web starting"]);
  assertEquals(run.text("db").trim(), `listening on ${port}`);
  assert(state.pid !== null && isAlive(state.pid));
});

Deno.test("what depends on a service without a port starts three seconds after it", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    db: { command: IDLE },
    web: { command: IDLE, dependencies: ["db"] },
  }, { clock });
  await clock.advance(999);
  assertEquals(run.story, ["db starting"]);
  await clock.advance(1);
  assertEquals(run.story, ["db starting", "db running"]);
  await clock.advance(1_999);
  assertEquals(run.story, ["db starting", "db running"]);
  await clock.advance(1);
  assertEquals(run.story, ["db starting", "db running", "web starting"]);
});

Deno.test("a service whose port variable is not set is ready when it has lived for a second", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    db: { command: IDLE, portEnv: "PORT_THAT_IS_NOT_SET" },
    web: { ...UP, dependencies: ["db"] },
  }, { clock });
  await clock.advance(999);
  assertEquals(run.states("db"), ["starting"]);
  await clock.advance(1);
  assertEquals(run.story.slice(0, 3), ["db starting", "db running", "web starting"]);
  await run.is("web", "running");
});

Deno.test("what is independent starts side by side", async () => {
  await using folder = await Folder.make();
  const ports = [freePort(), freePort()];
  await using run = new Inside(folder, {
    a: { command: script("serves.py", ports[0]!, 0.3), port: ports[0]! },
    b: { command: script("serves.py", ports[1]!, 0.3), port: ports[1]! },
  });
  await run.is("a", "running");
  await run.is("b", "running");
  assertEquals(run.story.slice(0, 2), ["a starting", "b starting"]);
});

Deno.test("what is not ready in time is stopped, and the run fails", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    db: { command: IDLE, port: freePort(), timeoutStartMs: 300 },
    web: { ...UP, dependencies: ["db"] },
  }, { clock });
  await clock.advance(299);
  const { pid } = await run.is("db", "starting");
  await clock.advance(1);
  const result = await run.supervisor.finished;
  assertEquals([result.status, result.failedService?.name], [1, "db"]);
  const state = run.state("db");
  assert(state.kind === "failed" && state.reason === "was not ready within 300 ms", JSON.stringify(state));
  assertEquals([isAlive(pid!), run.states("web")], [false, ["stopped"]]);
});

Deno.test("a taken port fails the start and names who holds it", async () => {
  await using folder = await Folder.make();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  await using run = new Inside(folder, { db: { command: `touch ${folder.path}/started; ${IDLE}`, port } });
  const { status, failedService } = await run.supervisor.finished;
  listener.close();
  assert(status === 1 && failedService?.state.kind === "failed");
  assertEquals(
    failedService.state.reason.replace(/\(.*\)/, "(COMMAND)"),
    `could not start: port ${port} is taken by PID ${Deno.pid} (COMMAND); stop that or give "db" another port`,
  );
  assertEquals(await folder.read("started"), "");
});

for (
  const [what, definition, reason] of [
    [
      "working folder",
      { command: IDLE, workingDir: "gone" },
      "could not start: its working folder FOLDER/gone does not exist",
    ],
    [
      "entry point",
      { command: ["python", "gone.py"] },
      "could not start: its entry point FOLDER/gone.py does not exist",
    ],
    [
      "program",
      { command: ["gone-program"] },
      "could not start: there is no program gone-program on PATH; install it or correct its command",
    ],
  ] as const
) {
  Deno.test(`a missing ${what} fails the service, and what runs already is stopped`, async () => {
    await using folder = await Folder.make();
    const port = freePort();
    await using run = new Inside(folder, {
      db: { command: script("serves.py", port), port },
      web: { ...definition, dependencies: ["db"] },
    });
    const { status, failedService } = await run.supervisor.finished;
    assert(status === 1 && failedService?.state.kind === "failed" && failedService.name === "web");
    assertEquals(failedService.state.reason.replaceAll(folder.path, "FOLDER"), reason);
    assertEquals(run.state("db").kind, "stopped");
  });
}

Deno.test("a service that ends with 0 is STOPPED and the rest go on, until nothing is left", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    short: { command: "echo done" },
    long: { command: `until [ -e ${folder.path}/enough ]; do sleep 0.02; done` },
  }, { clock });
  await run.is("short", "stopped");
  await clock.advance(1_000);
  assertEquals([run.state("short").lastExit, run.state("long").kind], [WELL, "running"]);
  await folder.write("enough", "");
  const result = await run.supervisor.finished;
  assertEquals([result.status, result.failedService, run.state("long").kind], [0, null, "stopped"]);
});

Deno.test("a service that nobody starts because of an ended dependency makes the run fail", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    db: { command: "true" },
    web: { ...UP, dependencies: ["db"] },
  });
  assertEquals((await run.supervisor.finished).status, 1);
  const state = run.state("web");
  assert(state.kind === "pending");
  assertEquals(state.waitingFor, ["db"]);
});

for (
  const [what, end, exit, reason] of [
    ["status 3", "exit 3", { kind: "exited", code: 3 }, "exited with status 3"],
    [
      "a signal",
      "kill -KILL $$",
      { kind: "killed", signal: "SIGKILL" },
      "killed by SIGKILL, perhaps out of memory",
    ],
    ["SIGTERM that was not ours", "kill $$", { kind: "killed", signal: "SIGTERM" }, "killed by SIGTERM"],
  ] as const
) {
  Deno.test(`a service that ends by ${what} while it runs is CRASHED and takes the others along`, async () => {
    await using folder = await Folder.make();
    await using run = new Inside(folder, {
      db: { command: `echo up; until [ -e ${folder.path}/now ]; do sleep 0.02; done; ${end}`, health: READY },
      other: { ...UP },
    });
    await run.is("other", "running");
    await run.is("db", "running");
    await folder.write("now", "");
    const result = await run.supervisor.finished;
    assertEquals([result.status, result.failedService?.name], [1, "db"]);
    const state = run.state("db");
    assert(state.kind === "crashed" && state.reason.startsWith(reason), JSON.stringify(state));
    assertEquals(state.exit, exit);
    assertEquals(run.states("other"), ["starting", "running", "stopping", "stopped"]);
  });
}

Deno.test("an end is noticed when it happens", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { a: { ...UP } });
  const { pid } = await run.is("a", "running");
  const killedAt = performance.now();
  Deno.kill(pid!, "SIGKILL");
  await run.is("a", "crashed");
  assertLess(run.changes("a").at(-1)!.at - killedAt, 1_000);
});

Deno.test("all are stopped in reverse order, independent ones side by side, none before its dependents are gone", async () => {
  await using folder = await Folder.make();
  await folder.write(".env", `JOURNAL=${folder.path}/journal\n`);
  await using run = new Inside(folder, {
    db: { command: script("journal.py", "db"), health: READY },
    web: { command: script("journal.py", "web", 0.4), dependencies: ["db"], health: READY },
    bot: { command: script("journal.py", "bot", 0.4), dependencies: ["db"], health: READY },
  });
  await run.is("web", "running");
  await run.is("bot", "running");
  const { status, remaining } = await run.supervisor.close();
  assertEquals([status, remaining], [0, []]);
  const journal = (await folder.read("journal")).trim().split("\n");
  assertEquals(journal.slice(0, 3).sort(), ["bot started", "db started", "web started"]);
  assertEquals(journal.slice(3, 5).sort(), ["bot stopping", "web stopping"]);
  assertEquals(journal.slice(5, 7).sort(), ["bot stopped", "web stopped"]);
  assertEquals(journal.slice(7), ["db stopping", "db stopped"]);
  assertEquals(run.story.filter((line) => line.endsWith("stopping")), [
    "bot stopping",
    "web stopping",
    "db stopping",
  ]);
});

Deno.test("a service that ignores the signal is killed when its time is over", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, { a: { command: script("stubborn.sh"), timeoutStopMs: 10_000 } }, {
    clock,
  });
  await run.until(() => run.text("a").includes("ready"), "it is ready");
  const closed = run.supervisor.close();
  await run.until(() => run.text("a").includes("no thanks"), "it ignores the signal");
  await clock.advance(9_999);
  assertEquals([run.states("a").at(-1), run.state("a").lastExit], ["stopping", null]);
  await clock.advance(1);
  const { status } = await clock.passUntil(closed);
  assertEquals([status, run.state("a").kind], [0, "stopped"]);
  assertEquals(run.state("a").lastExit, { kind: "killed", signal: "SIGKILL" });
  assertEquals(run.processes(), []);
});

Deno.test("a stop signal of its own is what a service gets", async () => {
  await using folder = await Folder.make();
  await folder.write(".env", `JOURNAL=${folder.path}/journal\n`);
  await using run = new Inside(folder, {
    a: { command: script("journal.py", "a"), stopSignal: "SIGUSR1", health: READY },
  });
  await run.is("a", "running");
  await run.supervisor.close();
  assertEquals([run.text("a"), run.state("a").lastExit], ["a is up\na got SIGUSR1\n", WELL]);
});

Deno.test("a grandchild that ignores the signal is gone at the end, too", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  const command = script("has_grandchild.sh");
  await using run = new Inside(folder, { a: { command, timeoutStopMs: 10_000 } }, { clock });
  await run.until(() => /^up$/m.test(run.text("a")) && /^grandchild/m.test(run.text("a")), "it is there");
  const grandchild = Number(/grandchild (\d+)/.exec(run.text("a"))![1]);
  const { pid } = await run.is("a", "starting");
  const closed = run.supervisor.close();
  await waitUntil(() => !isAlive(pid!), "its parent is gone");
  await clock.advance(9_999);
  assertEquals([isAlive(grandchild), run.state("a").kind], [true, "stopping"]);
  await clock.advance(1);
  await clock.passUntil(closed);
  assertEquals([isAlive(grandchild), run.state("a").lastExit], [false, WELL]);
});

Deno.test("what a service leaves running when it ends is stopped before the end counts", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { a: { command: script("forks_and_exits.sh") } });
  const { status } = await run.supervisor.finished;
  assertEquals([status, run.states("a")], [0, ["starting", "stopping", "stopped"]]);
  assertMatch(run.text("a"), /^left \d+ behind$/m);
  assertEquals(isAlive(Number(run.text("a").split(" ")[1])), false);
});

Deno.test("a service that closes its pipes runs on and is stopped like any other", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  const command = script("closes_stdout.sh", `${folder.path}/pid`);
  await using run = new Inside(folder, { a: { command } }, { clock });
  await waitUntil(async () => (await folder.read("pid")).endsWith("\n"), "it has closed its pipes");
  await clock.advance(1_000);
  const { pid } = await run.is("a", "running");
  assertEquals([Number(await folder.read("pid")), run.text("a")], [pid, "last words\n"]);
  await clock.passUntil(run.supervisor.close()); // the shell's own sleep may outlive it by a moment, which is polled
  assertEquals([run.state("a").kind, isAlive(pid!)], ["stopped", false]);
});

Deno.test("a port that someone keeps after the stop is named, and the run fails", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  const clock = new ManualClock();
  await using run = new Inside(folder, { a: { command: script("escapes.py", port), port } }, { clock });
  await clock.passUntil(run.is("a", "running"));
  await run.until(() => run.text("a").includes("escaped"), "one escaped");
  const { status, remaining } = await clock.passUntil(run.supervisor.close(), 100);
  const escaped = Number(run.text("a").split(" ")[1]);
  Deno.kill(escaped, "SIGKILL");
  assertEquals(
    [status, remaining.map((line) => line.replace(/\(.*\)/, "(COMMAND)"))],
    [1, [`Port ${port} of "a" is still taken by PID ${escaped} (COMMAND).`]],
  );
});

Deno.test("a stop while services start starts nothing more and leaves nothing", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    db: { command: script("serves.py", port, 30), port },
    web: { ...UP, dependencies: ["db"] },
  });
  await run.is("db", "starting");
  const { status } = await run.supervisor.close();
  assertEquals([status, run.states("db"), run.states("web")], [0, ["starting", "stopping", "stopped"], [
    "stopped",
  ]]);
});

Deno.test("a service that waits for room in its pipe gets some to stop", async () => {
  await using folder = await Folder.make();
  const command = "trap 'echo bye; exit 0' TERM; while :; do echo some more of it; done";
  await using run = new Inside(folder, { a: { command, timeoutStopMs: LIMIT_MS } });
  run.supervisor.listen({ event() {}, backpressure: () => new Promise(() => {}) });
  await run.is("a", "running"); // for a second it has written as much as the pipe takes
  await run.supervisor.close();
  assertEquals([run.state("a").lastExit, run.text("a").split("\n").at(-2)], [WELL, "bye"]);
});

Deno.test("kill ends at once what would take its time", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    a: { command: script("stubborn.sh"), timeoutStopMs: LIMIT_MS },
    b: { command: script("stubborn.sh"), timeoutStopMs: LIMIT_MS, dependencies: [] },
  });
  await run.until(() => run.text("a").includes("ready") && run.text("b").includes("ready"), "they are ready");
  run.supervisor.close();
  await run.is("a", "stopping");
  const killedAt = performance.now();
  const { status } = await run.supervisor.kill();
  assertLess(performance.now() - killedAt, LIMIT_MS / 2);
  assertEquals([status, run.state("a").lastExit], [0, { kind: "killed", signal: "SIGKILL" }]);
});

Deno.test(".env is read again at each start", async () => {
  await using folder = await Folder.make({ env: { COLOUR: "red" } });
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    a: { command: 'echo "it is $COLOUR"; exit 1', restartPolicy: "on-failure", retryDelayMs: 500 },
  }, { clock });
  await run.is("a", "restarting");
  await folder.write(".env", "COLOUR=green\n");
  await clock.advance(600);
  await run.until(() => run.text("a").includes("green"), "it is green");
  assertEquals(run.text("a").split("\n").slice(0, 2), ["it is red", "it is green"]);
});

Deno.test("one that dies at every start is tried with growing pauses, then FAILED", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    a: { command: "echo try; exit 7", restartPolicy: "on-failure", maxRetries: 3, retryDelayMs: 100 },
    b: { ...UP },
  }, { clock, random: () => 0.5 });
  for (const [index, pauseMs] of [100, 200, 400].entries()) {
    await run.was("a", "restarting", index + 1);
    await clock.advance(pauseMs - 1);
    assertEquals(run.state("a").kind, "restarting");
    await clock.advance(1);
    assertEquals(run.states("a").filter((state) => state === "starting").length, index + 2);
  }
  const { status, failedService } = await run.supervisor.finished;
  assert(status === 1 && failedService?.name === "a" && failedService.state.kind === "failed");
  assertEquals(failedService.state.reason, "exited with status 7; gave up after 3 retries");
  assertEquals(run.text("a"), "try\n".repeat(4));
});

Deno.test("a pause before a retry is shown, and ends at once on stop", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    a: {
      command: "exit 1",
      restartPolicy: "on-failure",
      maxRetries: 5,
      retryDelayMs: 3_600_000,
      retryDelayMaxMs: 9e9,
    },
  });
  await run.is("a", "restarting");
  const snapshot = run.supervisor.snapshot();
  assertMatch(describeState(snapshot.services[0]!, snapshot.at), /^in \d+ s, attempt 1 of 5$/);
  const { status } = await run.supervisor.close();
  assertEquals([status, run.states("a")], [0, ["starting", "restarting", "stopped"]]);
});

Deno.test("a service is started again only when what it needs runs", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    db: { ...UP, restartPolicy: "on-failure", retryDelayMs: 1_500 },
    web: { ...UP, dependencies: ["db"], restartPolicy: "on-failure", retryDelayMs: 10 },
  }, { clock, random: () => 0.5 });
  await run.is("web", "running");
  for (const name of ["db", "web"] as const) {
    Deno.kill((await run.is(name, "running")).pid!, "SIGKILL");
    await run.is(name, "restarting");
  }
  await clock.advance(10);
  const waiting = await run.is("web", "pending");
  assertEquals(waiting.waitingFor, ["db"]);
  await clock.advance(1_489);
  assertEquals([run.state("web").kind, run.state("db").kind], ["pending", "restarting"]);
  await clock.advance(1);
  await run.was("web", "starting", 2);
  const again = run.story.lastIndexOf("db starting");
  assertEquals(run.story.slice(again, again + 3), ["db starting", "db running", "web starting"]);
});

Deno.test("one that restarts always does so after status 0 too, with its pause and without end", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    a: { command: "exit 0", restartPolicy: "always", maxRetries: 1, retryDelayMs: 30 },
  }, { clock, random: () => 0.5 });
  for (let times = 1; times <= 5; times++) {
    await run.was("a", "restarting", times);
    await clock.advance(29);
    assertEquals(run.states("a").filter((state) => state === "starting").length, times);
    await clock.advance(1);
    assertEquals(run.states("a").filter((state) => state === "starting").length, times + 1);
  }
  assertEquals(run.state("a").failures, []);
});

Deno.test("a service that is restarted with its dependencies is, the others are not", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    db: { command: script("serves.py", port), port, restartPolicy: "always", retryDelayMs: 10 },
    web: { ...UP, dependencies: ["db"], restartWithDependencies: true },
    bot: { ...UP, dependencies: ["db"] },
  });
  await run.is("web", "running");
  await run.is("bot", "running");
  const before = run.state("bot");
  const { pid } = await run.is("db", "running");
  Deno.kill(pid!, "SIGKILL");
  await run.was("web", "running", 2);
  assertEquals(run.state("bot"), before);
  const story = run.story.slice(run.story.indexOf("db restarting"));
  assertEquals(story.filter((line) => /^(db running|web stopping|web starting)$/.test(line)), [
    "db running",
    "web stopping",
    "web starting",
  ]);
});

Deno.test("one that is not critical shows FAILED and the rest run on", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    extra: { command: "exit 9", critical: false },
    main: { ...UP },
    needy: { ...UP, dependencies: ["extra"] },
  });
  await run.is("extra", "failed");
  await run.is("main", "running");
  const state = run.state("needy");
  assert(state.kind === "pending");
  assertEquals(state.waitingFor, ["extra"]);
  assertEquals((await run.supervisor.close()).status, 0);
});

Deno.test("what depends on a task starts when it has ended with 0; its output and end are reported", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    migrate: { command: "echo migrating; sleep 0.3; echo migrated", kind: "task" },
    web: { ...UP, dependencies: ["migrate"] },
  });
  await run.is("web", "running");
  assertEquals(run.story, [
    "migrate starting",
    "migrate running",
    "migrate stopped",
    "web starting",
    "web running",
  ]);
  assertEquals(run.text("migrate"), "migrating\nmigrated\n");
  const change = run.changes("migrate").at(-1)!;
  assertMatch(describeChange(change)?.message ?? "", /^migrate finished \(ran for \d+ ms\)$/);
});

Deno.test("a task that fails starts nothing and fails the run", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    migrate: { command: "exit 2", kind: "task" },
    web: { ...UP, dependencies: ["migrate"] },
  });
  const { status, failedService } = await run.supervisor.finished;
  assertEquals([status, failedService?.name, run.states("web")], [1, "migrate", ["stopped"]]);
});

Deno.test("an external service whose variable is missing fails, and the run ends", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    db: {
      command: "unused",
      kind: "external",
      health: { ...READY, probe: { kind: "tcp", port: String(freePort()) } },
      envRequired: ["GONE"],
    },
  });
  const { status, failedService } = await run.supervisor.finished;
  assert(status === 1 && failedService?.state.kind === "failed");
  const reason = `could not start: it needs GONE; set it in ${folder.path}/.env`;
  assertEquals(failedService.state.reason, reason);
});

Deno.test("an external service is waited for and left alone", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    cache: {
      command: "unused",
      kind: "external",
      health: { ...READY, probe: { kind: "tcp", port: String(port) } },
    },
    web: { ...UP, dependencies: ["cache"] },
  });
  await run.is("cache", "starting");
  const listener = Deno.listen({ hostname: "127.0.0.1", port });
  await run.is("web", "running");
  assertEquals(run.story.slice(0, 3), ["cache starting", "cache running", "web starting"]);
  const { status, remaining } = await run.supervisor.close();
  listener.close();
  assertEquals([status, remaining], [0, []]);
});

for (
  const [what, health] of [
    ["an http answer", { kind: "http", url: "http://127.0.0.1:${PORT}/health", body: "I am well" }],
    ["a port that answers", { kind: "tcp", port: "${PORT}" }],
    ["a command", { kind: "command", command: ["test", "-e", "ready"] }],
    ["a line of output", { kind: "log", pattern: "^listening on \\d+$" }],
  ] as const
) {
  Deno.test(`a service is ready by ${what}`, async () => {
    await using folder = await Folder.make();
    const port = freePort();
    await using run = new Inside(folder, {
      a: {
        command: `(sleep 0.5; touch ready) & ${script("serves.py", port, 0.5)}`,
        port,
        health: { ...READY, probe: health },
      },
    });
    const state = await run.is("a", "running");
    const [starting, running] = run.changes("a");
    assertGreaterOrEqual(running!.at - starting!.at, 400);
    assert(isAlive(state.pid!));
  });
}

Deno.test("a service that is unhealthy as often as allowed is stopped and restarted by its policy", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  const clock = new ManualClock();
  await using run = new Inside(folder, {
    a: {
      command: script("serves.py", port, 0, `${folder.path}/mood`),
      port,
      restartPolicy: "on-failure",
      retryDelayMs: 50,
      health: {
        probe: { kind: "http", url: "http://127.0.0.1:${PORT}/health", body: null },
        intervalMs: 10_000,
        timeoutMs: 10_000,
        retries: 3,
      },
    },
  }, { clock });
  await clock.passUntil(run.is("a", "running"));
  await folder.write("mood", "sick");
  for (const [index, time] of ["1 of 3", "2 of 3", "3 of 3"].entries()) {
    await clock.advance(9_980); // the clock may be a step of 10 ms ahead since it was seen to run
    assertEquals(run.notices.length, index);
    await clock.advance(20);
    await run.until(() => run.notices.length > index, "it is found unhealthy");
    assertEquals(run.notices.at(-1), `a is unhealthy (${time}): HTTP 500`);
  }
  const state = await run.is("a", "restarting");
  assertEquals(state.reason, "failed its health check 3 times: HTTP 500");
  await folder.write("mood", "well");
  await clock.passUntil(run.was("a", "running", 2));
});

Deno.test("a slow answer and now and then a bad one never kill, and probes do not pile up behind them", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    a: {
      command: script("serves.py", port, 0, `${folder.path}/mood`),
      port,
      health: {
        probe: { kind: "http", url: "http://127.0.0.1:${PORT}/health", body: null },
        intervalMs: 20,
        timeoutMs: 200,
        retries: 3,
      },
    },
  });
  const unhealthy = () => run.notices.filter((text) => text.startsWith("a is unhealthy (1 of 3)")).length;
  await run.is("a", "running");
  await folder.write("mood", "slow");
  await run.until(() => unhealthy() === 1, "it is slow once");
  await folder.write("mood", "moody");
  await run.until(() => unhealthy() >= 6, "it is unhealthy now and then");
  assertEquals(run.states("a"), ["starting", "running"]);
  // The number is how many were in hand at once: the slow one, those that gave up meanwhile, and the next.
  const most = Math.max(...[...run.text("a").matchAll(/^asked (\d+)/gm)].map(([, count]) => Number(count)));
  assertLess(most, 5);
});

Deno.test("a variable that is too long is named when a start fails by it", async () => {
  await using folder = await Folder.make({ env: { HUGE: "s3cret".repeat(50_000) } });
  await using run = new Inside(folder, { a: { command: "true" } });
  const { failedService } = await run.supervisor.finished;
  assert(failedService?.state.kind === "failed");
  assertEquals(
    failedService.state.reason,
    "could not start: the variable HUGE is longer than the 128 KiB that the system takes",
  );
});

Deno.test("a clock that is set back changes nothing", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  let wall = 1e12;
  clock.wall = () => wall -= 3_600_000; // an hour back each time someone looks
  await using run = new Inside(folder, {
    a: { command: "exit 1", restartPolicy: "on-failure", maxRetries: 2, retryDelayMs: 50, critical: false },
    b: { command: script("stubborn.sh"), timeoutStopMs: 200 },
  }, { clock, random: () => 0.5 });
  for (const [index, pauseMs] of [50, 100].entries()) {
    await run.was("a", "restarting", index + 1);
    await clock.advance(pauseMs);
  }
  await run.is("a", "failed");
  await run.until(() => run.text("b").includes("ready"), "it is ready");
  await clock.advance(1_000);
  assertEquals(run.state("b").kind, "running");
  const closed = run.supervisor.close();
  await run.until(() => run.text("b").includes("no thanks"), "it ignores the signal");
  await clock.advance(200);
  await clock.passUntil(closed);
  assertEquals(run.state("b").lastExit, { kind: "killed", signal: "SIGKILL" });
});

Deno.test("services are stopped, started and restarted by name while the others run on", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    db: { command: script("serves.py", port), port },
    web: { ...UP, dependencies: ["db"] },
    other: { ...UP },
  });
  for (const name of ["web", "other"]) await run.is(name, "running");
  const others = run.state("other");
  run.supervisor.setDesired(["db"], "stopped");
  await run.is("db", "stopped");
  assertEquals(run.state("web").kind, "stopped");
  run.supervisor.setDesired(["web"], "running");
  await run.is("web", "running");
  assertEquals(run.state("db").kind, "running");
  const { pid } = await run.is("db", "running");
  run.supervisor.setDesired(["db"], "restarted");
  await run.was("db", "running", 3);
  assert((await run.is("db", "running")).pid !== pid);
  assertEquals(run.state("other"), others);
  assertThrows(() => run.supervisor.setDesired(["wbe"], "running"), UserError, `did you mean "web"?`);
});

Deno.test("services that come with new definitions and go with them are reported with all that are there", async () => {
  await using folder = await Folder.make();
  const [a, b, c] = ["a", "b", "c"].map((name) => defineServices({ [name]: { command: IDLE } })[0]!);
  await using run = new Inside(folder, { a: { command: IDLE }, b: { command: IDLE } });
  const reported = () =>
    run.events.filter((event) => event.kind === "services").map(({ services }) =>
      services.map(({ name }) => name).join()
    );
  await run.is("b", "running");
  run.supervisor.replace([a!, b!], new Set(["a"]));
  await run.was("a", "running", 2);
  assertEquals(reported(), []);
  run.supervisor.replace([b!, c!], new Set());
  await run.until(() => reported().length === 2, "a has left");
  assertEquals(reported(), ["b,c,a", "b,c"]);
});

Deno.test("a stop during a restart ends as stopped", async () => {
  await using folder = await Folder.make();
  const clock = new ManualClock();
  await using run = new Inside(folder, { a: { command: script("stubborn.sh"), timeoutStopMs: 300 } }, {
    clock,
  });
  await run.until(() => run.text("a").includes("ready"), "it is ready");
  run.supervisor.setDesired(["a"], "restarted");
  assertEquals(run.state("a").kind, "stopping");
  const closed = run.supervisor.close();
  await clock.advance(300);
  const { status } = await clock.passUntil(closed);
  assertEquals([status, run.state("a").kind, run.text("a").match(/ready/g)?.length], [0, "stopped", 1]);
});
