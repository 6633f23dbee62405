/**
 * `orchestrator version`.
 *
 * @module
 */

import { VERSION } from "../config/version.ts";
import { print } from "../terminal/outlet.ts";

/** Shows the version. */
export function run(): Promise<number> {
  print(`orchestrator ${VERSION}`);
  return Promise.resolve(0);
}
