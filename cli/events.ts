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
    const { body } = await request(socket, "GET", "/events");
    for await (const line of lines(body)) print(line);
    return 0;
  });
}
