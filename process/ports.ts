/**
 * Ports of this machine: whether one is free, and who listens on it. Only Linux shows who.
 *
 * @module
 */

import { maskValue } from "../config/secrets.ts";
import { commandLine, listenerOn } from "./procfs.ts";

/** Whether nothing listens on a port, on any address. */
export function isPortFree(port: number): boolean {
  for (const hostname of ["0.0.0.0", "::"]) {
    try {
      Deno.listen({ hostname, port }).close();
    } catch (error) {
      if (error instanceof Deno.errors.AddrInUse) return false;
      // No such address family here, or no right to the port: the service will report it.
    }
  }
  return true;
}

/** ` by PID 12 (python main.py)`, or nothing where the system does not show it. */
export function describeHolder(port: number): string {
  const holder = portHolder(port);
  return holder === null ? "" : ` by PID ${holder.pid} (${holder.command})`;
}

/**
 * The process that listens on a TCP port, or `null`: there is none, or it is someone else's, or this is no Linux. Its
 * command line comes without control characters and passwords.
 */
export function portHolder(port: number): { pid: number; command: string } | null {
  const pid = listenerOn(port);
  if (pid === null) return null;
  return { pid, command: maskValue("", commandLine(pid).replace(/\p{C}+/gu, " ").trim()) };
}
