/**
 * Services as tests need them.
 *
 * @module
 */

import type { Health, Service } from "../config/definition.ts";
import { defineServices } from "../config/definition.ts";
import type { Exit } from "../process/child.ts";
import type { ServiceState } from "../supervisor/model.ts";
import { TESTDATA } from "./run.ts";

/** One service in code. */
export function define(fields: Partial<Service> = {}): Service {
  return { ...defineServices({ a: { command: ["true"] } })[0]!, ...fields };
}

/** A generator of numbers from 0 to 1 that gives the same ones for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export const HOME = { infrastructure: "/infra", envFile: "/infra/.env", envFileNamed: false };

/** Services whose only property is what they depend on: `{ web: "db cache" }`. */
export function graph(dependencies: Record<string, string>): Service[] {
  return Object.entries(dependencies).map(([name, needs]) => ({
    ...define(),
    name,
    dependencies: needs.split(" ").filter(Boolean),
  }));
}

export const PAST = { failures: [], restarts: 0, lastExit: null } as const;

const OURS = { pid: 7, since: 0 } as const;

const STOPPING = { ...PAST, kind: "stopping", ...OURS, killAt: 10_000 } as const;

export const WELL: Exit = { kind: "exited", code: 0 };

export const ILL: Exit = { kind: "exited", code: 1 };

/** Every state, those that carry a plan for afterwards once for each plan. */
export const STATES = {
  "pending": { ...PAST, kind: "pending", waitingFor: [] },
  "preparing": { ...PAST, kind: "starting", pid: null, since: 0, readyBy: 30_000 },
  "starting": { ...PAST, kind: "starting", ...OURS, readyBy: 30_000 },
  "running": { ...PAST, kind: "running", ...OURS },
  "external": { ...PAST, kind: "running", pid: null, since: 0 },
  "stopping": { ...STOPPING, then: { kind: "stopped" } },
  "recycling": { ...STOPPING, then: { kind: "restarting" } },
  "clearing up": { ...STOPPING, then: { kind: "ended", exit: ILL } },
  "giving up": { ...STOPPING, then: { kind: "failed", reason: "ill" } },
  "restarting": { ...PAST, kind: "restarting", attempt: 1, retryAt: 10_000, reason: "ill" },
  "stopped": { ...PAST, kind: "stopped" },
  "crashed": { ...PAST, kind: "crashed", exit: ILL, ranMs: 5, reason: "ill" },
  "failed": { ...PAST, kind: "failed", exit: ILL, ranMs: 5, reason: "ill" },
} satisfies Record<string, ServiceState>;

export const IDLE = "exec sleep 1000";

export const PYTHON = "/usr/bin/env python3";

/** Ready as soon as it prints a line. */
export const READY: Health = {
  probe: { kind: "log", pattern: "" },
  intervalMs: 10_000,
  timeoutMs: 2_000,
  retries: 3,
};

/** A service that is up at once and does nothing. */
export const UP = { command: "echo up; exec sleep 1000", health: READY };

/** A shell text that runs one of the scripts. */
export function script(name: string, ...args: (string | number)[]): string {
  const program = name.endsWith(".py") ? PYTHON : "/bin/sh";
  return ["exec", program, `${TESTDATA}/${name}`, ...args].join(" ");
}
