// @ts-types="../../config/std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import { StateMachineBlueprint } from "../model/blueprint.ts";
import { ConfigError } from "../model/errors.ts";
import { nextTick, parseCron, readSchedules } from "./scheduler.ts";
import type { Storage } from "../model/store.ts";
import { MemoryStorage } from "../stores/memory.ts";
import { ManualClock } from "../../testing/clock.ts";
import { openTestEngine } from "../testing/engine.ts";

const timing = (text: string, zone: string) =>
  readSchedules(`[s]\nblueprint = "b"\n${text}\n`, "s.toml", zone)[0]!.timing;

const TICKS: [string, string, string, string[]][] = [
  ["daily_at = '09:30'", "UTC", "2026-01-15T12:00:00Z", ["2026-01-16T09:30", "2026-01-17T09:30"]],
  ["weekly_days = ['mon', 'Thursday']\ntime = '00:00'", "UTC", "2026-01-15T00:00:00Z", [
    "2026-01-19T00:00",
    "2026-01-22T00:00",
  ]],
  ["monthly_dates = [1, 31]\ntime = '23:59'", "UTC", "2026-01-31T23:59:00Z", [
    "2026-02-01T23:59",
    "2026-03-01T23:59",
    "2026-03-31T23:59",
  ]],
  ["cron = '*/20 9-10 * * mon-fri'", "UTC", "2026-01-16T10:30:00Z", [
    "2026-01-16T10:40",
    "2026-01-19T09:00",
    "2026-01-19T09:20",
  ]],
  ["cron = '0 0 29 feb *'", "UTC", "2026-01-01T00:00:00Z", ["2028-02-29T00:00", "2032-02-29T00:00"]],
  // Both day fields restricted: either.
  ["cron = '0 12 1 * sun'", "UTC", "2026-01-30T00:00:00Z", ["2026-02-01T12:00", "2026-02-08T12:00"]],
  ["cron = '0 12 * * 7'", "UTC", "2026-01-30T00:00:00Z", ["2026-02-01T12:00"]],
  // One that begins with a star is not restricted.
  ["cron = '0 0 */2 * mon'", "UTC", "2026-01-01T00:00:00Z", ["2026-01-05T00:00", "2026-01-19T00:00"]],
  ["cron = '5/30 * * * *'", "UTC", "2026-01-30T00:00:00Z", ["2026-01-30T00:05", "2026-01-30T00:35"]],
  // Summer time begins on 29 March 2026 at 2:00, and ends on 25 October at 3:00.
  ["daily_at = '02:30'", "Europe/Berlin", "2026-03-27T12:00:00Z", [
    "2026-03-28T01:30",
    "2026-03-29T01:00",
    "2026-03-30T00:30",
  ]],
  ["daily_at = '02:30'", "Europe/Berlin", "2026-10-24T12:00:00Z", ["2026-10-25T00:30", "2026-10-26T01:30"]],
  // Several times a day: those that the clocks leave out are left out, those that come twice are taken twice.
  ["cron = '30 1-3 * * *'", "Europe/Berlin", "2026-03-28T22:00:00Z", [
    "2026-03-29T00:30",
    "2026-03-29T01:30",
    "2026-03-29T23:30",
  ]],
  ["cron = '*/30 2 * * *'", "Europe/Berlin", "2026-10-24T22:00:00Z", [
    "2026-10-25T00:00",
    "2026-10-25T00:30",
    "2026-10-25T01:00",
    "2026-10-25T01:30",
    "2026-10-26T01:00",
  ]],
  ["daily_at = '00:10'", "Pacific/Auckland", "2026-01-15T00:00:00Z", [
    "2026-01-15T11:10",
    "2026-01-16T11:10",
  ]],
  ["daily_at = '23:50'", "America/Los_Angeles", "2026-01-15T00:00:00Z", [
    "2026-01-15T07:50",
    "2026-01-16T07:50",
  ]],
  ["interval_seconds = 90", "UTC", "2026-01-15T00:00:00Z", ["2026-01-15T00:01:30", "2026-01-15T00:03"]],
];
for (const [text, zone, after, wanted] of TICKS) {
  Deno.test(`${text.replaceAll("\n", ", ")} in ${zone} after ${after}`, () => {
    let moment = Date.parse(after);
    for (const tick of wanted) {
      moment = nextTick(timing(text, zone), moment);
      assertEquals(new Date(moment).toISOString(), new Date(`${tick}Z`).toISOString());
    }
  });
}

Deno.test("a date that never comes has no tick", () => {
  assertEquals(nextTick({ cron: parseCron("0 0 31 2 *", "UTC") }, 0), Infinity);
});

for (
  const bad of [
    "",
    "* * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 8",
    "5-1 * * * *",
    "*/0 * * * *",
    "*-5 * * * *",
    "a b c d e",
    "0 0 0 * * *",
    "@daily",
    "2026-01-01T00:00:00",
  ]
) {
  Deno.test(`"${bad}" is no cron line`, () => {
    assertThrows(
      () => timing(`cron = "${bad}"`, "UTC"),
      ConfigError,
      'Cannot use s.toml: schedule "s" has "cron" that cannot be read; ' +
        'write five fields such as "*/5 9-17 * * mon-fri".',
    );
  });
}

const NOT_ONE =
  "needs exactly one of cron, interval_seconds, daily_at, weekly_days (with time), monthly_dates (with time)";
for (
  const [text, problem] of [
    ["a = 5", "is not a table; write [a]"],
    ["[a]\ninterval_seconds = 5", 'needs a "blueprint"'],
    ["[a]\nblueprint = 'b'", NOT_ONE],
    ["[a]\nblueprint = 'b'\ncron = '* * * * *'\ndaily_at = '1:00'", NOT_ONE],
    ["[a]\nblueprint = 'b'\ndaily_at = '25:00'", 'has "daily_at" that is not a time such as "09:30"'],
    [
      "[a]\nblueprint = 'b'\nweekly_days = ['fun', 'gun']\ntime = '1:00'",
      'has "weekly_days" that are not a list such as ["mon", "thu"]',
    ],
    ["[a]\nblueprint = 'b'\nweekly_days = ['mon']", 'has "time" that is not a time such as "09:30"'],
    [
      "[a]\nblueprint = 'b'\nmonthly_dates = [0]\ntime = '1:00'",
      'has "monthly_dates" that are not a list of 1 to 31',
    ],
    ["[a]\nblueprint = 'b'\ninterval_seconds = 0", 'has "interval_seconds" below 1'],
    [
      "[a]\nblueprint = 'b'\ncron = 'often'",
      'has "cron" that cannot be read; write five fields such as "*/5 9-17 * * mon-fri"',
    ],
    [
      "[a]\nblueprint = 'b'\ninterval_seconds = 5\nmissed = 'twice'",
      'has "missed" that is neither "once" nor "skip"',
    ],
    ["[a]\nblueprint = 'b'\ninterval_seconds = 5\ninput_data = 5", 'has "input_data" that is not a table'],
    ["[a]\nblueprint = 'b'\ninterval_seconds = 5\nclient = 5", 'has a "client" that is not a text'],
  ] as const
) {
  Deno.test(`a schedule ${JSON.stringify(text)} is refused`, () => {
    const error = assertThrows(() => readSchedules(text, "s.toml", "UTC"), ConfigError);
    assertEquals(error.message, `Cannot use s.toml: schedule "a" ${problem}.`);
  });
}

Deno.test("schedules in a file that is not TOML, or in no known time zone, are refused", () => {
  const broken = assertThrows(() => readSchedules("[a", "s.toml", "UTC"), ConfigError);
  assertEquals(broken.message, "Cannot read s.toml: it is not valid TOML (line 1).");
  const lost = assertThrows(() => readSchedules("", "s.toml", "Mars/Olympus"), ConfigError);
  assertEquals(
    lost.message,
    'There is no time zone "Mars/Olympus"; set TZ to one such as Europe/Berlin.',
  );
});

async function run(
  text: string,
  clock: ManualClock,
  storage: Storage,
  body: (count: () => Promise<number>) => Promise<void>,
) {
  const flow = new StateMachineBlueprint({ name: "tick" })
    .handlerFor("start", { isStart: true }, ({ actions }) => actions.transitionTo("finished"));
  const path = await Deno.makeTempFile({ suffix: ".toml" });
  await Deno.writeTextFile(path, text);
  try {
    await using test = await openTestEngine({
      blueprints: [flow],
      clock,
      storage,
      config: { schedulesPath: path },
    });
    await body(async () => (await test.client("/api/jobs?limit=1000")).json.length);
  } finally {
    await Deno.remove(path);
  }
}

// A storage that outlives its engine, as a file would.
function kept(): Storage {
  const storage = new MemoryStorage();
  return new Proxy(storage, {
    get(target, name) {
      if (name === Symbol.asyncDispose) return () => Promise.resolve();
      const value = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

Deno.test("an interval begins at once and then every so often; a restart neither repeats nor forgets", async () => {
  const storage = kept();
  const clock = new ManualClock();
  const text = `[often]\nblueprint = "tick"\ninterval_seconds = 10\ninput_data = { a = 1 }\n`;
  await run(text, clock, storage, async (count) => {
    await clock.advance(1_000);
    assertEquals(await count(), 1);
    await clock.advance(30_000);
    assertEquals(await count(), 4);
  });
  const later = new ManualClock(clock.wall() + 3_000);
  await run(text, later, storage, async (count) => {
    await later.advance(1_000);
    assertEquals(await count(), 4);
    await later.advance(7_000);
    assertEquals(await count(), 5);
  });
});

for (const [missed, wanted] of [["once", 1], ["skip", 0]] as const) {
  Deno.test(`ticks missed while no engine ran: ${missed}`, async () => {
    const storage = kept();
    const clock = new ManualClock(Date.UTC(2026, 0, 15, 12));
    const text = `[daily]\nblueprint = "tick"\ndaily_at = "09:00"\nmissed = "${missed}"\n`;
    await run(text, clock, storage, async (count) => {
      await clock.advance(2_000);
      assertEquals(await count(), 0);
    });
    const later = new ManualClock(Date.UTC(2026, 0, 20, 12));
    await run(text, later, storage, async (count) => {
      await later.advance(2_000);
      assertEquals(await count(), wanted);
      later.setWall(Date.UTC(2026, 0, 21, 9));
      await later.advance(2_000);
      assertEquals(await count(), wanted + 1);
    });
  });
}

Deno.test("a calendar that is set wrong and right again neither repeats a tick nor stops the schedule", async () => {
  const clock = new ManualClock(Date.UTC(2026, 0, 15, 8, 59, 58));
  await run(`[daily]\nblueprint = "tick"\ndaily_at = "09:00"\n`, clock, kept(), async (count) => {
    await clock.advance(4_000);
    assertEquals(await count(), 1);
    // An hour back: nine o'clock comes again, and is the same tick.
    clock.setWall(Date.UTC(2026, 0, 15, 8, 0, 0));
    await clock.advance(2_000);
    clock.setWall(Date.UTC(2026, 0, 15, 9, 0, 1));
    await clock.advance(2_000);
    assertEquals(await count(), 1);
    // A year ahead by mistake, and back.
    clock.setWall(Date.UTC(2027, 0, 15, 9, 0, 1));
    await clock.advance(2_000);
    const ahead = await count();
    clock.setWall(Date.UTC(2026, 0, 15, 10));
    await clock.advance(2_000);
    clock.setWall(Date.UTC(2026, 0, 16, 9, 0, 1));
    await clock.advance(2_000);
    assertEquals(await count(), ahead + 1);
  });
});
