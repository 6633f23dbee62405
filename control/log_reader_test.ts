// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertThrows } from "@std/assert";
import { UserError } from "../config/errors.ts";
import { TESTDATA, waitUntil } from "../testing/run.ts";
import { merge, readLogs, sourcesIn } from "./log_reader.ts";
import { quick, Site } from "../testing/site.ts";

/** Prints numbered lines, a hundred a second at first, until SIGTERM. */
const COUNTS = "n=0; trap 'exit 0' TERM; while :; do echo line $n; n=$((n+1)); sleep 0.01; done";

function numbers(text: string, name: string): number[] {
  return [...text.matchAll(new RegExp(`\\[ *${name}\\] line ([0-9]+)$`, "gm"))].map(([, number]) =>
    Number(number)
  );
}

/** Whether numbers follow each other without a gap or a double one. */
function assertSeamless(found: readonly number[], what: string): void {
  found.forEach((number, index) => {
    if (index > 0) {
      assertEquals(number, found[index - 1]! + 1, `${what}: ${found.slice(index - 3, index + 3)}`);
    }
  });
}

Deno.test("lines of several logs come in time order, each log in its own", () => {
  const log = (source: string, ...times: (number | null)[]) =>
    times.map((timeMs, index) => ({ source, timeMs, text: `${source}${index}` }));
  const merged = [...merge([log("a", 1, 5, 6), log("b", 2, null, 9), log("c", 3, 1, 4)])].map(({ text }) =>
    text
  );
  assertEquals(merged, ["a0", "b0", "b1", "c0", "c1", "c2", "a1", "a2", "b2"]);
});

Deno.test("a log that can't be read is an error that names it", async () => {
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-logs-" });
  await Deno.writeTextFile(`${folder}/db.log`, "");
  await Deno.symlink("db.log.1", `${folder}/db.log.1`);
  const all = { names: null, sinceMs: -Infinity, pattern: null, lines: Infinity };
  assertEquals(
    assertThrows(() => [...readLogs(folder, sourcesIn(folder), all)], UserError).message,
    `Cannot read ${folder}/db.log.1: Too many levels of symbolic links.`,
  );
  await Deno.remove(folder, { recursive: true });
});

/** Shell texts: ends a turn, and waits for the end of one. */
const endTurn = (name: string) => `sleep 0.3; : > turn-${name}`;
const awaitTurn = (name: string) => `while [ ! -e turn-${name} ]; do sleep 0.02; done`;

Deno.test("logs shows the files of a run that is over, merged, and -n, --grep, --since and --json narrow them", async () => {
  await using site = await Site.make({
    services: [
      // They take turns: a pause lets a line be read before the next one's turn begins.
      { name: "a", command: `echo one; ${endTurn("1")}; ${awaitTurn("2")}; echo three; ${endTurn("3")}` },
      { name: "b", command: `${awaitTurn("1")}; echo two; ${endTurn("2")}; ${awaitTurn("3")}; echo four` },
    ],
  });
  const run = site.spawn(["--no-dashboard", "--log-dir", `${site.path}/logs`]);
  assertEquals((await run.ended()).code, 0);
  const texts = (out: string) => out.trim().split("\n").map((line) => line.replace(/^.*?\] /, ""));
  assertEquals(texts((await site.run("logs", "a", "b")).out), ["one", "two", "three", "four"]);
  assertEquals(texts((await site.run("logs", "a", "b", "-n", "2")).out), ["three", "four"]);
  assertEquals(texts((await site.run("logs", "a", "b", "--grep", "^t")).out), ["two", "three"]);
  assertEquals(texts((await site.run("logs", "a", "-n", "1")).out), ["three"]);
  assertEquals((await site.run("logs", "a", "b", "--since", "0")).out, "");
  assertEquals(texts((await site.run("logs", "a", "b", "--since", "10m")).out).length, 4);
  const json = (await site.run("logs", "b", "--json")).out.trim().split("\n").map((line) => JSON.parse(line));
  assertEquals(json.map(({ service, text }) => [service, text]), [["b", "two"], ["b", "four"]]);
  assert(Date.parse(json[0].time) > Date.now() - 600_000);
  assertEquals(texts((await site.run("logs", "orchestrator", "--grep", "^a: pending")).out), [
    "a: pending -> starting, a is starting",
  ]);
  const unknown = await site.run("logs", "aa");
  assertEquals(unknown.code, 2);
  assertEquals(
    unknown.err,
    'orchestrator: There is no service "aa"; did you mean "a"? The services are a, b, orchestrator.\n',
  );
  assertEquals(
    (await site.run("logs", "--grep", "(")).err,
    "orchestrator: --grep needs a regular expression as JavaScript knows them: Invalid regular expression: /(/: " +
      "Unterminated group.\n",
  );
});

Deno.test("logs -f shows the files and goes on with the stream without a gap or a double line, over rotations", async () => {
  await using site = await Site.make({
    services: [{ name: "a", command: COUNTS }, { name: "b", command: COUNTS }],
  });
  await site.background("--log-size", "1KiB", "--log-keep", "900");
  const followers = [];
  for (let count = 0; count < 4; count++) {
    const follower = site.spawn(["logs", "-f", "-n", "1000000"]);
    followers.push(follower);
    await follower.out.line("line 0");
    await follower.out.line(/a\] line [0-9]+/, 50 + 100 * count);
  }
  const last = site.spawn(["logs", "-f", "a", "-n", "5"]);
  await last.out.line(/a\] line/, 30);
  assertEquals((await site.run("stop")).code, 0);
  const files = (await site.run("logs")).out;
  for (const name of ["a", "b"]) {
    const expected = numbers(files, name);
    assertSeamless(expected, `files of ${name}`);
    for (const follower of followers) {
      const found = numbers((await follower.ended()).out, name);
      assertSeamless(found, name);
      assertEquals([found[0], found.at(-1)], [0, expected.at(-1)]);
    }
  }
  const { out, code } = await last.ended();
  assertEquals(code, 0);
  assertSeamless(numbers(out, "a"), "from the last five");
  assertEquals(numbers(out, "b"), []);
});

Deno.test("a reader of logs -f that does not keep up is dropped and goes on without a gap", async () => {
  await using site = await Site.make({
    services: [{ name: "flood", command: ["python3", `${TESTDATA}/floods.py`, "300000"] }, quick("db")],
  });
  const run = await site.foreground("--log-dir", `${site.path}/logs`, "--log-size", "64MiB");
  const follower = site.spawn(["logs", "-f", "flood", "-n", "1000000"]);
  await waitUntil(() => follower.out.text.length > 0, "it has begun");
  Deno.kill(follower.pid, "SIGSTOP");
  const log = () => site.folder.read("logs/orchestrator.log");
  await waitUntil(async () => (await log()).includes("flood stopped"), "the flood is over");
  Deno.kill(follower.pid, "SIGCONT");
  run.signal("SIGTERM");
  await run.ended();
  const { code, out } = await follower.ended();
  assertEquals(code, 0);
  const found = [...out.matchAll(/flood ([0-9]{9}) /g)].map(([, number]) => Number(number));
  assertEquals(found.length, 300_000);
  assertSeamless(found, "flood");
});

Deno.test("without files logs shows the lines that are kept", async () => {
  await using site = await Site.make({
    services: [quick("a", { command: "echo x; echo ready; exec sleep 1000" })],
  });
  const run = await site.foreground();
  await site.running("a");
  assertEquals((await site.run("logs", "a")).out, "[a] x\n[a] ready\n");
  run.signal("SIGTERM");
  await run.ended();
});

Deno.test("kill -9 loses no line that the orchestrator had read", async () => {
  await using site = await Site.make({ services: [{ name: "a", command: COUNTS }] });
  const pid = await site.background();
  const follower = site.spawn(["logs", "-f", "-n", "1000000"]);
  await follower.out.line(/a\] line [0-9]+/, 60);
  Deno.kill(pid, "SIGKILL");
  const { out, code } = await follower.ended();
  assertEquals(code, 1);
  const found = numbers(out, "a");
  assertSeamless(found, "followed");
  await site.allGone();
  const files = (await site.run("logs", "a")).out;
  assertEquals(numbers(files, "a"), found);
});
