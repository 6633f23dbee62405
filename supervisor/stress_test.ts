/**
 * The heavy tests of the orchestrator: floods, crowds and random sequences with real processes. In a file of their
 * own, so that `deno test --parallel` runs them beside the others.
 */
// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertLess } from "@std/assert";
import type { Desired } from "./lifecycle.ts";
import { findHome } from "../config/settings.ts";
import { isAtRest } from "./model.ts";
import { Supervisor } from "./supervisor.ts";
import { defineServices } from "../config/definition.ts";
import type { Definition, Health } from "../config/definition.ts";
import { Folder, isAlive, type Marked, processesWith, Run, TESTDATA, waitUntil } from "../testing/run.ts";

/** How long random sequences go on, in seconds. */
const RANDOM_SECONDS = Number(Deno.env.get("ORCHESTRATOR_RANDOM_SECONDS") ?? 30);
/** With the same seed the same is asked for; when it is asked for depends on the machine. */
const SEED = Number(Deno.env.get("ORCHESTRATOR_RANDOM_SEED") ?? Math.floor(Math.random() * 1e9));

/** A generator of numbers from 0 to 1 that gives the same ones for the same seed. */
function seeded(seed: number): () => number {
  let state = BigInt(seed) + 1n;
  return () => {
    state = (state * 48_271n) % 2_147_483_647n;
    return Number(state) / 2_147_483_647;
  };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The orchestrator that a shell of the test has started. */
function orchestratorOf(run: Run): number | null {
  const found = run.processes().find(({ command }) =>
    / --infrastructure /.test(command) && !command.startsWith("/bin/sh")
  );
  return found?.pid ?? null;
}

/** The most memory that a process has had so far, in MB. */
function peakMemory(pid: number): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync(`/proc/${pid}/status`))![1]) / 1024;
}

const python = (script: string, ...args: (string | number)[]) =>
  ["exec /usr/bin/env python3", `${TESTDATA}/${script}`, ...args].join(" ");

Deno.test("1,000,000 lines of four children come into a file without one lost, torn or out of order", async () => {
  const COUNT = 250_000;
  const names = ["a", "bb", "ccc", "dddd"];
  await using folder = await Folder.make({
    services: names.map((name) => ({ name, command: python("floods.py", COUNT, name) })),
  });
  await using run = new Run(folder, [], { shell: 'exec "$@" >out' });
  assertEquals(await run.code(), 0);
  const next = new Map(names.map((name) => [name, 0]));
  const file = await Deno.open(`${folder.path}/out`);
  let rest = "";
  for await (const chunk of file.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    for (const line of lines) {
      const name = line.slice(1, line.indexOf("]")).trim();
      const number = next.get(name);
      if (number === undefined) {
        assert(line.startsWith("[orchestrator] "), line);
        continue;
      }
      const expected = `[${name.padStart(4)}] ${
        `${name} ${String(number).padStart(9, "0")} `.padEnd(99, "x")
      }`;
      if (line !== expected) assertEquals(line, expected);
      next.set(name, number + 1);
    }
  }
  assertEquals([...next.values(), rest], [COUNT, COUNT, COUNT, COUNT, ""]);
});

Deno.test("a service that prints 1 GB loses no line, takes no memory and holds up no reaction", async () => {
  const line = "x".repeat(99);
  await using folder = await Folder.make({
    services: [
      { name: "a", command: `yes ${line} | head -c 1000000000` },
      { name: "b", command: "until [ -e end ]; do sleep 0.05; done; exit 0" },
      // It ends while the other floods, and is started again: how soon, it logs itself.
      { name: "c", command: "date +%s%N >>times; sleep 1", restart_policy: "always", retry_delay: 0 },
    ],
  });
  const count = `awk 'length($0) == 103 && substr($0, 1, 5) == "[a] x" { n++ } END { print n }'`;
  await using run = new Run(folder, [], { shell: `"$@" | ${count}` });
  const pid = await waitUntil(() => orchestratorOf(run), "it is there");
  const floods = () => run.processes().some(({ command }) => command.includes(line));
  await waitUntil(floods, "it floods");
  await waitUntil(() => !floods(), "all is printed", 300_000);
  const times = (await folder.read("times")).trim().split("\n").map((time) => Number(time) / 1e6);
  const megabytes = peakMemory(pid);
  Deno.kill(pid, "SIGTERM");
  assertEquals([await run.code(), run.out.text], [0, "10000000\n"]);
  assertLess(megabytes, 300);
  const pauses = times.slice(1).map((time, index) => time - times[index]! - 1_000).sort((a, b) => a - b);
  // Half of the restarts may take longer: the machine is shared with the flood itself.
  if (pauses.length > 0) assertLess(pauses[Math.floor(pauses.length / 2)], 1_000);
});

Deno.test("a line that never ends takes a bounded part of memory", async () => {
  await using folder = await Folder.make({
    services: [{
      name: "a",
      command: "head -c 400000000 /dev/zero | tr '\\0' x; touch done; exec sleep 1000",
    }],
  });
  await using run = new Run(folder, [], { shell: '"$@" | tr -dc x | wc -c' });
  await waitUntil(
    () => Deno.stat(`${folder.path}/done`).then(() => true, () => false),
    "all is printed",
    300_000,
  );
  const pid = orchestratorOf(run)!;
  const megabytes = peakMemory(pid);
  Deno.kill(pid, "SIGTERM");
  assertEquals(await run.code(), 0);
  assertEquals(Number(run.out.text) >= 400_000_000, true);
  assertLess(megabytes, 600);
});

Deno.test("200 services start and stop with one command", async () => {
  const services = Array.from({ length: 200 }, (_, index) => ({
    name: `s${index}`,
    command: "echo up; exec sleep 1000",
    health: { log: "up" },
    dependencies: index % 10 === 0 ? [] : [`s${index - 1}`],
  }));
  await using folder = await Folder.make({ services });
  await using run = new Run(folder);
  await run.line(/\[orchestrator\] s\d+ is running/, 200);
  assertEquals(run.processes().filter(({ command }) => command === "sleep 1000").length, 200);
  assertEquals(await run.stop(), 0);
  const stopped = run.out.lines.flatMap((line) => /\] (s\d+) stopped \(/.exec(line)?.[1] ?? []);
  assertEquals(stopped.length, 200);
  for (let index = 1; index < 200; index++) {
    if (index % 10 === 0) continue;
    assertLess(stopped.indexOf(`s${index}`), stopped.indexOf(`s${index - 1}`), "reverse order");
  }
});

/** What a random service may be. */
const READY: Health = {
  probe: { kind: "log", pattern: "" },
  intervalMs: 10_000,
  timeoutMs: 2_000,
  retries: 3,
};
const HABITS: readonly ((random: () => number) => Definition)[] = [
  () => ({ command: "echo up; exec sleep 1000", health: READY }),
  () => ({ command: "exec sleep 1000" }),
  (random) => ({
    command: `echo up; sleep ${random().toFixed(2)}; exit ${Math.floor(random() * 2)}`,
    health: READY,
  }),
  (random) => ({ command: `exit ${Math.floor(random() * 2)}` }),
  () => ({ command: `exec /bin/sh ${TESTDATA}/stubborn.sh`, health: READY }),
  () => ({ command: `exec /bin/sh ${TESTDATA}/has_grandchild.sh`, health: READY }),
  () => ({ command: `exec /bin/sh ${TESTDATA}/forks_and_exits.sh` }),
  () => ({ command: `exec /bin/sh ${TESTDATA}/closes_stdout.sh /dev/null`, health: READY }),
  () => ({ command: ["no-such-program"] }),
  (random) => ({ command: `sleep ${(random() / 2).toFixed(2)}`, kind: "task" }),
  () => ({ command: "yes flood", health: READY }),
];

/** The groups of the processes of a run, and what the table shows that does not fit them. */
function misfits(supervisor: Supervisor): string[] {
  const running = new Map<number, Marked[]>();
  for (const marked of processesWith(`ORCHESTRATOR_RUN=${supervisor.run}`)) {
    let stat: string;
    try {
      stat = Deno.readTextFileSync(`/proc/${marked.pid}/stat`);
    } catch {
      continue; // it ended while we looked
    }
    const group = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[2]);
    running.set(group, [...running.get(group) ?? [], marked]);
  }
  const shown = new Map<number, string>();
  for (const { name, state } of supervisor.snapshot().services) {
    if ("pid" in state && state.pid !== null) shown.set(state.pid, `${name} ${state.kind}`);
  }
  return [
    ...[...running].filter(([group]) => !shown.has(group)).map(([, found]) =>
      `not shown: ${JSON.stringify(found)}`
    ),
    ...[...shown].filter(([pid]) => !running.has(pid)).map(([pid, text]) => `does not run: ${text} ${pid}`),
  ];
}

Deno.test(`random sequences with real children: what runs is what is shown (${RANDOM_SECONDS} s)`, async () => {
  const random = seeded(SEED);
  const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!;
  const endAt = performance.now() + RANDOM_SECONDS * 1_000;
  await using folder = await Folder.make();
  const home = findHome({ infrastructure: folder.path });
  let supervisor: Supervisor | null = null;
  try {
    for (let round = 0; performance.now() < endAt; round++) {
      const count = 2 + Math.floor(random() * 8);
      const names = Array.from({ length: count }, (_, index) => `s${index}`);
      const services = defineServices(Object.fromEntries(names.map((name, index) => [name, {
        restartPolicy: pick(["never", "on-failure", "always"]),
        maxRetries: pick([0, 2, 100]),
        retryDelayMs: pick([0, 50, 1_000]),
        timeoutStartMs: pick([200, 5_000]),
        timeoutStopMs: pick([100, 500]),
        stopSignal: pick(["SIGTERM", "SIGINT", "SIGKILL"]),
        critical: random() < 0.1,
        restartWithDependencies: random() < 0.3,
        ...pick(HABITS)(random),
        dependencies: names.slice(0, index).filter(() => random() < 0.2),
      }])));
      supervisor = new Supervisor(services, home);
      const { finished } = supervisor;
      let over = false;
      finished.then(() => over = true);
      supervisor.start();
      for (let times = Math.floor(random() * 40); times > 0 && !supervisor.stopping; times--) {
        await sleep(random() * 100);
        if (supervisor.stopping) break;
        const rows = supervisor.snapshot().services;
        const luck = random();
        if (luck < 0.6) {
          supervisor.setDesired([pick(names)], pick<Desired>(["running", "stopped", "restarted"]));
        } else if (luck < 0.9) {
          const { state } = pick(rows);
          if ("pid" in state && state.pid !== null && isAlive(state.pid)) {
            Deno.kill(state.pid, pick(["SIGKILL", "SIGTERM", "SIGSEGV"]));
          }
        } else {
          const present = supervisor;
          await waitUntil(() => over || misfits(present).length === 0, "what runs is what is shown", 20_000);
        }
      }
      if (random() < 0.8) supervisor.close();
      if (random() < 0.4) {
        await sleep(random() * 200);
        supervisor.kill();
      }
      supervisor.close();
      const { remaining } = await finished;
      assertEquals(remaining, []);
      assertEquals(misfits(supervisor), []);
      for (const { name, state } of supervisor.snapshot().services) {
        assert(isAtRest(state), `${name} is ${state.kind}`);
      }
      supervisor = null;
    }
  } catch (error) {
    console.error(
      `seed ${SEED}`,
      supervisor === null ? "" : misfits(supervisor),
      supervisor?.snapshot().services,
    );
    throw error;
  } finally {
    await supervisor?.kill();
  }
});

for (
  const [names, signals] of [
    ["a signal to stop", ["SIGINT", "SIGTERM", "SIGHUP"]],
    ["SIGKILL", ["SIGKILL"]],
  ] as const satisfies readonly (readonly [string, readonly Deno.Signal[]])[]
) {
  Deno.test(`${names} at any moment leaves nothing (12 moments)`, async () => {
    const random = seeded(SEED);
    await using folder = await Folder.make({
      services: [
        { timeout_stop: "500ms", name: "a", command: "echo up; exec sleep 1000", health: { log: "up" } },
        { timeout_stop: "500ms", name: "b", command: `exec /bin/sh ${TESTDATA}/has_grandchild.sh` },
        {
          timeout_stop: "500ms",
          name: "c",
          command: "echo up; exec sleep 1000",
          health: { log: "up" },
          dependencies: ["a"],
        },
        { timeout_stop: "500ms", name: "d", command: "exec sleep 1000", dependencies: ["c"] },
        {
          timeout_stop: "500ms",
          name: "e",
          command: "exit 3",
          restart_policy: "always",
          max_retries: 99,
          retry_delay: "50ms",
        },
      ],
    });
    for (let times = 0; times < 12; times++) {
      await using run = new Run(folder);
      await sleep(random() * 600);
      const signal = signals[Math.floor(random() * signals.length)];
      run.signal(signal!);
      const { code, signal: ended } = await run.exit;
      // Before it listens to signals it has started nothing, and dies of them like any program.
      if (signal !== "SIGKILL") {
        assert(code === 0 || ended === signal, `${code} ${ended} ${run.out.text} seed ${SEED}`);
      }
      await run.allGone(30_000);
    }
  });
}
