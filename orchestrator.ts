#!/usr/bin/env -S deno run -A
/**
 * Starts, watches and stops the services of an infrastructure folder: the entry of the program, and its face as a
 * library. Read from top to bottom it shows what a run is; `README.md` explains which room holds what.
 *
 *     definitions (config/) -> plan, states (supervisor/) -> processes (process/) -> events -> views (terminal/)
 *
 * @module
 */

import { main as runCommandLine } from "./cli/main.ts";
import { runSingleService } from "./cli/start.ts";
import { systemClock } from "./config/clock.ts";
import { UserError } from "./config/errors.ts";
import { loadServices } from "./config/file.ts";
import { serviceEnvironment } from "./config/launch.ts";
import { findHome, readEnvironment } from "./config/settings.ts";
import { VERSION } from "./config/version.ts";
import { Control } from "./control/control.ts";
import type { RunOptions } from "./control/run_options.ts";
import { canBeReplaced, ownCommand, replaceProcess } from "./process/exec.ts";
import { handleSignals } from "./process/signals.ts";
import { EventFeed } from "./supervisor/events.ts";
import type { Event, RunResult, Snapshot } from "./supervisor/model.ts";
import { planStart } from "./supervisor/plan.ts";
import { Supervisor } from "./supervisor/supervisor.ts";
import { finalMessages } from "./terminal/messages.ts";
import { drawsPanel, openView, reportStopping } from "./terminal/view.ts";

export { runSingleService, UserError, VERSION };
export type { Event, RunOptions, Snapshot };

/**
 * Starts services, watches them, and stops them in order.
 *
 * ```ts ignore
 * const status = await new Orchestrator(["db", "web"], { envFile: "infrastructure/.env" }).run();
 * ```
 */
export class Orchestrator {
  readonly #feed = new EventFeed();
  #supervisor: Supervisor | null = null;
  #stopAsked = false;
  #restartAsked = false;

  /** @param names the services to run, their dependencies are added; empty means all */
  constructor(readonly names: readonly string[] = [], readonly options: RunOptions = {}) {}

  /**
   * Runs until everything has ended or was stopped. SIGINT, SIGTERM and SIGHUP stop it; a second SIGINT or SIGTERM kills.
   *
   * @returns 0 after a stop that was asked for or when every service ended with status 0, 1 otherwise
   * @throws {UserError} for what users can fix before anything starts
   */
  async run(): Promise<number> {
    try {
      const result = await this.#run();
      if (this.#restartAsked && result.remaining.length === 0) {
        const { program, args } = ownCommand();
        replaceProcess(program, args);
      }
      return result.status;
    } finally {
      this.#feed.end();
    }
  }

  async #run(): Promise<RunResult> {
    const { names, options } = this;
    const home = findHome(options);
    const known = options.services ?? await loadServices(home, options.config);
    const plan = planStart(known, names);
    const { environment, warnings } = readEnvironment(home);
    for (const service of plan.services) serviceEnvironment(service, environment, home); // errors before any start

    const supervisor = new Supervisor(plan.services, home, { terminal: drawsPanel(options) });
    const stop = () => void this.stop();
    const restartSelf = () => {
      this.#restartAsked ||= !supervisor.stopping && canBeReplaced;
      stop();
    };
    const context = { supervisor, version: VERSION, names, known, options, stop, restartSelf };
    const control = options.control === false ? null : await Control.open(context);
    this.#supervisor = supervisor;
    supervisor.listen(this.#feed);
    const view = await openView(supervisor, options);
    supervisor.listen(view);

    const stopOrKill = () => supervisor.stopping ? void supervisor.kill() : stop();
    using _signals = handleSignals({
      SIGINT: stopOrKill,
      SIGTERM: stopOrKill,
      // A terminal that goes away may send it more than once: that does not ask for a kill.
      SIGHUP: options.detached ? () => void control?.reload() : () => supervisor.stopping || stop(),
      SIGUSR2: restartSelf,
    });
    let result: RunResult | null = null;
    try {
      control?.start();
      for (const warning of warnings) supervisor.log("warn", warning);
      for (const { name, neededBy } of plan.added) {
        supervisor.log("info", `${name} is added: ${neededBy} depends on it`);
      }
      supervisor.start();
      if (this.#stopAsked) supervisor.close();
      result = await supervisor.finished;
      await view.close();
      for (const line of finalMessages(result, supervisor)) supervisor.log("error", line);
    } finally {
      await view.close(); // whatever went wrong, the terminal is given back
      await control?.close(result, this.#restartAsked);
    }
    return result;
  }

  /** Stops everything in order. Resolves when all of it is gone; before `run` it makes the run end at once. */
  async stop(): Promise<void> {
    this.#stopAsked = true;
    if (this.#supervisor === null) return;
    this.#supervisor.close();
    await reportStopping(this.#supervisor);
  }

  /** All services now; none before `run`. @param recent how many of each one's last lines */
  snapshot(recent = 0): Snapshot {
    return this.#supervisor?.snapshot(recent) ?? { at: systemClock.now(), stopping: false, services: [] };
  }

  /**
   * What happens, from now until the run ends. A reader that is slow makes the services' pipes wait.
   *
   * ```ts ignore
   * for await (const event of orchestrator.events()) if (event.kind === "state") console.log(event.row.state.kind);
   * ```
   */
  events(): AsyncGenerator<Event> {
    return this.#feed.events();
  }
}

/** Runs the command line. @returns the exit status: 0, 1, or 2 for what users can fix */
export function main(args: readonly string[]): Promise<number> {
  return runCommandLine(args, (names, options) => new Orchestrator(names, options).run());
}

if (import.meta.main) main(Deno.args).then((status) => Deno.exit(status));
