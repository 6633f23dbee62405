// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertLess } from "@std/assert";
import type { Service } from "../config/definition.ts";
import type { Exit } from "../process/child.ts";
import type { Desired, Managed, Step } from "./lifecycle.ts";
import {
  backoffMs,
  describeExit,
  INITIAL,
  isFinished,
  nextWake,
  reconcile,
  satisfies,
  step,
} from "./lifecycle.ts";
import type { Effect, ServiceState, Trigger } from "./model.ts";
import { isAtRest } from "./model.ts";
import { define, graph, ILL, PAST, seeded, STATES, WELL } from "../testing/services.ts";

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

/** What follows, as the table has it: the state, for a stopping one what then, and what is done. */
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
  assertEquals(nextWake(young, service, 5), 1_005);
  assertEquals(step(young, wake, 1_004, service, 0).state.kind, "starting");
  const grown = step(young, wake, 1_005, service, 0).state;
  assertEquals([grown.kind, nextWake(grown, service, 1_005)], ["running", 3_005]);
  assertEquals([satisfies(grown, service, 3_004), satisfies(grown, service, 3_005)], [false, true]);
  assertEquals(nextWake(grown, service, 3_005), Infinity);
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
  assert(!satisfies(STATES.stopped, service, 50), "it was stopped before it ran");
});

Deno.test("a restart that was asked for counts as one, with a clean record", () => {
  const service = define();
  const failedBefore = { ...STATES.running, failures: [1, 2], restarts: 2 };
  const stopping = step(failedBefore, { kind: "restart" }, 50, service, 0).state;
  const { failures, restarts } = step(stopping, exited(WELL), 60, service, 0).state;
  assertEquals([failures, restarts], [[], 3]);
});

Deno.test("failures count for as long as the window lasts, and not those before a run as long as that", () => {
  const service = define({ restartPolicy: "on-failure", retryWindowMs: 1_000 });
  const failuresAfter = (since: number, exit: Trigger) =>
    step({ ...STATES.running, since, failures: [500, 1_000] }, exit, 1_500, service, 0).state.failures;
  assertEquals(failuresAfter(1_400, exited(ILL)), [1_000, 1_500]);
  assertEquals(failuresAfter(500, exited(ILL)), [1_000, 1_500]);
  assertEquals(failuresAfter(499, exited(ILL)), [1_500]);
});

Deno.test("how long an unhealthy service ran is counted from its start", () => {
  const service = define({ timeoutStopMs: 10 });
  const stopping = step(
    { ...STATES.running, since: 100 },
    { kind: "unhealthy", reason: "ill" },
    300,
    service,
    0,
  );
  const failed = step(stopping.state, exited(WELL), 350, service, 0).state;
  assert(failed.kind === "failed");
  assertEquals(failed.ranMs, 250);
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
  assertEquals(nextWake(starting, service, 0), 2_000);
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
  assertEquals(nextWake(stopping, service, 0), 4_500);
  assertEquals(step(stopping, wake, 4_499, service, 0).effects, []);
  const { state, effects } = step(stopping, wake, 4_500, service, 0);
  assertEquals([effects, nextWake(state, service, 0)], [[{ kind: "signal", signal: "SIGKILL" }], Infinity]);
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
    assert(Math.abs(least! - 0.9 * full) < 1e-6, `${least} of ${full}`);
    assert(Math.abs(most! - Math.min(1.1 * full, 60_000)) < 1e-6, `${most} of ${full}`);
    assert(least! <= pause! && pause! <= most!);
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

/** Services named as in `graph`, all in one state unless the graph names another. */
function managedOf(
  services: readonly Service[],
  states: Record<string, readonly [State, Desired]>,
): Map<string, Managed> {
  return new Map(services.map((service) => {
    const [named, desired] = states[service.name]!;
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
  /** What will be heard of, and when. */
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
    return choices[Math.floor(this.random() * choices.length)]!;
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
    if (signal !== "SIGKILL" && this.random() < 0.3) return; // it ignores the signal
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
    // It comes after the leader's end, as the owner of a child does it.
    const lastAt = Math.max(
      this.#now,
      ...this.#news.filter((news) => news.name === name).map(({ at }) => at),
    );
    this.#news.push({ at: lastAt + 10, name, trigger: { kind: "groupEmpty" } });
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
    const wakes = [...this.managed.values()].map(({ state, service }) => nextWake(state, service, this.#now))
      .filter((at) => at > this.#now);
    const next = Math.min(...wakes, ...this.#news.map(({ at }) => at));
    if (next === Infinity) return false;
    this.#now = Math.max(this.#now, next);
    const arrived = this.#news.filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    this.#news = this.#news.filter(({ at }) => at > this.#now);
    for (const { name, trigger } of arrived) this.apply(name, trigger);
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
        `PID ${pid} of ${name} runs, but the table has ${state.kind}`,
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
    const choose = <T>(choices: readonly T[]) => choices[Math.floor(random() * choices.length)]!;
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
