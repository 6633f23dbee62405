/**
 * The list of jobs: searched, filtered by status, newest first.
 *
 * @module
 */
import type { Status } from "../../../model/job.ts";
import type { JobSummary } from "../../../model/wire.ts";
import { make } from "./dom.ts";
import type { State } from "./state.ts";
import { clock, pill, STATUS_WORDS } from "./words.ts";

/** The list; the job with this id is marked. */
export function jobList(state: State, openId: string): HTMLElement {
  const { jobs, search, limit } = state;
  const note = jobs === undefined
    ? "Loading…"
    : search || state.status
    ? "No job matches."
    : "No jobs yet. Submit one, and it appears here.";
  return make("section.list", { "aria-labelledby": "list-title" }, [
    make("h1.unseen", { id: "list-title" }, "Jobs"),
    make("label.unseen", { for: "search" }, "Search jobs"),
    make("input", {
      id: "search",
      type: "search",
      placeholder: "Search jobs",
      autocomplete: "off",
      value: search,
    }),
    statusFilter(state),
    !jobs?.length && make("p.dim", { "data-key": "note" }, note),
    make("ul", { id: "jobs", "data-key": "jobs" }, jobs?.slice(0, limit).map((job) => row(job, openId))),
    jobs !== undefined && jobs.length > limit &&
    make("button.quiet", { "data-key": "more", "data-do": "more" }, "Show more"),
  ]);
}

function statusFilter({ dashboard, status }: State): HTMLElement {
  const statuses = Object.keys(STATUS_WORDS) as Status[];
  const countOf = (status: Status) => dashboard?.jobs[status] ?? 0;
  const total = statuses.reduce((sum, status) => sum + countOf(status), 0);
  const chip = (own: Status | "", text: string, count: number) =>
    make(own ? `button.chip.${own}` : "button.chip", text, make("b", count), {
      "data-key": `chip-${own}`,
      "data-do": "filter",
      "data-status": own,
      "aria-pressed": String(status === own),
    });
  return make("div.chips", { role: "group", "aria-label": "Jobs by state" }, [
    chip("", "All", total),
    statuses.filter((own) => countOf(own) > 0 || own === status).map((own) =>
      chip(own, STATUS_WORDS[own], countOf(own))
    ),
  ]);
}

function row(job: JobSummary, openId: string): HTMLElement {
  const link = { href: `#/jobs/${job.job_id}`, "aria-current": job.job_id === openId && "true" };
  const content = make("a", link, [
    make("span.name", job.blueprint_name),
    pill(job.status),
    make("span.dim.at", job.state),
    make("span.dim", clock(job.created_at)),
    make("code.dim", job.job_id),
    job.error_message && make("span.error", job.error_message),
  ]);
  return make("li", { "data-key": job.job_id }, content);
}
