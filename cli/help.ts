/**
 * `orchestrator help`: the program by groups of commands, or one command with its options and examples.
 *
 * @module
 */

import type { Command, Given, Option } from "../config/command.ts";
import { findCommand, GLOBAL_OPTIONS, GROUPS } from "../config/command.ts";
import type { Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import { SERVICES } from "../services.ts";
import { print } from "../terminal/outlet.ts";
import type { Program } from "./options.ts";
import { readServices } from "./options.ts";

/** The width that help is written for. */
const WIDTH = 80;

/** Explains the program, or the command that is named. @throws {UserError} for a word that is no command */
export async function run(given: Given, { commands }: Pick<Program, "commands">): Promise<number> {
  const { words } = given;
  const group = commands.filter(({ name }) => name.startsWith(`${words.join(" ")} `));
  if (words.length === 0 || group.length === 0) {
    return await showHelp(words.length === 0 ? null : findCommand(commands, words).command, given, commands);
  }
  print(
    [`usage: orchestrator ${words[0]} COMMAND [options]`, "", "commands:", ...listCommands(group)].join("\n"),
  );
  return 0;
}

/** Shows the help of a command, or of the program. */
export async function showHelp(
  command: Command<never> | null,
  given: Given,
  commands: readonly Command<never>[],
): Promise<number> {
  print(command === null ? programHelp(commands, await knownServices(given)) : commandHelp(command));
  return 0;
}

/** The help of the program, with the names of the folder's own services. */
export function programHelp(commands: readonly Command<never>[], services: readonly Service[]): string {
  const names = services.map(({ name }) => name);
  const { options = [], examples = [], more = "" } = commands[0] ?? {};
  return [
    "Starts, watches and stops the services of an infrastructure folder, and runs",
    "jobs over workers.",
    "",
    "usage: orchestrator [options]              start services",
    "       orchestrator COMMAND [options]      see: orchestrator help COMMAND",
    "",
    ...GROUPS.flatMap((group) =>
      section(group.toLowerCase(), listCommands(commands.filter((command) => command.group === group)))
    ),
    ...section("options without a command", listOptions(options)),
    ...section("options of every command, before or after it", listOptions(GLOBAL_OPTIONS)),
    ...wrap(`services: ${names.join(", ")}`, "  "),
    "",
    ...section("examples", listExamples(examplesWith(examples, names))),
    ...wrap(more, "  "),
  ].join("\n");
}

/** Lines with a heading above and a blank line below; nothing of no lines. */
function section(heading: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`${heading}:`, ...lines, ""];
}

/** The examples of the plain command, with the names of real services. */
function examplesWith(examples: Command["examples"], names: readonly string[]): Command["examples"] {
  const [first = "NAME", second = first] = names;
  const last = names.at(-1) ?? "NAME";
  return examples.map(([line, does]) => [
    line.replace("db,web", first === second ? first : `${first},${second}`).replace(/\bweb$/, last),
    does,
  ]);
}

/** The help of one command. */
export function commandHelp(
  { name, aliases = [], words = "", does, options = [], examples, more = "" }: Command<never>,
): string {
  return [
    ...wrap(`${does[0]?.toUpperCase()}${does.slice(1)}.`, ""),
    "",
    ["usage: orchestrator", name, words, "[options]"].filter(Boolean).join(" "),
    ...(aliases.length > 0 ? [`also: ${aliases.map((alias) => `orchestrator ${alias}`).join(", ")}`] : []),
    "",
    ...section("options", listOptions(options)),
    ...section("options of every command", listOptions(GLOBAL_OPTIONS)),
    ...section(examples.length > 1 ? "examples" : "example", listExamples(examples)),
    ...more.split("\n\n").flatMap((part) => [...wrap(part, ""), ""]),
  ].join("\n").trimEnd();
}

function listCommands(commands: readonly Command<never>[]): string[] {
  return columns(commands.map(({ name, words, does, aliases = [] }) => [
    words === undefined ? name : `${name} ${words}`,
    aliases.length > 0 ? `${does} (also: ${aliases.join(", ")})` : does,
  ]));
}

function listOptions(options: readonly Option[]): string[] {
  return columns(
    options.filter(({ hidden }) => !hidden).map(({ name, letter, value, variable, does }) => [
      `${letter === undefined ? "    " : `-${letter}, `}--${name}${value === undefined ? "" : ` ${value}`}`,
      variable === undefined ? does : `${does} (${variable})`,
    ]),
  );
}

function listExamples(examples: Command["examples"]): string[] {
  return columns(examples.map(([line, does]) => [`orchestrator ${line}`.trimEnd(), does]));
}

/** Two columns; a left part that is too long has its line for itself. */
function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.min(30, Math.max(0, ...rows.map(([left]) => left.length)));
  const indent = " ".repeat(width + 4);
  return rows.flatMap(([left, right]) => {
    const [first = "", ...rest] = wrap(right, "", WIDTH - indent.length);
    const lines = left.length > width && first !== ""
      ? [`  ${left}`, `${indent}${first}`]
      : [`  ${left.padEnd(width)}  ${first}`.trimEnd()];
    return [...lines, ...rest.map((line) => indent + line)];
  });
}

/** A text in lines of at most `width` columns; lines after the first begin with `indent`. Examples stay as they are. */
function wrap(text: string, indent: string, width = WIDTH): string[] {
  if (text.startsWith("  ")) return text.split("\n");
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const last = lines[lines.length - 1] ?? "";
    if (last === "" || last === indent) lines[lines.length - 1] = last + word;
    else if (last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(indent + word);
  }
  return lines;
}

/** The services for the help, which is shown even where they can't be read. */
async function knownServices(given: Given): Promise<readonly Service[]> {
  try {
    return (await readServices(given)).services;
  } catch (error) {
    if (error instanceof UserError) return SERVICES;
    throw error;
  }
}
