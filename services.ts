/**
 * What a service is, which services Nord City has, and how a services file is read and checked.
 *
 * A definition says what someone wants; it never holds what happens at run time. Sections:
 * 1. Types, 2. Defaults, 3. The registry, 4. The services file.
 *
 * @module
 */

import type * as zod from "zod/mini";

// 1. Types
// What a definition may say. Spans are milliseconds here; a services file says them in seconds or as `1h30m`.

/** A fault the user can mend: its message is one or two plain sentences (what, where, how). */
export class UserError extends Error {
  override name = "UserError";
}

/** What a service is to us: ours to keep alive, ours to run once, or only waited for. */
export type Kind = "service" | "task" | "external";

/** When an ended service is started again. */
export type RestartPolicy = "always" | "on-failure" | "never";

/** How one looks whether a service is well. `${NAME}` in texts is expanded from the service's environment. */
export type Probe =
  | { kind: "http"; url: string; body: string | null } // any 2xx; `body` is a regular expression that narrows it
  | { kind: "tcp"; port: string } // a port number, or text that expands to one
  | { kind: "command"; command: readonly string[] | string } // status 0 means well
  | { kind: "log"; pattern: string }; // a line that matches: readiness only

/** Readiness while starting and, unless the probe is `log`, liveness afterwards. */
export interface Health {
  probe: Probe;
  /** Pause between liveness probes. */
  intervalMs: number;
  /** Limit of one probe. */
  timeoutMs: number;
  /** Failures in a row until the service counts as failed. */
  retries: number;
}

/** One service with nothing left out. Paths are relative to the infrastructure folder unless absolute. */
export interface Service {
  name: string;
  title: string;
  /** A list is started as it is; a text is run by `/bin/sh -c`. `python` as first word is the venv's. */
  command: readonly string[] | string;
  workingDir: string;
  /** Over `.env`; `${NAME}` is expanded. */
  environment: Readonly<Record<string, string>>;
  envRequired: readonly string[];
  /** The port it listens on; with `portEnv`, the default of that variable. */
  port: number | null;
  portEnv: string | null;
  dependencies: readonly string[];
  kind: Kind;
  restartPolicy: RestartPolicy;
  /** Starts after a failure within `retryWindowMs` until it counts as failed for good. */
  maxRetries: number;
  retryWindowMs: number;
  retryDelayMs: number;
  retryDelayMaxMs: number;
  timeoutStartMs: number;
  timeoutStopMs: number;
  stopSignal: Deno.Signal;
  /** Whether its failure for good stops everything. */
  critical: boolean;
  restartWithDependencies: boolean;
  /** Whether it starts without being named or needed. */
  autostart: boolean;
  health: Health | null;
}

// 2. Defaults
// The one place where a default value stands: the schema, the help and the docs take them from here.

/** What a field is when a definition does not say it. */
export const DEFAULTS = {
  workingDir: ".",
  environment: {},
  envRequired: [],
  port: null,
  portEnv: null,
  dependencies: [],
  kind: "service",
  restartPolicy: "never",
  maxRetries: 3,
  retryWindowMs: 60_000,
  retryDelayMs: 1_000,
  retryDelayMaxMs: 60_000,
  timeoutStartMs: 30_000,
  timeoutStopMs: 10_000,
  stopSignal: "SIGTERM",
  critical: true,
  restartWithDependencies: false,
  autostart: true,
  health: null,
} as const satisfies Omit<Service, "name" | "title" | "command">;

/** What a health check is when a definition does not say it. */
export const HEALTH_DEFAULTS = { intervalMs: 10_000, timeoutMs: 2_000, retries: 3 } as const;

/** A definition as it is written in code: only the command is owed. */
export type Definition<Name extends string = string> =
  & { command: readonly string[] | string; dependencies?: readonly Name[] }
  & Partial<Omit<Service, "name" | "command" | "dependencies">>;

/**
 * Completes definitions with the defaults, in the order written. A misspelt dependency does not compile.
 *
 * ```ts
 * import { defineServices } from "./services.ts";
 * const services = defineServices({
 *   store: { command: ["python", "main.py"], port: 7301 },
 *   shop: { command: "npm start", dependencies: ["store"] },
 * });
 * console.assert(services[1].title === "shop");
 * ```
 */
export function defineServices<const Name extends string>(
  definitions: Record<Name, Definition<NoInfer<Name>>>,
): Service[] {
  return Object.entries<Definition<Name>>(definitions).map(([name, definition]) => ({
    ...DEFAULTS,
    title: name,
    ...definition,
    name,
  }));
}

// 3. The registry
// Nord City's services: used where the infrastructure folder has no services file.

/** The built-in services, in the order they are listed and, dependencies allowing, started. */
export const SERVICES: readonly Service[] = defineServices({
  db: {
    title: "Database Service",
    command: ["python", "main.py"],
    workingDir: "services/database_service/src",
    port: 8001,
    portEnv: "DATABASE_SERVICE_PORT",
  },
  web: {
    title: "Web Service",
    command: ["python", "main.py"],
    workingDir: "services/web_service/src",
    port: 8003,
    portEnv: "WEB_SERVICE_PORT",
    dependencies: ["db"],
  },
  bot: {
    title: "Bot Service",
    command: ["python", "main.py"],
    workingDir: "services/bot_service/src",
    dependencies: ["db"],
  },
});

// 4. The services file
// A file is checked whole: every mistake is told at once, with its place, and nothing starts.
// text -> YAML nodes -> plain value with places -> schema and rules -> services, or one error.
// The YAML parser and the schema library are loaded only when there is a file to read.

/** Names under which a services file is looked for, in this order. */
export const SERVICES_FILES = ["services.yaml", "services.yml", "services.json"] as const;

/** What is wrong with a services file: each problem is one line that begins with `file:line:column`. */
export class ServicesFileError extends UserError {
  constructor(readonly problems: readonly string[]) {
    const more = problems.length - MAX_SHOWN;
    super(
      [...problems.slice(0, MAX_SHOWN), ...(more > 0 ? [`... and ${more} more mistakes`] : [])].join("\n"),
    );
  }
}

/** The services file of an infrastructure folder, or null when the built-in registry applies. */
export function findServicesFile(infrastructure: string): string | null {
  let names: Set<string>;
  try {
    // One look at the folder: three at files that are not there take longer.
    names = new Set(Array.from(Deno.readDirSync(infrastructure), ({ name }) => name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    // A folder that may be entered but not listed: what is wrong is told by the one who reads the file.
    names = new Set(SERVICES_FILES.filter((name) => mayBeThere(`${infrastructure}/${name}`)));
  }
  const found = SERVICES_FILES.find((name) => names.has(name));
  return found === undefined ? null : `${infrastructure}/${found}`;
}

function mayBeThere(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound);
  }
}

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

/** Whether `readServicesFile` finds a file as it was kept. @throws {ServicesFileError} when it can't be read */
export function isKept(path: string, memory: string): boolean {
  return recall(`${memory}/services.cache.json`, readSource(path)) !== null;
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

/** What a kept result is only good for: the same text, read with the same meaning. */
interface Kept {
  /** To be raised when the meaning of a file changes in a way that its fields' defaults do not show. */
  format: 1;
  defaults: string;
  text: string;
  services: Service[];
}

const MEANING = { format: 1, defaults: JSON.stringify([DEFAULTS, HEALTH_DEFAULTS]) } as const;

function recall(note: string, text: string): Service[] | null {
  try {
    const kept: Kept = JSON.parse(Deno.readTextFileSync(note));
    const fits = kept.format === MEANING.format && kept.defaults === MEANING.defaults && kept.text === text;
    return fits ? kept.services : null;
  } catch {
    return null; // none, unreadable or half-written: the file itself is read
  }
}

async function remember(note: string, text: string, services: Service[]): Promise<void> {
  const kept: Kept = { ...MEANING, text, services };
  const draft = `${note}.${Deno.pid}`;
  try {
    await Deno.writeTextFile(draft, JSON.stringify(kept), { mode: 0o600 });
    await Deno.rename(draft, note);
  } catch {
    // No such folder, or none we may write to: it saves time, nothing depends on it.
  }
}

/** The JSON Schema of a services file, as the text kept in `services.schema.json`. */
export async function servicesJsonSchema(): Promise<string> {
  const z = await import("zod/mini");
  return JSON.stringify(z.toJSONSchema(fileSchemas(z).file, { io: "input", target: "draft-07" }), null, 2) +
    "\n";
}

/**
 * Milliseconds of a duration: a number (or a text of digits) is seconds; otherwise `500ms`, `2m`, `1h30m`, `1.5s`, `2d`.
 *
 * @throws {UserError} when it is none of these.
 */
export function parseDuration(duration: string | number): number {
  const durationMs = spanOf(duration);
  if (durationMs === null) {
    throw new UserError(`${quote(duration)} is not a duration; use ${DURATION_FORMS}.`);
  }
  return durationMs;
}

function spanOf(duration: string | number): number | null {
  const parts = DURATION.exec(String(duration).trim());
  if (!parts?.[0]) return null;
  const [, seconds, ...amounts] = parts;
  const spanMs = seconds !== undefined
    ? 1000 * Number(seconds)
    : amounts.reduce((sum, amount, i) => sum + UNITS[i].ms * Number(amount ?? 0), 0);
  return Number.isFinite(spanMs) ? Math.round(spanMs) : null;
}

const DURATION_FORMS = "seconds (10 or 1.5) or a text such as 500ms, 2m or 1h30m";
const UNITS = [
  { unit: "d", ms: 86_400_000 },
  { unit: "h", ms: 3_600_000 },
  { unit: "m", ms: 60_000 },
  { unit: "s", ms: 1000 },
  { unit: "ms", ms: 1 },
];
const AMOUNT = "(\\d+(?:\\.\\d+)?)";
const DURATION = new RegExp(`^(?:${AMOUNT}|${UNITS.map(({ unit }) => `(?:${AMOUNT}${unit} ?)?`).join("")})$`);

/**
 * The candidate most like a misspelt word, or null when none is near: case, `-` and `_` do not count, and one
 * letter too many, too few, wrong or swapped with its neighbour is one step.
 */
export function closest(word: string, candidates: Iterable<string>): string | null {
  const wanted = folded(word);
  if (!wanted || wanted.length > 100) return null;
  const limit = wanted.length < 4 ? 1 : wanted.length < 8 ? 2 : 3;
  let best: string | null = null, bestSteps = limit + 1;
  for (const candidate of candidates) {
    const steps = stepsBetween(wanted, folded(candidate), bestSteps);
    if (steps < bestSteps) [best, bestSteps] = [candidate, steps];
  }
  return best;
}

const folded = (word: string) => word.toLowerCase().replace(/[\s_-]/g, "");

/** Damerau-Levenshtein distance of neighbours, given up (as `limit`) once it can't stay below `limit`. */
function stepsBetween(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        next[j] = Math.min(next[j], before[j - 2] + 1);
      }
    }
    if (Math.min(...next) >= limit) return limit;
    [before, row] = [row, next];
  }
  return Math.min(row[b.length], limit);
}

// Limits that no real services file comes near, so that a hostile one ends as a sentence.
const MAX_BYTES = 512 * 1024;
const MAX_DEPTH = 100;
const MAX_VALUES = 200_000; // with every alias counted as often as it is used
const MAX_SHOWN = 50;
const MAX_SPAN_MS = 24 * 86_400_000; // timers hold no more than 2^31 ms

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

type Yaml = typeof import("yaml");
type Zod = typeof import("zod/mini");
type Path = readonly PropertyKey[];

/** The text of a services file, the places of its values, and the problems found so far. */
class SourceFile {
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

// What a services file may say. The JSON Schema for editors is made from this, too.

type Schemas = ReturnType<typeof fileSchemas>;
type Written = zod.infer<Schemas["service"]>;

const STOP_SIGNALS = [
  "SIGTERM",
  "SIGINT",
  "SIGQUIT",
  "SIGHUP",
  "SIGUSR1",
  "SIGUSR2",
  "SIGWINCH",
  "SIGABRT",
  "SIGKILL",
] as const satisfies readonly Deno.Signal[];

const PROBES = ["http", "tcp", "command", "log"] as const;

function fileSchemas(z: Zod) {
  /** Tells editors what a value means, and with `more`, in JSON Schema, what `checkTogether` checks. */
  const about = <S extends zod.core.$ZodType>(description: string, schema: S, more: object = {}): S => {
    z.globalRegistry.add(schema, { description, ...more });
    return schema;
  };
  const text = (allowed: string, pattern = /^[^\0]*[^\s\0][^\0]*$/) =>
    z.string(allowed).check(z.regex(pattern, allowed));
  const choice = <const C extends readonly string[]>(choices: C, standard: C[number]) =>
    z._default(z.enum(choices, `use ${orList(choices)}`), standard);
  const flag = (standard: boolean) => z._default(z.boolean("use true or false"), standard);
  const wholeNumber = (least: number, most?: number) => {
    const allowed = `use a whole number${most ? ` from ${least} to ${most}` : `, ${least} or more`}`;
    const number = z.int(allowed).check(z.minimum(least, allowed));
    return most ? number.check(z.maximum(most, allowed)) : number;
  };
  const span = (leastMs: number, standardMs: number) => {
    const allowed = `use ${DURATION_FORMS}, ${leastMs > 0 ? "more than 0" : "0 or more"} and at most 24 days`;
    const inRange = (value: string | number) => {
      const spanMs = spanOf(value);
      return spanMs !== null && spanMs >= leastMs && spanMs <= MAX_SPAN_MS;
    };
    const number = z.number(allowed).check(z.minimum(0, allowed));
    const either = z.union([number, z.string(allowed).check(z.regex(DURATION, allowed))], allowed);
    return z._default(either.check(z.refine(inRange, allowed)), standardMs / 1000);
  };
  const variable = (allowed: string) => text(allowed, /^[^\s=\0]+$/);
  const port = () => wholeNumber(1, 65535);
  const portText = "use a port number from 1 to 65535, or ${NAME} of a variable that holds one";
  const command = () => {
    const allowed = "use a list of words, or a text for /bin/sh -c";
    const word = z.union(
      [z.string(allowed).check(z.regex(/^[^\0]*$/, allowed)), z.number(), z.boolean()],
      allowed,
    );
    return z.optional(z.union([z.array(word).check(z.minLength(1, allowed)), text(allowed)], allowed));
  };
  const pattern = () => {
    const allowed = "use a regular expression as JavaScript knows them";
    return z.optional(text(allowed, /^[\s\S]+$/).check(z.refine(compiles, allowed)));
  };
  const nameText =
    "use a name without spaces, commas and slashes, at most 60 characters, that does not begin with - or .";
  const url = "use a URL that begins with http:// or https://";

  const health = z.strictObject({
    http: about(
      "URL that answers with a 2xx status; ${NAME} is expanded, for example http://127.0.0.1:${PORT}/health",
      z.optional(text(url).check(z.refine(isHttpUrl, url))),
    ),
    body: about("Regular expression that the body of the http answer must match.", pattern()),
    tcp: about(
      "Port that accepts a connection, as a number or a text such as ${PORT}.",
      z.optional(z.union([port(), text(portText, /\$\{[^}]+\}/)], portText)),
    ),
    command: about("Command that ends with status 0: a list of words, or a text for /bin/sh -c.", command()),
    log: about("Regular expression; a line of output that matches means ready (no liveness).", pattern()),
    interval: about("Pause between liveness probes.", span(1, HEALTH_DEFAULTS.intervalMs)),
    timeout: about("Longest time of one probe.", span(1, HEALTH_DEFAULTS.timeoutMs)),
    retries: about(
      "Failures in a row until the service counts as failed.",
      z._default(wholeNumber(1), HEALTH_DEFAULTS.retries),
    ),
  }, "use a map with one of http, tcp, command or log");

  const service = z.strictObject({
    name: about(
      "Unique name: what --services takes, and the prefix of its log lines.",
      text(nameText, /^[^\s,/\\.-][^\s,/\\]{0,59}$/).check(z.refine(isOneLine, nameText)),
    ),
    title: about(
      "Shown in tables; default: the name.",
      z.optional(text("use one line of text").check(z.refine(isOneLine, "use one line of text"))),
    ),
    command: about(
      "A list of words is started as it is, a text is run by /bin/sh -c. `python` as first word is the venv's.",
      command(),
    ),
    working_dir: about(
      "Folder it runs in, relative to the infrastructure folder unless absolute.",
      z._default(text("use the path of a folder"), DEFAULTS.workingDir),
    ),
    environment: about(
      "Variables for this service, over those of .env; ${NAME} is expanded.",
      z._default(
        z.record(
          variable("use a name without spaces and ="),
          z.union(
            [z.string().check(z.regex(/^[^\0]*$/)), z.number(), z.boolean()],
            'use a text ("" for an empty one)',
          ),
          "use a map of names and values",
        ),
        DEFAULTS.environment,
      ),
    ),
    env_required: about(
      "Names of variables that must be set before it starts.",
      z._default(z.array(variable("use the name of a variable"), "use a list of names"), []),
    ),
    port: about("Port it listens on; with port_env, the default of that variable.", z.optional(port())),
    port_env: about("Variable that holds the port.", z.optional(variable("use the name of a variable"))),
    dependencies: about(
      "Names of services that must be ready before it starts.",
      z._default(z.array(text("use the name of a service"), "use a list of service names"), []),
    ),
    kind: about(
      "service: kept running. task: runs once, dependents wait until it ends with 0. external: not started, only waited for.",
      choice(["service", "task", "external"], DEFAULTS.kind),
    ),
    restart_policy: about(
      "When it is started again after it ended.",
      choice(["always", "on-failure", "never"], DEFAULTS.restartPolicy),
    ),
    max_retries: about(
      "Restarts after failures within retry_window.",
      z._default(wholeNumber(0), DEFAULTS.maxRetries),
    ),
    retry_window: about(
      "Span in which retries are counted; a run longer than this clears the count.",
      span(1, DEFAULTS.retryWindowMs),
    ),
    retry_delay: about("Pause before the first retry; doubled each time.", span(0, DEFAULTS.retryDelayMs)),
    retry_delay_max: about("Longest pause before a retry.", span(0, DEFAULTS.retryDelayMaxMs)),
    timeout_start: about("Longest time until it is ready.", span(1, DEFAULTS.timeoutStartMs)),
    timeout_stop: about("Time from the stop signal to SIGKILL.", span(0, DEFAULTS.timeoutStopMs)),
    stop_signal: about("Signal that asks it to stop.", choice(STOP_SIGNALS, DEFAULTS.stopSignal)),
    critical: about(
      "true: when it has failed for good, everything stops. false: the rest run on.",
      flag(DEFAULTS.critical),
    ),
    restart_with_dependencies: about(
      "true: restarted after one of its dependencies was restarted.",
      flag(DEFAULTS.restartWithDependencies),
    ),
    autostart: about(
      "false: started only when named, or needed by one that is named.",
      flag(DEFAULTS.autostart),
    ),
    health: about(
      "Readiness and, after that, liveness: one of http, tcp, command or log.",
      z.optional(health),
      { oneOf: PROBES.map((probe) => ({ required: [probe] })) },
    ),
  }, "use a map with name and command");
  about("One service.", service, {
    if: { properties: { kind: { const: "external" } }, required: ["kind"] },
    then: { required: ["health"], not: { required: ["command"] } },
    else: { required: ["command"] },
  });

  const file = z.strictObject({
    $schema: z.optional(z.string()),
    services: about(
      "The services, in the order they are listed and, dependencies allowing, started.",
      z.array(service, "use a list of services, each beginning with - name: NAME").check(
        z.minLength(1, "name at least one service"),
      ),
    ),
  }, 'use a map with the list "services:"');
  about("Services of the orchestrator. Fields that begin with x- are free, a place for anchors.", file, {
    patternProperties: { "^x-": {} },
  });
  return { file, service, health };
}

function toService(written: Written): Service {
  const words = (command: Written["command"]) => Array.isArray(command) ? command.map(String) : command ?? [];
  const { health } = written;
  return {
    name: written.name,
    title: written.title ?? written.name,
    command: words(written.command),
    workingDir: written.working_dir,
    environment: Object.fromEntries(
      Object.entries(written.environment).map(([name, value]) => [name, String(value)]),
    ),
    envRequired: written.env_required,
    port: written.port ?? DEFAULTS.port,
    portEnv: written.port_env ?? DEFAULTS.portEnv,
    dependencies: [...new Set(written.dependencies)],
    kind: written.kind,
    restartPolicy: written.restart_policy,
    maxRetries: written.max_retries,
    retryWindowMs: parseDuration(written.retry_window),
    retryDelayMs: parseDuration(written.retry_delay),
    retryDelayMaxMs: parseDuration(written.retry_delay_max),
    timeoutStartMs: parseDuration(written.timeout_start),
    timeoutStopMs: parseDuration(written.timeout_stop),
    stopSignal: written.stop_signal,
    critical: written.critical,
    restartWithDependencies: written.restart_with_dependencies,
    autostart: written.autostart,
    health: health === undefined ? DEFAULTS.health : {
      probe: health.http !== undefined
        ? { kind: "http", url: health.http, body: health.body ?? null }
        : health.tcp !== undefined
        ? { kind: "tcp", port: String(health.tcp) }
        : health.log !== undefined
        ? { kind: "log", pattern: health.log }
        : { kind: "command", command: words(health.command) },
      intervalMs: parseDuration(health.interval),
      timeoutMs: parseDuration(health.timeout),
      retries: health.retries,
    },
  };
}

/**
 * Complains of what only shows when fields and services are seen together. A field that is wrong by itself counts
 * as not said here, so that one mistake does not hide another.
 */
function checkTogether(
  items: readonly unknown[],
  { service: { shape } }: Schemas,
  z: Zod,
  source: SourceFile,
) {
  const said = <S extends zod.ZodMiniType>(schema: S, value: unknown): zod.output<S> | undefined =>
    z.safeParse(schema, value).data;
  const drafts = items.map((item, index) => {
    const raw = isRecord(item) ? item : {};
    return {
      index,
      raw,
      at: (...fields: PropertyKey[]) => ["services", index, ...fields],
      name: said(shape.name, raw.name),
      port: said(shape.port, raw.port),
      port_env: said(shape.port_env, raw.port_env),
      dependencies: Array.isArray(raw.dependencies)
        ? raw.dependencies.map((name) => said(z.string(), name))
        : [],
    };
  });

  const firstWith = (field: "name" | "port" | "port_env", meaning: string) => {
    const first = new Map<unknown, typeof drafts[number]>();
    for (const draft of drafts) {
      const value = draft[field];
      const other = first.get(value);
      if (value === undefined) continue;
      if (!other) first.set(value, draft);
      else {
        const who = `${showPath(other.at())} ${quote(other.name ?? "")} (line ${
          source.lineOf(other.at(field))
        })`;
        source.report(
          draft.at(field),
          `${quote(value)} is already the ${meaning} of ${who}; each needs its own`,
        );
      }
    }
    return first;
  };
  const byName = firstWith("name", "name");
  firstWith("port", "port");
  firstWith("port_env", "port variable");

  const names = drafts.flatMap(({ name }) => name ?? []);
  for (const { index, raw, at, name, dependencies } of drafts) {
    if (name === "orchestrator") {
      source.report(at("name"), "the orchestrator itself has this name in logs; use another");
    }
    dependencies.forEach((dependency, i) => {
      if (dependency === undefined || byName.has(dependency)) return;
      const text = `${quote(name ?? "this service")} depends on ${
        quote(dependency)
      }, which is not in this file`;
      source.reportName(at("dependencies", i), text, dependency, names);
    });

    const kind = said(shape.kind, raw.kind);
    const command = "use a list of words, or a text for /bin/sh -c";
    if (kind === "external") {
      if (raw.command !== undefined) {
        source.report(at("command"), "not allowed; an external service is waited for, not started");
      }
      if (raw.health === undefined) {
        source.report(at("health"), "missing; an external service is waited for by its health check");
      }
    } else if (kind !== undefined && isRecord(items[index]) && raw.command === undefined) {
      source.report(at("command"), `missing; ${command}`);
    }
    if (kind === "task") {
      const policy = `"always" is not allowed for a task, which runs once; use on-failure or never`;
      if (raw.restart_policy === "always") source.report(at("restart_policy"), policy);
      if (raw.health !== undefined) {
        source.report(at("health"), "not allowed for a task; it is done when it ends with status 0");
      }
    }

    const [delay, longest] = [
      said(shape.retry_delay, raw.retry_delay),
      said(shape.retry_delay_max, raw.retry_delay_max),
    ];
    if (delay !== undefined && longest !== undefined && parseDuration(delay) > parseDuration(longest)) {
      const field = raw.retry_delay === undefined ? "retry_delay_max" : "retry_delay";
      source.report(
        at(field),
        `retry_delay ${delay} is above retry_delay_max ${longest}; say a higher retry_delay_max`,
      );
    }
    if (isRecord(raw.health)) {
      checkProbe(raw.health, kind, (field, text) => source.report(at("health", ...field), text));
    }
  }

  const needs = drafts.map(({ dependencies }) =>
    dependencies.flatMap((name) => byName.get(name)?.index ?? [])
  );
  for (const cycle of cyclesOf(needs)) {
    const shown = cycle.map((index) => drafts[index].name);
    if (shown.length > 20) shown.splice(10, shown.length - 20, "...");
    const text = `${shown.join(" -> ")} is a cycle; remove one of these dependencies`;
    source.report(drafts[cycle[0]].at("dependencies"), text);
  }
}

function checkProbe(
  health: Record<string, unknown>,
  kind: Kind | undefined,
  complain: (field: Path, text: string) => void,
) {
  const [first, ...others] = PROBES.filter((probe) => health[probe] !== undefined);
  if (first === undefined) complain([], `no probe is named; use one of ${orList(PROBES)}`);
  for (const other of others) complain([other], `a second probe beside ${first}; keep one of them`);
  if (health.body !== undefined && health.http === undefined) {
    complain(["body"], "only an http probe has a body; use http or remove this");
  }
  if (health.log === undefined) return;
  if (kind === "external") {
    complain(
      ["log"],
      "not allowed for an external service, whose output nobody reads; use http, tcp or command",
    );
  }
  for (const field of ["interval", "retries"].filter((field) => health[field] !== undefined)) {
    complain(
      [field],
      "only for liveness, and a log probe tells readiness; remove this, or use http, tcp or command",
    );
  }
}

/** Cycles of a graph as walks that end where they began; at most `MAX_SHOWN` of them. Without recursion. */
function cyclesOf(needs: readonly (readonly number[])[]): number[][] {
  const cycles: number[][] = [];
  const done = new Set<number>();
  for (const start of needs.keys()) {
    const walk: number[] = [];
    const placeInWalk = new Map<number, number>();
    const todo = [start]; // ~n stands for: all that n needs has been seen
    for (let node = todo.pop(); node !== undefined && cycles.length < MAX_SHOWN; node = todo.pop()) {
      const place = placeInWalk.get(node);
      if (node < 0) {
        walk.pop();
        placeInWalk.delete(~node);
        done.add(~node);
      } else if (place !== undefined) cycles.push([...walk.slice(place), node]);
      else if (!done.has(node)) {
        placeInWalk.set(node, walk.push(node) - 1);
        todo.push(~node);
        for (const next of needs[node].toReversed()) todo.push(next);
      }
    }
  }
  return cycles;
}

// Words of a complaint. What stands in the file is a stranger's text: shortened, and nothing in it can steer a terminal.

const isContainer = (value: unknown): value is object => typeof value === "object" && value !== null;
const isRecord = (value: unknown): value is Record<string, unknown> =>
  isContainer(value) && !Array.isArray(value);

const orList = (words: readonly string[]) => words.join(", ").replace(/, ([^,]*)$/, " or $1");

function quote(value: unknown): string {
  const text = String(value).replace(/\/\/[^/\s@]*@/g, "//***@"); // a URL may carry a password
  const short = text.length > 60 ? `${text.slice(0, 60)}...` : text;
  return typeof value === "string" ? printable(JSON.stringify(short)) : short;
}

function describeValue(value: unknown, secret: boolean): string {
  if (value === null) return "an empty value";
  if (Array.isArray(value)) return value.length > 0 ? "a list" : "an empty list";
  if (isRecord(value)) return "a map";
  return secret ? "this value" : quote(value);
}

const printable = (text: string) =>
  text.replace(/[\p{C}\u2028\u2029]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`);

function showPath(path: Path): string {
  return path.map((key, i) =>
    typeof key === "number"
      ? `[${key}]`
      : /^[\w$<-]{1,60}$/.test(String(key))
      ? `${i > 0 ? "." : ""}${String(key)}`
      : `[${quote(String(key))}]`
  ).join("");
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

/** Whether a text has no control character; a regular expression of the schema could not say it for every editor. */
const isOneLine = (text: string) => !/\p{Cc}/u.test(text);

function compiles(pattern: string): boolean {
  try {
    return Boolean(new RegExp(pattern));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    throw error;
  }
}

function isHttpUrl(text: string): boolean {
  return /^https?:\/\//i.test(text) && URL.canParse(text.replace(/\$\{[^}]*\}/g, "1"));
}
