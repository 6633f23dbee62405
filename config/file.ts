/**
 * Finds, reads and checks a services file. Every mistake is reported at once, with its place.
 * The YAML parser and the schema library are loaded only when there is a file to read.
 *
 * @module
 */

import { recall, remember } from "./cache.ts";
import type { Service } from "./definition.ts";
import { findServicesFile, resolvePath } from "./paths.ts";
import { checkTogether } from "./rules.ts";
import { fileSchemas, toService } from "./schema.ts";
import type { Home } from "./settings.ts";
import type { Yaml } from "./source.ts";
import { readSource, SourceFile } from "./source.ts";
import { isRecord } from "./wording.ts";
import { SERVICES } from "../services.ts";

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
  const services = await checkSource(path, text);
  if (note !== null) await remember(note, text, services);
  return services;
}

async function checkSource(path: string, text: string): Promise<Service[]> {
  const [yaml, z] = await Promise.all([loadYaml(), import("zod/mini")]);
  const source = new SourceFile(path, text, yaml);
  const root = source.read();
  const schemas = fileSchemas(z);
  const result = z.safeParse(schemas.file, root);
  for (const issue of result.error?.issues ?? []) source.reportIssue(issue, schemas);
  if (isRecord(root) && Array.isArray(root.services)) checkTogether(root.services, schemas, z, source);
  source.throwProblems();
  if (!result.success) throw result.error; // every issue is a problem, so this is not reached
  return result.data.services.map(toService);
}

/** A CommonJS package: all it exports is its default, which bundlers do not spread over names as runtimes do. */
async function loadYaml(): Promise<Yaml> {
  const { default: yaml }: { default?: Yaml } = await import("yaml");
  return yaml!;
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

export function servicesFileOf(home: Home, config?: string): string | null {
  return config === undefined ? findServicesFile(home.infrastructure) : resolvePath(Deno.cwd(), config);
}

/** The folder of what is kept between runs. */
export function memoryOf(home: Home): string {
  return `${home.infrastructure}/.orchestrator`;
}
