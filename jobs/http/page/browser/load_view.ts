/**
 * The last minutes, the queues and the workers.
 *
 * @module
 */
import type { Dashboard, WorkerView } from "../../../model/wire.ts";
import { make } from "./dom.ts";
import { drawPlot, type Plot } from "./plot.ts";
import type { State } from "./state.ts";
import { span } from "./words.ts";

const PLOTS: readonly Plot[] = [
  {
    title: "Queue depth",
    unit: "tasks",
    meanSeconds: 1,
    series: [{ key: "queued", name: "waiting" }, { key: "held", name: "at workers" }],
  },
  {
    title: "Throughput",
    unit: "a second, mean of 10 s",
    meanSeconds: 10,
    series: [{ key: "ended", name: "ended" }, { key: "submitted", name: "submitted" }],
  },
];

/** What there is to do, and who does it. */
export function loadView({ dashboard, workers, engine }: State): HTMLElement {
  const now = Date.now() + (engine?.skewMs ?? 0);
  return make("main.load", { id: "main", tabindex: -1 }, [
    make("h1.unseen", "Workers and load"),
    make("div.plots", PLOTS.map((plot) => drawPlot(plot, dashboard?.samples ?? []))),
    dashboard && dashboard.queues.length > 0 && queueTable(dashboard.queues),
    make("h2", "Workers", workers && make("small", ` ${workers.length}`)),
    workers?.length === 0 &&
    make("p.dim", { "data-key": "none" }, "No worker is connected; tasks wait until one comes."),
    make("ul.workers", { "data-key": "workers" }, workers?.map((worker) => workerCard(worker, now))),
  ]);
}

function queueTable(queues: Dashboard["queues"]): HTMLElement {
  const heads = ["Task type", "Waiting", "At workers", "Oldest"];
  return make(
    "div.card.scroll",
    { tabindex: 0, role: "region", "aria-label": "Queues" },
    make("table", [
      make("caption", "Queues"),
      make("thead", make("tr", heads.map((text) => make("th", { scope: "col" }, text)))),
      make(
        "tbody",
        queues.map(({ type, queued, held, oldest_seconds: seconds }) =>
          make("tr", { "data-key": type }, [
            make("th", { scope: "row" }, type),
            make("td", queued),
            make("td", held),
            make("td", queued > 0 ? span(seconds * 1000) : "–"),
          ])
        ),
      ),
    ]),
  );
}

function workerCard(worker: WorkerView, now: number): HTMLElement {
  const { worker_id: id, max_concurrent_tasks: max, held_tasks: held, last_heartbeat_at: seenAt } = worker;
  const seconds = Math.round((now - Date.parse(seenAt)) / 1000);
  const ago = seconds < 1 ? "now" : `${span(seconds * 1000)} ago`;
  return make("li.card.worker", { "data-key": id }, [
    make("div.row", [
      make("h3", id),
      make(`span.pill.${worker.status === "idle" ? "finished" : "running"}`, worker.status),
    ]),
    make("p.dim", [worker.worker_type, worker.hostname].filter(Boolean).join(" · ")),
    make("meter", { max, value: held, "aria-label": `Load of ${id}` }),
    make("p", `${held} of ${max} tasks, load ${worker.load}`),
    make("p.dim", "Last heartbeat ", make("time", { datetime: seenAt }, ago)),
    make("p.tags", worker.supported_tasks.map((task) => make("code", task))),
  ]);
}
