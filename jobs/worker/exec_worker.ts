/**
 * Tasks that are commands: params as JSON on stdin, result as JSON on stdout, stderr and exit status as the error.
 *
 * @module
 */
import { z } from "zod";
import { concat, decoder, encoder } from "../../config/bytes.ts";
import { systemClock } from "../../config/clock.ts";
import { stripControl } from "../../terminal/text.ts";
import { LinkedAbort } from "../model/abort.ts";
import { parseJson } from "../model/json.ts";
import { AnyObject } from "../model/wire.ts";
import { failure, type TaskHandler, type TaskOutcome, TaskStopped } from "./task.ts";

/** How a command is run. */
export interface ExecOptions {
  /** Variables of the command; those that hold this program's tokens are left out. Default: the process's. */
  environment?: Readonly<Record<string, string>>;
  /** Longest result; a command that writes more is stopped. Default 16 MiB, what an engine takes. */
  maxOutputBytes?: number;
  /** From SIGTERM to SIGKILL when it is stopped; default 2 000. */
  killGraceMs?: number;
  /** Is given each line that it writes to stderr, without control codes. */
  onStderr?: (line: string, taskId: string) => void;
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
/** How long pipes are read on after the exit, when somebody outside the group still holds them open. */
const PIPE_GRACE_MS = 1_000;

/**
 * The function of a task that a shell command performs. It runs in its own process group, which is gone when the
 * function returns: stopped on cancel and time-out, and swept of what the command left behind otherwise.
 *
 * The command gets TASK_ID, JOB_ID and TASK_TYPE in its environment. What it writes to stdout is read as
 * {@linkcode outcomeOf} describes; another exit status than 0 is a failure that is tried again.
 */
export function execTask(
  name: string,
  command: string,
  { environment = Deno.env.toObject(), maxOutputBytes = 16 << 20, killGraceMs = 2_000, onStderr }:
    ExecOptions = {},
): TaskHandler {
  const inherited = Object.entries(environment).filter(([key]) => !SECRETS.includes(key));
  return async (params, { taskId, jobId, signal }) => {
    if (signal.aborted) return failure("TRANSIENT_ERROR", "The task was stopped before it began.");
    const child = new Deno.Command("/bin/sh", {
      args: ["-c", command],
      env: { ...Object.fromEntries(inherited), TASK_ID: taskId, JOB_ID: jobId, TASK_TYPE: name },
      clearEnv: true,
      detached: true, // a group of its own: the shell's children are stopped with it
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    using stop = new LinkedAbort(signal);
    const ended = endOf(child, stop.signal, killGraceMs);
    const reading = new AbortController();
    void ended.then(() => systemClock.sleep(PIPE_GRACE_MS, reading.signal)).then(() => reading.abort());
    const [stdout, stderr] = await Promise.all([
      readText(partsOf(child.stdout, reading.signal), maxOutputBytes, () => stop.abort()),
      readLines(partsOf(child.stderr, reading.signal), (line) => onStderr?.(line, taskId)),
      feed(child.stdin, JSON.stringify(params)),
    ]);
    reading.abort();
    const status = await ended;
    if (stdout === undefined) {
      const message = `The command of task ${name} wrote more than ${maxOutputBytes} bytes to stdout.`;
      return failure("PERMANENT_ERROR", message);
    }
    if (signal.reason instanceof TaskStopped) return failure("TRANSIENT_ERROR", signal.reason.message);
    return resultOf(name, status, stdout, stderr);
  };
}

/** What a command is worth that has exited by itself. */
function resultOf(name: string, status: Deno.CommandStatus, stdout: string, stderr: string): TaskOutcome {
  const outcome = outcomeOf(stdout);
  if (status.success) {
    return outcome ?? failure("PERMANENT_ERROR", `The command of task ${name} wrote no JSON to stdout.`);
  }
  if (outcome?.status === "failure" && outcome.error !== undefined) return outcome;
  const how = status.signal === null ? `exited with status ${status.code}` : `was ended by ${status.signal}`;
  const why = stderr === "" ? "." : `: ${stderr}`;
  return failure("TRANSIENT_ERROR", `The command of task ${name} ${how}${why}`);
}

const Outcome = z.strictObject({
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
  const value = parseJson(text);
  if (value === undefined) return undefined;
  const outcome = Outcome.safeParse(value);
  if (outcome.success) return outcome.data;
  const data = AnyObject.safeParse(value);
  return { status: "success", data: data.success ? data.data : AnyObject.parse({ result: value }) };
}

// Waits for a command's exit, and ends its group when `stop` is aborted.
async function endOf(child: Deno.ChildProcess, stop: AbortSignal, killGraceMs: number) {
  const exited = new AbortController();
  const end = async () => {
    signalGroup(child.pid, "SIGTERM");
    await systemClock.sleep(killGraceMs, exited.signal);
    if (!exited.signal.aborted) signalGroup(child.pid, "SIGKILL");
  };
  stop.addEventListener("abort", end);
  const status = await child.status;
  stop.removeEventListener("abort", end);
  exited.abort();
  // Whatever it started and left is not part of any task, and would keep the pipes open.
  signalGroup(child.pid, "SIGKILL");
  return status;
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
    await writer.write(encoder.encode(text));
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // a command need not read its params
    await writer.abort().catch(() => {}); // it is broken already
  }
}

// What comes through a pipe until its end, or until `letGo` is aborted.
async function* partsOf(pipe: ReadableStream<Uint8Array>, letGo: AbortSignal): AsyncGenerator<Uint8Array> {
  const reader = pipe.getReader();
  letGo.addEventListener("abort", () => void reader.cancel(), { once: true });
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

// The whole text; undefined, after a call of `onOverflow`, when it is too long.
async function readText(parts: AsyncIterable<Uint8Array>, mostBytes: number, onOverflow: () => void) {
  const kept: Uint8Array[] = [];
  let size = 0;
  for await (const part of parts) {
    size += part.length;
    if (size <= mostBytes) kept.push(part);
    else onOverflow();
  }
  return size > mostBytes ? undefined : decoder.decode(concat(kept));
}

// Hands on each line without control codes. @returns the end of all that was written
async function readLines(parts: AsyncIterable<Uint8Array>, onLine: (line: string) => void): Promise<string> {
  const decoder = new TextDecoder();
  let tail = "";
  const emit = (line: string) => {
    const text = stripControl(line);
    tail = `${tail}${text}\n`.slice(-KEPT_STDERR);
    onLine(text);
  };
  let rest = "";
  for await (const part of parts) {
    const lines = (rest + decoder.decode(part, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(emit);
    if (rest.length > LONGEST_LINE) {
      emit(rest);
      rest = "";
    }
  }
  rest += decoder.decode();
  if (rest !== "") emit(rest);
  return tail.trim();
}
