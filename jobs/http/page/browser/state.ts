/**
 * What the page shows: one value that views turn into elements.
 *
 * @module
 */
import type { Status } from "../../../model/job.ts";
import type { Dashboard, HistoryEntry, JobSummary, JobView, WorkerView } from "../../../model/wire.ts";
import type { Engine } from "./engine.ts";
import type { Graph } from "./layout.ts";

/** How many jobs are listed at first, and how many more at a time. */
export const PAGE_SIZE = 50;

/** A job with its history and its blueprint's graph. */
export interface OpenJob {
  job: JobView;
  history: readonly HistoryEntry[];
  graph: Graph;
}

/** What is not here yet is undefined. */
export class State {
  /** The engine after signing in. */
  engine: Engine | undefined;
  /** Why signing in failed, or why it is necessary again. */
  refusal = "";
  status: Status | "" = "";
  search = "";
  limit = PAGE_SIZE;
  jobs: readonly JobSummary[] | undefined;
  dashboard: Dashboard | undefined;
  workers: readonly WorkerView[] | undefined;
  open: OpenJob | undefined;
  /** Why the job that the address names cannot be shown. */
  missing = "";
}

export const state: Readonly<State> = new State();

/** Changes the state. What it shows by then is shown by the next `render`. */
export function update(change: Partial<State>): void {
  Object.assign(state, change);
}

/** What the address names: a view, and the id of a job or an empty text. */
export function place(): { view: "jobs" | "load"; id: string } {
  const [, view, id = ""] = /^#\/(jobs|load)(?:\/([\w-]+))?$/.exec(location.hash) ?? [];
  return { view: view === "load" ? "load" : "jobs", id };
}
