/**
 * One try to run a service, from its start until nothing of it runs any more, and all that belongs to it: what it was
 * started with, its process, its probes, the line it is ready by, the time that SIGKILL is given. It ends with the
 * states that own it and leaves nothing to reset.
 *
 * @module
 */

import { decoder } from "../config/bytes.ts";
import type { Clock } from "../config/clock.ts";
import type { Health, Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import type { Launch } from "../config/launch.ts";
import { prepareLaunch, serviceEnvironment } from "../config/launch.ts";
import type { Environment, Home } from "../config/settings.ts";
import type { Child, Stream } from "../process/child.ts";
import { startChild } from "../process/child.ts";
import { signalGroup } from "../process/signals.ts";
import type { Guard } from "../process/guard.ts";
import { describeHolder, isPortFree } from "../process/ports.ts";
import type { ProbeTarget } from "../process/probe.ts";
import { runProbe } from "../process/probe.ts";
import { readyByTime, SETTLED_MS } from "./lifecycle.ts";
import type { Trigger } from "./model.ts";

/** What all attempts of a run have in common. */
export interface Surroundings {
  home: Home;
  clock: Clock;
  guard: Guard;
  /** The environment of what is started now. */
  environment(): Environment;
}

/** Receives what becomes of an attempt. */
export interface AttemptListener {
  trigger(trigger: Trigger): void;
  /** Whole lines; the array is the listener's to keep. */
  output(stream: Stream, lines: Uint8Array): void;
  /** Asked before each read: a promise makes the pipe wait. */
  backpressure(): Promise<void> | null;
  /** A health check failed. */
  warn(message: string): void;
  /** The process is still there, each time that `SURVIVAL_MS` have passed since SIGKILL. */
  survivedKill(pid: number): void;
}

/** How long SIGKILL is given to end a process. */
const SURVIVAL_MS = 5_000;

/** One try to run a service. */
export class Attempt implements Disposable {
  readonly #service: Service;
  readonly #surroundings: Surroundings;
  readonly #listener: AttemptListener;
  /** Ends the probes. */
  readonly #watch = new AbortController();
  #launch: Launch | null = null;
  #child: Child | null = null;
  /** Set while a line of output makes it ready. */
  #awaitedLine: RegExp | null = null;
  #cancelSurvival = () => {};

  constructor(service: Service, surroundings: Surroundings, listener: AttemptListener) {
    this.#service = service;
    this.#surroundings = surroundings;
    this.#listener = listener;
  }

  /** What the process was started with; `null`: it has none. */
  get launch(): Launch | null {
    return this.#launch;
  }

  /** Starts the process, then waits until it is ready; or reports why it can't be started. */
  spawn(): void {
    const { home, environment, guard, clock } = this.#surroundings;
    try {
      const launch = this.#launch = prepareLaunch(this.#service, environment(), home);
      if (launch.port !== null && !isPortFree(launch.port)) {
        const holder = describeHolder(launch.port);
        const advice = `stop that or give "${this.#service.name}" another port`;
        return this.#refuse(`port ${launch.port} is taken${holder}; ${advice}`);
      }
      const { pid } = this.#child = startChild(launch, {
        lines: (stream, lines) => this.#output(stream, lines),
        backpressure: () => this.#listener.backpressure(),
        exited: (exit, groupAlive) => {
          if (!groupAlive) guard.drop(pid);
          this.#listener.trigger({ kind: "exited", exit, groupAlive });
        },
        groupEmpty: () => {
          guard.drop(pid);
          this.#listener.trigger({ kind: "groupEmpty" });
        },
      }, clock);
      guard.add(pid);
      this.#listener.trigger({ kind: "spawned", pid });
    } catch (error) {
      return this.#refuseFor(error);
    }
    if (this.#service.kind !== "task") this.awaitReady();
  }

  #refuse(why: string): void {
    this.#listener.trigger({ kind: "spawnFailed", reason: `could not start: ${why}` });
  }

  /** @throws what is no mistake of the user's */
  #refuseFor(error: unknown): void {
    if (!(error instanceof UserError)) throw error;
    this.#refuse(error.message.replace(/^Cannot start .*?: /, "").replace(/\.$/, ""));
  }

  #output(stream: Stream, lines: Uint8Array): void {
    this.#listener.output(stream, lines);
    const awaited = this.#awaitedLine;
    if (awaited === null || this.#watch.signal.aborted) return;
    if (!decoder.decode(lines).split("\n").some((line) => awaited.test(line))) return;
    this.#awaitedLine = null;
    this.#listener.trigger({ kind: "ready" });
  }

  /** Reports when the service is ready: by a line, by its probe or its port, or by time where there is nothing to ask. */
  async awaitReady(): Promise<void> {
    const { signal } = this.#watch;
    if (signal.aborted) return;
    const { health } = this.#service;
    const { clock } = this.#surroundings;
    if (health?.probe.kind === "log") {
      this.#awaitedLine = new RegExp(health.probe.pattern);
      return;
    }
    let probe: (() => Promise<string | null>) | null;
    try {
      probe = this.#probe();
    } catch (error) {
      return this.#refuseFor(error); // an external service's environment is made here
    }
    if (probe === null) {
      if (readyByTime(this.#service)) return; // its state knows
      await clock.sleep(SETTLED_MS, signal); // its port variable is not set and has no default
    } else {
      // A port is cheap to ask: often at first. A health check costs its service work.
      const [firstMs, lastMs] = health === null ? [5, 100] : [100, 1_000];
      for (let pauseMs = firstMs; !signal.aborted; pauseMs = Math.min(pauseMs * 1.5, lastMs)) {
        if (await probe() === null) break;
        await clock.sleep(pauseMs, signal);
      }
    }
    if (!signal.aborted) this.#listener.trigger({ kind: "ready" });
  }

  /** Checks now and then that the service is healthy, and reports when it was not as often as is allowed. */
  async watchLiveness(): Promise<void> {
    const { name, kind, health } = this.#service;
    if (health === null || kind !== "service") return;
    const probe = this.#probe();
    if (probe === null) return;
    const { signal } = this.#watch;
    for (let failures = 0; failures < health.retries;) {
      await this.#surroundings.clock.sleep(health.intervalMs, signal);
      const fault = signal.aborted ? null : await probe();
      if (signal.aborted) return;
      failures = fault === null ? 0 : failures + 1;
      if (fault === null) continue;
      this.#listener.warn(`${name} is unhealthy (${failures} of ${health.retries}): ${fault}`);
      if (failures < health.retries) continue;
      const reason = `failed its health check ${failures} times: ${fault}`;
      this.#listener.trigger({ kind: "unhealthy", reason });
    }
  }

  /** What probes the service once, or `null` where there is nothing to probe. */
  #probe(): (() => Promise<string | null>) | null {
    const { health } = this.#service;
    const port = this.#launch?.port ?? null;
    const probe: Health["probe"] | null = health?.probe ??
      (port === null ? null : { kind: "tcp", port: String(port) });
    if (probe === null || probe.kind === "log") return null;
    const target = this.#target();
    const { clock } = this.#surroundings;
    const options = { timeoutMs: health?.timeoutMs ?? 1_000, stop: this.#watch.signal, clock };
    return () => runProbe(probe, target, options);
  }

  #target(): ProbeTarget {
    const launch = this.#launch;
    const { home, environment } = this.#surroundings;
    const port = launch?.port ?? this.#service.port;
    return {
      infrastructure: home.infrastructure,
      cwd: launch?.cwd ?? home.infrastructure,
      environment: {
        // An external service has no start that its environment was made for.
        ...launch?.environment ?? serviceEnvironment(this.#service, environment(), home),
        ...port === null ? {} : { PORT: String(port) },
      },
    };
  }

  /** The service is being stopped: nothing probes it any more, and what it still writes is read without waiting for room. */
  drain(): void {
    this.#watch.abort();
    this.#child?.drain();
  }

  /** Sends a signal to all that it has started. */
  signal(signal: Deno.Signal): void {
    if (this.#child === null) return;
    signalGroup(this.#child.pid, signal);
    if (signal === "SIGKILL") this.#awaitDeath(this.#child.pid);
  }

  #awaitDeath(pid: number): void {
    this.#cancelSurvival();
    this.#cancelSurvival = this.#surroundings.clock.wake(SURVIVAL_MS, () => {
      this.#awaitDeath(pid);
      this.#listener.survivedKill(pid);
    });
  }

  [Symbol.dispose](): void {
    this.#watch.abort();
    this.#cancelSurvival();
  }
}
