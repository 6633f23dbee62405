/**
 * What a run is made of, and how it changes while it runs: the plan of a reload is worked out first and then carried
 * out.
 *
 * @module
 */

import type { Desired } from "../supervisor/lifecycle.ts";
import type { Home } from "../config/settings.ts";
import type { Launch } from "../config/launch.ts";
import { loadServices } from "../config/file.ts";
import { planStart, withDependents } from "../supervisor/plan.ts";
import { portOf, prepareLaunch } from "../config/launch.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";

import type { Service } from "../config/definition.ts";
import type { Change } from "./protocol.ts";

/** What a reload does. */
export interface ReloadPlan {
  changes: readonly Change[];
  /** The services that the run has afterwards, in starting order. */
  services: readonly Service[];
}

/** A service of a run as it is before a reload. */
export interface Present {
  service: Service;
  /** What its process was started with; `null`: it has none. */
  launch: Launch | null;
}

/** Fields that the process itself does not notice: they hold from now on without a restart. */
const OF_SUPERVISION: ReadonlySet<string> = new Set<keyof Service>([
  "title",
  "dependencies",
  "restartPolicy",
  "maxRetries",
  "retryWindowMs",
  "retryDelayMs",
  "retryDelayMaxMs",
  "timeoutStartMs",
  "timeoutStopMs",
  "stopSignal",
  "critical",
  "restartWithDependencies",
  "autostart",
]);

/**
 * Compares what runs with what should run.
 *
 * @param launch works out what a service would be started with now; what it throws ends the comparison
 */
export function planReload(
  present: ReadonlyMap<string, Present>,
  services: readonly Service[],
  launch: (service: Service) => Launch,
): ReloadPlan {
  const names = new Set(services.map(({ name }) => name));
  const changes: Change[] = services.map((service) => {
    const { name } = service;
    const before = present.get(name);
    const after = service.kind === "external" ? null : launch(service);
    if (before === undefined) return { name, action: "start", because: [] };
    const fields = changedKeys(before.service, service);
    const variables = before.launch === null || after === null
      ? []
      : changedKeys(before.launch.environment, after.environment);
    // A program or folder that moved without the definition saying so: another Python, a variable in a path.
    const moved = before.launch !== null && after !== null &&
      JSON.stringify([before.launch.program, before.launch.args, before.launch.cwd]) !==
        JSON.stringify([after.program, after.args, after.cwd]);
    const restart = variables.length > 0 || moved || fields.some((field) => !OF_SUPERVISION.has(field));
    const because = [...fields, ...variables, ...(moved && fields.length === 0 ? ["command"] : [])];
    return { name, action: restart ? "restart" : "unchanged", because };
  });
  const gone = [...present.keys()].filter((name) => !names.has(name));
  return {
    changes: [...changes, ...gone.map((name) => ({ name, action: "stop" as const, because: [] }))],
    services,
  };
}

function changedKeys(before: object, after: object): string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].filter((key) =>
    JSON.stringify(Reflect.get(before, key)) !== JSON.stringify(Reflect.get(after, key))
  );
}

/** A plan in words, a line a service. */
export function describePlan(plan: Pick<ReloadPlan, "changes">): string[] {
  const widest = Math.max(0, ...plan.changes.map(({ name }) => name.length));
  return plan.changes.map(({ name, action, because }) => {
    const why = because.length > 0 ? `  (${because.join(", ")})` : "";
    return `${name.padEnd(widest)}  ${action}${why}`;
  });
}

/** The services of a run, by what was asked for and where they are defined. */
export class Definitions {
  readonly #supervisor: Supervisor;
  readonly #config: string | undefined;
  readonly #fixed: boolean;
  #asked: readonly string[];
  #known: readonly Service[];

  /**
   * @param asked the names that were asked for; empty means all with `autostart`
   * @param known every service of the file
   * @param source the file named by the user; `fixed`: they come from no file at all
   */
  constructor(
    supervisor: Supervisor,
    asked: readonly string[],
    known: readonly Service[],
    source: { config: string | undefined; fixed: boolean },
  ) {
    this.#supervisor = supervisor;
    this.#asked = asked;
    this.#known = known;
    this.#config = source.config;
    this.#fixed = source.fixed;
  }

  /**
   * Starts services, also such as the run did not have so far, with what they need.
   *
   * @returns the names of all that it takes
   * @throws {UserError} for a name that is not defined, and while everything is being stopped
   */
  start(names: readonly string[]): string[] {
    this.#supervisor.refuseWhenStopping();
    const wanted = planStart(this.#known, names).services.map(({ name }) => name);
    const present = new Set(this.#supervisor.services.map(({ name }) => name));
    if (wanted.some((name) => !present.has(name))) {
      this.#asked = [...this.#roots(this.#known), ...names];
      this.#supervisor.replace(planStart(this.#known, this.#asked).services, new Set());
    }
    this.#supervisor.setDesired(names, "running");
    return wanted;
  }

  /**
   * Restarts services.
   *
   * @returns the names of all that are restarted
   * @throws {UserError} for a name that is not part of the run, and while everything is being stopped
   */
  restart(names: readonly string[], more: { dependents: boolean; dependencies: boolean }): string[] {
    this.#supervisor.refuseWhenStopping();
    const { services } = this.#supervisor;
    const up = (name: string, desired: Desired) => this.#supervisor.setDesired([name], desired);
    this.#supervisor.setDesired(names, "running"); // what they need has to run, or they would wait for it
    const chosen = new Set(names);
    if (more.dependencies) {
      for (const { name } of planStart(services, names).services) chosen.add(name);
    }
    if (more.dependents) {
      const resting = new Set(
        this.#supervisor.snapshot().services.filter(({ state }) => state.kind === "stopped").map(({ name }) =>
          name
        ),
      );
      for (const name of withDependents(services, [...chosen])) if (!resting.has(name)) chosen.add(name);
    }
    for (const name of chosen) {
      if (services.find((s) => s.name === name)?.kind !== "external") up(name, "restarted");
    }
    return [...chosen];
  }

  /**
   * Reads the file and `.env` again and compares.
   *
   * @throws {UserError} when one of them has mistakes; then nothing changes
   */
  async plan(): Promise<ReloadPlan & { known: readonly Service[] }> {
    this.#supervisor.refuseWhenStopping();
    const home: Home = this.#supervisor.home;
    const known = this.#fixed ? this.#known : await loadServices(home, this.#config);
    const environment = this.#supervisor.readEnvironment();
    // What was asked for by name may be gone from the file: then it is stopped.
    const asked = this.#asked.filter((name) => known.some((service) => service.name === name));
    const services = this.#asked.length > 0 && asked.length === 0 ? [] : planStart(known, asked).services;
    for (const service of services) portOf(service, environment);
    const present = new Map(
      this.#supervisor.services.map((service) => [
        service.name,
        { service, launch: this.#supervisor.launchOf(service.name) },
      ]),
    );
    return {
      ...planReload(present, services, (service) => prepareLaunch(service, environment, home)),
      known,
    };
  }

  /** Carries a plan out. @throws {UserError} while everything is being stopped */
  carryOut(plan: ReloadPlan & { known: readonly Service[] }): void {
    this.#supervisor.refuseWhenStopping();
    this.#known = plan.known;
    const restarted = plan.changes.filter(({ action }) => action === "restart").map(({ name }) => name);
    this.#supervisor.replace(plan.services, new Set(restarted));
  }

  /** The names asked for, spelt out. */
  #roots(known: readonly Service[]): readonly string[] {
    if (this.#asked.length > 0) return this.#asked;
    return known.filter(({ autostart }) => autostart).map(({ name }) => name);
  }
}
