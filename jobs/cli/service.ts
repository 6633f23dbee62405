/**
 * What the engine and the worker share as commands that go on until a signal stops them.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { type Level, LEVELS } from "../../config/levels.ts";
import { Outlet } from "../../terminal/outlet.ts";
import { stripControl } from "../../terminal/text.ts";
import { Config } from "../engine/config.ts";
import type { Log } from "../model/errors.ts";
import { type Environment, withVariables } from "./environment.ts";

/** What such a command works with. */
export interface Service {
  environment: Environment;
  /** Settings of the engine, and of the log for both. */
  config: Config;
  log: Log;
  out: Outlet;
  err: Outlet;
}

const GATHER_MS = 25;

/** Runs a service and writes what it has to say before it returns or fails. */
export function runService(given: Given, serve: (service: Service) => Promise<number>): Promise<number> {
  return withVariables(given, async (environment) => {
    const isForPeople = !environment.LOG_FORMAT && Deno.stdout.isTerminal();
    const config = new Config(isForPeople ? { logFormat: "text" } : {}, environment);
    const out = new Outlet(Deno.stdout, GATHER_MS);
    const err = new Outlet(Deno.stderr, GATHER_MS);
    try {
      return await serve({ environment, config, log: lineLog(config, out), out, err });
    } finally {
      await out.flush();
      await err.flush();
    }
  });
}

/** How levels are written, as Python's logging does. */
const WRITTEN: Record<Level, string> = { debug: "DEBUG", info: "INFO", warn: "WARNING", error: "ERROR" };

/** A log that writes lines of JSON, or of text for people, from a level on. Nothing waits for a reader that does not read. */
function lineLog({ logFormat, logLevel }: Config, outlet: Outlet): Log {
  const least = LEVELS.indexOf(logLevel);
  // Many lines belong to the same millisecond, and writing it costs more than the rest of a line.
  let at = NaN;
  let time = "";
  return (level, event, fields = {}) => {
    if (LEVELS.indexOf(level) < least) return;
    const now = Date.now();
    if (now !== at) time = new Date(at = now).toISOString();
    if (logFormat === "json") {
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
