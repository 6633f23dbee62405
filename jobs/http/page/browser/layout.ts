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

/** What has a place in a row: a state, or a bend of an arrow that passes the row. Its point is its middle. */
interface Item {
  x: number;
  y: number;
  row: number;
  index: number;
  space: number;
  above: Item[];
  below: Item[];
}

export interface Box extends Item {
  name: string;
  isStart: boolean;
  isEnd: boolean;
  width: number;
  out: Arrow[];
}

/** An arrow; its point is the place of its label. */
export interface Arrow {
  from: Box;
  to: Box;
  label: string;
  x: number;
  y: number;
  /** As a drawing has it. */
  path: string;
  bends: Item[];
  /** Whether it leads back to a state that it comes from. */
  isBack: boolean;
}

const GAP = 24;
/** Of rows with states and of the rows of arrows between them. */
const ROW_HEIGHTS = [38, 44] as const;
const MARGIN = 6;
const LETTER = { state: 7.6, label: 6.4 };

export function layout(graph: Graph): { width: number; height: number; boxes: Box[]; arrows: Arrow[] } {
  const states = read(graph);
  const arrows = states.flatMap(({ out }) => out);
  const boxes = rank(states);
  for (const arrow of arrows) bend(arrow);
  const rows: Item[][] = [];
  for (const item of [...boxes, ...arrows.flatMap(({ bends }) => bends)]) (rows[item.row] ??= []).push(item);
  arrange(rows);
  spread(rows);
  const size = place(rows);
  for (const arrow of arrows) trace(arrow);
  return { ...size, boxes, arrows };
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
function read({ states, edges }: Graph): Box[] {
  const boxes = new Map<string, Box>();
  const boxOf = (name: string, isStart = false, isEnd = false): Box => {
    const known = boxes.get(name);
    if (known !== undefined) return known;
    const width = Math.max(64, textWidth(name, LETTER.state) + 18);
    const box = { ...itemOf(0, width), name, isStart, isEnd, width, out: [] };
    boxes.set(name, box);
    return box;
  };
  for (const state of states) boxOf(state.name, state.is_start, state.is_end);
  for (const [source, leaving] of Map.groupBy(edges, ({ from }) => from)) {
    for (const [target, same] of Map.groupBy(leaving, ({ to }) => to)) {
      const texts = same.map(({ label }) =>
        label === target || label === "transition" ? "" : label.replace(/^on /, "")
      );
      const label = [...new Set(texts)].filter(Boolean).join(", ");
      const [from, to] = [boxOf(source), boxOf(target)];
      from.out.push({ from, to, label, x: 0, y: 0, path: "", bends: [], isBack: false });
    }
  }
  return [...boxes.values()];
}

function itemOf(row: number, space: number): Item {
  return { row, space, index: 0, x: 0, y: 0, above: [], below: [] };
}

function textWidth(text: string, letter: number): number {
  return Math.max(14, Math.min(text.length, 28) * letter + 12);
}

/** Gives each state its row. @returns the states so that arrows lead onwards, except for those that lead back */
function rank(boxes: readonly Box[]): Box[] {
  const order: Box[] = [];
  const entered = new Map<Box, "open" | "done">();
  const enter = (box: Box) => {
    if (entered.has(box)) return;
    entered.set(box, "open");
    for (const arrow of box.out) {
      arrow.isBack = entered.get(arrow.to) === "open";
      enter(arrow.to);
    }
    entered.set(box, "done");
    order.unshift(box);
  };
  boxes.toSorted((a, b) => Number(b.isStart) - Number(a.isStart)).forEach(enter);
  for (const box of order) {
    for (const { to, isBack } of box.out) if (!isBack) to.row = Math.max(to.row, box.row + 2);
  }
  return order;
}

/** Gives an arrow its places in the rows between its ends, in its direction. The first one holds the label. */
function bend({ from, to, label, bends }: Arrow): void {
  const labelWidth = textWidth(label, LETTER.label);
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

/** Draws an arrow from its start through its bends to its end. */
function trace(arrow: Arrow): void {
  const { from, to, bends } = arrow;
  if (from === to) {
    const side = from.x + from.width / 2;
    arrow.path = `M${side} ${from.y - 8}c28 -10 28 26 4 16`;
    [arrow.x, arrow.y] = [side + 30, from.y];
    return;
  }
  const way = Math.sign(to.y - from.y);
  const half = ROW_HEIGHTS[0] / 2;
  let { x } = from;
  let y = from.y + way * half;
  arrow.path = `M${x} ${y}`;
  for (const next of [...bends, { x: to.x, y: to.y - way * (half + 4) }]) {
    const middle = (y + next.y) / 2;
    arrow.path += `C${x} ${middle} ${next.x} ${middle} ${next.x} ${next.y}`;
    ({ x, y } = next);
  }
  ({ x: arrow.x, y: arrow.y } = bends[0] ?? from);
}
