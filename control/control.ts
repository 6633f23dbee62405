/**
 * What makes a run known to others: it holds the folder's lock, writes down what it started, keeps the logs, and
 * answers on the control socket. `docs/control.md` lists what it answers.
 *
 * @module
 */

import { systemReason, UserError } from "../config/errors.ts";
import type { Event, Listener, RunResult } from "../supervisor/model.ts";
import type { ControlApi } from "./api.ts";
import { RunKeeper } from "./keeper.ts";
import type { LogFiles } from "./log_files.ts";
import { RunFolder, socketPath } from "./run_folder.ts";
import type { RunContext } from "./run_options.ts";

/** A run as others see it. */
export class Control implements Listener {
  readonly #run: RunContext;
  readonly #folder: RunFolder;
  readonly #logs: LogFiles | null;
  readonly #startedAt = new Date().toISOString();
  /** What is to be logged as soon as the run has its listeners. */
  readonly #warnings: string[] = [];
  /** `null` when the folder can't be used. */
  #keeper: RunKeeper | null = null;
  #api: ControlApi | null = null;
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
      await control.#takeFolder();
    } catch (error) {
      if (detached) throw new UserError(control.#describe(error));
      if (error instanceof UserError && control.#keeper === null) throw error;
      control.#warnings.push(control.#unreachable(error));
    }
    return control;
  }

  async #takeFolder(): Promise<void> {
    const { supervisor } = this.#run;
    const lock = await this.#folder.take();
    const facts = { startedAt: this.#startedAt, logs: this.#logs?.folder ?? null };
    this.#keeper = new RunKeeper(this.#folder, lock, supervisor, facts, async (request) => {
      const api = await this.#loadApi();
      return await api.answer(request);
    });
    this.#warnings.push(...await this.#folder.clearUp());
    this.#keeper.socket = socketPath(supervisor.home.infrastructure);
  }

  /** Listens to the run and answers for it. Called before its first service starts. */
  start(): void {
    const { supervisor } = this.#run;
    supervisor.listen(this);
    for (const message of this.#warnings) supervisor.log("warn", message);
    this.#keeper?.write();
    // What nobody waits for comes when the first services are on their way.
    queueMicrotask(() => this.#serve());
  }

  event(event: Event): void {
    this.#logs?.event(event);
    if (event.kind === "state") this.#keeper?.writeSoon();
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

  /** Reports the end of the run to everyone and lets go of the folder. */
  async close(result: RunResult | null, restarting: boolean): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (result !== null) this.#api?.exit(result, restarting);
    await this.#keeper?.close();
    this.#logs?.close();
  }

  async #loadApi(): Promise<ControlApi> {
    const { ControlApi } = await import("./api.ts");
    return this.#api ??= new ControlApi(this.#run, this.#startedAt, this.#logs);
  }

  async #serve(): Promise<void> {
    const keeper = this.#keeper;
    if (keeper === null || keeper.socket === "") return;
    const { socket } = keeper;
    const { supervisor, options, stop } = this.#run;
    try {
      await this.#loadApi(); // now: a request much later must not depend on the files of the program
      await keeper.listen();
    } catch (error) {
      if (options.detached) stop(); // nobody else could: it has no terminal either
      return supervisor.log("warn", this.#unreachable(error));
    }
    try {
      await keeper.keep(() => supervisor.log("warn", `${socket} was removed and has been put back.`));
    } catch (error) {
      // No watch is to be had, or the folder is gone for good: the run does not depend on it.
      if (!this.#closed) supervisor.log("warn", this.#unreachable(error));
    }
  }

  /** The message that this run can't be talked to; it goes on. */
  #unreachable(error: unknown): string {
    if (this.#keeper !== null) this.#keeper.socket = "";
    const why = this.#describe(error);
    return `${why} This run goes on, but status, logs, stop and the like can't reach it.`;
  }

  #describe(error: unknown): string {
    if (!(error instanceof Error)) throw error;
    if (error instanceof UserError) return error.message;
    return `Cannot use ${this.#folder.path}: ${systemReason(error)}.`;
  }
}
