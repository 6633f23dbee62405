// @ts-types="../config/std.d.ts"
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { defineServices } from "../config/definition.ts";
import { commandHelp, programHelp } from "./help.ts";
import { COMMANDS } from "./table.ts";

const SHOP = defineServices({
  shop: { command: "true" },
  mail: { command: "true" },
  till: { command: "true" },
});

Deno.test("the help lists every command and option, with the names of the folder's own services", () => {
  const help = programHelp(COMMANDS, SHOP);
  for (const { name } of COMMANDS) assertStringIncludes(help, `\n  ${name}`);
  for (const { name, letter, hidden } of COMMANDS[0]?.options ?? []) {
    assertEquals(help.includes(` --${name}`), !hidden, name);
    if (letter !== undefined) assertStringIncludes(help, `-${letter}, --${name}`);
  }
  for (
    const part of ["services: shop, mail, till", "--services shop,mail", "--service till", "exit status: 0"]
  ) {
    assertStringIncludes(help, part);
  }
});

for (const command of COMMANDS) {
  const { name, options = [], examples } = command;
  Deno.test(`the help of "${name}" has its usage, its options and an example`, () => {
    const help = commandHelp(command);
    assertStringIncludes(help, `usage: orchestrator ${name}`);
    for (const { name, hidden } of options) assertEquals(help.includes(` --${name}`), !hidden, name);
    assert(examples.length > 0, "there is no example");
    for (const [line] of examples) assertStringIncludes(help, `  orchestrator ${line}`.trimEnd());
  });
}

Deno.test("no line of a help is wider than a terminal, but for examples", () => {
  const lines = [programHelp(COMMANDS, SHOP), ...COMMANDS.map(commandHelp)].flatMap((help) =>
    help.split("\n")
  );
  assertEquals(lines.filter((line) => line.length > 80 && !line.startsWith("  orchestrator ")), []);
});
