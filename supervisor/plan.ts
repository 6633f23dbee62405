/**
 * Which services a run has, dependencies first. Nothing is started here.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import { didYouMean, unknownName, UserError } from "../config/errors.ts";
import { inOrder } from "../config/graph.ts";

/** What a run will do. */
export interface Plan {
  /** In starting order: dependencies first, otherwise as defined. */
  services: readonly Service[];
  /** Services nobody named, each with one that needs it. */
  added: readonly { name: string; neededBy: string }[];
}

/**
 * Orders the asked services and adds what they depend on.
 *
 * @param asked names; empty means every service with `autostart`
 * @throws {UserError} for a name or dependency that does not exist (with the closest one), and for a cycle
 */
export function planStart(services: readonly Service[], asked: readonly string[]): Plan {
  const byName = new Map(services.map((service) => [service.name, service]));
  const roots = asked.length > 0
    ? asked
    : services.filter((service) => service.autostart).map(({ name }) => name);
  const names = [...byName.keys()];
  for (const name of asked) if (!byName.has(name)) throw unknownName(name, names);
  const wanted = new Set(roots);
  const added: { name: string; neededBy: string }[] = [];
  for (const name of wanted) { // a Set hands out what is added while it is walked
    for (const needed of byName.get(name)!.dependencies) {
      if (!byName.has(needed)) {
        const hint = didYouMean(needed, names) || ".";
        throw new UserError(
          `Cannot plan a start: "${name}" depends on "${needed}", which is not defined${hint}`,
        );
      }
      if (!wanted.has(needed)) added.push({ name: needed, neededBy: name });
      wanted.add(needed);
    }
  }
  const { order, cycles: [cycle] } = inOrder(
    services.filter(({ name }) => wanted.has(name)),
    ({ dependencies }) => dependencies.map((name) => byName.get(name)!),
  );
  if (cycle !== undefined) {
    const shown = cycle.map(({ name }) => name).join(" -> ");
    throw new UserError(`Cannot plan a start: the dependencies ${shown} form a cycle; remove one of them.`);
  }
  return { services: order, added };
}

/** The services that need `name` directly. */
export function dependentsOf(services: readonly Service[], name: string): Service[] {
  return services.filter((service) => service.dependencies.includes(name));
}

/** `names` and all that need them, however far. */
export function withDependents(services: readonly Service[], names: readonly string[]): Set<string> {
  const all = new Set(names);
  for (const name of all) for (const dependent of dependentsOf(services, name)) all.add(dependent.name);
  return all;
}
