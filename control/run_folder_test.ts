// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertThrows } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { isAlive } from "../testing/run.ts";
import { bootId, isSame, ownIdentity, readProcess } from "../process/procfs.ts";
import { RunFolder, socketPath, stopSurvivors, survivors } from "./run_folder.ts";
import type { RunRecord } from "./run_folder.ts";

/** Someone's process that knows nothing of us; `mark` makes it one of a run. */
function stranger(mark?: string): Deno.ChildProcess {
  const env: Record<string, string> = mark === undefined ? {} : { ORCHESTRATOR_RUN: mark };
  return new Deno.Command("sleep", { args: ["1000"], detached: true, env, stdin: "null" }).spawn();
}

async function end(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended.
  }
  await child.status;
}

function identity(pid: number) {
  return { pid, startTicks: readProcess(pid)?.startTicks ?? 0 };
}

function record(more: Partial<RunRecord>): RunRecord {
  return {
    orchestrator: { pid: 999_999_999, startTicks: 1 },
    bootId: bootId(),
    run: crypto.randomUUID(),
    startedAt: "2026-02-09T12:00:00.000Z",
    socket: "",
    logs: null,
    groups: [],
    ...more,
  };
}

Deno.test("a process is the same only with its start time and in the same boot", () => {
  const me = ownIdentity();
  assert(isSame(me, bootId()));
  assert(!isSame({ ...me, startTicks: me.startTicks - 1 }, bootId()));
  assert(!isSame(me, "00000000-0000-0000-0000-000000000000"));
  assert(!isSame({ pid: 999_999_999, startTicks: 1 }, bootId()));
});

Deno.test("what a run left is found by its start time or its mark", async () => {
  const run = crypto.randomUUID();
  const [known, marked, other] = [stranger(), stranger(run), stranger()];
  const left = record({ run, groups: [{ service: "db", ...identity(known.pid) }] });
  assertEquals(survivors(left).map(({ pid }) => pid).sort(), [known.pid, marked.pid].sort());
  const { count, left: stubborn } = await stopSurvivors(left);
  assertEquals([count, stubborn], [2, []]);
  assert(isAlive(other.pid));
  for (const child of [known, marked, other]) await end(child);
});

Deno.test("a stranger that inherited a PID is never touched", async () => {
  const child = stranger();
  const { pid, startTicks } = identity(child.pid);
  const recycled = { service: "db", pid, startTicks: startTicks - 1 };
  const folder = await Deno.makeTempDir();
  const home = new RunFolder(folder);
  home.write(record({ orchestrator: recycled, groups: [recycled] }));
  const messages = await home.clearUp();
  assertEquals(messages.map((message) => message.replace(/PID \d+|\d{4}-[\d:.T-]+Z/g, "X")), [
    "The orchestrator with X, started X, exited unexpectedly (last seen X); it left no processes running.",
  ]);
  assert(isAlive(pid));
  await end(child);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("after a reboot no process is taken for one of the run, whatever its PID and start time", async () => {
  const run = crypto.randomUUID();
  const child = stranger(run);
  const folder = await Deno.makeTempDir();
  const home = new RunFolder(folder);
  const bootId = "11111111-2222-3333-4444-555555555555";
  home.write(record({ run, bootId, groups: [{ service: "db", ...identity(child.pid) }] }));
  assertEquals(await home.clearUp(), [
    "The orchestrator with PID 999999999, started 2026-02-09T12:00:00.000Z, ended when the system was rebooted; " +
    "none of its processes are left.",
  ]);
  assert(isAlive(child.pid));
  assertEquals(home.read(), null);
  await end(child);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what takes no notice of SIGTERM is killed", async () => {
  const run = crypto.randomUUID();
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"],
    env: { ORCHESTRATOR_RUN: run },
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  const { left } = await stopSurvivors(record({ run }), 300);
  assertEquals(left, []);
  assertEquals((await child.status).signal, "SIGKILL");
  await reader.cancel();
});

for (
  const text of [
    "",
    "{",
    "[]",
    "null",
    '{"orchestrator":{"pid":-1,"startTicks":5},"bootId":"x","run":"y","startedAt":"","socket":"","logs":null,"groups":[]}',
    '{"orchestrator":{"pid":1.5,"startTicks":5}}',
    "x".repeat(1_000_000),
  ]
) {
  Deno.test(`the record ${text.slice(0, 60) || "without a text"} counts as none`, async () => {
    const folder = await Deno.makeTempDir();
    await Deno.mkdir(`${folder}/.orchestrator`);
    await Deno.writeTextFile(`${folder}/.orchestrator/run.json`, text);
    assertEquals(new RunFolder(folder).read(), null);
    await Deno.remove(folder, { recursive: true });
  });
}

Deno.test("the lock is one's until it is closed, also when someone only looks", async () => {
  const folder = await Deno.makeTempDir();
  const [one, two] = [new RunFolder(folder), new RunFolder(folder)];
  assert(!one.isLocked());
  const lock = one.lock();
  assert(lock !== null);
  assert(two.isLocked());
  assertEquals(two.lock(), null);
  lock.close();
  assert(!two.isLocked());
  const again = two.lock();
  assert(again !== null);
  assertEquals(((await Deno.stat(`${folder}/.orchestrator`)).mode ?? 0) & 0o777, 0o700);
  again.close();
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a path that is too long for a socket gives way to one in XDG_RUNTIME_DIR", () => {
  const before = Deno.env.get("XDG_RUNTIME_DIR");
  try {
    assertEquals(socketPath("/short"), "/short/.orchestrator/control.sock");
    const long = `/${"long/".repeat(30)}infrastructure`;
    Deno.env.set("XDG_RUNTIME_DIR", "/run/user/1");
    const path = socketPath(long);
    assert(/^\/run\/user\/1\/orchestrator-[0-9a-f]{16}\/control\.sock$/.test(path), path);
    assert(socketPath(`${long}2`) !== path);
    Deno.env.delete("XDG_RUNTIME_DIR");
    assertEquals(
      assertThrows(() => socketPath(long), UserError).message,
      `The path ${long}/.orchestrator/control.sock is too long for a socket; ` +
        "set XDG_RUNTIME_DIR to a folder of your own with a short path.",
    );
  } finally {
    if (before === undefined) Deno.env.delete("XDG_RUNTIME_DIR");
    else Deno.env.set("XDG_RUNTIME_DIR", before);
  }
});
