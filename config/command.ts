/**
 * What a command is: one row of the command table. Parsing, help, completions and the README's table are made of such
 * rows. `cli/table.ts` lists all of them.
 *
 * @module
 */

// @ts-types="./std.d.ts"
import { parseArgs } from "@std/cli/parse-args";
import { DURATION_FORMS, spanOf } from "./duration.ts";
import { didYouMean, orList, UserError } from "./errors.ts";

/** One option of a command. */
export interface Option {
  /** Without the dashes. */
  name: string;
  letter?: string;
  /** What stands for its value in the help; absent: a switch. */
  value?: string;
  /** A value as an example for messages. */
  example?: string;
  /** The variable that it stands over. A switch sets it to `true`. */
  variable?: string;
  /** May be given more than once. */
  many?: boolean;
  /** Its value is a service's name, or several. */
  names?: boolean;
  /** Used by the program itself; not shown. */
  hidden?: boolean;
  does: string;
}

/** The headings under which commands are listed, in this order. */
export const GROUPS = ["Run", "Look", "Change", "Set up", "Jobs", "Program"] as const;

/** One command. `Program` is what its verb needs of the program besides its arguments. */
export interface Command<Program = unknown> {
  /** As it is typed after the program's name, such as `logs` or `job submit`. */
  name: string;
  aliases?: readonly string[];
  group: typeof GROUPS[number];
  /** The words after it, as in `ID DECISION`; in brackets what may be left out, with `...` what may be repeated. */
  words?: string;
  /** Its words are names of services. */
  names?: boolean;
  /** One sentence without its full stop. */
  does: string;
  options?: readonly Option[];
  /** Command lines with what they do. */
  examples: readonly (readonly [line: string, does: string])[];
  /** More for the help: what the exit status means, variables without an option. */
  more?: string;
  /** Loads the verb. */
  load(): Promise<{ run(given: Given, program: Program): Promise<number> }>;
}

/** What the arguments of a command say. */
export interface Given {
  command: Command<never>;
  words: readonly string[];
  has(name: string): boolean;
  /** The value of an option that is given at most once. */
  one(name: string): string | undefined;
  /** The values of an option in their order. */
  all(name: string): readonly string[];
}

/** Where things are: options that every command takes, before or after its name. */
export const GLOBAL_OPTIONS: readonly Option[] = [
  {
    name: "infrastructure",
    value: "DIR",
    example: "./infrastructure",
    does: "the infrastructure folder; default infrastructure/ beside this program",
  },
  {
    name: "config",
    value: "FILE",
    example: "infrastructure/services.yaml",
    does: "the services file; default services.yaml, .yml or .json in the folder",
  },
  {
    name: "env-file",
    value: "PATH",
    example: "infrastructure/.env",
    does: "variables to load; default .env in the infrastructure folder",
  },
  { name: "no-dashboard", does: "prefixed lines even on a terminal" },
  { name: "help", letter: "h", does: "show this help" },
];

/**
 * Reads the arguments of a command.
 *
 * @param isBare whether the command was not named: then messages do not name it either
 * @throws {UserError} for what the command does not take, with the closest option or all of them
 */
export function readArguments(command: Command<never>, args: readonly string[], isBare = false): Given {
  const options = [...command.options ?? [], ...GLOBAL_OPTIONS];
  const takers = options.filter(({ value }) => value !== undefined);
  const flags = parseArgs(joinValues(args, options), {
    boolean: options.filter(({ value }) => value === undefined).map(({ name }) => name),
    string: [...takers.map(({ name }) => name), "_"],
    collect: takers.map(({ name }) => name),
    alias: Object.fromEntries(options.flatMap(({ name, letter }) => letter ? [[letter, name]] : [])),
    unknown: (argument: string) => {
      if (!argument.startsWith("-") || argument === "-") return true;
      throw unknownOption(isBare ? null : command.name, argument, options);
    },
  });
  const values = new Map<string, readonly string[]>();
  for (const { name, value, example = value, many } of options) {
    if (value === undefined) {
      if (flags[name]) values.set(name, ["true"]);
      continue;
    }
    const found: string[] = flags[name].map(String);
    if (found.length > 1 && !many) throw new UserError(`--${name} is given more than once; give it once.`);
    if (found.includes("")) throw new UserError(`--${name} needs a value; for example --${name} ${example}.`);
    if (found.length > 0) values.set(name, found);
  }
  const words: string[] = flags._.map(String);
  if (!values.has("help")) checkWords(command, words, isBare);
  return {
    command,
    words,
    has: (name) => values.has(name),
    one: (name) => values.get(name)?.[0],
    all: (name) => values.get(name) ?? [],
  };
}

function checkWords({ name, words = "" }: Command<never>, given: readonly string[], isBare: boolean) {
  const see = `orchestrator ${name} --help lists what it takes.`;
  const wanted = isBare ? [] : words.split(" ").filter((word) => word !== "");
  const required = wanted.filter((word) => !word.startsWith("["));
  if (given.length < required.length) {
    throw new UserError(`"${name}" needs ${required.slice(given.length).join(" and ")}; ${see}`);
  }
  const unexpected = wanted.at(-1)?.includes("...") ? undefined : given[wanted.length];
  if (unexpected === undefined) return;
  const hint = isBare ? `services are named with --services ${given.join(",")}.` : see;
  throw new UserError(`"${unexpected}" is an unexpected argument; ${hint}`);
}

function unknownOption(command: string | null, argument: string, options: readonly Option[]): UserError {
  const written = argument.replace(/=.*/s, "");
  const known = options.filter(({ hidden }) => !hidden).map(({ name }) => name);
  const head = command === null ? `There is no option ${written}` : `"${command}" has no option ${written}`;
  const hint = didYouMean(written, known, (name) => `--${name}`) ||
    `; the options are ${known.map((name) => `--${name}`).join(", ")}.`;
  return new UserError(head + hint);
}

/** Joins values that look like options (a token may begin with a dash) to the options that they are for. */
function joinValues(args: readonly string[], options: readonly Option[]): string[] {
  const names = options.flatMap(({ name, letter }) => letter ? [`--${name}`, `-${letter}`] : [`--${name}`]);
  const takers = options.filter(({ value }) => value !== undefined).map(({ name }) => `--${name}`);
  const joined: string[] = [];
  for (const [index, argument] of args.entries()) {
    if (argument === "--") return [...joined, ...args.slice(index)];
    const taker = joined.at(-1) ?? "";
    const isValue = /^-./.test(argument) && !names.includes(argument.replace(/=.*/s, ""));
    if (isValue && args[index - 1] === taker && takers.includes(taker)) {
      joined[joined.length - 1] += `=${argument}`;
    } else joined.push(argument);
  }
  return joined;
}

/**
 * Milliseconds of an option that is a duration.
 *
 * @throws {UserError} when its value is none
 */
export function durationMs<Otherwise>(given: Given, name: string, otherwise: Otherwise): number | Otherwise {
  const text = given.one(name);
  if (text === undefined) return otherwise;
  const spanMs = spanOf(text);
  if (spanMs !== null) return spanMs;
  throw new UserError(`--${name} takes a duration, not "${text}"; use ${DURATION_FORMS}.`);
}

/**
 * Finds the command of a command line, and the arguments that remain when its name is taken out. Global options may
 * stand before it.
 *
 * @param table the command that applies when none is named (`isBare`) comes first
 * @throws {UserError} for a word that is no command, with the closest one
 */
export function findCommand<Program>(
  table: readonly Command<Program>[],
  args: readonly string[],
): { command: Command<Program>; isBare: boolean; args: string[] } {
  const [bare] = table;
  if (bare === undefined) throw new Error("a command table needs a row");
  const at = commandIndex(args);
  const word = args[at];
  if (word === undefined) return { command: bare, isBare: true, args: [...args] };
  const named = (name: string) => table.find((row) => row.name === name || row.aliases?.includes(name));
  const next = args[at + 1];
  const two = named(`${word} ${next}`);
  const command = two ?? named(word);
  if (command === undefined) {
    const asksForHelp = isGroup(table, word) && /^(-h|--help)$/.test(next ?? "");
    if (asksForHelp) return findCommand(table, ["help", word]);
    throw unknownCommand(table, word, next);
  }
  return { command, isBare: false, args: [...args.slice(0, at), ...args.slice(at + (two ? 2 : 1))] };
}

function isGroup(table: readonly Command<never>[], word: string): boolean {
  return table.some(({ name }) => name.startsWith(`${word} `));
}

/** Where the first word stands that is neither a global option nor its value; past the end when there is none. */
function commandIndex(args: readonly string[]): number {
  let at = 0;
  while (at < args.length) {
    const option = GLOBAL_OPTIONS.find(({ name }) => args[at]?.replace(/=.*/s, "") === `--${name}`);
    if (option === undefined) break;
    at += option.value !== undefined && !args[at]?.includes("=") ? 2 : 1;
  }
  return args[at]?.startsWith("-") ? args.length : at;
}

function unknownCommand(table: readonly Command<never>[], word: string, next: string | undefined): UserError {
  const see = `orchestrator help${isGroup(table, word) ? ` ${word}` : ""}`;
  const names = table.flatMap(({ name, aliases = [] }) => [name, ...aliases]);
  const below = names.filter((name) => name.startsWith(`${word} `));
  if (below.length > 0 && (next === undefined || next.startsWith("-"))) {
    return new UserError(`"${word}" needs a command after it: ${orList(below)}. "${see}" explains them.`);
  }
  const typed = below.length > 0 ? `${word} ${next}` : word;
  const hint = didYouMean(typed, below.length > 0 ? below : names) || `; "${see}" lists the commands.`;
  return new UserError(`There is no command "${typed}"${hint}`);
}
