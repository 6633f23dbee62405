/**
 * The walls of the house: which room may import which, no circles, no file and no function that outgrows a screen or
 * two. `docs/decisions.md` explains why the rooms are as they are.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { assertEquals } from "@std/assert";
import { ROOT, sources } from "./sources.ts";

/** The most lines that a file and a function may have. A table is read by looking up, not from top to bottom. */
const FILE_LINES = 600;
const FUNCTION_LINES = 60;

/** Each room with those that it may import besides itself. `services.ts` belongs to config, where it is read. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  config: [],
  process: ["config"],
  supervisor: ["config", "process"],
  terminal: ["config", "process", "supervisor"],
  control: ["config", "process", "supervisor", "terminal"],
  jobs: ["config", "terminal"],
  cli: ["config", "process", "supervisor", "terminal", "control", "jobs"],
  "orchestrator.ts": ["config", "process", "supervisor", "terminal", "control", "jobs", "cli"],
};

/** The rooms of `jobs/`, likewise. */
const JOBS_MAY_IMPORT: Record<string, readonly string[]> = {
  model: [],
  stores: ["model"],
  engine: ["model", "stores"],
  http: ["model", "stores", "engine"],
  worker: ["model"],
  cli: ["model", "stores", "engine", "http", "worker", "mod.ts"],
  "mod.ts": ["model", "stores", "engine", "http", "worker"],
};

interface SourceFile {
  /** From the root of the project. */
  path: string;
  lines: readonly string[];
  imports: readonly { line: number; path: string }[];
}

/** What a file imports of the project, also lazily and for its types alone. Examples in comments do not count. */
function importsOf(path: string, text: string): { line: number; path: string }[] {
  return text.split("\n").flatMap((line, index) => {
    if (/^\s*(\*|\/\/)/.test(line)) return [];
    return [...line.matchAll(/(?:\bfrom |\bimport\(|^import )"(\.[^"]+)"/g)].map(([, target]) => {
      const { pathname } = new URL(target ?? "", `file:///${path}`);
      return { line: index + 1, path: decodeURIComponent(pathname).slice(1) };
    });
  });
}

function roomOf(path: string): string {
  return path === "services.ts" ? "config" : path.split("/")[0] ?? path;
}

const SOURCES = sources().map(({ path, text }): SourceFile => ({
  path,
  lines: text.split("\n").slice(0, -1),
  imports: importsOf(path, text),
}));

Deno.test("every room imports only the rooms below it", () => {
  const upwards = SOURCES.flatMap(({ path, imports }) =>
    imports.flatMap((target) => {
      const [from, to] = [roomOf(path), roomOf(target.path)];
      const isAllowed = from === to || MAY_IMPORT[from]?.includes(to);
      return isAllowed ? [] : [`${path}:${target.line} imports ${target.path}`];
    })
  );
  assertEquals(upwards, []);
});

Deno.test("every room of the job engine imports only the rooms below it", () => {
  const room = (path: string) => path.split("/")[1] ?? "";
  const upwards = SOURCES.filter(({ path }) => roomOf(path) === "jobs").flatMap(({ path, imports }) =>
    imports.filter((target) => roomOf(target.path) === "jobs").flatMap((target) => {
      const [from, to] = [room(path), room(target.path)];
      const isAllowed = from === to || JOBS_MAY_IMPORT[from]?.includes(to);
      return isAllowed ? [] : [`${path}:${target.line} imports ${target.path}`];
    })
  );
  assertEquals(upwards, []);
});

Deno.test("no file imports itself through others", () => {
  const imports = new Map(SOURCES.map((source) => [source.path, source.imports.map(({ path }) => path)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (path: string, way: readonly string[]) => {
    if (way.includes(path)) circles.push([...way.slice(way.indexOf(path)), path].join(" -> "));
    else if (!done.has(path)) {
      for (const next of imports.get(path) ?? []) visit(next, [...way, path]);
      done.add(path);
    }
  };
  for (const path of imports.keys()) visit(path, []);
  assertEquals(circles, []);
});

/** What is loaded before the first line of a module runs: not what it imports lazily, nor for its types alone. */
async function loadedBy(entry: string): Promise<string[]> {
  interface Module {
    specifier: string;
    dependencies?: { isDynamic?: boolean; code?: { specifier: string } }[];
  }
  const args = ["info", "--json", entry];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT }).output();
  const graph: { roots: string[]; modules: Module[] } = JSON.parse(new TextDecoder().decode(stdout));
  const modules = new Map(graph.modules.map((module) => [module.specifier, module]));
  const loaded = new Set(graph.roots);
  for (const specifier of loaded) { // which grows meanwhile
    for (const { isDynamic, code } of modules.get(specifier)?.dependencies ?? []) {
      if (!isDynamic && code !== undefined) loaded.add(code.specifier);
    }
  }
  return [...loaded].map((specifier) => specifier.replace(`file://${ROOT}/`, "")).sort();
}

Deno.test("each start loads what a run needs, and neither clients, jobs nor what reads a changed file", async () => {
  const loaded = await loadedBy("orchestrator.ts");
  assertEquals(loaded.filter((path) => /^(control|jobs)\/|yaml|zod/.test(path)), [
    "control/control.ts",
    "control/run_folder.ts",
    "jobs/cli/table.ts",
  ]);
});

Deno.test(`no file has more than ${FILE_LINES} lines, and the entry has at most 150`, () => {
  const long = SOURCES.flatMap(({ path, lines }) => {
    const limit = path === "orchestrator.ts" ? 150 : FILE_LINES;
    return lines.length > limit ? [`${path} has ${lines.length} lines`] : [];
  });
  assertEquals(long, []);
});

Deno.test("the top level holds the entry, the services and the tests of the program, and no other script", () => {
  const scripts = [...Deno.readDirSync(ROOT)].filter(({ name }) => /\.[jt]s$/.test(name)).map(({ name }) =>
    name
  );
  assertEquals(scripts.sort(), ["orchestrator.ts", "orchestrator_test.ts", "services.ts"]);
});

/** Where a function begins, as `deno fmt` writes it: its end is a closing brace with the same indent. */
const FUNCTION =
  /^(\s*)(?:export )?(?:async )?(?:function\b|(?:const|let) [\w$]+(?:: [^=]+)? = (?:async )?(?:\(|\w+ =>|<)|(?:static |override |private |async |get |set |\*)*#?[\w$]+(?:<[^>]*>)?\()/;
const KEYWORD =
  /^\s*(?:if|for|while|switch|return|await|catch|throw|else|super|new|do|try|with|yield|case)\b/;

/** Functions that are too long. One whose body is a single `switch`, or whose comment begins with "A table", is read by looking up. */
function longFunctions({ path, lines }: SourceFile): string[] {
  return lines.flatMap((line, start) => {
    const indent = FUNCTION.exec(line)?.[1];
    if (indent === undefined || KEYWORD.test(line)) return [];
    const ends = (text: string) => text.startsWith(`${indent}}`) && !text.startsWith(`${indent}} ${"="}`);
    let end = start;
    if (!/\}[;,)]*$/.test(line)) {
      do end++; while (end < lines.length && !ends(lines[end] ?? "") && !isNext(lines[end] ?? "", indent));
    }
    if (!ends(lines[end] ?? "")) return [];
    // Parameters over several lines end with a brace, too, when one of them is taken apart: the body follows.
    if (/\{$/.test(lines[end] ?? "")) { do end++; while (end < lines.length && !ends(lines[end] ?? "")); }
    const body = lines.slice(start, end + 1);
    return body.length - switchLines(body) <= FUNCTION_LINES || isTable(lines, start)
      ? []
      : [`${path}:${start + 1} has ${body.length} lines`];
  });
}

/** Whether something else begins at this indent, so that what was taken for a function was none. */
function isNext(line: string, indent: string): boolean {
  return line.startsWith(indent) && /^[\w#@/]/.test(line.slice(indent.length));
}

/** The lines of the longest `switch` of a body. */
function switchLines(body: readonly string[]): number {
  return Math.max(
    0,
    ...body.map((line, start) => {
      const indent = /^(\s*)switch \(/.exec(line)?.[1];
      if (indent === undefined) return 0;
      return body.findIndex((other, index) => index > start && other.startsWith(`${indent}}`)) - start;
    }),
  );
}

function isTable(lines: readonly string[], start: number): boolean {
  let first = start;
  while (/^\s*(\*|\/\*\*|\/\/)/.test(lines[first - 1] ?? "")) first--;
  return /^\s*(\/\*\*|\/\/|\*)?\s*\*?\s*A table\b/m.test(lines.slice(first, start).join("\n"));
}

Deno.test(`no function has more than ${FUNCTION_LINES} lines`, () => {
  assertEquals(SOURCES.flatMap(longFunctions), []);
});
