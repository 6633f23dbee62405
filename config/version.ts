/** The version of this program, as `--version` shows it. */
export const VERSION = "1.0.0";
