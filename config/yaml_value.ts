/**
 * YAML nodes as plain values. Every container remembers where its keys and items stand in the text.
 *
 * @module
 */

import type { Path } from "./wording.ts";
import { isContainer, isRecord } from "./wording.ts";

export type Yaml = typeof import("yaml");

// Limits that no real services file comes near, so that a hostile one ends as a sentence.
const MAX_DEPTH = 100;
const MAX_VALUES = 200_000; // with every alias counted as often as it is used

/** Called for each problem: where it stands in the text, at which value, and what it is. */
export type Report = (offset: number, path: Path, text: string) => void;

/** Thrown when a file holds more than this program is ready to look at; what was reported before is incomplete. */
export class TooManyValues extends Error {
  constructor(readonly offset: number) {
    super(`its aliases stand for more than ${MAX_VALUES} values; write fewer *aliases`);
  }
}

/** Converts the nodes of one document. */
export class YamlConverter {
  /** Offset of every key and list item of the containers that were made. */
  readonly places = new WeakMap<object, Map<PropertyKey, number>>();
  readonly #yaml: Yaml;
  readonly #report: Report;
  readonly #lineOf: (offset: number) => number;
  readonly #anchors = new Map<string, { value: unknown; size: number }>();
  #size = 0;

  constructor(yaml: Yaml, report: Report, lineOf: (offset: number) => number) {
    this.#yaml = yaml;
    this.#report = report;
    this.#lineOf = lineOf;
  }

  /**
   * The plain value of a node.
   *
   * @param asText whether numbers and booleans stay as they are written: 1.10 as an argument is not 1.1
   * @throws {TooManyValues} when aliases multiply beyond reason
   */
  convert(node: unknown, path: Path, asText: boolean): unknown {
    const { isAlias, isMap, isSeq, isScalar } = this.#yaml;
    this.#size += 1;
    if (!(isAlias(node) || isMap(node) || isSeq(node) || isScalar(node))) return null;
    const offset = startOf(node);
    if (isAlias(node)) return this.#alias(node.source, offset, path);
    if (path.length > MAX_DEPTH) {
      this.#report(offset, [], "nested too deeply for a services file");
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
      this.#report(offset, path, "an alias of no anchor above it; put a text that begins with * in quotes");
      return null;
    }
    this.#size += target.size;
    this.#limit(offset);
    return target.value;
  }

  #limit(offset: number): void {
    if (this.#size > MAX_VALUES) throw new TooManyValues(offset);
  }

  #list(items: readonly unknown[], path: Path, asText: boolean): unknown[] {
    const values = items.map((item, index) => this.convert(item, [...path, index], asText));
    this.places.set(values, new Map(items.map((item, index) => [index, startOf(item)])));
    return values;
  }

  #map(pairs: readonly { key: unknown; value: unknown }[], path: Path, asText: boolean): object {
    const places = new Map<PropertyKey, number>();
    const values: Record<string, unknown> = Object.create(null);
    const merged: { value: unknown; offset: number }[] = [];
    for (const { key, value } of pairs) {
      const offset = startOf(key);
      const name = this.#nameOf(key);
      const here = [...path, name ?? ""];
      const first = places.get(name ?? "");
      if (name === null) this.#report(offset, path, "the name of a field here is not a text");
      else if (name === "__proto__") this.#report(offset, here, "not a name that a field can have");
      else if (first !== undefined) {
        this.#report(offset, here, `stands here a second time; the first is in line ${this.#lineOf(first)}`);
      } else if (name === "<<") {
        merged.push(...[this.convert(value, here, asText)].flat().map((value) => ({ value, offset })));
      } else if (path.length === 0 && name.startsWith("x-")) this.convert(value, here, asText); // for anchors
      else {
        places.set(name, offset);
        values[name] = this.convert(value, here, asText || name === "environment" || name === "command");
      }
    }
    for (const { value, offset } of merged) {
      if (isRecord(value)) this.#merge(value, values, places);
      else this.#report(offset, [...path, "<<"], "only maps can be merged");
    }
    this.places.set(values, places);
    return values;
  }

  /** Adds what a map has not said itself. */
  #merge(source: Record<string, unknown>, values: Record<string, unknown>, places: Map<PropertyKey, number>) {
    for (const [name, value] of Object.entries(source)) {
      if (places.has(name)) continue;
      places.set(name, this.places.get(source)?.get(name) ?? 0);
      values[name] = value;
    }
  }

  #nameOf(key: unknown): string | null {
    if (!this.#yaml.isScalar(key) || key.value === null) return null;
    return typeof key.value === "string" ? key.value : key.source ?? String(key.value);
  }
}

function startOf(node: unknown): number {
  const range = isContainer(node) ? Reflect.get(node, "range") : undefined;
  return Array.isArray(range) && typeof range[0] === "number" ? range[0] : 0;
}
