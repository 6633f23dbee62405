/**
 * Reads a `.env` file with the meaning python-dotenv's `load_dotenv(path, override=True)` gives it, up to release
 * 1.2.2 (1.2.3 changed what a backslash before a closing quote means; files written for the tools before it would
 * change their values).
 *
 * Text flows one way: text -> statements -> interpolated entries -> environment, and all of it in linear time.
 *
 * @module
 */

import { encoder, NEWLINE } from "./bytes.ts";
import { systemReason, UserError } from "./errors.ts";

/** What a `.env` file says. */
export interface Dotenv {
  /** The value of each key after interpolation; `null` for a key without `=`, which sets nothing. */
  entries: Map<string, string | null>;
  /** The line, counted from 1, on which each statement begins that can't be read and is left out. */
  skipped: number[];
  /** The line on which the entry that counts begins, for each key. */
  lines: Map<string, number>;
}

/**
 * Reads a `.env` file (a named pipe will do) as `parseDotenv` does. Messages name the file and the line, never a value.
 *
 * @throws {Deno.errors.NotFound} when there is no such file: whether that matters is the caller's to say
 * @throws {UserError} when it can't be opened, is not UTF-8, or holds what no environment can hold
 */
export function readDotenv(path: string, environment: Readonly<Record<string, string>>): Dotenv {
  const dotenv = parseDotenv(decode(readBytes(path), path), environment, path);
  const { entries, lines } = dotenv;
  for (const [key, value] of entries) {
    if (value === null) continue;
    const where = `${path}, line ${lines.get(key)}`;
    if (key.includes("=")) {
      throw new UserError(`Cannot use ${where}: the name of a variable can't contain "="; rename it.`);
    }
    if (key.includes("\0") || value.includes("\0")) {
      throw new UserError(`Cannot use ${where}: an environment can't hold a NUL character; remove it.`);
    }
  }
  return dotenv;
}

/**
 * The environment after the file is loaded over it: the file wins, a `null` entry sets nothing.
 * The result has no prototype, so that even a variable named `__proto__` is a plain property.
 */
export function withDotenv(
  environment: Readonly<Record<string, string>>,
  dotenv: Dotenv,
): Record<string, string> {
  const merged: Record<string, string> = Object.assign(Object.create(null), environment);
  for (const [key, value] of dotenv.entries) {
    if (value !== null) merged[key] = value;
  }
  return merged;
}

// --- The file -------------------------------------------------------------------------------------------------

function readBytes(path: string): Uint8Array {
  try {
    return Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || !(error instanceof Error)) throw error;
    const reason = error instanceof Deno.errors.PermissionDenied
      ? "reading it is not permitted; change its mode or owner"
      : error instanceof Deno.errors.IsADirectory
      ? "it is a folder; name a file"
      : systemReason(error);
    throw new UserError(`Cannot read ${path}: ${reason}.`);
  }
}

/** Strict, and leaves a byte order mark to the parser: a decoder of the default kind would hide a second one. */
function decode(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // What is no UTF-8 becomes U+FFFD and comes back as other bytes; nothing before it does.
    const again = encoder.encode(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
    const faulty = bytes.findIndex((byte, index) => byte !== again[index]);
    const line = bytes.subarray(0, faulty).filter((byte) => byte === NEWLINE).length + 1;
    throw new UserError(`Cannot read ${path}: line ${line} is not UTF-8; save the file as UTF-8.`);
  }
}

// --- Statements -----------------------------------------------------------------------------------------------

interface Statement {
  /** `null` for a comment. */
  key: string | null;
  value: string | null;
  /** Where the next statement may begin. */
  end: number;
  readable: boolean;
}

// White space as Python sees it: with U+001C-U+001F and U+0085, without U+FEFF. Each pattern is looked for by itself:
// one that repeats over megabytes would overflow the stack.
const SPACE = /[[\s\x1c-\x1f\x85]--\ufeff]/v;
const NO_SPACE = /[[^\s\x1c-\x1f\x85]\ufeff]/gv;
const NO_BLANK = /[[^\s\x1c-\x1f\x85]\ufeff\n]/gv;
const KEY_END = /[[\s\x1c-\x1f\x85=#]--\ufeff]/gv;
const COMMENT = /(?<=[[\s\x1c-\x1f\x85]--\ufeff])#/v;

/** Where a pattern is found from `at` on, or the end of the text. */
function indexOrEnd(text: string, pattern: RegExp, at: number): number {
  pattern.lastIndex = at;
  return pattern.exec(text)?.index ?? text.length;
}

function readStatement(text: string, start: number): Statement {
  let at = start;
  const lineEnd = () => indexOrEnd(text, /\n/g, at);
  const fail = (): Statement => ({ key: null, value: null, end: lineEnd(), readable: false });

  if (text.startsWith("export", at)) {
    const next = indexOrEnd(text, NO_BLANK, at + "export".length);
    if (next > at + "export".length) at = next;
  }

  let key: string | null = null;
  if (text[at] === "'") {
    const close = text.indexOf("'", at + 1);
    if (close <= at + 1) return fail(); // never closed, or empty
    key = text.slice(at + 1, close);
    at = close + 1;
  } else if (text[at] !== "#") {
    key = text.slice(at, indexOrEnd(text, KEY_END, at));
    if (key === "") return fail();
    at += key.length;
  }

  let value: string | null = null;
  at = indexOrEnd(text, NO_BLANK, at);
  if (text[at] === "=") {
    at = indexOrEnd(text, NO_BLANK, at + 1);
    const quote = text[at];
    if (quote === "'" || quote === '"') {
      const close = closingQuote(text, at);
      if (close < 0) return fail();
      value = unescape(text.slice(at + 1, close), quote);
      at = close + 1;
    } else {
      value = withoutComment(text.slice(at, lineEnd()));
      at = lineEnd();
    }
  }

  at = indexOrEnd(text, NO_BLANK, at);
  if (text[at] === "#") at = lineEnd();
  return at < text.length && text[at] !== "\n" ? fail() : { key, value, end: at, readable: true };
}

/**
 * Where the value that opens at `open` closes: at the first such quote without a backslash before it, whatever
 * stands before that backslash. When there is none, at the last that has one, which then ends the value.
 */
function closingQuote(text: string, open: number): number {
  const quote = text.charAt(open);
  let last = -1;
  for (let at = text.indexOf(quote, open + 1); at >= 0; at = text.indexOf(quote, at + 1)) {
    if (text[at - 1] !== "\\") return at;
    last = at;
  }
  return last;
}

const ESCAPES: Record<string, string> = { a: "\x07", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", v: "\v" };

function unescape(value: string, quote: "'" | '"'): string {
  const escape = quote === "'" ? /\\[\\']/g : /\\[\\'"abfnrtv]/g;
  return value.replace(escape, (pair) => ESCAPES[pair.charAt(1)] ?? pair.charAt(1));
}

function withoutComment(part: string): string {
  const comment = part.search(COMMENT);
  let end = comment < 0 ? part.length : comment;
  while (end > 0 && SPACE.test(part.charAt(end - 1))) end--;
  return part.slice(0, end);
}

// --- Meaning --------------------------------------------------------------------------------------------------

/** Far above what any system lets into an environment, and below what a string can hold. */
const LONGEST_VALUE = 2 ** 27;

/**
 * Reads the text of a `.env` file. A byte order mark at its start is dropped, once; every line end counts as `\n`.
 *
 * @param environment the variables of the process, which `${NAME}` falls back to; only own properties count
 * @param path named in messages
 * @throws {UserError} when references multiply a value beyond 128 Mi characters
 *
 * ```ts
 * import { parseDotenv } from "./dotenv.ts";
 * const { entries } = parseDotenv("export HOST=db # inner\nURL='http://${HOST}:${PORT:-80}'", {});
 * if (entries.get("URL") !== "http://db:80") throw new Error();
 * ```
 */
export function parseDotenv(
  text: string,
  environment: Readonly<Record<string, string>>,
  path = ".env",
): Dotenv {
  text = text.replace(/^\ufeff/, "").replace(/\r\n?/g, "\n");
  const entries: Dotenv["entries"] = new Map();
  const lines: Dotenv["lines"] = new Map();
  const skipped: number[] = [];
  const lookUp = (name: string, fallback: string): string => {
    // A key without "=" hides the process's variable of that name, and takes no default.
    if (entries.has(name)) return entries.get(name) ?? "";
    return (Object.hasOwn(environment, name) ? environment[name] : undefined) ?? fallback;
  };

  let at = 0;
  let line = 1;
  const advance = (to: number) => {
    for (let newline = text.indexOf("\n", at); newline >= 0 && newline < to;) {
      line++;
      newline = text.indexOf("\n", newline + 1);
    }
    at = to;
  };
  for (advance(indexOrEnd(text, NO_SPACE, at)); at < text.length; advance(indexOrEnd(text, NO_SPACE, at))) {
    const { key, value, end, readable } = readStatement(text, at);
    if (!readable) skipped.push(line);
    if (key !== null) {
      const result = value === null ? null : interpolate(value, lookUp);
      if (result === undefined) {
        const problem = "its references make a value of over 128 Mi characters";
        throw new UserError(`Cannot use ${path}, line ${line}: ${problem}.`);
      }
      entries.set(key, result);
      lines.set(key, line);
    }
    advance(end);
  }
  return { entries, skipped, lines };
}

/** Replaces `${NAME}` and `${NAME:-default}`; `undefined` when the result would be too long. */
function interpolate(value: string, lookUp: (name: string, fallback: string) => string): string | undefined {
  let result = "";
  let copied = 0;
  // Each is looked for again only once passed: far marks behind many "${" would cost the square of their number.
  let brace = -1;
  let colon = -1;
  for (let open = value.indexOf("${"); open >= 0; open = value.indexOf("${", Math.max(open + 1, copied))) {
    const name = open + 2;
    if (brace < name) brace = value.indexOf("}", name);
    if (brace < 0) break;
    if (colon < name) colon = indexOrEnd(value, /:/g, name);
    if (colon < brace && value[colon + 1] !== "-") continue;
    const replacement = colon < brace
      ? lookUp(value.slice(name, colon), value.slice(colon + 2, brace))
      : lookUp(value.slice(name, brace), "");
    if (result.length + (open - copied) + replacement.length > LONGEST_VALUE) return undefined;
    result += value.slice(copied, open) + replacement;
    copied = brace + 1;
  }
  return result + value.slice(copied);
}
