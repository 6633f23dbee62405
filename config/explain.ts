/**
 * Explains a service's environment: where each variable comes from and what it hides.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import type { Dotenv } from "./dotenv.ts";
import { maskValue } from "./secrets.ts";
import type { Environment } from "./settings.ts";

/** Where a value comes from; later ones hide earlier ones. */
export type Origin = "process" | "env file" | "orchestrator" | "services file";

/** One variable of a service. Values are masked. */
export interface Explained {
  name: string;
  value: string;
  from: Origin;
  /** The values of the same variable that this one hides, the nearest first. */
  hides: { value: string; from: Origin }[];
  /** The line of the env file that sets it, where that is known and it does. */
  line: number | null;
  /** `${NAME}` references of the service's own value that are not set anywhere. */
  unset: string[];
}

/** What an explanation is made from. */
export interface EnvironmentSources {
  service: Service;
  /** The environment of this process. */
  process: Environment;
  /** The `.env` file as read, or null without one; `lines` tells on which line a variable is set. */
  dotenv: Pick<Dotenv, "entries"> & { lines?: ReadonlyMap<string, number> } | null;
  /** The environment the service gets in the end. */
  final: Environment;
}

/** Every variable of a service: first those that someone set for it, then those of the process; each by name. */
export function explainEnvironment({ service, process, dotenv, final }: EnvironmentSources): Explained[] {
  const own = (values: Environment, name: string) => Object.hasOwn(values, name) ? values[name] : undefined;
  const explained = Object.entries(final).map(([name, value]): Explained => {
    const inFile = dotenv?.entries.get(name) ?? undefined;
    const written = own(service.environment, name);
    const below: { value: string | undefined; from: Origin }[] = [
      { value: inFile, from: "env file" },
      { value: own(process, name), from: "process" },
    ];
    const known = below.findIndex((layer) => layer.value !== undefined);
    const nearest = below[known];
    const from = written !== undefined
      ? "services file"
      : nearest?.value === value
      ? nearest.from
      : "orchestrator";
    const hidden = below.slice(from === "services file" || from === "orchestrator" ? 0 : known + 1);
    return {
      name,
      value: maskValue(name, value),
      from,
      hides: hidden.flatMap(({ value, from }) =>
        value === undefined ? [] : [{ value: maskValue(name, value), from }]
      ),
      line: from === "env file" ? dotenv?.lines?.get(name) ?? null : null,
      unset: referencesIn(written ?? "").filter((word) => word !== "PORT" && own(final, word) === undefined),
    };
  });
  const rank = ({ from }: Explained) => from === "process" ? 1 : 0;
  return explained.sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

/** The names that a text refers to as `${NAME}`, each once. */
export function referencesIn(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g), ([, name = ""]) => name))];
}

/** An explanation as text, one variable a line, followed by what it hides. */
export function environmentText(service: Service, explained: readonly Explained[], envFile: string): string {
  const origin = (from: Origin, line: number | null = null) =>
    from === "env file" ? `${envFile}${line === null ? "" : `:${line}`}` : from;
  const lines = explained.flatMap(({ name, value, from, hides, line, unset }) => [
    `${name}=${oneLine(value)}  (${origin(from, line)})`,
    ...hides.map((hidden) => `    hides ${oneLine(hidden.value)}  (${origin(hidden.from)})`),
    ...unset.map((word) => `    \${${word}} is not set (expands to an empty string)`),
  ]);
  const missing = service.envRequired.filter((name) =>
    !explained.some((one) => one.name === name && one.value)
  );
  return [...lines, ...missing.map((name) => `${name} is required by "${service.name}" and not set`)].join(
    "\n",
  );
}

/** Control characters would let a value steer the terminal. */
function oneLine(value: string): string {
  return /[\p{C}\u2028\u2029]/u.test(value)
    ? JSON.stringify(value).replace(/[\p{C}\u2028\u2029]/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`)
    : value;
}
