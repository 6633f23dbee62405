/**
 * Writes down what a run has started, so that the next one finds what a dead one left.
 *
 * @module
 */

import type { Identity } from "../process/procfs.ts";
import { bootId, ownIdentity, readProcess } from "../process/procfs.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { RunFolder } from "./record.ts";

/** How long the record may lag behind what runs; meanwhile the mark in their environment shows what is ours. */
const RECORD_MS = 20;

/** What the record holds of a run besides its processes. */
export interface RunFacts {
  /** ISO time. */
  startedAt: string;
  socket: string;
  /** The folder of the log files, or `null`. */
  logs: string | null;
}

/** Keeps the record of one run. */
export class RecordKeeper {
  readonly #folder: RunFolder;
  readonly #supervisor: Supervisor;
  readonly #facts: () => RunFacts;
  readonly #groups = new Map<number, Identity & { service: string }>();
  readonly #bootId = bootId();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(folder: RunFolder, supervisor: Supervisor, facts: () => RunFacts) {
    this.#folder = folder;
    this.#supervisor = supervisor;
    this.#facts = facts;
  }

  /** Writes the record once what happens in this moment has happened. */
  writeSoon(): void {
    if (this.#closed || this.#timer !== undefined) return;
    // Not at once: the runtime's first timer takes longer than a service's start.
    queueMicrotask(() => this.#timer ??= setTimeout(() => this.write(), RECORD_MS));
  }

  /** Writes down what runs now. */
  write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const pids = new Set<number>();
    for (const { name, state } of this.#supervisor.snapshot().services) {
      if (!("pid" in state) || state.pid === null) continue;
      pids.add(state.pid);
      if (this.#groups.has(state.pid)) continue;
      const process = readProcess(state.pid);
      if (process !== null) {
        this.#groups.set(state.pid, { service: name, pid: state.pid, startTicks: process.startTicks });
      }
    }
    for (const pid of this.#groups.keys()) if (!pids.has(pid)) this.#groups.delete(pid);
    try {
      this.#folder.write({
        ...this.#facts(),
        orchestrator: ownIdentity(),
        bootId: this.#bootId,
        run: this.#supervisor.run,
        groups: [...this.#groups.values()],
      });
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      // A full disk: the lock and the marks still show what is ours.
    }
  }

  /** Writes no more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }
}
