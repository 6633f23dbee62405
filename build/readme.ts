/**
 * Writes the README's table of commands from the command table: `deno task readme`.
 *
 * @module
 */

import type { Command } from "../config/command.ts";
import { GROUPS } from "../config/command.ts";
import { COMMANDS } from "../cli/table.ts";

const README = `${import.meta.dirname}/../README.md`;
const BEGIN = "<!-- commands: made by `deno task readme` -->";
const END = "<!-- end of commands -->";

/** The table of commands in Markdown, by groups. */
export function commandTable(commands: readonly Command<never>[]): string {
  const rows = GROUPS.flatMap((group) =>
    commands.filter((command) => command.group === group).map(
      ({ name, words, aliases = [], options = [], does }) => {
        const flags = options.filter(({ hidden }) => !hidden).map(({ name, value, letter }) =>
          `\`${letter ? `-${letter}, ` : ""}--${name}${value ? ` ${value}` : ""}\``
        );
        const typed = `\`${name}${words ? ` ${words}` : ""}\`${
          aliases.map((alias) => `, \`${alias}\``).join("")
        }`;
        return [group, typed, does, flags.join(" ")].map((cell) => cell.replaceAll("|", "\\|"));
      },
    )
  );
  return [["", "command", "does", "options"], ["---", "---", "---", "---"], ...rows]
    .map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** A README with the present table between its marks. */
export function withCommands(text: string): string {
  const [before, after] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (before === -1 || after === -1) throw new Error(`README.md lacks the marks ${BEGIN} and ${END}`);
  return `${text.slice(0, before)}${BEGIN}\n\n${commandTable(COMMANDS)}\n\n${text.slice(after)}`;
}

/** Rewrites the README, in the form that `deno fmt` gives it. */
if (import.meta.main) {
  await Deno.writeTextFile(README, withCommands(await Deno.readTextFile(README)));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", README] }).spawn().status;
}
