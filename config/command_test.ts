// @ts-types="./std.d.ts"
import { assertEquals, assertThrows } from "@std/assert";
import type { Command } from "./command.ts";
import { findCommand, readArguments } from "./command.ts";
import { UserError } from "./errors.ts";

const load = () => Promise.reject(new Error("no test loads a verb"));
const SHARED = { group: "Run", does: "does something", examples: [], load } as const;

const TABLE: readonly Command[] = [
  {
    ...SHARED,
    name: "start",
    aliases: ["up"],
    words: "[NAME...]",
    options: [
      { name: "services", letter: "s", value: "NAMES", example: "db,web", does: "these" },
      { name: "detach", letter: "d", does: "in the background" },
      { name: "in-background", hidden: true, does: "passed by the program itself" },
    ],
  },
  { ...SHARED, name: "status", aliases: ["ps"], options: [{ name: "json", does: "as JSON" }] },
  { ...SHARED, name: "env", words: "NAME" },
  {
    ...SHARED,
    name: "job submit",
    words: "BLUEPRINT [DATA]",
    options: [
      { name: "token", value: "TOKEN", does: "a token" },
      { name: "exec", value: "NAME=COMMAND", many: true, does: "a task" },
    ],
  },
  { ...SHARED, name: "job list" },
  { ...SHARED, name: "help", words: "[COMMAND...]" },
];

/** What a command line means: the command, the options that are given, the words. */
function read(line: string): string {
  const { command, isBare, args } = findCommand(TABLE, line.split(" ").filter(Boolean));
  const given = readArguments(command, args, isBare);
  const names = "services,detach,json,token,exec,infrastructure,config,no-dashboard,help".split(",");
  const options = names.filter((name) => given.has(name)).map((name) =>
    `${name}=${given.all(name).join("+")}`
  );
  return [isBare ? "(none)" : command.name, ...options, ...given.words].join(" ");
}

for (
  const [line, meaning] of [
    ["", "(none)"],
    ["--services=db,web", "(none) services=db,web"],
    ["-s db", "(none) services=db"],
    ["-s=db", "(none) services=db"],
    ["-d", "(none) detach=true"],
    ["-d --services db", "(none) services=db detach=true"],
    ["start db web -d", "start detach=true db web"],
    ["up db", "start db"],
    ["ps --json", "status json=true"],
    ["--infrastructure x ps --json", "status json=true infrastructure=x"],
    [
      "--infrastructure=x --no-dashboard start --config y",
      "start infrastructure=x config=y no-dashboard=true",
    ],
    ["status --infrastructure x", "status infrastructure=x"],
    ["job submit flow {}", "job submit flow {}"],
    ["job submit flow --token -abc", "job submit token=-abc flow"],
    ["job submit flow --exec a=b --exec c=d", "job submit exec=a=b+c=d flow"],
    ["job submit --help", "job submit help=true"],
    ["job --help", "help job"],
    ["job -h", "help job"],
    ["help job submit", "help job submit"],
    ["env --help", "env help=true"],
    ["--no-dashboard -h", "(none) no-dashboard=true help=true"],
    ["job submit flow -", "job submit flow -"],
    ["job submit -- --token -abc", "job submit --token -abc"],
  ] as const
) {
  Deno.test(`the command line "${line}" means: ${meaning}`, () => assertEquals(read(line), meaning));
}

const GLOBAL = "--infrastructure, --config, --env-file, --no-dashboard, --help";

for (
  const [line, message] of [
    ["--sevices db", "There is no option --sevices; did you mean --services?"],
    ["-x", `There is no option -x; the options are --services, --detach, ${GLOBAL}.`],
    ["ps -d", `"status" has no option -d; the options are --json, ${GLOBAL}.`],
    ["ps --jsno", `"status" has no option --jsno; did you mean --json?`],
    ["ps --services=db", `"status" has no option --services; the options are --json, ${GLOBAL}.`],
    ["sttaus", `There is no command "sttaus"; did you mean "status"?`],
    ["xyzzy", `There is no command "xyzzy"; "orchestrator help" lists the commands.`],
    ["job submt flow", `There is no command "job submt"; did you mean "job submit"?`],
    ["job xyzzy", `There is no command "job xyzzy"; "orchestrator help job" lists the commands.`],
    ["job", `"job" needs a command after it: job submit or job list. "orchestrator help job" explains them.`],
    ["--services", "--services needs a value; for example --services db,web."],
    ["--services=", "--services needs a value; for example --services db,web."],
    ["job submit flow --token=", "--token needs a value; for example --token TOKEN."],
    ["--services db --services web", "--services is given more than once; give it once."],
    ["--services db web", `"web" is an unexpected argument; services are named with --services web.`],
    ["ps db", `"db" is an unexpected argument; orchestrator status --help lists what it takes.`],
    ["env", `"env" needs NAME; orchestrator env --help lists what it takes.`],
    ["job submit", `"job submit" needs BLUEPRINT; orchestrator job submit --help lists what it takes.`],
    ["env a b", `"b" is an unexpected argument; orchestrator env --help lists what it takes.`],
  ] as const
) {
  Deno.test(`the command line "${line}" is refused: ${message}`, () => {
    assertEquals(assertThrows(() => read(line), UserError).message, message);
  });
}
