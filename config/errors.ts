/**
 * The one error that is a user's to mend. Imports nothing, so that everything may throw it.
 *
 * @module
 */

// 1. Types
// What a definition may say. Spans are milliseconds here; a services file says them in seconds or as `1h30m`.

/** A fault the user can mend: its message is one or two plain sentences (what, where, how). */
export class UserError extends Error {
  override name = "UserError";
}
