/**
 * The text of a services file as a plain value that knows the place of every key.
 *
 * @module
 */

import type * as zod from "zod/mini";
import { UserError } from "./errors.ts";
import type { Schemas } from "./schema.ts";
import { closest } from "./suggest.ts";
import type { Path } from "./wording.ts";
import { describeValue, isContainer, isRecord, orList, quote, showPath } from "./wording.ts";

/** What is wrong with a services file: each problem is one line that begins with `file:line:column`. */
export class ServicesFileError extends UserError {
  constructor(readonly problems: readonly string[]) {
    const more = problems.length - MAX_SHOWN;
    super(
      [...problems.slice(0, MAX_SHOWN), ...(more > 0 ? [`... and ${more} more mistakes`] : [])].join("\n"),
    );
  }
}

// Limits that no real services file comes near, so that a hostile one ends as a sentence.
const MAX_BYTES = 512 * 1024;

const MAX_DEPTH = 100;

const MAX_VALUES = 200_000;

// with every alias counted as often as it is used
export const MAX_SHOWN = 50;

// timers hold no more than 2^31 ms

export function readSource(path: string): string {
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

export type Yaml = typeof import("yaml");

/** The text of a services file, the places of its values, and the problems found so far. */
export class SourceFile {
  readonly #lines;
  readonly #problems: { offset: number; path: string; text: string }[] = [];
  /** Offset of every key and list item of the containers that `read` made. */
  readonly #places = new WeakMap<object, Map<PropertyKey, number>>();
  #root: unknown = null;

  constructor(readonly path: string, readonly text: string, readonly yaml: Yaml) {
    const here = `${Deno.cwd()}/`;
    if (path.startsWith(here)) this.path = path.slice(here.length); // as one would type it
    this.#lines = new yaml.LineCounter();
  }

  /** The file as a plain value. Throws where it can't be understood as YAML at all. */
  read(): unknown {
    const { Parser, Composer } = this.yaml;
    // The library's own search for double keys takes quadratic time: #map does it.
    const composer = new Composer({ uniqueKeys: false });
    const documents = composer.compose(new Parser(this.#lines.addNewLine).parse(this.text));
    const document = documents.next().value;
    if (!document) {
      this.#problem(
        0,
        "",
        `nothing is in it; it needs a list "services:" (orchestrator init writes a first one)`,
      );
    }
    const faults = document ? [...document.errors, ...document.warnings] : [];
    for (const [i, fault] of faults.entries()) {
      // After the first fault, whatever follows is unexpected.
      if (i === 0 || fault.code !== "UNEXPECTED_TOKEN") this.#problem(fault.pos[0], "", yamlFault(fault));
    }
    const second = document?.errors.length ? undefined : documents.next().value;
    if (second) {
      this.#problem(second.range[0], "", `a second document begins here; a services file is one document`);
    }
    this.throwProblems();
    this.#root = this.#convert(document?.contents);
    return this.#root;
  }

  /** Where a path's key stands; for a path that is missing, where the value that lacks it stands. */
  offsetOf(path: Path): number {
    let container = this.#root, offset = 0;
    for (const key of path) {
      const next = isContainer(container) ? this.#places.get(container)?.get(key) : undefined;
      if (!isContainer(container) || next === undefined) break;
      [container, offset] = [Reflect.get(container, key), next];
    }
    return offset;
  }

  lineOf(path: Path): number {
    return this.#lines.linePos(this.offsetOf(path)).line;
  }

  report(path: Path, text: string) {
    this.#problem(this.offsetOf(path), showPath(path), text);
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

  #problem(offset: number, path: string, text: string) {
    this.#problems.push({ offset, path, text });
  }

  #convert(root: unknown): unknown {
    const { isAlias, isMap, isSeq, isScalar } = this.yaml;
    const anchors = new Map<string, { value: unknown; size: number }>();
    let size = 0;

    const convert = (node: unknown, path: Path, asText: boolean): unknown => {
      size += 1;
      if (!(isAlias(node) || isMap(node) || isSeq(node) || isScalar(node))) return null;
      const offset = node.range?.[0] ?? 0;
      if (isAlias(node)) {
        const target = anchors.get(node.source);
        if (target) size += target.size;
        // Its name is not shown: a password may begin with an asterisk.
        else {this.#problem(
            offset,
            showPath(path),
            "an alias of no anchor above it; put a text that begins with * in quotes",
          );}
        if (size > MAX_VALUES) throw this.#tooMuch(offset);
        return target?.value ?? null;
      }
      if (path.length > MAX_DEPTH) {
        this.#problem(offset, "", "nested too deeply for a services file");
        return null;
      }
      const before = size;
      const value = isMap(node) ? map(node.items, path, asText) : isSeq(node)
        ? list(node.items, path, asText)
        // 1.10 as an environment variable or argument is the text "1.10", not the number 1.1.
        : asText && node.value !== null && typeof node.value !== "string"
        ? node.source ?? String(node.value)
        : node.value;
      if (size > MAX_VALUES) throw this.#tooMuch(offset);
      // Known only from here on, so that nothing can hold itself.
      if (node.anchor) anchors.set(node.anchor, { value, size: size - before });
      return value;
    };

    const list = (items: readonly unknown[], path: Path, asText: boolean): unknown[] => {
      const places = new Map<PropertyKey, number>();
      const values = items.map((item, index) => {
        places.set(index, startOf(item));
        return convert(item, [...path, index], asText);
      });
      this.#places.set(values, places);
      return values;
    };

    const map = (pairs: readonly { key: unknown; value: unknown }[], path: Path, asText: boolean) => {
      const places = new Map<PropertyKey, number>();
      const values: Record<string, unknown> = Object.create(null);
      const merged: unknown[] = [];
      for (const { key, value } of pairs) {
        const offset = startOf(key);
        if (!isScalar(key) || key.value === null) {
          this.#problem(offset, showPath(path), "the name of a field here is not a text");
          continue;
        }
        const name = typeof key.value === "string" ? key.value : key.source ?? String(key.value);
        const here = [...path, name];
        if (name === "__proto__") {
          this.#problem(offset, showPath(here), "not a name that a field can have");
        } else if (places.has(name)) {
          const line = this.#lines.linePos(places.get(name) ?? 0).line;
          this.#problem(offset, showPath(here), `stands here a second time; the first is in line ${line}`);
        } else if (name === "<<") merged.push(...[convert(value, here, asText)].flat());
        else if (path.length === 0 && name.startsWith("x-")) convert(value, here, asText); // a place for anchors
        else {
          places.set(name, offset);
          values[name] = convert(value, here, asText || name === "environment" || name === "command");
        }
      }
      for (const source of merged) {
        if (!isRecord(source)) {
          this.#problem(startOf(pairs[0].key), showPath([...path, "<<"]), "only maps can be merged");
          continue;
        }
        for (const [name, value] of Object.entries(source)) {
          if (places.has(name)) continue;
          places.set(name, this.#places.get(source)?.get(name) ?? 0);
          values[name] = value;
        }
      }
      this.#places.set(values, places);
      return values;
    };

    const value = convert(root, [], false);
    this.throwProblems();
    return value;
  }

  #tooMuch(offset: number): ServicesFileError {
    const { line, col } = this.#lines.linePos(offset);
    return new ServicesFileError([
      `${this.path}:${line}:${col} its aliases stand for more than ${MAX_VALUES} values; write fewer *aliases`,
    ]);
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

function startOf(node: unknown): number {
  const range = isContainer(node) ? Reflect.get(node, "range") : undefined;
  return Array.isArray(range) && typeof range[0] === "number" ? range[0] : 0;
}
