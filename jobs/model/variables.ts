/**
 * Settings from variables, for engine and worker alike.
 *
 * @module
 */

import { DURATION_FORMS, spanOf } from "../../config/duration.ts";

const FLAGS = new Map<string, boolean>([
  ...["true", "1", "yes", "on", "y", "enabled"].map((word) => [word, true] as const),
  ...["false", "0", "no", "off", "n", "disabled"].map((word) => [word, false] as const),
]);

/**
 * Reads variables and gathers what is wrong with them, so that a user can correct all in one go. A variable that is
 * empty is not set, and gives the fallback. Values may be secrets: no problem shows one.
 */
export class VariableReader {
  /** One sentence for each variable that cannot be used. */
  readonly problems: string[] = [];

  constructor(readonly environment: Readonly<Record<string, string | undefined>>) {}

  /**
   * A variable of any form.
   *
   * @param must what it must be, after these words
   * @param parse undefined: it cannot be used
   */
  parsed<T, F>(name: string, fallback: F, must: string, parse: (text: string) => T | undefined): T | F {
    const text = this.environment[name]?.trim();
    if (!text) return fallback;
    const value = parse(text);
    if (value !== undefined) return value;
    this.problems.push(`${name} must be ${must}.`);
    return fallback;
  }

  text<F>(name: string, fallback: F): string | F {
    return this.environment[name]?.trim() || fallback;
  }

  whole<F>(name: string, fallback: F, least: number, most = Infinity): number | F {
    const range = most === Infinity ? `number of at least ${least}` : `number from ${least} to ${most}`;
    return this.parsed(name, fallback, `a whole ${range}`, (text) => {
      const value = Number(text);
      return Number.isInteger(value) && value >= least && value <= most ? value : undefined;
    });
  }

  /** Milliseconds. */
  duration(name: string, fallbackSeconds: number, mostMs = 1e12): number {
    return this.parsed(name, fallbackSeconds * 1000, DURATION_FORMS, (text) => {
      const spanMs = spanOf(text);
      return spanMs !== null && spanMs <= mostMs ? spanMs : undefined;
    });
  }

  flag(name: string, fallback: boolean): boolean {
    return this.parsed(name, fallback, "true or false", (text) => FLAGS.get(text.toLowerCase()));
  }

  /** One of a few words, in any case. */
  choice<T extends string>(name: string, fallback: T, choices: readonly T[]): T {
    return this.parsed(
      name,
      fallback,
      `one of ${choices.join(", ")}`,
      (text) => choices.find((word) => word.toLowerCase() === text.toLowerCase()),
    );
  }
}
