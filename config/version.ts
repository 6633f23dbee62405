/**
 * The version of this program.
 *
 * @module
 */

/** The version that `--version` tells. */
export const VERSION = "1.0.0";
