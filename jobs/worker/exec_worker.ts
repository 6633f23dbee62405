/**
 * Tasks that are commands: params as JSON on stdin, result as JSON on stdout, stderr and exit status as the error.
 *
 * @module
 */
// @ts-types="../../config/std.d.ts"
import { stripAnsiCode } from "@std/fmt/colors";
import { z } from "zod";
import { systemClock } from "../model/clock.ts";
import { failure, type TaskContext, type TaskHandler, type TaskOutcome, TaskStopped } from "./worker.ts";
import { stripControl } from "../model/text.ts";
import { AnyObject } from "../model/wire.ts";

/** How a command is run. */
export interface ExecOptions {
  /** Variables of the command; those that hold this program's tokens are left out. Default: the process's. */
  environment?: Readonly<Record<string, string>>;
  /** Folder it runs in. */
  cwd?: string;
  /** Longest result; a command that writes more is stopped. Default 16 MiB, what an engine takes. */
  maxOutputBytes?: number;
  /** From SIGTERM to SIGKILL when it is stopped; default 2 000. */
  killGraceMs?: number;
  /** Is given each line that it writes to stderr, without control codes. */
  onStderr?: (line: string, context: TaskContext) => void;
}

/** Variables that are kept from commands: with them it could act as this worker, or as a client. */
const SECRETS = [
  "WORKER_TOKEN",
  "WORKER_INDIVIDUAL_TOKEN",
  "ORCHESTRATORS_CONFIG",
  "CLIENT_TOKEN",
  "GLOBAL_WORKER_TOKEN",
];

/** What is kept of stderr for the error. */
const KEPT_STDERR = 4_000;
const LONGEST_LINE = 10_000;

/**
 * The function of a task that a shell command performs. It runs in its own process group, which is gone when the
 * function returns: stopped on cancel and time-out, and swept of what the command left behind otherwise.
 *
 * The command gets TASK_ID, JOB_ID and TASK_TYPE in its environment. What it writes to stdout is read as
 * {@linkcode outcomeOf} says; another exit status than 0 is a failure that is tried again.
 */
export function execTask(name: string, command: string, options: ExecOptions = {}): TaskHandler {
  const { maxOutputBytes = 16 << 20, killGraceMs = 2_000, onStderr = () => {} } = options;
  const inherited = Object.fromEntries(
    Object.entries(options.environment ?? Deno.env.toObject()).filter(([key]) => !SECRETS.includes(key)),
  );
  return async (params, context) => {
    const { signal } = context;
    if (signal.aborted) return failure("TRANSIENT_ERROR", "The task was stopped before it began.");
    const child = new Deno.Command("/bin/sh", {
      args: ["-c", command],
      cwd: options.cwd,
      env: { ...inherited, TASK_ID: context.taskId, JOB_ID: context.jobId, TASK_TYPE: name },
      clearEnv: true,
      detached: true, // a group of its own: the shell's children are stopped with it
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();

    const exited = new AbortController();
    const stop = new AbortController();
    const onAbort = () => stop.abort();
    signal.addEventListener("abort", onAbort, { once: true });
    const stopping = (async () => {
      await systemClock.sleep(2 ** 31 - 1, AbortSignal.any([stop.signal, exited.signal]));
      if (exited.signal.aborted) return;
      signalGroup(child.pid, "SIGTERM");
      await systemClock.sleep(killGraceMs, exited.signal);
      if (!exited.signal.aborted) signalGroup(child.pid, "SIGKILL");
    })();

    const fed = feed(child.stdin, JSON.stringify(params));
    const output = new Collected(maxOutputBytes, () => stop.abort());
    const lines = new LineReader((line) => onStderr(line, context));
    const drained = Promise.all([
      drain(child.stdout, output, exited.signal),
      drain(child.stderr, lines, exited.signal),
    ]);
    const status = await child.status;
    // Whatever it started and left is not part of any task, and would keep the pipes open.
    signalGroup(child.pid, "SIGKILL");
    exited.abort();
    signal.removeEventListener("abort", onAbort);
    await Promise.all([fed, drained, stopping]);

    if (output.overflown) {
      return failure(
        "PERMANENT_ERROR",
        `The command of task ${name} wrote more than ${maxOutputBytes} bytes to stdout.`,
      );
    }
    if (signal.reason instanceof TaskStopped) return failure("TRANSIENT_ERROR", signal.reason.message);
    const read = outcomeOf(output.text());
    if (status.success) {
      return read ?? failure("PERMANENT_ERROR", `The command of task ${name} wrote no JSON to stdout.`);
    }
    if (read?.status === "failure" && read.error !== undefined) return read;
    const how = status.signal === null
      ? `exited with status ${status.code}`
      : `was ended by ${status.signal}`;
    const stderr = lines.tail();
    return failure(
      "TRANSIENT_ERROR",
      `The command of task ${name} ${how}${stderr === "" ? "." : `: ${stderr}`}`,
    );
  };
}

const OutcomeSchema = z.strictObject({
  status: z.string().min(1),
  data: AnyObject.optional(),
  error: z.union([z.string(), z.object({ code: z.string(), message: z.string() })]).optional(),
});

/**
 * Reads what a command wrote to stdout: an object of `status`, `data` and `error` is the outcome itself; any other object is
 * the data of a success, any other value becomes `{ result: VALUE }`, nothing is a success without data.
 *
 * @returns undefined when it is not JSON
 */
export function outcomeOf(text: string): TaskOutcome | undefined {
  if (text.trim() === "") return { status: "success" };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const outcome = OutcomeSchema.safeParse(value);
  if (outcome.success) return outcome.data;
  const data = AnyObject.safeParse(value);
  return { status: "success", data: data.success ? data.data : AnyObject.parse({ result: value }) };
}

function signalGroup(pid: number, name: "SIGTERM" | "SIGKILL"): void {
  try {
    Deno.kill(-pid, name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // nobody is left in the group
  }
}

async function feed(stdin: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // a command need not read its params
    await writer.abort().catch(() => {}); // it is broken already
  }
}

interface Sink {
  take(bytes: Uint8Array): void;
  end(): void;
}

// Reads a pipe to its end. One that somebody outside the group still holds open a second after the exit is let go.
async function drain(pipe: ReadableStream<Uint8Array>, sink: Sink, exited: AbortSignal): Promise<void> {
  const reader = pipe.getReader();
  const ended = new AbortController();
  const letGo = (async () => {
    await systemClock.sleep(2 ** 31 - 1, AbortSignal.any([exited, ended.signal]));
    await systemClock.sleep(1_000, ended.signal);
    if (!ended.signal.aborted) await reader.cancel();
  })();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    sink.take(value);
  }
  ended.abort();
  await letGo;
  sink.end();
}

class Collected implements Sink {
  #parts: Uint8Array[] = [];
  #size = 0;
  overflown = false;
  constructor(readonly limit: number, readonly onOverflow: () => void) {}

  take(bytes: Uint8Array): void {
    this.#size += bytes.length;
    if (this.#size <= this.limit) {
      this.#parts.push(bytes);
    } else if (!this.overflown) {
      this.overflown = true;
      this.#parts = [];
      this.onOverflow();
    }
  }
  end(): void {}
  text(): string {
    const decoder = new TextDecoder();
    return this.#parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode();
  }
}

class LineReader implements Sink {
  #decoder = new TextDecoder();
  #line = "";
  #tail = "";
  constructor(readonly onLine: (line: string) => void) {}

  take(bytes: Uint8Array): void {
    this.#add(this.#decoder.decode(bytes, { stream: true }));
  }
  end(): void {
    this.#add(this.#decoder.decode());
    if (this.#line !== "") this.#emit(this.#line);
    this.#line = "";
  }
  /** The end of what was written. */
  tail(): string {
    return this.#tail.trim();
  }

  #add(text: string): void {
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop() ?? "";
    for (const line of lines) this.#emit(line);
    if (this.#line.length > LONGEST_LINE) {
      this.#emit(this.#line);
      this.#line = "";
    }
  }
  #emit(line: string): void {
    const text = stripControl(stripAnsiCode(line));
    this.#tail = `${this.#tail}${text}\n`.slice(-KEPT_STDERR);
    this.onLine(text);
  }
}
