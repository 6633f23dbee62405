/**
 * The command line: flags become one typed command.
 *
 * @module
 */

// @ts-types="../config/std.d.ts"
import { parseArgs } from "@std/cli/parse-args";
import { UserError } from "../config/errors.ts";
import { closest } from "../config/suggest.ts";
import type { RunOptions } from "../control/run_options.ts";

/** What the command line asks for. */
export type Command =
  | { kind: "run"; names: string[]; options: RunOptions }
  // A run with more to it: in the background, with logs, or in an orchestrator that runs already when `named`.
  | { kind: "start"; names: string[]; named: boolean; options: RunOptions; flags: Flags }
  | { kind: "control"; word: string; args: string[] }
  | { kind: "foreground"; name: string; options: RunOptions }
  | { kind: "list"; json: boolean; options: RunOptions }
  | { kind: "init" | "setup"; options: RunOptions }
  | { kind: "check"; json: boolean; options: RunOptions }
  | { kind: "env"; name: string; options: RunOptions }
  | { kind: "jobs"; args: string[] }
  | { kind: "help"; options: RunOptions }
  | { kind: "version" };

/** The options of a command line. */
export interface FlagSpec {
  /** Those that are given or not. */
  boolean: readonly string[];
  /** Those with a value, each with an example of it. */
  text: Readonly<Record<string, string>>;
  /** Letters that stand for them. */
  letters: Readonly<Record<string, string>>;
}

/** What a command line said. */
export interface Flags {
  on: ReadonlySet<string>;
  text: Readonly<Record<string, string | undefined>>;
  /** What is no option. */
  words: readonly string[];
}

/** Options that every command takes: where things are. */
export const HOME_FLAGS = {
  "env-file": "infrastructure/.env",
  infrastructure: "./infrastructure",
  config: "infrastructure/services.yaml",
} as const;

/** Options that make a run more than a plain one. */
const START_FLAGS = {
  wait: "60s",
  "log-dir": "infrastructure/logs",
  "log-format": "json",
  "log-level": "debug",
  "log-size": "10MiB",
  "log-keep": "5",
} as const;

/** The options of everything but the words that `control/` reads. */
export const MAIN_FLAGS: FlagSpec = {
  boolean: ["list", "json", "help", "version", "explain", "no-dashboard", "detach"],
  text: { services: "db,web", service: "web", ...HOME_FLAGS, ...START_FLAGS },
  letters: { s: "services", l: "list", h: "help", V: "version", d: "detach" },
};

/** Said by `--detach` to the run that it starts. */
export const BACKGROUND_FLAG = "in-background";

/** The words that may stand before the options, each with what it does. */
export const WORDS: Record<string, string> = {
  init: "write a first services.yaml from what the folder holds",
  check: "look for mistakes without starting anything (--json)",
  env: "NAME --explain: where each variable of a service comes from",
  setup: "make the venv and install requirements.txt into it",
  engine: "run the job engine (orchestrator engine --help)",
  worker: "run a job worker",
  job: "submit, watch and cancel jobs",
  workers: "list the engine's workers",
  start: "NAME...: what no command does; where one runs already, these are started there",
  status: "what runs: state, PID, port, uptime, restarts, CPU and memory (--json)",
  logs: "NAME... -f -n N --since 10m --grep RE --json: the lines of all, in time order",
  restart: "NAME... --with-dependents --with-dependencies",
  stop: "NAME...: these and what depends on them, or everything and the orchestrator itself",
  reload: "read the services file and .env again and do what follows (--dry-run)",
  "self-restart": "stop everything, then begin anew as the same process",
  attach: "the dashboard of one that runs; q leaves it",
  events: "what happens, one JSON object a line",
  completions: "bash, zsh or fish: a script for the shell",
};

/** Words that talk to an orchestrator that runs; `control/` reads their options. */
const CONTROL_WORDS = [
  "status",
  "logs",
  "restart",
  "stop",
  "reload",
  "self-restart",
  "attach",
  "events",
  "completions",
];

/** Words whose arguments belong to the job engine's own command line. */
const JOB_WORDS = ["engine", "worker", "job", "workers"];

/**
 * The command that arguments ask for.
 *
 * @throws {UserError} for what can't be understood, with the closest option and the possible ones
 */
export function parseCommand(args: readonly string[]): Command {
  const word = args[0] !== undefined && !args[0].startsWith("-") ? args[0] : null;
  if (word !== null && JOB_WORDS.includes(word)) return { kind: "jobs", args: [...args] };
  if (word !== null && !(word in WORDS)) {
    const guess = closest(word, Object.keys(WORDS));
    throw new UserError(
      `There is no command "${word}"${guess === null ? "" : `; did you mean "${guess}"?`} ` +
        `The commands are ${Object.keys(WORDS).join(", ")}; --help explains them.`,
    );
  }
  if (word !== null && CONTROL_WORDS.includes(word)) return { kind: "control", word, args: args.slice(1) };
  const flags = readFlags(word === null ? args : args.slice(1), MAIN_FLAGS);
  const { on, text, words: rest } = flags;
  const options: RunOptions = { ...homeOptions(flags), dashboard: !on.has("no-dashboard") };
  if (on.has("help")) return { kind: "help", options };
  if (on.has("version")) return { kind: "version" };
  if (word === "env") {
    if (rest.length !== 1) {
      throw new UserError("env needs the name of one service; for example: env db --explain.");
    }
    return { kind: "env", name: rest[0], options };
  }
  if (rest.length > 0 && word !== "start") {
    throw new UserError(
      `"${rest[0]}" is one word too many; services are named with --services ${rest.join(",")}.`,
    );
  }
  if (word === "init" || word === "setup") return { kind: word, options };
  const json = on.has("json");
  if (word === "check") return { kind: "check", json, options };
  if (on.has("list")) return { kind: "list", json, options };
  if (json) throw new UserError("--json goes with --list.");
  if (text.service !== undefined) {
    if (text.services !== undefined || word === "start") {
      throw new UserError(
        "--service runs one service in the foreground, --services several; give one of them.",
      );
    }
    return { kind: "foreground", name: text.service, options };
  }
  const names = text.services === undefined ? [] : [...new Set(text.services.split(",").map(trim))];
  if (names.includes("")) {
    throw new UserError("--services holds an empty name; for example --services db,web.");
  }
  const more = word === "start" || on.has("detach") || on.has(BACKGROUND_FLAG) ||
    Object.keys(START_FLAGS).some((name) => text[name] !== undefined);
  if (!more) return { kind: "run", names, options };
  const all = [...new Set([...names, ...rest])];
  return { kind: "start", names: all, named: word === "start" && all.length > 0, options, flags };
}

/**
 * Reads options as a command defines them.
 *
 * @throws {UserError} for one it does not have, with the closest and the possible ones, and for a missing value
 */
export function readFlags(args: readonly string[], spec: FlagSpec): Flags {
  const known = [...spec.boolean, ...Object.keys(spec.text)];
  const flags = parseArgs(args, {
    boolean: [...spec.boolean, BACKGROUND_FLAG],
    string: Object.keys(spec.text),
    collect: Object.keys(spec.text),
    alias: { ...spec.letters },
    unknown: (option: string) => {
      if (!option.startsWith("-")) return true;
      const name = option.replace(/^-+/, "").replace(/=.*/, "");
      const guess = closest(name, known);
      throw new UserError(
        `There is no option ${option.replace(/=.*/, "")}${
          guess === null ? "" : `; did you mean --${guess}?`
        } ` +
          `The options are ${known.map((name) => `--${name}`).join(", ")}.`,
      );
    },
  });
  const text: Record<string, string | undefined> = {};
  for (const [name, example] of Object.entries(spec.text)) {
    const [value, second]: unknown[] = flags[name] ?? [];
    if (second !== undefined) throw new UserError(`--${name} is given more than once; give it once.`);
    if (value === "") throw new UserError(`--${name} needs a value; for example --${name} ${example}.`);
    if (typeof value === "string") text[name] = value;
  }
  const on = new Set([...spec.boolean, BACKGROUND_FLAG].filter((name) => flags[name] === true));
  return { on, text, words: flags._.map(String) };
}

/** Where things are, by the options that every command takes. */
export function homeOptions({ text }: Flags): RunOptions {
  return { envFile: text["env-file"], infrastructure: text.infrastructure, config: text.config };
}

const trim = (text: string) => text.trim();
