/**
 * A start with more to it than the plain command: in the background, with logs, or in an orchestrator that runs.
 *
 * @module
 */

import {
  BACKGROUND_FLAG,
  type Command,
  findHome,
  type Flags,
  type Home,
  type Level,
  Orchestrator,
  ownCommand,
  print,
  resolvePath,
} from "../orchestrator.ts";
import { parseDuration, UserError } from "../services.ts";
import { namesOf, statusTable } from "./answers.ts";
import { ask, Unreachable } from "./client.ts";
import { findRun, pause, reach } from "./find.ts";
import { LEVELS, type LogOptions } from "./log_files.ts";
import { conclude, Mirror, waitFor } from "./mirror.ts";
import { RunFolder } from "./record.ts";

/** Performs such a start. @returns the exit status @throws {UserError} for what the user can mend */
export async function start(command: Extract<Command, { kind: "start" }>): Promise<number> {
  const { names, named, flags } = command;
  const detached = flags.on.has(BACKGROUND_FLAG);
  const logs = readLogOptions(flags);
  const limitMs = flags.text.wait === undefined ? Infinity : parseDuration(flags.text.wait);
  const home = findHome(command.options);
  if (!detached) {
    const record = named ? await findRun(home) : null;
    if (record !== null) {
      return await reach(record, (socket) => startThere(socket, names, limitMs));
    }
    if (flags.on.has("detach")) return await detach(home, limitMs);
    if (flags.text.wait !== undefined) {
      throw new UserError("--wait goes with --detach, or with names to start in an orchestrator that runs.");
    }
  }
  const background = { ...command.options, detached, ...(logs === null ? {} : { logs }) };
  return await new Orchestrator(names, background).run();
}

/** What the options say about logs, or `null` when they say nothing. */
function readLogOptions({ text }: Flags): Partial<LogOptions> | null {
  const options: Partial<LogOptions> = {};
  const { "log-dir": folder, "log-format": format, "log-level": level, "log-size": size, "log-keep": keep } =
    text;
  if (folder !== undefined) options.folder = resolvePath(Deno.cwd(), folder);
  if (format !== undefined) {
    if (format !== "text" && format !== "json") throw new UserError(`--log-format is text or json.`);
    options.format = format;
  }
  if (level !== undefined) options.level = parseLevel(level);
  if (size !== undefined) options.maxBytes = parseSize(size);
  if (keep !== undefined) {
    if (!/^[0-9]{1,3}$/.test(keep)) throw new UserError("--log-keep is a number of files from 0 to 999.");
    options.keep = Number(keep);
  }
  return Object.keys(options).length === 0 ? null : options;
}

function parseLevel(text: string): Level {
  const level = LEVELS.find((known) => known === text);
  if (level === undefined) throw new UserError(`--log-level is one of ${LEVELS.join(", ")}.`);
  return level;
}

/**
 * Bytes of a size: `500000`, `64KiB`, `10MiB`, `1GiB`; `k`, `M` and `G` alone mean the same.
 *
 * @throws {UserError} for anything else
 */
export function parseSize(text: string): number {
  const [, amount, unit] = /^([0-9]+(?:\.[0-9]+)?) ?([kmg]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  const bytes = Math.floor(Number(amount) * 1_024 ** " kmg".indexOf(unit?.toLowerCase() || " "));
  if (bytes >= 1_024) return bytes;
  throw new UserError(`"${text}" is no size for --log-size; use 1KiB or more, for example 10MiB.`);
}

/** Starts services in an orchestrator that runs, and waits until they do. */
async function startThere(socket: string, asked: readonly string[], limitMs: number): Promise<number> {
  using mirror = await Mirror.open(socket, 1_000);
  const names = namesOf(await ask(socket, "POST", "/start", { names: asked }));
  return await conclude(mirror, await waitFor(mirror, { names, goal: "up", asked, limitMs }));
}

// The standard streams lead to a file: what the runtime itself has to say when it dies is kept.
const INTO_FILE = 'exec "$@" </dev/null >>"$0" 2>&1';

/** Starts this program again in a session of its own and waits until its services are ready. */
async function detach(home: Home, limitMs: number): Promise<number> {
  const record = await findRun(home);
  if (record !== null) {
    throw new UserError(
      `An orchestrator with PID ${record.orchestrator.pid} runs in ${home.infrastructure} already; ` +
        `"orchestrator status" shows it and "orchestrator stop" ends it.`,
    );
  }
  const said = prepareFile(home);
  const word = Deno.args[0]?.startsWith("-") === false ? 1 : 0;
  const own = [...Deno.args.slice(0, word), `--${BACKGROUND_FLAG}`, ...Deno.args.slice(word)];
  const { program, args } = ownCommand(own);
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", INTO_FILE, said, program, ...args],
    detached: true, // a session of its own: it outlives this terminal
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  child.unref();
  let ended: Deno.CommandStatus | null = null;
  child.status.then((status) => ended = status);

  const folder = new RunFolder(home.infrastructure);
  const lateAt = performance.now() + limitMs;
  for (;;) {
    const record = folder.read();
    if (record?.orchestrator.pid === child.pid) {
      try {
        using mirror = await Mirror.open(record.socket, 1_000);
        const left = Math.max(1, lateAt - performance.now());
        const outcome = await waitFor(mirror, { names: null, goal: "up", limitMs: left });
        if (outcome.kind !== "over") {
          if (outcome.kind === "reached") {
            print(await statusTable(await ask(record.socket, "GET", "/status")));
          }
          return await conclude(mirror, outcome);
        }
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error; // not yet, or no more
      }
    }
    const status: Deno.CommandStatus | null = ended;
    if (status !== null) return tellEnd(said, status);
    if (performance.now() > lateAt) {
      print(
        `orchestrator: PID ${child.pid} is still starting; "orchestrator status" shows more.`,
        Deno.stderr,
      );
      return 1;
    }
    await pause();
  }
}

/** The run was over before anyone could follow it: what it said tells why. */
function tellEnd(said: string, status: Deno.CommandStatus): number {
  const text = Deno.readTextFileSync(said).trimEnd();
  if (text !== "") print(text, Deno.stderr);
  if (status.signal !== null) print(`orchestrator: It was killed by ${status.signal}.`, Deno.stderr);
  return status.signal === null ? status.code : 1;
}

/** The file for what is said outside of the logs, empty. @throws {UserError} when the folder can't be written */
function prepareFile({ infrastructure }: Home): string {
  const path = `${infrastructure}/logs/orchestrator.out`;
  try {
    Deno.mkdirSync(`${infrastructure}/logs`, { recursive: true });
    Deno.writeTextFileSync(path, "", { mode: 0o640 });
    return path;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    throw new UserError(
      `Cannot write ${path}, which a run in the background needs (${error.message.split("\n")[0]}); ` +
        `make the folder writable, or start it without --detach.`,
    );
  }
}
