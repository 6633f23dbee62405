/**
 * What makes a run known to others: it holds the folder's lock, writes down what it started, keeps the logs, and
 * answers on the control socket. `docs/control.md` says what it answers.
 *
 * @module
 */

import { systemReason, UserError } from "../config/errors.ts";
import type { Home } from "../config/settings.ts";
import type { Note } from "./folder_lock.ts";
import { clearUp, lockFolder } from "./folder_lock.ts";
import { Followers } from "./followers.ts";
import type { LogFiles, LogOptions } from "./log_files.ts";
import type { Change } from "./protocol.ts";
import { RunFolder, socketPath } from "./record.ts";
import { RecordKeeper } from "./record_keeper.ts";
import type { Definitions } from "./reload.ts";
import type { RunContext } from "./run_options.ts";
import { SocketKeeper } from "./socket_keeper.ts";
import type { Event, Listener, RunResult } from "../supervisor/model.ts";

/** A run once it has begun. */
interface Started {
  context: RunContext;
  record: RecordKeeper;
  followers: Followers;
}

/** A run as others see it. */
export class Control implements Listener {
  readonly notes: Note[] = [];
  readonly #home: Home;
  readonly #folder: RunFolder;
  readonly #detached: boolean;
  readonly #startedAt = new Date().toISOString();
  #lock: Deno.FsFile | null = null;
  #logs: LogFiles | null = null;
  #socket: string | null = null;
  #keeper: SocketKeeper | null = null;
  #started: Started | null = null;
  #definitions: Definitions | null = null;
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

  /** Begins to write logs. Called before anything happens. */
  async keepLogs(options: Partial<LogOptions>): Promise<void> {
    const { LOG_DEFAULTS, LogFiles } = await import("./log_files.ts");
    const folder = `${this.#home.infrastructure}/logs`;
    const report = (text: string) => this.#started?.context.supervisor.log("error", text);
    this.#logs = new LogFiles({ ...LOG_DEFAULTS, folder, ...options }, report);
  }

  /** Listens to a run and answers for it. Called before its first service starts. */
  start(context: RunContext): void {
    const { supervisor, version } = context;
    const record = new RecordKeeper(this.#folder, supervisor, () => ({
      startedAt: this.#startedAt,
      socket: this.#socket ?? "",
      logs: this.#logs?.folder ?? null,
    }));
    const followers = new Followers(supervisor, version, this.#logs);
    this.#started = { context, record, followers };
    supervisor.listen(this);
    for (const { level, message } of this.notes) supervisor.log(level, message);
    if (this.#lock !== null) record.write();
    // What nobody waits for comes when the first services are on their way.
    queueMicrotask(() => this.#serve());
  }

  event(event: Event): void {
    this.#logs?.event(event);
    if (this.#started === null) return;
    const { record, followers } = this.#started;
    if (event.kind === "state" && this.#lock !== null) record.writeSoon();
    followers.event(event);
  }

  /** Reads the definitions again and carries out what changed. SIGHUP asks for it when detached. */
  async reload(): Promise<void> {
    try {
      await this.#reload(false);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#run.supervisor.log("error", `Nothing was reloaded. ${error.message}`);
    }
  }

  /** Reports the end of the run to everyone and lets go of the folder. */
  async close(result: RunResult | null, restarting: boolean): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#started?.record.close();
    if (result !== null) this.#started?.followers.exit(result.status, restarting, result.remaining);
    await this.#keeper?.close();
    this.#logs?.close();
    if (this.#lock === null) return;
    this.#folder.forget();
    (this.#keeper?.lock ?? this.#lock).close();
  }

  get #run(): RunContext {
    if (this.#started === null) throw new Error("the run has not begun");
    return this.#started.context;
  }

  /** This run can't be talked to: that is logged, and it goes on. */
  #giveUp(error: unknown): void {
    const message = `${
      this.#describe(error)
    } This run goes on, but status, logs, stop and the like can't reach it.`;
    this.#socket = null;
    if (this.#started === null) this.notes.push({ level: "warn", message });
    else this.#run.supervisor.log("warn", message);
  }

  #describe(error: unknown): string {
    if (!(error instanceof Error)) throw error;
    if (error instanceof UserError) return error.message;
    return `Cannot use ${this.#folder.path}: ${systemReason(error)}.`;
  }

  async #serve(): Promise<void> {
    const [socket, lock] = [this.#socket, this.#lock];
    if (socket === null || lock === null) return;
    try {
      const { makeAnswer } = await import("./routes.ts");
      if (this.#closed) return;
      const answer = makeAnswer({
        context: this.#run,
        about: () => ({
          pid: Deno.pid,
          version: this.#run.version,
          infrastructure: this.#home.infrastructure,
          detached: this.#detached,
          startedAt: this.#startedAt,
          logs: this.#logs?.folder ?? null,
        }),
        follow: (client, recent) => this.#started?.followers.add(client, recent),
        definitions: () => this.#define(),
        reload: (dryRun) => this.#reload(dryRun),
      });
      const { record } = this.#started!;
      this.#keeper = new SocketKeeper({ folder: this.#folder, lock, socket, answer, record });
      await this.#keeper.open();
    } catch (error) {
      if (this.#detached) this.#run.stop(); // nobody else could: it has no terminal either
      return this.#giveUp(error);
    }
    try {
      await this.#keeper.keep(() =>
        this.#run.supervisor.log("warn", `${socket} was removed and has been put back.`)
      );
    } catch (error) {
      // No watch is to be had, or the folder is gone for good: the run does not depend on it.
      if (!this.#closed) this.#giveUp(error);
    }
  }

  async #define(): Promise<Definitions> {
    if (this.#definitions !== null) return this.#definitions;
    const { names, known, options, supervisor } = this.#run;
    const { Definitions } = await import("./reload.ts");
    const source = { config: options.config, fixed: options.services !== undefined };
    return this.#definitions ??= new Definitions(supervisor, names, known, source);
  }

  async #reload(dryRun: boolean): Promise<readonly Change[]> {
    const definitions = await this.#define();
    const plan = await definitions.plan();
    if (dryRun) return plan.changes;
    const { describePlan } = await import("./reload.ts");
    for (const line of describePlan(plan)) this.#run.supervisor.log("info", `reload: ${line}`);
    definitions.carryOut(plan);
    this.#started?.record.writeSoon();
    return plan.changes;
  }
}
