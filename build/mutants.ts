/**
 * Looks for rules that no test notices: removes or turns round one thing at a time in the pure modules, runs the tests
 * beside the module, and names what survives. `deno task mutants [MODULE...]`; exit status 1 with survivors.
 *
 * @module
 */

import { ROOT } from "./sources.ts";

interface Subject {
  /** The tests that have to notice, the fastest first. */
  tests: readonly string[];
  /** Only tests with such a name. */
  filter?: string;
  /** What stands from here on is not pure. */
  until?: string;
}

const SUBJECTS: Record<string, Subject> = {
  "supervisor/lifecycle.ts": { tests: ["supervisor/lifecycle_test.ts"] },
  "supervisor/plan.ts": { tests: ["supervisor/plan_test.ts"] },
  "control/reload.ts": {
    tests: ["control/reload_test.ts"],
    filter: "/^reload:/",
    until: "/** Changes in words",
  },
  "config/duration.ts": { tests: ["config/duration_test.ts"] },
  "config/graph.ts": { tests: ["supervisor/plan_test.ts", "config/file_test.ts"] },
  "config/rules.ts": { tests: ["config/file_test.ts"] },
  "config/dotenv.ts": { tests: ["config/dotenv_test.ts"] },
  "jobs/model/transitions.ts": { tests: ["jobs/model/transitions_test.ts"] },
  "jobs/model/job_change.ts": {
    tests: ["job_change", "transitions"].map((name) => `jobs/model/${name}_test.ts`),
  },
};

/** What may survive, by why that is right: the changed lines. */
const RIGHT_TO_SURVIVE: Record<string, readonly string[]> = {
  "ten seconds are 10 s either way": [
    "const seconds = ms <= 10_000 ? Math.round(ms / 100) / 10 : Math.round(ms / 1_000);",
  ],
  // And `break;` after a switch that returns in every case: only the compiler asks for it.
  "cycles past those that are shown are not shown either": [
    "for (let next = todo.pop(); next !== undefined && cycles.length <= most; next = todo.pop()) {",
  ],
  "before the start of a text there is no blank": [
    "while (end >= 0 && SPACE.test(part.charAt(end - 1))) end--;",
  ],
  "what is looked for never stands at the start of the text": [
    "if (close <= 0) return fail();",
    "for (let at = text.indexOf(quote, open + 1); at > 0; at = text.indexOf(quote, at + 1)) {",
    "let end = comment <= 0 ? part.length : comment;",
    'for (let newline = text.indexOf("\\n", at); newline > 0 && newline < end;) {',
    "if (brace <= 0) break;",
  ],
  "looks again and finds the same place": [
    'if (brace <= name) brace = value.indexOf("}", name);',
    "if (colon <= name) colon = indexOrEnd(value, /:/g, name);",
  ],
  "a colon and a brace never stand in one place": [
    'if (colon <= brace && value[colon + 1] !== "-") continue;',
    "const replacement = colon <= brace",
  ],
  "whether the limit is a little more or less than 128 Mi matters to nobody": [
    "if (result.length + (open - copied) + replacement.length >= LONGEST_VALUE) return undefined;",
    "if (result.length - (open - copied) + replacement.length > LONGEST_VALUE) return undefined;",
    "if (result.length + (open + copied) + replacement.length > LONGEST_VALUE) return undefined;",
  ],
};

/** What is turned into what, wherever it stands in code. */
const FLIPS: readonly (readonly [RegExp, (found: string) => string])[] = [
  [/===|!==/g, (found) => found === "===" ? "!==" : "==="],
  [/ (<|>)=? /g, (found) => found.includes("=") ? found.replace("=", "") : `${found.trimEnd()}= `],
  [/&&|\|\|/g, (found) => found === "&&" ? "||" : "&&"],
  [/\b(true|false)\b/g, (found) => found === "true" ? "false" : "true"],
  [/ [+-] /g, (found) => found === " + " ? " - " : " + "],
  [/ [*/] /g, (found) => found === " * " ? " / " : " * "],
  [/\b(min|max)\(/g, (found) => found === "min(" ? "max(" : "min("],
  [/\b(some|every)\(/g, (found) => found === "some(" ? "every(" : "some("],
  [/(?<=\bif )\(.*\)(?= \{$)/g, (found) => `(!${found})`],
];

/** Whole lines that can be left out: a call, an assignment, a jump, a condition with what follows from it. */
const REMOVABLE =
  /^\s*(?:(?:[\w.#]+(?:\(|\[|\.| [-+|&?]*= |\+\+|--)|if \().*;|continue;|break;|(?:\} )?else [^{]*;)$/;

interface Mutant {
  line: number;
  before: string;
  after: string;
}

/** The text with what is no code (comments, texts, patterns) as spaces, each character where it was. */
function codeOf(text: string): string {
  const other =
    /\/\*[^]*?\*\/|\/\/.*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|(?<=[(=,:] ?)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\n])*\]|[^/\\\n])+\/[a-z]*/g;
  return text.replaceAll(other, (found) => found.replaceAll(/[^\n]/g, " "));
}

function mutantsOf(text: string): Mutant[] {
  const lines = text.split("\n");
  return codeOf(text).split("\n").flatMap((code, index) => {
    const before = lines[index] ?? "";
    if (/^(import|export type|type|interface)\b/.test(code)) return [];
    const flipped = FLIPS.flatMap(([pattern, flip]) =>
      [...code.matchAll(pattern)].map(({ 0: found, index: at }) =>
        before.slice(0, at) + flip(before.slice(at, at + found.length)) + before.slice(at + found.length)
      )
    );
    const isBalanced = code.split(/[([{]/).length === code.split(/[)\]}]/).length;
    const removed = REMOVABLE.test(code) && isBalanced && !/^\s*(return|const|let|throw)\b/.test(code)
      ? [before.replace(/\S.*/, code.trim().startsWith("} else") ? "}" : "")]
      : [];
    return [...flipped, ...removed].map((after) => ({ line: index + 1, before, after }));
  });
}

const NOT_COPIED = /^(\.git|\.orchestrator|node_modules|dist|logs|orchestrator)$/;

async function copyProject(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory, isFile } of Deno.readDir(from)) {
    if (NOT_COPIED.test(name)) continue;
    if (isDirectory) await copyProject(`${from}/${name}`, `${to}/${name}`);
    else if (isFile) await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
  }
}

/** Whether the tests pass. What takes too long does not. */
async function pass(folder: string, { tests, filter }: Subject, limitMs: number): Promise<boolean> {
  const signal = AbortSignal.timeout(limitMs);
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", "--fail-fast", ...filter ? ["--filter", filter] : [], ...tests],
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "null",
    signal,
  }).output();
  return success;
}

/** Tries all mutants of a module in copies of the project. @returns those that no test notices */
async function survivorsOf(path: string, subject: Subject, folders: readonly string[]): Promise<Mutant[]> {
  const text = await Deno.readTextFile(`${ROOT}/${path}`);
  const end = subject.until === undefined ? text.length : text.indexOf(subject.until);
  const todo = mutantsOf(text.slice(0, end));
  const startedAt = performance.now();
  if (!await pass(folders[0] ?? "", subject, 600_000)) throw new Error(`the tests of ${path} fail as it is`);
  const limitMs = 10_000 + 5 * (performance.now() - startedAt);
  console.log(`${path}: ${todo.length} mutants`);
  const survivors: Mutant[] = [];
  const rest = todo.values();
  await Promise.all(folders.map(async (folder) => {
    for (const mutant of rest) {
      const lines = text.split("\n");
      lines[mutant.line - 1] = mutant.after;
      await Deno.writeTextFile(`${folder}/${path}`, lines.join("\n"));
      if (await pass(folder, subject, limitMs)) survivors.push(mutant);
    }
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }));
  return survivors.sort((one, other) => one.line - other.line);
}

function isRight({ before, after }: Mutant): boolean {
  if (after.trim() === "") return before.trim() === "break;";
  return Object.values(RIGHT_TO_SURVIVE).flat().includes(after.trim());
}

if (import.meta.main) {
  const paths = Deno.args.length > 0 ? Deno.args : Object.keys(SUBJECTS);
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-mutants-" });
  const folders = [`${folder}/0`, `${folder}/1`];
  let count = 0;
  try {
    for (const copy of folders) await copyProject(ROOT, copy);
    for (const path of paths) {
      const subject = SUBJECTS[path];
      if (subject === undefined) throw new Error(`${path} is none of ${Object.keys(SUBJECTS).join(", ")}`);
      for (const mutant of await survivorsOf(path, subject, folders)) {
        if (isRight(mutant)) continue;
        count++;
        console.log(`${path}:${mutant.line}\n  - ${mutant.before.trim()}\n  + ${mutant.after.trim()}`);
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  console.log(`${count} survive`);
  if (count > 0) Deno.exitCode = 1;
}
