/**
 * Scripts that complete the command line in a shell. Names of services are asked of the program at each time.
 *
 * @module
 */

import { MAIN_FLAGS, WORDS } from "./arguments.ts";
import { SPECS } from "./control.ts";
import { UserError } from "../config/errors.ts";
import { loadServices } from "../config/file.ts";
import { findHome } from "../config/settings.ts";
import type { RunOptions } from "../control/run_options.ts";
import { print } from "../terminal/outlet.ts";

/** What the scripts ask for the names of services with. */
const NAMES = "names";

/** Words that are followed by names of services. */
const TAKE_NAMES = ["start", "logs", "restart", "stop", "env"];

const SHELLS = "bash zsh fish";

const NAME_OPTIONS = ["-s", "--services", "--service"];

/** Prints the script for a shell. @returns 0 @throws {UserError} for a shell that it does not know */
export async function complete(words: readonly string[], options: RunOptions): Promise<number> {
  const [shell, ...rest] = words;
  if (rest.length === 0 && shell === NAMES) {
    print((await loadServices(findHome(options), options.config)).map(({ name }) => name).join("\n"));
    return 0;
  }
  const script = shell === undefined || rest.length > 0 ? undefined : SCRIPTS[shell];
  if (script === undefined) {
    throw new UserError(
      `completions takes one of ${SHELLS.replaceAll(" ", ", ")}; for example: completions bash`,
    );
  }
  print(script());
  return 0;
}

/** The options of each word, and under nothing those of the plain command. */
function optionsByWord(): [word: string, options: string[]][] {
  const specs = {
    "": MAIN_FLAGS,
    ...Object.fromEntries(Object.keys(WORDS).map((word) => [word, SPECS[word] ?? MAIN_FLAGS])),
  };
  return Object.entries(specs).map(([word, { boolean, text, letters }]) => [
    word,
    [...boolean, ...Object.keys(text)].map((name) => `--${name}`).concat(
      Object.keys(letters).map((letter) => `-${letter}`),
    ),
  ]);
}

const SCRIPTS: Record<string, () => string> = {
  bash: () =>
    `# orchestrator completions bash >> ~/.bashrc
_orchestrator() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} word='' choices=''
  [[ \${COMP_WORDS[1]} == -* ]] || word=\${COMP_WORDS[1]}
  (( COMP_CWORD > 1 )) || word=''
  case $before in
    ${NAME_OPTIONS.join("|")}) choices=names ;;
  esac
  if [[ $choices != names && $current == -* ]]; then
    case $word in
${optionsByWord().map(([word, options]) => `      '${word}') choices='${options.join(" ")}' ;;`).join("\n")}
    esac
  elif [[ $choices != names ]]; then
    case $word in
      '') (( COMP_CWORD > 1 )) || choices='${Object.keys(WORDS).join(" ")}' ;;
      ${TAKE_NAMES.join("|")}) choices=names ;;
      completions) choices='${SHELLS}' ;;
    esac
  fi
  [[ $choices != names ]] || choices=$("\${COMP_WORDS[0]}" completions ${NAMES} 2>/dev/null)
  COMPREPLY=($(compgen -W "$choices" -- "$current"))
}
complete -o default -F _orchestrator orchestrator`,

  zsh: () =>
    `#compdef orchestrator
# orchestrator completions zsh > a file _orchestrator in a folder of $fpath
_orchestrator() {
  local current=$words[CURRENT] before=$words[CURRENT-1] word=''
  local -a choices
  (( CURRENT > 2 )) && [[ $words[2] != -* ]] && word=$words[2]
  if (( \${\${(s:|:):-${NAME_OPTIONS.join("|")}}[(Ie)$before]} )); then
    choices=(\${(f)"$($words[1] completions ${NAMES} 2>/dev/null)"})
  elif [[ $current == -* ]]; then
    case $word in
${optionsByWord().map(([word, options]) => `      '${word}') choices=(${options.join(" ")}) ;;`).join("\n")}
    esac
  else
    case $word in
      '') (( CURRENT > 2 )) || choices=(${Object.keys(WORDS).join(" ")}) ;;
      ${TAKE_NAMES.join("|")}) choices=(\${(f)"$($words[1] completions ${NAMES} 2>/dev/null)"}) ;;
      completions) choices=(${SHELLS}) ;;
    esac
  fi
  (( $#choices )) && compadd -a choices || _files
}
compdef _orchestrator orchestrator`,

  fish: () =>
    [
      "# orchestrator completions fish > ~/.config/fish/completions/orchestrator.fish",
      `complete -c orchestrator -n __fish_use_subcommand -f -a '${Object.keys(WORDS).join(" ")}'`,
      ...optionsByWord().flatMap(([word, options]) => {
        const when = word === "" ? "__fish_use_subcommand" : `__fish_seen_subcommand_from ${word}`;
        return options.map((option) =>
          option.startsWith("--")
            ? `complete -c orchestrator -n '${when}' -l ${option.slice(2)}`
            : `complete -c orchestrator -n '${when}' -s ${option.slice(1)}`
        );
      }),
      `complete -c orchestrator -n '__fish_seen_subcommand_from ${
        TAKE_NAMES.join(" ")
      }' -f -a '((commandline -opc)[1] completions ${NAMES} 2>/dev/null)'`,
      `complete -c orchestrator -l services -s s -x -a '((commandline -opc)[1] completions ${NAMES} 2>/dev/null)'`,
      `complete -c orchestrator -l service -x -a '((commandline -opc)[1] completions ${NAMES} 2>/dev/null)'`,
      `complete -c orchestrator -n '__fish_seen_subcommand_from completions' -f -a '${SHELLS}'`,
    ].join("\n"),
};
