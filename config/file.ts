/**
 * Finds, reads and checks a services file. Every mistake is reported at once, with its place.
 * The YAML parser and the schema library are loaded only for a file that has changed.
 *
 * @module
 */

import { recall, remember } from "./cache.ts";
import type { Service } from "./definition.ts";
import { ServicesFileError, UserError } from "./errors.ts";
import { findServicesFile, resolvePath } from "./paths.ts";
import type { Home } from "./settings.ts";
import { SERVICES } from "../services.ts";

/** No real services file comes near, so that a hostile one ends as a sentence. */
const MAX_BYTES = 512 * 1024;

/**
 * Reads and checks a services file.
 *
 * @param memory a folder in which the result is kept, if it exists: a file that has not changed since needs no parser
 * @throws {ServicesFileError} with every mistake of the file, or the reason why it can't be read.
 */
export async function readServicesFile(path: string, memory: string | null = null): Promise<Service[]> {
  const text = readSource(path);
  const note = memory === null ? null : `${memory}/services.cache.json`;
  const known = note === null ? null : recall(note, text);
  if (known !== null) return known;
  const { checkSource } = await import("./reader.ts");
  const services = await checkSource(path, text);
  if (note !== null) await remember(note, text, services);
  return services;
}

/** Whether `readServicesFile` finds a file as it was kept. @throws {ServicesFileError} when it can't be read */
export function isKept(path: string, memory: string): boolean {
  return recall(`${memory}/services.cache.json`, readSource(path)) !== null;
}

function readSource(path: string): string {
  const refuse = (reason: string) =>
    new ServicesFileError([`Cannot read the services file ${path}: ${reason}.`]);
  let bytes: Uint8Array;
  try {
    // A named pipe or a device would be waited for without end.
    const stat = Deno.statSync(path);
    if (stat.isDirectory) throw refuse("it is a folder; put a file there, or name another one with --config");
    if (!stat.isFile) throw refuse("it is not a regular file");
    if (stat.size > MAX_BYTES) {
      throw refuse(`it has ${stat.size} bytes, and a services file may have ${MAX_BYTES} (512 KiB)`);
    }
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw refuse("there is no such file");
    if (error instanceof Deno.errors.PermissionDenied) {
      throw refuse("its permissions do not allow it (see chmod)");
    }
    if (error instanceof UserError || !(error instanceof Error)) throw error;
    throw refuse(error.message);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof TypeError) throw refuse("it is not UTF-8 text; save it as UTF-8");
    throw error;
  }
}

/**
 * The services of a run: the named file's, the folder's, or the built-in ones.
 *
 * @throws {UserError} with every mistake in the file
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
