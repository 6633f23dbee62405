/**
 * One job: what it waits for, what people may do, its way through the blueprint, its history and its data.
 *
 * @module
 */
import type { HistoryEntry, JobView } from "../../../model/wire.ts";
import { type Content, make } from "./dom.ts";
import { drawGraph } from "./graph.ts";
import { walkOf } from "./layout.ts";
import type { OpenJob, State } from "./state.ts";
import { clock, isEnd, pill, span } from "./words.ts";

/** How many entries of the history are shown, and how many characters of any data. */
const HISTORY_LIMIT = 300;
const DATA_LIMIT = 20_000;

/** The job with this id, or why it is not shown. */
export function jobView({ open, missing }: State, id: string): HTMLElement {
  const back = make("a.back", { href: "#/jobs" }, "← All jobs");
  if (open?.job.id === id) return openView(open, back);
  const text = id ? missing || "Loading…" : "Choose a job to see its way.";
  return make("section.job", { "aria-label": "Job" }, id && back, make("p.dim", text));
}

function openView({ job, history, graph }: OpenJob, back: HTMLElement): HTMLElement {
  return make("section.job", { "aria-labelledby": "job-title", "data-key": job.id }, [
    back,
    make("div.row", [
      make("h1", { id: "job-title", tabindex: -1 }, job.blueprint_name, " ", pill(job.status)),
      (job.status === "failed" || job.status === "quarantined") &&
      make("button.main", { "data-key": "retry", "data-do": "retry" }, "Run again"),
      !isEnd(job.status) &&
      make("button.danger", { "data-key": "cancel", "data-do": "cancel" }, "Cancel job"),
    ]),
    make("code.dim", job.id),
    job.status === "waiting_for_human" && job.approval && question(job.approval),
    job.error_message && make("p.card.error", { "data-key": "error" }, job.error_message),
    facts(job),
    make("div.pair", { "data-key": "pair" }, [
      make("section.card", { "data-key": "graph" }, [
        make("h2", "Way through the blueprint"),
        drawGraph(graph, walkOf(job, history), job.status),
      ]),
      timeline(history),
    ]),
    data("Result", job.result, true),
    data("Params", job.initial_data, true),
    data("Task", job.current_task_info, false),
    data("Results of branches", job.aggregation_results, false),
    data("Data so far", job.state_history, !job.result),
  ]);
}

function question({ integration, message, decisions }: NonNullable<JobView["approval"]>): HTMLElement {
  return make("section.card.question", { "data-key": "question", "aria-label": "Approval" }, [
    make("h2", integration ? `Approval (${integration})` : "Approval"),
    make("p.message", message),
    make("div.row", decisions.map(choice)),
  ]);
}

function choice(decision: string, index: number): HTMLElement {
  const attributes = { "data-do": "decide", "data-decision": decision };
  return make(index === 0 ? "button.main" : "button", attributes, decision);
}

function facts(job: JobView): HTMLElement {
  const fact = (name: string, value: Content) =>
    value !== undefined && value !== null && value !== "" &&
    make("div", { "data-key": name }, make("dt", name), make("dd", value));
  const link = (id: string | undefined) => id && make("a", { href: `#/jobs/${id}` }, id);
  const ended = isEnd(job.status);
  const percent = job.progress?.progress === undefined ? undefined : Math.round(job.progress.progress * 100);
  return make("dl.card.facts", { "data-key": "facts" }, [
    fact("State", job.current_state),
    fact("Created", clock(job.created_at)),
    ended && job.ended_at
      ? fact("Took", span(Date.parse(job.ended_at) - Date.parse(job.created_at)))
      : fact(ended ? "Took" : "Since", clock(job.updated_at)),
    fact("Waits for", job.waiting_for),
    fact("Task", job.current_task_info?.type),
    fact("Worker", job.task_worker_id),
    fact("Retries", job.retry_count || undefined),
    fact("Part of", link(job.parent_job_id)),
    fact("Sub-job", link(job.child_job_id)),
    percent !== undefined && !ended && make("div.wide", { "data-key": "progress" }, [
      make("dt", "Progress"),
      make("dd", [
        make("progress", { max: 100, value: percent, "aria-label": "Progress" }),
        ` ${percent} % ${job.progress?.message ?? ""}`,
      ]),
    ]),
  ]);
}

function timeline(history: readonly HistoryEntry[]): HTMLElement {
  const older = history.length - HISTORY_LIMIT;
  return make("section.card", { "data-key": "timeline" }, [
    make("h2", "Timeline"),
    older > 0 && make("p.dim", `${older} older entries are not shown.`),
    make("ol.timeline", history.slice(-HISTORY_LIMIT).map(timelineEntry)),
  ]);
}

function timelineEntry(entry: HistoryEntry): HTMLElement {
  const details = [
    entry.next_state && entry.previous_state !== entry.next_state
      ? `${entry.previous_state ?? entry.state} → ${entry.next_state}`
      : entry.state,
    entry.attempt_number !== undefined && `attempt ${entry.attempt_number}`,
    entry.duration_ms !== undefined && span(entry.duration_ms),
    entry.worker_id,
  ];
  return make(entry.error ? "li.bad" : "li", { "data-key": `event-${entry.event_id}` }, [
    make("b", entry.event_type.replaceAll("_", " ")),
    clock(entry.timestamp),
    make("span.dim", details.filter(Boolean).join(" · ")),
    entry.error && make("span.error", entry.error),
    entry.result && make("details", [
      make("summary", "Result"),
      make("pre", { tabindex: 0 }, jsonText(entry.result).slice(0, DATA_LIMIT)),
    ]),
  ]);
}

function data(title: string, value: object | undefined, isOpen: boolean): HTMLElement | undefined {
  if (value === undefined || Object.keys(value).length === 0) return undefined;
  const text = jsonText(value);
  const more = text.length - DATA_LIMIT;
  return make("details.card", { "data-key": title, open: isOpen }, [
    make("summary", title),
    make("pre", { tabindex: 0, role: "region", "aria-label": title }, text.slice(0, DATA_LIMIT)),
    more > 0 && make("p.dim", `${more} more characters are not shown.`),
  ]);
}

function jsonText(value: object): string {
  return JSON.stringify(value, null, 2);
}
