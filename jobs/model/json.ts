/**
 * JSON from outside: request bodies of strangers, and values that handlers made.
 *
 * @module
 */

import { HttpError } from "./errors.ts";
import type { JsonObject, JsonValue } from "./job.ts";

/** The `error` text of an engine's answer, if it has one. */
export function errorIn(text: string): string | undefined {
  const answer = parseJson(text);
  return isObject(answer) && typeof answer.error === "string" ? answer.error : undefined;
}

/** A JSON text's value; undefined when it is none, which the schema that reads it next refuses. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// Only texts with one of these can hold a forbidden key or a number that JSON cannot give back.
const SUSPICIOUS = /__proto__|constructor|\\u|\d[eE]\+?\d|\d{16}/;

/**
 * Reads a JSON text of limited depth.
 *
 * @param exact Whether whole numbers that a double cannot hold exactly are refused too.
 * @throws HttpError 400
 */
export function parseBody(text: string, maxDepth: number, exact: boolean): JsonValue {
  if (deeperThan(text, maxDepth)) {
    throw new HttpError(400, `Invalid JSON body: nested deeper than ${maxDepth} levels`);
  }
  let value: JsonValue;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw new HttpError(400, "Invalid JSON body");
    throw error;
  }
  if (SUSPICIOUS.test(text)) inspect(value, exact);
  return value;
}

// Before parsing: a body of a million brackets costs a look at it and nothing else.
function deeperThan(text: string, maxDepth: number): boolean {
  if (text.length <= maxDepth) return false;
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x22) {
      index = endOfString(text, index);
    } else if (code === 0x5b || code === 0x7b) {
      if (++depth > maxDepth) return true;
    } else if (code === 0x5d || code === 0x7d) {
      depth--;
    }
  }
  return false;
}

function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return text.length;
}

function inspect(value: JsonValue | undefined, exact: boolean): void {
  if (typeof value === "number") {
    if (!Number.isFinite(value) || (exact && Number.isInteger(value) && !Number.isSafeInteger(value))) {
      throw new HttpError(400, "Invalid JSON body: a number is too large to be kept");
    }
  } else if (typeof value === "object" && value !== null) {
    if (!Array.isArray(value)) {
      if (Object.hasOwn(value, "__proto__")) {
        throw new HttpError(400, 'Invalid JSON body: the key "__proto__" is not allowed');
      }
      const { constructor } = value;
      if (
        Object.hasOwn(value, "constructor") && typeof constructor === "object" && constructor !== null &&
        Object.hasOwn(constructor, "prototype")
      ) {
        throw new HttpError(400, 'Invalid JSON body: the key "constructor.prototype" is not allowed');
      }
    }
    for (const part of Object.values(value)) inspect(part, exact);
  }
}

/** Whether a value is a JSON object (not an array, not null). */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * A copy of what a handler made, as JSON has it. `where` is named in the error.
 *
 * @throws TypeError for what JSON cannot say (functions, cycles, NaN ...).
 */
export function copyObject(value: object, where: string, depth = 0): JsonObject {
  if (depth > 200) throw new TypeError(`${where} is nested too deeply or refers to itself.`);
  const copy: JsonObject = {};
  for (const [key, part] of Object.entries(value)) {
    if (part === undefined) continue;
    if (key === "__proto__") throw new TypeError(`${where} has the key "__proto__".`);
    copy[key] = copyValue(part, `${where}.${key}`, depth);
  }
  return copy;
}

function copyValue(value: unknown, where: string, depth: number): JsonValue {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value) && depth <= 200) {
    return value.map((part, index) => copyValue(part ?? null, `${where}[${index}]`, depth + 1));
  }
  if (typeof value === "object") {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) return copyObject(value, where, depth + 1);
  }
  throw new TypeError(`${where} is not something that JSON can hold.`);
}
