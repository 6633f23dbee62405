/**
 * A terminal: its screen in two parts, where lines scroll above a panel, and the keys that it sends.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import type { Outlet } from "./outlet.ts";
import type { Size } from "./text.ts";

const ESC = "\x1b";
const CSI = `${ESC}[`;
// Where the terminal knows it, a frame appears at once; elsewhere these are ignored.
const FRAME_BEGINS = `${CSI}?2026h`;
const FRAME_ENDS = `${CSI}?2026l`;
// No cursor; what is pasted comes between marks. The guard's script undoes both, too.
const TAKE = `${CSI}?25l${CSI}?2004h`;
const GIVE_BACK = `${CSI}?25h${CSI}?2004l`;
const PASTE_BEGINS = `${CSI}200~`;
const PASTE_ENDS = `${CSI}201~`;

/** The size of the terminal; `before` when it went away. */
function consoleSize(before: Size): Size {
  try {
    return Deno.consoleSize();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return before; // nobody sees it any more, but the services still have to be stopped in order
  }
}

/**
 * The screen in two parts: above, lines scroll through into the terminal's own scrollback; below, pinned, a panel.
 *
 * Between frames the cursor rests where the stream ends. A terminal that changes its size moves it along with the
 * text, so lines are printed without naming a place, and all below may be erased: no line is ever lost. Frames do
 * name places; they are made when it is their turn to be written, for the size of that moment.
 */
export class Terminal {
  /** The screen as the last frame left it. */
  #shown: { size: Size; panel: readonly string[] };
  #wanted: { size: Size; panel: readonly string[] } | null = null;
  #framing = false;
  #open = false;
  /** The last lines printed, for a screen that a resize has emptied; `#asked`: at the time it was asked about. */
  #recent: readonly string[] = [];
  #asked: readonly string[] | null = null;

  /** @param answers whether the terminal's answers are read, and given to `located` */
  constructor(readonly outlet: Outlet, readonly answers: boolean) {
    this.#shown = { size: consoleSize({ rows: 24, columns: 80 }), panel: [] };
  }

  get size(): Size {
    return consoleSize(this.#shown.size);
  }

  /** Prepares the screen; what stands on it moves up. */
  open(): void {
    this.#open = true;
    this.outlet.write(() => {
      this.#shown = { size: this.size, panel: [] };
      return encoder.encode(TAKE);
    });
  }

  /** Scrolls whole lines, each with its newline, through the part above the panel. */
  print(text: string): void {
    if (text === "") return;
    const { rows } = this.#shown.size;
    this.#recent = [...this.#recent, ...lastLines(text, rows)].slice(-rows);
    // Erasing is for the moment after a resize, when rows of the panel may be in the way.
    const lines = text.slice(0, -1).replaceAll("\n", `\r\n${CSI}K`);
    this.outlet.write(encoder.encode(`\r\n${CSI}K${lines}`));
  }

  /** Shows a panel that was made for `size`. Rows that are as they were are not written. */
  draw(panel: readonly string[], size: Size): void {
    if (!this.#open) return;
    this.#wanted = { panel, size };
    this.frame();
  }

  /** Brings the screen to what is wanted. After a change of size that takes the panel away, wherever its rows are now. */
  frame(): void {
    if (this.#framing || !this.#open) return;
    this.#framing = true;
    this.outlet.writeNext(() => {
      this.#framing = false;
      return encoder.encode(this.#nextFrame());
    });
  }

  /** The stream ends in this row. If it is the first, wrapped rows of the panel have emptied the screen. */
  located(row: number): void {
    if (row === 1 && this.#asked === this.#recent) this.print(this.#recent.join(""));
    this.#asked = null;
  }

  /** Gives the screen back with the last panel on it and the cursor below. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.outlet.write(() => {
      const frame = this.#nextFrame();
      const { size, panel } = this.#shown;
      const below = panel.length > 0 ? `${CSI}r${CSI}${size.rows};1H` : `${ESC}7${CSI}r${ESC}8`;
      return encoder.encode(`${frame}${below}\r\n${CSI}0m${GIVE_BACK}`);
    });
  }

  #nextFrame(): string {
    const { size } = this;
    const before = this.#shown;
    const resized = !sameSize(size, before.size);
    if (resized) this.#shown = { size, panel: [] };
    const wanted = this.#wanted;
    // A panel for another size is not shown: the one for this size is on its way.
    if (wanted === null || !sameSize(size, wanted.size)) return resized ? this.#takenAway() : "";
    const { panel } = wanted;
    const moved = resized || panel.length !== before.panel.length;
    const top = size.rows - panel.length + 1;
    const rows = panel.map((row, index) =>
      moved || row !== before.panel[index] ? `${CSI}${top + index};1H${row}${CSI}0m${CSI}K` : ""
    ).join("");
    if (rows === "" && !moved) return "";
    this.#shown = { size, panel };
    return `${FRAME_BEGINS}${moved ? this.#reserve(panel.length) : ""}${ESC}7${rows}${ESC}8${FRAME_ENDS}`;
  }

  #takenAway(): string {
    if (!this.answers) return this.#reserve(0);
    this.#asked = this.#recent;
    return `${this.#reserve(0)}${CSI}6n`;
  }

  /** Makes room for a panel below the stream, which scrolls up by what is missing and not more, and empties it. */
  #reserve(height: number): string {
    const below = Math.max(1, height);
    const room = `${ESC}D`.repeat(below) + `${CSI}${below}A`; // these keep the column: the cursor is at a line's end
    const region = height > 0 ? `${CSI}1;${this.#shown.size.rows - height}r` : "";
    return `${ESC}7${CSI}r${ESC}8${room}${ESC}7${CSI}B\r${CSI}J${region}${ESC}8`;
  }
}

function sameSize(one: Size, other: Size): boolean {
  return one.rows === other.rows && one.columns === other.columns;
}

/** The last lines of a text, each with its newline: at most `count`, fewer when they are long. */
function lastLines(text: string, count: number): string[] {
  const lines: string[] = [];
  for (let end = text.length; end > 0 && lines.length < count && text.length - end < 20_000;) {
    const start = text.lastIndexOf("\n", end - 2) + 1;
    lines.push(text.slice(start, end));
    end = start;
  }
  return lines.reverse();
}

// ------------------------------------------------------------------------------------------------------------------
// Keys

/**
 * What a terminal sends: a character, the name of a key that is none (`up`, `down`, `enter`, `escape`), or, as its
 * answer, the row of the cursor.
 */
export type Key = string | { row: number };

const NAMED_KEYS: Readonly<Record<string, string>> = {
  [`${CSI}A`]: "up",
  [`${ESC}OA`]: "up",
  [`${CSI}B`]: "down",
  [`${ESC}OB`]: "down",
  [ESC]: "escape",
  "\r": "enter",
  "\n": "enter",
};

/** Finds keys in what a terminal sends, read by read. Text that is pasted is no command: it is passed over. */
export class KeyReader {
  /** The end of what was pasted so far, or `null` outside of a paste. */
  #pasted: string | null = null;

  /** What was typed. Sequences nobody here knows are passed over. */
  read(text: string): Key[] {
    if (this.#pasted !== null) {
      const pasted = this.#pasted + text;
      const end = pasted.indexOf(PASTE_ENDS);
      this.#pasted = end === -1 ? pasted.slice(1 - PASTE_ENDS.length) : null;
      return end === -1 ? [] : this.read(pasted.slice(end + PASTE_ENDS.length));
    }
    const [typed = "", ...pasted] = text.split(PASTE_BEGINS);
    const keys = keysIn(typed);
    if (pasted.length === 0) return keys;
    this.#pasted = "";
    return [...keys, ...this.read(pasted.join(PASTE_BEGINS))];
  }
}

function keysIn(text: string): Key[] {
  const sequences = text.match(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO[A-Z]|\x1b|[^\x1b]/gu) ?? [];
  return sequences.flatMap((sequence): Key[] => {
    const row = /^\x1b\[(\d+);\d+R$/.exec(sequence)?.[1];
    if (row !== undefined) return [{ row: Number(row) }];
    const name = NAMED_KEYS[sequence];
    if (name !== undefined) return [name];
    return sequence.startsWith(ESC) ? [] : [sequence];
  });
}
