/**
 * `orchestrator completions SHELL`: a script that completes commands, options and names of services.
 * What can be completed comes from the command table; the names come from the program itself at each Tab.
 *
 * @module
 */

import type { Command, Given, Option } from "../config/command.ts";
import { GLOBAL_OPTIONS } from "../config/command.ts";
import { UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import { findHome } from "../config/settings.ts";
import { print } from "../terminal/outlet.ts";
import { homeOptions } from "./options.ts";
import type { Program } from "./runs.ts";

/** What the scripts ask for the names of services with. */
const NAMES = "names";

const SHELLS = ["bash", "zsh", "fish"] as const;

/** Prints the script for a shell. @throws {UserError} for a shell that it does not know */
export async function run(given: Given, { commands }: Pick<Program, "commands">): Promise<number> {
  const [shell] = given.words;
  if (shell === NAMES) {
    const options = homeOptions(given);
    print((await loadServices(findHome(options), options.config)).map(({ name }) => name).join("\n"));
    return 0;
  }
  const known = SHELLS.find((name) => name === shell);
  if (known === undefined) {
    throw new UserError(`There are completions for bash, zsh and fish, not for "${shell}".`);
  }
  print(SCRIPTS[known](choicesIn(commands)));
  return 0;
}

/** What can be completed, as it is typed. */
interface Choices {
  /** The first word. */
  first: string;
  /** The word after `job`. */
  jobs: string;
  /** Commands that are followed by names of services, and options that take one. */
  takeNames: readonly string[];
  nameOptions: readonly string[];
  /** The options of each command; those of the plain command stand under an empty name. */
  options: readonly (readonly [command: string, options: readonly string[]])[];
}

function choicesIn(commands: readonly Command<never>[]): Choices {
  const typed = (options: readonly Option[]) =>
    options.filter(({ hidden }) => !hidden).flatMap(({ name, letter }) =>
      letter === undefined ? [`--${name}`] : [`--${name}`, `-${letter}`]
    );
  const words = ({ name, aliases = [] }: Command<never>) => [name, ...aliases];
  const all = (options: readonly Option[] = []) => typed([...options, ...GLOBAL_OPTIONS]);
  const bare = commands[0]?.options ?? [];
  return {
    first: [...new Set(commands.flatMap(words).map((word) => word.split(" ")[0]))].join(" "),
    jobs: commands.flatMap(({ name }) => name.startsWith("job ") ? [name.slice(4)] : []).join(" "),
    takeNames: commands.filter(({ names }) => names).flatMap(words),
    nameOptions: typed(bare.filter(({ names }) => names)),
    options: [
      ["", all(bare)],
      ...commands.flatMap((row) => words(row).map((word) => [word, all(row.options)] as const)),
    ],
  };
}

const SCRIPTS: Record<typeof SHELLS[number], (choices: Choices) => string> = {
  bash: ({ first, jobs, takeNames, nameOptions, options }) =>
    `# orchestrator completions bash >> ~/.bashrc
_orchestrator() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} word='' choices=''
  [[ \${COMP_WORDS[1]} == -* ]] || word=\${COMP_WORDS[1]}
  (( COMP_CWORD > 1 )) || word=''
  [[ $word != job || COMP_CWORD -lt 3 ]] || word="job \${COMP_WORDS[2]}"
  case $before in
    ${nameOptions.join("|")}) choices=names ;;
  esac
  if [[ $choices != names && $current == -* ]]; then
    case $word in
${
      options.map(([name, options]) => `      '${name}') choices='${options.join(" ")}' ;;`).join(
        "\n",
      )
    }
    esac
  elif [[ $choices != names ]]; then
    case $word in
      '') (( COMP_CWORD > 1 )) || choices='${first}' ;;
      ${takeNames.join("|")}) choices=names ;;
      job) choices='${jobs}' ;;
      help) choices='${first}' ;;
      completions) choices='${SHELLS.join(" ")}' ;;
    esac
  fi
  [[ $choices != names ]] || choices=$("\${COMP_WORDS[0]}" completions ${NAMES} 2>/dev/null)
  COMPREPLY=($(compgen -W "$choices" -- "$current"))
}
complete -o default -F _orchestrator orchestrator`,

  zsh: ({ first, jobs, takeNames, nameOptions, options }) =>
    `#compdef orchestrator
# orchestrator completions zsh > a file _orchestrator in a folder of $fpath
_orchestrator() {
  local current=$words[CURRENT] before=$words[CURRENT-1] word=''
  local -a choices
  (( CURRENT > 2 )) && [[ $words[2] != -* ]] && word=$words[2]
  [[ $word == job ]] && (( CURRENT > 3 )) && word="job $words[3]"
  if (( \${\${(s:|:):-${nameOptions.join("|")}}[(Ie)$before]} )); then
    choices=(\${(f)"$($words[1] completions ${NAMES} 2>/dev/null)"})
  elif [[ $current == -* ]]; then
    case $word in
${
      options.map(([name, options]) => `      '${name}') choices=(${options.join(" ")}) ;;`).join(
        "\n",
      )
    }
    esac
  else
    case $word in
      '') (( CURRENT > 2 )) || choices=(${first}) ;;
      ${takeNames.join("|")}) choices=(\${(f)"$($words[1] completions ${NAMES} 2>/dev/null)"}) ;;
      job) choices=(${jobs}) ;;
      help) choices=(${first}) ;;
      completions) choices=(${SHELLS.join(" ")}) ;;
    esac
  fi
  (( $#choices )) && compadd -a choices || _files
}
if [[ $funcstack[1] == _orchestrator ]]; then _orchestrator "$@"; else compdef _orchestrator orchestrator; fi`,

  fish: ({ first, jobs, takeNames, options }) => {
    const ask = `(set -l words (commandline -opc); $words[1] completions ${NAMES} 2>/dev/null)`;
    const seen = (words: readonly string[]) => `__fish_seen_subcommand_from ${words.join(" ")}`;
    const row = (when: string, what: string) => `complete -c orchestrator -n '${when}' ${what}`;
    return [
      "# orchestrator completions fish > ~/.config/fish/completions/orchestrator.fish",
      row("__fish_use_subcommand", `-f -a '${first}'`),
      ...options.filter(([name]) => !name.includes(" ")).flatMap(([name, options]) =>
        options.map((option) =>
          row(
            name === "" ? "__fish_use_subcommand" : seen([name]),
            option.startsWith("--") ? `-l ${option.slice(2)}` : `-s ${option.slice(1)}`,
          )
        )
      ),
      row(seen(takeNames), `-f -a '${ask}'`),
      `complete -c orchestrator -l services -s s -x -a '${ask}'`,
      `complete -c orchestrator -l service -x -a '${ask}'`,
      row(seen(["job"]), `-f -a '${jobs}'`),
      row(seen(["completions"]), `-f -a '${SHELLS.join(" ")}'`),
    ].join("\n");
  },
};
