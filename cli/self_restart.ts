/**
 * `orchestrator self-restart`.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { ask } from "../control/client.ts";
import { Mirror, waitFor } from "../control/mirror.ts";
import { print } from "../terminal/outlet.ts";
import { withRun } from "./with_run.ts";

/** Has the orchestrator stop everything and start again as the same process. */
export function run(given: Given): Promise<number> {
  return withRun(given, async ({ record, socket }) => {
    using mirror = await Mirror.open(socket, 0);
    await ask(socket, "/self-restart", {});
    const result = await waitFor(mirror, { names: null, goal: "exited" });
    if (result.kind === "exit" && result.restarting) {
      print(`The orchestrator with PID ${record.orchestrator.pid} is restarting.`);
      return 0;
    }
    print("orchestrator: It has stopped and was not started again.", Deno.stderr);
    return 1;
  });
}
