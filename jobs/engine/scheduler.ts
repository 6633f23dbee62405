/**
 * Starts jobs by the calendar. A schedule's next tick follows from its last one, which the storage keeps; a tick's job has the
 * tick as its idempotency key, so neither a restart nor a second engine begins it twice.
 *
 * @module
 */
import type { Clock } from "../../config/clock.ts";
import type { Log } from "../model/errors.ts";
import { ConfigError, messageOf } from "../model/errors.ts";
import type { JsonObject } from "../model/job.ts";
import type { Storage } from "../model/store.ts";
import { isTable, tables, toJson } from "./toml.ts";

/** When a schedule's ticks are. Hours and minutes in the scheduler's time zone. */
export type Timing =
  | { kind: "interval"; seconds: number }
  | { kind: "calendar"; minutes: number[]; hours: number[]; isDay: (day: Day) => boolean };

/** A day of the calendar; `weekday` 0 is Sunday. */
export interface Day {
  month: number;
  date: number;
  weekday: number;
}

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

const WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** A tick is looked for this far ahead: a 29 February is at most eight years away. */
const HORIZON_DAYS = 366 * 9;
/** A tick this late was not missed: the engine was only busy. */
const LATE_MS = 60_000;

/** Reads a schedules file. @throws ConfigError that names the entry. */
export function readSchedules(text: string, path: string): Schedule[] {
  return Object.entries(tables(text, path)).map(([name, entry]) => {
    const fail = (what: string) => new ConfigError(`Cannot use ${path}: schedule "${name}" ${what}.`);
    if (!isTable(entry)) throw fail(`is not a table; write [${name}]`);
    const { blueprint, input_data: inputData = {}, client = "default", missed = "once" } = entry;
    if (typeof blueprint !== "string" || blueprint === "") throw fail(`needs a "blueprint"`);
    if (!isTable(inputData)) throw fail(`has "input_data" that is not a table`);
    if (typeof client !== "string") throw fail(`has a "client" that is not a text`);
    if (missed !== "once" && missed !== "skip") throw fail(`has "missed" that is neither "once" nor "skip"`);
    return { name, blueprint, inputData: toJson(inputData), client, missed, timing: readTiming(entry, fail) };
  });
}

function readTiming(entry: Record<string, unknown>, fail: (what: string) => ConfigError): Timing {
  const kinds = ["cron", "interval_seconds", "daily_at", "weekly_days", "monthly_dates"].filter((key) =>
    key in entry
  );
  if (kinds.length !== 1) {
    throw fail(
      "needs exactly one of cron, interval_seconds, daily_at, weekly_days (with time), monthly_dates (with time)",
    );
  }
  const time = (value: unknown, key: string): { minutes: number[]; hours: number[] } => {
    const match = typeof value === "string" ? /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(value) : null;
    if (match === null) throw fail(`has "${key}" that is not a time such as "09:30"`);
    return { hours: [Number(match[1])], minutes: [Number(match[2])] };
  };
  switch (kinds[0]) {
    case "cron": {
      const timing = typeof entry.cron === "string" ? parseCron(entry.cron) : undefined;
      if (timing === undefined) {
        throw fail(`has "cron" that cannot be read; write five fields such as "*/5 9-17 * * mon-fri"`);
      }
      return timing;
    }
    case "interval_seconds": {
      const seconds = entry.interval_seconds;
      if (typeof seconds !== "number" || !(seconds >= 1)) throw fail(`has "interval_seconds" below 1`);
      return { kind: "interval", seconds };
    }
    case "daily_at":
      return { kind: "calendar", ...time(entry.daily_at, "daily_at"), isDay: () => true };
    case "weekly_days": {
      const names = Array.isArray(entry.weekly_days) ? entry.weekly_days : [];
      const days = names.map((day) => WEEKDAYS.indexOf(String(day).toLowerCase().slice(0, 3)));
      if (days.length === 0 || days.includes(-1)) {
        throw fail(`has "weekly_days" that are not a list such as ["mon", "thu"]`);
      }
      return {
        kind: "calendar",
        ...time(entry.time, "time"),
        isDay: ({ weekday }) => days.includes(weekday),
      };
    }
    default: {
      const dates = Array.isArray(entry.monthly_dates) ? entry.monthly_dates.map(Number) : [];
      if (dates.length === 0 || dates.some((date) => !(Number.isInteger(date) && date >= 1 && date <= 31))) {
        throw fail(`has "monthly_dates" that are not a list of 1 to 31`);
      }
      return { kind: "calendar", ...time(entry.time, "time"), isDay: ({ date }) => dates.includes(date) };
    }
  }
}

/** Reads a cron line of five fields (minute, hour, day of month, month, day of week); undefined: it is none. */
export function parseCron(text: string): Timing | undefined {
  const [minute, hour, dayOfMonth, monthOfYear, dayOfWeek, ...more] = text.trim().toLowerCase().split(/\s+/);
  if (!minute || !hour || !dayOfMonth || !monthOfYear || !dayOfWeek || more.length > 0) return undefined;
  const minutes = cronField(minute, 0, 59, []);
  const hours = cronField(hour, 0, 23, []);
  const dates = cronField(dayOfMonth, 1, 31, []);
  const months = cronField(monthOfYear, 1, 12, MONTHS);
  const weekdays = cronField(dayOfWeek, 0, 7, WEEKDAYS)?.map((day) => day % 7);
  if (!minutes || !hours || !dates || !months || !weekdays) return undefined;
  // As cron has it: two restricted day fields mean either, otherwise the restricted one decides.
  const anyDate = dayOfMonth.startsWith("*");
  const anyWeekday = dayOfWeek.startsWith("*");
  const isDay = ({ month, date, weekday }: Day) => {
    if (!months.includes(month)) return false;
    if (anyDate || anyWeekday) return dates.includes(date) && weekdays.includes(weekday);
    return dates.includes(date) || weekdays.includes(weekday);
  };
  return { kind: "calendar", minutes, hours, isDay };
}

function cronField(
  text: string,
  least: number,
  most: number,
  names: readonly string[],
): number[] | undefined {
  const values = new Set<number>();
  for (const part of text.split(",")) {
    const match = /^(\*|\w+)(?:-(\w+))?(?:\/(\d+))?$/.exec(part);
    if (match === null) return undefined;
    const value = (word: string) => {
      const index = names.indexOf(word);
      if (index !== -1) return least === 1 ? index + 1 : index;
      return /^\d+$/.test(word) ? Number(word) : NaN;
    };
    const [, first = "", last, stepText] = match;
    const step = stepText === undefined ? 1 : Number(stepText);
    const from = first === "*" ? least : value(first);
    const to = first === "*" ? most : last !== undefined ? value(last) : stepText !== undefined ? most : from;
    if (!(from >= least && to <= most && from <= to && step >= 1) || (first === "*" && last !== undefined)) {
      return undefined;
    }
    for (let number = from; number <= to; number += step) values.add(number);
  }
  return [...values].sort((a, b) => a - b);
}

/**
 * The first tick after a moment (wall time); undefined: there is none. A time that a change of clocks skips is taken
 * where the clocks go on; one that comes twice is taken the first time.
 */
export function nextTick(timing: Timing, after: number, timeZone: string): number | undefined {
  if (timing.kind === "interval") return after + timing.seconds * 1000;
  const zone = zoneOf(timeZone);
  // The local calendar as if it were UTC: days are then just numbers.
  const startDay = Math.floor((after + zone(after)) / DAY_MS) - 1;
  for (let day = startDay; day < startDay + HORIZON_DAYS; day++) {
    const date = new Date(day * DAY_MS);
    const isDay = timing.isDay({
      month: date.getUTCMonth() + 1,
      date: date.getUTCDate(),
      weekday: date.getUTCDay(),
    });
    if (!isDay) continue;
    let best: number | undefined;
    for (const hour of timing.hours) {
      for (const minute of timing.minutes) {
        const moment = fromLocal(day * DAY_MS + hour * 60 * MINUTE_MS + minute * MINUTE_MS, zone);
        if (moment > after && (best === undefined || moment < best)) best = moment;
      }
    }
    if (best !== undefined) return best;
  }
}

// The moment at which clocks show `local`: the earlier one of two, the end of the gap when there is none.
function fromLocal(local: number, zone: (moment: number) => number): number {
  const before = zone(local - DAY_MS);
  const after = zone(local + DAY_MS);
  const early = local - Math.max(before, after);
  const late = local - Math.min(before, after);
  if (early + zone(early) === local) return early;
  if (late + zone(late) === local) return late;
  // In the gap: the first moment with the new offset.
  let low = early;
  let high = late;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (zone(middle) === before) low = middle;
    else high = middle;
  }
  return high;
}

// Offset of a time zone from UTC in milliseconds, by moment.
function zoneOf(timeZone: string): (moment: number) => number {
  if (timeZone === "UTC") return () => 0;
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  return (moment) => {
    const parts = new Map<string, number>(
      format.formatToParts(moment).map(({ type, value }) => [type, Number(value)]),
    );
    const part = (type: string) => parts.get(type) ?? NaN;
    const local = Date.UTC(
      part("year"),
      part("month") - 1,
      part("day"),
      part("hour"),
      part("minute"),
      part("second"),
    );
    return local - Math.floor(moment / 1000) * 1000;
  };
}

/** Begins scheduled jobs while it runs. */
export class Scheduler {
  constructor(
    readonly schedules: readonly Schedule[],
    readonly storage: Storage,
    readonly clock: Clock,
    readonly timeZone: string,
    /** Begins the job of a tick, once however often it is called for the same tick. */
    readonly begin: (schedule: Schedule, tick: number) => Promise<void>,
    readonly log: Log,
  ) {
    if (schedules.length > 0 && !isTimeZone(timeZone)) {
      throw new ConfigError(`There is no time zone "${timeZone}"; set TZ to one such as Europe/Berlin.`);
    }
  }

  /** Works until `signal` is aborted. */
  async run(signal: AbortSignal): Promise<void> {
    if (this.schedules.length === 0) return;
    while (!signal.aborted) {
      let next = Infinity;
      for (const schedule of this.schedules) {
        try {
          next = Math.min(next, await this.#runDue(schedule));
        } catch (error) {
          this.log("error", "schedule_failed", {
            schedule: schedule.name,
            error: messageOf(error),
          });
        }
      }
      // Short sleeps: the wall may be moved meanwhile.
      await this.clock.sleep(Math.min(1_000, Math.max(1, next - this.clock.wall())), signal);
    }
  }

  // Begins what is due; returns the next tick.
  async #runDue(schedule: Schedule): Promise<number> {
    const key = `schedule ${schedule.name}`;
    const now = this.clock.wall();
    const text = await this.storage.get(key);
    const last = text === undefined ? undefined : Number(text);
    if (last === undefined) {
      // New: an interval begins at once (one key for all engines that see it new), a calendar with its next tick.
      if (schedule.timing.kind === "interval") await this.begin(schedule, 0);
      await this.storage.set(key, String(now));
      return this.#after(schedule, now);
    }
    if (last > now + LATE_MS) {
      // The calendar was put back: go on from here. What has run already is known by its tick.
      await this.storage.set(key, String(now));
      return this.#after(schedule, now);
    }
    const due = this.#after(schedule, last);
    if (due > now) return due;
    let latest = due;
    if (schedule.timing.kind === "interval") {
      const step = schedule.timing.seconds * 1000;
      latest = due + Math.floor((now - due) / step) * step;
    } else {
      for (let tick = due; tick <= now; tick = this.#after(schedule, tick)) latest = tick;
    }
    const wasMissed = now - latest > LATE_MS;
    if (!wasMissed || schedule.missed === "once") await this.begin(schedule, latest);
    await this.storage.set(key, String(latest));
    return this.#after(schedule, latest);
  }

  #after(schedule: Schedule, moment: number): number {
    return nextTick(schedule.timing, moment, this.timeZone) ?? Infinity;
  }
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: name });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}
