/**
 * The one error that is a user's to mend. Imports nothing, so that everything may throw it.
 *
 * @module
 */

/** A fault the user can mend: its message is one or two plain sentences (what, where, how). */
export class UserError extends Error {
  override name = "UserError";
}
