/**
 * Writes the files that are made of the program and committed, so that it runs and is read without a build step:
 * `deno task page`, `schema`, `readme` and `messages`. A test compares each with what it would be now.
 *
 * @module
 */

import { COMMANDS } from "../cli/table.ts";
import type { Command } from "../config/command.ts";
import { GROUPS } from "../config/command.ts";
import { servicesJsonSchema } from "../config/schema.ts";
import { NETWORK } from "./bundle.ts";
import { messages } from "./messages.ts";
import { ROOT } from "./sources.ts";

/** A file, from the root of the project, and what makes its text. */
interface Generated {
  path: string;
  make(): string | Promise<string>;
}

/** By the tasks that write them. */
export const GENERATED: Readonly<Record<string, Generated>> = {
  page: { path: "jobs/http/page/asset.ts", make: pageAsset },
  schema: { path: "services.schema.json", make: servicesJsonSchema },
  readme: { path: "README.md", make: readme },
  messages: { path: "docs/messages.txt", make: messages },
};

const BROWSER = "jobs/http/page/browser";

/**
 * The script of the engine's page: its modules, checked with the types of browsers, which the rest of the project does
 * not know, and bundled.
 */
async function pageAsset(): Promise<string> {
  // No package becomes part of it, so there is nothing to lock.
  const settings = ["--check", "--config", `${BROWSER}/deno.json`, "--import-map", "deno.json", "--no-lock"];
  const output = ["--minify", "--platform", "browser", "--format", "iife"];
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", ...settings, ...output, `${BROWSER}/main.ts`],
    env: NETWORK,
    cwd: ROOT,
    stderr: "inherit",
  }).output();
  if (!success) throw new Error(`The modules in ${BROWSER}/ could not be bundled.`);
  const script = new TextDecoder().decode(stdout).trim();
  // The script stands in a page, and one letter beyond ASCII would make V8 keep two bytes for each.
  if (/<\/script|[^\x00-\x7f]/.test(script)) throw new Error("The script holds what it may not hold.");
  return [
    "// Generated from the modules in browser/ by `deno task page`; change those and run it again.",
    "// deno-fmt-ignore-file",
    "// deno-lint-ignore-file",
    `export const script: string = ${JSON.stringify(script)};\n`,
  ].join("\n");
}

const BEGIN = "<!-- commands: made by `deno task readme` -->";
const END = "<!-- end of commands -->";

/** The README with the present table of commands between its marks, in the form that `deno fmt` gives it. */
async function readme(): Promise<string> {
  const text = await Deno.readTextFile(`${ROOT}/README.md`);
  const [before, after] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (before === -1 || after === -1) throw new Error(`README.md lacks the marks ${BEGIN} and ${END}`);
  const renewed = `${text.slice(0, before)}${BEGIN}\n\n${commandTable()}\n\n${text.slice(after)}`;
  const args = ["fmt", "--quiet", "--config", `${ROOT}/deno.json`, "--ext", "md", "-"];
  const formatter = new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped" }).spawn();
  await new Response(renewed).body?.pipeTo(formatter.stdin);
  const { success, stdout } = await formatter.output();
  if (!success) throw new Error("README.md could not be formatted.");
  return new TextDecoder().decode(stdout);
}

/** The table of commands in Markdown, by groups. */
function commandTable(): string {
  const rows = GROUPS.flatMap((group) =>
    COMMANDS.filter((command) => command.group === group).map(commandRow)
  );
  return [["", "command", "does", "options"], ["---", "---", "---", "---"], ...rows]
    .map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function commandRow({ group, name, words, aliases = [], options = [], does }: Command<never>): string[] {
  const typed = [words === undefined ? name : `${name} ${words}`, ...aliases];
  const flags = options.filter(({ hidden }) => !hidden).map(({ name, value, letter }) =>
    `${letter ? `-${letter}, ` : ""}--${name}${value ? ` ${value}` : ""}`
  );
  const code = (texts: readonly string[], separator: string) =>
    texts.map((text) => `\`${text}\``).join(separator);
  return [group, code(typed, ", "), does, code(flags, " ")].map((cell) => cell.replaceAll("|", "\\|"));
}

if (import.meta.main) {
  for (const task of Deno.args) {
    const file = GENERATED[task];
    if (file === undefined) throw new Error(`"${task}" is none of ${Object.keys(GENERATED).join(", ")}`);
    await Deno.writeTextFile(`${ROOT}/${file.path}`, await file.make());
  }
}
