/**
 * The errors that several rooms throw or read, and what a person is told of any error.
 *
 * @module
 */
import { isObject, parseJson } from "./json.ts";

/** Settings, files or a storage that cannot be used; the message names all that is wrong. */
export class ConfigError extends Error {
  override name = "ConfigError";
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

/** The `error` text of an engine's answer, if it has one. */
export function errorIn(text: string): string | undefined {
  const answer = parseJson(text);
  return isObject(answer) && typeof answer.error === "string" ? answer.error : undefined;
}
