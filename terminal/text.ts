/**
 * Text for a terminal: its width, fitted to columns, without control codes.
 *
 * @module
 */

/** A size in columns and rows, and how wide a text is there. */
export interface Viewport {
  rows: number;
  columns: number;
  widthOf(text: string): number;
}

/** `00:05:23` */
export function formatUptime(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  const two = (value: number) => String(value).padStart(2, "0");
  return `${two(Math.floor(seconds / 3_600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}

let graphemes: Intl.Segmenter | undefined;
// made at first use: that takes as long as half a start

/** `text` cut or filled to exactly `columns`; a cut shows as `…`. */
export function fit(text: string, columns: number, widthOf: Viewport["widthOf"]): string {
  const width = widthOf(text);
  if (width <= columns) return text + " ".repeat(columns - width);
  if (columns <= 0) return "";
  let kept = "";
  let used = 0;
  graphemes ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  for (const { segment } of graphemes.segment(text.slice(0, columns * 20))) {
    const wide = widthOf(segment);
    if (used + wide > columns - 1) break;
    kept += segment;
    used += wide;
  }
  return `${kept}…${" ".repeat(columns - used - 1)}`;
}

export function centre(text: string, columns: number, widthOf: Viewport["widthOf"]): string {
  const left = Math.max(0, Math.floor((columns - widthOf(text)) / 2));
  return fit(" ".repeat(left) + text, columns, widthOf);
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
  return stripControl(text, false).replaceAll("\t", "    ").replaceAll("\n", " ");
}

let measure: ((text: string) => number) | null = null;

/** Loads what measures wide characters; most runs show ASCII only and never need it. */
export async function loadMeasure(): Promise<void> {
  measure ??= (await import("string-width")).default;
}

/** Columns of a text in a terminal: until `loadMeasure` is done, its length. */
export function displayWidth(text: string): number {
  return measure === null || /^[\x20-\x7e]*$/.test(text) ? text.length : measure(text);
}
