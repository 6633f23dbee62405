/**
 * The jobs: their list, searched and filtered by status, and one of them with its way through the blueprint, what people
 * may do about it, its history and its data.
 *
 * @module
 */
import type { Status } from "../../../model/job.ts";
import type { HistoryEntry, JobSummary, JobView } from "../../../model/wire.ts";
import { type Content, draw, make } from "./dom.ts";
import { type Arrow, type Box, type Graph, layout, walkOf } from "./layout.ts";
import type { OpenJob, State } from "./state.ts";
import { clock, isEnd, pill, span, STATUS_WORDS } from "./words.ts";

/** How many entries of the history are shown, and how many characters of any data. */
const HISTORY_LIMIT = 300;
const DATA_LIMIT = 20_000;
const BOX_HEIGHT = 38;

// ---- The list -------------------------------------------------------------------------------------------------------

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

// ---- One job --------------------------------------------------------------------------------------------------------

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
      make("pre", { tabindex: 0 }, JSON.stringify(entry.result, null, 2).slice(0, DATA_LIMIT)),
    ]),
  ]);
}

function data(title: string, value: object | undefined, isOpen: boolean): HTMLElement | undefined {
  if (value === undefined || Object.keys(value).length === 0) return undefined;
  const text = JSON.stringify(value, null, 2);
  const more = text.length - DATA_LIMIT;
  return make("details.card", { "data-key": title, open: isOpen }, [
    make("summary", title),
    make("pre", { tabindex: 0, role: "region", "aria-label": title }, text.slice(0, DATA_LIMIT)),
    more > 0 && make("p.dim", `${more} more characters are not shown.`),
  ]);
}

// ---- Its way --------------------------------------------------------------------------------------------------------

/** The blueprint's graph; `walk` are the states that the job went through, the present one last. */
function drawGraph(graph: Graph, walk: readonly string[], status: Status): HTMLElement {
  const steps = walk.slice(1).map((to, index) => ({ from: walk[index] ?? to, to, label: "" }));
  const { width, height, boxes, arrows } = layout({
    states: [...graph.states, ...walk.map((name) => ({ name }))],
    edges: [...graph.edges, ...steps],
  });
  const isLit = ({ from, to }: Arrow) => steps.some((step) => step.from === from.name && step.to === to.name);
  const kindOf = ({ name }: Box) =>
    name === walk.at(-1) ? `present.${status}` : walk.includes(name) ? "lit" : "";
  const names = boxes.map(({ name }) => name).join(", ");
  const attributes = {
    role: "img",
    "aria-label": `Way of the job: ${walk.join(", then ")}. States: ${names}.`,
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
  };
  const drawing = draw(width > 700 ? "svg.wide" : "svg", attributes, [
    draw("defs", ["arrow", "arrow-lit"].map(arrowTip)),
    // Arrows that were taken lie above the others.
    arrows.filter((arrow) => !isLit(arrow)).map((arrow) => drawArrow(arrow, false)),
    arrows.filter(isLit).map((arrow) => drawArrow(arrow, true)),
    boxes.map((box) => drawBox(box, kindOf(box))),
  ]);
  const region = { tabindex: 0, role: "region", "aria-label": "Graph, can be scrolled" };
  return make("div.scroll.graph", region, drawing);
}

function short(text: string): string {
  return text.length > 28 ? `${text.slice(0, 27)}…` : text;
}

function drawArrow({ from, to, label, path, x, y }: Arrow, isLit: boolean): SVGElement {
  const anchor = from === to ? "start" : "middle";
  return draw(isLit ? "g.edge.lit" : "g.edge", [
    draw("path", { d: path, "marker-end": `url(#arrow${isLit ? "-lit" : ""})` }),
    label && draw("text", { x, y: y + 4, "text-anchor": anchor }, short(label)),
  ]);
}

function drawBox({ name, x, y, width, isStart, isEnd }: Box, kind: string): SVGElement {
  const outline = (inset: number) =>
    draw("rect", {
      x: x - width / 2 + inset,
      y: y - BOX_HEIGHT / 2 + inset,
      width: width - 2 * inset,
      height: BOX_HEIGHT - 2 * inset,
      rx: (isStart ? BOX_HEIGHT / 2 : 9) - inset,
    });
  return draw(`g.node.${kind}`, [
    draw("title", name),
    outline(0),
    isEnd && outline(3),
    draw("text", { x, y: y + 4.5, "text-anchor": "middle" }, short(name)),
  ]);
}

function arrowTip(id: string): SVGElement {
  const size = { markerUnits: "userSpaceOnUse", markerWidth: 10, markerHeight: 10 };
  const attributes = { id, viewBox: "0 0 8 8", refX: 6, refY: 4, ...size, orient: "auto" };
  return draw("marker", attributes, draw("path", { d: "M0 0L8 4L0 8z" }));
}
