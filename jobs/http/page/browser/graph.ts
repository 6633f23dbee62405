/**
 * Draws a blueprint's graph with a job's way through it.
 *
 * @module
 */
import type { Status } from "../../../model/job.ts";
import { draw, make } from "./dom.ts";
import { type Arrow, type Box, type Graph, labelOf, layout } from "./layout.ts";

const BOX_HEIGHT = 38;

/** The graph; `walk` are the states that the job went through, the present one last. */
export function drawGraph(graph: Graph, walk: readonly string[], status: Status): HTMLElement {
  const steps = walk.slice(1).map((to, index) => ({ from: walk[index] ?? to, to, label: "" }));
  const { width, height, boxes, arrows } = layout({
    states: [...graph.states, ...walk.map((name) => ({ name }))],
    edges: [...graph.edges, ...steps],
  });
  const isLit = ({ from, to }: Arrow) => steps.some((step) => step.from === from.name && step.to === to.name);
  const kindOf = ({ name }: Box) =>
    name === walk.at(-1) ? `present.${status}` : walk.includes(name) ? "lit" : "";
  const attributes = {
    role: "img",
    "aria-label": `Way of the job: ${walk.join(", then ")}. States: ${
      boxes.map(({ name }) => name).join(", ")
    }.`,
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
  };
  const drawing = draw(width > 700 ? "svg.wide" : "svg", attributes, [
    draw("defs", arrowTip("arrow"), arrowTip("arrow-lit")),
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

function drawArrow(arrow: Arrow, isLit: boolean): SVGElement {
  const { from, to, path, x, y } = arrow;
  const anchor = from === to ? "start" : "middle";
  const label = labelOf(arrow);
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
