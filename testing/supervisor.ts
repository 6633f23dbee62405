/**
 * A supervisor with real processes in a test's own folder.
 *
 * @module
 */

import { defineServices } from "../config/definition.ts";
import { findHome } from "../config/settings.ts";
import type { Event, ServiceSnapshot, ServiceState } from "../supervisor/model.ts";
import { planStart } from "../supervisor/plan.ts";
import { Supervisor } from "../supervisor/supervisor.ts";
import type { ManualClock } from "./clock.ts";
import type { Folder } from "./run.ts";
import { LIMIT_MS, processesWith, waitUntil } from "./run.ts";
import { decoder } from "../config/bytes.ts";

/** A supervisor inside this process, and its events. */
export class Inside implements AsyncDisposable {
  readonly events: Event[] = [];
  readonly supervisor: Supervisor;
  readonly #clock: ManualClock | null;
  #happened = Promise.withResolvers<void>();

  /** @param options a manual clock stands still unless the test moves it; until the end, when it runs */
  constructor(
    folder: Folder,
    definitions: Parameters<typeof defineServices>[0],
    options: { clock?: ManualClock; random?: () => number } = {},
  ) {
    const home = findHome({ infrastructure: folder.path });
    this.#clock = options.clock ?? null;
    this.supervisor = new Supervisor(planStart(defineServices(definitions), []).services, home, options);
    this.supervisor.listen({
      event: (event) => {
        this.events.push(event);
        this.#happened.resolve();
        this.#happened = Promise.withResolvers();
      },
    });
    this.supervisor.start();
  }

  row(name: string): ServiceSnapshot {
    return this.supervisor.snapshot(1_000).services.find((row) => row.name === name)!;
  }

  state(name: string): ServiceState {
    return this.row(name).state;
  }

  /** The states a service came into, in order. */
  states(name: string): string[] {
    return this.changes(name).map(({ row }) => row.state.kind);
  }

  changes(name: string) {
    return this.events.filter((event) => event.kind === "state").filter(({ row }) => row.name === name);
  }

  /** Every change of every service, as `name state`. */
  get story(): string[] {
    return this.events.filter((event) => event.kind === "state").map(({ row }) =>
      `${row.name} ${row.state.kind}`
    );
  }

  get notices(): string[] {
    return this.events.filter((event) => event.kind === "log").map(({ message: text }) => text);
  }

  text(name: string): string {
    return this.events.filter((event) => event.kind === "output").filter(({ service }) => service === name)
      .map(({ lines }) => decoder.decode(lines)).join("");
  }

  /** Waits until an event makes `check` true. */
  async until(check: () => boolean, what: string): Promise<void> {
    const lateAt = performance.now() + LIMIT_MS;
    while (!check()) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, lateAt - performance.now()));
      await Promise.race([this.#happened.promise, late]);
      clearTimeout(timer);
      if (performance.now() > lateAt) {
        throw new Error(`Waited and not yet: ${what}:\n${this.story.join("\n")}`);
      }
    }
  }

  /** Waits until a service is in a state. */
  async is<Kind extends ServiceState["kind"]>(
    name: string,
    kind: Kind,
  ): Promise<ServiceState & { kind: Kind }> {
    await this.until(() => this.state(name).kind === kind, `${name} is ${kind}`);
    return this.state(name) as ServiceState & { kind: Kind };
  }

  /** Waits until a service came into a state for the `nth` time. */
  async was(name: string, kind: ServiceState["kind"], nth = 1): Promise<void> {
    const count = () => this.states(name).filter((state) => state === kind).length;
    await this.until(() => count() >= nth, `${name} was ${kind} ${nth} times`);
  }

  processes() {
    return processesWith(`ORCHESTRATOR_RUN=${this.supervisor.run}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const killed = this.supervisor.kill();
    await (this.#clock?.passUntil(killed) ?? killed);
    await waitUntil(() => this.processes().length === 0, "all of it is gone", 5_000);
  }
}
