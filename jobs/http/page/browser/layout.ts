/**
 * Where the states and arrows of a graph stand: pure arithmetic, without a browser. States stand in rows, from the
 * start downwards. Every arrow has a place of its own in the rows between its ends, as wide as its label, so labels
 * never cover each other.
 *
 * @module
 */

/** A blueprint's graph, as the engine sends it. */
export interface Graph {
  states: readonly { name: string; is_start?: boolean; is_end?: boolean }[];
  edges: readonly { from: string; to: string; label: string }[];
}

/** A state; its point is its middle. */
export interface Box {
  name: string;
  isStart: boolean;
  isEnd: boolean;
  width: number;
  x: number;
  y: number;
}

/** An arrow; its point is the place of its label. */
export interface Line {
  from: string;
  to: string;
  label: string;
  /** As the path of a drawing. */
  path: string;
  x: number;
  y: number;
}

/** What has a place in a row: a state, or a bend of an arrow that passes the row. */
interface Item {
  row: number;
  index: number;
  space: number;
  x: number;
  y: number;
  above: Item[];
  below: Item[];
}

interface Node extends Item, Box {
  out: Arrow[];
}

interface Arrow {
  from: Node;
  to: Node;
  labels: Set<string>;
  bends: Item[];
  /** Whether it leads back to a state that it comes from. */
  isBack: boolean;
}

const GAP = 24;
/** Of rows with states and of the rows of arrows between them. */
const ROW_HEIGHTS = [38, 44] as const;
const MARGIN = 6;
const LETTER = { state: 7.6, label: 6.4 };

/** Lays a graph out. */
export function layout(graph: Graph): { width: number; height: number; boxes: Box[]; lines: Line[] } {
  const { nodes, arrows } = read(graph);
  const order = rank(nodes);
  for (const arrow of arrows) bend(arrow);
  const rows: Item[][] = [];
  for (const item of [...order, ...arrows.flatMap(({ bends }) => bends)]) (rows[item.row] ??= []).push(item);
  arrange(rows);
  spread(rows);
  return { ...place(rows), boxes: order, lines: arrows.map(lineOf) };
}

/** The states a job went through, in order, the present one last. */
export function walkOf(
  job: { readonly current_state: string },
  history: readonly { readonly state: string }[],
): string[] {
  const states = [...history.map((entry) => entry.state), job.current_state];
  return states.filter((state, index) => state !== states[index - 1]);
}

/** States by name, also those that only arrows name, and one arrow for all that have the same ends. */
function read({ states, edges }: Graph): { nodes: Node[]; arrows: Arrow[] } {
  const nodes = new Map<string, Node>();
  const arrows: Arrow[] = [];
  const nodeOf = (name: string, isStart = false, isEnd = false): Node => {
    const known = nodes.get(name);
    if (known !== undefined) return known;
    const width = Math.max(64, textWidth(name, LETTER.state) + 18);
    const node = { ...itemOf(0, width), name, isStart, isEnd, width, out: [] };
    nodes.set(name, node);
    return node;
  };
  for (const state of states) nodeOf(state.name, state.is_start, state.is_end);
  for (const edge of edges) {
    const [from, to] = [nodeOf(edge.from), nodeOf(edge.to)];
    let arrow = from.out.find((other) => other.to === to);
    if (arrow === undefined) {
      arrow = { from, to, labels: new Set(), bends: [], isBack: false };
      from.out.push(arrow);
      arrows.push(arrow);
    }
    const label = edge.label.replace(/^on /, "");
    if (label !== "" && edge.label !== edge.to && edge.label !== "transition") arrow.labels.add(label);
  }
  return { nodes: [...nodes.values()], arrows };
}

function labelOf({ labels }: Arrow): string {
  return [...labels].join(", ");
}

function itemOf(row: number, space: number): Item {
  return { row, space, index: 0, x: 0, y: 0, above: [], below: [] };
}

function textWidth(text: string, letter: number): number {
  return Math.max(14, Math.min(text.length, 28) * letter + 12);
}
/** Gives each state its row. @returns the states so that arrows lead onwards, except for those that lead back */
function rank(nodes: readonly Node[]): Node[] {
  const order: Node[] = [];
  const entered = new Map<Node, "open" | "done">();
  const enter = (node: Node) => {
    if (entered.has(node)) return;
    entered.set(node, "open");
    for (const arrow of node.out) {
      arrow.isBack = entered.get(arrow.to) === "open";
      enter(arrow.to);
    }
    entered.set(node, "done");
    order.unshift(node);
  };
  nodes.toSorted((a, b) => Number(b.isStart) - Number(a.isStart)).forEach(enter);
  for (const node of order) {
    for (const { to, isBack } of node.out) if (!isBack) to.row = Math.max(to.row, node.row + 2);
  }
  return order;
}

/** Gives an arrow its places in the rows between its ends, in its direction. The first one holds the label. */
function bend(arrow: Arrow): void {
  const { from, to, bends } = arrow;
  const labelWidth = textWidth(labelOf(arrow), LETTER.label);
  if (from === to) {
    from.space += 2 * (labelWidth + 30);
    return;
  }
  const way = Math.sign(to.row - from.row);
  for (let row = from.row + way; row !== to.row; row += way) {
    bends.push(itemOf(row, bends.length === 0 ? labelWidth : 14));
  }
  let last: Item = from;
  for (const next of [...bends, to]) {
    last[way > 0 ? "below" : "above"].push(next);
    next[way > 0 ? "above" : "below"].push(last);
    last = next;
  }
}

/** Visits all rows several times, downwards and upwards in turn, each with the side where it comes from. */
function sweep(rows: readonly Item[][], visit: (row: Item[], side: "above" | "below") => void): void {
  for (let round = 0; round < 6; round++) {
    for (const row of rows) visit(row, "above");
    for (const row of rows.toReversed()) visit(row, "below");
  }
}

function mean(values: readonly number[], otherwise: number): number {
  return values.length === 0 ? otherwise : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Sorts each row by what its items are connected with, so that arrows cross seldom. */
function arrange(rows: readonly Item[][]): void {
  const number = (row: Item[]) => row.forEach((item, index) => item.index = index);
  rows.forEach(number);
  sweep(rows, (row, side) => {
    const wanted = (item: Item) => mean(item[side].map((other) => other.index), item.index);
    row.sort((a, b) => wanted(a) - wanted(b));
    number(row);
  });
}

/** Moves all items towards those that they are connected with. */
function spread(rows: readonly Item[][]): void {
  sweep(rows, (row, side) => {
    const wanted = row.map((item) => mean(item[side].map((other) => other.x), item.x));
    // Pushing right and pushing left both keep the distances, so their mean does.
    const right = pushed(row, wanted, 1);
    const left = pushed(row.toReversed(), wanted.toReversed(), -1).reverse();
    row.forEach((item, index) => item.x = ((right[index] ?? 0) + (left[index] ?? 0)) / 2);
  });
}

/** Where items come to stand that are pushed one after the other, so far that none covers the one before. */
function pushed(row: readonly Item[], wanted: readonly number[], way: 1 | -1): number[] {
  let limit = -Infinity;
  return row.map(({ space }, index) => {
    const middle = Math.max(way * (wanted[index] ?? 0), limit + space / 2);
    limit = middle + space / 2 + GAP;
    return way * middle;
  });
}

/** Moves everything into the drawing. @returns its size */
function place(rows: readonly Item[][]): { width: number; height: number } {
  const all = rows.flat();
  const leftmost = Math.min(...all.map(({ x, space }) => x - space / 2));
  let top = MARGIN;
  for (const [index, row] of rows.entries()) {
    const height = ROW_HEIGHTS[index % 2 === 0 ? 0 : 1];
    for (const item of row) {
      item.x += MARGIN - leftmost;
      item.y = top + height / 2;
    }
    top += height;
  }
  return { width: Math.max(0, ...all.map(({ x, space }) => x + space / 2)) + MARGIN, height: top + MARGIN };
}

function lineOf(arrow: Arrow): Line {
  const { from, to, bends } = arrow;
  const ends = { from: from.name, to: to.name, label: labelOf(arrow) };
  if (from === to) {
    const side = from.x + from.width / 2;
    return { ...ends, path: `M${side} ${from.y - 8}c28 -10 28 26 4 16`, x: side + 30, y: from.y };
  }
  const way = Math.sign(to.y - from.y);
  const half = ROW_HEIGHTS[0] / 2;
  let { x } = from;
  let y = from.y + way * half;
  let path = `M${x} ${y}`;
  for (const next of [...bends, { x: to.x, y: to.y - way * (half + 4) }]) {
    const middle = (y + next.y) / 2;
    path += `C${x} ${middle} ${next.x} ${middle} ${next.x} ${next.y}`;
    ({ x, y } = next);
  }
  const [named = from] = bends;
  return { ...ends, path, x: named.x, y: named.y };
}
