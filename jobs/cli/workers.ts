/**
 * `orchestrator workers`.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { clientOf } from "./job.ts";
import { table } from "./output.ts";
import { withStreams } from "./streams.ts";

/** Lists the workers with a recent heartbeat. */
export function run(given: Given): Promise<number> {
  return withStreams(async ({ out }) => {
    const workers = await clientOf(given).workers();
    if (given.has("json")) out.line(JSON.stringify(workers, null, 2));
    else if (workers.length === 0) {
      out.line("No worker is known; start one with: orchestrator worker --tasks FILE");
    } else {
      out.line(table(
        ["WORKER", "TYPE", "STATUS", "RUNNING", "TASKS", "LAST HEARTBEAT"],
        workers.map((worker) => [
          worker.worker_id,
          worker.worker_type,
          worker.status,
          `${worker.held_tasks} of ${worker.max_concurrent_tasks}`,
          worker.supported_tasks.join(","),
          worker.last_heartbeat_at,
        ]),
      ));
    }
    return 0;
  });
}
