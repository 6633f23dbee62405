/**
 * The errors that users can fix, and words for their messages: lists, quotes, the closest known word. Imports nothing,
 * so that everything may throw them.
 *
 * @module
 */

/** An error that a user can fix: its message is one or two plain sentences (what, where, how). */
export class UserError extends Error {
  override name = "UserError";
}

/** Why the system refused something, in its own words: without its number, and what `fetch` says of the request. */
export function systemReason(error: Error): string {
  const { message } = error.cause instanceof Error ? error.cause : error;
  return message.replace(/^.*client error \(\w+\): /s, "").replace(/( \(os error|\n).*/s, "");
}

/** Problems that are shown of one file. */
export const MAX_SHOWN = 50;

/** What is wrong with a services file: each problem is one line that begins with `file:line:column`. */
export class ServicesFileError extends UserError {
  constructor(readonly problems: readonly string[]) {
    const more = problems.length - MAX_SHOWN;
    super(
      [...problems.slice(0, MAX_SHOWN), ...(more > 0 ? [`... and ${more} more errors`] : [])].join("\n"),
    );
  }
}

/** `a, b or c`. */
export const orList = (words: readonly string[]) => words.join(", ").replace(/, ([^,]*)$/, " or $1");

/** What stands in a file, for a message: shortened, without a URL's password, unable to steer a terminal. */
export function quote(value: unknown): string {
  const text = String(value).replace(/\/\/[^/\s@]*@/g, "//***@");
  const short = text.length > 60 ? `${text.slice(0, 60)}...` : text;
  return typeof value === "string" ? printable(JSON.stringify(short)) : short;
}

/** A text with its control and format characters as escapes. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\u2028\u2029]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`);
}

// --- Misspelt words -------------------------------------------------------------------------------------------

/** Names the candidate most like a misspelt word, to follow a sentence; empty when none is near. */
export function didYouMean(word: string, candidates: Iterable<string>, show = quote): string {
  const guess = closest(word, candidates);
  return guess === null ? "" : `; did you mean ${show(guess)}?`;
}

/** The error of naming a service that does not exist. */
export function unknownName(name: string, names: readonly string[]): UserError {
  const hint = didYouMean(name, names) || ".";
  return new UserError(`There is no service "${name}"${hint} The services are ${names.join(", ")}.`);
}

/** The service of that name. @throws {UserError} when there is none */
export function serviceNamed<S extends { name: string }>(name: string, services: readonly S[]): S {
  const service = services.find((candidate) => candidate.name === name);
  if (service === undefined) throw unknownName(name, services.map((candidate) => candidate.name));
  return service;
}

/**
 * The candidate most like a misspelt word, or null when none is near: case, `-` and `_` do not count, and one
 * letter too many, too few, wrong or swapped with its neighbour is one step.
 */
export function closest(word: string, candidates: Iterable<string>): string | null {
  const wanted = folded(word);
  if (!wanted || wanted.length > 100) return null;
  const limit = wanted.length < 4 ? 1 : wanted.length < 8 ? 2 : 3;
  let best: string | null = null, bestSteps = limit + 1;
  for (const candidate of candidates) {
    const steps = stepsBetween(wanted, folded(candidate), bestSteps);
    if (steps < bestSteps) [best, bestSteps] = [candidate, steps];
  }
  return best;
}

const folded = (word: string) => word.toLowerCase().replace(/[\s_-]/g, "");

/**
 * Damerau-Levenshtein distance of neighbours, given up (as `limit`) once it can't stay below `limit`. Swapped letters are
 * the commonest slip, and count as two steps in @std/text.
 */
function stepsBetween(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  const at = (row: readonly number[], index: number) => row[index] ?? Infinity;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const kept = Math.min(at(next, j - 1) + 1, at(row, j) + 1, at(row, j - 1) + (same ? 0 : 1));
      next[j] = swapped ? Math.min(kept, at(before, j - 2) + 1) : kept;
    }
    if (Math.min(...next) >= limit) return limit;
    [before, row] = [row, next];
  }
  return Math.min(at(row, b.length), limit);
}
