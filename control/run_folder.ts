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
import { systemClock } from "../config/clock.ts";
import { UserError } from "../config/errors.ts";
import { dirname, ifThere } from "../config/settings.ts";
import type { Identity, Process } from "../process/procfs.ts";
import { bootId, hasMark, isSame, ownDescriptorOf, processes } from "../process/procfs.ts";

/** What a run leaves behind for the next one. */
export interface RunRecord {
  orchestrator: Identity;
  bootId: string;
  /** What the run's children carry in `ORCHESTRATOR_RUN`. */
  run: string;
  /** ISO time. */
  startedAt: string;
  /** The path of the control socket; empty: it has none. */
  socket: string;
  /** The folder of the log files, or `null` when none are written. */
  logs: string | null;
  groups: readonly (Identity & { service: string })[];
}

/** How long someone may hold the lock without being known: one that is starting, or clears up. */
export const UNDER_WAY_MS = 15_000;

/** How long what a dead run left may take to stop before it is killed: as long as its guard waits. */
const GRACE_MS = 10_000;

/** The longest path a Unix socket may have, in bytes. */
const LONGEST_SOCKET = Deno.build.os === "darwin" ? 103 : 107;

/** The folder `.orchestrator`: who may run, and what ran. */
export class RunFolder {
  readonly path: string;
  readonly #record: string;
  #written: number | null = null;

  constructor(infrastructure: string) {
    this.path = `${infrastructure}/.orchestrator`;
    this.#record = `${this.path}/run.json`;
  }

  /** Takes the lock for a run, however long it serves a look or a clearing up. @throws {UserError} when one runs there */
  async take(): Promise<Deno.FsFile> {
    const lateAt = performance.now() + UNDER_WAY_MS;
    for (let pauseMs = 2;; pauseMs = Math.min(pauseMs * 2, 100)) {
      const lock = this.lock();
      const record = this.read();
      // Also when someone removed the lock file of one that runs.
      const { pid } = record?.orchestrator ?? { pid: Deno.pid };
      if (record !== null && pid !== Deno.pid && isSame(record.orchestrator, record.bootId)) {
        lock?.close();
        throw this.alreadyRuns(pid);
      }
      if (lock !== null) return lock;
      if (performance.now() > lateAt) throw this.alreadyRuns(null);
      await systemClock.sleep(pauseMs);
    }
  }

  /** The error that names the one that runs. @param pid `null`: it is not known */
  alreadyRuns(pid: number | null): UserError {
    const who = pid === null ? "Another orchestrator" : `An orchestrator with PID ${pid}`;
    return new UserError(
      `${who} runs in ${
        dirname(this.path)
      } already; "orchestrator status" shows it and "orchestrator stop" ends it.`,
    );
  }

  /**
   * Takes the lock that one orchestrator holds for as long as it lives; the system releases it when that dies.
   * `null`: another one has it. Throws the system's error when the folder can't be made or written.
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
    using file = ifThere(() => Deno.openSync(`${this.path}/lock`, { read: true }));
    // Shared, so that two who only look do not take each other for a holder.
    return file !== null && !tryLock(file, false);
  }

  /** Whether `file` is the lock file that others find. */
  isLockFile(file: Deno.FsFile | null): boolean {
    return file !== null && inodeOf(`${this.path}/lock`) === file.statSync().ino;
  }

  /** What the present or last run wrote down, or `null`. A file that can't be understood counts as none. */
  read(): RunRecord | null {
    const text = ifThere(() => Deno.readTextFileSync(this.#record));
    try {
      return text === null ? null : parseRecord(JSON.parse(text));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return null;
    }
  }

  /** Writes the record down, whole or not at all. @throws the system's error */
  write(record: RunRecord): void {
    makePrivateFolder(this.path);
    Deno.writeTextFileSync(`${this.#record}.new`, `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
    Deno.renameSync(`${this.#record}.new`, this.#record);
    this.#written = inodeOf(this.#record);
  }

  /** Whether others find the record that was last written here. */
  get isWritten(): boolean {
    return this.#written !== null && inodeOf(this.#record) === this.#written;
  }

  /** A run ended well: it leaves nothing. The lock stays, or two could hold one each. */
  forget(): void {
    for (const path of [this.#record, `${this.#record}.new`]) removeIfThere(path);
  }

  /** Stops what a dead run left. Asks for the lock to be held. @returns messages about it */
  async clearUp(): Promise<string[]> {
    const record = this.read();
    if (record === null) return [];
    const who = `The orchestrator with PID ${record.orchestrator.pid}, started ${record.startedAt},`;
    const messages: string[] = [];
    if (record.bootId !== bootId()) {
      messages.push(`${who} ended when the system was rebooted; none of its processes are left.`);
    } else {
      const { count, left } = await stopSurvivors(record);
      const what = count === 0
        ? "it left no processes running"
        : count === 1
        ? "1 process that it left running was stopped"
        : `${count} processes that it left running were stopped`;
      const seen = ifThere(() => Deno.statSync(this.#record).mtime);
      const when = seen === null ? "" : ` (last seen ${seen.toISOString()})`;
      messages.push(`${who} exited unexpectedly${when}; ${what}.`);
      if (left.length > 0) {
        messages.push(`Processes that it left running can't be stopped: PID ${left.join(", ")}.`);
      }
    }
    if (record.socket !== "") removeIfThere(record.socket);
    this.forget();
    return messages;
  }
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

/** Stops what a run left. @returns how many processes that were, and the PIDs that would not go */
export async function stopSurvivors(
  record: RunRecord,
  graceMs = GRACE_MS,
): Promise<{ count: number; left: number[] }> {
  const seen = new Set<number>();
  const killAt = performance.now() + graceMs;
  for (let pauseMs = 10;; pauseMs = Math.min(pauseMs * 2, 200)) {
    const left = survivors(record).map(({ pid }) => pid);
    const isLate = performance.now() > killAt;
    for (const pid of left) {
      if (seen.has(pid) && !isLate) continue;
      seen.add(pid);
      try {
        Deno.kill(pid, isLate ? "SIGKILL" : "SIGTERM");
      } catch (error) {
        // It ended since, or it is not ours to signal: then it is named below.
        const known = [Deno.errors.NotFound, Deno.errors.PermissionDenied, TypeError];
        if (!known.some((kind) => error instanceof kind)) throw error;
      }
    }
    if (left.length === 0 || performance.now() > killAt + 2_000) return { count: seen.size, left };
    await systemClock.sleep(pauseMs);
  }
}

/** Where the socket of a folder is. @throws {UserError} when the path is too long and there is no other place */
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
  return ifThere(() => Deno.lstatSync(path).ino);
}

/** Removes a file; one that is not there is fine. */
export function removeIfThere(path: string): void {
  ifThere(() => Deno.removeSync(path));
}

function parseRecord(value: unknown): RunRecord | null {
  if (!isMap(value) || !isIdentity(value.orchestrator)) return null;
  const { orchestrator, bootId, run, startedAt, socket, logs, groups } = value;
  if (typeof bootId !== "string" || typeof run !== "string" || typeof startedAt !== "string") return null;
  if (typeof socket !== "string" || (logs !== null && typeof logs !== "string")) return null;
  if (run === "" || !Array.isArray(groups)) return null;
  const isGroup = (group: unknown): group is Identity & { service: string } =>
    isIdentity(group) && "service" in group && typeof group.service === "string";
  return { orchestrator, bootId, run, startedAt, socket, logs, groups: groups.filter(isGroup) };
}

/** Whether a JSON value is an object. */
export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isIdentity(value: unknown): value is Identity {
  if (!isMap(value)) return false;
  const { pid, startTicks } = value;
  // PID 1 and below are never a service: -1 would mean everything.
  return Number.isInteger(pid) && Number(pid) > 1 && Number.isInteger(startTicks) && Number(startTicks) > 0;
}
