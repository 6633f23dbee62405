// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Launch } from "../config/launch.ts";
import { defineServices } from "../config/definition.ts";
import type { Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import type { Change } from "./protocol.ts";
import { Definitions, describeChanges, planReload } from "./reload.ts";
import { Folder, waitUntil } from "../testing/run.ts";
import { READY, UP } from "../testing/services.ts";
import { Inside } from "../testing/supervisor.ts";
import { quick, Site } from "../testing/site.ts";

const BASE = defineServices({ db: { command: ["db"], port: 8001 } })[0]!;

function launchOf(service: Service, environment: Record<string, string> = { A: "1" }): Launch {
  const [program = "", ...args] = service.command as string[];
  return { program, args, cwd: "/", environment, port: service.port };
}

/** The definitions of a run: by default one that was asked for all its services and has no file. */
function definitionsOf(
  { supervisor }: Inside,
  { names = [], known = supervisor.services, options = { services: known } }: Partial<
    ConstructorParameters<typeof Definitions>[0]
  > = {},
): Definitions {
  const noop = () => {};
  return new Definitions({ supervisor, version: "", names, known, options, stop: noop, restartSelf: noop });
}

/** The names of a run's services. */
function namesOf({ supervisor }: Inside): string[] {
  return supervisor.services.map(({ name }) => name);
}

/** A service of a run and what its process was started with. */
interface Present {
  service: Service;
  launch: Launch | null;
}

const running: Present = { service: BASE, launch: launchOf(BASE) };

const ROWS: [
  name: string,
  before: Present | null,
  after: Service | null,
  env: Record<string, string>,
  Change,
][] = [
  ["nothing changed", running, BASE, { A: "1" }, { name: "db", action: "unchanged", because: [] }],
  ["it is new", null, BASE, {}, { name: "db", action: "start", because: [] }],
  ["it is gone", running, null, {}, { name: "db", action: "stop", because: [] }],
  ["its command changed", running, { ...BASE, command: ["db", "-v"] }, { A: "1" }, {
    name: "db",
    action: "restart",
    because: ["command"],
  }],
  ["its port changed", running, { ...BASE, port: 8002 }, { A: "1" }, {
    name: "db",
    action: "restart",
    because: ["port"],
  }],
  ["a variable changed", running, BASE, { A: "2", B: "3" }, {
    name: "db",
    action: "restart",
    because: ["A", "B"],
  }],
  ["its program is another one", { service: BASE, launch: { ...launchOf(BASE), program: "old" } }, BASE, {
    A: "1",
  }, {
    name: "db",
    action: "restart",
    because: ["command"],
  }],
  ["a rule of supervision changed", running, { ...BASE, maxRetries: 9 }, { A: "1" }, {
    name: "db",
    action: "unchanged",
    because: ["maxRetries"],
  }],
  ["a variable changed while it does not run", { service: BASE, launch: null }, BASE, { A: "2" }, {
    name: "db",
    action: "unchanged",
    because: [],
  }],
];
for (const [name, before, after, environment, expected] of ROWS) {
  Deno.test(`reload: when ${name}, the action is ${expected.action}`, () => {
    const changes = planReload(
      before === null ? [] : [before.service],
      after === null ? [] : [after],
      () => before?.launch ?? null,
      (service) => launchOf(service, environment),
    );
    assertEquals(changes, [expected]);
    assert(!describeChanges(changes).join().includes("A: "), "names, not values");
  });
}

Deno.test("reload: changes have a line a service, with all names as wide as the widest", () => {
  const lines = describeChanges([
    { name: "db", action: "restart", because: ["A", "port"] },
    { name: "worker", action: "unchanged", because: [] },
  ]);
  assertEquals(lines, ["db      restart  (A, port)", "worker  unchanged"]);
  assertEquals(describeChanges([]), []);
});

Deno.test("reload: what a restarted service needs comes up, too", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { db: UP, web: { ...UP, dependencies: ["db"] }, other: UP });
  const definitions = definitionsOf(run);
  for (const name of ["web", "other"]) await run.is(name, "running");
  run.supervisor.setDesired(["db"], "stopped");
  await run.is("db", "stopped");
  assertEquals(definitions.restart(["web"], { dependents: false, dependencies: false }), ["web"]);
  await run.is("web", "running");
  assertEquals([run.states("db").at(-1), run.states("other")], ["running", ["starting", "running"]]);
});

Deno.test("reload: a restart with what a service needs leaves external services alone", async () => {
  await using folder = await Folder.make();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const probe = { kind: "tcp", port: String(listener.addr.port) } as const;
  await using run = new Inside(folder, {
    cache: { command: "unused", kind: "external", health: { ...READY, probe } },
    db: UP,
    web: { ...UP, dependencies: ["cache", "db"] },
    page: { ...UP, dependencies: ["web"] },
  });
  const definitions = definitionsOf(run);
  await run.is("page", "running");
  listener.close();
  const restarted = definitions.restart(["web"], { dependents: true, dependencies: true });
  assertEquals(restarted.toSorted(), ["cache", "db", "page", "web"]);
  await run.was("page", "running", 2);
  assertEquals(run.states("cache"), ["starting", "running"]);
  assertEquals(run.states("db"), ["starting", "running", "stopping", "pending", "starting", "running"]);
});

Deno.test("restart: a service that has ended is started once", async () => {
  await using folder = await Folder.make();
  const once = { command: "exit 3", restartPolicy: "never", critical: false } as const;
  await using run = new Inside(folder, { db: UP, once });
  await run.is("once", "failed");
  const before = run.states("once");
  definitionsOf(run).restart(["once"], { dependents: false, dependencies: false });
  await run.is("db", "running");
  await run.was("once", "failed", 2);
  assertEquals(run.states("once").slice(before.length), ["pending", ...before]);
});

const WEB = { ...UP, dependencies: ["db"] as const };
const CITY = defineServices({ db: UP, web: WEB, late: { ...UP, autostart: false }, other: UP });

for (
  const { asked, starts, taken, runs } of [
    { asked: ["db"], starts: ["web"], taken: ["db", "web"], runs: ["db", "web"] },
    { asked: [], starts: ["late"], taken: ["late"], runs: ["db", "web", "late", "other"] },
    { asked: ["db"], starts: ["db"], taken: ["db"], runs: ["db"] },
  ]
) {
  Deno.test(`start: a run that was asked for ${asked.join() || "all"} gets ${starts}, too, and keeps the others`, async () => {
    await using folder = await Folder.make();
    await using run = new Inside(
      folder,
      asked.length > 0 ? { db: UP } : { db: UP, web: WEB, other: UP },
    );
    await run.is("db", "running");
    const definitions = definitionsOf(run, { names: asked, known: CITY });
    run.supervisor.setDesired(["db"], "stopped");
    await run.is("db", "stopped");
    assertEquals(definitions.start(starts), taken);
    assertEquals(namesOf(run), runs);
    for (const name of taken) await run.is(name, "running");
  });
}

Deno.test("start and reload are refused while everything is being stopped, before anything else is checked", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { db: UP });
  await run.is("db", "running");
  const definitions = definitionsOf(run);
  run.supervisor.close();
  const message = "Everything is being stopped; wait for it, then start the orchestrator again.";
  const more = { dependents: false, dependencies: false };
  assertEquals(assertThrows(() => definitions.start(["unknown"]), UserError).message, message);
  assertEquals(assertThrows(() => definitions.restart(["unknown"], more), UserError).message, message);
  assertEquals((await assertRejects(() => definitions.reload(true), UserError)).message, message);
});

Deno.test("reload: what was asked for by name stays the choice; what is gone from the file is stopped", async () => {
  await using folder = await Folder.make({ services: [quick("db"), quick("other")] });
  await using run = new Inside(folder, { db: UP, web: UP });
  for (const name of ["db", "web"]) await run.is(name, "running");
  const definitions = definitionsOf(run, { names: ["db", "web"], options: {} });
  const actions = (await definitions.reload(false)).map(({ name, action }) => `${action} ${name}`);
  assertEquals(actions, ["restart db", "stop web"]);
  assertEquals(definitions.start(["other"]), ["other"], "the file's other services are known from now on");
  await run.until(() => namesOf(run).join() === "db,other", "web is gone");
});

Deno.test("reload: nothing is left of a run when all that was asked for is gone from the file", async () => {
  await using folder = await Folder.make({ services: [quick("other")] });
  await using run = new Inside(folder, { db: UP });
  await run.is("db", "running");
  const definitions = definitionsOf(run, { names: ["db"], options: {} });
  assertEquals(await definitions.reload(true), [{ name: "db", action: "stop", because: [] }]);
});

Deno.test("a reload starts, stops, restarts and leaves alone as its dry run shows", async () => {
  const before = [quick("same"), quick("gone"), quick("other", { environment: { X: "1" } })];
  const after = [quick("same"), quick("other", { environment: { X: "2" } }), quick("fresh")];
  await using site = await Site.make({ services: before });
  await site.background();
  const [same, gone, other] = [await site.pidOf("same"), await site.pidOf("gone"), await site.pidOf("other")];
  await site.folder.write("services.json", JSON.stringify({ services: after }));
  const dry = await site.run("reload", "--dry-run");
  assertEquals(
    dry.out,
    "same   unchanged\nother  restart  (environment, X)\nfresh  start\ngone   stop\n",
  );
  assertEquals(await site.pidOf("gone"), gone, "a dry run does nothing");
  const { code, out } = await site.run("reload");
  assertEquals([code, out], [0, dry.out]);
  await site.running("fresh");
  assertEquals((await site.run("restart", "same", "--wait", "0")).code, 0);
  assert(await site.pidOf("other") !== other);
  const { services } = JSON.parse((await site.run("status", "--json")).out);
  assertEquals(services.map(({ name }: { name: string }) => name).sort(), ["fresh", "other", "same"]);
  assert(same > 0);
  // What left may come back.
  await site.folder.write("services.json", JSON.stringify({ services: before }));
  assertEquals((await site.run("reload")).code, 0);
  await site.running("same", "gone", "other");
  assertEquals((await site.run("stop")).code, 0);
  await site.allGone();
});

Deno.test("a file with mistakes changes nothing, and they are reported", async () => {
  await using site = await Site.make({ services: [quick("db")] });
  const pid = await site.background();
  const db = await site.pidOf("db");
  await site.folder.write("services.json", '{"services": [{"name": "db", "comand": "x"}]}');
  const { code, err } = await site.run("reload");
  assertEquals(code, 2);
  const mistakes =
    "services.json:1:15 services[0].command: missing; use a list of words, or a text for /bin/sh -c\n" +
    'services.json:1:30 services[0].comand: not a known field; did you mean "command"?';
  assertEquals(err, `orchestrator: ${mistakes}\n`);
  Deno.kill(pid, "SIGHUP");
  const log = async () => await site.folder.read("logs/orchestrator.log");
  await waitUntil(async () => (await log()).includes("comand"), "it is logged");
  const logged = (await log()).trimEnd().split("\n").slice(-2).map((line) => line.slice(25));
  assertEquals(logged, `Nothing was reloaded. ${mistakes}`.split("\n").map((line) => `error ${line}`));
  assertEquals(await site.pidOf("db"), db);
  await site.run("stop");
});
