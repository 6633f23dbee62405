/**
 * The levels of messages, from the least to the most important.
 *
 * @module
 */

import { UserError } from "./errors.ts";

/** From the least to the most important. */
export const LEVELS = ["debug", "info", "warn", "error"] as const;

export type Level = typeof LEVELS[number];

/** Other words for the same, as Python's logging has them. */
const SYNONYMS: Record<string, Level> = { warning: "warn", critical: "error" };

/**
 * Reads a level in any case.
 *
 * @param option what is named when it is none
 * @throws {UserError} for anything else
 */
export function parseLevel(text: string, option: string): Level {
  const word = text.trim().toLowerCase();
  const level = LEVELS.find((known) => known === word) ?? SYNONYMS[word];
  if (level === undefined) throw new UserError(`${option} is one of ${LEVELS.join(", ")}.`);
  return level;
}
