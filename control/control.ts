/**
 * Makes a run known to others, and keeps it known: the folder's lock, the record of what was started, the logs, and the
 * control socket. What someone removes of them is put back, since nobody could reach the run otherwise.
 *
 * @module
 */

import { systemClock } from "../config/clock.ts";
import { systemReason, UserError } from "../config/errors.ts";
import { dirname } from "../config/settings.ts";
import { bootId, ownIdentity, readProcess } from "../process/procfs.ts";
import type { Event, Listener, RunResult } from "../supervisor/model.ts";
import type { ControlApi } from "./api.ts";
import type { LogFiles } from "./log_files.ts";
import type { RunRecord } from "./run_folder.ts";
import { inodeOf, makePrivateFolder, RunFolder, socketPath } from "./run_folder.ts";
import type { RunContext } from "./run_options.ts";
import type { ControlServer } from "./server.ts";

/** How long the record may lag behind what runs; meanwhile the mark in their environment shows what is ours. */
const RECORD_MS = 20;
/** How long the system may take to report the end of a folder. */
const SETTLED_MS = 200;
/** How often it is looked whether all is there, without a report: seldom, since a run at rest shall cost nothing. */
const LOOK_MS = 30_000;

/** A run as others find it. */
export class Control implements Listener {
  readonly #run: RunContext;
  readonly #folder: RunFolder;
  readonly #logs: LogFiles | null;
  readonly #startedAt = new Date().toISOString();
  readonly #bootId = bootId();
  /** What is to be logged as soon as the run has its listeners. */
  readonly #warnings: string[] = [];
  /** Another one after someone removed the folder; `null` when the folder can't be used. */
  #lock: Deno.FsFile | null = null;
  /** The path of the socket; empty: there is none. */
  #socket = "";
  #groups = new Map<number, RunRecord["groups"][number]>();
  #recordTimer: ReturnType<typeof setTimeout> | undefined;
  #api: ControlApi | null = null;
  #server: ControlServer | null = null;
  #watcher: Deno.FsWatcher | null = null;
  #closed = false;

  private constructor(run: RunContext, logs: LogFiles | null) {
    this.#run = run;
    this.#logs = logs;
    this.#folder = new RunFolder(run.supervisor.home.infrastructure);
  }

  /**
   * Takes the folder for this process, stops what a dead run left in it, and begins to keep logs.
   *
   * @throws {UserError} when another orchestrator runs there, with its PID
   */
  static async open(run: RunContext): Promise<Control> {
    const { supervisor, options: { logs, detached = false } } = run;
    const { infrastructure } = supervisor.home;
    let files: LogFiles | null = null;
    if (logs !== undefined || detached) {
      const { LogFiles } = await import("./log_files.ts");
      const report = (text: string) => supervisor.log("error", text);
      files = new LogFiles({ folder: `${infrastructure}/logs`, ...logs }, report);
    }
    const control = new Control(run, files);
    try {
      control.#lock = await control.#folder.take();
      control.#warnings.push(...await control.#folder.clearUp());
      control.#socket = socketPath(infrastructure);
    } catch (error) {
      if (detached) throw new UserError(control.#describe(error));
      if (error instanceof UserError && control.#lock === null) throw error;
      control.#warnings.push(control.#unreachable(error));
    }
    return control;
  }

  /** Listens to the run and answers for it. Called before its first service starts. */
  start(): void {
    const { supervisor } = this.#run;
    supervisor.listen(this);
    for (const message of this.#warnings) supervisor.log("warn", message);
    this.#writeRecord();
    // What nobody waits for comes when the first services are on their way.
    queueMicrotask(() => this.#serve());
  }

  event(event: Event): void {
    this.#logs?.event(event);
    if (event.kind === "state" && this.#recordTimer === undefined) {
      // Not at once: the runtime's first timer takes longer than a service's start.
      queueMicrotask(() => this.#recordTimer ??= setTimeout(() => this.#writeRecord(), RECORD_MS));
    }
    this.#api?.event(event);
  }

  /** Reads the definitions again and carries out what changed. SIGHUP asks for it when detached. */
  async reload(): Promise<void> {
    try {
      const { definitions } = await this.#loadApi();
      await definitions.reload(false);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#run.supervisor.log("error", `Nothing was reloaded. ${error.message}`);
    }
  }

  /** Reports the end of the run to everyone and leaves the folder to the next one. */
  async close(result: RunResult | null, restarting: boolean): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#recordTimer);
    this.#watcher?.[Symbol.dispose]();
    if (result !== null) this.#api?.exit(result, restarting);
    await this.#server?.close();
    this.#logs?.close();
    if (this.#lock === null) return;
    this.#folder.forget();
    this.#lock.close();
  }

  /** Writes down what runs now. */
  #writeRecord(): void {
    clearTimeout(this.#recordTimer);
    this.#recordTimer = undefined;
    if (this.#lock === null || this.#closed) return;
    const { supervisor } = this.#run;
    const groups = new Map<number, RunRecord["groups"][number]>();
    for (const { name: service, state } of supervisor.snapshot().services) {
      if (!("pid" in state) || state.pid === null) continue;
      const { pid } = state;
      const known = this.#groups.get(pid);
      const startTicks = known?.startTicks ?? readProcess(pid)?.startTicks;
      if (startTicks !== undefined) groups.set(pid, known ?? { service, pid, startTicks });
    }
    this.#groups = groups;
    try {
      this.#folder.write({
        orchestrator: ownIdentity(),
        bootId: this.#bootId,
        run: supervisor.run,
        startedAt: this.#startedAt,
        socket: this.#socket,
        logs: this.#logs?.folder ?? null,
        groups: [...groups.values()],
      });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      // A full disk: the lock and the marks still show what is ours.
    }
  }

  async #loadApi(): Promise<ControlApi> {
    const { ControlApi } = await import("./api.ts");
    return this.#api ??= new ControlApi(this.#run, this.#startedAt, this.#logs);
  }

  async #serve(): Promise<void> {
    if (this.#socket === "") return;
    const { supervisor, options, stop } = this.#run;
    try {
      await this.#listen();
    } catch (error) {
      if (options.detached) stop(); // nobody else could: it has no terminal either
      return supervisor.log("warn", this.#unreachable(error));
    }
    try {
      await this.#keep();
    } catch (error) {
      // No watch is to be had, or the folder is gone for good: the run does not depend on it.
      if (!this.#closed) supervisor.log("warn", this.#unreachable(error));
    }
  }

  /** Listens on the socket, with all loaded that a request needs: the program's files may be others by then. */
  async #listen(): Promise<void> {
    const api = await this.#loadApi();
    const { ControlServer } = await import("./server.ts");
    if (this.#closed) return;
    makePrivateFolder(dirname(this.#socket));
    this.#server = new ControlServer(this.#socket, (request) => api.answer(request));
  }

  /** Puts back what is missing, until the close. @throws when nothing can be watched, or there is no place for it */
  async #keep(): Promise<void> {
    while (!this.#closed) {
      try {
        if (this.#isWhole()) await this.#damage();
        if (this.#closed) return;
        if (!this.#isWhole()) await this.#repair();
      } catch (error) {
        // Removed in the middle of it: another round puts it back, as long as there is a place for it.
        const hasPlace = this.#folders().every((path) => inodeOf(dirname(path)) !== null);
        if (!(error instanceof Deno.errors.NotFound) || !hasPlace) throw error;
      }
      // A folder is really gone once the lock in it is let go; what is reported of that would end a watch on the new one.
      if (!this.#closed) await systemClock.sleep(SETTLED_MS);
    }
  }

  #folders(): string[] {
    return [...new Set([this.#folder.path, dirname(this.#socket)])];
  }

  #isWhole(): boolean {
    try {
      const isReachable = this.#server?.isReachable ?? false;
      return isReachable && this.#folder.isLockFile(this.#lock) && this.#folder.isWritten;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      return false; // who repairs it meets the same error
    }
  }

  /** Resolves when something is missing, or at the close. */
  async #damage(): Promise<void> {
    using watcher = Deno.watchFs(this.#folders(), { recursive: false });
    this.#watcher = watcher;
    if (!this.#isWhole()) return; // what went away before the watch began is not reported
    // Nor does the runtime report each removal of a whole folder: it looks where the folder was.
    const timer = setInterval(() => this.#isWhole() || watcher[Symbol.dispose](), LOOK_MS);
    try {
      for await (const event of watcher) if (event.kind !== "access" && !this.#isWhole()) return;
    } finally {
      clearInterval(timer);
    }
  }

  async #repair(): Promise<void> {
    if (!this.#folder.isLockFile(this.#lock)) {
      const lock = this.#folder.lock();
      if (lock === null) throw new UserError(`${this.#folder.path} belongs to another orchestrator now.`);
      this.#lock?.close();
      this.#lock = lock;
    }
    this.#writeRecord();
    if (this.#server?.isReachable) return;
    // First the old one: its end takes away whatever has its path. Who follows there comes again.
    const old = this.#server;
    this.#server = null; // the run may end meanwhile
    await old?.close(0);
    await this.#listen();
    if (this.#closed) return;
    this.#run.supervisor.log("warn", `${this.#socket} was removed and has been put back.`);
  }

  /** The message that this run can't be talked to; it goes on. */
  #unreachable(error: unknown): string {
    this.#socket = "";
    const why = this.#describe(error);
    return `${why} This run goes on, but status, logs, stop and the like can't reach it.`;
  }

  #describe(error: unknown): string {
    if (!(error instanceof Error)) throw error;
    if (error instanceof UserError) return error.message;
    return `Cannot use ${this.#folder.path}: ${systemReason(error)}.`;
  }
}
