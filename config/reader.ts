/**
 * The full reading of a services file: every problem is reported at once, with its place.
 * Loaded only for a file that has changed: it brings the YAML parser and the schema library.
 *
 * @module
 */

import type { Service } from "./definition.ts";
import { checkTogether } from "./rules.ts";
import { fileSchemas, toService } from "./schema.ts";
import { SourceFile } from "./source.ts";
import { isRecord } from "./wording.ts";
import type { Yaml } from "./yaml_value.ts";

/**
 * What the text of a services file means.
 *
 * @throws {ServicesFileError} with every problem of the file
 */
export async function checkSource(path: string, text: string): Promise<Service[]> {
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
