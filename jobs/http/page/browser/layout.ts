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

interface Point {
  x: number;
  y: number;
}

/** A state; its point is its middle. */
export interface Box extends Point {
  name: string;
  isStart: boolean;
  isEnd: boolean;
  width: number;
}

/** An arrow; its point is the place of its label. */
export interface Line extends Point {
  from: string;
  to: string;
  label: string;
  /** As the path of a drawing. */
  path: string;
}

/** What has a place in a row: a state, or a bend of an arrow that passes the row. */
interface Item extends Point {
  row: number;
  index: number;
  space: number;
  above: Item[];
  below: Item[];
}

interface Node extends Item, Box {
  out: Arrow[];
  loop: Arrow | undefined;
}

interface Arrow {
  from: Node;
  to: Node;
  label: string;
  /** Whether it leads back to a state that it comes from. */
  isBack: boolean;
}

const GAP = 24;
/** Of rows with states and of the rows of arrows between them. */
const ROW_HEIGHTS = [38, 44] as const;
const MARGIN = 6;
const LETTER = { state: 7.6, label: 6.4 };

/** Lays a graph out. `loops` are the arrows that lead from a state to itself. */
export function layout(
  graph: Graph,
): { width: number; height: number; nodes: Box[]; lines: Line[]; loops: Line[] } {
  const { nodes, arrows } = read(graph);
  const order = rank(nodes);
  const chains = arrows.filter(({ from, to }) => from !== to).map((arrow) => ({
    arrow,
    bends: bendsOf(arrow),
  }));
  const rows: Item[][] = [];
  for (const item of [...order, ...chains.flatMap(({ bends }) => bends)]) (rows[item.row] ??= []).push(item);
  arrange(rows);
  spread(rows);
  return {
    ...place(rows),
    nodes: order,
    loops: order.flatMap((node) => node.loop === undefined ? [] : loopLine(node, node.loop)),
    lines: chains.map(({ arrow, bends }) => line(arrow, bends)),
  };
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
  const nodeOf = (name: string, isStart = false, isEnd = false): Node => {
    const known = nodes.get(name);
    if (known !== undefined) return known;
    const width = Math.max(64, textWidth(name, LETTER.state) + 18);
    const node = { ...item(0, width), name, isStart, isEnd, width, out: [], loop: undefined };
    nodes.set(name, node);
    return node;
  };
  for (const state of states) nodeOf(state.name, state.is_start, state.is_end);
  const labels = new Map<Arrow, Set<string>>();
  for (const edge of edges) {
    const [from, to] = [nodeOf(edge.from), nodeOf(edge.to)];
    let arrow = from.out.find((other) => other.to === to);
    if (arrow === undefined) {
      arrow = { from, to, label: "", isBack: false };
      from.out.push(arrow);
      labels.set(arrow, new Set());
    }
    if (edge.label !== edge.to && edge.label !== "transition") {
      labels.get(arrow)?.add(edge.label.replace(/^on /, ""));
    }
  }
  for (const [arrow, texts] of labels) {
    arrow.label = [...texts].filter((text) => text !== "").join(", ");
    if (arrow.from !== arrow.to) continue;
    arrow.from.loop = arrow;
    arrow.from.space += 2 * (textWidth(arrow.label, LETTER.label) + 30);
  }
  return { nodes: [...nodes.values()], arrows: [...labels.keys()] };
}

function item(row: number, space: number): Item {
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
    entered.set(node, "open");
    for (const arrow of node.out) {
      arrow.isBack = entered.get(arrow.to) === "open";
      if (!entered.has(arrow.to)) enter(arrow.to);
    }
    entered.set(node, "done");
    order.unshift(node);
  };
  for (const node of nodes.toSorted((a, b) => Number(b.isStart) - Number(a.isStart))) {
    if (!entered.has(node)) enter(node);
  }
  for (const node of order) {
    for (const { to, isBack } of node.out) if (!isBack) to.row = Math.max(to.row, node.row + 2);
  }
  return order;
}

/** The places that an arrow takes in the rows between its ends, in its direction. The first one holds the label. */
function bendsOf({ from, to, label }: Arrow): Item[] {
  const way = Math.sign(to.row - from.row);
  const bends: Item[] = [];
  for (let row = from.row + way; row !== to.row; row += way) {
    bends.push(item(row, bends.length === 0 ? textWidth(label, LETTER.label) : 14));
  }
  const chain = [from, ...bends, to];
  for (const [index, a] of chain.entries()) {
    const b = chain[index + 1];
    if (b === undefined) break;
    a[way > 0 ? "below" : "above"].push(b);
    b[way > 0 ? "above" : "below"].push(a);
  }
  return bends;
}

/** Visits all rows several times, downwards and upwards in turn, each with the side where it comes from. */
function sweep(rows: readonly Item[][], visit: (row: Item[], side: "above" | "below") => void): void {
  for (let round = 0; round < 12; round++) {
    if (round % 2 === 0) rows.forEach((row) => visit(row, "above"));
    else rows.toReversed().forEach((row) => visit(row, "below"));
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

function loopLine({ name, x, y, width }: Node, { label }: Arrow): Line {
  const side = x + width / 2;
  return { from: name, to: name, label, x: side + 30, y, path: `M${side} ${y - 8}c28 -10 28 26 4 16` };
}

function line({ from, to, label }: Arrow, bends: readonly Item[]): Line {
  const way = Math.sign(to.y - from.y);
  const half = ROW_HEIGHTS[0] / 2;
  let path = `M${from.x} ${from.y + way * half}`;
  let y = from.y + way * half;
  let x = from.x;
  for (const next of [...bends, { x: to.x, y: to.y - way * (half + 4) }]) {
    const middle = (y + next.y) / 2;
    path += `C${x} ${middle} ${next.x} ${middle} ${next.x} ${next.y}`;
    ({ x, y } = next);
  }
  const [named = from] = bends;
  return { from: from.name, to: to.name, label, path, x: named.x, y: named.y };
}
