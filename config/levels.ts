/**
 * The levels of messages.
 *
 * @module
 */

import { UserError } from "./errors.ts";

/** From the least to the most important. */
export const LEVELS = ["debug", "info", "warn", "error"] as const;

export type Level = typeof LEVELS[number];

/** Other words for the same, as Python's logging has them. */
const SYNONYMS: Record<string, Level> = { warning: "warn", critical: "error" };

/** The level that a word in any case names; undefined: none. */
export function levelOf(text: string): Level | undefined {
  const word = text.trim().toLowerCase();
  return LEVELS.find((known) => known === word) ?? SYNONYMS[word];
}

/** As `levelOf`. @throws {UserError} that names the option when it is none */
export function parseLevel(text: string, option: string): Level {
  const level = levelOf(text);
  if (level === undefined) throw new UserError(`${option} must be one of ${LEVELS.join(", ")}.`);
  return level;
}
