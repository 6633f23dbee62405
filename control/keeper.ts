/**
 * Keeps a run as others find it: its lock, its record and its control socket. What someone removes is put back, since
 * nobody could reach the run otherwise.
 *
 * @module
 */

import { systemClock } from "../config/clock.ts";
import { UserError } from "../config/errors.ts";
import { dirname } from "../config/settings.ts";
import { bootId, ownIdentity, readProcess } from "../process/procfs.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { RunFolder, RunRecord } from "./run_folder.ts";
import { inodeOf, makePrivateFolder } from "./run_folder.ts";
import type { ControlServer, RequestHandler } from "./server.ts";

/** How long the record may lag behind what runs; meanwhile the mark in their environment shows what is ours. */
const RECORD_MS = 20;
/** How long the system may take to report the end of a folder. */
const SETTLED_MS = 200;
/** How often it is looked whether all is there, without a report: less than a client waits for a missing socket. */
const LOOK_MS = 2_000;

/** The lock, the record and the socket of one run. */
export class RunKeeper {
  /** The path of the socket; empty: there is none. */
  socket = "";
  readonly #folder: RunFolder;
  readonly #supervisor: Supervisor;
  readonly #facts: Pick<RunRecord, "startedAt" | "logs">;
  readonly #handle: RequestHandler;
  readonly #bootId = bootId();
  /** The lock that is held; another one after someone removed the folder. */
  #lock: Deno.FsFile;
  #groups = new Map<number, RunRecord["groups"][number]>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #server: ControlServer | null = null;
  #watcher: Deno.FsWatcher | null = null;
  #closed = false;

  constructor(
    folder: RunFolder,
    lock: Deno.FsFile,
    supervisor: Supervisor,
    facts: Pick<RunRecord, "startedAt" | "logs">,
    handle: RequestHandler,
  ) {
    this.#folder = folder;
    this.#lock = lock;
    this.#supervisor = supervisor;
    this.#facts = facts;
    this.#handle = handle;
  }

  /** Writes the record once what happens in this moment has happened. */
  writeSoon(): void {
    if (this.#timer !== undefined) return;
    // Not at once: the runtime's first timer takes longer than a service's start.
    queueMicrotask(() => this.#timer ??= setTimeout(() => this.write(), RECORD_MS));
  }

  /** Writes down what runs now. */
  write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#closed) return;
    const groups = new Map<number, RunRecord["groups"][number]>();
    for (const { name: service, state } of this.#supervisor.snapshot().services) {
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
        run: this.#supervisor.run,
        ...this.#facts,
        socket: this.socket,
        groups: [...groups.values()],
      });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      // A full disk: the lock and the marks still show what is ours.
    }
  }

  /** Listens on the socket. @throws the system's error when that can't be */
  async listen(): Promise<void> {
    const { ControlServer } = await import("./server.ts");
    if (this.#closed) return;
    makePrivateFolder(dirname(this.socket));
    this.#server = new ControlServer(this.socket, this.#handle);
  }

  /** Watches until `close`, and puts back what is missing. @throws when nothing can be watched any more */
  async keep(repaired: () => void): Promise<void> {
    while (!this.#closed) {
      try {
        if (this.#isWhole()) await this.#damage();
        if (this.#closed) return;
        if (!this.#isWhole()) await this.#repair(repaired);
      } catch (error) {
        // Removed in the middle of it: another round puts it back, as long as there is a place for it.
        const hasPlace = this.#folders().every((path) => inodeOf(dirname(path)) !== null);
        if (!(error instanceof Deno.errors.NotFound) || !hasPlace) throw error;
      }
      // A folder is really gone once the lock in it is let go; what is reported of that would end a watch on the new one.
      await systemClock.sleep(SETTLED_MS);
    }
  }

  /** Ends the server when its clients have read what is on its way, and leaves the folder to the next run. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#watcher?.[Symbol.dispose]();
    await this.#server?.close();
    this.#folder.forget();
    this.#lock.close();
  }

  #folders(): string[] {
    return [...new Set([this.#folder.path, dirname(this.socket)])];
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

  async #repair(repaired: () => void): Promise<void> {
    if (!this.#folder.isLockFile(this.#lock)) {
      const lock = this.#folder.lock();
      if (lock === null) throw new UserError(`${this.#folder.path} belongs to another orchestrator now.`);
      this.#lock.close();
      this.#lock = lock;
    }
    this.write();
    if (this.#server?.isReachable) return;
    // First the old one: its end takes away whatever has its path. Who follows there comes again.
    await this.#server?.close(0);
    this.#server = null;
    await this.listen();
    repaired();
  }
}
