/**
 * Starts jobs by the calendar. A schedule's next tick follows from its last one, which the storage keeps; a tick's job has the
 * tick as its idempotency key, so neither a restart nor a second engine begins it twice.
 *
 * @module
 */

import { Cron } from "croner";
import { z } from "zod";
import { ConfigError, messageOf } from "../model/errors.ts";
import type { JsonObject } from "../model/job.ts";
import type { ClientRequests } from "./client_requests.ts";
import type { EngineCore } from "./core.ts";
import { readEntries, TomlTable } from "./toml.ts";

/** When a schedule's ticks are. */
export type Timing = { intervalMs: number } | { cron: Cron };

/** A job that begins by itself. */
export interface Schedule {
  name: string;
  blueprint: string;
  inputData: JsonObject;
  /** The client that owns its jobs. */
  client: string;
  /** What becomes of ticks that were missed while no engine ran: one job for all of them, or none. */
  missed: "once" | "skip";
  timing: Timing;
}

/** A tick this late was not missed: the engine was only busy. */
const LATE_MS = 60_000;

const NO_BLUEPRINT = `needs a "blueprint"`;
const NO_CRON = `has "cron" that cannot be read; write five fields such as "*/5 9-17 * * mon-fri"`;
const NO_INTERVAL = `has "interval_seconds" below 1`;
const NO_DAYS = `has "weekly_days" that are not a list such as ["mon", "thu"]`;
const NO_DATES = `has "monthly_dates" that are not a list of 1 to 31`;
const noTime = (key: string) => `has "${key}" that is not a time such as "09:30"`;
/** Hours and minutes, as cron's first fields. */
const timeOfDay = (key: string) =>
  z.string(noTime(key)).regex(/^([01]?\d|2[0-3]):([0-5]\d)$/, noTime(key))
    .transform((text) => text.split(":").reverse().join(" "));

const ScheduleEntry = z.object({
  blueprint: z.string(NO_BLUEPRINT).min(1, NO_BLUEPRINT),
  input_data: TomlTable(`has "input_data" that is not a table`),
  client: z.string(`has a "client" that is not a text`).default("default"),
  missed: z.enum(["once", "skip"], `has "missed" that is neither "once" nor "skip"`).default("once"),
  cron: z.string(NO_CRON).trim().regex(/^\S+(\s+\S+){4}$/, NO_CRON).optional(),
  interval_seconds: z.number(NO_INTERVAL).min(1, NO_INTERVAL).optional(),
  daily_at: timeOfDay("daily_at").optional(),
  weekly_days: z.array(z.string(NO_DAYS).regex(/^(sun|mon|tue|wed|thu|fri|sat)/i, NO_DAYS), NO_DAYS)
    .min(1, NO_DAYS).optional(),
  monthly_dates: z.array(z.coerce.number(NO_DATES).int(NO_DATES).min(1, NO_DATES).max(31, NO_DATES), NO_DATES)
    .min(1, NO_DATES).optional(),
  time: timeOfDay("time").optional(),
});

/** Reads a schedules file, whose times are in this zone. @throws ConfigError that names the entry, or the zone */
export function readSchedules(text: string, path: string, timeZone: string): Schedule[] {
  checkTimeZone(timeZone);
  return readEntries(text, path, "schedule", ScheduleEntry, (entry, name, fail) => {
    const { blueprint, input_data: inputData, client, missed } = entry;
    return { name, blueprint, inputData, client, missed, timing: timingOf(entry, timeZone, fail) };
  });
}

function checkTimeZone(timeZone: string): void {
  try {
    new Intl.DateTimeFormat("en", { timeZone });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConfigError(`There is no time zone "${timeZone}"; set TZ to one such as Europe/Berlin.`);
  }
}

function timingOf(
  entry: z.infer<typeof ScheduleEntry>,
  timeZone: string,
  fail: (problem: string) => ConfigError,
): Timing {
  const { cron, interval_seconds, daily_at, weekly_days, monthly_dates, time } = entry;
  const kinds = [cron, interval_seconds, daily_at, weekly_days, monthly_dates];
  if (kinds.filter((kind) => kind !== undefined).length !== 1) {
    throw fail(
      "needs exactly one of cron, interval_seconds, daily_at, weekly_days (with time), monthly_dates (with time)",
    );
  }
  if (interval_seconds !== undefined) return { intervalMs: interval_seconds * 1000 };
  const minuteAndHour = daily_at ?? time;
  if (cron === undefined && minuteAndHour === undefined) throw fail(noTime("time"));
  const dates = monthly_dates?.join(",") ?? "*";
  const weekdays = weekly_days?.map((day) => day.slice(0, 3)).join(",") ?? "*";
  try {
    return { cron: parseCron(cron ?? `${minuteAndHour} ${dates} * ${weekdays}`, timeZone) };
  } catch { // the parser throws TypeError and RangeError in words of its own
    throw fail(NO_CRON);
  }
}

/** Reads a cron line of five fields: minute, hour, day of month, month, day of week. @throws Error when it is none */
export function parseCron(line: string, timezone: string): Cron {
  const [, , dayOfMonth, , dayOfWeek] = line.split(/\s+/);
  // As Vixie cron has it: two restricted day fields mean either, but one that begins with a star is not restricted.
  const domAndDow = dayOfMonth?.startsWith("*") === true || dayOfWeek?.startsWith("*") === true;
  return new Cron(line, { timezone, domAndDow, mode: "5-part", sloppyRanges: true });
}

/** The first tick after a moment (wall time); infinite: there is none. */
export function nextTick(timing: Timing, after: number): number {
  if ("intervalMs" in timing) return after + timing.intervalMs;
  return timing.cron.nextRun(new Date(after))?.getTime() ?? Infinity;
}

export class Scheduler {
  constructor(
    private readonly schedules: readonly Schedule[],
    private readonly core: EngineCore,
    private readonly clientRequests: ClientRequests,
  ) {}

  /** Works until the engine stops. */
  async run(): Promise<void> {
    const { clock, log, stopping } = this.core;
    while (!stopping.aborted && this.schedules.length > 0) {
      let next = Infinity;
      for (const schedule of this.schedules) {
        try {
          next = Math.min(next, await this.#runDue(schedule));
        } catch (error) {
          log("error", "schedule_failed", { schedule: schedule.name, error: messageOf(error) });
        }
      }
      // Short sleeps: the wall may be moved meanwhile.
      await clock.sleep(Math.min(1_000, Math.max(1, next - clock.wall())), stopping);
    }
  }

  // Begins what is due; returns the next tick.
  async #runDue(schedule: Schedule): Promise<number> {
    const { clock, storage } = this.core;
    const { name, timing, missed } = schedule;
    const key = `schedule ${name}`;
    const now = clock.wall();
    const text = await storage.get(key);
    let last = text === undefined ? undefined : Number(text);
    if (last === undefined || last > now + LATE_MS) {
      // New: an interval begins at once (one key for all engines that see it new), a calendar with its next tick. Or the
      // calendar was put back: it goes on from here. What has run already is known by its tick.
      if (last === undefined && "intervalMs" in timing) await this.#begin(schedule, 0);
      last = now;
    } else {
      const due = nextTick(timing, last);
      if (due > now) return due;
      last = latestTick(timing, due, now);
      if (now - last <= LATE_MS || missed === "once") await this.#begin(schedule, last);
    }
    await storage.set(key, String(last));
    return nextTick(timing, last);
  }

  // Submits the job of a tick. The tick is the key: several engines, or one that died between the job and its note, begin
  // it once.
  async #begin({ name, blueprint: blueprintName, inputData, client: clientName }: Schedule, tick: number) {
    const { authenticator, blueprints } = this.core;
    const blueprint = blueprints.get(blueprintName);
    if (blueprint === undefined) return;
    const known = authenticator.named(clientName);
    const unknown = { name: clientName, plan: "unknown", params: {}, tokenDigest: "" };
    const client = { ...unknown, ...known, monthlyAttempts: undefined };
    const idempotencyKey = `schedule ${name} ${new Date(tick).toISOString()}`;
    await this.clientRequests.submit(client, blueprint, inputData, { idempotencyKey });
  }
}

// The last tick until now, when one was due then.
function latestTick(timing: Timing, due: number, now: number): number {
  if ("intervalMs" in timing) return now - (now - due) % timing.intervalMs;
  return timing.cron.previousRuns(1, new Date(now + 1))[0]?.getTime() ?? due;
}
