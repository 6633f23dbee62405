/**
 * `orchestrator completions SHELL`: a script that completes commands, options and names of services.
 * At each Tab the script hands the words typed so far to the program, which answers from the command table and the
 * services file: nothing in the script is out of date after an upgrade.
 *
 * @module
 */

import type { Command, Given, Option } from "../config/command.ts";
import { findCommand, GLOBAL_OPTIONS } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import { findHome } from "../config/settings.ts";
import { print } from "../terminal/outlet.ts";
import type { Program } from "./options.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** Prints the script for a shell, or what completes the last of the words. @throws {UserError} for an unknown shell */
export async function run(given: Given, { commands }: Pick<Program, "commands">): Promise<number> {
  const [shell, ...words] = given.words;
  const known = SHELLS.find((name) => name === shell);
  if (known === undefined) {
    throw new UserError(`There are completions for bash, zsh and fish, not for "${shell}".`);
  }
  if (words.length === 0) {
    print(SCRIPTS[known]);
    return 0;
  }
  // bash hands words on as they are typed, quotes and backslashes included.
  const plain = known === "bash" ? words.map((word) => word.replace(/\\(.)|['"]/gs, "$1")) : words;
  const choices = await choicesFor(commands, plain, serviceNames);
  if (choices.length > 0) print(choices.join("\n"));
  return 0;
}

/**
 * What the last of the words may be; nothing where that is up to the user, such as a file.
 *
 * @param words what is typed after the program's name; the last one may be empty
 * @param namesOf gives the names of services, by the options typed so far
 */
export async function choicesFor(
  commands: readonly Command<never>[],
  words: readonly string[],
  namesOf: (values: ReadonlyMap<string, string>) => Promise<readonly string[]>,
): Promise<string[]> {
  // bash takes --config=FILE apart into three words.
  const before = words.slice(0, -1).filter((word) => word !== "=");
  const current = words.at(-1)?.replace(/^=$/, "") ?? "";
  const [, option, value] = /^(--[\w-]+)=(.*)$/s.exec(current) ?? [];
  if (option !== undefined && value !== undefined) {
    const values = await choicesFor(commands, [...before, option, value], namesOf);
    return values.map((choice) => `${option}=${choice}`);
  }
  const { command, options, words: typed, values, awaiting, isGlobal } = readTyped(commands, before);
  const choices = async () => {
    if (awaiting !== undefined) return awaiting.names ? oneMore(current, await namesOf(values)) : [];
    if (current.startsWith("-")) return options.flatMap(forms);
    if (command === null) return isGlobal ? nextWords(commands, typed) : [];
    if (command.name === "help") return nextWords(commands, typed);
    if (command.name === "completions") return typed.length === 0 ? SHELLS : [];
    const isFull = typed.length > 0 && !command.words?.includes("...");
    if (!command.names || isFull) return [];
    return (await namesOf(values)).filter((name) => !typed.includes(name));
  };
  return (await choices()).filter((choice) => choice.startsWith(current));
}

/** A list joined by commas whose last item is being typed, with each name that is not yet in it. */
function oneMore(list: string, names: readonly string[]): string[] {
  const listed = list.slice(0, list.lastIndexOf(",") + 1);
  return names.filter((name) => !listed.split(",").includes(name)).map((name) => listed + name);
}

/** What a command line holds before it is complete. */
function readTyped(commands: readonly Command<never>[], before: readonly string[]) {
  const { command, options, args } = positionIn(commands, before);
  const words: string[] = []; // no options and no values of options
  const values = new Map<string, string>();
  let awaiting: Option | undefined; // its value comes next
  let isGlobal = true; // there are only options that may stand before a command
  for (const argument of args) {
    const [, form, value] = /^(-[^=]+)(?:=(.*))?$/s.exec(argument) ?? [];
    if (awaiting !== undefined) {
      values.set(awaiting.name, argument);
      awaiting = undefined;
    } else if (form === undefined) words.push(argument);
    else {
      const option = options.find((option) => forms(option).includes(form));
      isGlobal &&= GLOBAL_OPTIONS.some(({ name }) => name === option?.name);
      if (option?.value === undefined) continue;
      if (value === undefined) awaiting = option;
      else values.set(option.name, value);
    }
  }
  return { command, options, words, values, awaiting, isGlobal };
}

/** The command that is typed so far, what may follow it and what does. */
function positionIn(commands: readonly Command<never>[], before: readonly string[]) {
  try {
    const { command, isBare, args } = findCommand(commands, before);
    const options = [...command.options ?? [], ...GLOBAL_OPTIONS].filter(({ hidden }) => !hidden);
    return { command: isBare ? null : command, options, args };
  } catch (error) {
    // Only the first of a command's two words is typed, or none that is known.
    if (!(error instanceof UserError)) throw error;
    return { command: null, options: GLOBAL_OPTIONS, args: before };
  }
}

/** An option as it is typed. */
function forms({ name, letter }: Option): string[] {
  return letter === undefined ? [`--${name}`] : [`--${name}`, `-${letter}`];
}

/** The words that go on with the beginning of a command's name. */
function nextWords(commands: readonly Command<never>[], beginning: readonly string[]): string[] {
  const typed = beginning.map((word) => `${word} `).join("");
  const names = commands.flatMap(({ name, aliases = [] }) => [name, ...aliases]);
  const fitting = names.filter((name) => name.startsWith(typed));
  return [...new Set(fitting.map((name) => name.slice(typed.length).replace(/ .*/, "")))];
}

/** The names of the services that the options lead to. Shells hand a `~` on as it is typed. */
async function serviceNames(values: ReadonlyMap<string, string>): Promise<string[]> {
  const path = (name: string) => values.get(name)?.replace(/^~(?=\/|$)/, Deno.env.get("HOME") ?? "~");
  const infrastructure = path("infrastructure");
  const home = findHome(infrastructure === undefined ? {} : { infrastructure });
  return (await loadServices(home, path("config"))).map(({ name }) => name);
}

/** Where the program has no answer, each offers files. */
const SCRIPTS: Record<typeof SHELLS[number], string> = {
  bash: `# orchestrator completions bash >> ~/.bashrc
_orchestrator() {
  mapfile -t COMPREPLY < <(
    \${BASH_ALIASES[$1]:-"\${1/#\\~/$HOME}"} completions bash -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null
  )
}
complete -o default -F _orchestrator orchestrator`,

  zsh: `#compdef orchestrator
# orchestrator completions zsh > a file _orchestrator in a folder of $fpath
_orchestrator() {
  local -a found
  found=(\${(f)"$(\${(Q)~words[1]} completions zsh -- "\${(@Q)words[2,CURRENT]}" 2>/dev/null)"})
  if (( $#found )); then compadd -a found; else compset -P '*='; _files; fi
}
if [[ $funcstack[1] == _orchestrator ]]; then _orchestrator "$@"; else compdef _orchestrator orchestrator; fi`,

  fish: `# orchestrator completions fish > ~/.config/fish/completions/orchestrator.fish
function __orchestrator_complete
    set -l words (commandline -opc)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -l current (commandline -ct)
    set -e words[1]
    set -l found ($program completions fish -- $words "$current" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        set -l option (string match -r '^--[^=]*=' -- "$current")
        printf '%s\\n' "$option"(__fish_complete_path (string replace -- "$option" '' "$current"))
    end
end
complete -c orchestrator -f -a '(__orchestrator_complete)'`,
};
