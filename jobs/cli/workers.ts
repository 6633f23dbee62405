/**
 * `orchestrator workers`.
 *
 * @module
 */

import type { Given } from "../../config/command.ts";
import { show, tableOf } from "./job.ts";

/** Lists the workers with a recent heartbeat. */
export function run(given: Given): Promise<number> {
  return show(given, async (client) => {
    const workers = await client.workers();
    return {
      answer: workers,
      text: workers.length === 0
        ? "No worker is known; start one with: orchestrator worker --tasks FILE"
        : await tableOf(
          ["WORKER", "TYPE", "STATUS", "RUNNING", "TASKS", "LAST HEARTBEAT"],
          workers.map((worker) => [
            worker.worker_id,
            worker.worker_type,
            worker.status,
            `${worker.held_tasks} of ${worker.max_concurrent_tasks}`,
            worker.supported_tasks.join(","),
            worker.last_heartbeat_at,
          ]),
        ),
    };
  });
}
