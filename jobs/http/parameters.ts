/**
 * Reads query parameters and checked bodies.
 *
 * @module
 */

import { HttpError } from "../model/errors.ts";
import type { z } from "zod";

export const LIST_LIMIT = 1000;

export function check<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const { path, message } = issue ?? { path: [], message: "The body cannot be read." };
  const where = path.join(".");
  throw new HttpError(400, where === "" ? message : `Invalid field ${where}: ${message}`);
}

export function secondsOf(text: string | null, name: string): number | undefined {
  if (text === null) return undefined;
  const seconds = Number(text);
  if (text.trim() === "" || !(seconds > 0 && seconds <= 1e9)) {
    throw new HttpError(400, `${name} must be a number of seconds`);
  }
  return seconds * 1000;
}

export function wholeNumber(query: URLSearchParams, name: string, fallback: number, most: number): number {
  const text = query.get(name);
  if (text === null) return fallback;
  if (!/^\d{1,9}$/.test(text)) throw new HttpError(400, `Invalid limit/offset parameter`);
  return Math.min(Number(text), most);
}
