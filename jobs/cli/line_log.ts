/**
 * The log of the engine and the worker as lines. Nothing waits for a reader that does not read.
 *
 * @module
 */
import type { Level } from "../../config/levels.ts";
import { LEVELS } from "../../config/levels.ts";
import type { Outlet } from "../../terminal/outlet.ts";
import { stripControl } from "../../terminal/text.ts";
import type { Log } from "../model/errors.ts";

/** How levels are written, as Python's logging does. */
const WRITTEN: Record<Level, string> = { debug: "DEBUG", info: "INFO", warn: "WARNING", error: "ERROR" };

/** A log that writes lines of JSON, or of text for people, from a level on. */
export function lineLog(format: "json" | "text", from: Level, outlet: Outlet): Log {
  const least = LEVELS.indexOf(from);
  // Many lines belong to the same millisecond, and writing it costs more than the rest of a line.
  let at = NaN;
  let time = "";
  return (level, event, fields = {}) => {
    if (LEVELS.indexOf(level) < least) return;
    const now = Date.now();
    if (now !== at) time = new Date(at = now).toISOString();
    if (format === "json") {
      const rest = JSON.stringify(fields).slice(1);
      const start = `{"time":"${time}","level":"${WRITTEN[level]}","event":${JSON.stringify(event)}`;
      return outlet.line(rest === "}" ? `${start}}` : `${start},${rest}`);
    }
    const pairs = Object.entries(fields).filter(([, value]) => value !== undefined).map(([key, value]) => {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      return `${key}=${typeof value === "string" && /[\s"=]/.test(text) ? JSON.stringify(text) : text}`;
    });
    const words = event.replaceAll("_", " ");
    outlet.line(
      stripControl([`${time.slice(11, 23)} ${WRITTEN[level].padEnd(7)} ${words}`, ...pairs].join("  ")),
    );
  };
}
