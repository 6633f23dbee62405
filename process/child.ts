/**
 * A child process with an owner that reads its pipes to the end and awaits its exit.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";
import type { Launch } from "../config/launch.ts";
import { sleep } from "./clock.ts";
import { groupRuns } from "./group.ts";
import { LineCutter } from "./lines.ts";

/** How a process ended. */
export type Exit = { kind: "exited"; code: number } | { kind: "killed"; signal: string };

export type Stream = "out" | "err";

/** What the owner of a child is told. */
export interface ChildListener {
  /** Whole lines; the array is the listener's to keep. */
  lines(stream: Stream, lines: Uint8Array): void;
  /** Asked before each read: a promise makes the pipe wait. */
  backpressure(): Promise<void> | null;
  /** The process ended and all it wrote has been told. `groupAlive`: others of its group still run. */
  exited(exit: Exit, groupAlive: boolean): void;
  /** After a groupAlive exit: nothing of the group runs any more. */
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
 * Starts a process as the leader of its own session and group, and tells what becomes of it.
 *
 * @throws {UserError} when the system refuses to start it
 */
export function startChild(launch: Launch, listener: ChildListener): Child {
  const child = spawn(launch);
  const cutters = { out: new LineCutter(), err: new LineCutter() };
  let readers: Record<Stream, ReadableStreamBYOBReader>;
  const spare = { out: 0, err: 0 };
  const waiting = new Set<() => void>();
  let received = 0;

  function hurry(): void {
    spare.out = spare.err = PIPE_BYTES;
    for (const goOn of waiting) goOn();
  }
  async function pump(stream: Stream): Promise<void> {
    // Small at first: most services are quiet, and there may be hundreds.
    let buffer = new Uint8Array(512);
    for (;;) {
      const room = spare[stream] > 0 ? null : listener.backpressure();
      if (room !== null) {
        const { promise, resolve } = Promise.withResolvers<void>();
        waiting.add(resolve);
        room.then(resolve);
        await promise;
        waiting.delete(resolve);
      }
      const { value, done } = await readers[stream].read(buffer);
      if (done) break;
      received += value.byteLength;
      spare[stream] = Math.max(0, spare[stream] - value.byteLength);
      const lines = cutters[stream].push(value);
      if (lines !== null) listener.lines(stream, lines);
      const wider = value.byteLength === value.buffer.byteLength && value.byteLength < 65_536;
      buffer = wider ? new Uint8Array(value.byteLength * 4) : new Uint8Array(value.buffer);
    }
    flush(stream);
  }
  function flush(stream: Stream): void {
    const rest = cutters[stream].flush();
    if (rest !== null) listener.lines(stream, rest);
  }

  async function watch(): Promise<void> {
    await null; // whoever starts several starts them all first
    readers = {
      out: child.stdout.getReader({ mode: "byob" }),
      err: child.stderr.getReader({ mode: "byob" }),
    };
    const ends = Promise.all([pump("out"), pump("err")]).then(() => true);
    const status = await child.status;
    const exit: Exit = status.signal === null
      ? { kind: "exited", code: status.code }
      : { kind: "killed", signal: status.signal };
    hurry();
    // A grandchild may keep a pipe open for ever: what counts is that nothing of the process itself can come any more.
    let open = true;
    const most = received + 2 * PIPE_BYTES;
    for (let seen = -1; open && seen !== received && received < most;) {
      seen = received;
      const pause = new AbortController();
      open = !await Promise.race([ends, sleep(SILENT_MS, pause.signal).then(() => false)]);
      pause.abort();
    }
    if (open) { for (const stream of ["out", "err"] as const) flush(stream); }
    const groupAlive = groupRuns(child.pid);
    listener.exited(exit, groupAlive);
    if (groupAlive) {
      for (let pauseMs = 10; groupRuns(child.pid); pauseMs = Math.min(pauseMs * 2, 200)) await sleep(pauseMs);
      listener.groupEmpty();
    }
    // Whoever holds the pipe now has left the group on purpose: we stop listening.
    if (open) await Promise.all([readers.out.cancel(), readers.err.cancel()]);
    await ends;
  }
  watch();
  return { pid: child.pid, drain: hurry };
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
    const long = Object.entries(environment).find(([name, value]) =>
      encoder.encode(name + value).length > 131_000
    );
    if (/os error 7/.test(error.message)) {
      throw new UserError(
        long === undefined
          ? `Cannot start ${program}: its environment and arguments are too long for the system.`
          : `Cannot start ${program}: the variable ${
            long[0]
          } is longer than the 128 KiB that the system takes.`,
      );
    }
    throw new UserError(`Cannot start ${program}: ${error.message.split("\n")[0]}`);
  }
}
