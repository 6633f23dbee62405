/**
 * States, moments and spans as people read them.
 *
 * @module
 */
import { END_STATUSES, type Status } from "../../../model/job.ts";
import { make } from "./dom.ts";

/** Every status of a job, in the order in which they are listed. */
export const STATUS_WORDS: Readonly<Record<Status, string>> = {
  pending: "Pending",
  running: "Running",
  awaiting_retry: "Retries soon",
  waiting_for_worker: "Waits for worker",
  waiting_for_parallel_tasks: "In parallel",
  waiting_for_human: "Needs approval",
  waiting_for_sub_job: "Waits for sub-job",
  finished: "Finished",
  failed: "Failed",
  quarantined: "Quarantined",
  cancelled: "Cancelled",
};

/** Whether nothing more happens in this status. */
export function isEnd(status: Status): boolean {
  return END_STATUSES.some((end) => end === status);
}

/** A status with its colour. */
export function pill(status: Status): HTMLElement {
  return make(`span.pill.${status}`, STATUS_WORDS[status]);
}

/** A moment: its time, and the day unless it is today. */
export function clock(text: string): HTMLElement {
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  const shown = isToday ? at.toLocaleTimeString() : at.toLocaleString();
  return make("time", { datetime: text, title: at.toLocaleString() }, shown);
}

/** A span in its best unit. */
export function span(ms: number): string {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 && ms % 1000 !== 0 ? 1 : 0)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ${Math.floor(ms / 1000) % 60} s`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}
