// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { isAlive, waitUntil } from "../testing/run.ts";
import type { Command } from "../testing/site.ts";
import { quick, Site } from "../testing/site.ts";

const TWO = { services: [quick("db"), quick("web", { dependencies: ["db"] })] };

Deno.test("status without an orchestrator reports that and exits 3", async () => {
  await using site = await Site.make(TWO);
  const { code, out } = await site.run("status");
  assertEquals(code, 3);
  assertEquals(out, `Nothing is running in ${site.path}. Start it with: orchestrator -d\n`);
  const json = await site.run("status", "--json");
  assertEquals([json.code, JSON.parse(json.out).running], [3, false]);
});

Deno.test("a start in the background returns with the table when all are ready, and stop ends it", async () => {
  await using site = await Site.make(TWO);
  const start = await site.run("-d");
  assertEquals(start.code, 0, start.err);
  assertMatch(start.out, /db +● RUNNING/);
  assertMatch(start.out, /web +● RUNNING/);
  const { pid } = site.record().orchestrator;
  assert(isAlive(pid));

  const status = await site.run("status");
  assertEquals(status.code, 0);
  assertEquals(
    site.plain(status.out.split("\n").at(-2)!),
    "orchestrator: PID N, in the background, since TIME, SIZE, logs in DIR/logs",
  );
  const json = JSON.parse((await site.run("status", "--json")).out);
  assertEquals(json.services.map(({ name, state }: { name: string; state: string }) => [name, state]), [
    ["db", "running"],
    ["web", "running"],
  ]);
  assert(json.services[0].memoryBytes > 100_000);
  assertEquals(json.detached, true);

  const stop = await site.run("stop");
  assertEquals(stop.code, 0, stop.err);
  await site.allGone();
  assertEquals((await site.run("status")).code, 3);
  assertEquals((await site.run("stop")).code, 0, "there is nothing to stop");
});

Deno.test("a detached orchestrator has a session and standard streams of its own", async () => {
  await using site = await Site.make(TWO);
  const pid = await site.background();
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`);
  const [, , group, session, terminal] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  assertEquals([group, session, terminal], [`${pid}`, `${pid}`, "0"]);
  assertEquals(await Deno.readLink(`/proc/${pid}/fd/0`), "/dev/null");
  for (const fd of [1, 2]) {
    assertEquals(await Deno.readLink(`/proc/${pid}/fd/${fd}`), `${site.path}/logs/orchestrator.out`);
  }
  await site.run("stop");
});

Deno.test("a start in the background that fails shows the crash card and exits 1", async () => {
  const broken = {
    name: "web",
    command: "echo the reason; exit 7",
    dependencies: ["db"],
    health: { log: "never" },
  };
  await using site = await Site.make({ services: [quick("db"), broken] });
  const { code, err } = await site.run("-d");
  assertEquals(code, 1);
  assertEquals(
    site.plain(err.slice(err.indexOf("✖"))),
    "✖ web [web] exited with status 7, after running for SPAN.\nIts last line:\n  │ the reason\n",
  );
  await site.allGone();
});

Deno.test("a start in the background with an error reports it and exits 2", async () => {
  await using site = await Site.make({ services: [quick("db")], env: "X=1\n" });
  const { code, err } = await site.run("-d", "--services", "dbb");
  assertEquals(code, 2);
  assertEquals(err, 'orchestrator: There is no service "dbb"; did you mean "db"? The services are db.\n');
});

Deno.test("--wait ends the waiting, not the run", async () => {
  const slow = { name: "slow", command: "exec sleep 1000", health: { log: "never" } };
  await using site = await Site.make({ services: [slow] });
  const { code, err } = await site.run("-d", "--wait", "500ms");
  assertEquals(code, 1);
  const isKnown = 'orchestrator: slow has not become ready within SPAN; "orchestrator status" shows more.\n';
  const isUnknown = 'orchestrator: PID N is still starting; "orchestrator status" shows more.\n'; // a slow machine
  assert([isKnown, isUnknown].includes(site.plain(err)), err);
  await site.reachable();
  assertEquals((await site.run("status")).code, 1, "it does not run yet");
  assertEquals((await site.run("stop")).code, 0);
});

function alreadyRuns({ path }: Site, pid: number): string {
  return `An orchestrator with PID ${pid} runs in ${path} already; "orchestrator status" shows it and ` +
    '"orchestrator stop" ends it.';
}

Deno.test("a second orchestrator names the first one's PID and exits 2", async () => {
  await using site = await Site.make(TWO);
  const first = await site.foreground();
  for (const args of [["--no-dashboard"], ["-d"], ["start"]]) {
    const { code, err } = await site.run(...args);
    assertEquals(code, 2);
    assertEquals(err, `orchestrator: ${alreadyRuns(site, first.pid)}\n`);
  }
  first.signal("SIGTERM");
  assertEquals((await first.ended()).code, 0);
});

Deno.test("of two starts at the same instant exactly one wins", async () => {
  await using site = await Site.make(TWO);
  for (let round = 0; round < 5; round++) {
    const losers: Awaited<ReturnType<Command["ended"]>>[] = [];
    const all = [0, 1, 2].map(async () => {
      losers.push(await site.spawn(["--no-dashboard"]).ended());
    });
    await waitUntil(() => losers.length >= 2, "two have given up");
    assertEquals(losers.map(({ code }) => code), [2, 2]);
    const winner = site.record().orchestrator.pid;
    for (const { err } of losers) assertEquals(err, `orchestrator: ${alreadyRuns(site, winner)}\n`);
    const { code } = await site.run("stop");
    assertEquals(code, 0);
    await Promise.all(all);
    await site.allGone();
  }
});

Deno.test("restart, stop and start act on the named services and what depends on them", async () => {
  await using site = await Site.make(TWO);
  await site.background();
  const [db, web] = [await site.pidOf("db"), await site.pidOf("web")];
  assertEquals((await site.run("restart", "db")).code, 0);
  const second = await site.pidOf("db");
  assert(second !== db, "db is another process");
  assertEquals(await site.pidOf("web"), web);
  assertEquals((await site.run("restart", "db", "--with-dependents")).code, 0);
  assert(await site.pidOf("web") !== web, "web was restarted too");
  const before = await site.pidOf("db");
  assertEquals((await site.run("restart", "web", "--with-dependencies")).code, 0);
  assert(await site.pidOf("db") !== before, "db was restarted too");

  assertEquals((await site.run("stop", "db")).code, 0);
  const stopped = await site.run("status");
  assertEquals(stopped.code, 1);
  assertMatch(stopped.out, /db +○ STOPPED/);
  assertMatch(stopped.out, /web +○ STOPPED/);
  assertEquals((await site.run("start", "web")).code, 0);
  assertEquals((await site.run("status")).code, 0);
  const unknown = await site.run("restart", "webb");
  assertEquals(unknown.code, 2);
  assertEquals(
    unknown.err,
    'orchestrator: There is no service "webb"; did you mean "web"? The services are db, web.\n',
  );
  await site.run("stop");
});

Deno.test("start adds services that the run did not have", async () => {
  await using site = await Site.make({
    services: [quick("db"), quick("web", { dependencies: ["db"] }), quick("extra", { autostart: false })],
  });
  await site.background("--services", "db");
  const db = await site.pidOf("db");
  assertEquals((await site.run("start", "web")).code, 0);
  assertEquals((await site.run("start", "extra")).code, 0);
  assertEquals(await site.pidOf("db"), db, "what ran was left alone");
  const { services } = JSON.parse((await site.run("status", "--json")).out);
  assertEquals(services.map(({ name }: { name: string }) => name).sort(), ["db", "extra", "web"]);
  await site.run("stop");
});

Deno.test("a start there that fails shows the crash card and exits 1", async () => {
  const broken = { name: "bad", command: "echo why; exit 3", autostart: false, critical: false };
  await using site = await Site.make({ services: [quick("db"), broken] });
  await site.background();
  const { code, err } = await site.run("start", "bad");
  assertEquals(code, 1);
  assertEquals(
    site.plain(err),
    "[orchestrator] bad exited with status 3\n" +
      "✖ bad [bad] exited with status 3, after running for SPAN.\nIts last line:\n  │ why\n",
  );
  assertEquals((await site.run("status")).code, 1);
  assertEquals((await site.run("stop")).code, 0);
});

Deno.test("SIGHUP reloads a detached orchestrator, SIGUSR2 restarts it with the same PID", async () => {
  await using site = await Site.make(TWO);
  const pid = await site.background("--services", "db");
  const db = await site.pidOf("db");
  await site.folder.write(
    "services.json",
    JSON.stringify({ services: [quick("db", { environment: { A: "1" } })] }),
  );
  Deno.kill(pid, "SIGHUP");
  await waitUntil(async () => await site.pidOf("db").catch(() => db) !== db, "db is restarted");
  assert(isAlive(pid));
  await site.running("db");

  const { startedAt } = site.record();
  const again = await site.pidOf("db");
  Deno.kill(pid, "SIGUSR2");
  await waitUntil(() => !isAlive(again), "its service is stopped");
  await waitUntil(
    () => site.path !== "" && recordOf(site)?.startedAt !== startedAt && recordOf(site) !== null,
    "it is another run",
  );
  await site.reachable(pid);
  await site.running("db");
  const { services } = JSON.parse((await site.run("status", "--json")).out);
  assertEquals(services.map(({ name }: { name: string }) => name), ["db"], "with the same arguments");
  assertEquals((await site.run("stop")).code, 0);
  await site.allGone();
});

function recordOf(site: Site) {
  try {
    return site.record();
  } catch {
    return null; // between two records
  }
}

Deno.test("self-restart works in the foreground, too", async () => {
  await using site = await Site.make(TWO);
  const run = await site.foreground();
  await site.running("db", "web");
  const { code, out } = await site.run("self-restart");
  assertEquals(code, 0);
  assertEquals(out, `The orchestrator with PID ${run.pid} is restarting.\n`);
  await run.out.line("web is running", 2);
  run.signal("SIGINT");
  assertEquals((await run.ended()).code, 0);
  await site.allGone();
});

Deno.test("events are one JSON object a line, to the end of the run", async () => {
  await using site = await Site.make(TWO);
  const run = await site.foreground();
  const events = site.spawn(["events"]);
  await events.out.line('"kind":"hello"');
  run.signal("SIGTERM");
  const { code, out } = await events.ended();
  assertEquals(code, 0);
  const kinds = out.trim().split("\n").map((line) => JSON.parse(line).kind);
  assertEquals([kinds[0], kinds.at(-1)], ["hello", "exit"]);
  assertEquals((await run.ended()).code, 0);
});

Deno.test("a command that needs a run exits 3 without one", async () => {
  await using site = await Site.make(TWO);
  for (const args of [["restart", "db"], ["reload"], ["self-restart"], ["attach"], ["events"]]) {
    assertEquals((await site.run(...args)).code, 3, args.join(" "));
  }
});

Deno.test("an option of another command is refused with the possible ones", async () => {
  await using site = await Site.make(TWO);
  const { code, err } = await site.run("status", "--follow");
  assertEquals(code, 2);
  assertEquals(
    err,
    'orchestrator: "status" has no option --follow; the options are --json, --infrastructure, --config, --env-file, ' +
      "--no-dashboard, --help.\n",
  );
  assertNotMatch(err, /at file:/);
});
