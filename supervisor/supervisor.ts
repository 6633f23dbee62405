/**
 * The only mutable map of services: performs what `plan` and `lifecycle` say; views hear of it as events.
 *
 * @module
 */

import { decoder } from "../config/bytes.ts";
import type { Health, Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import type { Level } from "../config/levels.ts";
import type { Launch } from "../config/launch.ts";
import { prepareLaunch, serviceEnvironment } from "../config/launch.ts";
import type { Environment, Home } from "../config/settings.ts";
import { readEnvironment } from "../config/settings.ts";
import { unknownName } from "../config/suggest.ts";
import { startChild } from "../process/child.ts";
import { now, sleep } from "../process/clock.ts";
import { signalGroup } from "../process/group.ts";
import { Guard } from "../process/guard.ts";
import { Tail } from "../process/lines.ts";
import { describeHolder, isPortFree } from "../process/ports.ts";
import type { ProbeTarget } from "../process/probe.ts";
import { runProbe } from "../process/probe.ts";
import type { Desired, Managed } from "./lifecycle.ts";
import {
  INITIAL,
  isFinished,
  nextWake,
  readyByTime,
  reconcile,
  satisfies,
  SETTLED_MS,
  step,
} from "./lifecycle.ts";
import type {
  Event,
  Listener,
  RunResult,
  ServiceSnapshot,
  ServiceState,
  Snapshot,
  Trigger,
} from "./model.ts";
import type { Stream } from "../process/child.ts";
import { isAtRest } from "./model.ts";
import { planStart, withDependents } from "./plan.ts";

interface Entry extends Managed {
  tail: Tail;
  /** What its present or last process was started with. */
  launch: Launch | null;
  /** See `Child`. */
  drain: () => void;
  timer: ReturnType<typeof setTimeout> | undefined;
  /** Runs after SIGKILL. */
  killTimer: ReturnType<typeof setTimeout> | undefined;
  /** Ends the probes of the present state. */
  watch: AbortController | null;
  /** Set while readiness is told by a line of output. */
  awaitsLine: RegExp | null;
}

/** How long after SIGKILL a process that is still there is given up when all is being stopped. */
const GIVE_UP_MS = 5_000;

/** How long starting may hold back the answer to a signal or a line of output. */
const TURN_MS = 15;

/** Keeps services as their definitions and the desires of its user say. */
export class Supervisor {
  readonly home: Home;
  readonly #entries = new Map<string, Entry>();
  readonly #dependents = new Map<string, string[]>();
  readonly #listeners = new Set<Listener>();
  readonly #run = crypto.randomUUID();
  readonly #guard: Guard;
  readonly #unarmed = new Set<Entry>();
  /** As read for the starts of one turn. */
  #environment: Environment | null = null;
  readonly #finished = Promise.withResolvers<RunResult>();
  readonly #remaining: string[] = [];
  #failedService: ServiceSnapshot | null = null;
  #phase: "running" | "stopping" | "ended" = "running";
  #settling: ReturnType<typeof setTimeout> | "now" | null = null;

  /**
   * @param services in starting order, as `planStart` returns them
   * @param options whether a panel is drawn on standard output, which the guard gives back if this process can't
   */
  constructor(services: readonly Service[], home: Home, { terminal = false }: { terminal?: boolean } = {}) {
    this.home = home;
    for (const service of services) this.#add(service, "running");
    const longest = Math.max(0, ...services.map(({ timeoutStopMs }) => timeoutStopMs));
    this.#guard = new Guard(this.#run, { graceMs: Math.min(longest, 10_000), terminal });
  }

  /** How the run ended, once it has. */
  get finished(): Promise<RunResult> {
    return this.#finished.promise;
  }

  /** Whether everything is being stopped, or is. */
  get stopping(): boolean {
    return this.#phase !== "running";
  }

  /** The mark that the children of this run carry. */
  get run(): string {
    return this.#run;
  }

  /** The services, in starting order. */
  get services(): Service[] {
    return [...this.#entries.values()].map(({ service }) => service);
  }

  /** Begins to start services. */
  start(): void {
    this.#guard.open();
    this.#settle();
  }

  /** Adds a listener; the result removes it. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** All services now. @param recent how many of each one's last lines */
  snapshot(recent = 0): Snapshot {
    return {
      at: now(),
      stopping: this.stopping,
      services: [...this.#entries.values()].map((entry) => this.#row(entry, recent)),
    };
  }

  /** What the running process of a service was started with, or `null` when it has none. */
  launchOf(name: string): Launch | null {
    const entry = this.#entries.get(name);
    return entry === undefined || isAtRest(entry.state) ? null : entry.launch;
  }

  /** The last lines of a service, oldest first. */
  tail(name: string, count: number): string[] {
    return this.#entries.get(name)?.tail.last(count) ?? [];
  }

  /**
   * Says what is wanted of services: `up` starts them and what they need, `down` stops them and what needs them,
   * `again` restarts just these.
   *
   * @throws {UserError} for a name that is not part of this run
   */
  setDesired(names: readonly string[], desired: Desired): void {
    for (const name of names) {
      if (!this.#entries.has(name)) throw unknownName(name, [...this.#entries.keys()]);
    }
    this.#refuseWhenClosing();
    const chosen = desired === "stopped"
      ? withDependents(this.services, names)
      : desired === "running"
      ? new Set(planStart(this.services, names).services.map(({ name }) => name))
      : new Set(names);
    for (const name of chosen) {
      const entry = this.#entries.get(name)!;
      const ended = entry.state.kind === "stopped" || entry.state.kind === "crashed" ||
        entry.state.kind === "failed" ||
        (entry.state.kind === "stopping" && entry.state.then.kind === "stopped");
      const done = entry.service.kind === "task" && satisfies(entry.state, entry.service, now());
      entry.desired = desired === "running" && ended && (!done || names.includes(name))
        ? "restarted"
        : desired;
    }
    this.#settle();
  }

  /**
   * Takes over new definitions: what is gone is stopped, what is new is started, what changed is restarted.
   *
   * @param services in starting order
   * @param changed names whose processes have to be started anew
   * @throws {UserError} while everything is being stopped
   */
  replace(services: readonly Service[], changed: ReadonlySet<string>): void {
    this.#refuseWhenClosing();
    const names = new Set(services.map(({ name }) => name));
    const gone = [...this.#entries.keys()].filter((name) => !names.has(name));
    const old = new Map(this.#entries);
    this.#entries.clear();
    this.#dependents.clear();
    for (const service of services) {
      const entry = old.get(service.name);
      if (entry === undefined) {
        this.#add(service, "running");
        continue;
      }
      entry.service = service;
      const back = this.#leaving.has(service.name); // it was on its way out
      if (back || (changed.has(service.name) && entry.desired === "running")) entry.desired = "restarted";
      this.#keep(entry);
    }
    for (const name of gone) {
      const entry = old.get(name)!;
      entry.desired = "stopped";
      this.#keep(entry); // it leaves when it is at rest, see #settle
    }
    this.#leaving = new Set(gone);
    this.#settle();
  }
  #leaving: ReadonlySet<string> = new Set();

  /** Stops everything in order and ends the run. Asking again changes nothing. */
  close(): Promise<RunResult> {
    if (this.#phase === "running") {
      this.#phase = "stopping";
      for (const entry of this.#entries.values()) entry.desired = "stopped";
      this.#settle();
    }
    return this.finished;
  }

  /** Kills everything that runs, now. */
  kill(): Promise<RunResult> {
    const finished = this.close();
    for (const name of this.#entries.keys()) this.#send(name, { kind: "kill" });
    return finished;
  }

  /** Tells every listener something in words. */
  log(level: Level, text: string): void {
    this.#emit({ kind: "log", time: Date.now(), level, message: text });
  }

  #refuseWhenClosing(): void {
    if (this.#phase === "running") return;
    throw new UserError("Everything is being stopped; wait for that, then start the orchestrator again.");
  }

  #add(service: Service, desired: Desired): void {
    const state = INITIAL;
    const tail = new Tail();
    this.#keep({
      service,
      state,
      desired,
      tail,
      launch: null,
      drain() {},
      timer: undefined,
      killTimer: undefined,
      watch: null,
      awaitsLine: null,
    });
  }

  #keep(entry: Entry): void {
    this.#entries.set(entry.service.name, entry);
    for (const needed of entry.service.dependencies) {
      this.#dependents.set(needed, [...this.#dependents.get(needed) ?? [], entry.service.name]);
    }
  }

  #row({ service, state, launch, tail }: Entry, recent: number): ServiceSnapshot {
    const { name, title, kind, maxRetries } = service;
    const port = launch?.port ?? service.port;
    return { name, title, kind, port, maxRetries, state, recent: recent === 0 ? [] : tail.last(recent) };
  }

  #emit(event: Event): void {
    for (const listener of this.#listeners) listener.event(event);
  }

  /** Something happened to a service from outside of `#settle`. */
  #send(name: string, trigger: Trigger): void {
    this.#apply(name, trigger);
    this.#settle();
  }

  #apply(name: string, trigger: Trigger): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    const from = entry.state;
    const { state, effects } = step(from, trigger, now(), entry.service, Math.random());
    if (trigger.kind === "restart" && isAtRest(from)) entry.desired = "running";
    if (state === from && effects.length === 0) return;
    entry.state = state;
    this.#unarmed.add(entry);
    if (state.kind !== from.kind) this.#turned(entry, from);
    for (const effect of effects) {
      if (effect.kind === "spawn") this.#spawn(entry);
      else if (state.kind === "stopping") {
        signalGroup(state.pid, effect.signal);
        if (effect.signal === "SIGKILL") this.#giveUpOn(entry, state.pid);
      }
    }
  }

  /** Sets the alarms of services that changed: at the end of a turn, because the runtime's first timer is slow. */
  #arm(): void {
    this.#environment = null;
    for (const entry of this.#unarmed) {
      clearTimeout(entry.timer);
      const wakeAt = nextWake(entry.state, entry.service);
      if (wakeAt === null || wakeAt === Infinity) continue;
      const inMs = Math.min(Math.max(0, Math.ceil(wakeAt - now())), 2 ** 31 - 1);
      entry.timer = setTimeout(() => this.#send(entry.service.name, { kind: "wake" }), inMs);
    }
    this.#unarmed.clear();
  }

  /** The system itself may hold a process, or it became another user: the stop of all must end nevertheless. */
  #giveUpOn(entry: Entry, pid: number): void {
    clearTimeout(entry.killTimer);
    entry.killTimer = setTimeout(() => {
      if (entry.state.kind !== "stopping" || entry.state.pid !== pid) return;
      if (!this.stopping) return this.#giveUpOn(entry, pid);
      this.#remaining.push(`PID ${pid} of "${entry.service.name}" still runs: SIGKILL does not end it.`);
      this.#send(entry.service.name, { kind: "groupEmpty" });
    }, GIVE_UP_MS);
  }

  /** A service came into another state: what watches it changes, and the others may have to be told. */
  #turned(entry: Entry, from: ServiceState): void {
    const { service, state } = entry;
    entry.watch?.abort();
    entry.watch = null;
    entry.awaitsLine = null;
    this.#emit({ kind: "state", time: Date.now(), at: now(), row: this.#row(entry, 0), from });
    if (state.kind === "starting" && service.kind === "external") this.#watch(entry);
    if (state.kind === "stopping") entry.drain();
    if (state.kind === "running") {
      if (service.health !== null && service.kind === "service") this.#watch(entry);
      if (state.restarts > 0) {
        for (const name of this.#dependents.get(service.name) ?? []) {
          const other = this.#entries.get(name)!;
          if (
            other.service.restartWithDependencies && !isAtRest(other.state) && other.desired === "running"
          ) {
            other.desired = "restarted";
          }
        }
      }
    }
    if (
      (state.kind === "crashed" || state.kind === "failed") && service.critical && this.#phase === "running"
    ) {
      this.#failedService = this.#row(entry, 0);
      this.close();
    }
  }

  #spawn(entry: Entry): void {
    const { service } = entry;
    const { name } = service;
    const refused = (why: string): Trigger => ({ kind: "spawnFailed", reason: `could not start: ${why}` });
    try {
      this.#environment ??= this.readEnvironment();
      const launch = prepareLaunch(service, this.#environment, this.home);
      entry.launch = launch;
      if (launch.port !== null && !isPortFree(launch.port)) {
        const holder = describeHolder(launch.port);
        const advice = `stop that or give "${name}" another port`;
        return this.#apply(name, refused(`port ${launch.port} is taken${holder}; ${advice}`));
      }
      const { pid, drain: hurry } = startChild(launch, {
        lines: (stream, lines) => this.#output(entry, stream, lines),
        backpressure: () => this.#room(),
        exited: (exit, groupAlive) => {
          if (!groupAlive) this.#guard.drop(pid);
          this.#send(name, { kind: "exited", exit, groupAlive });
        },
        groupEmpty: () => {
          this.#guard.drop(pid);
          this.#send(name, { kind: "groupEmpty" });
        },
      });
      entry.drain = hurry;
      this.#guard.add(pid);
      this.#apply(name, { kind: "spawned", pid });
      if (entry.state.kind === "starting") this.#watch(entry);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#apply(name, refused(error.message.replace(/^Cannot start .*?: /, "").replace(/\.$/, "")));
    }
  }

  #output(entry: Entry, stream: Stream, lines: Uint8Array): void {
    entry.tail.push(lines);
    this.#emit({ kind: "output", time: Date.now(), service: entry.service.name, stream, lines });
    if (
      entry.awaitsLine !== null &&
      decoder.decode(lines).split("\n").some((line) => entry.awaitsLine!.test(line))
    ) {
      this.#send(entry.service.name, { kind: "ready" });
    }
  }

  #room(): Promise<void> | null {
    let all: Promise<unknown> | null = null;
    for (const listener of this.#listeners) {
      const room = listener.backpressure?.();
      if (room) all = all === null ? room : Promise.all([all, room]);
    }
    return all === null ? null : all.then(() => {});
  }

  /** Looks after a service in its present state: for readiness while it starts, for liveness once it runs. */
  #watch(entry: Entry): void {
    const { service: { health }, state, launch } = entry;
    const port = launch?.port ?? null;
    entry.watch = new AbortController();
    if (health?.probe.kind === "log") {
      if (state.kind === "starting") entry.awaitsLine = new RegExp(health.probe.pattern);
      return;
    }
    const probe = health?.probe ?? (port === null ? null : { kind: "tcp" as const, port: String(port) });
    if (probe === null) {
      // Its port variable is not set and has no default: nothing but time can tell, as with a service without a port.
      const { signal } = entry.watch;
      const ready = () => signal.aborted || this.#send(entry.service.name, { kind: "ready" });
      if (state.kind === "starting" && !readyByTime(entry.service)) sleep(SETTLED_MS, signal).then(ready);
      return;
    }
    const target = this.#target(entry);
    const { signal } = entry.watch;
    const once = () => runProbe(probe, target, health?.timeoutMs ?? 1_000, signal);
    if (state.kind === "starting") this.#awaitReady(entry, once, signal);
    else if (health !== null) this.#watchLiveness(entry, health, once, signal);
  }

  async #awaitReady(
    { service }: Entry,
    once: () => Promise<string | null>,
    signal: AbortSignal,
  ): Promise<void> {
    // A port is cheap to ask: often at first. A health check costs its service work.
    const [firstMs, lastMs] = service.health === null ? [5, 100] : [100, 1_000];
    for (let pauseMs = firstMs; !signal.aborted; pauseMs = Math.min(pauseMs * 1.5, lastMs)) {
      const fault = await once();
      if (signal.aborted) return;
      if (fault === null) return this.#send(service.name, { kind: "ready" });
      await sleep(pauseMs, signal);
    }
  }

  async #watchLiveness(
    { service: { name } }: Entry,
    health: Health,
    once: () => Promise<string | null>,
    signal: AbortSignal,
  ): Promise<void> {
    for (let faults = 0;;) {
      await sleep(health.intervalMs, signal);
      const fault = signal.aborted ? null : await once();
      if (signal.aborted) return;
      faults = fault === null ? 0 : faults + 1;
      if (fault === null) continue;
      this.log("warn", `${name} is unhealthy (${faults} of ${health.retries}): ${fault}`);
      if (faults < health.retries) continue;
      return this.#send(name, {
        kind: "unhealthy",
        reason: `failed its health check ${faults} times: ${fault}`,
      });
    }
  }

  #target({ service, launch }: Entry): ProbeTarget {
    const { infrastructure } = this.home;
    // An external service has no start that its environment was made for.
    const environment = launch?.environment ??
      serviceEnvironment(service, this.readEnvironment(), this.home);
    const port = launch?.port ?? service.port;
    return {
      infrastructure,
      cwd: launch?.cwd ?? infrastructure,
      environment: { ...environment, ...port === null ? {} : { PORT: String(port) } },
    };
  }

  /** The environment of whatever is started now, with this run's mark: by it the guard finds what it was not told of. */
  readEnvironment(): Environment {
    return { ...readEnvironment(this.home).environment, ORCHESTRATOR_RUN: this.#run };
  }

  /** Performs whatever is due, a turn at a time, so that signals and output are heard in between. */
  #settle(): void {
    if (this.#phase === "ended" || this.#settling === "now") return;
    if (this.#settling !== null) clearTimeout(this.#settling);
    this.#settling = "now";
    const turnEndsAt = now() + TURN_MS;
    for (let due = this.#due(); due.length > 0; due = this.#due()) {
      for (const { name, trigger } of due) {
        // What came before in this round may have changed what is wanted.
        if (trigger.kind === "start" && this.#entries.get(name)?.desired !== "running") break;
        this.#apply(name, trigger);
        if (now() > turnEndsAt) {
          this.#arm();
          this.#settling = setTimeout(() => {
            this.#settling = null;
            this.#settle();
          });
          return;
        }
      }
    }
    this.#settling = null;
    this.#arm();
    for (const name of this.#leaving) {
      const state = this.#entries.get(name)?.state;
      if (state !== undefined && isAtRest(state)) this.#entries.delete(name);
    }
    const idle = isFinished(this.#entries);
    const heldByUser = [...this.#entries.values()].some(({ desired }) => desired === "stopped");
    if (idle && (this.#phase === "stopping" || !heldByUser)) {
      this.#phase = "ended";
      this.#conclude();
    }
  }

  #due(): { name: string; trigger: Trigger }[] {
    return reconcile(this.#entries, this.#dependents, now());
  }

  /** Everything is at rest: makes sure of it and says how the run ended. */
  async #conclude(): Promise<void> {
    const entries = [...this.#entries.values()];
    const remaining = this.#remaining;
    for (const { service, launch, state } of entries) {
      const port = launch?.port ?? null;
      if (port === null || service.kind === "external" || state.lastExit === null) continue;
      for (let tries = 0; !isPortFree(port); tries++) {
        if (tries === 20) {
          remaining.push(`Port ${port} of "${service.name}" is still taken${describeHolder(port)}.`);
          break;
        }
        await sleep(50); // the last connections of a server that just ended
      }
    }
    await this.#guard.close();
    for (const entry of entries) {
      clearTimeout(entry.timer);
      clearTimeout(entry.killTimer);
      entry.watch?.abort();
    }
    const failed = entries.some(({ state, desired }) =>
      state.kind === "crashed" || state.kind === "failed" ||
      (state.kind === "pending" && desired === "running")
    );
    const asked = this.#failedService === null && entries.some(({ desired }) => desired === "stopped");
    const status = remaining.length > 0 || this.#failedService !== null || (failed && !asked) ? 1 : 0;
    this.#finished.resolve({ status, failedService: this.#failedService, remaining });
  }
}
