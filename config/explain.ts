/**
 * Explains a service's environment: where each variable comes from and what it hides. Values are masked.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import type { Dotenv } from "./dotenv.ts";
import { printable } from "./errors.ts";
import { referencesIn } from "./launch.ts";
import { maskValue } from "./secrets.ts";
import type { Environment } from "./settings.ts";

export interface EnvironmentSources {
  service: Service;
  /** The environment of this process. */
  process: Environment;
  /** What the env file says, or `null` without one. */
  dotenv: Pick<Dotenv, "entries" | "lines"> | null;
  envFile: string;
  /** The environment the service gets in the end. */
  final: Environment;
}

/**
 * The variables of a service as text: first those that someone set for it, then those of the process, each by name and
 * followed by what it hides and what it refers to in vain. At the end what is required and not set.
 */
export function explainEnvironment(sources: EnvironmentSources): string {
  const { service, final } = sources;
  const variables = Object.keys(final).sort().map((name) => explainVariable(name, sources));
  const missing = service.envRequired.filter((name) => !own(final, name));
  return [
    ...variables.filter(({ place }) => place !== "process").flatMap(({ lines }) => lines),
    ...variables.filter(({ place }) => place === "process").flatMap(({ lines }) => lines),
    ...missing.map((name) => `${name} is required by "${service.name}" and not set`),
  ].join("\n");
}

function explainVariable(
  name: string,
  { service, process, dotenv, envFile, final }: EnvironmentSources,
): { place: string; lines: string[] } {
  const value = own(final, name) ?? "";
  const written = own(service.environment, name);
  const inherited = [
    { value: dotenv?.entries.get(name), from: envFile, place: `${envFile}:${dotenv?.lines.get(name)}` },
    { value: own(process, name), from: "process", place: "process" },
  ].flatMap(({ value, ...source }) => typeof value === "string" ? [{ value, ...source }] : []);
  const [nearest, ...farther] = inherited;
  const isInherited = written === undefined && nearest?.value === value;
  const place = isInherited ? nearest.place : written === undefined ? "orchestrator" : "services file";
  const hidden = isInherited ? farther : inherited;
  const shown = (value: string) => {
    const masked = maskValue(name, value);
    return printable(masked) === masked ? masked : printable(JSON.stringify(masked));
  };
  const unset = referencesIn(written ?? "").filter((word) =>
    word !== "PORT" && own(final, word) === undefined
  );
  return {
    place,
    lines: [
      `${name}=${shown(value)}  (${place})`,
      ...hidden.map(({ value, from }) => `    hides ${shown(value)}  (${from})`),
      ...unset.map((word) => `    \${${word}} is not set (expands to an empty string)`),
    ],
  };
}

const own = (values: Environment, name: string) => Object.hasOwn(values, name) ? values[name] : undefined;
