/**
 * The states of a service, what triggers a change, and the events of a run.
 * Moments are milliseconds of the steady clock unless a name says otherwise; spans end in `Ms`.
 *
 * @module
 */

import type { Level } from "../config/levels.ts";
import type { Service } from "../config/definition.ts";
import type { Exit, Stream } from "../process/child.ts";

/** What becomes of a service once nothing of it runs any more. */
export type AfterStop =
  | { kind: "stopped" }
  | { kind: "restarting" }
  | { kind: "ended"; exit: Exit }
  | { kind: "failed"; reason: string };

/** What is known of a service in every state. */
export interface History {
  /** Moments of the failures that count against `maxRetries`. */
  failures: readonly number[];
  /** How often it was started after its first start. */
  restarts: number;
  lastExit: Exit | null;
}

/** The state of one service. A field exists only in the states in which it is true. */
export type ServiceState =
  & History
  & (
    | { kind: "pending"; waitingFor: readonly string[] }
    // No PID while it is being prepared, nor for an external service.
    | { kind: "starting"; pid: number | null; since: number; readyBy: number }
    | { kind: "running"; pid: number | null; since: number }
    | { kind: "stopping"; pid: number; since: number; killAt: number; then: AfterStop }
    | { kind: "restarting"; attempt: number; retryAt: number; reason: string }
    | { kind: "stopped" }
    | { kind: "crashed"; exit: Exit; ranMs: number; reason: string }
    | { kind: "failed"; exit: Exit | null; ranMs: number; reason: string }
  );

/** Something that happens to one service. */
export type Trigger =
  | { kind: "waiting"; names: readonly string[] }
  | { kind: "start" }
  | { kind: "spawned"; pid: number }
  | { kind: "spawnFailed"; reason: string }
  | { kind: "ready" }
  | { kind: "unhealthy"; reason: string }
  // The first process ended and its pipes are read; `groupAlive`: others of its group still run.
  | { kind: "exited"; exit: Exit; groupAlive: boolean }
  | { kind: "groupEmpty" }
  | { kind: "stop" }
  | { kind: "restart" }
  | { kind: "kill" }
  | { kind: "wake" };

/** What a step wants done. */
export type Effect = { kind: "spawn" } | { kind: "signal"; signal: Deno.Signal };

/** What one service looks like at one moment. */
export interface ServiceSnapshot {
  name: string;
  title: string;
  kind: Service["kind"];
  port: number | null;
  maxRetries: number;
  state: ServiceState;
  /** The last lines it printed, oldest first; as many as the snapshot was asked for. */
  recent: readonly string[];
}

/** All services at one moment. */
export interface Snapshot {
  /** Of the steady clock, as the moments in `state`. */
  at: number;
  /** Whether everything is being stopped. */
  stopping: boolean;
  services: readonly ServiceSnapshot[];
}

/** A service came into another state: `row` is how it is now, `at` a moment of the steady clock. */
export interface StateEvent {
  kind: "state";
  time: number;
  at: number;
  row: ServiceSnapshot;
  from: ServiceState;
}

/** What happens in a run, in the order in which it happens. `time` is wall-clock milliseconds. */
export type Event =
  | StateEvent
  /** Services came into the run or left it: all that it has now. */
  | { kind: "services"; time: number; services: readonly ServiceSnapshot[] }
  /** Whole lines of one pipe, each with its newline. */
  | { kind: "output"; time: number; service: string; stream: Stream; lines: Uint8Array }
  | { kind: "log"; time: number; level: Level; message: string };

/** The states in which there is something to stop: a process of ours, or an external one that is waited for. */
export type ActiveState = ServiceState & { kind: "starting" | "running" | "stopping" };

/** Whether nothing of a service runs. */
export function isAtRest(state: ServiceState): state is Exclude<ServiceState, ActiveState> {
  return state.kind !== "starting" && state.kind !== "running" && state.kind !== "stopping";
}

/** Receives what happens. */
export interface Listener {
  event(event: Event): void;
  /** A promise makes every pipe wait until it resolves: how a slow reader keeps memory bounded. */
  backpressure?(): Promise<void> | null;
}

/** How a run ended. */
export interface RunResult {
  /** 0 after a stop that was asked for or when all ended well, 1 otherwise. */
  status: 0 | 1;
  /** The service whose failure ended the run. */
  failedService: ServiceSnapshot | null;
  /** What is left although all should be gone, in sentences. */
  remaining: readonly string[];
}
