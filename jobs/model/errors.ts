/**
 * How jobs report what happens: the errors that several rooms throw or read, and the lines of the log.
 *
 * @module
 */

import { UserError } from "../../config/errors.ts";
import type { Level } from "../../config/levels.ts";

/** Settings, files or a storage that cannot be used; the message names all that is wrong. */
export class ConfigError extends UserError {
  override name = "ConfigError";
}

/** A request that is answered with an error status; the message is the answer's text. */
export class HttpError extends Error {
  constructor(readonly status: number, message: string, readonly headers: Record<string, string> = {}) {
    super(message);
  }
}

/** What an error says, without its stack. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}

/** The root cause of an error: `fetch` wraps what happened in words about the request. */
export function reasonOf(error: unknown): string {
  let at = error;
  while (at instanceof Error && at.cause instanceof Error) at = at.cause;
  return at instanceof Error ? at.message.replace(/ \(os error \d+\)$/, "") : String(at);
}

/** Writes one structured log line: an event in snake_case and its fields, never a token. */
export type Log = (level: Level, event: string, fields?: Record<string, unknown>) => void;
