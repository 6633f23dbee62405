/**
 * The only reader of /proc: processes, their descriptors and the sockets that listen, as Linux shows them. On other
 * systems, and for what ended or is someone else's, there is nothing to see; nothing here throws for that.
 *
 * @module
 */

/** What distinguishes a process from every other one, before and after. */
export interface Identity {
  pid: number;
  /** Field 22 of /proc/PID/stat: when it started, in ticks since the boot. */
  startTicks: number;
}

/** One process as /proc shows it. */
export interface Process extends Identity {
  group: number;
  /** The group that its terminal listens to, -1 without a terminal. */
  terminalGroup: number;
  /** Its own and that of the children it has collected. */
  cpuMs: number;
}

/** Ticks a second, as every Linux counts them towards programs. */
const TICKS = 100;

/** The result of `attempt`, or `otherwise` where there is nothing to see. */
function tryTo<T>(attempt: () => T, otherwise: T): T {
  try {
    return attempt();
  } catch (error) {
    const { NotFound, PermissionDenied, NotCapable } = Deno.errors;
    // ESRCH, for a process that ended in between, has no class of its own.
    const isExpected = [NotFound, PermissionDenied, NotCapable].some((kind) => error instanceof kind) ||
      error instanceof Error && /os error 3\b/.test(error.message);
    if (isExpected) return otherwise;
    throw error;
  }
}

const read = (path: string) => tryTo(() => Deno.readTextFileSync(path), "");

const entries = (path: string) => tryTo(() => Array.from(Deno.readDirSync(path), ({ name }) => name), []);

const pids = () => entries("/proc").filter((name) => /^[0-9]+$/.test(name)).map(Number);

/** This boot of the system, or nothing where the system does not show it. */
export function bootId(): string {
  return read("/proc/sys/kernel/random/boot_id").trim();
}

/** A process that runs, or `null`; one that only waits to be collected does not run. */
export function readProcess(pid: number): Process | null {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === "") return null;
  const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (state === "Z" || state === "X") return null;
  const number = (field: number) => Number(fields[field - 4]); // counted as proc(5) does
  const ticks = number(14) + number(15) + number(16) + number(17);
  return {
    pid,
    group: number(5),
    terminalGroup: number(8),
    cpuMs: ticks * 1_000 / TICKS,
    startTicks: number(22),
  };
}

/** Every process that runs, read as it is taken. */
export function* processes(): Generator<Process> {
  for (const pid of pids()) {
    const process = readProcess(pid);
    if (process !== null) yield process;
  }
}

/** Who this process is. */
export function ownIdentity(): Identity {
  return { pid: Deno.pid, startTicks: readProcess(Deno.pid)?.startTicks ?? 0 };
}

/** Whether the process that was written down is the one that has its PID now. */
export function isSame(identity: Identity, boot: string): boolean {
  return boot !== "" && boot === bootId() && readProcess(identity.pid)?.startTicks === identity.startTicks;
}

/** Whether a process was started by the run with this mark, or by what that run has started. */
export function hasMark(pid: number, run: string): boolean {
  return read(`/proc/${pid}/environ`).split("\0").includes(`ORCHESTRATOR_RUN=${run}`);
}

/** The bytes of a process that are in RAM, or `null`. */
export function residentBytes(pid: number): number | null {
  const size = /^VmRSS:\s*([0-9]+) kB/m.exec(read(`/proc/${pid}/status`))?.[1];
  return size === undefined ? null : Number(size) * 1_024;
}

/** The command line of a process, its words apart by spaces; of one that has none its name. */
export function commandLine(pid: number): string {
  return read(`/proc/${pid}/cmdline`).split("\0").join(" ") || read(`/proc/${pid}/comm`);
}

/** The words that this process was started with after its program; only on Linux. */
export function ownArguments(): string[] {
  return read("/proc/self/cmdline").split("\0").slice(1, -1);
}

/** The open file descriptors of this process, perhaps with one that is closed by now; on every Unix. */
export function ownDescriptors(): number[] {
  return entries(Deno.build.os === "linux" ? "/proc/self/fd" : "/dev/fd").map(Number);
}

/** The descriptor that a file has in this process, or `null`. */
export function ownDescriptorOf(file: Deno.FsFile): number | null {
  const { ino, dev } = file.statSync();
  return ownDescriptors().find((fd) => {
    const found = tryTo(() => Deno.statSync(`/proc/self/fd/${fd}`), null);
    return found?.ino === ino && found.dev === dev;
  }) ?? null;
}

const LISTEN = "0A";

/** The oldest process that listens on a TCP port, or `null`: it is the server, others are children with its socket. */
export function listenerOn(port: number): number | null {
  const ending = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = ["tcp", "tcp6"].flatMap((table) => read(`/proc/net/${table}`).split("\n"))
    .map((line) => line.trim().split(/\s+/));
  const sockets = new Set(
    rows.filter(([, local, , state]) => state === LISTEN && local?.endsWith(ending))
      .map((columns) => `socket:[${columns[9]}]`),
  );
  if (sockets.size === 0) return null;
  return pids().sort((a, b) => a - b).find((pid) => {
    const fds = `/proc/${pid}/fd`;
    return entries(fds).some((fd) => sockets.has(tryTo(() => Deno.readLinkSync(`${fds}/${fd}`), "")));
  }) ?? null;
}
