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

/** How long after its start the dependents of such a service are started: nothing shows when it can be used. */
const PAUSE_MS = 3_000;

/** What follows from a trigger. */
export interface Step {
  state: ServiceState;
  effects: readonly Effect[];
}

/** The state of a service that nothing has happened to yet. */
export const INITIAL: ServiceState & { kind: "pending" } = {
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

/** The next moment at which time alone changes something; `Infinity`: never. */
export function nextWake(state: ServiceState, service: Service, now: number): number {
  switch (state.kind) {
    case "starting":
      return readyByTime(service) && state.pid !== null ? state.since + SETTLED_MS : state.readyBy;
    case "running": {
      const usableAt = readyByTime(service) ? state.since + PAUSE_MS : Infinity;
      return usableAt > now ? usableAt : Infinity;
    }
    case "stopping":
      return state.killAt;
    case "restarting":
      return state.retryAt;
    case "pending":
    case "stopped":
    case "crashed":
    case "failed":
      return Infinity;
  }
}

/** Whether what depends on this service may start. */
export function satisfies(state: ServiceState, service: Service, now: number): boolean {
  if (service.kind === "task") {
    return state.kind === "stopped" && state.lastExit !== null && isSuccess(state.lastExit);
  }
  return state.kind === "running" && (!readyByTime(service) || now >= state.since + PAUSE_MS);
}

/** What a step depends on besides the state and what happened. `chance` is a number from 0 to 1. */
interface Circumstances {
  now: number;
  service: Service;
  chance: number;
}

function historyOf({ failures, restarts, lastExit }: History): History {
  return { failures, restarts, lastExit };
}

/** Stops what runs of a service; where there is no process, it has stopped already. */
function stop(
  state: ServiceState & { kind: "starting" | "running" },
  then: AfterStop,
  signal: Deno.Signal,
  given: Circumstances,
): Step {
  const { pid, since } = state;
  const history = historyOf(state);
  if (pid === null) return { state: afterStop(history, then, since, given), effects: [] };
  const killAt = given.now + given.service.timeoutStopMs;
  return {
    state: { ...history, kind: "stopping", pid, since, killAt, then },
    effects: [{ kind: "signal", signal }],
  };
}

/** What becomes of a service of which nothing runs any more. */
function afterStop(history: History, then: AfterStop, since: number, given: Circumstances): ServiceState {
  const { now, service, chance } = given;
  switch (then.kind) {
    case "stopped":
      return { ...history, kind: "stopped" };
    case "restarting":
      return { ...history, kind: "pending", waitingFor: [], failures: [], restarts: history.restarts + 1 };
    case "ended": {
      const { exit } = then;
      const after = { ...history, lastExit: exit };
      const reason = describeExit(exit);
      if (!isSuccess(exit)) return afterFailure(after, { exit, reason, ranMs: now - since }, given);
      if (service.restartPolicy !== "always" || service.kind === "task") return { ...after, kind: "stopped" };
      return {
        ...after,
        kind: "restarting",
        attempt: 0,
        retryAt: now + backoffMs(service, 1, chance),
        reason,
      };
    }
    case "failed":
      return afterFailure(history, { exit: null, reason: then.reason, ranMs: now - since }, given);
  }
}

/** What the restart policy makes of a failure. */
function afterFailure(
  history: History,
  { exit, reason, ranMs }: { exit: Exit | null; reason: string; ranMs: number },
  { now, service, chance }: Circumstances,
): ServiceState {
  const { restartPolicy, critical, maxRetries, retryWindowMs } = service;
  if (restartPolicy === "never") {
    if (exit !== null && critical) return { ...history, kind: "crashed", exit, ranMs, reason };
    return { ...history, kind: "failed", exit, ranMs, reason };
  }
  const recent = ranMs > retryWindowMs
    ? []
    : history.failures.filter((moment) => moment > now - retryWindowMs);
  const failures = [...recent, now];
  if (failures.length > maxRetries) {
    const tries = `gave up after ${maxRetries} ${maxRetries === 1 ? "retry" : "retries"}`;
    return { ...history, failures, kind: "failed", exit, ranMs, reason: `${reason}; ${tries}` };
  }
  const retryAt = now + backoffMs(service, failures.length, chance);
  return { ...history, failures, kind: "restarting", attempt: failures.length, retryAt, reason };
}

/**
 * What follows when something happens to a service. What does not fit its state changes nothing: triggers may
 * arrive late.
 *
 * @param now a moment of the steady clock
 * @param chance a number from 0 to 1 for the jitter of a retry
 */
export function step(
  state: ServiceState,
  trigger: Trigger,
  now: number,
  service: Service,
  chance: number,
): Step {
  const given: Circumstances = { now, service, chance };
  const stay: Step = { state, effects: [] };
  const history = historyOf(state);
  const become = (next: ServiceState, ...effects: Effect[]): Step => ({ state: next, effects });
  const hasBegun = state.kind === "starting" || state.kind === "running";

  switch (trigger.kind) {
    case "waiting":
      return state.kind === "pending" ? become({ ...state, waitingFor: trigger.names }) : stay;
    case "start": {
      if (state.kind !== "pending") return stay;
      const readyBy = now + service.timeoutStartMs;
      const spawn: Effect[] = service.kind === "external" ? [] : [{ kind: "spawn" }];
      return become({ ...history, kind: "starting", pid: null, since: now, readyBy }, ...spawn);
    }
    case "spawned":
      if (state.kind !== "starting" || state.pid !== null) return stay;
      // A task has no start to wait for: its end is what counts.
      return service.kind === "task"
        ? become({ ...history, kind: "running", pid: trigger.pid, since: now })
        : become({ ...state, pid: trigger.pid, since: now });
    case "spawnFailed":
      // With a PID it is the late answer to an earlier start.
      return state.kind === "starting" && state.pid === null
        ? become(afterStop(history, { kind: "failed", reason: trigger.reason }, now, given))
        : stay;
    case "ready":
      return state.kind === "starting"
        ? become({ ...history, kind: "running", pid: state.pid, since: state.since })
        : stay;
    case "unhealthy":
      return state.kind === "running"
        ? stop(state, { kind: "failed", reason: trigger.reason }, service.stopSignal, given)
        : stay;
    case "exited": {
      const ended: AfterStop = { kind: "ended", exit: trigger.exit };
      if (state.kind === "stopping") {
        const known: ServiceState = { ...state, lastExit: trigger.exit };
        return trigger.groupAlive ? become(known) : step(known, { kind: "groupEmpty" }, now, service, chance);
      }
      if (!hasBegun) return stay;
      return trigger.groupAlive
        ? stop(state, ended, "SIGTERM", given)
        : become(afterStop(history, ended, state.since, given));
    }
    case "groupEmpty":
      return state.kind === "stopping" ? become(afterStop(history, state.then, state.since, given)) : stay;
    case "stop":
      switch (state.kind) {
        case "pending":
        case "restarting":
          return become({ ...history, kind: "stopped" });
        case "starting":
        case "running":
          return stop(state, { kind: "stopped" }, service.stopSignal, given);
        case "stopping":
          return become({ ...state, then: { kind: "stopped" } });
        case "stopped":
        case "crashed":
        case "failed":
          return stay;
      }
      break;
    case "restart":
      if (hasBegun) return stop(state, { kind: "restarting" }, service.stopSignal, given);
      if (state.kind === "stopping") return become({ ...state, then: { kind: "restarting" } });
      return become({ ...history, kind: "pending", waitingFor: [], failures: [] });
    case "kill":
      if (hasBegun) return stop(state, { kind: "stopped" }, "SIGKILL", given);
      if (state.kind !== "stopping") return stay;
      return become({ ...state, then: { kind: "stopped" } }, { kind: "signal", signal: "SIGKILL" });
    case "wake":
      switch (state.kind) {
        case "starting": {
          if (state.pid !== null && readyByTime(service) && now >= state.since + SETTLED_MS) {
            return become({ ...history, kind: "running", pid: state.pid, since: state.since });
          }
          if (now < state.readyBy) return stay;
          const reason = `was not ready within ${formatSpan(service.timeoutStartMs)}`;
          return stop(state, { kind: "failed", reason }, service.stopSignal, given);
        }
        case "stopping":
          if (now < state.killAt) return stay;
          return become({ ...state, killAt: Infinity }, { kind: "signal", signal: "SIGKILL" });
        case "restarting":
          if (now < state.retryAt) return stay;
          return become({ ...history, kind: "pending", waitingFor: [], restarts: history.restarts + 1 });
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

/** One service as `reconcile` sees it. */
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
