/**
 * Processes as Linux shows them in /proc.
 *
 * @module
 */

/** What tells a process from every other one, before and after. */
export interface Identity {
  pid: number;
  /** Field 22 of /proc/PID/stat: when it started, in ticks since the boot. */
  startTicks: number;
}

/** One process as /proc shows it. */
export interface Process extends Identity {
  group: number;
  /** Its own and that of the children it has collected. */
  cpuMs: number;
}

/** Ticks a second, as every Linux counts them towards programs. */
const TICKS = 100;

/** This boot of the system, or nothing where it can't be told. */
export function bootId(): string {
  try {
    return Deno.readTextFileSync("/proc/sys/kernel/random/boot_id").trim();
  } catch {
    return ""; // no Linux: nothing will be proved to be ours
  }
}

/** A process that runs, or `null`; one that only waits to be collected does not run. */
export function readProcess(pid: number): Process | null {
  let stat: string;
  try {
    stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  } catch {
    return null; // it is gone, or there is no /proc
  }
  const [state, , group, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (state === "Z" || state === "X") return null;
  const ticks = [8, 9, 10, 11].reduce((sum, index) => sum + Number(fields[index]), 0);
  return { pid, group: Number(group), startTicks: Number(fields[16]), cpuMs: ticks * 1_000 / TICKS };
}

/** Every process of the system that can be seen. */
export function allProcesses(): Process[] {
  const found: Process[] = [];
  try {
    for (const { name } of Deno.readDirSync("/proc")) {
      const process = /^[0-9]+$/.test(name) ? readProcess(Number(name)) : null;
      if (process !== null) found.push(process);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // no /proc on this system
  }
  return found;
}

/** Who this process is. */
export function ownIdentity(): Identity {
  return { pid: Deno.pid, startTicks: readProcess(Deno.pid)?.startTicks ?? 0 };
}

/** Whether the process that was written down is the one that has its PID now. */
export function isSame(identity: Identity, boot: string): boolean {
  return boot !== "" && boot === bootId() && readProcess(identity.pid)?.startTicks === identity.startTicks;
}

export function hasMark(pid: number, run: string): boolean {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0").includes(`ORCHESTRATOR_RUN=${run}`);
  } catch {
    return false; // it ended, or it is someone else's
  }
}
