/**
 * Ports of this machine: whether one is free, and who listens on it. Only Linux says who.
 *
 * @module
 */

import { maskValue } from "../config/secrets.ts";

/** Whether nothing listens on a port, on any address. */
export function isPortFree(port: number): boolean {
  for (const hostname of ["0.0.0.0", "::"]) {
    try {
      Deno.listen({ hostname, port }).close();
    } catch (error) {
      if (error instanceof Deno.errors.AddrInUse) return false;
      // No such address family here, or no right to the port: the service will tell.
    }
  }
  return true;
}

/** ` by PID 12 (python main.py)`, or nothing where the system does not tell. */
export function describeHolder(port: number): string {
  const holder = portHolder(port);
  return holder === null ? "" : ` by PID ${holder.pid} (${holder.command})`;
}

/** A process that listens on a port. */
export interface PortHolder {
  pid: number;
  /** Its command line, with control characters and passwords removed. */
  command: string;
}

/** The process that listens on a TCP port, or null where there is none or the system does not tell (not ours, not Linux). */
export function portHolder(port: number): PortHolder | null {
  if (Deno.build.os !== "linux") return null;
  const sockets = new Set(["tcp", "tcp6"].flatMap((table) => listeners(read(`/proc/net/${table}`), port)));
  if (sockets.size === 0) return null;
  // The oldest first: it is the server, the others are children that inherited its socket.
  for (const pid of entries("/proc").map(Number).filter(Number.isInteger).sort((a, b) => a - b)) {
    const fds = `/proc/${pid}/fd`;
    if (!entries(fds).some((fd) => sockets.has(link(`${fds}/${fd}`)))) continue;
    const words = read(`/proc/${pid}/cmdline`).split("\0").join(" ") || read(`/proc/${pid}/comm`);
    return { pid, command: maskValue("", words.replace(/\p{C}+/gu, " ").trim()) };
  }
  return null;
}

const LISTEN = "0A";

/** What the descriptors of the sockets that listen on `port` link to. */
function listeners(table: string, port: number): string[] {
  const ending = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return table.split("\n").map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => state === LISTEN && local.endsWith(ending))
    .map((columns) => `socket:[${columns[9]}]`);
}

const read = (path: string) => look(() => Deno.readTextFileSync(path), "");

const entries = (path: string) => look(() => Array.from(Deno.readDirSync(path), ({ name }) => name), []);

const link = (path: string) => look(() => Deno.readLinkSync(path), "");

/** Processes end while we look, and others' are closed to us: then there is nothing to see. */
function look<T>(at: () => T, otherwise: T): T {
  try {
    return at();
  } catch (error) {
    const { NotFound, PermissionDenied, NotCapable } = Deno.errors;
    // ESRCH, for a process that ended in between, has no class of its own.
    const expected = [NotFound, PermissionDenied, NotCapable].some((kind) => error instanceof kind) ||
      error instanceof Error && /os error 3\b/.test(error.message);
    if (expected) return otherwise;
    throw error;
  }
}
