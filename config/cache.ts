/**
 * Keeps what a services file means, so that an unchanged file needs neither parser nor schema.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import { DEFAULTS, HEALTH_DEFAULTS } from "./definition.ts";
import { VERSION } from "./version.ts";

/** A result as it is kept: it holds for the same text, read by the same program. */
interface Kept {
  /** Of the program that read it: another version may give the same text another meaning. */
  version: string;
  /** Of definitions: they change what a text means without a new version while someone works on this program. */
  defaults: string;
  text: string;
  services: Service[];
}

const MEANING = { version: VERSION, defaults: JSON.stringify([DEFAULTS, HEALTH_DEFAULTS]) } as const;

/** What a text was found to mean before, or `null` when that is not known. */
export function recall(note: string, text: string): Service[] | null {
  try {
    const kept: Kept = JSON.parse(Deno.readTextFileSync(note));
    const fits = kept.version === MEANING.version && kept.defaults === MEANING.defaults && kept.text === text;
    return fits ? kept.services : null;
  } catch {
    return null; // none, unreadable or half-written: the file itself is read
  }
}

/** Keeps what a text means, where that is possible. */
export async function remember(note: string, text: string, services: Service[]): Promise<void> {
  const kept: Kept = { ...MEANING, text, services };
  const draft = `${note}.${Deno.pid}`;
  try {
    await Deno.writeTextFile(draft, JSON.stringify(kept), { mode: 0o600 });
    await Deno.rename(draft, note);
  } catch {
    // No such folder, or none we may write to: it saves time, nothing depends on it.
  }
}
