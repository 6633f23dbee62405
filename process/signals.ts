/**
 * Signals: to groups of processes, those that this process handles, and what Ctrl+C does to a terminal.
 *
 * @module
 */

import { processes } from "./procfs.ts";

/** Whether anything of a group still runs. Zombies that nobody has collected yet do not count. */
export function groupRuns(group: number): boolean {
  try {
    Deno.kill(-group, 0 as unknown as Deno.Signal); // 0 asks without sending; the type knows names only
  } catch (error) {
    // One that we may not signal (it became another user) runs all the same.
    if (!(error instanceof Deno.errors.PermissionDenied)) return false;
  }
  return Deno.build.os !== "linux" || processes().some((process) => process.group === group);
}

/** Sends a signal to a whole group; one that is gone is fine, one that we may not signal is reported at the end. */
export function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch (error) {
    const known = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (!known && !(error instanceof TypeError)) throw error;
  }
}

/** Handles signals until it is disposed. On Windows, which knows no others, only SIGINT is listened to. */
export function handleSignals(handlers: Partial<Record<Deno.Signal, () => void>>): Disposable {
  const known = (Object.entries(handlers) as [Deno.Signal, () => void][])
    .filter(([signal]) => Deno.build.os !== "windows" || signal === "SIGINT");
  for (const [signal, handler] of known) Deno.addSignalListener(signal, handler);
  return {
    [Symbol.dispose]() {
      for (const [signal, handler] of known) Deno.removeSignalListener(signal, handler);
    },
  };
}

/**
 * Lets a write to the terminal on standard output go on. Ctrl+C and Ctrl+Z empty the buffer of a terminal, and Linux may
 * forget to wake who waits for room in it; until that write is done, the terminal's mode can't be changed either.
 */
export function resumeOutput(): void {
  if (Deno.build.os !== "linux") return;
  const libc = Deno.dlopen("libc.so.6", { tcflow: { parameters: ["i32", "i32"], result: "i32" } });
  const [STDOUT, TCOOFF, TCOON] = [1, 0, 1];
  libc.symbols.tcflow(STDOUT, TCOOFF);
  libc.symbols.tcflow(STDOUT, TCOON); // wakes all that wait
  libc.close();
}
