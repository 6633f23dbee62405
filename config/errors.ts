/**
 * The errors that users can fix. Imports nothing, so that everything may throw them.
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
