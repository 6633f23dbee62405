/**
 * Finds and reads a services file. What an unchanged file means is kept, so that it needs neither the YAML parser nor
 * the schema library.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import { DEFAULTS, HEALTH_DEFAULTS } from "./definition.ts";
import { ServicesFileError, UserError } from "./errors.ts";
import type { Home } from "./settings.ts";
import { findServicesFile, resolvePath } from "./settings.ts";
import { VERSION } from "./version.ts";
import { SERVICES } from "../services.ts";

/** No real services file comes near, so that a hostile one ends as a sentence. */
const MAX_BYTES = 512 * 1024;

/**
 * The services of a run: the named file's, the folder's, or the built-in ones.
 *
 * @throws {ServicesFileError} with every error of the file
 */
export async function loadServices(home: Home, config?: string): Promise<readonly Service[]> {
  const path = servicesFileOf(home, config);
  return path === null ? SERVICES : await readServicesFile(path, memoryOf(home));
}

/** The services file that is named or found, or `null` when the built-in services apply. */
export function servicesFileOf(home: Home, config?: string): string | null {
  return config === undefined ? findServicesFile(home.infrastructure) : resolvePath(Deno.cwd(), config);
}

/** The folder of what is kept between runs. */
export function memoryOf(home: Home): string {
  return `${home.infrastructure}/.orchestrator`;
}

/**
 * Reads and checks a services file.
 *
 * @param memory a folder in which the result is kept, if it exists
 * @throws {ServicesFileError} with every error of the file, or the reason why it can't be read
 */
export async function readServicesFile(path: string, memory: string | null = null): Promise<Service[]> {
  const text = readText(path);
  const known = memory === null ? null : recall(memory, text);
  if (known !== null) return known;
  const { checkSource } = await import("./rules.ts").catch((error: Error) => {
    // A run outlives the files of its program: it must not end because they are replaced or removed.
    throw new ServicesFileError([
      `Cannot read the services file ${path}: its parser cannot be loaded (${error.message}); ` +
      "if the program was replaced while it runs, orchestrator self-restart takes the new one.",
    ]);
  });
  const services = await checkSource(path, text);
  if (memory !== null) await remember(memory, text, services);
  return services;
}

/** Whether `readServicesFile` finds a file as it was kept. @throws {ServicesFileError} when it can't be read */
export function isKept(path: string, memory: string): boolean {
  return recall(memory, readText(path)) !== null;
}

function readText(path: string): string {
  const refuse = (reason: string) =>
    new ServicesFileError([`Cannot read the services file ${path}: ${reason}.`]);
  try {
    // A named pipe or a device would be waited for without end.
    const stat = Deno.statSync(path);
    if (stat.isDirectory) throw refuse("it is a folder; put a file there, or name another one with --config");
    if (!stat.isFile) throw refuse("it is not a regular file");
    if (stat.size > MAX_BYTES) {
      throw refuse(`it has ${stat.size} bytes, and a services file may have ${MAX_BYTES} (512 KiB)`);
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(Deno.readFileSync(path));
  } catch (error) {
    if (error instanceof UserError || !(error instanceof Error)) throw error;
    if (error instanceof Deno.errors.NotFound) throw refuse("there is no such file");
    if (error instanceof Deno.errors.PermissionDenied) {
      throw refuse("its permissions do not allow it (see chmod)");
    }
    if (error instanceof TypeError) throw refuse("it is not UTF-8 text; save it as UTF-8");
    throw refuse(error.message);
  }
}

const keptIn = (memory: string) => `${memory}/services.cache.json`;

/**
 * What a kept result holds for: the same text, read by the same program. Defaults change what a text means without a new
 * version while someone works on this program.
 */
const keyOf = (text: string) => JSON.stringify([VERSION, DEFAULTS, HEALTH_DEFAULTS, text]);

/** What a text was found to mean before, or `null` when that is not known. */
function recall(memory: string, text: string): Service[] | null {
  try {
    const kept: { key: string; services: Service[] } = JSON.parse(Deno.readTextFileSync(keptIn(memory)));
    return kept.key === keyOf(text) ? kept.services : null;
  } catch {
    return null; // none, unreadable or half-written: the file itself is read
  }
}

/** Keeps what a text means, where that is possible. */
async function remember(memory: string, text: string, services: Service[]): Promise<void> {
  const draft = `${keptIn(memory)}.${Deno.pid}`;
  try {
    await Deno.writeTextFile(draft, JSON.stringify({ key: keyOf(text), services }), { mode: 0o600 });
    await Deno.rename(draft, keptIn(memory));
  } catch {
    // No such folder, or none we may write to: it saves time, nothing depends on it.
  }
}
