/**
 * Process groups: whether one still runs, and signals to all of it.
 *
 * @module
 */

/** The processes of a group that still run. Zombies that nobody has collected yet do not count. */
export function groupRuns(group: number): boolean {
  try {
    Deno.kill(-group, 0 as unknown as Deno.Signal); // 0 asks without sending; the type knows names only
  } catch (error) {
    // One that we may not signal (it became another user) runs all the same.
    if (!(error instanceof Deno.errors.PermissionDenied)) return false;
  }
  if (Deno.build.os !== "linux") return true;
  for (const entry of Deno.readDirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry.name)) continue;
    try {
      const stat = Deno.readTextFileSync(`/proc/${entry.name}/stat`);
      const [state, , itsGroup] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(itsGroup) === group && state !== "Z" && state !== "X") return true;
    } catch {
      // It ended while we looked.
    }
  }
  return false;
}

/** Sends a signal to a whole group; one that is gone is fine, one that we may not signal is told at the end. */
export function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch (error) {
    const known = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (!known && !(error instanceof TypeError)) throw error;
  }
}
