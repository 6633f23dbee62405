/**
 * How a run ends: what of it is left although nothing should be, and the status that follows.
 *
 * @module
 */

import type { Clock } from "../config/clock.ts";
import { describeHolder, isPortFree } from "../process/ports.ts";
import type { ManagedService } from "./managed_service.ts";
import type { RunResult, ServiceSnapshot } from "./model.ts";

/** How long the last connections of a server may keep its port after its end. */
const RELEASE_MS = 1_000;

/** Waits until a port is free. @returns whether it is */
async function isReleased(port: number, clock: Clock): Promise<boolean> {
  for (const lateAt = clock.now() + RELEASE_MS; !isPortFree(port); await clock.sleep(50)) {
    if (clock.now() >= lateAt) return false;
  }
  return true;
}

/**
 * The result of a run whose services are all at rest.
 *
 * @param remaining what is known to be left already, in sentences
 */
export async function endOfRun(
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
