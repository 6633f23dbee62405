/**
 * What a run is made of, and how it changes while it runs.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import { loadServices } from "../config/file.ts";
import type { Launch } from "../config/launch.ts";
import { portOf, prepareLaunch } from "../config/launch.ts";
import type { ServiceSnapshot } from "../supervisor/model.ts";
import { isAtRest } from "../supervisor/model.ts";
import { planStart, withDependents } from "../supervisor/plan.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { Change } from "./protocol.ts";
import type { RunContext } from "./run_options.ts";

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
 * @param launched what the process of a service was started with; `null`: it has none
 * @param launch works out what a service would be started with now; what it throws ends the comparison
 */
export function planReload(
  present: readonly Service[],
  services: readonly Service[],
  launched: (name: string) => Launch | null,
  launch: (service: Service) => Launch,
): Change[] {
  const byName = new Map(present.map((service) => [service.name, service]));
  const names = new Set(services.map(({ name }) => name));
  const gone = present.filter(({ name }) => !names.has(name));
  const changes = services.map((service): Change => {
    const { name } = service;
    const before = byName.get(name);
    const after = service.kind === "external" ? null : launch(service);
    if (before === undefined) return { name, action: "start", because: [] };
    const old = launched(name);
    const hasProcess = old !== null && after !== null;
    const fields = changedKeys(before, service);
    const variables = hasProcess ? changedKeys(old.environment, after.environment) : [];
    // A program or folder that moved without the definition saying so: another Python, a variable in a path.
    const isMoved = hasProcess && changedKeys(programOf(old), programOf(after)).length > 0;
    const restart = variables.length > 0 || isMoved || fields.some((field) => !OF_SUPERVISION.has(field));
    const because = [...fields, ...variables, ...(isMoved && fields.length === 0 ? ["command"] : [])];
    return { name, action: restart ? "restart" : "unchanged", because };
  });
  return [...changes, ...gone.map(({ name }) => ({ name, action: "stop", because: [] } as const))];
}

function programOf({ program, args, cwd }: Launch) {
  return { program, args, cwd };
}

function changedKeys(before: object, after: object): string[] {
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].filter((key) =>
    JSON.stringify(Reflect.get(before, key)) !== JSON.stringify(Reflect.get(after, key))
  );
}

/** Changes in words, a line a service. */
export function describeChanges(changes: readonly Change[]): string[] {
  const widest = Math.max(0, ...changes.map(({ name }) => name.length));
  return changes.map(({ name, action, because }) => {
    const why = because.length > 0 ? `  (${because.join(", ")})` : "";
    return `${name.padEnd(widest)}  ${action}${why}`;
  });
}

/** The services of a run, by what was asked for and where they are defined. */
export class Definitions {
  readonly #run: RunContext;
  #asked: readonly string[];
  #known: readonly Service[];

  constructor(run: RunContext) {
    this.#run = run;
    this.#asked = run.names;
    this.#known = run.known;
  }

  /**
   * Starts services, also such as the run did not have so far, with what they need.
   *
   * @returns the names of all that it takes
   * @throws {UserError} for a name that is not defined, and while everything is being stopped
   */
  start(names: readonly string[]): string[] {
    const { supervisor } = this.#run;
    supervisor.refuseWhenStopping();
    const wanted = planStart(this.#known, names).services.map(({ name }) => name);
    const present = new Set(supervisor.services.map(({ name }) => name));
    if (wanted.some((name) => !present.has(name))) {
      const before = this.#asked.length > 0
        ? this.#asked
        : this.#known.filter(({ autostart }) => autostart).map(({ name }) => name);
      this.#asked = [...before, ...names];
      supervisor.replace(this.#chosen(this.#known), new Set());
    }
    supervisor.setDesired(names, "running");
    return wanted;
  }

  /**
   * Restarts services.
   *
   * @returns the names of all that are restarted
   * @throws {UserError} for a name that is not part of the run, and while everything is being stopped
   */
  restart(names: readonly string[], more: { dependents: boolean; dependencies: boolean }): string[] {
    const { supervisor } = this.#run;
    supervisor.refuseWhenStopping();
    const { services } = supervisor;
    const before = rowsOf(supervisor);
    supervisor.setDesired(names, "running"); // what they need has to run, or they would wait for it
    const chosen = new Set(names);
    if (more.dependencies) {
      for (const { name } of planStart(services, names).services) chosen.add(name);
    }
    const rows = rowsOf(supervisor);
    if (more.dependents) {
      for (const name of withDependents(services, [...chosen])) {
        if (rows.get(name)?.state.kind !== "stopped") chosen.add(name);
      }
    }
    for (const name of chosen) {
      const [old, row] = [before.get(name), rows.get(name)];
      const isBegun = old !== undefined && isAtRest(old.state) && row?.state !== old.state; // it had ended
      if (row?.kind !== "external" && !isBegun) supervisor.setDesired([name], "restarted");
    }
    return [...chosen];
  }

  /**
   * Reads the file and `.env` again and carries out what changed.
   *
   * @param dryRun whether to change nothing
   * @throws {UserError} when one of them has mistakes; then nothing changes
   */
  async reload(dryRun: boolean): Promise<Change[]> {
    const { supervisor, options } = this.#run;
    const { home } = supervisor;
    supervisor.refuseWhenStopping();
    const known = options.services === undefined ? await loadServices(home, options.config) : this.#known;
    const environment = supervisor.readEnvironment();
    const services = this.#chosen(known);
    for (const service of services) portOf(service, environment);
    const changes = planReload(
      supervisor.services,
      services,
      (name) => supervisor.launchOf(name),
      (service) => prepareLaunch(service, environment, home),
    );
    if (dryRun) return changes;
    for (const line of describeChanges(changes)) supervisor.log("info", `reload: ${line}`);
    const restarted = changes.filter(({ action }) => action === "restart").map(({ name }) => name);
    supervisor.replace(services, new Set(restarted));
    this.#known = known;
    return changes;
  }

  /** The services of the run among those that are known. What was asked for by name may be gone from the file. */
  #chosen(known: readonly Service[]): readonly Service[] {
    const asked = this.#asked.filter((name) => known.some((service) => service.name === name));
    return this.#asked.length > 0 && asked.length === 0 ? [] : planStart(known, asked).services;
  }
}

function rowsOf(supervisor: Supervisor): ReadonlyMap<string, ServiceSnapshot> {
  return new Map(supervisor.snapshot().services.map((row) => [row.name, row]));
}
