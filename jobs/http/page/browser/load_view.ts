/**
 * The last minutes as plots, the queues and the workers.
 *
 * @module
 */
import type { Dashboard, WorkerView } from "../../../model/wire.ts";
import { draw, make } from "./dom.ts";
import type { State } from "./state.ts";
import { span } from "./words.ts";

type Sample = Dashboard["samples"][number];

/** The first series is filled. Samples come one a second; each point is a mean of some. */
interface Plot {
  title: string;
  unit: string;
  series: readonly { key: keyof Sample; name: string }[];
  meanSeconds: number;
}

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
const SPAN_SECONDS = 300;
const WIDTH = 600;

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

function drawPlot({ title, unit, series, meanSeconds }: Plot, samples: readonly Sample[]): HTMLElement {
  const end = samples.at(-1)?.seconds ?? 0;
  const lines = series.map(({ key, name }) => ({
    name,
    points: samples.map(({ seconds }, at) => {
      const some = samples.slice(Math.max(0, at + 1 - meanSeconds), at + 1);
      const value = some.reduce((sum, sample) => sum + sample[key], 0) / some.length;
      return { x: WIDTH * (1 - (end - seconds) / SPAN_SECONDS), value };
    }).filter(({ x }) => x >= 0),
  }));
  const peak = Math.max(1, ...lines.flatMap(({ points }) => points.map(({ value }) => value)));
  const step = 10 ** Math.floor(Math.log10(peak));
  const top = [1, 2, 5].map((times) => times * step).find((limit) => limit >= peak) ?? 10 * step;
  const paths = lines.map(({ points }) =>
    points.map(({ x, value }) => `${x.toFixed(1)} ${(100 - value * 96 / top).toFixed(1)}`)
  ).filter((path) => path.length > 1);
  const now = lines.map(({ name, points }) => `${name} ${rounded(points.at(-1)?.value ?? 0)}`);
  const label = `${title}, last five minutes. Now: ${now.join(", ")}. Most: ${rounded(peak)}.`;
  const axes = { role: "img", "aria-label": label, viewBox: `0 0 ${WIDTH} 100`, preserveAspectRatio: "none" };
  return make("figure.card.plot", [
    make("figcaption", [
      make("h2", title, make("small", ` ${unit}`)),
      now.map((text, index) => make(`span.key.s${index}`, text)),
    ]),
    make("div.axes", [
      make("div.ys", { "aria-hidden": "true" }, make("span", top), make("span", 0)),
      draw("svg", axes, [
        draw("path.grid", { d: "M0 4H600M0 52H600M0 99.5H600" }),
        paths.map((path, index) => [
          index === 0 && draw("path.area", { d: `M${parseFloat(path[0] ?? "")} 100L${path.join("L")}V100z` }),
          draw(`path.line.s${index}`, { d: `M${path.join("L")}` }),
        ]),
      ]),
      make("div.xs", { "aria-hidden": "true" }, make("span", "5 min ago"), make("span", "now")),
    ]),
  ]);
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

function queueTable(queues: Dashboard["queues"]): HTMLElement {
  const heads = ["Task type", "Waiting", "At workers", "Oldest"];
  const rows = queues.map(({ type, queued, held, oldest_seconds: seconds }) =>
    make("tr", { "data-key": type }, [
      make("th", { scope: "row" }, type),
      [queued, held, queued > 0 ? span(seconds * 1000) : "–"].map((value) => make("td", value)),
    ])
  );
  const table = make("table", [
    make("caption", "Queues"),
    make("thead", make("tr", heads.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", rows),
  ]);
  return make("div.card.scroll", { tabindex: 0, role: "region", "aria-label": "Queues" }, table);
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
