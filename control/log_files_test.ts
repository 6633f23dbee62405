// @ts-types="../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import type { Event, ServiceSnapshot, ServiceState } from "../supervisor/model.ts";
import { waitUntil } from "../testing/run.ts";
import { logFileName, LogFiles, type LogOptions } from "./log_files.ts";

const encoder = new TextEncoder();

interface Desk extends AsyncDisposable {
  folder: string;
  logs: LogFiles;
  reports: string[];
}

async function open(options: Partial<LogOptions> = {}): Promise<Desk> {
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-logs-" });
  const reports: string[] = [];
  const logs = new LogFiles({ folder, ...options }, (text) => reports.push(text));
  return {
    folder,
    logs,
    reports,
    async [Symbol.asyncDispose]() {
      logs.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

function output(lines: string, service = "db"): Event {
  return {
    kind: "output",
    time: Date.UTC(2026, 1, 9, 12),
    service,
    stream: "out",
    lines: encoder.encode(lines),
  };
}

/** A log with its rotated files, oldest first. */
function whole(folder: string, file: string): string {
  let text = "";
  for (let number = 0;; number++) {
    try {
      text = Deno.readTextFileSync(`${folder}/${file}${number === 0 ? "" : `.${number}`}`) + text;
    } catch {
      return text; // there are no more
    }
  }
}

Deno.test("lines are written with the time before them, one file a service", async () => {
  await using desk = await open();
  desk.logs.event(output("one\ntwo\n"));
  desk.logs.event(output("three\n", "web"));
  assertEquals(whole(desk.folder, "db.log"), "2026-02-09T12:00:00.000Z one\n2026-02-09T12:00:00.000Z two\n");
  assertEquals(whole(desk.folder, "web.log"), "2026-02-09T12:00:00.000Z three\n");
});

Deno.test("as JSON each line is an object", async () => {
  await using desk = await open({ format: "json" });
  desk.logs.event(output('say "hi"\n\n'));
  const time = "2026-02-09T12:00:00.000Z";
  assertEquals(whole(desk.folder, "db.log").trim().split("\n").map((line) => JSON.parse(line)), [
    { time, service: "db", stream: "out", text: 'say "hi"' },
    { time, service: "db", stream: "out", text: "" },
  ]);
});

for (const maxBytes of [64, 1_000, 4_096]) {
  Deno.test(`no line is lost or split by rotation at ${maxBytes} bytes`, async () => {
    await using desk = await open({ maxBytes, keep: 100_000 });
    let state = 12345; // a small generator of our own, so that each run is the same
    const next = (below: number) => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648) % below;
    const expected: string[] = [];
    for (let block = 0; block < 200; block++) {
      let text = "";
      for (let count = next(12); count >= 0; count--) {
        const line = `${expected.length} ${"x".repeat(next(next(20) === 0 ? 3 * maxBytes : 60))}`;
        expected.push(line);
        text += `${line}\n`;
      }
      desk.logs.event(output(text));
    }
    const lines = whole(desk.folder, "db.log").split("\n");
    assertEquals(lines.pop(), "", "the last line is whole");
    assertEquals(lines.map((line) => line.slice(25)), expected);
    for (const { name } of Deno.readDirSync(desk.folder)) {
      const text = Deno.readTextFileSync(`${desk.folder}/${name}`);
      assert(text.endsWith("\n"), "each file ends with a whole line");
      assert(
        text.length <= maxBytes || text.indexOf("\n") === text.length - 1,
        "only one long line is longer",
      );
    }
  });
}

Deno.test("as many rotated files are kept as the option asks for", async () => {
  for (const keep of [0, 1, 3]) {
    await using desk = await open({ maxBytes: 1_024, keep });
    for (let count = 0; count < 200; count++) desk.logs.event(output(`${count} ${"y".repeat(80)}\n`));
    assertEquals([...Deno.readDirSync(desk.folder)].length, keep + 1);
    assertEquals(whole(desk.folder, "db.log").split("\n").at(-2)?.slice(25), `199 ${"y".repeat(80)}`);
  }
});

Deno.test("half a line that a crash of the system left stays a line of its own", async () => {
  await using desk = await open();
  Deno.writeTextFileSync(`${desk.folder}/db.log`, "whole\nhal");
  desk.logs.event(output("next\n"));
  assertEquals(whole(desk.folder, "db.log"), "whole\nhal\n2026-02-09T12:00:00.000Z next\n");
});

Deno.test("a removed file is made anew", async () => {
  await using desk = await open();
  desk.logs.event(output("one\n"));
  Deno.removeSync(`${desk.folder}/db.log`);
  await waitUntil(() => {
    desk.logs.event(output("two\n"));
    return whole(desk.folder, "db.log") !== "";
  }, "the file is there again");
  assertEquals(whole(desk.folder, "db.log"), "2026-02-09T12:00:00.000Z two\n");
});

Deno.test("a full disk is reported once for all files, and its end once with what is missing", async () => {
  await using desk = await open();
  for (const name of ["db", "web"]) Deno.symlinkSync("/dev/full", `${desk.folder}/${name}.log`);
  for (let count = 0; count < 50; count++) {
    for (const name of ["db", "web"]) desk.logs.event(output("lost\n", name));
  }
  assertEquals(desk.reports.length, 1);
  assertEquals(
    desk.reports[0],
    `Cannot write ${desk.folder}/db.log: No space left on device. The services run on; log lines are lost.`,
  );
  for (const name of ["db", "web"]) Deno.removeSync(`${desk.folder}/${name}.log`);
  await waitUntil(() => {
    for (const name of ["db", "web"]) desk.logs.event(output("again\n", name));
    return desk.reports.length === 2;
  }, "it is reported that they are written again");
  const [, missing] = / ([0-9]+) lines/.exec(desk.reports[1]!) ?? [];
  assert(Number(missing) >= 100);
  assertEquals(
    desk.reports[1],
    `Logs are written again in ${desk.folder}; ${missing} lines are missing there.`,
  );
});

Deno.test("no half line stays behind when the disk fills up in the middle of it", async (test) => {
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-small-" });
  const mounted = await mount(folder);
  await test.step({
    name: "a disk of 64 KiB",
    ignore: !mounted, // only root may mount
    fn() {
      const reports: string[] = [];
      const logs = new LogFiles({ folder }, (text) => reports.push(text));
      for (let count = 0; count < 50; count++) logs.event(output(`${count} ${"z".repeat(5_000)}\n`));
      logs.close();
      assertEquals(reports.length, 1);
      const text = Deno.readTextFileSync(`${folder}/db.log`);
      assert(text.endsWith("\n"));
      assert(text.trimEnd().split("\n").every((line) => line.length > 5_025));
    },
  });
  if (mounted) await new Deno.Command("umount", { args: [folder] }).output();
  await Deno.remove(folder);
});

async function mount(folder: string): Promise<boolean> {
  try {
    const args = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder];
    return (await new Deno.Command("mount", { args, stderr: "null" }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return false;
    throw error;
  }
}

Deno.test("every change of state is in the orchestrator's log; other messages by their level", async () => {
  const past = { failures: [], restarts: 0, lastExit: null };
  const from: ServiceState = { ...past, kind: "pending", waitingFor: [] };
  const state: ServiceState = { ...past, kind: "starting", pid: null, since: 0, readyBy: 1 };
  const row: ServiceSnapshot = {
    name: "db",
    title: "DB",
    kind: "service",
    port: null,
    maxRetries: 3,
    state,
    recent: [],
  };
  const time = Date.UTC(2026, 1, 9, 12);
  const rows: [LogOptions["level"], string[]][] = [
    ["debug", ["info  db: pending -> starting, db is starting", "debug d", "info  i", "warn  w", "error e"]],
    ["info", ["info  db: pending -> starting, db is starting", "info  i", "warn  w", "error e"]],
    ["error", ["info  db: pending -> starting, db is starting", "error e"]],
  ];
  for (const [level, expected] of rows) {
    await using desk = await open({ level });
    desk.logs.event({ kind: "state", time, at: 0, row, from });
    for (const own of ["debug", "info", "warn", "error"] as const) {
      desk.logs.event({ kind: "log", time, level: own, message: own[0]! });
    }
    const lines = whole(desk.folder, "orchestrator.log").trimEnd().split("\n");
    assertEquals(lines.map((line) => line.slice(25)), expected);
  }
});

Deno.test("a service called orchestrator has a log of its own", () => {
  assertEquals(logFileName("orchestrator"), "-orchestrator.log");
});
