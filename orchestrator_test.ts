// @ts-types="./config/std.d.ts"
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  backoffMs,
  describeExit,
  INITIAL,
  isFinished,
  nextWake,
  reconcile,
  satisfies,
  step,
} from "./supervisor/lifecycle.ts";
import { crashCard, describeChange, describeState } from "./terminal/messages.ts";
import type { Desired, Managed, Step } from "./supervisor/lifecycle.ts";
import type { Effect, Event, ServiceSnapshot, ServiceState, Trigger } from "./supervisor/model.ts";
import type { Exit } from "./process/child.ts";
import { entryPoint, findPython, portOf, prepareLaunch, serviceEnvironment } from "./config/launch.ts";
import { findHome, readEnvironment } from "./config/settings.ts";
import { formatSpan } from "./config/duration.ts";
import { helpText } from "./cli/help.ts";
import { isAtRest } from "./supervisor/model.ts";
import { isPortFree } from "./process/ports.ts";
import { LineCutter, Tail } from "./process/lines.ts";
import { LineView } from "./terminal/line_view.ts";
import { Orchestrator } from "./orchestrator.ts";
import { Outlet } from "./terminal/outlet.ts";
import { parseCommand } from "./cli/arguments.ts";
import { planStart } from "./supervisor/plan.ts";
import { prefixLines } from "./terminal/prefix.ts";
import type { RunOptions } from "./control/run_options.ts";
import { runProbe } from "./process/probe.ts";
import { startChild } from "./process/child.ts";
import { stripControl } from "./terminal/text.ts";
import { Supervisor } from "./supervisor/supervisor.ts";
import { UserError } from "./config/errors.ts";
import { VERSION } from "./config/version.ts";
import { defineServices } from "./config/definition.ts";
import type { Health, Service } from "./config/definition.ts";
import { SERVICES } from "./services.ts";
import {
  Folder,
  freePort,
  isAlive,
  LIMIT_MS,
  outputOf,
  processesWith,
  Run,
  runToEnd,
  TESTDATA,
  waitUntil,
} from "./testing/run.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** One service in code. */
function define(fields: Partial<Service> = {}): Service {
  return { ...defineServices({ a: { command: ["true"] } })[0], ...fields };
}

/** A generator of numbers from 0 to 1 that gives the same ones for the same seed. */
function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

// ------------------------------------------------------------------------------------------------------------------
// 2. Settings

for (
  const [text, port] of [
    ["1", 1],
    ["80", 80],
    [" 8001 ", 8001],
    ["65535", 65_535],
    ["", 9000],
    [undefined, 9000],
    ["0", null],
    ["65536", null],
    ["100000", null],
    ["-1", null],
    ["80.5", null],
    ["8e3", null],
    ["0x50", null],
    ["s3cret", null],
  ] as const
) {
  Deno.test(`a port setting of ${text === undefined ? "nothing" : `"${text}"`} is ${port ?? "refused"}`, () => {
    const service = define({ port: 9000, portEnv: "A_PORT" });
    const environment: Record<string, string> = text === undefined ? {} : { A_PORT: text };
    if (port !== null) return assertEquals(portOf(service, environment), port);
    const { message } = assertThrows(() => portOf(service, environment), UserError, "A_PORT");
    assertStringIncludes(message, "1 to 65535");
    assert(!message.includes("s3cret"), "values are secrets");
  });
}

Deno.test("the default .env may be missing, one given by name may not", async () => {
  await using folder = await Folder.make({ env: null });
  const { environment, warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals(environment, Deno.env.toObject());
  assertEquals(warnings.length, 1);
  assertStringIncludes(warnings[0], `${folder.path}/.env`);
  const envFile = `${folder.path}/other.env`;
  assertThrows(() => readEnvironment(findHome({ infrastructure: folder.path, envFile })), UserError, envFile);
});

Deno.test("a line of .env that can't be read is named by file and number, not by its value", async () => {
  await using folder = await Folder.make({ env: "GOOD=1\nbad s3cret line\nALSO=2\n" });
  const { environment, warnings } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals([environment.GOOD, environment.ALSO], ["1", "2"]);
  assertEquals(warnings.length, 1);
  assertStringIncludes(warnings[0], `${folder.path}/.env:2`);
  assert(!warnings[0].includes("s3cret"));
});

Deno.test("what .env says wins over the process environment", async () => {
  await using folder = await Folder.make({ env: { HOME: "/elsewhere" } });
  const { environment } = readEnvironment(findHome({ infrastructure: folder.path }));
  assertEquals([environment.HOME, environment.PATH], ["/elsewhere", Deno.env.get("PATH")]);
});

Deno.test("an infrastructure folder that is not there is told with the option that names another", () => {
  assertThrows(() => findHome({ infrastructure: "/no/such/place" }), UserError, "/no/such/place");
  assertThrows(() => findHome({ infrastructure: "/no/such/place" }), UserError, "--infrastructure");
});

const HOME = { infrastructure: "/infra", envFile: "/infra/.env", envFileNamed: false };

for (
  const [what, fields, environment, name, value] of [
    ["Python looks in the infrastructure folder", {}, {}, "PYTHONPATH", "/infra"],
    ["a PYTHONPATH is kept behind it", {}, { PYTHONPATH: "/x:/y" }, "PYTHONPATH", "/infra:/x:/y"],
    ["Python does not hold back its output", {}, { PYTHONUNBUFFERED: "" }, "PYTHONUNBUFFERED", "1"],
    ["a default port is handed on", { port: 8001, portEnv: "A_PORT" }, {}, "A_PORT", "8001"],
    ["a set port is handed on", { port: 8001, portEnv: "A_PORT" }, { A_PORT: "9" }, "A_PORT", "9"],
    ["its own settings win", { environment: { LEVEL: "info" } }, { LEVEL: "debug" }, "LEVEL", "info"],
    [
      "its settings know the others",
      { environment: { URL: "x://${NAME}/" } },
      { NAME: "n" },
      "URL",
      "x://n/",
    ],
    ["its settings know its port", { port: 81, environment: { URL: ":${PORT}" } }, {}, "URL", ":81"],
    ["what is not set expands to nothing", { environment: { URL: "a${NONE}b" } }, {}, "URL", "ab"],
  ] as const
) {
  Deno.test(`environment of a service: ${what}`, () => {
    assertEquals(serviceEnvironment(define(fields), environment, HOME)[name], value);
  });
}

Deno.test("variables that a service requires are all named when they are missing or empty", () => {
  const service = define({ envRequired: ["TOKEN", "PATH", "KEY"] });
  const { message } = assertThrows(
    () => serviceEnvironment(service, { PATH: "/bin", KEY: "" }, HOME),
    UserError,
    "TOKEN, KEY",
  );
  assertStringIncludes(message, "/infra/.env");
});

Deno.test("python is the first there is of venv, .venv, the active one, python3 and python", async () => {
  await using folder = await Folder.make();
  const at = (path: string) => `${folder.path}/${path}`;
  const environment = { PATH: at("bin"), VIRTUAL_ENV: at("active") };
  const found = () => findPython(folder.path, environment);
  assertEquals(found(), null);
  for (
    const path of ["bin/python", "bin/python3", "active/bin/python", ".venv/bin/python", "venv/bin/python"]
  ) {
    await folder.write(path, "");
    assertEquals(found(), at(path));
  }
});

for (
  const [what, fields, said] of [
    ["working folder", { workingDir: "gone" }, "its working folder FOLDER/gone does not exist"],
    [
      "working folder that is a file",
      { workingDir: ".env" },
      "its working folder FOLDER/.env does not exist",
    ],
    ["entry point", { command: ["python", "main.py"] }, "its entry point FOLDER/main.py does not exist"],
    ["interpreter", { command: ["python", ".env"] }, "python3 -m venv FOLDER/venv"],
    ["program", { command: ["nosuch"] }, "there is no program nosuch on PATH"],
    ["program of its own", { command: ["./nosuch"] }, "there is no program ./nosuch"],
  ] as const
) {
  Deno.test(`a missing ${what} is told in a sentence that names the service`, async () => {
    await using folder = await Folder.make();
    const home = findHome({ infrastructure: folder.path });
    const { message } = assertThrows(
      () => prepareLaunch(define(fields), { PATH: "/nowhere" }, home),
      UserError,
    );
    assertStringIncludes(message, `Cannot start "a"`);
    assertStringIncludes(message.replaceAll(folder.path, "FOLDER"), said);
  });
}

Deno.test("a text is run by the shell, words of a list and the folder are expanded", async () => {
  await using folder = await Folder.make({ files: { "deep/x": "" } });
  const home = findHome({ infrastructure: folder.path });
  const environment = { PATH: "/bin", WHERE: "deep" };
  const shell = prepareLaunch(define({ command: "echo $HOME" }), environment, home);
  assertEquals([shell.program, ...shell.args], ["/bin/sh", "-c", "echo $HOME"]);
  const service = define({ command: ["sh", "-c", "${PORT}"], port: 99, workingDir: "${WHERE}" });
  const listed = prepareLaunch(service, environment, home);
  assertEquals([listed.program, ...listed.args], ["/bin/sh", "-c", "99"]);
  assertEquals([listed.cwd, listed.port], [`${folder.path}/deep`, 99]);
});

Deno.test("an entry point is shown as a path from the infrastructure folder", () => {
  assertEquals(SERVICES.map(entryPoint), [
    "services/database_service/src/main.py",
    "services/web_service/src/main.py",
    "services/bot_service/src/main.py",
  ]);
  assertEquals(entryPoint(define({ command: ["npm", "start"] })), "npm start");
  assertEquals(entryPoint(define({ command: ["python", "main.py"] })), "main.py");
});

// ------------------------------------------------------------------------------------------------------------------
// 3. Plan

/** Services whose only property is what they depend on: `{ web: "db cache" }`. */
function graph(dependencies: Record<string, string>): Service[] {
  return Object.entries(dependencies).map(([name, needs]) => ({
    ...define(),
    name,
    dependencies: needs.split(" ").filter(Boolean),
  }));
}

for (
  const [what, dependencies, asked, order] of [
    ["what is independent keeps its order", { c: "", a: "", b: "" }, "", "c a b"],
    ["dependencies come first", { web: "db", db: "" }, "", "db web"],
    ["others stay as near to their place as they can", { x: "", web: "db", y: "", db: "" }, "", "x db web y"],
    ["a diamond is started once", { d: "b c", b: "a", c: "a", a: "" }, "", "a b c d"],
    ["Nord City as the document orders it", { db: "", web: "db", bot: "db" }, "", "db web bot"],
    ["the order asked for does not matter", { db: "", web: "db", bot: "db" }, "bot web", "db web bot"],
    ["only what is asked for and needed", { db: "", web: "db", bot: "db" }, "bot", "db bot"],
    ["a name asked for twice", { db: "", web: "db" }, "db db", "db"],
  ] as const
) {
  Deno.test(`plan: ${what}`, () => {
    const plan = planStart(graph(dependencies), asked.split(" ").filter(Boolean));
    assertEquals(plan.services.map(({ name }) => name).join(" "), order);
  });
}

Deno.test("plan: what nobody named is told with what needs it", () => {
  const services = graph({ disk: "", db: "disk", web: "db", bot: "db" });
  assertEquals(planStart(services, ["bot"]).added, [
    { name: "db", neededBy: "bot" },
    { name: "disk", neededBy: "db" },
  ]);
  assertEquals(planStart(services, ["disk"]).added, []);
});

Deno.test("plan: without autostart a service runs only when named or needed", () => {
  const services = graph({ db: "", web: "db", tool: "" }).map((service) => ({
    ...service,
    autostart: service.name === "web",
  }));
  assertEquals(planStart(services, []).services.map(({ name }) => name), ["db", "web"]);
  assertEquals(planStart(services, ["tool"]).services.map(({ name }) => name), ["tool"]);
});

for (
  const [dependencies, cycle] of [
    [{ a: "a" }, "a -> a"],
    [{ a: "b", b: "a" }, "a -> b -> a"],
    [{ x: "a", a: "b", b: "c", c: "a" }, "a -> b -> c -> a"],
  ] as const
) {
  Deno.test(`plan: the cycle ${cycle} is shown`, () => {
    assertThrows(() => planStart(graph(dependencies), []), UserError, `dependencies ${cycle} form`);
  });
}

Deno.test("plan: an unknown dependency is told with who needs it and the closest name", () => {
  const { message } = assertThrows(() => planStart(graph({ database: "", web: "databse" }), []), UserError);
  for (const part of [`"web"`, `"databse"`, `did you mean "database"?`]) assertStringIncludes(message, part);
});

Deno.test("plan: an unknown name is told with the closest and the possible ones", () => {
  const { message } = assertThrows(() => planStart(SERVICES, ["wbe"]), UserError, `did you mean "web"?`);
  assertStringIncludes(message, "db, web, bot");
});

Deno.test("plan: a chain of 10,000 services is put in order", () => {
  const names = Array.from({ length: 10_000 }, (_, index) => `s${index}`);
  const services = graph(Object.fromEntries(names.map((name, index) => [name, names[index + 1] ?? ""])));
  assertEquals(planStart(services, []).services.map(({ name }) => name), names.toReversed());
});

// ------------------------------------------------------------------------------------------------------------------
// 4. State

const PAST = { failures: [], restarts: 0, lastExit: null } as const;
const OURS = { pid: 7, since: 0 } as const;
const STOPPING = { ...PAST, kind: "stopping", ...OURS, killAt: 10_000 } as const;
const WELL: Exit = { kind: "exited", code: 0 };
const ILL: Exit = { kind: "exited", code: 1 };

/** Every state, those that carry a plan for afterwards once for each plan. */
const STATES = {
  "pending": { ...PAST, kind: "pending", waitingFor: [] },
  "preparing": { ...PAST, kind: "starting", pid: null, since: 0, readyBy: 30_000 },
  "starting": { ...PAST, kind: "starting", ...OURS, readyBy: 30_000 },
  "running": { ...PAST, kind: "running", ...OURS },
  "external": { ...PAST, kind: "running", pid: null, since: 0 },
  "stopping": { ...STOPPING, then: { kind: "stopped" } },
  "recycling": { ...STOPPING, then: { kind: "restarting" } },
  "clearing up": { ...STOPPING, then: { kind: "ended", exit: ILL } },
  "giving up": { ...STOPPING, then: { kind: "failed", reason: "ill" } },
  "restarting": { ...PAST, kind: "restarting", attempt: 1, retryAt: 10_000, reason: "ill" },
  "stopped": { ...PAST, kind: "stopped" },
  "crashed": { ...PAST, kind: "crashed", exit: ILL, ranMs: 5, reason: "ill" },
  "failed": { ...PAST, kind: "failed", exit: ILL, ranMs: 5, reason: "ill" },
} satisfies Record<string, ServiceState>;

const HAPPENINGS = {
  "waiting": [{ kind: "waiting", names: ["db"] }, 100],
  "start": [{ kind: "start" }, 100],
  "spawned": [{ kind: "spawned", pid: 8 }, 100],
  "spawnFailed": [{ kind: "spawnFailed", reason: "no" }, 100],
  "ready": [{ kind: "ready" }, 100],
  "unhealthy": [{ kind: "unhealthy", reason: "ill" }, 100],
  "exit 0": [{ kind: "exited", exit: WELL, groupAlive: false }, 100],
  "exit 1": [{ kind: "exited", exit: ILL, groupAlive: false }, 100],
  "SIGSEGV": [{ kind: "exited", exit: { kind: "killed", signal: "SIGSEGV" }, groupAlive: false }, 100],
  "exit 0, others linger": [{ kind: "exited", exit: WELL, groupAlive: true }, 100],
  "exit 1, others linger": [{ kind: "exited", exit: ILL, groupAlive: true }, 100],
  "groupEmpty": [{ kind: "groupEmpty" }, 100],
  "stop": [{ kind: "stop" }, 100],
  "restart": [{ kind: "restart" }, 100],
  "kill": [{ kind: "kill" }, 100],
  "wake at 0.9 s": [{ kind: "wake" }, 900],
  "wake at 40 s": [{ kind: "wake" }, 40_000],
} satisfies Record<string, readonly [Trigger, number]>;

type State = keyof typeof STATES;
type Name = keyof typeof HAPPENINGS;

/** What follows, as the table says it: the state, for a stopping one what then, and what is done. */
function inWords(before: ServiceState, { state, effects }: Step): string {
  if (state === before && effects.length === 0) return "-";
  const then = state.kind === "stopping" ? `, then ${state.then.kind}` : "";
  const done = effects.map((effect: Effect) => effect.kind === "signal" ? effect.signal : effect.kind);
  return [state.kind + then, ...done].join("; ");
}

/** What is not in the table changes nothing. `FAILURE` is what the restart policy makes of one. */
const FOLLOWS: Record<State, Partial<Record<Name, string>>> = {
  "pending": {
    "waiting": "pending",
    "start": "starting; spawn",
    "stop": "stopped",
    "restart": "pending",
  },
  "preparing": {
    "spawned": "starting",
    "spawnFailed": "UNFIT",
    "ready": "running",
    "exit 0": "SUCCESS",
    "exit 1": "FAILURE",
    "SIGSEGV": "FAILURE",
    "exit 0, others linger": "SUCCESS",
    "exit 1, others linger": "FAILURE",
    "stop": "stopped",
    "restart": "pending",
    "kill": "stopped",
    "wake at 40 s": "UNFIT",
  },
  "starting": {
    "ready": "running",
    "exit 0": "SUCCESS",
    "exit 1": "FAILURE",
    "SIGSEGV": "FAILURE",
    "exit 0, others linger": "stopping, then ended; SIGTERM",
    "exit 1, others linger": "stopping, then ended; SIGTERM",
    "stop": "stopping, then stopped; SIGINT",
    "restart": "stopping, then restarting; SIGINT",
    "kill": "stopping, then stopped; SIGKILL",
    "wake at 40 s": "stopping, then failed; SIGINT",
  },
  "running": {
    "unhealthy": "stopping, then failed; SIGINT",
    "exit 0": "SUCCESS",
    "exit 1": "FAILURE",
    "SIGSEGV": "FAILURE",
    "exit 0, others linger": "stopping, then ended; SIGTERM",
    "exit 1, others linger": "stopping, then ended; SIGTERM",
    "stop": "stopping, then stopped; SIGINT",
    "restart": "stopping, then restarting; SIGINT",
    "kill": "stopping, then stopped; SIGKILL",
  },
  "external": {
    "unhealthy": "UNFIT",
    "exit 0": "SUCCESS",
    "exit 1": "FAILURE",
    "SIGSEGV": "FAILURE",
    "exit 0, others linger": "SUCCESS",
    "exit 1, others linger": "FAILURE",
    "stop": "stopped",
    "restart": "pending",
    "kill": "stopped",
  },
  "stopping": {
    "exit 0": "stopped",
    "exit 1": "stopped",
    "SIGSEGV": "stopped",
    "exit 0, others linger": "stopping, then stopped",
    "exit 1, others linger": "stopping, then stopped",
    "groupEmpty": "stopped",
    "stop": "stopping, then stopped",
    "restart": "stopping, then restarting",
    "kill": "stopping, then stopped; SIGKILL",
    "wake at 40 s": "stopping, then stopped; SIGKILL",
  },
  "recycling": {
    "exit 0": "pending",
    "exit 1": "pending",
    "SIGSEGV": "pending",
    "exit 0, others linger": "stopping, then restarting",
    "exit 1, others linger": "stopping, then restarting",
    "groupEmpty": "pending",
    "stop": "stopping, then stopped",
    "restart": "stopping, then restarting",
    "kill": "stopping, then stopped; SIGKILL",
    "wake at 40 s": "stopping, then restarting; SIGKILL",
  },
  "clearing up": {
    "exit 0": "FAILURE",
    "exit 1": "FAILURE",
    "SIGSEGV": "FAILURE",
    "exit 0, others linger": "stopping, then ended",
    "exit 1, others linger": "stopping, then ended",
    "groupEmpty": "FAILURE",
    "stop": "stopping, then stopped",
    "restart": "stopping, then restarting",
    "kill": "stopping, then stopped; SIGKILL",
    "wake at 40 s": "stopping, then ended; SIGKILL",
  },
  "giving up": {
    "exit 0": "UNFIT",
    "exit 1": "UNFIT",
    "SIGSEGV": "UNFIT",
    "exit 0, others linger": "stopping, then failed",
    "exit 1, others linger": "stopping, then failed",
    "groupEmpty": "UNFIT",
    "stop": "stopping, then stopped",
    "restart": "stopping, then restarting",
    "kill": "stopping, then stopped; SIGKILL",
    "wake at 40 s": "stopping, then failed; SIGKILL",
  },
  "restarting": {
    "stop": "stopped",
    "restart": "pending",
    "wake at 40 s": "pending",
  },
  "stopped": { "restart": "pending" },
  "crashed": { "restart": "pending" },
  "failed": { "restart": "pending" },
};

for (
  const [restartPolicy, success, failure, unfit] of [
    ["never", "stopped", "crashed", "failed"],
    ["on-failure", "stopped", "restarting", "restarting"],
    ["always", "restarting", "restarting", "restarting"],
  ] as const
) {
  const service = define({ restartPolicy, port: 80, stopSignal: "SIGINT" });
  for (const named of Object.keys(STATES) as State[]) {
    Deno.test(`what follows for a service that restarts ${restartPolicy} and is ${named}`, () => {
      for (const name of Object.keys(HAPPENINGS) as Name[]) {
        const [trigger, now] = HAPPENINGS[name];
        const expected = { SUCCESS: success, FAILURE: failure, UNFIT: unfit }[FOLLOWS[named][name] ?? "-"] ??
          FOLLOWS[named][name] ?? "-";
        const state: ServiceState = STATES[named];
        assertEquals(inWords(state, step(state, trigger, now, service, 0.5)), expected, `${named}: ${name}`);
      }
    });
  }
}

/** The state after happenings at their moments. */
function live(service: Service, ...story: (readonly [Trigger["kind"] | Trigger, number])[]): ServiceState {
  return story.reduce<ServiceState>((state, [what, now]) => {
    const trigger = typeof what === "string" ? HAPPENINGS[what as "ready"][0] : what;
    return step(state, trigger, now, service, 0.5).state;
  }, INITIAL);
}

const spawned: Trigger = { kind: "spawned", pid: 7 };
const wake: Trigger = { kind: "wake" };
const exited = (exit: Exit): Trigger => ({ kind: "exited", exit, groupAlive: false });

Deno.test("a service without port and check runs after a second and lets others start after three", () => {
  const service = define();
  const young = live(service, ["start", 0], [spawned, 5]);
  assertEquals(nextWake(young, service), 1_005);
  assertEquals(step(young, wake, 1_004, service, 0).state.kind, "starting");
  const grown = step(young, wake, 1_005, service, 0).state;
  assertEquals([grown.kind, nextWake(grown, service)], ["running", 3_005]);
  assertEquals([satisfies(grown, service, 3_004), satisfies(grown, service, 3_005)], [false, true]);
});

Deno.test("a service with a port lets others start as soon as it is ready", () => {
  const service = define({ port: 80 });
  const state = live(service, ["start", 0], [spawned, 5]);
  assertEquals([state.kind, satisfies(state, service, 900)], ["starting", false]);
  assert(satisfies(step(state, { kind: "ready" }, 900, service, 0).state, service, 900));
});

Deno.test("a task lets others start when it has ended with 0, and only then", () => {
  const service = define({ kind: "task", restartPolicy: "on-failure" });
  const running = live(service, ["start", 0], [spawned, 5]);
  assertEquals([running.kind, satisfies(running, service, 99_999)], ["running", false]);
  const done = step(running, exited(WELL), 50, service, 0).state;
  assertEquals([done.kind, done.lastExit, satisfies(done, service, 50)], ["stopped", WELL, true]);
  const failed = step(running, exited(ILL), 50, service, 0).state;
  assertEquals([failed.kind, satisfies(failed, service, 50)], ["restarting", false]);
  assert(!satisfies(step(running, { kind: "stop" }, 50, service, 0).state, service, 50));
});

Deno.test("a task that restarts always is not started again once it is done", () => {
  const service = define({ kind: "task", restartPolicy: "always" });
  assertEquals(live(service, ["start", 0], [spawned, 5], [exited(WELL), 50]).kind, "stopped");
});

Deno.test("an external service is not spawned, only waited for", () => {
  const service = define({ kind: "external" });
  const { state, effects } = step(INITIAL, { kind: "start" }, 0, service, 0);
  assertEquals([state.kind, effects], ["starting", []]);
  const late = step(state, wake, 30_000, service, 0).state;
  assert(late.kind === "failed");
  assertEquals(late.reason, "was not ready within 30 s");
});

Deno.test("what is not ready in time is stopped, and that is a failed start", () => {
  const service = define({ port: 80, timeoutStartMs: 2_000 });
  const starting = live(service, ["start", 0], [spawned, 5]);
  assertEquals(nextWake(starting, service), 2_000);
  const { state, effects } = step(starting, wake, 2_000, service, 0);
  assertEquals(effects, [{ kind: "signal", signal: "SIGTERM" }]);
  const ended = step(state, exited({ kind: "killed", signal: "SIGTERM" }), 2_010, service, 0).state;
  assert(ended.kind === "failed");
  assertEquals([ended.reason, ended.lastExit], ["was not ready within 2 s", {
    kind: "killed",
    signal: "SIGTERM",
  }]);
});

Deno.test("SIGKILL follows when the time to stop is over, once", () => {
  const service = define({ timeoutStopMs: 4_000 });
  const stopping = step(STATES.running, { kind: "stop" }, 500, service, 0).state;
  assertEquals(nextWake(stopping, service), 4_500);
  assertEquals(step(stopping, wake, 4_499, service, 0).effects, []);
  const { state, effects } = step(stopping, wake, 4_500, service, 0);
  assertEquals([effects, nextWake(state, service)], [[{ kind: "signal", signal: "SIGKILL" }], Infinity]);
  assertEquals(step(state, wake, 99_999, service, 0).effects, []);
});

Deno.test("the pause before a retry doubles up to its limit, give or take 10 %", () => {
  const service = define({ retryDelayMs: 1_000, retryDelayMaxMs: 60_000 });
  const pauses = [1, 2, 3, 4, 5, 6, 7, 8, 1_000].map((attempt) => backoffMs(service, attempt, 0.5));
  assertEquals(pauses, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
  const random = seeded(1);
  for (let times = 0; times < 1_000; times++) {
    const attempt = 1 + Math.floor(random() * 12);
    const [least, pause, most] = [0, random(), 1].map((chance) => backoffMs(service, attempt, chance));
    const full = Math.min(1_000 * 2 ** (attempt - 1), 60_000);
    assert(Math.abs(least - 0.9 * full) < 1e-6, `${least} of ${full}`);
    assert(Math.abs(most - Math.min(1.1 * full, 60_000)) < 1e-6, `${most} of ${full}`);
    assert(least <= pause && pause <= most);
  }
});

Deno.test("failures are counted, delayed ever longer, and end in FAILED", () => {
  const service = define({
    restartPolicy: "on-failure",
    maxRetries: 3,
    retryDelayMs: 100,
    timeoutStartMs: 50,
  });
  const seen: string[] = [];
  let state: ServiceState = INITIAL;
  let now = 0;
  while (state.kind !== "failed") {
    state = live2(state, service, now);
    seen.push(state.kind === "restarting" ? `${state.attempt} in ${state.retryAt - now}` : state.kind);
    if (state.kind === "restarting") {
      now = state.retryAt;
      assertEquals(step(state, wake, now - 1, service, 0.5).state, state);
      state = step(state, wake, now, service, 0.5).state;
    }
  }
  assertEquals(seen, ["1 in 100", "2 in 200", "3 in 400", "failed"]);
  assertEquals([state.reason, state.restarts], ["exited with status 1; gave up after 3 retries", 3]);

  function live2(before: ServiceState, service: Service, now: number): ServiceState {
    return ([{ kind: "start" }, spawned, exited(ILL)] as Trigger[])
      .reduce((state, trigger) => step(state, trigger, now, service, 0.5).state, before);
  }
});

for (
  const [what, failures, ranMs, attempt] of [
    ["a first failure", [], 1_000, 1],
    ["one more within the window", [950_000], 1_000, 2],
    ["one after those before have left the window", [900_000, 930_000], 1_000, 1],
    ["one after a run longer than the window", [990_000], 61_000, 1],
  ] as const
) {
  Deno.test(`retries: ${what} is number ${attempt}`, () => {
    const service = define({ restartPolicy: "always", retryWindowMs: 60_000 });
    const since = 1_000_000 - ranMs;
    const before: ServiceState = { ...PAST, failures, kind: "running", pid: 7, since };
    const { state } = step(before, exited(ILL), 1_000_000, service, 0.5);
    assert(state.kind === "restarting");
    assertEquals(state.attempt, attempt);
  });
}

Deno.test("a restart after status 0 waits too but does not count as a failure", () => {
  const service = define({ restartPolicy: "always", retryDelayMs: 500 });
  const before: ServiceState = { ...PAST, failures: [900], kind: "running", pid: 7, since: 0 };
  const { state } = step(before, exited(WELL), 1_000, service, 0.5);
  assert(state.kind === "restarting");
  assertEquals([state.retryAt, state.attempt, state.failures], [1_500, 0, [900]]);
});

Deno.test("a failure for good is CRASHED for a critical service that ended, FAILED otherwise", () => {
  const critical = step(STATES.running, exited(ILL), 9_000, define(), 0).state;
  assert(critical.kind === "crashed");
  assertEquals([critical.exit, critical.ranMs, critical.reason], [ILL, 9_000, "exited with status 1"]);
  assertEquals(step(STATES.running, exited(ILL), 9_000, define({ critical: false }), 0).state.kind, "failed");
});

Deno.test("a start asked for by the user forgets earlier failures", () => {
  const before: ServiceState = { ...STATES.failed, failures: [1, 2, 3], restarts: 3 };
  assertEquals(step(before, { kind: "restart" }, 10, define(), 0).state, { ...INITIAL, restarts: 3 });
});

for (
  const [exit, words] of [
    [{ kind: "exited", code: 3 }, "exited with status 3"],
    [{ kind: "killed", signal: "SIGKILL" }, "killed by SIGKILL, perhaps out of memory"],
    [{ kind: "killed", signal: "SIGSEGV" }, "killed by SIGSEGV, an invalid memory access"],
    [{ kind: "killed", signal: "SIGTERM" }, "killed by SIGTERM, sent by someone else"],
    [{ kind: "killed", signal: "SIGUSR1" }, "killed by SIGUSR1"],
  ] as const
) Deno.test(`an end in words: ${words}`, () => assertEquals(describeExit(exit), words));

for (
  const [ms, words] of [
    [0, "0 ms"],
    [999.4, "999 ms"],
    [1_000, "1 s"],
    [1_449, "1.4 s"],
    [12_345, "12 s"],
    [59_400, "59 s"],
    [59_999, "1 min"],
    [125_000, "2 min 5 s"],
    [3_600_000, "1 h"],
    [11_040_000, "3 h 4 min"],
    [360_000_000, "100 h"],
  ] as const
) Deno.test(`a span of ${ms} ms is ${words}`, () => assertEquals(formatSpan(ms), words));

/** Charges of services named as in `graph`, all in one state unless told otherwise. */
function managedOf(
  services: readonly Service[],
  states: Record<string, readonly [State, Desired]>,
): Map<string, Managed> {
  return new Map(services.map((service) => {
    const [named, desired] = states[service.name];
    return [service.name, { service, state: STATES[named], desired }];
  }));
}

function dependentsIn(services: readonly Service[]): Map<string, string[]> {
  return new Map(services.map(({ name }) => [
    name,
    services.filter(({ dependencies }) => dependencies.includes(name)).map((other) => other.name),
  ]));
}

for (
  const [what, states, expected] of [
    [
      "only what depends on nothing starts first",
      { db: ["pending", "running"], web: ["pending", "running"], bot: ["pending", "running"] },
      "db start; web waiting db; bot waiting db",
    ],
    [
      "what depends on a starting service waits",
      { db: ["starting", "running"], web: ["pending", "running"], bot: ["pending", "running"] },
      "web waiting db; bot waiting db",
    ],
    [
      "all that depend on a running service start side by side",
      { db: ["running", "running"], web: ["pending", "running"], bot: ["pending", "running"] },
      "web start; bot start",
    ],
    ["a crashed dependency starts nothing", {
      db: ["crashed", "running"],
      web: ["pending", "running"],
      bot: ["running", "running"],
    }, "web waiting db"],
    [
      "what nothing depends on stops first, side by side",
      { db: ["running", "stopped"], web: ["running", "stopped"], bot: ["starting", "stopped"] },
      "bot stop; web stop",
    ],
    [
      "a dependency waits for the last of its dependents",
      { db: ["running", "stopped"], web: ["stopped", "stopped"], bot: ["stopping", "stopped"] },
      "",
    ],
    ["and stops when all are at rest", {
      db: ["running", "stopped"],
      web: ["stopped", "stopped"],
      bot: ["crashed", "stopped"],
    }, "db stop"],
    [
      "what waits or is delayed is stopped without waiting for anyone",
      { db: ["restarting", "stopped"], web: ["running", "stopped"], bot: ["pending", "stopped"] },
      "bot stop; web stop; db stop",
    ],
    [
      "one that is on its way down to start again stays down",
      { db: ["running", "running"], web: ["recycling", "stopped"], bot: ["giving up", "stopped"] },
      "bot stop; web stop",
    ],
    ["a service is restarted alone", {
      db: ["running", "restarted"],
      web: ["running", "running"],
      bot: ["running", "running"],
    }, "db restart"],
    [
      "what starts meanwhile waits for a dependency that restarts",
      { db: ["running", "restarted"], web: ["pending", "running"], bot: ["running", "running"] },
      "db restart; web waiting db",
    ],
    [
      "a restart of several goes down and up in order",
      { db: ["running", "restarted"], web: ["running", "restarted"], bot: ["running", "running"] },
      "web restart",
    ],
    ["an ended service is started again when asked for", {
      db: ["running", "running"],
      web: ["stopped", "restarted"],
      bot: ["failed", "restarted"],
    }, "bot restart; web restart"],
    ["nothing is due when all runs", {
      db: ["running", "running"],
      web: ["running", "running"],
      bot: ["stopped", "running"],
    }, ""],
  ] as const
) {
  Deno.test(`whose turn it is: ${what}`, () => {
    const services = graph({ db: "", web: "db", bot: "db" }).map((service) => ({ ...service, port: 80 }));
    const due = reconcile(managedOf(services, states), dependentsIn(services), 5_000);
    const words = due.map(({ name, trigger }) =>
      [name, trigger.kind, ...trigger.kind === "waiting" ? trigger.names : []].join(" ")
    );
    assertEquals(words.join("; "), expected);
  });
}

for (
  const [a, b, finished] of [
    [["stopped", "running"], ["stopped", "running"], true],
    [["stopped", "running"], ["failed", "running"], true],
    [["crashed", "running"], ["pending", "running"], true],
    [["stopped", "running"], ["running", "running"], false],
    [["stopped", "running"], ["stopping", "stopped"], false],
    [["stopped", "running"], ["restarting", "running"], false],
    [["stopped", "running"], ["stopped", "restarted"], false],
  ] as const
) {
  Deno.test(`a run with services that are ${a[0]} and ${b[0]} (${b[1]}) is ${finished ? "over" : "not over"}`, () => {
    assertEquals(isFinished(managedOf(graph({ a: "", b: "" }), { a, b })), finished);
  });
}

Deno.test("an external service alone keeps no run alive", () => {
  const external = managedOf([define({ kind: "external" })], { a: ["external", "running"] });
  assert(isFinished(external));
});

/**
 * A supervisor in a made-up world: processes that end, ignore signals, leave others behind or are refused, news that
 * come late, and desires at any moment. Time passes from event to event.
 */
class World {
  readonly managed = new Map<string, Managed>();
  readonly #dependents: Map<string, string[]>;
  /** The living groups: those that the leader has left live on until they are killed. */
  readonly groups = new Map<number, { name: string; leader: boolean }>();
  /** What will be told, and when. */
  #news: { at: number; name: string; trigger: Trigger }[] = [];
  #now = 0;
  #nextPid = 1;
  #stopping = false;

  constructor(readonly services: readonly Service[], readonly random: () => number) {
    for (const service of services) {
      this.managed.set(service.name, { service, state: INITIAL, desired: "running" });
    }
    this.#dependents = dependentsIn(services);
    this.settle();
  }

  pick<T>(choices: readonly T[]): T {
    return choices[Math.floor(this.random() * choices.length)];
  }

  #soon(name: string, trigger: Trigger): void {
    this.#news.push({ at: this.#now + Math.floor(this.random() * 3_000), name, trigger });
  }

  apply(name: string, trigger: Trigger): void {
    const one = this.managed.get(name)!;
    const from = one.state;
    const { state, effects } = step(from, trigger, this.#now, one.service, this.random());
    if (trigger.kind === "restart" && isAtRest(from)) one.desired = "running";
    one.state = state;
    for (const effect of effects) {
      if (effect.kind === "spawn") this.#spawn(name);
      else if (state.kind === "stopping") this.#signal(state.pid, effect.signal);
    }
  }

  #spawn(name: string): void {
    const { service } = this.managed.get(name)!;
    const runsAlready = [...this.groups.values()].some((group) => group.name === name);
    assert(!runsAlready, `${name} is started a second time`);
    for (const needed of service.dependencies) {
      const { state, service } = this.managed.get(needed)!;
      assert(satisfies(state, service, this.#now), `${name} is started before ${needed} is ready`);
    }
    assert(!this.#stopping, `${name} is started while everything is being stopped`);
    const luck = this.random();
    if (luck < 0.1) return this.apply(name, { kind: "spawnFailed", reason: "no program" });
    if (luck < 0.2) return this.#soon(name, { kind: "spawnFailed", reason: "the port is taken" });
    const pid = this.#nextPid++;
    this.groups.set(pid, { name, leader: true });
    this.apply(name, { kind: "spawned", pid });
    if (this.random() < 0.8) this.#soon(name, { kind: "ready" });
  }

  #signal(pid: number, signal: Deno.Signal): void {
    const group = this.groups.get(pid);
    if (group === undefined) return;
    if (signal !== "SIGKILL" && this.random() < 0.3) return; // it takes no notice
    if (group.leader) this.#end(pid, { kind: "killed", signal }, signal !== "SIGKILL" && this.random() < 0.2);
    else this.#empty(pid);
  }

  #end(pid: number, exit: Exit, groupAlive: boolean): void {
    const group = this.groups.get(pid)!;
    group.leader = false;
    if (!groupAlive) this.groups.delete(pid);
    this.#soon(group.name, { kind: "exited", exit, groupAlive });
  }

  #empty(pid: number): void {
    const { name } = this.groups.get(pid)!;
    this.groups.delete(pid);
    // It is told after the leader's end, as the owner of a child does it.
    const told = Math.max(this.#now, ...this.#news.filter((news) => news.name === name).map(({ at }) => at));
    this.#news.push({ at: told + 10, name, trigger: { kind: "groupEmpty" } });
  }

  settle(): void {
    for (let rounds = 0;; rounds++) {
      assertLess(rounds, 1_000, "it never settles");
      const due = reconcile(this.managed, this.#dependents, this.#now);
      if (due.length === 0) return;
      for (const { name, trigger } of due) {
        if (trigger.kind === "start" && this.managed.get(name)!.desired !== "running") break;
        const { kind } = this.managed.get(name)!.state;
        const toldToStop = trigger.kind === "stop" && (kind === "starting" || kind === "running");
        const needed = (this.#dependents.get(name) ?? []).filter((other) => this.#runs(other));
        assert(!toldToStop || !this.#stopping || needed.length === 0, `${name} stops while ${needed} run`);
        this.apply(name, trigger);
      }
    }
  }

  #runs(name: string): boolean {
    return !isAtRest(this.managed.get(name)!.state);
  }

  /** Something happens: time passes, a process ends by itself, someone desires something. */
  disturb(): void {
    const luck = this.random();
    const leaders = [...this.groups].filter(([, { leader }]) => leader);
    const name = this.pick(this.services).name;
    if (luck < 0.15 && leaders.length > 0) {
      this.#end(this.pick(leaders)[0], this.pick([WELL, ILL]), this.random() < 0.2);
    } else if (luck < 0.2) {
      this.apply(name, this.pick([{ kind: "unhealthy", reason: "ill" }, { kind: "wake" }, { kind: "kill" }]));
    } else if (luck < 0.35 && !this.#stopping) {
      const { state } = this.managed.get(name)!;
      const desired = this.pick<Desired>(["running", "stopped", "restarted"]);
      this.managed.get(name)!.desired = desired === "running" && isAtRest(state) ? "restarted" : desired;
    } else this.pass();
    this.settle();
  }

  /** Time passes until the next news or wake-up. */
  pass(): boolean {
    const wakes = [...this.managed.values()].map(({ state, service }) => nextWake(state, service) ?? Infinity)
      .filter((at) => at > this.#now);
    const next = Math.min(...wakes, ...this.#news.map(({ at }) => at));
    if (next === Infinity) return false;
    this.#now = Math.max(this.#now, next);
    const told = this.#news.filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    this.#news = this.#news.filter(({ at }) => at > this.#now);
    for (const { name, trigger } of told) this.apply(name, trigger);
    for (const name of this.managed.keys()) this.apply(name, { kind: "wake" });
    return true;
  }

  stop(): void {
    this.#stopping = true;
    for (const one of this.managed.values()) one.desired = "stopped";
    this.settle();
  }

  /** Every living group is shown with its PID, and every PID shown lives or its end is on its way. */
  check(): void {
    for (const [pid, { name }] of this.groups) {
      const { state } = this.managed.get(name)!;
      assert(
        "pid" in state && state.pid === pid,
        `PID ${pid} of ${name} runs, but the table says ${state.kind}`,
      );
    }
    for (const [name, { state }] of this.managed) {
      if (!("pid" in state) || state.pid === null || this.groups.has(state.pid)) continue;
      const coming = this.#news.some((news) =>
        news.name === name && (news.trigger.kind === "exited" || news.trigger.kind === "groupEmpty")
      );
      assert(coming, `${name} is shown as ${state.kind} with PID ${state.pid}, which does not run`);
    }
  }
}

Deno.test("whatever happens, what runs and what the table shows are the same (500 seeded worlds)", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const random = seeded(seed);
    const choose = <T>(choices: readonly T[]) => choices[Math.floor(random() * choices.length)];
    const names = ["db", "cache", "web", "bot", "job"].slice(0, 2 + Math.floor(random() * 4));
    const services = names.map((name, index) => ({
      ...define({
        restartPolicy: choose(["never", "on-failure", "always"]),
        maxRetries: choose([0, 1, 3]),
        timeoutStartMs: choose([500, 30_000]),
        timeoutStopMs: choose([500, 10_000]),
        kind: choose(["service", "service", "task"]),
        port: choose([null, 80]),
        critical: false,
      }),
      name,
      dependencies: names.slice(0, index).filter(() => random() < 0.4),
    }));
    const world = new World(services, random);
    try {
      for (let times = 0; times < 200; times++) {
        world.disturb();
        world.check();
      }
      world.stop();
      world.check();
      for (let times = 0; times < 1_000 && world.pass(); times++) {
        world.settle();
        world.check();
      }
      assertEquals(world.groups.size, 0, "something is left running");
      assert([...world.managed.values()].every(({ state }) => isAtRest(state)) && isFinished(world.managed));
    } catch (error) {
      console.error(`seed ${seed}`);
      throw error;
    }
  }
});

// ------------------------------------------------------------------------------------------------------------------
// 5. Children

/** What a text's lines are, each with its newline, when `\n`, `\r\n` and a lone `\r` end one. */
function wholeLines(text: string): string {
  const unified = text.replaceAll(/\r\n?/g, "\n");
  return unified === "" || unified.endsWith("\n") ? unified : `${unified}\n`;
}

/** What a cutter gives for chunks, as bytes in a text. */
function cut(chunks: readonly Uint8Array[]): string[] {
  const cutter = new LineCutter();
  const blocks = chunks.map((chunk) => cutter.push(chunk));
  return [...blocks, cutter.flush()].filter((block) => block !== null).map(binary);
}

/** Bytes as a text of as many characters. */
function binary(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8_192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8_192));
  }
  return text;
}

for (
  const [what, chunks, lines] of [
    ["a line without a newline at the end gets one", ["a\nb"], "a\nb\n"],
    ["a line over several chunks is one", ["a", "b", "c\n"], "abc\n"],
    ["an empty line is one", ["\n\n"], "\n\n"],
    ["\\r\\n ends one line", ["a\r\nb\r\n"], "a\nb\n"],
    ["\\r\\n over two chunks ends one line", ["a\r", "\nb\n"], "a\nb\n"],
    ["\\r\\n over three chunks ends one line", ["a", "\r", "\n", "b"], "a\nb\n"],
    ["a progress bar's \\r ends a line", ["10%\r20%\r", "done\n"], "10%\n20%\ndone\n"],
    ["\\r at the very end ends a line", ["50%\r"], "50%\n"],
    ["\\n\\r are two ends", ["a\n\rb"], "a\n\nb\n"],
    ["nothing is nothing", [], ""],
  ] as const
) {
  Deno.test(`lines: ${what}`, () =>
    assertEquals(cut(chunks.map((chunk) => encoder.encode(chunk))).join(""), lines));
}

Deno.test("lines: however the bytes are chunked, the lines are the same (1,000 seeded flows)", () => {
  for (let seed = 1; seed <= 1_000; seed++) {
    const random = seeded(seed);
    const alphabet = ["\n", "\r", "\r\n", "x", "\xff\x80", "é", "\x1b[31m", "long".repeat(20)];
    const text = Array.from({ length: random() * 60 }, () => alphabet[Math.floor(random() * alphabet.length)])
      .join("");
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const length = 1 + Math.floor(random() * 8);
      chunks.push(bytes.slice(at, at + length));
      at += length;
    }
    const blocks = cut(chunks);
    assertEquals(blocks.join(""), wholeLines(binary(bytes)), `seed ${seed}`);
    assert(blocks.every((block) => block.endsWith("\n")), `seed ${seed}`);
  }
});

Deno.test("lines: a chunk's memory may be used again", () => {
  const cutter = new LineCutter();
  const memory = encoder.encode("one\ntwo");
  const block = cutter.push(memory)!;
  memory.fill(0);
  assertEquals([decoder.decode(block), decoder.decode(cutter.flush()!)], ["one\n", "two\n"]);
});

Deno.test("lines: a line of 20 MB stays whole, one without an end does not take all memory", () => {
  const chunk = new Uint8Array(65_536).fill(120);
  const cutter = new LineCutter();
  for (let times = 0; times < 320; times++) assertEquals(cutter.push(chunk), null);
  assertEquals(cutter.push(encoder.encode("\n"))?.length, 320 * 65_536 + 1);
  let pushed = 0;
  let block: Uint8Array | null = null;
  while (block === null && pushed < 100 * 1024 * 1024) {
    block = cutter.push(chunk);
    pushed += chunk.length;
  }
  assertEquals(block?.length, pushed + 1);
});

Deno.test("the last 1,000 lines are kept, however they come, and memory is bounded (100 seeded flows)", () => {
  for (let seed = 1; seed <= 100; seed++) {
    const random = seeded(seed);
    const tail = new Tail();
    const all: string[] = [];
    for (let times = 0; times < 200; times++) {
      const block = Array.from({ length: 1 + Math.floor(random() * 40) }, () => {
        all.push(`${all.length} ${"x".repeat(random() * 50)}`);
        return all.at(-1)!;
      });
      tail.push(encoder.encode(block.map((line) => `${line}\n`).join("")));
    }
    for (const count of [0, 1, 3, 20, 1_000]) {
      assertEquals(tail.last(count), count === 0 ? [] : all.slice(-count), `seed ${seed}`);
    }
    assertLess(tail.last(Infinity).join("").length, 300_000);
  }
});

Deno.test("lines of megabytes are kept as far as memory is bounded, the last one always", () => {
  const tail = new Tail();
  for (let index = 0; index < 20; index++) tail.push(encoder.encode(`${index}${"x".repeat(1_500_000)}\n`));
  const kept = tail.last(1_000);
  assertEquals(kept.at(-1)?.slice(0, 3), "19x");
  assertLess(kept.reduce((sum, line) => sum + line.length, 0), 6_000_000);
  tail.push(encoder.encode(`${"y".repeat(30_000_000)}\n`));
  assertLess(tail.last(1_000).reduce((sum, line) => sum + line.length, 0), 6_000_000);
});

Deno.test("an empty line and bytes that are not UTF-8 are kept as lines", () => {
  const tail = new Tail();
  tail.push(Uint8Array.of(10, 255, 65, 10));
  assertEquals(tail.last(10), ["", "\ufffdA"]);
});

for (const hostname of ["127.0.0.1", "0.0.0.0", "::1"]) {
  Deno.test(`a port that someone listens on at ${hostname} is not free, and is free afterwards`, () => {
    const listener = Deno.listen({ hostname, port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    assertEquals(isPortFree(port), false);
    listener.close();
    assertEquals(isPortFree(port), true);
  });
}

const ELSEWHERE = { environment: Deno.env.toObject(), cwd: "/", infrastructure: "/" };

/** Looks once, with a limit that a test machine keeps. */
function lookAt(probe: Exclude<Health["probe"], { kind: "log" }>, environment: Record<string, string> = {}) {
  const target = { ...ELSEWHERE, environment: { ...ELSEWHERE.environment, ...environment } };
  return runProbe(probe, target, 20_000, new AbortController().signal);
}

for (
  const [path, body, fault] of [
    ["/200", null, null],
    ["/204", null, null],
    ["/500", null, "answered 500"],
    ["/404", null, "answered 404"],
    ["/200", "status: (ok|fine)", null],
    ["/200", "^status: bad$", "answered without the expected text"],
    ["/500", "status", "answered 500"],
  ] as const
) {
  Deno.test(`a look by http at ${path}${body === null ? "" : ` for ${body}`} is ${fault ?? "well"}`, async () => {
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, ({ url }) => {
      const status = Number(new URL(url).pathname.slice(1));
      return new Response(status === 204 ? null : "status: ok", { status });
    });
    const url = "http://127.0.0.1:${PORT}" + path;
    assertEquals(await lookAt({ kind: "http", url, body }, { PORT: String(server.addr.port) }), fault);
  });
}

Deno.test("a look by tcp is well when the port accepts a connection", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = String(listener.addr.port);
  assertEquals(await lookAt({ kind: "tcp", port: "${PORT}" }, { PORT: port }), null);
  listener.close();
  assertMatch(await lookAt({ kind: "tcp", port }) ?? "", /refused/i);
});

Deno.test("a look by tcp finds a service that listens on IPv6 only", async () => {
  const listener = Deno.listen({ hostname: "::1", port: 0 });
  assertEquals(await lookAt({ kind: "tcp", port: String(listener.addr.port) }), null);
  listener.close();
});

for (
  const [command, fault] of [
    ["exit 0", null],
    ["exit 3", "its check ended with status 3"],
    [["test", "${ANSWER}", "=", "42"], null],
    [["python", "-c", "raise SystemExit(4)"], "its check ended with status 4"],
  ] as const
) {
  Deno.test(`a look by the command ${JSON.stringify(command)} is ${fault ?? "well"}`, async () => {
    assertEquals(await lookAt({ kind: "command", command }, { ANSWER: "42" }), fault);
  });
}

Deno.test("a look that takes too long ends in time, with all that it has started", async () => {
  await using folder = await Folder.make();
  const command = `echo $$ >${folder.path}/pid; sleep 1000; true`;
  const fault = await runProbe({ kind: "command", command }, ELSEWHERE, 300, new AbortController().signal);
  assertEquals(fault, "no answer within 300 ms");
  const group = Number(await folder.read("pid"));
  await waitUntil(() => !isAlive(group), "the check is gone");
  const left = (await outputOf("ps", "-eo", "pgid=,stat=")).split("\n").filter((line) => {
    const [itsGroup, state] = line.trim().split(/\s+/);
    return Number(itsGroup) === group && !state.startsWith("Z");
  });
  assertEquals(left, []);
});

Deno.test("a look that is stopped ends at once", async () => {
  const stop = new AbortController();
  const looking = runProbe({ kind: "command", command: "sleep 1000" }, ELSEWHERE, LIMIT_MS, stop.signal);
  stop.abort();
  assert(await looking !== null);
});

Deno.test("what a look says holds no value of the environment", async () => {
  const environment = { TOKEN: "s3cret", PORT: String(freePort()) };
  const faults = [
    await lookAt(
      { kind: "http", url: "http://127.0.0.1:${PORT}/health?token=${TOKEN}", body: null },
      environment,
    ),
    await lookAt({ kind: "http", url: "http://user:${TOKEN}@127.0.0.1:${PORT}/", body: null }, environment),
    await lookAt({ kind: "command", command: ["${TOKEN}", "x"] }, environment),
    await lookAt({ kind: "tcp", port: "${TOKEN}" }, environment),
  ];
  for (const fault of faults) assert(fault !== null && !fault.includes("s3cret"), fault ?? "well");
  assertMatch(faults[0] ?? "", /connection refused/i);
});

/** Runs a shell text as a child and gives what it told. */
async function childOf(
  command: string,
  environment: Record<string, string> = {},
  room: () => Promise<void> | null = () => null,
) {
  const told: string[] = [];
  const ended = Promise.withResolvers<{ exit: Exit; groupAlive: boolean }>();
  const emptied = Promise.withResolvers<void>();
  const { pid } = startChild({
    program: "/bin/sh",
    args: ["-c", command],
    cwd: "/",
    environment: { PATH: Deno.env.get("PATH")!, ...environment },
    port: null,
  }, {
    lines: (stream, lines) => told.push(`${stream}: ${binary(lines)}`),
    backpressure: room,
    exited(exit, groupAlive) {
      told.push("exited");
      ended.resolve({ exit, groupAlive });
      if (!groupAlive) emptied.resolve();
    },
    groupEmpty: () => emptied.resolve(),
  });
  const { exit, groupAlive } = await ended.promise;
  if (groupAlive) Deno.kill(-pid, "SIGKILL");
  await emptied.promise;
  return { pid, exit, groupAlive, told };
}

Deno.test("a child leads its own session and group", async () => {
  const { pid, told } = await childOf("ps -o sid=,pgid= -p $$");
  assertEquals(told[0].trim().split(/[\s:]+/).slice(1).map(Number), [pid, pid]);
});

Deno.test("a child gets the environment it is given and nothing else, and no input", async () => {
  const { told } = await childOf("env | sort | grep -v ^PWD=; cat", { MINE: "1" });
  assertEquals(told.slice(0, -1).join("").replaceAll("out: ", "").split("\n").filter(Boolean), [
    "MINE=1",
    `PATH=${Deno.env.get("PATH")}`,
  ]);
});

Deno.test("a child ignores no signals that it did not ask to ignore", async () => {
  const { told } = await childOf("grep SigIgn /proc/self/status");
  const ignored = (status: string) => BigInt(`0x${/SigIgn:\s*([0-9a-f]+)/.exec(status)![1]}`);
  // Who runs the tests may ignore some (a shell's background job does); the runtime's own SIGPIPE is not handed on.
  const SIGPIPE = 1n << 12n;
  const inherited = ignored(Deno.readTextFileSync("/proc/self/status")) & ~SIGPIPE;
  assertEquals(ignored(told[0]), inherited);
});

for (
  const [what, command, exit, told] of [
    ["a last line without newline", "printf 'one\\ntwo'", WELL, ["out: one\n", "out: two\n", "exited"]],
    ["both pipes", "echo a; sleep 0.05; echo b >&2; exit 4", { kind: "exited", code: 4 }, [
      "out: a\n",
      "err: b\n",
      "exited",
    ]],
    ["bytes that are not UTF-8", "printf '\\377\\200\\n'; kill -SEGV $$", {
      kind: "killed",
      signal: "SIGSEGV",
    }, [
      "out: \xff\x80\n",
      "exited",
    ]],
  ] as const
) {
  Deno.test(`a child's ${what} are told before its end`, async () => {
    const child = await childOf(command);
    assertEquals(child.exit, exit);
    assertEquals(child.told.join("").replaceAll("out: ", ""), told.join("").replaceAll("out: ", ""));
    assertEquals(child.told.at(-1), "exited");
  });
}

Deno.test("a megabyte that was written just before the end is told before the end", async () => {
  const { told } = await childOf("head -c 1000000 /dev/zero | tr '\\0' x; kill -KILL $$");
  assertEquals(told.at(-1), "exited");
  assertEquals(told.slice(0, -1).join("").replaceAll("out: ", "").length, 1_000_001);
});

Deno.test("an end is told although a grandchild holds the pipes open, and says that some linger", async () => {
  const { exit, groupAlive, told } = await childOf("sleep 1000 & printf 'bye'");
  assertEquals([exit, groupAlive], [WELL, true]);
  assertEquals(told, ["out: bye\n", "exited"]);
});

Deno.test("what is in the pipes at the end is told before it although there is no room for it", async () => {
  const never = new Promise<void>(() => {});
  const command = "head -c 60000 /dev/zero | tr '\\0' x; echo >&2 last words; exit 3";
  const { exit, told } = await childOf(command, {}, () => never);
  assertEquals([exit, told.at(-1)], [{ kind: "exited", code: 3 }, "exited"]);
  const length = told.filter((text) => text.startsWith("out: ")).join("").replaceAll("out: ", "").length;
  assertEquals([length, told.includes("err: last words\n")], [60_001, true]);
});

Deno.test("an end is told although a grandchild floods the pipes", async () => {
  const { exit, groupAlive } = await childOf("yes & sleep 0.2; exit 3");
  assertEquals([exit, groupAlive], [{ kind: "exited", code: 3 }, true]);
});

Deno.test("a process that left the group and keeps the pipes does not hold up the end", async () => {
  await using folder = await Folder.make();
  const escape = `setsid sh -c 'echo $$ >${folder.path}/pid; exec sleep 1000' &`;
  const { groupAlive } = await childOf(`${escape} until [ -s ${folder.path}/pid ]; do sleep 0.01; done`);
  Deno.kill(Number(await folder.read("pid")), "SIGKILL");
  assertEquals(groupAlive, false);
});

Deno.test("a variable that is too long for the system is named, without its value", async () => {
  const failure = await assertRejects(
    () => childOf("true", { HUGE: "s3cret".repeat(50_000) }),
    UserError,
    "HUGE",
  );
  assert(!failure.message.includes("s3cret"));
  await assertRejects(
    () =>
      childOf(
        "true",
        Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`V${n}`, "x".repeat(100_000)])),
      ),
    UserError,
    "too long",
  );
});

// ------------------------------------------------------------------------------------------------------------------
// 6. Supervisor

const IDLE = "exec sleep 1000";
const PYTHON = "/usr/bin/env python3";

/** Ready as soon as it prints a line. */
const READY: Health = {
  probe: { kind: "log", pattern: "" },
  intervalMs: 10_000,
  timeoutMs: 2_000,
  retries: 3,
};

/** A service that is up at once and does nothing. */
const UP = { command: "echo up; exec sleep 1000", health: READY };

/** A shell text that runs one of the scripts. */
function script(name: string, ...args: (string | number)[]): string {
  const program = name.endsWith(".py") ? PYTHON : "/bin/sh";
  return ["exec", program, `${TESTDATA}/${name}`, ...args].join(" ");
}

/** A supervisor inside this process, and all that it told. */
class Inside implements AsyncDisposable {
  readonly events: Event[] = [];
  readonly supervisor: Supervisor;
  #told = Promise.withResolvers<void>();

  constructor(folder: Folder, definitions: Parameters<typeof defineServices>[0]) {
    const home = findHome({ infrastructure: folder.path });
    this.supervisor = new Supervisor(planStart(defineServices(definitions), []).services, home);
    this.supervisor.listen({
      event: (event) => {
        this.events.push(event);
        this.#told.resolve();
        this.#told = Promise.withResolvers();
      },
    });
    this.supervisor.start();
  }

  row(name: string): ServiceSnapshot {
    return this.supervisor.snapshot(1_000).services.find((row) => row.name === name)!;
  }

  state(name: string): ServiceState {
    return this.row(name).state;
  }

  /** The states a service came into, in order. */
  states(name: string): string[] {
    return this.changes(name).map(({ row }) => row.state.kind);
  }

  changes(name: string) {
    return this.events.filter((event) => event.kind === "state").filter(({ row }) => row.name === name);
  }

  /** Every change of every service, as `name state`. */
  get story(): string[] {
    return this.events.filter((event) => event.kind === "state").map(({ row }) =>
      `${row.name} ${row.state.kind}`
    );
  }

  get notices(): string[] {
    return this.events.filter((event) => event.kind === "log").map(({ message: text }) => text);
  }

  text(name: string): string {
    return this.events.filter((event) => event.kind === "output").filter(({ service }) => service === name)
      .map(({ lines }) => decoder.decode(lines)).join("");
  }

  /** Waits until something that was told makes `check` true. */
  async until(check: () => boolean, what: string): Promise<void> {
    const lateAt = performance.now() + LIMIT_MS;
    while (!check()) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, lateAt - performance.now()));
      await Promise.race([this.#told.promise, late]);
      clearTimeout(timer);
      if (performance.now() > lateAt) {
        throw new Error(`In vain waited until ${what}:\n${this.story.join("\n")}`);
      }
    }
  }

  /** Waits until a service is in a state. */
  async is<Kind extends ServiceState["kind"]>(
    name: string,
    kind: Kind,
  ): Promise<ServiceState & { kind: Kind }> {
    await this.until(() => this.state(name).kind === kind, `${name} is ${kind}`);
    return this.state(name) as ServiceState & { kind: Kind };
  }

  /** Waits until a service came into a state for the `nth` time. */
  async was(name: string, kind: ServiceState["kind"], nth = 1): Promise<void> {
    const count = () => this.states(name).filter((state) => state === kind).length;
    await this.until(() => count() >= nth, `${name} was ${kind} ${nth} times`);
  }

  processes() {
    return processesWith(`ORCHESTRATOR_RUN=${this.supervisor.run}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.supervisor.kill();
    await waitUntil(() => this.processes().length === 0, "all of it is gone", 5_000);
  }
}

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
  await using run = new Inside(folder, {
    db: { command: IDLE },
    web: { command: IDLE, dependencies: ["db"] },
  });
  await run.is("web", "starting");
  const [starting, running] = run.changes("db");
  const [started] = run.changes("web");
  assertGreaterOrEqual(running.at - starting.at, 1_000);
  assertGreaterOrEqual(started.at - starting.at, 3_000);
  assertEquals(run.story, ["db starting", "db running", "web starting"]);
});

Deno.test("a service whose port variable is not set is ready when it has lived for a second", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    db: { command: IDLE, portEnv: "PORT_THAT_IS_NOT_SET" },
    web: { ...UP, dependencies: ["db"] },
  });
  await run.is("web", "running");
  const [starting, running] = run.changes("db");
  assertGreaterOrEqual(running.at - starting.at, 990);
});

Deno.test("what is independent starts side by side", async () => {
  await using folder = await Folder.make();
  const ports = [freePort(), freePort()];
  await using run = new Inside(folder, {
    a: { command: script("serves.py", ports[0], 0.3), port: ports[0] },
    b: { command: script("serves.py", ports[1], 0.3), port: ports[1] },
  });
  await run.is("a", "running");
  await run.is("b", "running");
  assertEquals(run.story.slice(0, 2), ["a starting", "b starting"]);
});

Deno.test("what is not ready in time is stopped, and the run fails", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    db: { command: IDLE, port: freePort(), timeoutStartMs: 300 },
    web: { ...UP, dependencies: ["db"] },
  });
  const { pid } = await run.is("db", "starting");
  const result = await run.supervisor.finished;
  assertEquals([result.status, result.failedService?.name], [1, "db"]);
  const state = run.state("db");
  assert(state.kind === "failed" && state.reason === "was not ready within 300 ms", JSON.stringify(state));
  assertEquals([isAlive(pid!), run.states("web")], [false, ["stopped"]]);
});

Deno.test("a taken port fails the start and tells who holds it", async () => {
  await using folder = await Folder.make();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  await using run = new Inside(folder, { db: { command: `touch ${folder.path}/started; ${IDLE}`, port } });
  const { status, failedService } = await run.supervisor.finished;
  listener.close();
  assert(status === 1 && failedService?.state.kind === "failed");
  for (const part of [`port ${port}`, "db", `PID ${Deno.pid}`, "deno"]) {
    assertStringIncludes(failedService.state.reason, part);
  }
  assertEquals(await folder.read("started"), "");
});

for (
  const [what, definition, said] of [
    ["working folder", { command: IDLE, workingDir: "gone" }, "working folder"],
    ["entry point", { command: ["python", "gone.py"] }, "entry point"],
    ["program", { command: ["gone-program"] }, "no program gone-program"],
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
    assertStringIncludes(failedService.state.reason, said);
    assertEquals(run.state("db").kind, "stopped");
  });
}

Deno.test("a service that ends with 0 is STOPPED and the rest go on, until nothing is left", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    short: { command: "echo done" },
    long: { command: `until [ -e ${folder.path}/enough ]; do sleep 0.02; done` },
  });
  await run.is("short", "stopped");
  await run.is("long", "running");
  assertEquals(run.state("short").lastExit, WELL);
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

Deno.test("one that takes no notice of the signal is killed when its time is over", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { a: { command: script("stubborn.sh"), timeoutStopMs: 500 } });
  await run.until(() => run.text("a").includes("ready"), "it is ready");
  const { status } = await run.supervisor.close();
  const [, stopping, stopped] = run.changes("a").slice(-3);
  assertEquals([status, run.state("a").kind], [0, "stopped"]);
  assertEquals(run.state("a").lastExit, { kind: "killed", signal: "SIGKILL" });
  assertGreaterOrEqual(stopped.at - stopping.at, 500);
  assertStringIncludes(run.text("a"), "no thanks");
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

Deno.test("a grandchild that takes no notice of the signal is gone at the end, too", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { a: { command: script("has_grandchild.sh"), timeoutStopMs: 500 } });
  await run.until(() => /^up$/m.test(run.text("a")) && /^grandchild/m.test(run.text("a")), "it is there");
  const grandchild = Number(/grandchild (\d+)/.exec(run.text("a"))![1]);
  assert(isAlive(grandchild));
  await run.supervisor.close();
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
  await using run = new Inside(folder, { a: { command: script("closes_stdout.sh", `${folder.path}/pid`) } });
  const { pid } = await run.is("a", "running");
  assertEquals([Number(await folder.read("pid")), run.text("a")], [pid, "last words\n"]);
  await run.supervisor.close();
  assertEquals([run.state("a").kind, isAlive(pid!)], ["stopped", false]);
});

Deno.test("a port that someone keeps after the stop is named, and the run fails", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, { a: { command: script("escapes.py", port), port } });
  await run.is("a", "running");
  await run.until(() => run.text("a").includes("escaped"), "one escaped");
  const { status, remaining } = await run.supervisor.close();
  const escaped = Number(run.text("a").split(" ")[1]);
  Deno.kill(escaped, "SIGKILL");
  assertEquals([status, remaining.length], [1, 1]);
  for (const part of [`${port}`, `"a"`, `PID ${escaped}`]) assertStringIncludes(remaining[0], part);
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
  await using run = new Inside(folder, {
    a: { command: 'echo "it is $COLOUR"; exit 1', restartPolicy: "on-failure", retryDelayMs: 500 },
  });
  await run.is("a", "restarting");
  await folder.write(".env", "COLOUR=green\n");
  await run.until(() => run.text("a").includes("green"), "it is green");
  assertEquals(run.text("a").split("\n").slice(0, 2), ["it is red", "it is green"]);
});

Deno.test("one that dies at every start is tried with growing pauses, then FAILED", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    a: { command: "echo try; exit 7", restartPolicy: "on-failure", maxRetries: 3, retryDelayMs: 100 },
    b: { ...UP },
  });
  const { status, failedService } = await run.supervisor.finished;
  assert(status === 1 && failedService?.name === "a" && failedService.state.kind === "failed");
  assertEquals(failedService.state.reason, "exited with status 7; gave up after 3 retries");
  assertEquals(run.text("a"), "try\n".repeat(4));
  const pauses = run.changes("a").filter(({ row }) => row.state.kind === "restarting")
    .map(({ row, at }) => row.state.kind === "restarting" ? row.state.retryAt - at : 0);
  [100, 200, 400].forEach((pause, index) => {
    assertGreaterOrEqual(pauses[index], pause * 0.9 - 20);
    assertLess(pauses[index], pause * 1.1 + 1);
  });
  const starts = run.changes("a").filter(({ row }) => row.state.kind === "starting").map(({ at }) => at);
  [100, 200, 400].forEach((pause, index) =>
    assertGreaterOrEqual(starts[index + 1] - starts[index], pause * 0.9 - 2)
  );
});

Deno.test("a pause before a retry is told, and ends at once on stop", async () => {
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
  assertMatch(describeState(snapshot.services[0], snapshot.at), /^in \d+ s, try 1 of 5$/);
  const { status } = await run.supervisor.close();
  assertEquals([status, run.states("a")], [0, ["starting", "restarting", "stopped"]]);
});

Deno.test("a service is started again only when what it needs runs", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    db: { command: script("serves.py", port), port, restartPolicy: "on-failure", retryDelayMs: 1_500 },
    web: {
      command: `echo up; until [ -e ${folder.path}/now ]; do sleep 0.02; done; rm ${folder.path}/now; exit 1`,
      health: READY,
      dependencies: ["db"],
      restartPolicy: "on-failure",
      retryDelayMs: 10,
    },
  });
  await run.is("web", "running");
  const { pid } = await run.is("db", "running");
  Deno.kill(pid!, "SIGKILL");
  await run.is("db", "restarting");
  await folder.write("now", "");
  await run.until(() => {
    const state = run.state("web");
    return state.kind === "pending" && state.waitingFor.join() === "db";
  }, "web waits for db");
  await run.was("web", "starting", 2);
  const back = run.story.lastIndexOf("db running");
  assert(
    back > run.story.indexOf("web pending") && back < run.story.lastIndexOf("web starting"),
    run.story.join(),
  );
});

Deno.test("one that restarts always does so after status 0 too, with its pause and without end", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, {
    a: { command: "exit 0", restartPolicy: "always", maxRetries: 1, retryDelayMs: 30 },
  });
  await run.was("a", "starting", 5);
  const starts = run.changes("a").filter(({ row }) => row.state.kind === "starting").map(({ at }) => at);
  assertGreaterOrEqual(starts[1] - starts[0], 25);
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

Deno.test("what depends on a task starts when it has ended with 0; its output and end are told", async () => {
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
  assertMatch(describeChange(change)?.message ?? "", /^migrate is done after \d+ ms$/);
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
    assertGreaterOrEqual(running.at - starting.at, 400);
    assert(isAlive(state.pid!));
  });
}

Deno.test("a service that is unhealthy as often as allowed is stopped and restarted by its policy", async () => {
  await using folder = await Folder.make();
  const port = freePort();
  await using run = new Inside(folder, {
    a: {
      command: script("serves.py", port, 0, `${folder.path}/mood`),
      port,
      restartPolicy: "on-failure",
      retryDelayMs: 50,
      health: {
        probe: { kind: "http", url: "http://127.0.0.1:${PORT}/health", body: null },
        intervalMs: 50,
        timeoutMs: 10_000,
        retries: 3,
      },
    },
  });
  await run.is("a", "running");
  await folder.write("mood", "sick");
  const state = await run.is("a", "restarting");
  assertEquals(state.reason, "failed its health check 3 times: answered 500");
  assertEquals(run.notices.filter((text) => text.includes("unhealthy")).map((text) => text.slice(0, 23)), [
    "a is unhealthy (1 of 3)",
    "a is unhealthy (2 of 3)",
    "a is unhealthy (3 of 3)",
  ]);
  await folder.write("mood", "well");
  await run.was("a", "running", 2);
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
  assertStringIncludes(failedService.state.reason, "HUGE");
  assert(!failedService.state.reason.includes("s3cret"));
});

Deno.test("a clock that is set back changes nothing", async () => {
  await using folder = await Folder.make();
  const genuine = Date.now;
  let wall = 1e12;
  Date.now = () => wall -= 3_600_000; // an hour back each time someone looks
  try {
    await using run = new Inside(folder, {
      a: { command: "exit 1", restartPolicy: "on-failure", maxRetries: 2, retryDelayMs: 50, critical: false },
      b: { command: script("stubborn.sh"), timeoutStopMs: 200 },
    });
    await run.is("a", "failed");
    const state = await run.is("b", "running");
    assertGreaterOrEqual(performance.now() - state.since, 900);
    await run.supervisor.close();
    assertEquals(run.state("b").lastExit, { kind: "killed", signal: "SIGKILL" });
  } finally {
    Date.now = genuine;
  }
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

Deno.test("a stop during a restart ends as stopped", async () => {
  await using folder = await Folder.make();
  await using run = new Inside(folder, { a: { command: script("stubborn.sh"), timeoutStopMs: 300 } });
  await run.until(() => run.text("a").includes("ready"), "it is ready");
  run.supervisor.setDesired(["a"], "restarted");
  await run.is("a", "stopping");
  const { status } = await run.supervisor.close();
  assertEquals([status, run.state("a").kind, run.text("a").match(/ready/g)?.length], [0, "stopped", 1]);
});

// ------------------------------------------------------------------------------------------------------------------
// 7. Views

for (
  const [what, text, bare, coloured] of [
    ["plain text stays", "déjà vu 🔄\tx", "déjà vu 🔄\tx", "déjà vu 🔄\tx"],
    ["colours stay where they are wanted", "\x1b[31mred\x1b[0m", "red", "\x1b[31mred\x1b[0m"],
    ["so do those of 24 bits", "\x1b[38;2;1;2;3mx\x1b[38:5:9my", "xy", "\x1b[38;2;1;2;3mx\x1b[38:5:9my"],
    ["the cursor stays where it is", "a\x1b[2J\x1b[H\x1b[10;20H\x1b[3Ab", "ab", "ab"],
    ["no other screen, no mouse", "\x1b[?1049h\x1b[?1000hx\x1b[?25l", "x", "x"],
    ["no scroll region, no saved cursor, no reset", "\x1b[1;5r\x1b7\x1b8\x1bcx\x1b[!p", "x", "x"],
    [
      "no title, no clipboard, no link",
      "\x1b]0;title\x07\x1b]52;c;eA==\x1b\\x\x1b]8;;http://a\x1b\\b",
      "xb",
      "xb",
    ],
    ["no device control", "\x1bP1$r0m\x1b\\x\x1b_app\x1b\\\x1b^pm\x1b\\", "x", "x"],
    ["no bell, backspace or lone escape", "a\x07\x08b\x1b", "ab", "ab"],
    ["no C1 controls", "a\x9b2Jb\x84", "a2Jb", "a2Jb"],
    ["character sets stay as they are", "\x1b(0lqk\x1b(B", "lqk", "lqk"],
  ] as const
) {
  Deno.test(`a stranger's text: ${what}`, () => {
    assertEquals([stripControl(text, false), stripControl(text, true)], [bare, coloured]);
  });
}

Deno.test("a stranger's colour ends with its line", () => {
  assertEquals(stripControl("\x1b[31mred\nplain\n", true), "\x1b[31mred\x1b[0m\nplain\x1b[0m\n");
});

Deno.test("taming takes linear time, whatever the text", () => {
  const startedAt = performance.now();
  for (const piece of ["\x1b[", "\x1b]0;", "\x1bP", "\x1b[1;", "\x1b", "\x1b]8;;\x1b[31m"]) {
    stripControl(piece.repeat(300_000), true);
  }
  assertLess(performance.now() - startedAt, 20_000);
});

Deno.test("a prefix comes before each line, and the bytes of the lines stay as they are", () => {
  const lines = Uint8Array.of(255, 10, 10, 65, 13, 10);
  assertEquals(binary(prefixLines(encoder.encode("> "), lines)), "> \xff\n> \n> A\r\n");
});

Deno.test("blocks of every shape get their prefixes, one after the other", () => {
  const random = seeded(7);
  const shapes = [
    "\n".repeat(65_536),
    "a\n".repeat(40_000),
    `${"b".repeat(14)}\n${"c".repeat(15)}\n${"d".repeat(16)}\n`.repeat(1_000),
    `${"e".repeat(262_143)}\n`,
    `${"f".repeat(300_000)}\n`,
    ...Array.from({ length: 200 }, () => {
      const longest = Math.ceil(2 ** (random() * 12));
      let text = "";
      while (text.length < 2_000 + 20_000 * random()) {
        text += `${String.fromCharCode(97 + random() * 26).repeat(random() * longest)}\n`;
      }
      return text;
    }),
  ];
  for (const [index, text] of shapes.entries()) {
    const prefix = ["", "> ", "[ db] ", "p".repeat(60), "q".repeat(1_100)][index % 5];
    const expected = prefix + text.slice(0, -1).replaceAll("\n", `\n${prefix}`) + "\n";
    const result = decoder.decode(prefixLines(encoder.encode(prefix), encoder.encode(text)));
    assert(result === expected, `block ${index} of ${text.length} bytes behind ${prefix.length}`);
  }
});

Deno.test("where machine code can't be made, blocks get their prefixes all the same", async () => {
  const code = `import { prefixLines } from ${JSON.stringify(import.meta.resolve("./terminal/prefix.ts"))};
    const lines = new TextEncoder().encode("0123456789\\n".repeat(5_000));
    console.log("WebAssembly" in globalThis, prefixLines(new Uint8Array(3), lines).length);`;
  const args = ["eval", "--no-check", "--v8-flags=--jitless", code];
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), { args }).output();
  assertEquals(decoder.decode(stdout), "false 70000\n", decoder.decode(stderr));
});

/** A row with this state. */
function rowOf(state: ServiceState, fields: Partial<ServiceSnapshot> = {}): ServiceSnapshot {
  return {
    name: "db",
    title: "Database",
    kind: "service",
    port: null,
    maxRetries: 5,
    state,
    recent: [],
    ...fields,
  };
}

for (
  const [state, words] of [
    [{ ...PAST, kind: "pending", waitingFor: ["db", "cache"] }, "waits for db, cache"],
    [STATES.pending, ""],
    [{ ...STATES.restarting, attempt: 3, retryAt: 14_000 }, "in 4 s, try 3 of 5"],
    [{ ...STATES.restarting, attempt: 0, retryAt: 11_000 }, "in 1 s"],
    [{ ...STATES.stopping, killAt: 12_400 }, "SIGKILL in 3 s"],
    [{ ...STATES.stopping, killAt: Infinity }, "SIGKILL sent"],
    [STATES.failed, "ill"],
    [{ ...STATES.running, restarts: 2 }, "restarted 2x"],
  ] as const satisfies readonly (readonly [ServiceState, string])[]
) {
  Deno.test(`what is said of a service that is ${state.kind}: ${words || "nothing"}`, () => {
    assertEquals(describeState(rowOf(state), 10_000), words);
  });
}

const CRASHED: ServiceState = {
  ...STATES.crashed,
  ranMs: 125_000,
  reason: "killed by SIGKILL, perhaps out of memory",
};

Deno.test("a crash card says which service, how it ended, how long it ran, and its last 20 lines", () => {
  const lines = Array.from({ length: 50 }, (_, index) => `line ${index}`);
  const [head, before, ...shown] = crashCard(rowOf(CRASHED), lines, false);
  assertEquals(
    head,
    "✖ Database [db] killed by SIGKILL, perhaps out of memory, after running for 2 min 5 s.",
  );
  assertEquals(before, "Its last 20 lines:");
  assertEquals(shown, lines.slice(-20).map((line) => `  │ ${line}`));
  assertEquals(crashCard(rowOf(CRASHED), [], false), [head]);
  assertEquals(crashCard(rowOf(CRASHED), ["one"], false).slice(1), ["Its last line:", "  │ one"]);
});

Deno.test("a crash card keeps a traceback whole, with the ones that led to it", () => {
  const frames = (count: number) =>
    Array.from({ length: count }, (_, index) => [`  File "x.py", line ${index}, in f`, "    f()"]).flat();
  const traceback = [
    "Traceback (most recent call last):",
    ...frames(15),
    "KeyError: 'users'",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "Traceback (most recent call last):",
    ...frames(12),
    "app.db.Error: no such table: users",
  ];
  const shown = crashCard(rowOf(CRASHED), ["started", "working", ...traceback], false).slice(2);
  assertEquals(shown.map((line) => line.slice(4)), traceback);
});

Deno.test("a crash card does not go back to a traceback that was over before its last lines", () => {
  const lines = ["Traceback (most recent call last):", '  File "x.py"', "ValueError: 1"];
  lines.push(...Array.from({ length: 25 }, (_, index) => `2026-01-01 12:00:00 - INFO - ${index}`));
  assertEquals(crashCard(rowOf(CRASHED), lines, false).length, 22);
});

Deno.test("a crash card holds no control codes of the service", () => {
  const [, , line] = crashCard(rowOf(CRASHED), ["\x1b[2J\x1b[31mboom\x07"], false);
  assertEquals(line, "  │ boom");
  assert(
    crashCard(rowOf(CRASHED), ["\x1b[2J\x1b[31mboom\x07"], true).every((text) => !text.includes("\x1b[2J")),
  );
});

// ------------------------------------------------------------------------------------------------------------------
// 8. Output

/** A sink that takes what it is allowed to take. */
class Sink {
  taken = "";
  writes = 0;
  #allowed = Promise.withResolvers<void>();

  constructor(readonly most = Infinity, blocked = false) {
    if (!blocked) this.#allowed.resolve();
  }

  async write(bytes: Uint8Array): Promise<number> {
    await this.#allowed.promise;
    this.writes++;
    const part = bytes.subarray(0, this.most);
    this.taken += decoder.decode(part);
    return part.length;
  }

  unblock(): void {
    this.#allowed.resolve();
  }
}

Deno.test("what is written goes out in order and whole, also where a sink takes little at a time", async () => {
  const sink = new Sink(3);
  const outlet = new Outlet(sink);
  for (const text of ["one\n", "", "two\n", "three\n"]) outlet.write(encoder.encode(text));
  await outlet.flush();
  assertEquals(sink.taken, "one\ntwo\nthree\n");
});

Deno.test("what is written in one turn goes out together", async () => {
  const sink = new Sink();
  const outlet = new Outlet(sink);
  for (let index = 0; index < 100; index++) outlet.write(encoder.encode(`${index}\n`));
  await outlet.flush();
  assertEquals([sink.writes, sink.taken.split("\n").length], [1, 101]);
});

Deno.test("a sink that takes nothing makes pipes wait, until it takes again", async () => {
  const sink = new Sink(Infinity, true);
  const outlet = new Outlet(sink);
  assertEquals(outlet.backpressure(), null);
  for (let times = 0; times < 40; times++) outlet.write(new Uint8Array(65_536));
  const room = outlet.backpressure();
  assert(room !== null);
  await outlet.flush(50); // gives up
  assert(outlet.backpressure() !== null);
  sink.unblock();
  await room;
  await outlet.flush();
  assertEquals([outlet.backpressure(), sink.taken.length], [null, 40 * 65_536]);
});

Deno.test("bytes are the sink's until it has taken them, and the caller's as soon as they are queued", async () => {
  const turn = () => new Promise((resolve) => setTimeout(resolve, 0));
  const taken: string[] = [];
  const outlet = new Outlet({
    async write(bytes) {
      await turn();
      const part = bytes.subarray(0, 300_000);
      taken.push(decoder.decode(part));
      return part.length;
    },
  });
  const mine = new Uint8Array(100_000);
  let expected = "";
  for (let index = 0; index < 60; index++) {
    mine.fill(65 + index % 26);
    expected += decoder.decode(mine);
    outlet.write(mine);
    if (index % 7 === 0) await turn();
  }
  await outlet.flush();
  assert(taken.join("") === expected);
});

Deno.test("a sink that fails is no fault: what nobody reads is dropped", async () => {
  const outlet = new Outlet({ write: () => Promise.reject(new Deno.errors.BrokenPipe("gone")) });
  for (let times = 0; times < 40; times++) outlet.write(new Uint8Array(65_536));
  await outlet.flush();
  assertEquals(outlet.backpressure(), null);
  outlet.write(new Uint8Array(10));
  await outlet.flush();
});

Deno.test("the stream has one line per line, behind aliases of one width, and keeps bytes as they are", async () => {
  const taken: number[] = [];
  const outlet = new Outlet({ write: (bytes) => Promise.resolve(taken.push(...bytes) && bytes.length) });
  const names = [{ name: "db" }, { name: "web" }];
  const view = new LineView(outlet, () => names, { terminal: false, colors: false });
  const output = (service: string, lines: Uint8Array) =>
    view.event({ kind: "output", time: 0, service, stream: "out", lines });
  output("db", Uint8Array.of(0xff, 27, 91, 50, 74, 10));
  output("web", encoder.encode("a\n\nb\n"));
  view.event({ kind: "log", time: 0, level: "info", message: "all is well" });
  view.event({ kind: "log", time: 0, level: "debug", message: "unseen" });
  await view.close();
  assertEquals(
    binary(Uint8Array.from(taken)),
    "[ db] \xff\x1b[2J\n[web] a\n[web] \n[web] b\n[orchestrator] all is well\n",
  );
});

Deno.test("on a terminal the stream holds no control codes of a service, colours apart", async () => {
  const sink = new Sink();
  const view = new LineView(new Outlet(sink), () => [{ name: "db" }], { terminal: true, colors: false });
  const lines = encoder.encode("\x1b[2J\x1b[31mx\x07\n");
  view.event({ kind: "output", time: 0, service: "db", stream: "out", lines });
  await view.close();
  assertEquals(sink.taken, "[db] x\n");
});

// ------------------------------------------------------------------------------------------------------------------
// 10. Orchestrator

/** Three services like Nord City's that take a moment to start and to stop. */
async function nordCity(): Promise<{ folder: Folder; ports: number[] }> {
  const ports = [freePort(), freePort()];
  const folder = await Folder.make({
    services: [
      { name: "db", title: "Database", command: script("serves.py", ports[0]), port: ports[0] },
      { name: "web", command: script("serves.py", ports[1]), port: ports[1], dependencies: ["db"] },
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
    const told = run.out.lines.filter((line) => /stopping|has stopped/.test(line));
    assertEquals(told.slice(0, 2), ["[orchestrator] stopping bot", "[orchestrator] stopping web"]);
    assertMatch(told.at(-1)!, /db has stopped after/);
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
  assertStringIncludes(run.out.text, "[orchestrator] web is not started");
});

Deno.test("it says who it waits for, and a second Ctrl+C kills at once", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: script("stubborn.sh"), timeout_stop: 600 }],
  });
  await using run = new Run(folder);
  await run.line("ready");
  run.signal("SIGINT");
  assertMatch(await run.line("waiting for"), /^\[orchestrator\] waiting for a \(SIGKILL in \d+ s\)$/);
  assertEquals(await run.stop("SIGINT"), 0);
});

Deno.test("a terminal that hangs up may say so twice: services still get their time", async () => {
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

Deno.test("one that takes no notice is killed after its time, and the stop is a success", async () => {
  await using folder = await Folder.make({
    services: [{ name: "a", command: script("stubborn.sh"), timeout_stop: "500ms" }],
  });
  await using run = new Run(folder);
  await run.line("ready");
  assertEquals(await run.stop(), 0);
  assertStringIncludes(run.out.text, "[a] no thanks");
});

Deno.test("a crash while running: CRASHED is told, the others are stopped, the card comes last, status 1", async () => {
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
    lines[head],
    /✖ Database Service \[db\] exited with status 1, after running for [\d.]+ (ms|s)\.$/,
  );
  const at = (text: string) => lines.findIndex((line) => line.includes(text));
  assert(at("db exited with status 1") < at("stopping web") && at("web has stopped") < head, run.out.text);
  const card = lines.slice(head + 2).map((line) => line.replace(/^\[orchestrator\] {3}│ /, ""));
  assertEquals(card[0], "Traceback (most recent call last):");
  assertEquals([card.at(-1), card.length > 40], ["ValueError: no such table: users", true]);
});

Deno.test("a crash while starting: its last lines, its status, the others stopped in order, status 1", async () => {
  const ports = [freePort(), freePort()];
  await using folder = await Folder.make({
    services: [
      { name: "db", command: script("serves.py", ports[0]), port: ports[0] },
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
  assert(head > lines.findIndex((line) => line.includes("db has stopped")), run.out.text);
  const numbers = Array.from({ length: 19 }, (_, index) => `line ${index + 12}`);
  assertEquals(lines.slice(head + 2).map((line) => line.replace(/^.*│ /, "")), [...numbers, "last words"]);
  assert(!run.out.text.includes("[late]"));
  assertStringIncludes(run.out.text, "[ web] last words\n");
});

Deno.test("a failed start is said as such", async () => {
  await using folder = await Folder.make({
    services: [{ name: "db", command: IDLE, port: freePort(), timeout_start: "300ms" }],
  });
  const { code, out } = await runToEnd(folder, []);
  assertEquals(code, 1);
  assertMatch(out.trimEnd().split("\n").at(-1)!, /✖ db \[db\] was not ready within 300 ms/);
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
  assertStringIncludes(out, `[orchestrator] There is no ${folder.path}/.env`);
  assertStringIncludes(out, "[a] hello\n");
});

Deno.test("services get what .env says and where Python looks", async () => {
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
  // What an environment seems to say of groups is none of the guard's business.
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
  Deno.kill(first.pid, "SIGKILL");
  await waitUntil(() => guards().some(({ pid }) => pid !== first.pid), "there is another");
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

Deno.test("no secret of .env is ever told by the orchestrator itself", async () => {
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

Deno.test("as a library: what the user can mend is thrown before anything starts", async () => {
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
  assertMatch(texts.at(-1) ?? "", /^✖ a \[a\] exited with status 3/);
  assertEquals(status, 1);
});

Deno.test("as a library: a stop before the run makes it end at once", async () => {
  await using folder = await Folder.make();
  const services = defineServices({ a: UP });
  const orchestrator = new Orchestrator([], { infrastructure: folder.path, services, dashboard: "none" });
  await orchestrator.stop();
  assertEquals(await orchestrator.run(), 0);
});

// ------------------------------------------------------------------------------------------------------------------
// 11. Commands

for (
  const [line, expected] of [
    ["", { kind: "run", names: [] }],
    ["--services=db,web", { kind: "run", names: ["db", "web"] }],
    ["--services db,web", { kind: "run", names: ["db", "web"] }],
    ["-s db", { kind: "run", names: ["db"] }],
    ["-s=db,db", { kind: "run", names: ["db"] }],
    ["--service web", { kind: "foreground", name: "web" }],
    ["--service=web", { kind: "foreground", name: "web" }],
    ["--list", { kind: "list", json: false }],
    ["-l --json", { kind: "list", json: true }],
    ["--help --list", { kind: "help" }],
    ["-h", { kind: "help" }],
    ["-V", { kind: "version" }],
    ["--version", { kind: "version" }],
  ] as const
) {
  Deno.test(`the arguments "${line}" mean ${JSON.stringify(expected)}`, () => {
    const command = parseCommand(line.split(" ").filter(Boolean));
    const { options: _, ...rest } = "options" in command ? command : { ...command, options: undefined };
    assertEquals<unknown>(rest, expected);
  });
}

Deno.test("options name the files and folders of a run", () => {
  const command = parseCommand("--env-file a/.env --infrastructure b --config c --no-dashboard".split(" "));
  assert(command.kind === "run");
  const { envFile, infrastructure, config, dashboard } = command.options;
  assertEquals([envFile, infrastructure, config, dashboard], ["a/.env", "b", "c", false]);
});

for (
  const [line, ...said] of [
    ["--sevices db", "no option --sevices", "did you mean --services?", "--env-file"],
    ["-x", "no option -x", "--services"],
    ["lsit", `no command "lsit"`, "check"],
    ["--services", "--services needs a value", "--services db,web"],
    ["--services=", "--services needs a value"],
    ["--services db,,web", "empty name"],
    ["--services db --services web", "--services is given more than once"],
    ["--service a --services b", "give one of them"],
    ["--json", "--json goes with --list"],
    ["--list db", `"db" is one word too many`],
    ["--services db web", `"web" is one word too many`],
  ]
) {
  Deno.test(`the arguments "${line}" are refused with a way out`, () => {
    const { message } = assertThrows(() => parseCommand(line.split(" ")), UserError);
    for (const part of said) assertStringIncludes(message, part);
    assertEquals(message.split("\n").length, 1);
  });
}

Deno.test("the help shows every option, the real aliases and examples with them", () => {
  const text = helpText(SERVICES);
  for (
    const part of [
      ..."--services,--service,--list,--json,--env-file,--infrastructure,--config,--no-dashboard".split(","),
      ...["-s,", "-l,", "-h,", "-V,", "db, web, bot", "--services db,web", "--service bot", "exit status"],
    ]
  ) assertStringIncludes(text, part);
});

for (
  const [what, args, environment, said] of [
    ["an unknown option", ["--sevices=db"], {}, "did you mean --services?"],
    ["an unknown alias", ["--services", "wbe"], {}, `did you mean "web"?`],
    ["an unknown alias in the foreground", ["--service", "wbe"], {}, `did you mean "web"?`],
    ["an unknown folder", ["--infrastructure", "/no/such"], {}, "/no/such"],
    ["a bad port", [], { WEB_SERVICE_PORT: "s3cret" }, "WEB_SERVICE_PORT"],
    ["a missing env file", ["--env-file", "/no/such/.env"], {}, "/no/such/.env"],
    ["an env file that is a folder", ["--env-file", "/"], {}, "/"],
    ["a missing services file", ["--config", "/no/such.yaml"], {}, "/no/such.yaml"],
    ["no services file to read", ["--config", "/"], {}, "/"],
  ] as const
) {
  Deno.test(`${what} is a sentence on stderr and status 2, before anything starts`, async () => {
    await using folder = await Folder.make();
    const whole = (args as readonly string[]).includes("--infrastructure")
      ? args
      : [...args, "--infrastructure", folder.path];
    const { code, out, err } = await runToEnd(null, whole, { environment });
    assertEquals([code, out], [2, ""], err);
    assertStringIncludes(err, said);
    assertMatch(err, /^orchestrator: [^\n]+\n$/);
    assert(!err.includes("s3cret") && !/\bat .*:\d+:\d+/.test(err), err);
  });
}

Deno.test("a required variable that is missing is told before anything starts, status 2", async () => {
  await using folder = await Folder.make({
    services: [
      { name: "db", command: "touch started" },
      { name: "web", command: IDLE, env_required: ["TOKEN", "KEY"] },
    ],
  });
  const { code, out, err } = await runToEnd(folder, []);
  assertEquals([code, out, await folder.read("started")], [2, "", ""]);
  for (const part of [`"web"`, "TOKEN, KEY", `${folder.path}/.env`]) assertStringIncludes(err, part);
});

Deno.test("--services starts what is named and what it needs, and says so", async () => {
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
  assertStringIncludes(run.out.text, "[orchestrator] db is added: bot depends on it\n");
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
    json.map(({ alias, port, dependencies }: Record<string, unknown>) => [alias, port, dependencies]),
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

Deno.test("a start with a mistake in the services file tells it once and leaves nothing", async () => {
  await using folder = await Folder.make({ services: [{ name: "a" }] });
  const { code, out, err } = await runToEnd(folder, []);
  assertEquals([code, out, err.match(/command: missing/g)?.length], [2, "", 1]);
  await assertRejects(() => Deno.stat(`${folder.path}/.orchestrator`), Deno.errors.NotFound);
});

Deno.test("--help and --version are told also where nothing can be read", async () => {
  const args = ["--infrastructure", "/no/such"];
  const help = await runToEnd(null, ["--help", ...args]);
  assertEquals([help.code, help.err], [0, ""]);
  assertStringIncludes(help.out, "db, web, bot");
  assertEquals((await runToEnd(null, ["-V", ...args])).out, `orchestrator ${VERSION}\n`);
});

Deno.test("the help shows the aliases of the folder's own services", async () => {
  await using folder = await Folder.make({ services: [{ name: "shop", command: "true" }] });
  const { out } = await runToEnd(folder, ["--help"]);
  assertStringIncludes(out, "services: shop");
  assertStringIncludes(out, "--service shop");
});
