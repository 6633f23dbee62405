/**
 * `orchestrator reload`: the services file and `.env` are read again, and what changed is carried out.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { ask } from "../control/client.ts";
import { describePlan } from "../control/reload.ts";
import { print } from "../terminal/outlet.ts";
import { withRun } from "./with_run.ts";

/** Reloads and shows what changed, or would. */
export function run(given: Given): Promise<number> {
  return withRun(given, async ({ socket }) => {
    const { changes } = await ask(socket, "/reload", { dryRun: given.has("dry-run") });
    print(given.has("json") ? JSON.stringify(changes, null, 2) : describePlan(changes).join("\n"));
    return 0;
  });
}
