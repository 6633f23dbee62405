/**
 * What `GET /status` answers: every service in plain figures.
 *
 * @module
 */

import { describeState } from "../terminal/messages.ts";
import type { Snapshot } from "../supervisor/model.ts";
import { processes, residentBytes } from "../process/procfs.ts";
import type { ServiceStatus, Status } from "./protocol.ts";

/** What is known of a run besides its services. */
export type About = Omit<Status, "running" | "stopping" | "memoryBytes" | "healthy" | "services">;

/** All figures of now. */
export function statusOf(snapshot: Snapshot, about: About): Status {
  const usage = usageByGroup();
  const services = snapshot.services.map((row): ServiceStatus => {
    const { name, title, kind, port, state } = row;
    const pid = "pid" in state ? state.pid : null;
    const used = pid === null ? undefined : usage.get(pid);
    return {
      name,
      title,
      kind,
      state: state.kind,
      pid,
      port,
      uptimeMs: "since" in state ? Math.max(0, Math.round(snapshot.at - state.since)) : null,
      restarts: state.restarts,
      lastExit: state.kind === "crashed" || state.kind === "failed"
        ? state.exit ?? state.lastExit
        : state.lastExit,
      note: describeState(row, snapshot.at),
      cpuMs: used?.cpuMs ?? null,
      memoryBytes: used?.memoryBytes ?? null,
    };
  });
  return {
    running: true,
    ...about,
    stopping: snapshot.stopping,
    memoryBytes: residentBytes(about.pid),
    healthy: services.every(isHealthy),
    services,
  };
}

/** Whether a service is as it should be. */
function isHealthy({ kind, state, lastExit }: ServiceStatus): boolean {
  if (state === "running") return true;
  return kind === "task" && state === "stopped" && lastExit?.kind === "exited" && lastExit.code === 0;
}

function usageByGroup(): Map<number, { cpuMs: number; memoryBytes: number }> {
  const usage = new Map<number, { cpuMs: number; memoryBytes: number }>();
  for (const { pid, group, cpuMs } of processes()) {
    if (group === 0) continue; // the kernel's own
    const sum = usage.get(group) ?? { cpuMs: 0, memoryBytes: 0 };
    usage.set(group, {
      cpuMs: sum.cpuMs + cpuMs,
      memoryBytes: sum.memoryBytes + (residentBytes(pid) ?? 0),
    });
  }
  return usage;
}
