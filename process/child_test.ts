// @ts-types="../config/std.d.ts"
import { assertEquals, assertRejects } from "@std/assert";
import { systemClock } from "../config/clock.ts";
import { UserError } from "../config/errors.ts";
import type { Exit } from "./child.ts";
import { startChild } from "./child.ts";
import { Folder } from "../testing/run.ts";
import { WELL } from "../testing/services.ts";
import { binary } from "../testing/sink.ts";

/** Runs a shell text as a child and gives its lines and its end. */
async function childOf(
  command: string,
  environment: Record<string, string> = {},
  room: () => Promise<void> | null = () => null,
) {
  const events: string[] = [];
  const ended = Promise.withResolvers<{ exit: Exit; groupAlive: boolean }>();
  const emptied = Promise.withResolvers<void>();
  const { pid } = startChild({
    program: "/bin/sh",
    args: ["-c", command],
    cwd: "/",
    environment: { PATH: Deno.env.get("PATH")!, ...environment },
    port: null,
  }, {
    lines: (stream, lines) => events.push(`${stream}: ${binary(lines)}`),
    backpressure: room,
    exited(exit, groupAlive) {
      events.push("exited");
      ended.resolve({ exit, groupAlive });
      if (!groupAlive) emptied.resolve();
    },
    groupEmpty: () => emptied.resolve(),
  }, systemClock);
  const { exit, groupAlive } = await ended.promise;
  if (groupAlive) Deno.kill(-pid, "SIGKILL");
  await emptied.promise;
  return { pid, exit, groupAlive, events };
}

Deno.test("a child leads its own session and group", async () => {
  const { pid, events } = await childOf("ps -o sid=,pgid= -p $$");
  assertEquals(events[0]!.trim().split(/[\s:]+/).slice(1).map(Number), [pid, pid]);
});

Deno.test("a child gets the environment it is given and nothing else, and no input", async () => {
  const { events } = await childOf("env | sort | grep -v ^PWD=; cat", { MINE: "1" });
  assertEquals(events.slice(0, -1).join("").replaceAll("out: ", "").split("\n").filter(Boolean), [
    "MINE=1",
    `PATH=${Deno.env.get("PATH")}`,
  ]);
});

Deno.test("a child ignores no signals that it did not ask to ignore", async () => {
  const { events } = await childOf("grep SigIgn /proc/self/status");
  const ignored = (status: string) => BigInt(`0x${/SigIgn:\s*([0-9a-f]+)/.exec(status)![1]}`);
  // Who runs the tests may ignore some (a shell's background job does); the runtime's own SIGPIPE is not handed on.
  const SIGPIPE = 1n << 12n;
  const inherited = ignored(Deno.readTextFileSync("/proc/self/status")) & ~SIGPIPE;
  assertEquals(ignored(events[0]!), inherited);
});

for (
  const [what, command, exit, events] of [
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
  Deno.test(`a child's ${what} are read before its end`, async () => {
    const child = await childOf(command);
    assertEquals(child.exit, exit);
    assertEquals(child.events.join("").replaceAll("out: ", ""), events.join("").replaceAll("out: ", ""));
    assertEquals(child.events.at(-1), "exited");
  });
}

Deno.test("a megabyte that was written just before the end is read before the end", async () => {
  const { events } = await childOf("head -c 1000000 /dev/zero | tr '\\0' x; kill -KILL $$");
  assertEquals(events.at(-1), "exited");
  assertEquals(events.slice(0, -1).join("").replaceAll("out: ", "").length, 1_000_001);
});

Deno.test("an end is noticed although a grandchild holds the pipes open, and that its group is alive", async () => {
  const { exit, groupAlive, events } = await childOf("sleep 1000 & printf 'bye'");
  assertEquals([exit, groupAlive], [WELL, true]);
  assertEquals(events, ["out: bye\n", "exited"]);
});

Deno.test("what is in the pipes at the end is read before it although there is no room for it", async () => {
  const never = new Promise<void>(() => {});
  const command = "head -c 60000 /dev/zero | tr '\\0' x; echo >&2 last words; exit 3";
  const { exit, events } = await childOf(command, {}, () => never);
  assertEquals([exit, events.at(-1)], [{ kind: "exited", code: 3 }, "exited"]);
  const length = events.filter((text) => text.startsWith("out: ")).join("").replaceAll("out: ", "").length;
  assertEquals([length, events.includes("err: last words\n")], [60_001, true]);
});

Deno.test("an end is noticed although a grandchild floods the pipes", async () => {
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
  const huge = { HUGE: "s3cret".repeat(50_000) };
  const failure = await assertRejects(() => childOf("true", huge), UserError);
  assertEquals(
    failure.message,
    "Cannot start /bin/sh: the variable HUGE is longer than the 128 KiB that the system takes.",
  );
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`V${n}`, "x".repeat(100_000)]));
  const failureOfMany = await assertRejects(() => childOf("true", many), UserError);
  assertEquals(
    failureOfMany.message,
    "Cannot start /bin/sh: its environment and arguments are too long for the system.",
  );
});
