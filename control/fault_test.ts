// What runs is killed, removed, filled up, asked at the wrong moment.
// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch } from "@std/assert";
import { freePort, isAlive, TESTDATA, waitUntil } from "../testing/run.ts";
import { ask } from "./client.ts";
import { bootId, readProcess } from "../process/procfs.ts";
import { RunFolder } from "./run_folder.ts";
import { quick, Site } from "../testing/site.ts";

/** How long after the death of an orchestrator something of it may still run. */
const GONE_MS = 15_000;

/** A generator of numbers from 0 to 1 that a seed repeats. */
function chances(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

Deno.test("50 times kill -9 at a random moment leaves nothing running and needs no cleaning by hand", async () => {
  const seed = Number(Deno.env.get("SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
  console.log(`SEED=${seed}`);
  const chance = chances(seed);
  // What takes no notice of SIGTERM is killed after a second: the guard waits no longer than any service may take.
  const brief = { timeout_stop: 1 };
  const family = `exec sh ${TESTDATA}/has_grandchild.sh`;
  const slow = "trap 'sleep 0.2; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
  await using site = await Site.make({
    services: [
      quick("db", brief),
      { name: "family", command: family, health: { log: "up" }, ...brief },
      quick("slow", { command: slow, ...brief }),
      quick("web", { dependencies: ["db", "slow"], ...brief }),
    ],
  });
  const pauses = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  for (let round = 0; round < 50; round++) {
    const detached = chance() < 0.5;
    const phase = ["start-up", "steady state", "stopping"][Math.floor(chance() * 3)];
    const command = site.spawn(detached ? ["-d"] : ["--no-dashboard"]);
    const pidOf = () => {
      const record = new RunFolder(site.path).read();
      return record !== null && isAlive(record.orchestrator.pid) ? record.orchestrator.pid : null;
    };
    // In the foreground it is known before it has written anything down.
    let pid = command.pid;
    if (!detached && phase === "start-up") await pauses(chance() * 400);
    else {
      pid = await waitUntil(pidOf, `round ${round} is under way (${phase})`);
      if (phase === "start-up") await pauses(chance() * 200);
      else {
        await site.reachable(pid);
        await site.running("db", "family", "slow", "web");
        if (phase === "stopping") {
          Deno.kill(pid, "SIGTERM");
          await pauses(chance() * 300);
        } else await pauses(chance() * 100);
      }
    }
    try {
      Deno.kill(pid, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // it had just stopped
    }
    await command.ended();
    try {
      await site.allGone(GONE_MS);
    } catch (error) {
      throw new Error(`SEED=${seed}, round ${round}, ${phase}${detached ? ", detached" : ""}`, {
        cause: error,
      });
    }
  }
  const run = await site.foreground();
  await site.running("db", "family", "slow", "web");
  run.signal("SIGTERM");
  assertEquals((await run.ended()).code, 0);
  await site.allGone();
});

/** Kills the orchestrator and its guard, so that nobody is left to stop its services. */
async function orphan(site: Site, pid: number): Promise<void> {
  const services = new Set(site.record().groups.map((group) => group.pid));
  const guard = site.processes().find((one) => one.command.includes("orchestrator-guard"));
  assert(guard !== undefined);
  Deno.kill(guard.pid, "SIGSTOP"); // it is killed with the others below, and must not act before
  Deno.kill(pid, "SIGKILL");
  Deno.kill(guard.pid, "SIGKILL");
  await waitUntil(() => !isAlive(pid) && !isAlive(guard.pid), "both are gone");
  for (const service of services) assert(isAlive(service));
}

const LEFT = "The orchestrator with PID N, started TIME, exited unexpectedly (last seen TIME); " +
  "2 processes that it left running were stopped.";

for (const word of ["status", "stop", "start"]) {
  Deno.test(`${word} reports what a dead orchestrator left, stops it and goes on`, async () => {
    await using site = await Site.make({ services: [quick("db"), quick("web")] });
    const first = await site.foreground();
    await site.running("db", "web");
    await waitUntil(() => site.record().groups.length === 2, "both are written down");
    await orphan(site, first.pid);
    await first.ended();
    const left = site.processes();
    assertEquals(left.length, 2);
    if (word === "start") {
      const next = site.spawn(["--no-dashboard"]);
      assertEquals(site.plain(await next.out.line("that it left running")), `[orchestrator] ${LEFT}`);
      await site.reachable(next.pid);
      await site.running("db", "web");
      next.signal("SIGTERM");
      assertEquals((await next.ended()).code, 0);
    } else {
      const { code, err } = await site.run(word);
      assertEquals(code, word === "status" ? 3 : 0);
      const absent = "Nothing is running in DIR. Start it with: orchestrator -d\n";
      assertEquals(site.plain(err), `orchestrator: ${LEFT}\n${word === "stop" ? absent : ""}`);
    }
    for (const { pid } of left) assert(!isAlive(pid));
    await site.allGone();
  });
}

Deno.test("a record of another boot is reported and forgotten; its PIDs are left alone", async () => {
  await using site = await Site.make({ services: [quick("db")] });
  const stranger = new Deno.Command("sleep", { args: ["1000"], stdin: "null" }).spawn();
  const identity = { pid: stranger.pid, startTicks: readProcess(stranger.pid)!.startTicks };
  new RunFolder(site.path).write({
    orchestrator: identity,
    bootId: "00000000-1111-2222-3333-444444444444",
    run: crypto.randomUUID(),
    startedAt: new Date().toISOString(),
    socket: `${site.path}/.orchestrator/control.sock`,
    logs: null,
    groups: [{ service: "db", ...identity }],
  });
  assert(bootId() !== "");
  const { code, err } = await site.run("status");
  assertEquals(code, 3);
  assertEquals(
    site.plain(err),
    "orchestrator: The orchestrator with PID N, started TIME, ended when the system was rebooted; " +
      "none of its processes are left.\n",
  );
  assert(isAlive(stranger.pid));
  await site.background();
  assert(isAlive(stranger.pid));
  await site.run("stop");
  stranger.kill("SIGKILL");
  await stranger.status;
});

for (const what of ["control.sock", "lock", "run.json", ""]) {
  Deno.test(`a removed .orchestrator/${what} is put back while the run goes on`, async () => {
    await using site = await Site.make({ services: [quick("db")] });
    const pid = await site.background();
    const path = `${site.path}/.orchestrator/${what}`;
    const isThere = () => Deno.lstat(path).then(() => true, () => false);
    for (let round = 0; round < (what === "" ? 1 : 3); round++) {
      await Deno.remove(path, { recursive: true }).catch(() => {}); // it was put back in the middle of it
      await waitUntil(isThere, `it is put back (${round})`);
      await waitUntil(async () => (await site.run("status")).code === 0, "status works");
    }
    const second = await site.run("--no-dashboard");
    assertEquals(second.code, 2);
    assertEquals(
      second.err,
      `orchestrator: An orchestrator with PID ${pid} runs in ${site.path} already; "orchestrator status" shows it ` +
        'and "orchestrator stop" ends it.\n',
    );
    assertEquals((await site.run("stop")).code, 0);
    await site.allGone();
  });
}

Deno.test("a .orchestrator/ that is removed again and again is put back when that ends", async () => {
  await using site = await Site.make({ services: [quick("db")] });
  await site.background();
  const script = "for round in $(seq 300); do rm -rf .orchestrator; sleep 0.005; done";
  const { code } = await new Deno.Command("sh", { args: ["-c", script], cwd: site.path }).output();
  assertEquals(code, 0);
  await waitUntil(async () => (await site.run("status")).code === 0, "status works");
  assertEquals((await site.run("stop")).code, 0);
  await site.allGone();
});

Deno.test("a stop during the start, a start during the stop, a reload during both", async () => {
  const late = quick("late", { command: "sleep 0.3; echo ready; exec sleep 1000" });
  const clinging = quick("clinging", {
    command: "trap 'sleep 0.5; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
  });
  await using site = await Site.make({
    services: [late, clinging, quick("last", { dependencies: ["late"] })],
  });
  const run = await site.foreground();
  // While it starts: a reload changes nothing, a stop of one takes what depends on it along.
  assertEquals((await site.run("reload")).code, 0);
  await site.ask("POST", "/stop", { names: ["late"] });
  await site.running("clinging");
  const isStopped = async () => {
    using mirror = await site.mirror();
    return mirror.row("late")?.state.kind === "stopped";
  };
  await waitUntil(isStopped, "late is stopped, not started");
  // While it stops: it comes back, and what was asked last holds.
  await site.ask("POST", "/stop", { names: ["clinging"] });
  await site.ask("POST", "/reload", {});
  const [stop, start] = [site.run("start", "clinging"), site.run("start", "last")];
  assertEquals([(await stop).code, (await start).code], [0, 0]);
  assertEquals((await site.run("status")).code, 0);
  // Everything is being stopped: nothing is started or reloaded any more, and the reason is answered.
  const stopping = site.run("stop");
  await waitUntil(async () => (await status(site)).stopping, "it stops");
  for (
    const [path, body] of [["/start", { names: ["last"] }], ["/reload", {}], ["/restart", {
      names: ["last"],
    }]]
  ) {
    const refused = await site.ask("POST", path as string, body).then(() => "", (error) => error.message);
    assertEquals(
      refused,
      "Everything is being stopped; wait for it, then start the orchestrator again.",
    );
  }
  assertEquals((await stopping).code, 0);
  assertEquals((await run.ended()).code, 0);
  await site.allGone();
});

async function status(site: Site): Promise<{ stopping: boolean }> {
  return await site.ask("GET", "/status") as { stopping: boolean };
}

Deno.test("a stop during the start of a detached run ends both", async () => {
  const never = { name: "never", command: "exec sleep 1000", health: { log: "never" } };
  await using site = await Site.make({ services: [never] });
  const start = site.spawn(["-d"]);
  await site.reachable();
  assertEquals((await site.run("stop")).code, 0);
  assertEquals((await start.ended()).code, 0, "it was asked to stop");
  await site.allGone();
});

Deno.test("a stuck reader of events and garbage on the socket do not disturb a run that prints without pause", async () => {
  await using site = await Site.make({
    services: [{ name: "flood", command: ["python3", `${TESTDATA}/floods.py`, "0"] }, quick("db")],
  });
  const run = site.spawn(["--no-dashboard", "--log-dir", `${site.path}/l`, "--log-size", "1MiB"]);
  run.out.done.catch(() => {}); // all of it is read by the test's own reader
  await site.reachable(run.pid);
  const { socket } = site.record();
  const stuck = await Deno.connect({ transport: "unix", path: socket });
  await stuck.write(new TextEncoder().encode("GET /events HTTP/1.1\r\n\r\n"));
  const garbage = await Deno.connect({ transport: "unix", path: socket });
  await garbage.write(crypto.getRandomValues(new Uint8Array(5_000)).map((byte) => byte | 0x80));
  await site.running("db");
  const memoryOf = async () => (await site.ask("GET", "/status") as { memoryBytes: number }).memoryBytes;
  await Promise.all(Array.from({ length: 100 }, () => ask(socket, "/status")));
  // Its reader took nothing: the connection is closed from the other side.
  await waitUntil(async () => {
    try {
      await stuck.write(new TextEncoder().encode("x"));
      return false;
    } catch {
      return true; // it was dropped
    }
  }, "the stuck reader is dropped");
  assert(await memoryOf() < 300_000_000);
  stuck.close();
  garbage.close();
  assertEquals((await site.run("stop")).code, 0);
  assertEquals((await run.ended()).code, 0);
});

Deno.test("on a full disk the services run on and it is reported once", async () => {
  await using site = await Site.make({
    services: [{ name: "talks", command: "while :; do echo line; sleep 0.02; done" }],
    files: { "logs/.keep": "" },
  });
  for (const name of ["talks", "orchestrator"]) {
    Deno.symlinkSync("/dev/full", `${site.path}/logs/${name}.log`);
  }
  const run = await site.foreground("--log-dir", `${site.path}/logs`);
  assertEquals(
    site.plain(await run.out.line("Cannot write")),
    "[orchestrator] Cannot write DIR/logs/orchestrator.log: No space left on device. " +
      "The services run on; log lines are lost.",
  );
  await run.out.line("talks] line", 50);
  run.signal("SIGTERM");
  const { code, out } = await run.ended();
  assertEquals(code, 0);
  assertEquals(out.split("Cannot write").length, 2, "it is reported once");
});

Deno.test("a run that can't write down who it is, for want of room, is found by its socket", async () => {
  await using site = await Site.make({ services: [quick("db")] });
  await Deno.mkdir(`${site.path}/.orchestrator/run.json.new`, { recursive: true }); // nothing can be written there
  const run = site.spawn(["--no-dashboard"]);
  await run.out.line("db is running");
  const status = await site.run("status");
  assertEquals(status.code, 0, status.err);
  assertEquals(
    site.plain(status.out.split("\n").at(-2)!),
    "orchestrator: PID N, in the foreground, since TIME, SIZE",
  );
  assertEquals((await site.run("stop")).code, 0);
  assertEquals((await run.ended()).code, 0);
});

Deno.test("in a read-only folder the run goes on without control and reports it; -d reports what is wrong", async (test) => {
  await using site = await Site.make({ services: [quick("db")] });
  const mount = async (...args: string[]) =>
    await new Deno.Command("mount", { args, stderr: "null" }).output().then(
      ({ success }) => success,
      () => false,
    );
  const readOnly = await mount("--bind", site.path, site.path) &&
    await mount("-o", "remount,ro,bind", site.path);
  try {
    await test.step({
      name: "a folder that is mounted read-only",
      ignore: !readOnly, // only root may mount
      async fn() {
        const run = site.spawn(["--no-dashboard"]);
        assertEquals(
          site.plain(await run.out.line("Cannot use")),
          "[orchestrator] Cannot use DIR/.orchestrator: Read-only file system. " +
            "This run goes on, but status, logs, stop and the like can't reach it.",
        );
        await run.out.line("db is running");
        run.signal("SIGTERM");
        assertEquals((await run.ended()).code, 0);
        const detached = await site.run("-d");
        assertEquals(detached.code, 2);
        assertEquals(
          site.plain(detached.err),
          "orchestrator: Cannot write DIR/logs/orchestrator.out, which a run in the background needs " +
            "(Read-only file system); make the folder writable, or start it without --detach.\n",
        );
        assertEquals((await site.run("status")).code, 3);
      },
    });
  } finally {
    if (readOnly) await new Deno.Command("umount", { args: [site.path] }).output();
  }
});

Deno.test("a folder whose path is too long for a socket is reached through XDG_RUNTIME_DIR", async () => {
  await using site = await Site.make({ services: [quick("db")], deeper: "a-long-name/".repeat(10) });
  const environment = { XDG_RUNTIME_DIR: site.folder.path };
  const without = await site.spawn(["-d"], { XDG_RUNTIME_DIR: "" }).ended();
  assertEquals(without.code, 2);
  assertEquals(
    site.plain(without.err),
    "orchestrator: The path DIR/.orchestrator/control.sock is too long for a socket; " +
      "set XDG_RUNTIME_DIR to a folder of your own with a short path.\n",
  );
  assertEquals((await site.spawn(["-d"], environment).ended()).code, 0);
  assertMatch(site.record().socket, /\/orchestrator-[0-9a-f]{16}\/control\.sock$/);
  assertEquals(((await Deno.stat(site.record().socket)).mode ?? 0) & 0o777, 0o600);
  assertEquals((await site.run("status")).code, 0, "also without the variable");
  assertEquals((await site.run("stop")).code, 0);
  await site.allGone();
});

Deno.test("values of .env are in no answer, message or log of the orchestrator", async () => {
  const secret = "hunter2-correct-horse";
  const port = freePort();
  await using site = await Site.make({
    services: [
      { name: "a", command: ["${TOOL_SECRET}"], critical: false },
      {
        name: "b",
        command: "exec sleep 1000",
        timeout_start: "600ms",
        critical: false,
        health: {
          http: `http://user:\${API_SECRET}@127.0.0.1:${port}/?key=\${API_SECRET}`,
          timeout: "200ms",
        },
      },
      { name: "c", command: "exec sleep 1000", working_dir: "${API_SECRET}", critical: false },
      quick("d"),
    ],
    env: { API_SECRET: secret, TOOL_SECRET: `tool-${secret}` },
  });
  const run = await site.foreground("--log-dir", `${site.path}/logs`, "--log-level", "debug");
  const events = site.spawn(["events"]);
  await events.out.line('"kind":"hello"');
  await waitUntil(async () => {
    const { services } = JSON.parse((await site.run("status", "--json")).out);
    return services.filter(({ state }: { state: string }) => state === "failed").length === 3;
  }, "three have failed");
  const { out } = await site.run("status");
  await site.folder.write(".env", `API_SECRET=other-${secret}\n`);
  const reload = await site.run("reload", "--dry-run");
  assertEquals(reload.code + reload.out.length > 0, true);
  run.signal("SIGTERM");
  const ended = await run.ended();
  const texts = [out, reload.out, reload.err, ended.out, ended.err, (await events.ended()).out];
  for (const { name } of Deno.readDirSync(`${site.path}/logs`)) {
    texts.push(Deno.readTextFileSync(`${site.path}/logs/${name}`));
  }
  for (const text of texts) assert(!text.includes("hunter2"), text);
});
