/**
 * Text for a terminal: its width, fitted to columns, as a table, without control codes.
 *
 * @module
 */

/** The size of a terminal, in characters. */
export interface Size {
  rows: number;
  columns: number;
}

/** ASCII and most marks of states: one column a character, known without what measures others. */
const PLAIN = /^[\x20-\x7e●◌↻○✖]*$/;

let measure: ((text: string) => number) | null = null;

/** Loads what measures wide characters, which takes as long as the rest of `status`; most runs never need it. */
export async function loadMeasure(): Promise<void> {
  measure ??= (await import("string-width")).default;
}

/** Columns of a text in a terminal: until `loadMeasure` is done, its length. */
export function displayWidth(text: string): number {
  return measure === null || PLAIN.test(text) ? text.length : measure(text);
}

/** Whether what is printed may have colours. */
export function useColors(): boolean {
  return Deno.stdout.isTerminal() && !Deno.noColor;
}

/** Made at first use: that takes as long as half a start. */
let graphemes: Intl.Segmenter | undefined;

/** `text` cut or filled to exactly `columns`; a cut shows as `…`. */
export function fit(text: string, columns: number): string {
  const width = displayWidth(text);
  if (width <= columns) return text + " ".repeat(columns - width);
  if (columns <= 0) return "";
  let kept = "";
  let used = 0;
  graphemes ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  for (const { segment } of graphemes.segment(text.slice(0, columns * 20))) {
    const wide = displayWidth(segment);
    if (used + wide > columns - 1) break;
    kept += segment;
    used += wide;
  }
  return `${kept}…${" ".repeat(columns - used - 1)}`;
}

/** Cells as lines with aligned columns. `paint` may colour a cell. */
export async function tableText(
  cells: readonly (readonly string[])[],
  paint: (cell: string, row: number, column: number) => string = (cell) => cell,
): Promise<string> {
  if (!cells.flat().every((cell) => PLAIN.test(cell))) await loadMeasure();
  const widths =
    cells[0]?.map((_, column) => Math.max(...cells.map((line) => displayWidth(line[column] ?? "")))) ?? [];
  return cells.map((line, row) =>
    line.map((cell, column) =>
      paint(cell, row, column) + " ".repeat((widths[column] ?? 0) - displayWidth(cell))
    ).join("  ").trimEnd()
  ).join("\n");
}

/** `00:05:23` */
export function formatUptime(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const parts = [seconds / 3_600, seconds / 60 % 60, seconds % 60];
  return parts.map((part) => String(Math.floor(part)).padStart(2, "0")).join(":");
}

// Escape sequences and control characters. Quantifiers are bounded, so that a line of megabytes stays cheap.
const CONTROLS =
  /\x1b\][^\x07\x1b\n]{0,4096}(?:\x07|\x1b\\)|\x1b[PX^_][^\x1b\n]{0,4096}\x1b\\|\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]|\x1b[ -/]{0,8}[0-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

const COLOUR = /^\x1b\[[0-9;:]*m$/;

/** A service's text with nothing that moves the cursor or changes the terminal; colours stay when asked for. */
export function stripControl(text: string, keepColours = false): string {
  let coloured = false;
  const stripped = text.replace(CONTROLS, (sequence) => {
    if (!keepColours || !COLOUR.test(sequence)) return "";
    coloured = true;
    return sequence;
  });
  return coloured ? stripped.replace(/\n/g, "\x1b[0m\n") : stripped;
}

export function oneLine(text: string): string {
  return stripControl(text).replaceAll("\t", "    ").replaceAll("\n", " ");
}
