/**
 * Settings files in TOML: tables by name.
 *
 * @module
 */

// @ts-types="../../config/std.d.ts"
import { parse as parseToml } from "@std/toml/parse";
import { z } from "zod";
import { ConfigError } from "../model/errors.ts";
import type { JsonObject } from "../model/job.ts";

/** The text of a settings file; empty when none is named. @throws ConfigError when it can't be read */
export async function readSettingsFile(path: string): Promise<string> {
  if (path === "") return "";
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ConfigError(`Cannot read ${path}: there is no such file.`);
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new ConfigError(`Cannot read ${path}: permission denied.`);
    }
    throw error;
  }
}

/** Parses TOML into its tables. @throws ConfigError */
export function tables(text: string, path: string): Record<string, unknown> {
  try {
    return parseToml(text);
  } catch (error) {
    // The parser's message quotes the text, which holds tokens.
    if (!(error instanceof Error)) throw error;
    const line = /line (\d+)/.exec(error.message)?.[1];
    throw new ConfigError(`Cannot read ${path}: it is not valid TOML${line ? ` (line ${line})` : ""}.`);
  }
}

/**
 * What `make` makes of each table of a file.
 *
 * @param schema its messages go on from the name of an entry, as what `make` gives to `fail` does
 * @throws ConfigError that names the entry, never its values
 */
export function readEntries<E, T>(
  text: string,
  path: string,
  kind: string,
  schema: z.ZodType<E>,
  make: (entry: E, name: string, fail: (problem: string) => ConfigError) => T,
): T[] {
  return Object.entries(tables(text, path)).map(([name, table]) => {
    const fail = (problem: string) => new ConfigError(`Cannot use ${path}: ${kind} "${name}" ${problem}.`);
    if (!isTable(table)) throw fail(`is not a table; write [${name}]`);
    const { data, error } = schema.safeParse(table);
    if (error !== undefined) throw fail(String(error.issues[0]?.message));
    return make(data, name, fail);
  });
}

/** A table within a table, as JSON; empty when it is absent. */
export function TomlTable(problem: string) {
  return z.custom<Record<string, unknown>>(isTable, problem).transform(toJson).default({});
}

/** Whether a TOML value is a table. */
export function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** A TOML table as JSON: dates become texts. */
export function toJson(table: Record<string, unknown>): JsonObject {
  return JSON.parse(JSON.stringify(table));
}
