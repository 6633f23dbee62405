/**
 * Looks for rules that no test notices: removes or turns round one thing at a time in the pure modules, runs the tests
 * beside the module, and names what survives. `deno task mutants [MODULE...]`; exit status 1 with survivors.
 *
 * @module
 */

import { ROOT } from "./sources.ts";

/** The modules, with the tests that have to notice: the fastest first. */
const SUBJECTS: Readonly<Record<string, readonly string[]>> = {
  "supervisor/lifecycle.ts": ["supervisor/lifecycle_test.ts"],
  "supervisor/plan.ts": ["supervisor/plan_test.ts"],
  "control/reload.ts": ["control/reload_test.ts"],
  "config/duration.ts": ["config/duration_test.ts"],
  "config/graph.ts": ["supervisor/plan_test.ts", "config/file_test.ts"],
  "config/rules.ts": ["config/file_test.ts"],
  "config/dotenv.ts": ["config/dotenv_test.ts"],
  "jobs/model/transitions.ts": ["jobs/model/transitions_test.ts"],
  "jobs/model/job_change.ts": ["jobs/model/job_change_test.ts", "jobs/model/transitions_test.ts"],
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

async function copyProject(folder: string): Promise<void> {
  const names = Array.from(Deno.readDirSync(ROOT), ({ name }) => name).filter((name) =>
    !NOT_COPIED.test(name)
  );
  await Deno.mkdir(folder);
  await new Deno.Command("cp", { args: ["-r", ...names, folder], cwd: ROOT }).output();
}

/** Whether the tests pass. What takes too long does not. */
async function pass(folder: string, tests: readonly string[], limitMs: number): Promise<boolean> {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", "--fail-fast", ...tests],
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "null",
    signal: AbortSignal.timeout(limitMs),
  }).output();
  return success;
}

/** Tries all mutants of a module in copies of the project. @returns those that no test notices */
async function survivorsOf(path: string, folders: readonly string[]): Promise<Mutant[]> {
  const tests = SUBJECTS[path];
  if (tests === undefined) throw new Error(`${path} is none of ${Object.keys(SUBJECTS).join(", ")}`);
  const text = await Deno.readTextFile(`${ROOT}/${path}`);
  const startedAt = performance.now();
  if (!await pass(folders[0] ?? "", tests, 600_000)) throw new Error(`the tests of ${path} fail as it is`);
  const limitMs = 10_000 + 5 * (performance.now() - startedAt);
  const mutants = mutantsOf(text);
  console.log(`${path}: ${mutants.length} mutants`);
  const survivors: Mutant[] = [];
  const rest = mutants.values();
  await Promise.all(folders.map(async (folder) => {
    for (const mutant of rest) {
      const lines = text.split("\n").with(mutant.line - 1, mutant.after);
      await Deno.writeTextFile(`${folder}/${path}`, lines.join("\n"));
      if (await pass(folder, tests, limitMs)) survivors.push(mutant);
    }
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }));
  return survivors.filter((mutant) => !isRight(mutant)).sort((one, other) => one.line - other.line);
}

function isRight({ before, after }: Mutant): boolean {
  if (after.trim() === "") return before.trim() === "break;";
  return Object.values(RIGHT_TO_SURVIVE).flat().includes(after.trim());
}

if (import.meta.main) {
  const folder = await Deno.makeTempDir({ prefix: "orchestrator-mutants-" });
  const folders = [`${folder}/0`, `${folder}/1`];
  let count = 0;
  try {
    for (const copy of folders) await copyProject(copy);
    for (const path of Deno.args.length > 0 ? Deno.args : Object.keys(SUBJECTS)) {
      for (const { line, before, after } of await survivorsOf(path, folders)) {
        count++;
        console.log(`${path}:${line}\n  - ${before.trim()}\n  + ${after.trim()}`);
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  console.log(`${count} survive`);
  Deno.exitCode = count > 0 ? 1 : 0;
}
