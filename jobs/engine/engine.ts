/**
 * The engine: accepts jobs, runs the handlers of their blueprints, dispatches tasks to workers and continues jobs with the
 * results. What a step changes is decided in `model/`, and a `Storage` keeps it. The parts below do one duty each.
 *
 * @module
 */

import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { BlueprintError, checkBlueprint } from "../model/blueprint.ts";
import type { Clock } from "../../config/clock.ts";
import { systemClock } from "../../config/clock.ts";
import type { Log } from "../model/errors.ts";
import { ConfigError } from "../model/errors.ts";
import type { Notice, Storage } from "../model/store.ts";
import { ClientRequests } from "./client_requests.ts";
import type { Config } from "./config.ts";
import type { JobListener } from "./core.ts";
import { EngineCore, LEASE_MS } from "./core.ts";
import { Housekeeping } from "./housekeeping.ts";
import { JobRunner } from "./runner.ts";
import type { Scheduler } from "./scheduler.ts";
import { readSettingsFile } from "./toml.ts";
import type { MadeTokens } from "./tokens.ts";
import { loadTokens, readWorkers } from "./tokens.ts";
import { WorkerRequests } from "./worker_requests.ts";

export class JobEngine implements AsyncDisposable {
  readonly core: EngineCore;
  readonly clientRequests: ClientRequests;
  readonly workerRequests: WorkerRequests;
  readonly #runner: JobRunner;
  readonly #housekeeping: Housekeeping;
  #loops: Promise<void>[] = [];
  #unsubscribe: (() => void) | undefined;
  #opened: Promise<MadeTokens> | undefined;
  #stopped: Promise<void> | undefined;

  constructor(
    storage: Storage,
    config: Config,
    { clock = systemClock, log = () => {} }: { clock?: Clock; log?: Log } = {},
  ) {
    this.core = new EngineCore(storage, config, clock, log);
    this.#runner = new JobRunner(this.core);
    this.clientRequests = new ClientRequests(this.core, this.#runner);
    this.workerRequests = new WorkerRequests(this.core, this.#runner);
    this.#housekeeping = new Housekeeping(this.core, this.#runner);
  }

  /** Takes in a checked blueprint. @throws BlueprintError when it cannot run, or after `start`. */
  registerBlueprint(blueprint: StateMachineBlueprint): void {
    if (this.#opened !== undefined) {
      throw new BlueprintError(
        `Blueprint "${blueprint.name}" comes too late; register it before the engine starts.`,
      );
    }
    const faults = checkBlueprint(blueprint);
    for (const other of this.core.blueprints.values()) {
      if (other.name === blueprint.name) faults.push(`There are two blueprints named "${blueprint.name}".`);
      if (
        blueprint.apiEndpoint !== undefined && other.apiEndpoint === blueprint.apiEndpoint &&
        other.apiVersion === blueprint.apiVersion
      ) faults.push(`Blueprints "${other.name}" and "${blueprint.name}" have the same endpoint.`);
    }
    if (faults.length > 0) throw new BlueprintError(faults.join(" "));
    this.core.blueprints.set(blueprint.name, blueprint);
  }

  /**
   * Loads clients, workers and schedules, and begins to work. Tokens that were not configured are made and given back:
   * whoever starts the engine shows them.
   *
   * @throws {ConfigError} for settings and files that cannot be used
   */
  open(): Promise<MadeTokens> {
    return this.#opened ??= this.#open();
  }

  async #open(): Promise<MadeTokens> {
    const { checks, clock, config, log, stopping, storage, workers } = this.core;
    for (const message of storage.warnings ?? []) log("warn", "storage_warning", { message });
    const { authenticator, madeTokens } = await loadTokens(config, this.#warnAboutFile);
    this.core.authenticator = authenticator;
    const scheduler = await this.#openScheduler();
    clock.setNow(await storage.time(0));
    await workers.load();
    await workers.extendAll();
    await workers.rate();
    this.#unsubscribe = storage.subscribe((notice) => this.#onNotice(notice));
    // Leases of an engine that is not there any longer need not run out: this storage has no other engine than this one.
    // Twice their length, because that engine lived on after it stored its time for the last time.
    if (!storage.shared) await this.#housekeeping.wakeJobs(clock.now() + 2 * LEASE_MS);
    this.#loops = [
      checks.watch(() => this.#housekeeping.check(), stopping),
      this.#housekeeping.run(),
      ...(scheduler === undefined ? [] : [scheduler.run()]),
    ];
    return madeTokens;
  }

  /** Loads the scheduler only where there are schedules. */
  async #openScheduler(): Promise<Scheduler | undefined> {
    const { blueprints, config: { schedulesPath, timeZone } } = this.core;
    if (schedulesPath === "") return undefined;
    const { readSchedules, Scheduler } = await import("./scheduler.ts");
    const schedules = readSchedules(await readSettingsFile(schedulesPath), schedulesPath, timeZone);
    const unknown = schedules.find(({ blueprint }) => !blueprints.has(blueprint));
    if (unknown !== undefined) {
      throw new ConfigError(
        `Cannot use ${schedulesPath}: "${unknown.name}" names the blueprint "${unknown.blueprint}", which is not registered.`,
      );
    }
    return new Scheduler(schedules, this.core, this.clientRequests);
  }

  #warnAboutFile = (message: string) => this.core.log("warn", "workers_file_warning", { message });

  /** Reads the workers file again. @throws {ConfigError} when there is none, or it cannot be used */
  async reloadWorkers(): Promise<void> {
    const { workersPath } = this.core.config;
    if (workersPath === "") throw new ConfigError("WORKERS_CONFIG_PATH is not set, cannot reload configs.");
    const text = await readSettingsFile(workersPath);
    this.core.authenticator.setGrants(readWorkers(text, workersPath, this.#warnAboutFile));
  }

  /** Stops taking requests, lets polls and handlers end, closes the storage. Twice is quiet. */
  stop(): Promise<void> {
    return this.#stopped ??= this.#stop();
  }

  async #stop(): Promise<void> {
    const { clock, dispatcher, storage, workers } = this.core;
    dispatcher.close();
    this.core.stop();
    await this.closeServer();
    this.#runner.abortHandlers();
    await Promise.allSettled(this.#loops);
    await this.core.settle(1_000);
    this.#runner.leaveHandlers();
    this.#unsubscribe?.();
    await workers.storeCounts().catch(() => {}); // nothing depends on these counts
    if (this.#opened !== undefined) await storage.time(clock.now()).catch(() => {}); // it is gone: so is its time
    await storage[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Closes what takes requests, and resolves when all of them are answered; the storage is open until then. */
  protected closeServer(): Promise<void> {
    return Promise.resolve();
  }

  /** Calls the listener after every change of a job, by this engine or another; returns the way to stop. */
  onJob(listener: JobListener): () => void {
    this.core.listeners.add(listener);
    return () => this.core.listeners.delete(listener);
  }

  #onNotice(notice: Notice): void {
    switch (notice.kind) {
      case "queued":
        this.core.dispatcher.queuedElsewhere(notice.type);
        return;
      case "withdrawn":
        this.core.cancels.announce(notice.workerId, notice.taskId, notice.jobId);
        return;
      case "job":
        if (this.core.listeners.size > 0) {
          this.core.inBackground(
            this.core.storage.read(notice.id).then((read) => {
              if (read !== undefined) { for (const listener of this.core.listeners) listener(read.job); }
            }),
          );
        }
    }
  }
}
