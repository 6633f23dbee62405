/**
 * The control socket, its lock and record as others find them: what someone removes is put back, since nobody could
 * reach the run otherwise.
 *
 * @module
 */

import { UserError } from "../config/errors.ts";
import { dirname } from "../config/settings.ts";
import type { RunFolder } from "./record.ts";
import { inodeOf, makePrivateFolder } from "./record.ts";
import type { RecordKeeper } from "./record_keeper.ts";
import type { ControlAnswer, ControlRequest, ControlServer } from "./server.ts";

/** How long the system may take to report the end of a folder. */
const SETTLED_MS = 200;

/** What is kept. */
export interface Kept {
  folder: RunFolder;
  lock: Deno.FsFile;
  /** The path of the socket. */
  socket: string;
  answer: (request: ControlRequest) => Promise<ControlAnswer>;
  record: RecordKeeper;
}

/** Keeps one run reachable. */
export class SocketKeeper {
  /** The lock that is held; another one after someone removed the folder. */
  lock: Deno.FsFile;
  readonly #kept: Kept;
  #server: ControlServer | null = null;
  #watcher: Deno.FsWatcher | null = null;
  #closed = false;

  constructor(kept: Kept) {
    this.#kept = kept;
    this.lock = kept.lock;
  }

  /** Listens on the socket. @throws what the system says when that can't be */
  async open(): Promise<void> {
    const { ControlServer } = await import("./server.ts");
    if (this.#closed) return;
    makePrivateFolder(dirname(this.#kept.socket));
    this.#server = new ControlServer(this.#kept.socket, this.#kept.answer);
  }

  /**
   * Watches until `close`.
   *
   * @param repaired called when the socket was put back
   * @throws what the system says when there is nothing to watch any more
   */
  async keep(repaired: () => void): Promise<void> {
    while (!this.#closed) {
      try {
        if (this.#isWhole()) await this.#damaged();
        if (this.#closed) return;
        if (!this.#isWhole()) await this.#repair(repaired);
      } catch (error) {
        // Removed in the middle of it: another round puts it back, as long as there is a place for it.
        if (!(error instanceof Deno.errors.NotFound) || !this.#hasPlace()) throw error;
      }
      // A folder is really gone once the lock in it is let go; what is reported of that would end a watch on the new one.
      await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    }
  }

  /** Takes no more clients; resolves when the present ones have read what is on its way. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#watcher !== null) closeWatcher(this.#watcher);
    await this.#server?.close();
  }

  #isWhole(): boolean {
    const { folder } = this.#kept;
    return (this.#server?.isReachable ?? false) && folder.isLockFile(this.lock) && folder.isWritten;
  }

  /** Whether the folders stand in one that is there. */
  #hasPlace(): boolean {
    const { folder, socket } = this.#kept;
    return [folder.path, dirname(socket)].every((path) => inodeOf(dirname(path)) !== null);
  }

  /** Resolves when something is missing, or at the close. */
  async #damaged(): Promise<void> {
    const { folder, socket } = this.#kept;
    const watcher = Deno.watchFs([...new Set([folder.path, dirname(socket)])], { recursive: false });
    this.#watcher = watcher;
    // What went away before the watch began is not reported.
    if (this.#isWhole()) {
      for await (const event of watcher) {
        if (event.kind !== "access" && !this.#isWhole()) break;
      }
    }
    closeWatcher(watcher);
  }

  async #repair(repaired: () => void): Promise<void> {
    const { folder, record } = this.#kept;
    if (!folder.isLockFile(this.lock)) {
      const lock = folder.lock();
      if (lock === null) throw new UserError(`${folder.path} belongs to another orchestrator now.`);
      this.lock.close();
      this.lock = lock;
    }
    record.write();
    if (this.#server?.isReachable) return;
    // First the old one: its end takes away whatever has its path. Who follows there comes again.
    await this.#server?.close(0);
    await this.open();
    repaired();
  }
}

function closeWatcher(watcher: Deno.FsWatcher): void {
  try {
    watcher.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // its loop closed it
  }
}
