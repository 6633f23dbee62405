/**
 * The one table of commands. Parsing, help, completions and the README's table come from it.
 * Nothing of a command is loaded before it is run.
 *
 * @module
 */

import type { Command, Option } from "../config/command.ts";
import { JOB_COMMANDS } from "../jobs/cli/table.ts";
import type { Program } from "./options.ts";

const JSON_OPTION: Option = { name: "json", does: "the same as JSON, for scripts" };

const WAIT_OPTION: Option = {
  name: "wait",
  value: "TIME",
  example: "60s",
  does: "wait no longer than this (exit 1); 0: not at all",
};

const LOG_DIR_OPTION: Option = {
  name: "log-dir",
  value: "DIR",
  example: "infrastructure/logs",
  does: "the folder of the log files; default logs/ in the infrastructure folder",
};

/** The exit status of a run. */
const RUN_STATUS =
  "exit status: 0 stopped as asked or all ended well, 1 a service crashed or could not start, " +
  "2 an error to correct first";

/** Every command; the first one applies when none is named. */
export const COMMANDS: readonly Command<Program>[] = [
  {
    name: "start",
    aliases: ["up"],
    group: "Run",
    words: "[NAME...]",
    names: true,
    does: "start services and stay with them; where an orchestrator runs already, names are started there",
    options: [
      {
        name: "services",
        letter: "s",
        value: "NAMES",
        example: "db,web",
        names: true,
        does: "only these, comma separated, and what they depend on",
      },
      {
        name: "service",
        value: "NAME",
        example: "web",
        names: true,
        does: "become this service, in the foreground; its dependencies are not started",
      },
      { name: "detach", letter: "d", does: "run in the background; return when all are ready or one failed" },
      WAIT_OPTION,
      { name: "list", letter: "l", does: "show the services instead, as the command list does" },
      JSON_OPTION,
      LOG_DIR_OPTION,
      { name: "log-format", value: "FORMAT", example: "json", does: "text or json; default text" },
      {
        name: "log-level",
        value: "LEVEL",
        example: "debug",
        does: "debug, info, warn or error; default info",
      },
      {
        name: "log-size",
        value: "SIZE",
        example: "10MiB",
        does: "of a file until the next one begins; default 10MiB",
      },
      { name: "log-keep", value: "N", example: "5", does: "older files that are kept; default 5" },
      { name: "version", letter: "V", does: "show the version" },
      { name: "in-background", hidden: true, does: "be the run that --detach started" },
    ],
    examples: [
      ["", "start every service, with a dashboard on a terminal"],
      ["--services db,web", "start some, and what they depend on"],
      ["--service web", "become one service, in the foreground"],
      ["-d --wait 60s", "start in the background and wait until all are ready"],
      ["start web", "start one where an orchestrator runs already"],
    ],
    more: RUN_STATUS,
    load: async () => ({ run: (await import("./start.ts")).start }),
  },
  {
    name: "list",
    group: "Look",
    does: "show the services with their ports, entry points and dependencies",
    options: [JSON_OPTION],
    examples: [["list --json", "for scripts"]],
    load: async () => ({ run: (await import("./defined.ts")).list }),
  },
  {
    name: "status",
    aliases: ["ps"],
    group: "Look",
    does: "show what runs: state, PID, port, uptime, restarts, CPU and memory",
    options: [JSON_OPTION],
    examples: [["status", "a table"], ["status --json", "for scripts"]],
    more: "exit status: 0 all services run, 1 one does not, 3 nothing runs here",
    load: async () => ({ run: (await import("./running.ts")).showStatus }),
  },
  {
    name: "logs",
    group: "Look",
    words: "[NAME...]",
    names: true,
    does: "show the lines of services in the order of time",
    options: [
      { name: "follow", letter: "f", does: "go on with new lines" },
      { name: "lines", letter: "n", value: "N", example: "100", does: "the last N lines" },
      { name: "since", value: "TIME", example: "10m", does: "only lines of the last 10m, 2h, ..." },
      { name: "grep", value: "REGEX", example: "error", does: "only lines that match" },
      JSON_OPTION,
      LOG_DIR_OPTION,
    ],
    examples: [
      ["logs -f", "the lines of all services as they come"],
      ["logs web db -n 100", "the last 100 lines of two"],
      ["logs --since 10m --grep error", "what went wrong in the last ten minutes"],
    ],
    load: () => import("./logs.ts"),
  },
  {
    name: "attach",
    group: "Look",
    does: "show the dashboard of the orchestrator that runs here; q leaves it running",
    examples: [["attach", ""]],
    load: () => import("./attach.ts"),
  },
  {
    name: "events",
    group: "Look",
    does: "print what happens, one JSON object a line",
    examples: [["events | jq .kind", "follow a run from a script"]],
    load: async () => ({ run: (await import("./running.ts")).showEvents }),
  },
  {
    name: "restart",
    group: "Change",
    words: "NAME...",
    names: true,
    does: "restart services and wait until they run",
    options: [
      { name: "with-dependents", does: "and what depends on them" },
      { name: "with-dependencies", does: "and what they depend on" },
      WAIT_OPTION,
    ],
    examples: [["restart web", ""], ["restart db --with-dependents", "and everything that uses it"]],
    load: async () => ({ run: (await import("./running.ts")).restart }),
  },
  {
    name: "stop",
    aliases: ["down"],
    group: "Change",
    words: "[NAME...]",
    names: true,
    does: "stop services and what depends on them; without names everything, and the orchestrator itself",
    options: [WAIT_OPTION],
    examples: [["stop", "everything"], ["stop web", "one, and what depends on it"]],
    load: async () => ({ run: (await import("./running.ts")).stop }),
  },
  {
    name: "reload",
    group: "Change",
    does: "read the services file and .env again and carry out what changed",
    options: [{ name: "dry-run", does: "only show what would change" }, JSON_OPTION],
    examples: [["reload --dry-run", "what would be started, stopped and restarted"]],
    more: "In the background SIGHUP does the same.",
    load: async () => ({ run: (await import("./running.ts")).reload }),
  },
  {
    name: "self-restart",
    group: "Change",
    does: "stop everything in order and start again as the same process (SIGUSR2)",
    examples: [["self-restart", "after the program was replaced by a newer one"]],
    load: async () => ({ run: (await import("./running.ts")).restartSelf }),
  },
  {
    name: "init",
    group: "Set up",
    does: "write a first services.yaml from what the folder holds",
    examples: [["init", ""]],
    load: () => import("./init.ts"),
  },
  {
    name: "check",
    group: "Set up",
    does: "report every error at once, without starting anything",
    options: [JSON_OPTION],
    examples: [["check", ""], ["check --json", "for CI"]],
    more: "exit status: 0 a start would succeed, 2 there are errors",
    load: () => import("./check.ts"),
  },
  {
    name: "env",
    group: "Set up",
    words: "NAME",
    names: true,
    does: "show each variable of a service, where it comes from and what it hides; secrets are masked",
    options: [{ name: "explain", does: "what it does anyway" }],
    examples: [["env web", ""]],
    load: async () => ({ run: (await import("./defined.ts")).env }),
  },
  {
    name: "setup",
    group: "Set up",
    does: "make the venv and install requirements.txt into it",
    examples: [["setup", ""]],
    load: () => import("./setup.ts"),
  },
  ...JOB_COMMANDS,
  {
    name: "completions",
    group: "Program",
    words: "SHELL [WORD...]",
    does: "print a completion script for bash, zsh or fish",
    examples: [
      ["completions bash >> ~/.bashrc", ""],
      ["completions zsh > ~/.zfunc/_orchestrator", "a folder of $fpath"],
      ["completions fish > ~/.config/fish/completions/orchestrator.fish", ""],
      ["completions bash -- logs --fo", "what completes the last word, as a script asks at each Tab"],
    ],
    load: () => import("./completions.ts"),
  },
  {
    name: "help",
    group: "Program",
    words: "[COMMAND...]",
    does: "explain the program or one command",
    examples: [["help logs", ""], ["help job submit", ""]],
    load: () => import("./help.ts"),
  },
  {
    name: "version",
    group: "Program",
    does: "show the version",
    examples: [["version", ""]],
    load: async () => ({ run: (await import("./start.ts")).showVersion }),
  },
];
