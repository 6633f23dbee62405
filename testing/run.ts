/**
 * Starts the orchestrator as a child of a test: `deno run -A orchestrator.ts`, or the bundled script or the binary that
 * the environment variable ORCHESTRATOR_BIN names. Everything it starts carries a mark, by which leaving a test makes
 * sure that nothing is left.
 *
 * @module
 */

import { concat, decoder } from "../config/bytes.ts";

/** The folder of `orchestrator.ts`. */
export const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");
/** The folder of the scripts that tests start. */
export const TESTDATA = `${ROOT}/testing`;
/** The worst case of any wait: machines that run tests are slow at times. */
export const LIMIT_MS = 60_000;

/** Set where every program that tests use is there: a test that lacks one fails then, and is ignored elsewhere. */
export const NOTHING_IGNORED = Deno.env.has("ORCHESTRATOR_TEST_ALL");

/** Texts of a run longer than this lose their beginning: the engine knows none longer than half a gigabyte. */
const TEXT_LIMIT = 2 ** 28;

const MARK = "ORCHESTRATOR_TEST_MARK";

/** A port that nothing listens on right now. */
export function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}

/** Resolves when `check` gives something other than `false`, `null` or `undefined`. */
export async function waitUntil<T>(
  check: () => T | Promise<T>,
  what: string,
  limitMs = LIMIT_MS,
): Promise<Exclude<T, false | null | undefined>> {
  const lateAt = performance.now() + limitMs;
  for (;;) {
    const found = await check();
    if (found !== false && found !== null && found !== undefined) {
      return found as Exclude<T, false | null | undefined>;
    }
    if (performance.now() > lateAt) throw new Error(`Waited ${limitMs} ms and not yet: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Whether a process runs; one that only waits to be collected does not. */
export function isAlive(pid: number): boolean {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(")") + 2));
  } catch {
    return false; // no such process
  }
}

/** A process that carries a mark. */
export interface Marked {
  pid: number;
  command: string;
}

/** The processes that carry `NAME=value` in the environment that they were started with. */
export function processesWith(variable: string): Marked[] {
  const found: Marked[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue;
    try {
      if (!Deno.readTextFileSync(`/proc/${name}/environ`).split("\0").includes(variable)) continue;
      const command = Deno.readTextFileSync(`/proc/${name}/cmdline`).replaceAll("\0", " ").trim();
      if (isAlive(Number(name))) found.push({ pid: Number(name), command });
    } catch {
      // It ended while we looked, or it is someone else's.
    }
  }
  return found;
}

/** A mark that nothing carries yet. */
export function newMark(): { name: string; value: string } {
  return { name: MARK, value: crypto.randomUUID() };
}

/** Kills every process that carries a mark, however it hides. */
export async function endMarked(variable: string): Promise<void> {
  for (let tries = 0; processesWith(variable).length > 0 && tries < 100; tries++) {
    for (const { pid } of processesWith(variable)) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It ended meanwhile.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A service as in a services file. */
export type ServiceFields = { name: string; command?: readonly string[] | string } & Record<string, unknown>;

/** What is in a temporary infrastructure folder. */
export interface FolderContents {
  /** Becomes `services.json`. */
  services?: readonly ServiceFields[];
  /** Becomes `.env`; without it an empty one is made, so that no warning is shown. `null`: none. */
  env?: Readonly<Record<string, string | number>> | string | null;
  /** More files by their path in the folder. */
  files?: Readonly<Record<string, string>>;
}

/** A temporary folder that goes away at the end of its scope. */
export class Folder implements AsyncDisposable {
  private constructor(readonly path: string) {}

  static async make({ services, env = {}, files = {} }: FolderContents = {}): Promise<Folder> {
    const folder = new Folder(await Deno.realPath(await Deno.makeTempDir({ prefix: "orchestrator-test-" })));
    if (services !== undefined) await folder.write("services.json", JSON.stringify({ services }, null, 2));
    if (env !== null) {
      const lines = typeof env === "string"
        ? env
        : Object.entries(env).map(([name, value]) => `${name}='${value}'\n`).join("");
      await folder.write(".env", lines);
    }
    for (const [path, text] of Object.entries(files)) await folder.write(path, text);
    return folder;
  }

  /** Writes a file, with the folders above it. */
  async write(path: string, text: string): Promise<void> {
    const whole = `${this.path}/${path}`;
    await Deno.mkdir(whole.slice(0, whole.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(whole, text);
  }

  /** The text of a file, or nothing while there is none. */
  async read(path: string): Promise<string> {
    try {
      return await Deno.readTextFile(`${this.path}/${path}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return "";
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** One of a child's pipes, read to its end. */
export class Output {
  #bytes: Uint8Array[] = [];
  #text = "";
  #ended = false;
  #arrived = Promise.withResolvers<void>();
  /** Resolves when the pipe is closed. */
  readonly done: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.done = this.#read(stream);
  }

  /** All of it so far. */
  get text(): string {
    return this.#text;
  }

  /** All of it so far, as it came. */
  get bytes(): Uint8Array {
    return concat(this.#bytes);
  }

  /** Its lines so far, the last one perhaps not whole. */
  get lines(): string[] {
    const lines = this.#text.split("\n");
    if (lines.at(-1) === "") lines.pop();
    return lines;
  }

  /** Waits for the `nth` whole line that matches. */
  async line(pattern: RegExp | string, nth = 1): Promise<string> {
    const matches = (line: string) =>
      typeof pattern === "string" ? line.includes(pattern) : pattern.test(line);
    const lateAt = performance.now() + LIMIT_MS;
    for (;;) {
      const whole = this.#text.slice(0, this.#text.lastIndexOf("\n") + 1);
      const found = whole.split("\n").filter(matches)[nth - 1];
      if (found !== undefined) return found;
      if (this.#ended || performance.now() > lateAt) {
        throw new Error(`No line ${pattern} (${nth}) in:\n${this.#text}`);
      }
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((resolve) => timer = setTimeout(resolve, lateAt - performance.now()));
      await Promise.race([this.#arrived.promise, late]);
      clearTimeout(timer);
    }
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const streaming = new TextDecoder();
    for await (const bytes of stream) {
      this.#bytes.push(bytes);
      this.#text += streaming.decode(bytes, { stream: true });
      // A run that prints without pause on a slow machine: nobody looks for what came first.
      if (this.#text.length > TEXT_LIMIT) this.#text = this.#text.slice(-TEXT_LIMIT / 2);
      this.#arrived.resolve();
      this.#arrived = Promise.withResolvers();
    }
    this.#ended = true;
    this.#arrived.resolve();
  }
}

/** How a test starts the orchestrator. */
export interface StartOptions {
  /** Of the test's environment, over which these come; `undefined` takes one away. */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Where it is started; the folder of the test otherwise. */
  cwd?: string;
  /** `unread`: a pipe that nobody reads until `readOutput` or `closeOutput`. */
  stdout?: "read" | "unread";
  /** Program and first arguments instead of `orchestratorCommand()`. */
  program?: readonly string[];
  /** A shell text in which `"$@"` is the orchestrator, as in `'"$@" | head -1'`. */
  shell?: string;
}

/** The bundled script or the binary that tests start in place of the source. */
export const GIVEN = Deno.env.get("ORCHESTRATOR_BIN") || undefined;
/** Whether what tests start is a binary. */
export const COMPILED = GIVEN !== undefined && !isScript(GIVEN);

function isScript(path: string): boolean {
  return /\.[jt]s$/.test(path);
}

/** Program and first arguments that run a script or a binary. */
export function scriptCommand(path: string): string[] {
  return isScript(path) ? [Deno.execPath(), "run", "-A", path] : [path];
}

/** Program and first arguments that stand for `orchestrator` on a command line. */
export function orchestratorCommand(): string[] {
  return scriptCommand(GIVEN ?? `${ROOT}/orchestrator.ts`);
}

/** An orchestrator that runs as a child of the test. Leaving its scope ends it and all that it has started. */
export class Run implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #mark: string;
  #ended = false;
  readonly #exit: Promise<Deno.CommandStatus>;
  readonly #unread: ReadableStream<Uint8Array> | null;
  readonly out: Output;
  readonly err: Output;

  /**
   * Starts `orchestrator ...args --infrastructure FOLDER`; without a folder, just `orchestrator ...args`.
   */
  constructor(folder: Folder | null, args: readonly string[] = [], options: StartOptions = {}) {
    const { name, value } = newMark();
    this.#mark = `${name}=${value}`;
    const words = [
      ...options.program ?? orchestratorCommand(),
      ...args,
      ...folder === null ? [] : ["--infrastructure", folder.path],
    ];
    const [program, ...rest] = options.shell === undefined
      ? words
      : ["/bin/sh", "-c", options.shell, "sh", ...words];
    const environment: Record<string, string> = { ...Deno.env.toObject(), DENO_NO_UPDATE_CHECK: "1" };
    for (const [key, text] of Object.entries(options.environment ?? {})) {
      if (text === undefined) delete environment[key];
      else environment[key] = text;
    }
    this.#child = new Deno.Command(program!, {
      args: rest,
      cwd: options.cwd ?? folder?.path ?? ROOT,
      env: { ...environment, [name]: value },
      clearEnv: true,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#unread = options.stdout === "unread" ? this.#child.stdout : null;
    this.out = new Output(
      this.#unread === null ? this.#child.stdout : new ReadableStream({ start: (c) => c.close() }),
    );
    this.err = new Output(this.#child.stderr);
    this.#exit = this.#child.status.then((status) => {
      this.#ended = true;
      return status;
    });
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** How it ended, once all that it wrote is read. */
  get exit(): Promise<{ code: number; signal: string | null }> {
    return Promise.all([this.#exit, this.out.done, this.err.done]).then(([{ code, signal }]) => ({
      code,
      signal,
    }));
  }

  /** Waits for the end and gives the exit status. */
  async code(): Promise<number> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`Not ended in time; it wrote:\n${this.out.text}`)), LIMIT_MS);
    });
    try {
      return (await Promise.race([this.exit, late])).code;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits for the `nth` line of its output that matches. */
  line(pattern: RegExp | string, nth = 1): Promise<string> {
    return this.out.line(pattern, nth);
  }

  /** Sends it a signal. */
  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Asks it to stop and waits for the exit status. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<number> {
    this.signal(signal);
    return await this.code();
  }

  /** What runs of it, without the process that the test started: its services and all of theirs, and its guard. */
  processes(): Marked[] {
    return processesWith(this.#mark).filter(({ pid }) => pid !== this.pid);
  }

  /** Resolves when nothing of it runs any more; names what does otherwise. */
  async allGone(limitMs = LIMIT_MS): Promise<void> {
    try {
      await waitUntil(() => processesWith(this.#mark).length === 0, "all processes are gone", limitMs);
    } catch {
      throw new Error(
        `Still there: ${JSON.stringify(processesWith(this.#mark))}; it wrote:\n${this.out.text}`,
      );
    }
  }

  /** The pipe that `stdout: "unread"` left alone, from now on read. */
  readOutput(): Output {
    return new Output(this.#unread ?? new ReadableStream());
  }

  /** Closes the reading end of that pipe. */
  async closeOutput(): Promise<void> {
    await this.#unread?.cancel();
  }

  /** @throws when it ended by itself and left something behind: that is a fault wherever it shows */
  async [Symbol.asyncDispose](): Promise<void> {
    const endedAlone = this.#ended;
    const left = endedAlone ? this.processes() : [];
    await endMarked(this.#mark);
    await this.#exit;
    if (this.#unread !== null && !this.#unread.locked) await this.#unread.cancel();
    await Promise.all([this.out.done, this.err.done]);
    if (left.length > 0) throw new Error(`Left behind: ${JSON.stringify(left)}; it wrote:\n${this.out.text}`);
  }
}

/** What a program that ends by itself wrote and returned. */
export async function runToEnd(
  folder: Folder | null,
  args: readonly string[],
  options: StartOptions = {},
): Promise<{ code: number; out: string; err: string }> {
  await using run = new Run(folder, args, options);
  const code = await run.code();
  return { code, out: run.out.text, err: run.err.text };
}

/** A program's whole output, as text. */
export async function outputOf(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await new Deno.Command(program, { args, stdin: "null", stderr: "null" }).output();
  return decoder.decode(stdout);
}
