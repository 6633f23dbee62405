/**
 * `orchestrator restart NAME...`.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { ask } from "../control/client.ts";
import { conclude, Mirror, waitFor } from "../control/mirror.ts";
import { namesOf, waitLimitMs } from "./options.ts";
import { withRun } from "./with_run.ts";

/** Restarts services and waits until they run. */
export function run(given: Given): Promise<number> {
  const [names, limitMs] = [namesOf(given), waitLimitMs(given)];
  return withRun(given, async ({ socket }) => {
    using mirror = await Mirror.open(socket, 1_000);
    const restarted = await ask(socket, "/restart", {
      names,
      dependents: given.has("with-dependents"),
      dependencies: given.has("with-dependencies"),
    });
    const wanted = { ...restarted, goal: "restarted", asked: names, limitMs } as const;
    return await conclude(mirror, await waitFor(mirror, wanted));
  });
}
