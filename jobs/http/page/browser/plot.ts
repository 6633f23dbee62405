/**
 * Draws the last minutes as a plot.
 *
 * @module
 */
import type { Dashboard } from "../../../model/wire.ts";
import { draw, make } from "./dom.ts";

type Sample = Dashboard["samples"][number];

/** What a plot shows; the first series is filled. Samples come one a second; each point is a mean of some. */
export interface Plot {
  title: string;
  unit: string;
  series: readonly { key: keyof Sample; name: string }[];
  meanSeconds: number;
}

const SPAN_SECONDS = 300;
const WIDTH = 600;

/** The plot of these samples. */
export function drawPlot(
  { title, unit, series, meanSeconds }: Plot,
  samples: readonly Sample[],
): HTMLElement {
  const end = samples.at(-1)?.seconds ?? 0;
  const times = samples.map(({ seconds }) => WIDTH * (1 - (end - seconds) / SPAN_SECONDS));
  const lines = series.map(({ key, name }) => ({
    name,
    points: samples.map((_, at) => {
      const some = samples.slice(Math.max(0, at + 1 - meanSeconds), at + 1);
      return { x: times[at] ?? 0, value: some.reduce((sum, sample) => sum + sample[key], 0) / some.length };
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
  return make("figure.card.plot", [
    make("figcaption", [
      make("h2", title, make("small", ` ${unit}`)),
      now.map((text, index) => make(`span.key.s${index}`, text)),
    ]),
    make("div.axes", [
      make("div.ys", { "aria-hidden": "true" }, make("span", top), make("span", 0)),
      draw(
        "svg",
        { role: "img", "aria-label": label, viewBox: `0 0 ${WIDTH} 100`, preserveAspectRatio: "none" },
        draw("path.grid", { d: "M0 4H600M0 52H600M0 99.5H600" }),
        paths.map((path, index) => [
          index === 0 && draw("path.area", { d: `M${parseFloat(path[0] ?? "")} 100L${path.join("L")}V100z` }),
          draw(`path.line.s${index}`, { d: `M${path.join("L")}` }),
        ]),
      ),
      make("div.xs", { "aria-hidden": "true" }, make("span", "5 min ago"), make("span", "now")),
    ]),
  ]);
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}
