/**
 * The errors that users can fix, and words for their messages. Imports nothing, so that everything may throw them.
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
