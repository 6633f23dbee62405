/**
 * The options of a run, and what it lets others do with it.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { LogOptions } from "./log_files.ts";

/** The options of a run. */
export interface RunOptions {
  /** The `.env` to load instead of `infrastructure/.env`. */
  envFile?: string | undefined;
  /** The infrastructure folder instead of the one beside this script or binary. */
  infrastructure?: string | undefined;
  /** The services file instead of the folder's. */
  config?: string | undefined;
  /** Services to run instead of any file's. */
  services?: readonly Service[];
  /** `false`: prefixed lines even on a terminal; `"none"`: nothing is shown. */
  dashboard?: boolean | "none";
  /** `false`: takes no lock on the folder and can't be talked to by the commands of `control/`. */
  control?: boolean;
  /** Where logs are written, and how; without a folder none are. */
  logs?: Partial<LogOptions>;
  /** Whether it runs in the background: SIGHUP reloads, only faults are shown, and logs are always written. */
  detached?: boolean;
}

/** What a run lets others do with it. */
export interface RunContext {
  supervisor: Supervisor;
  version: string;
  /** The names asked for at the start; empty means all with `autostart`. */
  names: readonly string[];
  /** Every service that was defined at the start. */
  known: readonly Service[];
  options: RunOptions;
  /** Stops everything and ends the run. */
  stop(): void;
  /** Stops everything, then starts again as the same process. */
  restartSelf(): void;
}
