/**
 * The only mutable map of services: carries out what `plan` and `lifecycle` decide; views get it as events.
 *
 * @module
 */

import type { Clock } from "../config/clock.ts";
import { systemClock } from "../config/clock.ts";
import type { Service } from "../config/definition.ts";
import { unknownName, UserError } from "../config/errors.ts";
import type { Launch } from "../config/launch.ts";
import type { Level } from "../config/levels.ts";
import type { Environment, Home } from "../config/settings.ts";
import { readEnvironment } from "../config/settings.ts";
import { Guard } from "../process/guard.ts";
import { describeHolder, isPortFree } from "../process/ports.ts";
import { Attempt } from "./attempt.ts";
import { Listeners } from "./events.ts";
import type { Desired } from "./lifecycle.ts";
import { isFinished, nextWake, reconcile, satisfies, step } from "./lifecycle.ts";
import { ManagedService } from "./managed_service.ts";
import type { Listener, RunResult, ServiceSnapshot, ServiceState, Snapshot, Trigger } from "./model.ts";
import { isAtRest } from "./model.ts";
import { planStart, withDependents } from "./plan.ts";

/** What a supervisor may be given besides its services. */
export interface SupervisorOptions {
  /** Whether a panel is drawn on standard output, which the guard gives back if this process can't. */
  terminal?: boolean;
  clock?: Clock;
  /** Numbers from 0 to 1, for the jitter of retries. */
  random?: () => number;
  /** The mark that the children of this run carry in `ORCHESTRATOR_RUN`. */
  run?: string;
}

/** How long starting may hold back the answer to a signal or a line of output. */
const TURN_MS = 15;

/** Keeps services as their definitions and its user want them. */
export class Supervisor {
  readonly home: Home;
  /** The mark that the children of this run carry. */
  readonly run: string;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #services = new Map<string, ManagedService>();
  readonly #dependents = new Map<string, string[]>();
  readonly #listeners = new Listeners();
  readonly #guard: Guard;
  /** Services that were taken out of the run and are not at rest yet. */
  #leaving: ReadonlySet<string> = new Set();
  /** As read for the starts of one turn. */
  #environment: Environment | null = null;
  readonly #finished = Promise.withResolvers<RunResult>();
  readonly #remaining: string[] = [];
  #failedService: ServiceSnapshot | null = null;
  #phase: "running" | "stopping" | "ended" = "running";
  /** `now`: a turn is on its way; otherwise cancels the next one, if one is due. */
  #turn: (() => void) | "now" | null = null;
  /** The next moment at which time alone changes a state, or an earlier one. */
  #wakeAt = Infinity;
  #timer = { at: Infinity, cancel: () => {} };

  /** @param services in starting order, as `planStart` returns them */
  constructor(services: readonly Service[], home: Home, options: SupervisorOptions = {}) {
    const { terminal = false, clock = systemClock, random = Math.random } = options;
    this.home = home;
    this.run = options.run ?? crypto.randomUUID();
    this.#clock = clock;
    this.#random = random;
    for (const service of services) this.#keep(new ManagedService(service));
    const longest = Math.max(0, ...services.map(({ timeoutStopMs }) => timeoutStopMs));
    this.#guard = new Guard(this.run, { graceMs: Math.min(longest, 10_000), terminal, clock });
  }

  /** How the run ended, once it has. */
  get finished(): Promise<RunResult> {
    return this.#finished.promise;
  }

  /** Whether everything is being stopped, or is. */
  get stopping(): boolean {
    return this.#phase !== "running";
  }

  /** The services, in starting order. */
  get services(): Service[] {
    return Array.from(this.#services.values(), ({ service }) => service);
  }

  /** Begins to start services. */
  start(): void {
    this.#guard.open();
    this.#settle();
  }

  /** Adds a listener; the result removes it. */
  listen(listener: Listener): () => void {
    return this.#listeners.add(listener);
  }

  /** All services now. @param recent how many of each one's last lines */
  snapshot(recent = 0): Snapshot {
    return {
      at: this.#clock.now(),
      stopping: this.stopping,
      services: Array.from(this.#services.values(), (managed) => managed.snapshot(recent)),
    };
  }

  /** What the running process of a service was started with, or `null` when it has none. */
  launchOf(name: string): Launch | null {
    return this.#services.get(name)?.attempt?.launch ?? null;
  }

  /** The last lines of a service, oldest first. */
  tail(name: string, count: number): string[] {
    return this.#services.get(name)?.tail.last(count) ?? [];
  }

  /**
   * Sets what is wanted of services: `running` starts them and what they need, `stopped` stops them and what needs
   * them, `restarted` restarts just these.
   *
   * @throws {UserError} for a name that is not part of this run, and while everything is being stopped
   */
  setDesired(names: readonly string[], desired: Desired): void {
    for (const name of names) {
      if (!this.#services.has(name)) throw unknownName(name, [...this.#services.keys()]);
    }
    this.refuseWhenStopping();
    const chosen = desired === "stopped"
      ? withDependents(this.services, names)
      : desired === "running"
      ? planStart(this.services, names).services.map(({ name }) => name)
      : names;
    for (const name of chosen) {
      const managed = this.#services.get(name);
      if (managed === undefined) continue;
      const { state, service } = managed;
      const hasEnded = state.kind === "stopped" || state.kind === "crashed" || state.kind === "failed" ||
        (state.kind === "stopping" && state.then.kind === "stopped");
      const isDone = service.kind === "task" && satisfies(state, service, this.#clock.now());
      const restarts = desired === "running" && hasEnded && (!isDone || names.includes(name));
      managed.desired = restarts ? "restarted" : desired;
    }
    this.#settle();
  }

  /**
   * Takes over new definitions: what is gone is stopped, what is new is started, what changed is restarted.
   *
   * @param services in starting order
   * @param changed names whose processes have to be restarted
   * @throws {UserError} while everything is being stopped
   */
  replace(services: readonly Service[], changed: ReadonlySet<string>): void {
    this.refuseWhenStopping();
    const before = [...this.#services.keys()].join();
    const gone = new Map(this.#services);
    this.#services.clear();
    this.#dependents.clear();
    for (const service of services) {
      const { name } = service;
      const managed = gone.get(name) ?? new ManagedService(service);
      managed.service = service;
      if (this.#leaving.has(name) || (changed.has(name) && managed.desired === "running" && gone.has(name))) {
        managed.desired = "restarted";
      }
      gone.delete(name);
      this.#keep(managed);
    }
    for (const managed of gone.values()) {
      managed.desired = "stopped";
      this.#keep(managed); // it leaves when it is at rest, see #settle
    }
    this.#leaving = new Set(gone.keys());
    if ([...this.#services.keys()].join() !== before) this.#servicesChanged();
    this.#settle();
  }

  /** Stops everything in order and ends the run. Asking again changes nothing. */
  close(): Promise<RunResult> {
    if (this.#phase === "running") {
      this.#phase = "stopping";
      for (const managed of this.#services.values()) managed.desired = "stopped";
      this.#settle();
    }
    return this.finished;
  }

  /** Kills everything that runs, now. */
  kill(): Promise<RunResult> {
    const finished = this.close();
    for (const managed of this.#services.values()) this.#send(managed, { kind: "kill" });
    return finished;
  }

  /** Writes a message to every listener. */
  log(level: Level, message: string): void {
    this.#listeners.event({ kind: "log", time: this.#clock.wall(), level, message });
  }

  /** The environment of whatever is started now, with this run's mark: by it the guard finds what it does not know. */
  readEnvironment(): Environment {
    return { ...readEnvironment(this.home).environment, ORCHESTRATOR_RUN: this.run };
  }

  /** @throws {UserError} while everything is being stopped */
  refuseWhenStopping(): void {
    if (this.#phase === "running") return;
    throw new UserError("Everything is being stopped; wait for it, then start the orchestrator again.");
  }

  #servicesChanged(): void {
    this.#listeners.event({ kind: "services", time: this.#clock.wall(), services: this.snapshot().services });
  }

  #keep(managed: ManagedService): void {
    const { name, dependencies } = managed.service;
    this.#services.set(name, managed);
    this.#wakeBy(managed);
    for (const needed of dependencies) {
      this.#dependents.set(needed, [...this.#dependents.get(needed) ?? [], name]);
    }
  }

  /** Something happened to a service from outside of `#settle`. */
  #send(managed: ManagedService, trigger: Trigger): void {
    this.#apply(managed, trigger);
    this.#settle();
  }

  #apply(managed: ManagedService, trigger: Trigger): void {
    const from = managed.state;
    const { state, effects } = step(from, trigger, this.#clock.now(), managed.service, this.#random());
    if (trigger.kind === "restart" && isAtRest(from)) managed.desired = "running";
    if (state === from && effects.length === 0) return;
    managed.become(state, () => this.#attempt(managed));
    this.#wakeBy(managed);
    if (state.kind !== from.kind) this.#entered(managed, from);
    for (const effect of effects) {
      if (effect.kind === "spawn") managed.attempt?.spawn();
      else managed.attempt?.signal(effect.signal);
    }
  }

  #attempt(managed: ManagedService): Attempt {
    const { service } = managed;
    return new Attempt(service, {
      home: this.home,
      clock: this.#clock,
      guard: this.#guard,
      environment: () => this.#environment ??= this.readEnvironment(),
    }, {
      trigger: (trigger) => this.#send(managed, trigger),
      output: (stream, lines) => {
        managed.tail.push(lines);
        const time = this.#clock.wall();
        this.#listeners.event({ kind: "output", time, service: service.name, stream, lines });
      },
      backpressure: () => this.#listeners.backpressure(),
      warn: (message) => this.log("warn", message),
      // The system itself may hold a process, or it became another user: the stop of all must end nevertheless.
      survivedKill: (pid) => {
        if (!this.stopping) return;
        this.#remaining.push(`PID ${pid} of "${service.name}" still runs: SIGKILL does not end it.`);
        this.#send(managed, { kind: "groupEmpty" });
      },
    });
  }

  /** A service came into another state: its attempt goes on with that, and the others may have to follow. */
  #entered(managed: ManagedService, from: ServiceState): void {
    const { service, state, attempt } = managed;
    const [time, at] = [this.#clock.wall(), this.#clock.now()];
    this.#listeners.event({ kind: "state", time, at, row: managed.snapshot(0), from });
    if (state.kind === "starting" && service.kind === "external") attempt?.awaitReady();
    if (state.kind === "stopping") attempt?.drain();
    if (state.kind === "running") {
      attempt?.watchLiveness();
      if (state.restarts > 0) this.#restartDependents(service.name);
    }
    const hasFailed = state.kind === "crashed" || state.kind === "failed";
    if (hasFailed && service.critical && this.#phase === "running") {
      this.#failedService = managed.snapshot(0);
      this.close();
    }
  }

  #restartDependents(name: string): void {
    for (const dependent of this.#dependents.get(name) ?? []) {
      const managed = this.#services.get(dependent);
      if (managed === undefined || !managed.service.restartWithDependencies) continue;
      if (!isAtRest(managed.state) && managed.desired === "running") managed.desired = "restarted";
    }
  }

  /** Performs whatever is due, a turn at a time, so that signals and output are heard in between. */
  #settle(): void {
    if (this.#phase === "ended" || this.#turn === "now") return;
    this.#turn?.();
    this.#turn = "now";
    const turnEndsAt = this.#clock.now() + TURN_MS;
    for (let due = this.#due(); due.length > 0; due = this.#due()) {
      for (const { name, trigger } of due) {
        const managed = this.#services.get(name);
        // What came before in this round may have changed what is wanted.
        if (managed === undefined || (trigger.kind === "start" && managed.desired !== "running")) break;
        this.#apply(managed, trigger);
        if (this.#clock.now() > turnEndsAt) {
          this.#awaitWake();
          this.#turn = this.#clock.wake(0, () => {
            this.#turn = null;
            this.#settle();
          });
          return;
        }
      }
    }
    this.#turn = null;
    this.#awaitWake();
    for (const name of this.#leaving) {
      const state = this.#services.get(name)?.state;
      if (state === undefined || !isAtRest(state)) continue;
      this.#services.delete(name);
      this.#servicesChanged();
    }
    if (!isFinished(this.#services)) return;
    const all = [...this.#services.values()];
    const isHeld = all.some(({ desired }) => desired === "stopped") && this.#phase === "running";
    if (!isHeld) this.#end(all);
  }

  #due(): { name: string; trigger: Trigger }[] {
    return reconcile(this.#services, this.#dependents, this.#clock.now());
  }

  #wakeBy({ state, service }: ManagedService): void {
    this.#wakeAt = Math.min(this.#wakeAt, nextWake(state, service, this.#clock.now()));
  }

  /** Sets the timer: at the end of a turn, because the runtime's first timer is slow. */
  #awaitWake(): void {
    this.#environment = null;
    if (this.#wakeAt === this.#timer.at) return;
    this.#timer.cancel();
    const ms = Math.max(0, this.#wakeAt - this.#clock.now());
    const cancel = ms === Infinity ? () => {} : this.#clock.wake(ms, () => this.#wake());
    this.#timer = { at: this.#wakeAt, cancel };
  }

  #wake(): void {
    const now = this.#clock.now();
    this.#wakeAt = this.#timer.at = Infinity;
    for (const managed of this.#services.values()) {
      if (nextWake(managed.state, managed.service, now) <= now) this.#apply(managed, { kind: "wake" });
      else this.#wakeBy(managed);
    }
    this.#settle();
  }

  /** Everything is at rest: the run ends. */
  async #end(managed: readonly ManagedService[]): Promise<void> {
    this.#phase = "ended";
    this.#timer.cancel();
    for (const { attempt } of managed) attempt?.[Symbol.dispose](); // of external services
    const result = await endOfRun(managed, this.#failedService, this.#remaining, this.#clock);
    await this.#guard.close();
    this.#finished.resolve(result);
  }
}

/** How long the last connections of a server may keep its port after its end. */
const RELEASE_MS = 1_000;

/** Waits until a port is free. @returns whether it is */
async function isReleased(port: number, clock: Clock): Promise<boolean> {
  for (const lateAt = clock.now() + RELEASE_MS; !isPortFree(port); await clock.sleep(50)) {
    if (clock.now() >= lateAt) return false;
  }
  return true;
}

/** The result of a run whose services are all at rest. @param remaining what is known to be left already */
async function endOfRun(
  services: readonly ManagedService[],
  failedService: ServiceSnapshot | null,
  remaining: readonly string[],
  clock: Clock,
): Promise<RunResult> {
  const left = [...remaining];
  for (const { service: { kind, name }, port, state } of services) {
    // Without an exit nothing of it has run.
    if (port === null || kind === "external" || state.lastExit === null) continue;
    if (!await isReleased(port, clock)) {
      left.push(`Port ${port} of "${name}" is still taken${describeHolder(port)}.`);
    }
  }
  const hasFailed = services.some(({ state: { kind }, desired }) =>
    kind === "crashed" || kind === "failed" || (kind === "pending" && desired === "running")
  );
  const isAsked = failedService === null && services.some(({ desired }) => desired === "stopped");
  const isBad = left.length > 0 || failedService !== null || (hasFailed && !isAsked);
  return { status: isBad ? 1 : 0, failedService, remaining: left };
}
