/**
 * Reads a `.env` file with the meaning python-dotenv's `load_dotenv(path, override=True)` gives it, up to release
 * 1.2.2 (1.2.3 changed what a backslash before a closing quote means; files written for the tools before it would
 * change their values).
 *
 * Text flows one way: text -> statements -> interpolated entries -> environment. Everything is scanned by index
 * in linear time: a regular expression that repeats over a quoted value overflows the stack on values of megabytes.
 */

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

/** A `.env` file that cannot be used. The message is for its owner: the file, the line, the remedy, never a value. */
export class DotenvError extends UserError {
  override name = "DotenvError";
}

/**
 * Reads the text of a `.env` file. A byte order mark at its start is dropped, once; every line end counts as `\n`.
 *
 * @param environment the variables of the process, which `${NAME}` falls back to; only own properties count
 * @throws {DotenvError} when references multiply a value beyond 128 Mi characters
 *
 * ```ts
 * import { parseDotenv } from "./dotenv.ts";
 * const { entries } = parseDotenv("export HOST=db # inner\nURL='http://${HOST}:${PORT:-80}'", {});
 * if (entries.get("URL") !== "http://db:80") throw new Error();
 * ```
 */
export function parseDotenv(text: string, environment: Readonly<Record<string, string>>): Dotenv {
  return evaluate(text, environment);
}

/**
 * Reads a `.env` file (a named pipe will do).
 *
 * @param environment as for {@linkcode parseDotenv}
 * @throws {Deno.errors.NotFound} when there is no such file: whether that matters is the caller's to say
 * @throws {DotenvError} when it can't be opened, is not UTF-8, or holds what no environment can hold
 */
export function readDotenv(path: string, environment: Readonly<Record<string, string>>): Dotenv {
  const dotenv = evaluate(decode(readBytes(path), path), environment, path);
  const { entries, lines } = dotenv;
  for (const [key, value] of entries) {
    if (value === null) continue;
    const where = `${path}, line ${lines.get(key)}`;
    if (key.includes("=")) {
      throw new DotenvError(`Cannot use ${where}: the name of a variable can't contain "="; rename it.`);
    }
    if (key.includes("\0") || value.includes("\0")) {
      throw new DotenvError(`Cannot use ${where}: an environment can't hold a NUL character; remove it.`);
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
      : isFolder(path)
      ? "it is a folder; name a file"
      : systemReason(error);
    throw new DotenvError(`Cannot read ${path}: ${reason}.`);
  }
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false; // this only chooses the words for a failure already known
  }
}

/** Strict, and leaves a byte order mark to the parser: a decoder of the default kind would hide a second one. */
function decode(bytes: Uint8Array, path: string): string {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(bytes);
  } catch {
    let line = 1;
    for (let start = 0; start < bytes.length; line++) {
      const newline = bytes.indexOf(0x0a, start);
      const end = newline < 0 ? bytes.length : newline + 1;
      try {
        decoder.decode(bytes.subarray(start, end)); // no character of several bytes contains a newline byte
      } catch {
        break;
      }
      start = end;
    }
    throw new DotenvError(`Cannot read ${path}: line ${line} is not UTF-8; save the file as UTF-8.`);
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

function readStatement(text: string, start: number): Statement {
  let at = start;
  const fail = (): Statement => ({ key: null, value: null, end: lineEnd(text, at), readable: false });

  const afterExport = start + "export".length;
  if (text.startsWith("export", start) && isBlank(text.charCodeAt(afterExport))) {
    at = skipBlanks(text, afterExport);
  }

  let key: string | null = null;
  if (text[at] === "'") {
    const close = text.indexOf("'", at + 1);
    if (close <= at + 1) return fail(); // never closed, or empty
    key = text.slice(at + 1, close);
    at = close + 1;
  } else if (text[at] !== "#") {
    const from = at;
    while (at < text.length && !endsKey(text.charCodeAt(at))) at++;
    if (at === from) return fail();
    key = text.slice(from, at);
  }

  let value: string | null = null;
  at = skipBlanks(text, at);
  if (text[at] === "=") {
    at = skipBlanks(text, at + 1);
    const quote = text[at];
    if (quote === "'" || quote === '"') {
      const close = closingQuote(text, at);
      if (close < 0) return fail();
      value = unescape(text.slice(at + 1, close), quote);
      at = close + 1;
    } else {
      const end = lineEnd(text, at);
      value = withoutComment(text.slice(at, end));
      at = end;
    }
  }

  at = skipBlanks(text, at);
  if (text[at] === "#") at = lineEnd(text, at);
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

const ESCAPES: Record<string, string> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

function unescape(value: string, quote: "'" | '"'): string {
  const escape = quote === "'" ? /\\[\\']/g : /\\[\\'"abfnrtv]/g;
  return value.replace(escape, (pair) => ESCAPES[pair.charAt(1)] ?? pair.charAt(1));
}

function withoutComment(part: string): string {
  let end = part.length;
  for (let at = part.indexOf("#", 1); at >= 0; at = part.indexOf("#", at + 1)) {
    if (isSpace(part.charCodeAt(at - 1))) {
      end = at;
      break;
    }
  }
  while (end > 0 && isSpace(part.charCodeAt(end - 1))) end--;
  return part.slice(0, end);
}

function endsKey(code: number): boolean {
  return code === 0x3d /* = */ || code === 0x23 /* # */ || isSpace(code);
}

function lineEnd(text: string, at: number): number {
  const newline = text.indexOf("\n", at);
  return newline < 0 ? text.length : newline;
}

function skipBlanks(text: string, at: number): number {
  while (isBlank(text.charCodeAt(at))) at++;
  return at;
}

/** White space that doesn't end the line. */
function isBlank(code: number): boolean {
  return code !== 0x0a && isSpace(code);
}

/** White space as Python sees it: with U+001C-U+001F and U+0085, without U+FEFF. */
function isSpace(code: number): boolean {
  if (code <= 0x20) return code === 0x20 || (code >= 0x09 && code <= 0x0d) || code >= 0x1c;
  if (code < 0x1680) return code === 0x85 || code === 0xa0;
  return code === 0x1680 || (code >= 0x2000 && code <= 0x200a) || code === 0x2028 || code === 0x2029 ||
    code === 0x202f || code === 0x205f || code === 0x3000;
}

// --- Meaning --------------------------------------------------------------------------------------------------

/** Far above what any system lets into an environment, and below what a string can hold. */
const LONGEST_VALUE = 2 ** 27;

function evaluate(text: string, environment: Readonly<Record<string, string>>, path?: string): Dotenv {
  if (text.startsWith("\ufeff")) text = text.slice(1);
  if (text.includes("\r")) text = text.replace(/\r\n?/g, "\n");

  const evaluated: Dotenv = { entries: new Map(), skipped: [], lines: new Map() };
  const { entries, skipped, lines } = evaluated;
  const lookUp = (name: string, fallback: string): string => {
    // A key without "=" hides the process's variable of that name, and takes no default.
    if (entries.has(name)) return entries.get(name) ?? "";
    return (Object.hasOwn(environment, name) ? environment[name] : undefined) ?? fallback;
  };

  let line = 1;
  for (let at = 0; at < text.length;) {
    const code = text.charCodeAt(at);
    if (isSpace(code)) {
      if (code === 0x0a) line++;
      at++;
      continue;
    }
    const { key, value, end, readable } = readStatement(text, at);
    if (!readable) skipped.push(line);
    if (key !== null) {
      const result = value === null ? null : interpolate(value, lookUp);
      if (result === undefined) {
        const where = path === undefined ? `line ${line}` : `${path}, line ${line}`;
        throw new DotenvError(`Cannot use ${where}: its references make a value of over 128 Mi characters.`);
      }
      entries.set(key, result);
      lines.set(key, line);
    }
    for (let newline = text.indexOf("\n", at); newline >= 0 && newline < end;) {
      line++;
      newline = text.indexOf("\n", newline + 1);
    }
    at = end;
  }
  return evaluated;
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
    if (colon < name) colon = indexOrEnd(value, ":", name);
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

function indexOrEnd(text: string, wanted: string, from: number): number {
  const index = text.indexOf(wanted, from);
  return index < 0 ? text.length : index;
}
