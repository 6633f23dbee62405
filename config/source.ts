/**
 * The text of a services file as a plain value that knows the place of every key, and the problems found in it.
 *
 * @module
 */

import type { default as Yaml, LineCounter, YAMLError } from "yaml";
import type * as zod from "zod/mini";
import { didYouMean, MAX_SHOWN, orList, quote, ServicesFileError } from "./errors.ts";
import type { Schemas } from "./schema.ts";

export type Path = readonly PropertyKey[];

// Limits that no real services file comes near, so that a hostile one ends as a sentence.
const MAX_DEPTH = 100;
const MAX_VALUES = 200_000; // with every alias counted as often as it is used

export class SourceFile {
  readonly #name: string;
  readonly #yaml: typeof Yaml;
  readonly #lines: LineCounter;
  readonly #problems: { offset: number; path: string; text: string }[] = [];
  /** Offset of every key and list item of the containers that were made. */
  readonly #places = new WeakMap<object, Map<PropertyKey, number>>();
  readonly #anchors = new Map<string, { value: unknown; size: number }>();
  #size = 0;
  #root: unknown = null;

  constructor(path: string, yaml: typeof Yaml) {
    const here = `${Deno.cwd()}/`;
    this.#name = path.startsWith(here) ? path.slice(here.length) : path; // as one would type it
    this.#yaml = yaml;
    this.#lines = new yaml.LineCounter();
  }

  /**
   * Reads the file's text as a plain value.
   *
   * @throws {ServicesFileError} where it can't be understood as YAML at all
   */
  read(text: string): unknown {
    const { Parser, Composer } = this.#yaml;
    // The library's own search for double keys takes quadratic time: `#map` does it.
    const composer = new Composer({ uniqueKeys: false });
    const documents = composer.compose(new Parser(this.#lines.addNewLine).parse(text));
    const document = documents.next().value;
    if (!document) {
      this.#report(0, `nothing is in it; it needs a list "services:" (orchestrator init writes a first one)`);
    }
    const faults = document ? [...document.errors, ...document.warnings] : [];
    for (const [i, fault] of faults.entries()) {
      // After the first fault, whatever follows is unexpected.
      if (i === 0 || fault.code !== "UNEXPECTED_TOKEN") this.#report(fault.pos[0], yamlFault(fault));
    }
    const second = document?.errors.length ? undefined : documents.next().value;
    if (second) {
      this.#report(second.range[0], "a second document begins here; a services file is one document");
    }
    this.throwProblems();
    this.#root = this.#value(document?.contents, [], false);
    this.throwProblems();
    return this.#root;
  }

  // --- Nodes as values ------------------------------------------------------------------------------------------

  /** @param asText whether numbers and booleans stay as they are written: 1.10 as an argument is not 1.1 */
  #value(node: unknown, path: Path, asText: boolean): unknown {
    const { isAlias, isMap, isNode, isSeq } = this.#yaml;
    this.#size += 1;
    if (!isNode(node)) return null;
    const offset = this.#startOf(node);
    if (isAlias(node)) return this.#alias(node.source, offset, path);
    if (path.length > MAX_DEPTH) {
      this.#report(offset, TOO_DEEP);
      return null;
    }
    const before = this.#size;
    const value = isMap(node)
      ? this.#map(node.items, path, asText)
      : isSeq(node)
      ? this.#list(node.items, path, asText)
      : asText && node.value !== null && typeof node.value !== "string"
      ? node.source ?? String(node.value)
      : node.value;
    this.#limit(offset);
    // Known only from here on, so that nothing can hold itself.
    if (node.anchor) this.#anchors.set(node.anchor, { value, size: this.#size - before });
    return value;
  }

  #alias(name: string, offset: number, path: Path): unknown {
    const target = this.#anchors.get(name);
    if (target === undefined) {
      // Its name is not shown: a password may begin with an asterisk.
      const text = "an alias of no anchor above it; put a text that begins with * in quotes";
      this.#report(offset, text, path);
      return null;
    }
    this.#size += target.size;
    this.#limit(offset);
    return target.value;
  }

  /** Ends the reading when aliases multiply beyond reason. What was reported before is incomplete: it is left out. */
  #limit(offset: number): void {
    if (this.#size <= MAX_VALUES) return;
    const text = `its aliases stand for more than ${MAX_VALUES} values; write fewer *aliases`;
    throw new ServicesFileError([`${this.#placeOf(offset)} ${text}`]);
  }

  #list(items: readonly unknown[], path: Path, asText: boolean): unknown[] {
    const values = items.map((item, index) => this.#value(item, [...path, index], asText));
    this.#places.set(values, new Map(items.map((item, index) => [index, this.#startOf(item)])));
    return values;
  }

  #map(pairs: readonly { key: unknown; value: unknown }[], path: Path, asText: boolean): object {
    const places = new Map<PropertyKey, number>();
    const values: Record<string, unknown> = Object.create(null);
    const merged: { value: unknown; offset: number }[] = [];
    for (const { key, value } of pairs) {
      const offset = this.#startOf(key);
      const name = this.#nameOf(key);
      const here = [...path, name ?? ""];
      const first = places.get(name ?? "");
      if (name === null) this.#report(offset, "the name of a field here is not a text", path);
      else if (name === "__proto__") this.#report(offset, "not a name that a field can have", here);
      else if (first !== undefined) {
        const { line } = this.#lines.linePos(first);
        this.#report(offset, `stands here a second time; the first is in line ${line}`, here);
      } else if (name === "<<") {
        merged.push(...[this.#value(value, here, asText)].flat().map((value) => ({ value, offset })));
      } else if (path.length === 0 && name.startsWith("x-")) this.#value(value, here, asText); // for anchors
      else {
        places.set(name, offset);
        values[name] = this.#value(value, here, asText || name === "environment" || name === "command");
      }
    }
    for (const { value, offset } of merged) {
      if (isRecord(value)) this.#merge(value, values, places);
      else this.#report(offset, "only maps can be merged", [...path, "<<"]);
    }
    this.#places.set(values, places);
    return values;
  }

  /** Adds what a map has not set itself. */
  #merge(source: Record<string, unknown>, values: Record<string, unknown>, places: Map<PropertyKey, number>) {
    for (const [name, value] of Object.entries(source)) {
      if (places.has(name)) continue;
      places.set(name, this.#places.get(source)?.get(name) ?? 0);
      values[name] = value;
    }
  }

  #nameOf(key: unknown): string | null {
    if (!this.#yaml.isScalar(key) || key.value === null) return null;
    return typeof key.value === "string" ? key.value : key.source ?? String(key.value);
  }

  #startOf(node: unknown): number {
    return this.#yaml.isNode(node) ? node.range?.[0] ?? 0 : 0;
  }

  // --- Problems -------------------------------------------------------------------------------------------------

  /** The line of a path's key. */
  lineOf(path: Path): number {
    return this.#lines.linePos(this.#offsetOf(path)).line;
  }

  report(path: Path, text: string) {
    this.#report(this.#offsetOf(path), text, path);
  }

  /** A name that is none of the possible ones: says the closest one, or all of them. */
  reportName(path: Path, text: string, name: string, possible: readonly string[]) {
    // Past what is shown nobody reads a suggestion, and the search for it takes time.
    const near = this.#problems.length < MAX_SHOWN ? didYouMean(name, possible) : "";
    const some = possible.length > 40 ? `${possible.slice(0, 40).join(", ")} ...` : orList(possible);
    this.report(path, text + (near || `; use ${some}`));
  }

  reportIssue(issue: zod.core.$ZodIssue, schemas: Schemas): void {
    const { path } = issue;
    if (issue.code === "unrecognized_keys") {
      const part = path.length === 0 ? "file" : path.at(-1) === "health" ? "health" : "service";
      const known = Object.keys(schemas[part].shape);
      for (const key of issue.keys) this.reportName([...path, key], "not a known field", key, known);
      return;
    }
    if (issue.code === "invalid_union") {
      // The form that got furthest is the one that was meant: its complaint names the very item.
      const inner = issue.errors.flat().find((error) => error.path.length > 0);
      if (inner) return this.reportIssue({ ...inner, path: [...path, ...inner.path] }, schemas);
    }
    const value = path.reduce<unknown>(
      (at, key) => isContainer(at) ? Reflect.get(at, key) : undefined,
      this.#root,
    );
    // What stands under `environment` may be a secret.
    const shown = describeValue(value, path.includes("environment"));
    const found = value === undefined ? "missing" : `${shown} is not allowed`;
    const near = issue.code === "invalid_value" && typeof value === "string"
      ? didYouMean(value, issue.values.map(String))
      : "";
    this.report(path, `${found}; ${issue.message}${near}`);
  }

  /** @throws {ServicesFileError} with what was reported, in the order of the file, if anything was */
  throwProblems() {
    if (this.#problems.length === 0) return;
    const seen = new Set<string>();
    const lines = this.#problems.sort((a, b) => a.offset - b.offset).flatMap(({ offset, path, text }) => {
      if (path === "") return [`${this.#placeOf(offset)} ${text}`];
      const place = `${this.#placeOf(offset)} ${path}:`;
      const isKnown = seen.has(place); // of one value, the first problem is enough
      seen.add(place);
      return isKnown ? [] : [`${place} ${text}`];
    });
    throw new ServicesFileError(lines);
  }

  #report(offset: number, text: string, path: Path = []) {
    this.#problems.push({ offset, path: showPath(path), text });
  }

  #placeOf(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.#name}:${line}:${col}`;
  }

  /** Where a path's key stands; for a path that is missing, where the value that lacks it stands. */
  #offsetOf(path: Path): number {
    let container = this.#root, offset = 0;
    for (const key of path) {
      const next = isContainer(container) ? this.#places.get(container)?.get(key) : undefined;
      if (!isContainer(container) || next === undefined) break;
      [container, offset] = [Reflect.get(container, key), next];
    }
    return offset;
  }
}

const TOO_DEEP = "nested too deeply for a services file";

/** What the library's words do not make plain. */
const YAML_FAULTS: Record<string, string> = {
  RESOURCE_EXHAUSTION: TOO_DEEP,
  TAB_AS_INDENT: "a tab can't indent in YAML; use spaces",
  BLOCK_AS_IMPLICIT_KEY: "a second colon in this line; put a text that holds a colon and a space in quotes",
  UNEXPECTED_TOKEN: "cannot be read as YAML from here on; check quotes, brackets and indentation",
};

function yamlFault({ code, message }: YAMLError): string {
  if (/^implicit (map )?keys? need/i.test(message)) {
    return "a name of a field without its colon; write NAME: VALUE";
  }
  // The library quotes the text after a colon, and it may be a secret.
  const words = message.replace(/:.*$/s, "").replace(/^./, (first) => first.toLowerCase());
  return YAML_FAULTS[code] ?? `cannot be read as YAML: ${words}`;
}

const isContainer = (value: unknown): value is object => typeof value === "object" && value !== null;

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  isContainer(value) && !Array.isArray(value);

function describeValue(value: unknown, isSecret: boolean): string {
  if (value === null) return "an empty value";
  if (Array.isArray(value)) return value.length > 0 ? "a list" : "an empty list";
  if (isRecord(value)) return "a map";
  return isSecret ? "this value" : quote(value);
}

function showPath(path: Path): string {
  return path.map((key, i) => {
    if (typeof key === "number") return `[${key}]`;
    const name = String(key);
    return /^[\w$<-]{1,60}$/.test(name) ? `${i > 0 ? "." : ""}${name}` : `[${quote(name)}]`;
  }).join("");
}
