/**
 * Pure: `step` says what follows when something happens to one service, `reconcile` which service is started or
 * stopped next. No clock, no I/O.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import { formatSpan } from "../config/duration.ts";
import type { AfterStop, Effect, History, ServiceState, Trigger } from "./model.ts";
import type { Exit } from "../process/child.ts";
import { isAtRest } from "./model.ts";

/** How long a service without port and health check must live to count as ready. */
export const SETTLED_MS = 1_000;

/** How long after its start the dependents of such a service are started: nothing tells when it can be used. */
const PAUSE_MS = 3_000;

/** What follows from a trigger. */
export interface Step {
  state: ServiceState;
  effects: readonly Effect[];
}

/** The state of a service that nothing has happened to yet. */
export const INITIAL: ServiceState = {
  kind: "pending",
  waitingFor: [],
  failures: [],
  restarts: 0,
  lastExit: null,
};

/** Whether nothing but the passing of time can tell that it is ready. */
export function readyByTime(service: Service): boolean {
  return service.kind === "service" && service.port === null && service.portEnv === null &&
    service.health === null;
}

/** The pause before the `attempt`-th retry: doubled each time up to the limit, then 10 % up or down by `chance` (0-1). */
export function backoffMs(service: Service, attempt: number, chance: number): number {
  const full = service.retryDelayMs * 2 ** Math.min(attempt - 1, 40);
  const jittered = Math.min(full, service.retryDelayMaxMs) * (0.9 + 0.2 * chance);
  return Math.min(jittered, service.retryDelayMaxMs);
}

/** An exit in words. */
export function describeExit(exit: Exit): string {
  if (exit.kind === "exited") return `exited with status ${exit.code}`;
  const why: Record<string, string> = {
    SIGKILL: ", perhaps out of memory",
    SIGSEGV: ", an invalid memory access",
    SIGABRT: ", it aborted itself",
    SIGBUS: ", a bad memory access",
    SIGILL: ", an illegal instruction",
    SIGTERM: ", sent by someone else",
    SIGINT: ", sent by someone else",
    SIGHUP: ", sent by someone else",
  };
  return `killed by ${exit.signal}${why[exit.signal] ?? ""}`;
}

function isSuccess(exit: Exit): boolean {
  return exit.kind === "exited" && exit.code === 0;
}

/** The next moment at which time alone may change something, or `null`. */
export function nextWake(state: ServiceState, service: Service): number | null {
  switch (state.kind) {
    case "starting":
      return readyByTime(service) && state.pid !== null ? state.since + SETTLED_MS : state.readyBy;
    case "running":
      return readyByTime(service) ? state.since + PAUSE_MS : null;
    case "stopping":
      return state.killAt;
    case "restarting":
      return state.retryAt;
    case "pending":
    case "stopped":
    case "crashed":
    case "failed":
      return null;
  }
}

/** Whether what depends on this service may start. */
export function satisfies(state: ServiceState, service: Service, now: number): boolean {
  if (service.kind === "task") {
    return state.kind === "stopped" && state.lastExit !== null && isSuccess(state.lastExit);
  }
  return state.kind === "running" && (!readyByTime(service) || now >= state.since + PAUSE_MS);
}

/**
 * What follows when something happens to a service. What does not fit its state changes nothing: happenings may
 * arrive late.
 *
 * @param chance a number from 0 to 1 for the jitter of a retry
 */
export function step(
  state: ServiceState,
  trigger: Trigger,
  now: number,
  service: Service,
  chance: number,
): Step {
  const stay: Step = { state, effects: [] };
  const { failures, restarts, lastExit } = state;
  const past: History = { failures, restarts, lastExit };
  const become = (next: ServiceState, ...effects: Effect[]): Step => ({ state: next, effects });
  const running = state.kind === "starting" || state.kind === "running" ? state : null;

  function stopping(then: AfterStop, signal: Deno.Signal): Step {
    if (running === null || running.pid === null) return become(conclude(then, running?.since ?? now));
    const { pid, since } = running;
    const killAt = now + service.timeoutStopMs;
    return become({ ...past, kind: "stopping", pid, since, killAt, then }, { kind: "signal", signal });
  }

  function conclude(then: AfterStop, since: number): ServiceState {
    switch (then.kind) {
      case "stopped":
        return { ...past, kind: "stopped" };
      case "restarting":
        return { ...past, kind: "pending", waitingFor: [], failures: [], restarts: past.restarts + 1 };
      case "ended": {
        const after = { ...past, lastExit: then.exit };
        if (!isSuccess(then.exit)) {
          return afterFailure(after, describeExit(then.exit), then.exit, now - since);
        }
        if (service.restartPolicy !== "always" || service.kind === "task") {
          return { ...after, kind: "stopped" };
        }
        const retryAt = now + backoffMs(service, 1, chance);
        return { ...after, kind: "restarting", attempt: 0, retryAt, reason: describeExit(then.exit) };
      }
      case "failed":
        return afterFailure(past, then.reason, null, now - since);
    }
  }

  function afterFailure(before: History, reason: string, exit: Exit | null, ranMs: number): ServiceState {
    if (service.restartPolicy === "never") {
      if (exit !== null && service.critical) return { ...before, kind: "crashed", exit, ranMs, reason };
      return { ...before, kind: "failed", exit, ranMs, reason };
    }
    const recent = ranMs > service.retryWindowMs
      ? []
      : before.failures.filter((moment) => moment > now - service.retryWindowMs);
    const counted = [...recent, now];
    if (counted.length > service.maxRetries) {
      const tries = `gave up after ${service.maxRetries} ${service.maxRetries === 1 ? "retry" : "retries"}`;
      return { ...before, failures: counted, kind: "failed", exit, ranMs, reason: `${reason}; ${tries}` };
    }
    const retryAt = now + backoffMs(service, counted.length, chance);
    return { ...before, failures: counted, kind: "restarting", attempt: counted.length, retryAt, reason };
  }

  switch (trigger.kind) {
    case "waiting":
      return state.kind === "pending" ? become({ ...state, waitingFor: trigger.names }) : stay;
    case "start": {
      if (state.kind !== "pending") return stay;
      const readyBy = now + service.timeoutStartMs;
      const spawn: Effect[] = service.kind === "external" ? [] : [{ kind: "spawn" }];
      return become({ ...past, kind: "starting", pid: null, since: now, readyBy }, ...spawn);
    }
    case "spawned":
      if (state.kind !== "starting" || state.pid !== null) return stay;
      // A task has no start to wait for: its end is what counts.
      return service.kind === "task"
        ? become({ ...past, kind: "running", pid: trigger.pid, since: now })
        : become({ ...state, pid: trigger.pid, since: now });
    case "spawnFailed":
      // With a PID it is the late answer to an earlier start.
      return state.kind === "starting" && state.pid === null
        ? become(conclude({ kind: "failed", reason: trigger.reason }, now))
        : stay;
    case "ready":
      return state.kind === "starting"
        ? become({ ...past, kind: "running", pid: state.pid, since: state.since })
        : stay;
    case "unhealthy":
      return state.kind === "running"
        ? stopping({ kind: "failed", reason: trigger.reason }, service.stopSignal)
        : stay;
    case "exited": {
      const ended: AfterStop = { kind: "ended", exit: trigger.exit };
      if (state.kind === "stopping") {
        const known: ServiceState = { ...state, lastExit: trigger.exit };
        return trigger.groupAlive ? become(known) : step(known, { kind: "groupEmpty" }, now, service, chance);
      }
      if (running === null) return stay;
      return trigger.groupAlive ? stopping(ended, "SIGTERM") : become(conclude(ended, running.since));
    }
    case "groupEmpty":
      return state.kind === "stopping" ? become(conclude(state.then, state.since)) : stay;
    case "stop":
      switch (state.kind) {
        case "pending":
        case "restarting":
          return become({ ...past, kind: "stopped" });
        case "starting":
        case "running":
          return stopping({ kind: "stopped" }, service.stopSignal);
        case "stopping":
          return become({ ...state, then: { kind: "stopped" } });
        case "stopped":
        case "crashed":
        case "failed":
          return stay;
      }
      break;
    case "restart":
      if (running !== null) return stopping({ kind: "restarting" }, service.stopSignal);
      if (state.kind === "stopping") return become({ ...state, then: { kind: "restarting" } });
      return become({ ...past, kind: "pending", waitingFor: [], failures: [] });
    case "kill":
      if (running?.pid != null) return stopping({ kind: "stopped" }, "SIGKILL");
      if (state.kind === "stopping") {
        return become({ ...state, then: { kind: "stopped" } }, { kind: "signal", signal: "SIGKILL" });
      }
      return running === null ? stay : become({ ...past, kind: "stopped" });
    case "wake":
      switch (state.kind) {
        case "starting": {
          if (state.pid !== null && readyByTime(service) && now >= state.since + SETTLED_MS) {
            return become({ ...past, kind: "running", pid: state.pid, since: state.since });
          }
          if (now < state.readyBy) return stay;
          const reason = `was not ready within ${formatSpan(service.timeoutStartMs)}`;
          return stopping({ kind: "failed", reason }, service.stopSignal);
        }
        case "stopping":
          if (now < state.killAt) return stay;
          return become({ ...state, killAt: Infinity }, { kind: "signal", signal: "SIGKILL" });
        case "restarting":
          if (now < state.retryAt) return stay;
          return become({ ...past, kind: "pending", waitingFor: [], restarts: past.restarts + 1 });
        case "pending":
        case "running":
        case "stopped":
        case "crashed":
        case "failed":
          return stay;
      }
  }
}

/** What someone wants of a service: to be kept running, to be at rest, or to be at rest once and then kept running. */
export type Desired = "running" | "stopped" | "restarted";

/** One service as `decide` sees it. */
export interface Managed {
  service: Service;
  state: ServiceState;
  desired: Desired;
}

/**
 * Whose turn it is: a pending service is started when all it depends on is ready, a running one is stopped when all
 * that depends on it and shall stop too is at rest.
 *
 * @returns what should happen next, to be asked for again after each change; empty when nothing is due
 */
export function reconcile(
  managed: ReadonlyMap<string, Managed>,
  dependents: ReadonlyMap<string, readonly string[]>,
  now: number,
): { name: string; trigger: Trigger }[] {
  const starts: { name: string; trigger: Trigger }[] = [];
  const stops: typeof starts = [];
  for (const [name, { service, state, desired }] of managed) {
    if (desired === "running") {
      if (state.kind !== "pending") continue;
      const unmet = service.dependencies.filter((needed) => {
        const one = managed.get(needed);
        return one === undefined || one.desired === "restarted" ||
          !satisfies(one.state, one.service, now);
      });
      if (unmet.length === 0) starts.push({ name, trigger: { kind: "start" } });
      else if (unmet.join() !== state.waitingFor.join()) {
        starts.push({ name, trigger: { kind: "waiting", names: unmet } });
      }
    } else if (state.kind === "stopping") {
      const fits = state.then.kind === (desired === "restarted" ? "restarting" : "stopped");
      if (!fits) stops.push({ name, trigger: { kind: desired === "restarted" ? "restart" : "stop" } });
    } else if (isAtRest(state)) {
      if (desired === "restarted") stops.push({ name, trigger: { kind: "restart" } });
      else if (state.kind === "pending" || state.kind === "restarting") {
        stops.push({ name, trigger: { kind: "stop" } });
      }
    } else {
      const held = (dependents.get(name) ?? []).some((other) => {
        const one = managed.get(other);
        return one !== undefined && one.desired !== "running" && !isAtRest(one.state);
      });
      if (!held) stops.push({ name, trigger: { kind: desired === "restarted" ? "restart" : "stop" } });
    }
  }
  return [...stops.reverse(), ...starts]; // the last one started is the first one stopped
}

/** Whether nothing runs and nothing ever will unless someone asks for it. */
export function isFinished(managed: ReadonlyMap<string, Managed>): boolean {
  for (const { service, state, desired } of managed.values()) {
    if (state.kind === "restarting" || desired === "restarted") return false;
    // External services have no process; alone they keep nothing alive.
    if (!isAtRest(state) && !(service.kind === "external" && state.kind === "running")) return false;
  }
  // What is pending now waits for something at rest, or its turn would have come already.
  return true;
}
