/**
 * What makes a run known to others: it holds the folder's lock, writes down what it started, keeps the logs, and
 * answers on the control socket. `docs/control.md` says what it answers.
 *
 * @module
 */

import { decoder, encoder } from "../config/bytes.ts";
import type { Event, Listener, RunResult } from "../supervisor/model.ts";
import type { Home } from "../config/settings.ts";
import type { RunOptions } from "./run_options.ts";
import type { Supervisor } from "../supervisor/supervisor.ts";
import type { Service } from "../config/definition.ts";
import { UserError } from "../config/errors.ts";
import type { LogFiles, LogOptions } from "./log_files.ts";
import { bootId, isSame, ownIdentity, readProcess } from "../process/procfs.ts";
import type { Identity } from "../process/procfs.ts";
import { makePrivateFolder, removeIfThere, RunFolder, socketPath, stopSurvivors } from "./record.ts";
import type { RunRecord } from "./record.ts";
import type { Definitions } from "./reload.ts";
import type { ControlAnswer, ControlRequest, ControlServer, Follower } from "./server.ts";

/** What a run lets others do with it. */
export interface RunContext {
  supervisor: Supervisor;
  version: string;
  /** The names asked for at the start. */
  names: readonly string[];
  /** Every service that was defined at the start. */
  known: readonly Service[];
  options: RunOptions;
  /** Stops everything and ends the run. */
  stop(): void;
  /** Stops everything, then begins anew as the same process. */
  restartSelf(): void;
}

/** Something to tell as soon as someone listens. */
export interface Note {
  level: "info" | "warn";
  text: string;
}

/** How long a second start waits for one that is under way, or for one that clears up, to say who it is. */
const UNDER_WAY_MS = 15_000;
/** How long the system may take to tell the end of a folder. */
const SETTLED_MS = 200;
/** How long the record may lag behind what runs; meanwhile the mark in their environment tells what is ours. */
const RECORD_MS = 20;

/** A run as others see it. */
export class Control implements Listener {
  readonly notes: Note[] = [];
  readonly #home: Home;
  readonly #folder: RunFolder;
  readonly #detached: boolean;
  readonly #followers = new Set<Follower>();
  readonly #groups = new Map<number, Identity & { service: string }>();
  readonly #bootId = bootId();
  readonly #startedAt = new Date().toISOString();
  #lock: Deno.FsFile | null = null;
  #logs: LogFiles | null = null;
  #server: ControlServer | null = null;
  #socket: string | null = null;
  #watcher: Deno.FsWatcher | null = null;
  #context: RunContext | null = null;
  #definitions: Definitions | null = null;
  #recording: ReturnType<typeof setTimeout> | undefined;
  #told = "";
  #closed = false;

  private constructor(home: Home, detached: boolean) {
    this.#home = home;
    this.#detached = detached;
    this.#folder = new RunFolder(home.infrastructure);
  }

  /**
   * Takes the folder for this process and stops what a dead run left in it.
   *
   * @throws {UserError} when another orchestrator runs there, with its PID
   */
  static async open(home: Home, detached: boolean): Promise<Control> {
    const control = new Control(home, detached);
    try {
      control.#lock = await lockFolder(control.#folder, home);
      control.notes.push(...await clearUp(control.#folder));
      control.#socket = socketPath(home.infrastructure);
    } catch (error) {
      if (error instanceof UserError && control.#lock === null) throw error;
      if (!detached) control.#giveUp(error);
      else throw error instanceof UserError ? error : new UserError(control.#describe(error));
    }
    return control;
  }

  /** Begins to write logs. Called before anything is told. */
  async keepLogs(options: Partial<LogOptions>): Promise<void> {
    const { LOG_DEFAULTS, LogFiles } = await import("./log_files.ts");
    const folder = `${this.#home.infrastructure}/logs`;
    const complain = (text: string) => this.#context?.supervisor.log("error", text);
    this.#logs = new LogFiles({ ...LOG_DEFAULTS, folder, ...options }, complain);
  }

  /** Listens to a run and answers for it. Called before its first service starts. */
  start(attended: RunContext): void {
    this.#context = attended;
    attended.supervisor.listen(this);
    for (const { level, text } of this.notes) attended.supervisor.log(level, text);
    this.#record();
    // What nobody waits for comes when the first services are on their way.
    queueMicrotask(() => {
      if (this.#socket !== null && this.#lock !== null) this.#serve(this.#socket);
    });
  }

  event(event: Event): void {
    this.#logs?.event(event);
    if (event.kind === "state") this.#recordSoon();
    if (this.#followers.size === 0) return;
    const log = event.kind === "output"
      ? this.#logs?.position(event.service)
      : this.#logs?.position("", true);
    const told = event.kind === "output"
      ? { ...event, lines: undefined, text: decoder.decode(event.lines), log }
      : { ...event, log };
    this.#tell(told);
  }

  /** Reads the definitions again and does what follows; says what. SIGHUP asks for it when detached. */
  async reload(): Promise<void> {
    const { supervisor } = this.#context!;
    try {
      const definitions = await this.#define();
      await this.#carryOut(definitions, false);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      supervisor.log("error", `Nothing was reloaded. ${error.message}`);
    }
  }

  /** Tells everyone that the run is over and lets go of the folder. */
  async close(result: RunResult | null, restarting: boolean): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#recording);
    this.#watcher?.close();
    if (result !== null) {
      this.#tell({
        kind: "exit",
        time: Date.now(),
        status: result.status,
        restarting,
        remaining: result.remaining,
      });
    }
    await this.#server?.close();
    this.#logs?.close();
    if (this.#lock === null) return;
    this.#folder.forget();
    this.#lock.close();
  }

  /** This run can't be talked to: it says so and goes on. */
  #giveUp(error: unknown): void {
    const why = this.#describe(error);
    const text = `${why} This run goes on, but status, logs, stop and the like can't reach it.`;
    this.#socket = null;
    if (this.#context === null) this.notes.push({ level: "warn", text });
    else this.#context.supervisor.log("warn", text);
  }

  #describe(error: unknown): string {
    if (!(error instanceof Error)) throw error;
    if (error instanceof UserError) return error.message;
    return `Cannot use ${this.#folder.path}: ${error.message.replace(/( \(os error|\n).*/s, "")}.`;
  }

  async #serve(socket: string): Promise<void> {
    try {
      const { ControlServer } = await import("./server.ts");
      if (this.#closed) return;
      makePrivateFolder(dirname(socket));
      this.#server = new ControlServer(socket, (request) => this.#answer(request));
      this.#watch(socket);
    } catch (error) {
      if (this.#detached) this.#context!.stop(); // nobody could: it has no terminal either
      this.#giveUp(error);
    }
  }

  /** Puts back what someone removes: nobody could reach this run otherwise. */
  async #watch(socket: string): Promise<void> {
    const folders = new Set([this.#folder.path, dirname(socket)]);
    while (!this.#closed) {
      try {
        const watcher = Deno.watchFs([...folders], { recursive: false });
        this.#watcher = watcher;
        // What went away before the watch began is not told.
        if (this.#isWhole()) {
          for await (const event of watcher) {
            if (event.kind !== "access" && !this.#isWhole()) break;
          }
        }
        closeWatcher(watcher);
        await this.#repair(socket);
        // A folder is really gone once the lock in it is let go; what is told of that would end a watch on the new one.
        await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        // No watch is to be had, or the folder is gone for good: the run does not depend on it.
        if (!this.#closed) this.#giveUp(error);
        return;
      }
    }
  }

  #isWhole(): boolean {
    return (this.#server?.isReachable ?? false) && this.#folder.isLockFile(this.#lock!) &&
      this.#folder.isWritten;
  }

  async #repair(socket: string): Promise<void> {
    if (!this.#folder.isLockFile(this.#lock!)) {
      const lock = this.#folder.lock();
      if (lock === null) throw new UserError(`${this.#folder.path} belongs to another orchestrator now.`);
      this.#lock!.close();
      this.#lock = lock;
    }
    this.#record();
    if (this.#server?.isReachable) return;
    const { ControlServer } = await import("./server.ts");
    makePrivateFolder(dirname(socket));
    // First the old one: its end takes away whatever has its path. Who follows there comes again.
    await this.#server?.close(0);
    this.#server = new ControlServer(socket, (request) => this.#answer(request));
    this.#context!.supervisor.log("warn", `${socket} was removed and has been put back.`);
  }

  async #answer({ method, path, query, body }: ControlRequest): Promise<ControlAnswer> {
    const { supervisor, version } = this.#context!;
    const allowed = ROUTES[path];
    if (allowed === undefined) {
      const error = `There is no ${path}; there are ${Object.keys(ROUTES).join(", ")}.`;
      return { status: 404, body: { error } };
    }
    if (method !== allowed) return { status: 405, body: { error: `Use ${allowed} for ${path}.` } };
    try {
      switch (path) {
        case "/status": {
          const { statusOf } = await import("./status.ts");
          const about = {
            pid: Deno.pid,
            version,
            infrastructure: this.#home.infrastructure,
            detached: this.#detached,
            startedAt: this.#startedAt,
            logs: this.#logs?.folder ?? null,
          };
          return { status: 200, body: statusOf(supervisor.snapshot(), about) };
        }
        case "/events":
          return { status: 200, follow: (client) => this.#follow(client, recentOf(query)) };
        case "/start":
          return accepted((await this.#define()).start(namesOf(body)));
        case "/restart": {
          const more = { dependents: flagOf(body, "dependents"), dependencies: flagOf(body, "dependencies") };
          return accepted((await this.#define()).restart(namesOf(body), more));
        }
        case "/stop": {
          if (body.names === undefined) {
            this.#context!.stop();
            return accepted(supervisor.services.map(({ name }) => name));
          }
          const names = namesOf(body);
          supervisor.setDesired(names, "stopped");
          const { withDependents } = await import("../supervisor/plan.ts");
          return accepted([...withDependents(supervisor.services, names)]);
        }
        case "/reload": {
          const definitions = await this.#define();
          return {
            status: 200,
            body: { changes: await this.#carryOut(definitions, flagOf(body, "dryRun")) },
          };
        }
        case "/self-restart":
          this.#context!.restartSelf();
          return accepted(supervisor.services.map(({ name }) => name));
        default:
          throw new Error(`${path} has a route and no answer`);
      }
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      return { status: supervisor.stopping ? 409 : 400, body: { error: error.message } };
    }
  }

  async #define(): Promise<Definitions> {
    if (this.#definitions !== null) return this.#definitions;
    const { names, known, options, supervisor } = this.#context!;
    const { Definitions } = await import("./reload.ts");
    const source = { config: options.config, fixed: options.services !== undefined };
    return this.#definitions ??= new Definitions(supervisor, names, known, source);
  }

  async #carryOut(definitions: Definitions, dryRun: boolean): Promise<readonly unknown[]> {
    const plan = await definitions.plan();
    if (dryRun) return plan.changes;
    const { describePlan } = await import("./reload.ts");
    for (const line of describePlan(plan)) this.#context!.supervisor.log("info", `reload: ${line}`);
    definitions.carryOut(plan);
    this.#recordSoon();
    return plan.changes;
  }

  #follow(client: Follower, recent: number): void {
    const { supervisor, version } = this.#context!;
    const snapshot = supervisor.snapshot(recent);
    const services = Object.fromEntries(
      snapshot.services.map(({ name }) => [name, this.#logs?.position(name) ?? null]),
    );
    const logs = this.#logs === null
      ? null
      : { folder: this.#logs.folder, own: this.#logs.position("", true), services };
    client.send(line({
      kind: "hello",
      time: Date.now(),
      at: snapshot.at,
      version,
      pid: Deno.pid,
      stopping: snapshot.stopping,
      services: snapshot.services,
      logs,
    }));
    this.#followers.add(client);
    client.ended.then(() => this.#followers.delete(client));
  }

  #tell(message: object): void {
    if (this.#followers.size === 0) return;
    const bytes = line(message);
    for (const follower of this.#followers) follower.send(bytes);
  }

  #recordSoon(): void {
    if (this.#closed || this.#recording !== undefined) return;
    // Not at once: the runtime's first timer takes longer than a service's start.
    queueMicrotask(() => this.#recording ??= setTimeout(() => this.#record(), RECORD_MS));
  }

  /** Writes down what runs now. */
  #record(): void {
    if (this.#recording !== undefined) clearTimeout(this.#recording);
    this.#recording = undefined;
    const { supervisor } = this.#context!;
    const { services: rows } = supervisor.snapshot();
    const names = rows.map(({ name }) => name).join();
    if (this.#told !== "" && this.#told !== names) {
      this.#tell({ kind: "services", time: Date.now(), services: rows });
    }
    this.#told = names;
    if (this.#lock === null) return;
    const pids = new Set<number>();
    for (const { name, state } of rows) {
      if (!("pid" in state) || state.pid === null) continue;
      pids.add(state.pid);
      if (this.#groups.has(state.pid)) continue;
      const process = readProcess(state.pid);
      if (process !== null) {
        this.#groups.set(state.pid, { service: name, pid: state.pid, startTicks: process.startTicks });
      }
    }
    for (const pid of this.#groups.keys()) if (!pids.has(pid)) this.#groups.delete(pid);
    const record: RunRecord = {
      orchestrator: ownIdentity(),
      bootId: this.#bootId,
      run: supervisor.run,
      startedAt: this.#startedAt,
      socket: this.#socket ?? "",
      logs: this.#logs?.folder ?? null,
      groups: [...this.#groups.values()],
    };
    try {
      this.#folder.write(record);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      // A full disk: the lock and the marks still tell what is ours.
    }
  }
}

/** Every path with the method that it takes. */
const ROUTES: Record<string, "GET" | "POST"> = {
  "/status": "GET",
  "/events": "GET",
  "/start": "POST",
  "/restart": "POST",
  "/stop": "POST",
  "/reload": "POST",
  "/self-restart": "POST",
};

function dirname(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

function line(message: unknown): Uint8Array {
  return encoder.encode(`${JSON.stringify(message)}\n`);
}

function accepted(names: readonly string[]): ControlAnswer {
  return { status: 202, body: { names } };
}

function recentOf(query: URLSearchParams): number {
  const text = query.get("recent") ?? "0";
  if (!/^[0-9]{1,4}$/.test(text)) throw new UserError("recent is a number of lines from 0 to 9999.");
  return Number(text);
}

function namesOf({ names }: Record<string, unknown>): string[] {
  const isList = Array.isArray(names) && names.length > 0;
  if (!isList || !names.every((name): name is string => typeof name === "string")) {
    throw new UserError(`Name the services: {"names": ["db", "web"]}.`);
  }
  return names;
}

function flagOf(body: Record<string, unknown>, name: string): boolean {
  const value = body[name] ?? false;
  if (typeof value !== "boolean") throw new UserError(`${name} is true or false.`);
  return value;
}

function closeWatcher(watcher: Deno.FsWatcher): void {
  try {
    watcher.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // its loop closed it
  }
}

/** Takes the lock, however long someone only looks at it or clears up under it. */
async function lockFolder(folder: RunFolder, home: Home): Promise<Deno.FsFile> {
  const lateAt = performance.now() + UNDER_WAY_MS;
  for (let pauseMs = 2;; pauseMs = Math.min(pauseMs * 2, 100)) {
    const lock = folder.lock();
    const record = folder.read();
    // Also when someone removed the lock file of one that runs.
    const { pid } = record?.orchestrator ?? { pid: Deno.pid };
    if (record !== null && pid !== Deno.pid && isSame(record.orchestrator, record.bootId)) {
      lock?.close();
      throw alreadyRuns(pid, home);
    }
    if (lock !== null) return lock;
    if (performance.now() > lateAt) throw alreadyRuns(null, home);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function alreadyRuns(pid: number | null, { infrastructure }: Home): UserError {
  const who = pid === null ? "Another orchestrator" : `An orchestrator with PID ${pid}`;
  return new UserError(
    `${who} runs in ${infrastructure} already; "orchestrator status" shows it and "orchestrator stop" ends it.`,
  );
}

/** Stops what a dead run left. Asks for the lock to be held. @returns what there is to say about it */
export async function clearUp(folder: RunFolder): Promise<Note[]> {
  const record = folder.read();
  if (record === null) return [];
  const who = `The orchestrator with PID ${record.orchestrator.pid}, started ${record.startedAt},`;
  const notes: Note[] = [];
  if (record.bootId !== bootId()) {
    notes.push({
      level: "warn",
      text: `${who} ended when the system was rebooted; none of its processes are left.`,
    });
  } else {
    const { count, left } = await stopSurvivors(record);
    const what = count === 0
      ? "it left no processes running"
      : count === 1
      ? "1 process that it left running was stopped"
      : `${count} processes that it left running were stopped`;
    const seen = folder.writtenAt();
    const when = seen === null ? "" : ` (last seen ${seen.toISOString()})`;
    notes.push({ level: "warn", text: `${who} exited unexpectedly${when}; ${what}.` });
    if (left.length > 0) {
      notes.push({
        level: "warn",
        text: `Processes that it left running can't be stopped: PID ${left.join(", ")}.`,
      });
    }
  }
  if (record.socket !== "") removeIfThere(record.socket);
  folder.forget();
  return notes;
}
