/**
 * Command lines as tables: what a command takes, its help, and the typed reading of its arguments.
 *
 * @module
 */
import { UserError } from "../../config/errors.ts";
// @ts-types="../../config/std.d.ts"
import { parseArgs } from "@std/cli/parse-args";
import { DotenvError, readDotenv, withDotenv } from "../../config/dotenv.ts";

/** An error on the command line or in a setting, in a sentence that says how to correct it. */
export class UsageError extends UserError {
  override name = "UsageError";
}

/** One option of a command. */
export interface Option {
  name: string;
  /** What stands for its value in the help; absent: a switch. */
  value?: string;
  /** The variable that it stands over. A switch sets it to `true`. */
  variable?: string;
  /** May be given more than once. */
  many?: boolean;
  does: string;
}

/** One command. */
export interface Command {
  /** As it is typed, without the program's name. */
  name: string;
  about: string;
  /** The words after it, as in `ID DECISION`; in brackets what may be left out. */
  words?: string;
  options: readonly Option[];
  /** More for the help: examples, variables without an option. */
  more?: string;
}

/** What the arguments of a command say. */
export interface Given {
  words: string[];
  /** Values of an option, in their order. */
  all(name: string): string[];
  /** Value of an option that is given at most once. */
  one(name: string): string | undefined;
  has(name: string): boolean;
  /** The process's variables, over them the `.env` file, over that the options. */
  environment: Record<string, string>;
  /** A sentence about a variable, with the option named in its place where that one was used. */
  blame(sentence: string): string;
}

const COMMON: readonly Option[] = [
  {
    name: "env-file",
    value: "PATH",
    does: "variables to load (default: infrastructure/.env, if there is one)",
  },
  { name: "help", does: "show this" },
];

/**
 * Reads the arguments of a command.
 *
 * @returns undefined when help is asked for
 * @throws UsageError for what the command does not take
 */
export function readArguments(command: Command, args: readonly string[]): Given | undefined {
  const options = [...command.options, ...COMMON];
  const see = `orchestrator ${command.name} --help lists what it takes.`;
  const flags = parseArgs(joinValues(args, options), {
    boolean: options.filter(({ value }) => value === undefined).map(({ name }) => name),
    string: [...options.filter(({ value }) => value !== undefined).map(({ name }) => name), "_"],
    collect: options.filter(({ value }) => value !== undefined).map(({ name }) => name),
    alias: { h: "help" },
    unknown: (argument: string) => {
      if (!argument.startsWith("-") || argument === "-") return true;
      throw new UsageError(`There is no option ${argument.replace(/=.*/s, "")}; ${see}`);
    },
  });
  if (flags.help) return undefined;

  const values = new Map<string, string[]>();
  for (const { name, value, many } of options) {
    if (value === undefined) {
      if (flags[name]) values.set(name, ["true"]);
      continue;
    }
    const found: string[] = flags[name].map(String);
    if (found.length > 1 && !many) throw new UsageError(`--${name} is given more than once; give it once.`);
    if (found.includes("")) throw new UsageError(`--${name} needs a value: --${name} ${value}.`);
    if (found.length > 0) values.set(name, found);
  }

  const words: string[] = flags._.map(String);
  const wanted = (command.words ?? "").split(" ").filter((word) => word !== "");
  const needed = wanted.filter((word) => !word.startsWith("["));
  if (words.length < needed.length) {
    throw new UsageError(
      `orchestrator ${command.name} needs ${needed.slice(words.length).join(" and ")}; ${see}`,
    );
  }
  if (words.length > wanted.length) {
    throw new UsageError(`"${words[wanted.length]}" is an unexpected argument; ${see}`);
  }

  const environment = readEnvironment(values.get("env-file")?.[0]);
  const set = command.options.flatMap(({ name, variable }) => {
    const value = values.get(name)?.[0];
    return value === undefined || variable === undefined ? [] : [{ name, variable, value }];
  });
  for (const { variable, value } of set) environment[variable] = value;
  return {
    words,
    all: (name) => values.get(name) ?? [],
    one: (name) => values.get(name)?.[0],
    has: (name) => values.has(name),
    environment,
    blame: (sentence) =>
      set.reduce(
        (text, { name, variable }) => text.replaceAll(new RegExp(`\\b${variable}\\b`, "g"), `--${name}`),
        sentence,
      ),
  };
}

/** Joins values that look like options (a token may begin with a dash) to the options that they are for. */
function joinValues(args: readonly string[], options: readonly Option[]): string[] {
  const names = new Set(options.map(({ name }) => `--${name}`));
  const takers = new Set(options.filter(({ value }) => value !== undefined).map(({ name }) => `--${name}`));
  const joined: string[] = [];
  for (const [index, argument] of args.entries()) {
    const taker = joined.at(-1) ?? "";
    const isValue = /^-./.test(argument) && argument !== "--" && !names.has(argument.replace(/=.*/s, ""));
    if (isValue && args[index - 1] === taker && takers.has(taker)) {
      joined[joined.length - 1] += `=${argument}`;
    } else joined.push(argument);
  }
  return joined;
}

function readEnvironment(named: string | undefined): Record<string, string> {
  const own = Deno.env.toObject();
  try {
    return withDotenv(own, readDotenv(named ?? "infrastructure/.env", own));
  } catch (error) {
    if (error instanceof DotenvError) throw new UsageError(error.message);
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    if (named === undefined) return own;
    throw new UsageError(`There is no file ${named}; check what --env-file names.`);
  }
}

/** The help of a command. */
export function helpOf({ name, about, words, options, more }: Command): string {
  const rows = [...options, ...COMMON].map(({ name, value, variable, does }) =>
    [
      `--${name}${value === undefined ? "" : ` ${value}`}`,
      variable === undefined ? does : `${does} (${variable})`,
    ] as const
  );
  const width = Math.max(...rows.map(([option]) => option.length));
  const lines = rows.map(([option, does]) => `  ${option.padEnd(width)}  ${does}`);
  return [
    about,
    "",
    `usage: orchestrator ${name}${words ? ` ${words}` : ""} [options]`,
    "",
    "options:",
    ...lines,
    ...more === undefined ? [] : ["", more],
  ].join("\n");
}
