/**
 * What a run lets others do with it.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import type { RunOptions } from "./run_options.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";

/** What a run lets others do with it. */
export interface RunContext {
  supervisor: Supervisor;
  version: string;
  /** The names asked for at the start. */
  names: readonly string[];
  /** Every service that was defined at the start. */
  known: readonly Service[];
  options: RunOptions;
  /** Stops everything and ends the run. */
  stop(): void;
  /** Stops everything, then starts again as the same process. */
  restartSelf(): void;
}
