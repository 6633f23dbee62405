/**
 * `orchestrator stop [NAME...]`: services, or everything and the orchestrator itself.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { systemClock } from "../config/clock.ts";
import { ask, PAUSE_MS } from "../control/client.ts";
import { conclude, Mirror, waitFor } from "../control/mirror.ts";
import type { RunRecord } from "../control/run_folder.ts";
import { isSame } from "../process/procfs.ts";
import { print } from "../terminal/outlet.ts";
import { namesOf, waitLimitMs } from "./options.ts";
import { reportAbsence, withRun } from "./with_run.ts";

/** Stops services and waits until they have stopped. Where nothing runs, that is what was wanted: exit status 0. */
export function run(given: Given): Promise<number> {
  const [names, limitMs] = [namesOf(given), waitLimitMs(given)];
  return withRun(given, async ({ record, socket }) => {
    using mirror = await Mirror.open(socket, 0);
    if (names.length === 0) {
      await ask(socket, "/stop", {});
      return await waitForEnd(mirror, record, limitMs);
    }
    const stopped = await ask(socket, "/stop", { names });
    const result = await waitFor(mirror, { names: stopped.names, goal: "stopped", limitMs });
    // Nobody is left to keep running for: the end of the run is a stop, too.
    return result.kind === "exit" ? result.status ?? 1 : await conclude(mirror, result);
  }, (home) => {
    reportAbsence(home);
    return 0;
  });
}

/** Follows a run to its end, the last of its process included. */
async function waitForEnd(mirror: Mirror, record: RunRecord, limitMs: number): Promise<number> {
  const lateAt = performance.now() + limitMs;
  const result = await waitFor(mirror, { names: null, goal: "exited", limitMs });
  if (result.kind !== "exit") return await conclude(mirror, result);
  while (isSame(record.orchestrator, record.bootId) && performance.now() < lateAt) {
    await systemClock.sleep(PAUSE_MS);
  }
  print(`The orchestrator with PID ${record.orchestrator.pid} has stopped.`);
  return result.status ?? 1;
}
