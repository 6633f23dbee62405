/**
 * Which services a run has, dependencies first. Nothing is started here.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import { didYouMean, unknownName } from "../config/suggest.ts";

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
  const order: Service[] = [];
  const mark = new Map<string, "open" | "done">();
  for (const root of services.filter(({ name }) => wanted.has(name))) {
    // An explicit stack: a chain of ten thousand services must not overflow the engine's.
    const path: { service: Service; next: number }[] = [];
    const enter = (service: Service) => {
      mark.set(service.name, "open");
      path.push({ service, next: 0 });
    };
    if (!mark.has(root.name)) enter(root);
    for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
      const needed = top.service.dependencies[top.next++];
      if (needed === undefined) {
        mark.set(top.service.name, "done");
        order.push(top.service);
        path.pop();
      } else if (mark.get(needed) === "open") {
        const open = path.map(({ service }) => service.name);
        const cycle = [...open.slice(open.indexOf(needed)), needed].join(" -> ");
        throw new UserError(
          `Cannot plan a start: the dependencies ${cycle} form a cycle; remove one of them.`,
        );
      } else if (!mark.has(needed)) {
        enter(byName.get(needed)!);
      }
    }
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
