/**
 * Keeps what a services file means, so that an unchanged file needs neither parser nor schema.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import { DEFAULTS, HEALTH_DEFAULTS } from "./definition.ts";
import { readSource } from "./source.ts";

/** Whether `readServicesFile` finds a file as it was kept. @throws {ServicesFileError} when it can't be read */
export function isKept(path: string, memory: string): boolean {
  return recall(`${memory}/services.cache.json`, readSource(path)) !== null;
}

/** What a kept result is only good for: the same text, read with the same meaning. */
interface Kept {
  /** To be raised when the meaning of a file changes in a way that its fields' defaults do not show. */
  format: 1;
  defaults: string;
  text: string;
  services: Service[];
}

const MEANING = { format: 1, defaults: JSON.stringify([DEFAULTS, HEALTH_DEFAULTS]) } as const;

export function recall(note: string, text: string): Service[] | null {
  try {
    const kept: Kept = JSON.parse(Deno.readTextFileSync(note));
    const fits = kept.format === MEANING.format && kept.defaults === MEANING.defaults && kept.text === text;
    return fits ? kept.services : null;
  } catch {
    return null; // none, unreadable or half-written: the file itself is read
  }
}

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
