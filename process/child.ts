/**
 * A child process with an owner that reads its pipes to the end and awaits its exit.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import type { Clock } from "../config/clock.ts";
import { UserError } from "../config/errors.ts";
import type { Launch } from "../config/launch.ts";
import { groupRuns } from "./signals.ts";
import { LineCutter } from "./lines.ts";

/** How a process ended. */
export type Exit = { kind: "exited"; code: number } | { kind: "killed"; signal: string };

export type Stream = "out" | "err";

/** Who hears what becomes of a child. */
export interface ChildListener {
  /** Whole lines; the array is the listener's to keep. */
  lines(stream: Stream, lines: Uint8Array): void;
  /** Asked before each read: a promise makes the pipe wait. */
  backpressure(): Promise<void> | null;
  /** The process ended and all it wrote was handed on. `groupAlive`: others of its group still run. */
  exited(exit: Exit, groupAlive: boolean): void;
  /** After an exit with `groupAlive`: nothing of the group runs any more. */
  groupEmpty(): void;
}

/** How long a pipe that someone else holds open may stay silent after the process ended. */
const SILENT_MS = 100;

/** The most that a pipe can hold, and so the most that a process can have left in one. */
const PIPE_BYTES = 1024 * 1024;

/** A process that was started. */
export interface Child {
  pid: number;
  /** Reads as much as its pipes can hold without asking for room: a reader that is stuck must not keep it from ending. */
  drain(): void;
}

/**
 * Starts a process as the leader of its own session and group, reads its pipes and awaits its end.
 *
 * @param clock paces the looks at a pipe or a group that outlives the process
 * @throws {UserError} when the system refuses to start it
 */
export function startChild(launch: Launch, listener: ChildListener, clock: Clock): Child {
  const child = spawn(launch);
  const pipes = [new Pipe("out", child, listener), new Pipe("err", child, listener)];
  const drain = () => pipes.forEach((pipe) => pipe.drain());
  watch(child, pipes, listener, clock);
  return { pid: child.pid, drain };
}

/** One pipe of a child. */
class Pipe {
  readonly #cutter = new LineCutter();
  #reader: ReadableStreamBYOBReader | null = null;
  /** Bytes that are read without asking for room. */
  #spare = 0;
  #goOn = () => {};
  /** Bytes that came so far. */
  received = 0;

  constructor(readonly stream: Stream, readonly child: Deno.ChildProcess, readonly listener: ChildListener) {}

  /** Reads to the end, or until `cancel`. */
  async read(): Promise<void> {
    const { stdout, stderr } = this.child;
    const reader = this.#reader = (this.stream === "out" ? stdout : stderr).getReader({ mode: "byob" });
    // Small at first: most services are quiet, and there may be hundreds.
    let buffer = new Uint8Array(512);
    for (;;) {
      const room = this.#spare > 0 ? null : this.listener.backpressure();
      if (room !== null) {
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#goOn = resolve;
        room.then(resolve);
        await promise;
      }
      const { value, done } = await reader.read(buffer);
      if (done) return this.flush();
      this.received += value.byteLength;
      this.#spare = Math.max(0, this.#spare - value.byteLength);
      const lines = this.#cutter.push(value);
      if (lines !== null) this.listener.lines(this.stream, lines);
      const wider = value.byteLength === value.buffer.byteLength && value.byteLength < 65_536;
      buffer = wider ? new Uint8Array(value.byteLength * 4) : new Uint8Array(value.buffer);
    }
  }

  drain(): void {
    this.#spare = PIPE_BYTES;
    this.#goOn();
  }

  /** Hands on what came without a line end. */
  flush(): void {
    const rest = this.#cutter.flush();
    if (rest !== null) this.listener.lines(this.stream, rest);
  }

  async cancel(): Promise<void> {
    await this.#reader?.cancel();
  }
}

async function watch(
  child: Deno.ChildProcess,
  pipes: readonly Pipe[],
  listener: ChildListener,
  clock: Clock,
): Promise<void> {
  await null; // whoever starts several starts them all first
  const ends = Promise.all(pipes.map((pipe) => pipe.read())).then(() => true);
  const status = await child.status;
  const exit: Exit = status.signal === null
    ? { kind: "exited", code: status.code }
    : { kind: "killed", signal: status.signal };
  for (const pipe of pipes) pipe.drain();
  // A grandchild may keep a pipe open for ever: what counts is that nothing of the process itself can come any more.
  const received = () => pipes.reduce((sum, pipe) => sum + pipe.received, 0);
  const most = received() + 2 * PIPE_BYTES;
  let isOpen = true;
  for (let seen = -1; isOpen && seen !== received() && received() < most;) {
    seen = received();
    const pause = new AbortController();
    isOpen = !await Promise.race([ends, clock.sleep(SILENT_MS, pause.signal).then(() => false)]);
    pause.abort();
  }
  if (isOpen) { for (const pipe of pipes) pipe.flush(); }
  const groupAlive = groupRuns(child.pid);
  listener.exited(exit, groupAlive);
  if (groupAlive) {
    for (let pauseMs = 10; groupRuns(child.pid); pauseMs = Math.min(pauseMs * 2, 200)) {
      await clock.sleep(pauseMs);
    }
    listener.groupEmpty();
  }
  // Whoever holds the pipe now has left the group on purpose: we stop listening.
  if (isOpen) await Promise.all(pipes.map((pipe) => pipe.cancel()));
  await ends;
}

function spawn(launch: Launch): Deno.ChildProcess {
  const { program, args, cwd, environment } = launch;
  try {
    return new Deno.Command(program, {
      args: [...args],
      cwd,
      env: environment,
      clearEnv: true,
      detached: true, // its own session: Ctrl+C reaches the orchestrator alone
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    // Linux takes no single KEY=value of 128 KiB or more.
    const [long] = Object.entries(environment).find((entry) =>
      encoder.encode(entry.join("")).length > 131_000
    ) ?? [];
    const why = !/os error 7/.test(error.message)
      ? error.message.split("\n")[0]
      : long === undefined
      ? "its environment and arguments are too long for the system."
      : `the variable ${long} is longer than the 128 KiB that the system takes.`;
    throw new UserError(`Cannot start ${program}: ${why}`);
  }
}
