/**
 * The folder `.orchestrator` of an infrastructure folder: the lock that lets one orchestrator run there, and the
 * record of what runs, so that the next one finds what a dead one left.
 *
 * A process is ours only where that can be proved: the boot is the same and either the PID's start time is the one
 * that was written down, or the process carries the mark of the run in its environment. Names and ports prove nothing.
 *
 * @module
 */

import { encoder } from "../config/bytes.ts";
import { UserError } from "../config/errors.ts";
import type { Identity, Process } from "../process/procfs.ts";
import { bootId, hasMark, ownDescriptorOf, processes } from "../process/procfs.ts";

/** What a run leaves behind for the next one. */
export interface RunRecord {
  orchestrator: Identity;
  bootId: string;
  /** What the run's children carry in `ORCHESTRATOR_RUN`. */
  run: string;
  /** ISO time. */
  startedAt: string;
  socket: string;
  /** The folder of the log files, or `null` when none are written. */
  logs: string | null;
  groups: readonly (Identity & { service: string })[];
}

/** The processes that a run left and that are provably its own. */
export function survivors(record: RunRecord): Process[] {
  if (record.bootId === "" || record.bootId !== bootId()) return []; // that boot's processes are gone
  const all = [...processes()];
  const starts = new Map(all.map(({ pid, startTicks }) => [pid, startTicks]));
  // A group is known by its leader. When that is gone, its number may have been given away: only the mark counts.
  const groups = new Set(
    record.groups.filter(({ pid, startTicks }) => starts.get(pid) === startTicks).map(({ pid }) => pid),
  );
  return all.filter(({ pid, group }) => pid !== Deno.pid && (groups.has(group) || hasMark(pid, record.run)));
}

/** How long what a dead run left may take to stop before it is killed: as long as its guard waits. */
const GRACE_MS = 10_000;

/** Stops what a run left. @returns how many processes that were, and the PIDs that would not go */
export async function stopSurvivors(
  record: RunRecord,
  graceMs = GRACE_MS,
): Promise<{ count: number; left: number[] }> {
  const seen = new Set<number>();
  const killAt = performance.now() + graceMs;
  for (let pauseMs = 10;; pauseMs = Math.min(pauseMs * 2, 200)) {
    const left = survivors(record);
    const late = performance.now() > killAt;
    for (const { pid } of left) {
      if (seen.has(pid) && !late) continue;
      seen.add(pid);
      try {
        Deno.kill(pid, late ? "SIGKILL" : "SIGTERM");
      } catch (error) {
        // It ended since, or it is not ours to signal: then it is named below.
        if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied)) {
          if (!(error instanceof TypeError)) throw error;
        }
      }
    }
    if (left.length === 0 || performance.now() > killAt + 2_000) {
      return { count: seen.size, left: left.map(({ pid }) => pid) };
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** The longest path a Unix socket may have, in bytes. */
const LONGEST_SOCKET = Deno.build.os === "darwin" ? 103 : 107;

/**
 * Where the socket of an infrastructure folder is.
 *
 * @throws {UserError} when the path is too long and there is no other place
 */
export function socketPath(infrastructure: string): string {
  const fits = (path: string) => encoder.encode(path).length <= LONGEST_SOCKET;
  const path = `${infrastructure}/.orchestrator/control.sock`;
  if (fits(path)) return path;
  const folder = Deno.env.get("XDG_RUNTIME_DIR");
  const other = `${folder}/orchestrator-${digest(path)}/control.sock`;
  if (folder && fits(other)) return other;
  throw new UserError(
    `The path ${path} is too long for a socket; set XDG_RUNTIME_DIR to a folder of your own with a short path.`,
  );
}

/** A short name for a text: FNV-1a over 64 bits. It only has to differ between the folders of one user. */
function digest(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of encoder.encode(text)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, "0");
}

/** The folder `.orchestrator`: who may run, and what ran. */
export class RunFolder {
  readonly path: string;
  #written: number | null = null;

  constructor(infrastructure: string) {
    this.path = `${infrastructure}/.orchestrator`;
  }

  /**
   * Takes the lock that one orchestrator holds for as long as it lives; the system releases it when that dies.
   *
   * @returns `null` when another one has it
   * @throws what the system says when the folder can't be made or written
   */
  lock(): Deno.FsFile | null {
    for (;;) {
      makePrivateFolder(this.path);
      const file = Deno.openSync(`${this.path}/lock`, { create: true, write: true, mode: 0o600 });
      if (!tryLock(file, true)) {
        file.close();
        return null;
      }
      // Someone may have removed the file between our opening and our locking it.
      if (this.isLockFile(file)) return file;
      file.close();
    }
  }

  /** Whether an orchestrator holds the lock now. Changes nothing. */
  isLocked(): boolean {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(`${this.path}/lock`, { read: true });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      if (error instanceof Deno.errors.NotADirectory) return false;
      throw error;
    }
    try {
      // Shared, so that two who only look do not take each other for a holder.
      return !tryLock(file, false);
    } finally {
      file.close();
    }
  }

  /** What the present or last run wrote down, or `null`. A file that can't be understood counts as none. */
  read(): RunRecord | null {
    try {
      return parseRecord(JSON.parse(Deno.readTextFileSync(`${this.path}/run.json`)));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof SyntaxError) return null;
      if (error instanceof Deno.errors.NotADirectory) return null;
      throw error;
    }
  }

  /** When the record was last written, or `null`. */
  writtenAt(): Date | null {
    try {
      return Deno.statSync(`${this.path}/run.json`).mtime;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return null;
      throw error;
    }
  }

  /** Writes the record down, whole or not at all. @throws what the system says */
  write(record: RunRecord): void {
    makePrivateFolder(this.path);
    const file = `${this.path}/run.json`;
    Deno.writeTextFileSync(`${file}.new`, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
    Deno.renameSync(`${file}.new`, file);
    this.#written = inodeOf(file);
  }

  /** Whether others find the record that was last written here. */
  get isWritten(): boolean {
    return this.#written !== null && inodeOf(`${this.path}/run.json`) === this.#written;
  }

  /** A run ended well: it leaves nothing. The lock stays, or two could hold one each. */
  forget(): void {
    for (const name of ["run.json", "run.json.new"]) removeIfThere(`${this.path}/${name}`);
  }

  /** Whether `file` is the lock file that others find. */
  isLockFile(file: Deno.FsFile): boolean {
    return inodeOf(`${this.path}/lock`) === file.statSync().ino;
  }
}

/**
 * Locks a file if nobody else has it. Runtimes before 2.7 offer only the lock that waits: there the C library is asked.
 *
 * @param exclusive whether nobody else may share it
 */
function tryLock(file: Deno.FsFile, exclusive: boolean): boolean {
  const { tryLockSync }: Partial<Deno.FsFile> = file;
  if (tryLockSync !== undefined) return tryLockSync.call(file, exclusive);
  const libc = Deno.dlopen("libc.so.6", { flock: { parameters: ["i32", "i32"], result: "i32" } });
  const [SHARED, EXCLUSIVE, AT_ONCE] = [1, 2, 4];
  return libc.symbols.flock(ownDescriptorOf(file) ?? -1, (exclusive ? EXCLUSIVE : SHARED) | AT_ONCE) === 0;
}

/** Makes a folder that only its owner may enter. */
export function makePrivateFolder(path: string): void {
  try {
    Deno.mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    const { mode, isDirectory } = Deno.statSync(path);
    if (isDirectory && mode !== null && (mode & 0o777) !== 0o700) Deno.chmodSync(path, 0o700);
  }
}

/** What distinguishes a file from another one in its place, or `null` when there is none. */
export function inodeOf(path: string): number | null {
  try {
    return Deno.lstatSync(path).ino;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    throw error;
  }
}

/** Removes a file; one that is not there is fine. */
export function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function parseRecord(value: unknown): RunRecord | null {
  if (!isMap(value) || !isIdentity(value.orchestrator)) return null;
  const { orchestrator, bootId, run, startedAt, socket, logs, groups } = value;
  if (typeof bootId !== "string" || typeof run !== "string" || typeof startedAt !== "string") return null;
  if (typeof socket !== "string" || (logs !== null && typeof logs !== "string")) return null;
  if (run === "" || !Array.isArray(groups)) return null;
  return { orchestrator, bootId, run, startedAt, socket, logs, groups: groups.filter(isGroup) };
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isIdentity(value: unknown): value is Identity {
  if (!isMap(value)) return false;
  const { pid, startTicks } = value;
  // PID 1 and below are never a service: -1 would mean everything.
  return Number.isInteger(pid) && Number(pid) > 1 && Number.isInteger(startTicks) && Number(startTicks) > 0;
}

function isGroup(value: unknown): value is Identity & { service: string } {
  return isMap(value) && typeof value.service === "string" && isIdentity(value);
}
