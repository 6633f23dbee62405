/**
 * The text of a services file as a plain value that knows the place of every key.
 *
 * @module
 */

import type * as zod from "zod/mini";
import { MAX_SHOWN, ServicesFileError } from "./errors.ts";
import type { Schemas } from "./schema.ts";
import { closest } from "./suggest.ts";
import type { Path } from "./wording.ts";
import { describeValue, isContainer, orList, quote, showPath } from "./wording.ts";
import type { Yaml } from "./yaml_value.ts";
import { TooManyValues, YamlConverter } from "./yaml_value.ts";

/** The text of a services file, the places of its values, and the problems found so far. */
export class SourceFile {
  readonly #lines;
  readonly #problems: { offset: number; path: string; text: string }[] = [];
  readonly #converter: YamlConverter;
  #root: unknown = null;

  constructor(readonly path: string, readonly text: string, readonly yaml: Yaml) {
    const here = `${Deno.cwd()}/`;
    if (path.startsWith(here)) this.path = path.slice(here.length); // as one would type it
    this.#lines = new yaml.LineCounter();
    this.#converter = new YamlConverter(
      yaml,
      (offset, path, text) => this.#problem(offset, path, text),
      (offset) => this.#lines.linePos(offset).line,
    );
  }

  /** The file as a plain value. Throws where it can't be understood as YAML at all. */
  read(): unknown {
    const { Parser, Composer } = this.yaml;
    // The library's own search for double keys takes quadratic time: the converter does it.
    const composer = new Composer({ uniqueKeys: false });
    const documents = composer.compose(new Parser(this.#lines.addNewLine).parse(this.text));
    const document = documents.next().value;
    if (!document) {
      this.#problem(
        0,
        [],
        `nothing is in it; it needs a list "services:" (orchestrator init writes a first one)`,
      );
    }
    const faults = document ? [...document.errors, ...document.warnings] : [];
    for (const [i, fault] of faults.entries()) {
      // After the first fault, whatever follows is unexpected.
      if (i === 0 || fault.code !== "UNEXPECTED_TOKEN") this.#problem(fault.pos[0], [], yamlFault(fault));
    }
    const second = document?.errors.length ? undefined : documents.next().value;
    if (second) {
      this.#problem(second.range[0], [], `a second document begins here; a services file is one document`);
    }
    this.throwProblems();
    this.#root = this.#convert(document?.contents);
    this.throwProblems();
    return this.#root;
  }

  /** Where a path's key stands; for a path that is missing, where the value that lacks it stands. */
  offsetOf(path: Path): number {
    let container = this.#root, offset = 0;
    for (const key of path) {
      const next = isContainer(container) ? this.#converter.places.get(container)?.get(key) : undefined;
      if (!isContainer(container) || next === undefined) break;
      [container, offset] = [Reflect.get(container, key), next];
    }
    return offset;
  }

  lineOf(path: Path): number {
    return this.#lines.linePos(this.offsetOf(path)).line;
  }

  report(path: Path, text: string) {
    this.#problem(this.offsetOf(path), path, text);
  }

  /** A name that is none of the possible ones: says the closest one, or all of them. */
  reportName(path: Path, text: string, name: string, possible: readonly string[]) {
    // Past what is shown nobody reads a suggestion, and the search for it takes time.
    const near = this.#problems.length < MAX_SHOWN ? closest(name, possible) : null;
    const some = possible.length > 40 ? `${possible.slice(0, 40).join(", ")} ...` : orList(possible);
    this.report(path, `${text}; ${near === null ? `use ${some}` : `did you mean ${quote(near)}?`}`);
  }

  reportIssue(issue: zod.core.$ZodIssue, schemas: Schemas): void {
    if (issue.code === "unrecognized_keys") {
      const part = issue.path.length === 0 ? "file" : issue.path.at(-1) === "health" ? "health" : "service";
      const known = Object.keys(schemas[part].shape);
      for (const key of issue.keys) {
        this.reportName([...issue.path, key], "not a known field", key, known);
      }
      return;
    }
    if (issue.code === "invalid_union") {
      // The form that got furthest is the one that was meant: its complaint names the very item.
      const inner = issue.errors.flat().find((error) => error.path.length > 0);
      if (inner) return this.reportIssue({ ...inner, path: [...issue.path, ...inner.path] }, schemas);
    }
    const value = issue.path.reduce<unknown>(
      (at, key) => isContainer(at) ? Reflect.get(at, key) : undefined,
      this.#root,
    );
    // What stands under `environment` may be a secret.
    const secret = issue.path.includes("environment");
    const found = value === undefined ? "missing" : `${describeValue(value, secret)} is not allowed`;
    const near = issue.code === "invalid_value" && typeof value === "string"
      ? closest(value, issue.values.map(String))
      : null;
    this.report(
      issue.path,
      `${found}; ${issue.message}${near === null ? "" : `; did you mean ${quote(near)}?`}`,
    );
  }

  throwProblems() {
    if (this.#problems.length === 0) return;
    const seen = new Set<string>();
    const lines: string[] = [];
    for (const { offset, path, text } of this.#problems.sort((a, b) => a.offset - b.offset)) {
      const { line, col } = this.#lines.linePos(offset);
      const place = `${this.path}:${line}:${col}${path && ` ${path}`}`;
      if (path && seen.has(place)) continue; // a value is told once, by its first fault
      seen.add(place);
      lines.push(`${place}${path && ":"} ${text}`);
    }
    throw new ServicesFileError(lines);
  }

  #problem(offset: number, path: Path, text: string) {
    this.#problems.push({ offset, path: showPath(path), text });
  }

  #convert(root: unknown): unknown {
    try {
      return this.#converter.convert(root, [], false);
    } catch (error) {
      if (!(error instanceof TooManyValues)) throw error;
      const { line, col } = this.#lines.linePos(error.offset);
      throw new ServicesFileError([`${this.path}:${line}:${col} ${error.message}`]);
    }
  }
}

/** What the library's words do not make plain. */
const YAML_FAULTS: Record<string, string> = {
  RESOURCE_EXHAUSTION: "nested too deeply for a services file",
  TAB_AS_INDENT: "a tab can't indent in YAML; use spaces",
  BLOCK_AS_IMPLICIT_KEY: "a second colon in this line; put a text that holds a colon and a space in quotes",
  UNEXPECTED_TOKEN: "cannot be read as YAML from here on; check quotes, brackets and indentation",
};

function yamlFault({ code, message }: { code: string; message: string }): string {
  if (/^implicit (map )?keys? need/i.test(message)) {
    return "a name of a field without its colon; write NAME: VALUE";
  }
  // The library quotes the text after a colon, and it may be a secret.
  const words = message.replace(/:.*$/s, "").replace(/^./, (first) => first.toLowerCase());
  return YAML_FAULTS[code] ?? `cannot be read as YAML: ${words}`;
}
