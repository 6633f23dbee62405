/**
 * A temporary infrastructure folder with orchestrators in it.
 *
 * @module
 */

import {
  endMarked,
  Folder,
  type FolderContents,
  LIMIT_MS,
  type Marked,
  newMark,
  orchestratorCommand,
  Output,
  processesWith,
  type ServiceFields,
  waitUntil,
} from "./run.ts";
import { ask, request } from "../control/client.ts";
import { Mirror } from "../control/mirror.ts";
import { isSame } from "../process/procfs.ts";
import { RunFolder } from "../control/run_folder.ts";
import type { RunRecord } from "../control/run_folder.ts";

/** A service that is ready as soon as it prints so, and ends at SIGTERM. */
export function quick(name: string, more: Partial<ServiceFields> = {}): ServiceFields {
  return { name, command: "echo ready; exec sleep 1000", health: { log: "ready" }, ...more };
}

/** One command as a child of the test. */
export class Command {
  readonly #child: Deno.ChildProcess;
  readonly out: Output;
  readonly err: Output;

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.out = new Output(child.stdout);
    this.err = new Output(child.stderr);
  }

  get pid(): number {
    return this.#child.pid;
  }

  signal(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Waits for its end. @throws with what it wrote, when that does not come */
  async ended(): Promise<{ code: number; signal: string | null; out: string; err: string }> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      const late = () => new Error(`It has not ended in time; it wrote:\n${this.out.text}\n${this.err.text}`);
      timer = setTimeout(() => reject(late()), LIMIT_MS);
    });
    try {
      const all = Promise.all([this.#child.status, this.out.done, this.err.done]);
      const [{ code, signal }] = await Promise.race([all, late]);
      return { code, signal, out: this.out.text, err: this.err.text };
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A folder and everything that is started in it. Leaving its scope ends all of it. */
export class Site implements AsyncDisposable {
  readonly #folder: Folder;
  readonly #mark = newMark();

  /** The infrastructure folder. */
  readonly path: string;

  private constructor(folder: Folder, path: string) {
    this.#folder = folder;
    this.path = path;
  }

  /** Makes the folder. @param contents `deeper`: its path within the temporary one, where the contents stand */
  static async make({ deeper, ...contents }: FolderContents & { deeper?: string }): Promise<Site> {
    const folder = await Folder.make(deeper === undefined ? contents : {});
    if (deeper === undefined) return new Site(folder, folder.path);
    await folder.write(`${deeper}/services.json`, JSON.stringify({ services: contents.services }));
    return new Site(folder, `${folder.path}/${deeper}`.replace(/\/$/, ""));
  }

  get folder(): Folder {
    return this.#folder;
  }

  /** Starts `orchestrator ...args --infrastructure FOLDER`. */
  spawn(args: readonly string[], environment: Readonly<Record<string, string>> = {}): Command {
    const [program, ...first] = orchestratorCommand();
    return new Command(
      new Deno.Command(program!, {
        args: [...first, ...args, "--infrastructure", this.path],
        cwd: this.path,
        env: { DENO_NO_UPDATE_CHECK: "1", ...environment, [this.#mark.name]: this.#mark.value },
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
      }).spawn(),
    );
  }

  /** Runs a command to its end. */
  async run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    const command = this.spawn(args);
    return await command.ended();
  }

  /** Starts an orchestrator in the foreground and waits until it can be talked to. */
  async foreground(...args: string[]): Promise<Command> {
    const command = this.spawn(["--no-dashboard", ...args]);
    await this.reachable(command.pid);
    return command;
  }

  /** Starts one in the background. @returns its PID */
  async background(...args: string[]): Promise<number> {
    const { code, err } = await this.run("-d", ...args);
    if (code !== 0) throw new Error(`-d ended with ${code}:\n${err}`);
    return this.record().orchestrator.pid;
  }

  /** What the run in the folder has written down. */
  record(): RunRecord {
    const record = new RunFolder(this.path).read();
    if (record === null) throw new Error(`Nothing is written down in ${this.path}`);
    return record;
  }

  /** Waits until the orchestrator answers. @param pid which one; any by default */
  async reachable(pid?: number): Promise<void> {
    await waitUntil(async () => {
      const record = new RunFolder(this.path).read();
      if (record === null || !isSame(record.orchestrator, record.bootId)) return false;
      if (pid !== undefined && record.orchestrator.pid !== pid) return false;
      return await ask(record.socket, "/status").then(() => true, () => false);
    }, "the orchestrator answers");
  }

  /** Asks the orchestrator over its socket. @throws with the message of an answer that is an error */
  async ask(method: string, target: string, body?: unknown): Promise<unknown> {
    const reply = await request(this.record().socket, method, target, body);
    const value = await reply.json();
    if (!reply.ok) throw new Error(value.error);
    return value;
  }

  /** A text without what differs from run to run: the folder, PIDs, moments, spans and sizes of memory. */
  plain(text: string): string {
    return text.replaceAll(this.path, "DIR")
      .replace(/\bPID \d+/g, "PID N")
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
      .replace(/\d+(?:\.\d+)? (?:ms|s|min|h)\b(?: \d+ s\b)?/g, "SPAN")
      .replace(/\d+\.\d MiB/g, "SIZE");
  }

  /** Follows the orchestrator. */
  mirror(recent = 0): Promise<Mirror> {
    return Mirror.open(this.record().socket, recent);
  }

  /** Waits until every named service runs. */
  async running(...names: string[]): Promise<void> {
    using mirror = await this.mirror();
    const all = () => names.every((name) => mirror.row(name)?.state.kind === "running");
    if (all()) return;
    for await (const _ of mirror.messages()) if (all()) return;
    throw new Error(`${names} do not all run`);
  }

  /** The PID of a service. */
  async pidOf(name: string): Promise<number> {
    using mirror = await this.mirror();
    const state = mirror.row(name)?.state;
    const pid = state !== undefined && "pid" in state ? state.pid : null;
    if (pid === null) throw new Error(`${name} has no process`);
    return pid;
  }

  /** Everything that was started here and still runs. */
  processes(): Marked[] {
    return processesWith(`${this.#mark.name}=${this.#mark.value}`);
  }

  /** Waits until nothing that was started here runs any more. */
  async allGone(limitMs?: number): Promise<void> {
    try {
      await waitUntil(() => this.processes().length === 0, "all processes are gone", limitMs);
    } catch (error) {
      throw new Error(`Still there: ${JSON.stringify(this.processes())}`, { cause: error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await endMarked(`${this.#mark.name}=${this.#mark.value}`);
    await this.#folder[Symbol.asyncDispose]();
  }
}
