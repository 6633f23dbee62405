/**
 * Keys as a terminal sends them.
 *
 * @module
 */

import { CSI, ESC } from "./screen.ts";

/** A key, or the terminal's answer to where the cursor is. */
export type Key =
  | { kind: "up" | "down" | "enter" | "escape" }
  | { kind: "character"; character: string }
  | { kind: "located"; row: number };

const PASTE_BEGINS = `${CSI}200~`;

const PASTE_ENDS = `${CSI}201~`;

/** Tells keys from what a terminal sends, read by read. Text that is pasted is no command: it is passed over. */
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
  const keys: Key[] = [];
  for (const [found] of text.matchAll(/\x1b\[[0-9;?]*[ -/]*[@-~]|\x1bO[A-Z]|\x1b|[^\x1b]/gu)) {
    const place = /^\x1b\[(\d+);\d+R$/.exec(found);
    if (place !== null) keys.push({ kind: "located", row: Number(place[1]) });
    else if (/^.[[O]A$/su.test(found)) keys.push({ kind: "up" });
    else if (/^.[[O]B$/su.test(found)) keys.push({ kind: "down" });
    else if (found === ESC) keys.push({ kind: "escape" });
    else if (found === "\r" || found === "\n") keys.push({ kind: "enter" });
    else if (!found.startsWith(ESC)) keys.push({ kind: "character", character: found });
  }
  return keys;
}
