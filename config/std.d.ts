// Types for the few functions used of `npm:deno-std`, which ships the code of @std without its types.
// Every import of it points here with `@ts-types`.

/** @std/cli/parse-args */
export function parseArgs(args: readonly string[], options?: {
  boolean?: readonly string[];
  string?: readonly string[];
  collect?: readonly string[];
  alias?: Record<string, string | readonly string[]>;
  default?: Record<string, unknown>;
  unknown?: (name: string, key?: string, value?: unknown) => unknown;
  // deno-lint-ignore no-explicit-any
}): any;

/** @std/fmt/colors */
export function setColorEnabled(value: boolean): void;
export function bold(text: string): string;
export function red(text: string): string;
export function green(text: string): string;
export function yellow(text: string): string;
export function blue(text: string): string;
export function magenta(text: string): string;
export function cyan(text: string): string;
export function gray(text: string): string;
export function inverse(text: string): string;

/** @std/toml/parse */
export function parse(text: string): Record<string, unknown>;

/** @std/assert */
export function assert(condition: unknown, message?: string): asserts condition;
export function assertEquals<T>(actual: T, expected: T, message?: string): void;
export function assertMatch(actual: string, expected: RegExp, message?: string): void;
export function assertNotMatch(actual: string, expected: RegExp, message?: string): void;
export function assertStringIncludes(actual: string, expected: string, message?: string): void;
export function assertGreater<T>(actual: T, expected: T, message?: string): void;
export function assertGreaterOrEqual<T>(actual: T, expected: T, message?: string): void;
export function assertLess<T>(actual: T, expected: T, message?: string): void;
// deno-lint-ignore no-explicit-any
type Class<E> = new (...args: any[]) => E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  type?: Class<E>,
  includes?: string,
): E;
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  type?: Class<E>,
  includes?: string,
): Promise<E>;
