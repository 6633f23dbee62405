/**
 * `orchestrator events`: what happens, one JSON object a line.
 *
 * @module
 */

import type { Given } from "../config/command.ts";
import { lines, request } from "../control/client.ts";
import { print } from "../terminal/outlet.ts";
import { withRun } from "./with_run.ts";

/** Prints events until the run ends. */
export function run(given: Given): Promise<number> {
  return withRun(given, async ({ socket }) => {
    for await (const line of lines(await request(socket, "GET", "/events"))) print(line);
    return 0;
  });
}
