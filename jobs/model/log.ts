/**
 * How the engine and the worker report what they do; whoever starts them decides where the lines go.
 *
 * @module
 */

import type { Level } from "../../config/levels.ts";

/** Writes one structured log line: an event in snake_case and its fields, never a token. */
export type Log = (
  level: Level,
  event: string,
  fields?: Record<string, unknown>,
) => void;
