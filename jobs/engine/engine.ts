/**
 * The engine: accepts jobs, runs the handlers of their blueprints, dispatches tasks to workers and continues jobs with the
 * results. It owns the clock and all random numbers; what a step changes is decided in `transitions.ts`, and a `Storage`
 * keeps it.
 *
 * @module
 */
import {
  cancelled,
  childEnded,
  decided,
  handlerDone,
  handlerFailed,
  newJob,
  requeued,
} from "../model/transitions.ts";
import { endJob, isRunnable, JobChange, wakeOf } from "../model/job_change.ts";
import type { ResultStatus, TaskResult } from "../model/task_results.ts";
import { retriesDue, taskAnswered, taskTimedOut, workerLost } from "../model/task_results.ts";
import type { Rules } from "../model/job_change.ts";
import {
  type Action,
  type Actions,
  BlueprintError,
  checkBlueprint,
  type DataStore,
  type HandlerContext,
  type StateMachineBlueprint,
  type TaskRequest,
} from "../model/blueprint.ts";
import { Arrivals } from "./arrivals.ts";
import { type Clock, systemClock } from "../model/clock.ts";
import { type Config, isLoopback } from "./config.ts";
import { ConfigError, messageOf } from "../model/errors.ts";
import { Dispatcher } from "./dispatcher.ts";
import { digest, makeId, makeSecret, sameDigest } from "../model/ids.ts";
import { hasEnded, type Job, type JsonObject, type Trace, type Transitions } from "../model/job.ts";
import { copyObject } from "../model/json.ts";
import { Metrics } from "./metrics.ts";
import { readSchedules, Scheduler } from "./scheduler.ts";
import type { Admission, CommitOutcome, HeldTask, Notice, Storage, Tally, Task } from "../model/store.ts";
import { Authenticator, type Client, readClients, readWorkers } from "./tokens.ts";
import { deliverWebhook, webhookDelayMs } from "./webhooks.ts";
import { beginSpan, type Span } from "./trace.ts";
import type { Log } from "../model/log.ts";
import type { Heartbeat, Registration } from "../model/wire.ts";
import { type LiveWorker, Workers } from "./workers.ts";

/** What a submission says besides its data. */
export interface Submission {
  idempotencyKey?: string | undefined;
  trace?: Trace | undefined;
  webhookUrl?: string | undefined;
  queueTimeoutMs?: number | undefined;
  resultTimeoutMs?: number | undefined;
}

/** What became of a submission. */
export type Submitted =
  | { kind: "accepted"; jobId: string }
  | { kind: "over-quota"; retryAfterSeconds: number }
  | { kind: "key-reused" };

/** Tokens that were made because none were configured. */
export interface MadeTokens {
  client?: string;
  worker?: string;
}

/** Called with each job that has changed, for live views. */
export type JobListener = (job: Job) => void;

/** A command for a worker. */
export interface CancelCommand {
  taskId: string;
  jobId: string;
}

/** While an engine is busy with a job, others leave it alone for this long; renewed as long as it lives. */
const LEASE_MS = 15_000;
/** How often the engine looks at what is due, whatever it knows. */
const TICK_MS = 1_000;
/** Attempts to save a step whose job somebody else moved meanwhile. */
const MAX_CONFLICTS = 20;
const CLAIM_LIMIT = 100;
/** Jobs that wait for a worker and are kept at hand. */
const MAX_CACHED_JOBS = 10_000;
/** Tasks timed out in one look. */
const DUE_LIMIT = 1000;
const DAY_MS = 86_400_000;
const REPUTATION_DAYS = 30;
/** Cancelled tasks that a worker has not answered are named in its heartbeats this long. */
const CANCEL_MEMORY_MS = 3_600_000;

/** Makers of actions: they only say what is wanted, so all handlers share them. */
const ACTIONS: Actions = Object.freeze({
  transitionTo: (state: string): Action => ({ kind: "transition", to: state }),
  goTo: (state: string): Action => ({ kind: "transition", to: state }),
  dispatchTask: ({ transitions, ...task }: TaskRequest & { transitions?: Transitions }): Action => ({
    kind: "task",
    task,
    transitions,
  }),
  dispatchParallel: (
    { tasks, aggregateInto }: { tasks: readonly TaskRequest[]; aggregateInto: string },
  ): Action => ({ kind: "parallel", tasks, aggregateInto }),
  awaitHumanApproval: (
    { message, integration = "", transitions }: {
      message: string;
      integration?: string;
      transitions?: Transitions;
    },
  ): Action => ({ kind: "approval", message, integration, transitions }),
  runBlueprint: (
    { blueprintName, initialData = {}, transitions }: {
      blueprintName: string;
      initialData?: JsonObject;
      transitions?: Transitions;
    },
  ): Action => ({ kind: "sub_blueprint", blueprint: blueprintName, initialData, transitions }),
});

// What a handler is given. The signal is made only for handlers that ask for it.
class HandlerCall implements HandlerContext {
  #controller: AbortController | undefined;
  #aborted: unknown;
  readonly actions = ACTIONS;
  readonly currentState: string;
  readonly initialData: JsonObject;
  readonly client: HandlerContext["client"];
  readonly tracingContext: Trace;
  readonly aggregationResults: Record<string, JsonObject>;
  readonly jobId: string;
  span: Span | undefined;
  constructor(job: Job, readonly stateHistory: JsonObject, readonly dataStores: Record<string, DataStore>) {
    this.jobId = job.id;
    this.currentState = job.state;
    this.initialData = job.initialData;
    this.client = { name: job.client, plan: job.plan, params: job.clientParams };
    this.tracingContext = job.trace ?? {};
    this.aggregationResults = job.aggregationResults ?? {};
  }
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }
  abort(reason: unknown): void {
    this.#aborted = reason;
    this.#controller?.abort(reason);
  }
}

/** A handler that is being awaited. */
interface Running {
  call: HandlerCall;
  revision: number;
  /** Ends the wait for it. */
  waiting: AbortController;
}

/** A job that waits for a worker as this engine stored it, and its task once this engine has assigned it. */
interface CachedJob {
  job: Job;
  task?: HeldTask;
}

type HandlerEnd = { action: Action | undefined } | { error: string };

/**
 * Accepts jobs, runs their blueprints, dispatches tasks to workers.
 */
export class JobEngine implements AsyncDisposable {
  readonly blueprints = new Map<string, StateMachineBlueprint>();
  readonly metrics = new Metrics();
  readonly workers: Workers;
  readonly dispatcher: Dispatcher;
  /** Bodies of requests that are on their way. */
  readonly arrivals: Arrivals;
  authenticator: Authenticator = new Authenticator([], [], undefined);
  readonly clock: Clock;
  readonly log: Log;
  #offset = 0;
  #busy = new Map<string, Promise<void>>();
  #running = new Map<string, Running>();
  // Spares most results a read. Weak, so that large jobs do not fill the memory; it may be behind what is stored, which
  // the commit finds out.
  #cache = new Map<string, WeakRef<CachedJob>>();
  #background = new Set<Promise<unknown>>();
  #listeners = new Set<JobListener>();
  #commandListeners = new Map<string, Set<(command: CancelCommand) => void>>();
  #cancelledTasks = new Map<string, Map<string, { jobId: string; at: number }>>();
  #tallies = new Map<string, Tally>();
  #dataStores = new Map<string, Record<string, DataStore>>();
  #nextCheckAt = 0;
  #regularCheckAt = 0;
  #checksAt = new Set<number>();
  #wakeUp = new AbortController();
  #stopping = new AbortController();
  #loops: Promise<void>[] = [];
  #scheduler: Scheduler | undefined;
  #unsubscribe: (() => void) | undefined;
  #isStarted = false;
  #stopped: Promise<void> | undefined;
  #madeTokens: MadeTokens = {};

  constructor(
    readonly storage: Storage,
    readonly config: Config,
    options: { clock?: Clock; log?: Log } = {},
  ) {
    this.clock = options.clock ?? systemClock;
    this.log = options.log ?? (() => {});
    this.workers = new Workers(storage, config.healthCheckMs * 2, (id) => this.authenticator.grant(id)?.cost);
    this.arrivals = new Arrivals(config.bodyTimeoutMs);
    this.dispatcher = new Dispatcher(storage, this.workers, () => this.now(), (task) => this.#taken(task));
  }

  /** Engine time. */
  now(): number {
    return this.#offset + this.clock.steady();
  }

  /** Takes in a checked blueprint. @throws BlueprintError when it cannot run, or after `start`. */
  registerBlueprint(blueprint: StateMachineBlueprint): void {
    if (this.#isStarted) {
      throw new BlueprintError(
        `Blueprint "${blueprint.name}" comes too late; register it before the engine starts.`,
      );
    }
    const faults = checkBlueprint(blueprint);
    if (this.blueprints.has(blueprint.name)) {
      faults.push(`There are two blueprints named "${blueprint.name}".`);
    }
    for (const other of this.blueprints.values()) {
      if (
        blueprint.apiEndpoint !== undefined && other.apiEndpoint === blueprint.apiEndpoint &&
        other.apiVersion === blueprint.apiVersion
      ) faults.push(`Blueprints "${other.name}" and "${blueprint.name}" have the same endpoint.`);
    }
    if (faults.length > 0) throw new BlueprintError(faults.join(" "));
    this.blueprints.set(blueprint.name, blueprint);
  }

  /**
   * Loads clients, workers and schedules, and begins to work. Tokens that were not configured are made and given back:
   * whoever starts the engine shows them.
   *
   * @throws ConfigError for settings and files that cannot be used.
   */
  async open(): Promise<MadeTokens> {
    if (this.#isStarted) return this.#madeTokens;
    this.#isStarted = true;
    for (const message of this.storage.warnings ?? []) this.log("warn", "storage_warning", { message });
    await this.#loadTokens();
    const schedules = this.config.schedulesPath === ""
      ? []
      : readSchedules(await readSettingsFile(this.config.schedulesPath), this.config.schedulesPath);
    for (const schedule of schedules) {
      if (!this.blueprints.has(schedule.blueprint)) {
        throw new ConfigError(
          `Cannot use ${this.config.schedulesPath}: "${schedule.name}" names the blueprint "${schedule.blueprint}", which is not registered.`,
        );
      }
    }
    this.#offset = await this.storage.time(0) - this.clock.steady();
    await this.workers.load();
    await this.workers.extendAll(this.now());
    await this.workers.rate(this.#firstDay());
    this.#unsubscribe = this.storage.subscribe((notice) => this.#onNotice(notice));
    // Leases of an engine that is not there any longer need not run out: this storage has no other engine than this one.
    // Twice their length, because that engine lived on after it stored its time for the last time.
    if (!this.storage.shared) await this.#wakeJobs(this.now() + 2 * LEASE_MS);
    this.#scheduler = new Scheduler(
      schedules,
      this.storage,
      this.clock,
      this.config.timeZone,
      (schedule, tick) => {
        return this.#submitScheduled(
          schedule.name,
          schedule.blueprint,
          schedule.inputData,
          schedule.client,
          tick,
        );
      },
      this.log,
    );
    this.#loops = [this.#watch(), this.#housekeep(), this.#scheduler.run(this.#stopping.signal)];
    return this.#madeTokens;
  }

  async #loadTokens(): Promise<void> {
    const { config } = this;
    const clients: Client[] = config.clientsPath === ""
      ? []
      : readClients(await readSettingsFile(config.clientsPath), config.clientsPath);
    const grants = config.workersPath === ""
      ? []
      : readWorkers(await readSettingsFile(config.workersPath), config.workersPath, this.#warnAboutFile);
    let clientToken = config.clientToken;
    let workerToken = config.workerToken;
    if (clientToken === "" && clients.length === 0) this.#madeTokens.client = clientToken = makeSecret();
    if (workerToken === "" && grants.length === 0) this.#madeTokens.worker = workerToken = makeSecret();
    if ((this.#madeTokens.client ?? this.#madeTokens.worker) !== undefined && !isLoopback(config.host)) {
      throw new ConfigError(
        `Cannot listen on ${config.host} without tokens: set CLIENT_TOKEN and GLOBAL_WORKER_TOKEN ` +
          `(or a clients and a workers file), or listen on 127.0.0.1.`,
      );
    }
    if (clientToken !== "") {
      const tokenDigest = digest(clientToken);
      if (!clients.some((client) => client.tokenDigest === tokenDigest)) {
        if (clients.some((client) => client.name === "default")) {
          throw new ConfigError(
            `Cannot use ${config.clientsPath}: the name "default" belongs to CLIENT_TOKEN.`,
          );
        }
        clients.push({ name: "default", plan: "unknown", params: {}, tokenDigest });
      }
    }
    this.authenticator = new Authenticator(
      clients,
      grants,
      workerToken === "" ? undefined : digest(workerToken),
    );
  }

  #warnAboutFile = (message: string) => this.log("warn", "workers_file_warning", { message });

  /** Reads the workers file again. @throws ConfigError when there is none, or it cannot be used. */
  async reloadWorkers(): Promise<void> {
    const { workersPath } = this.config;
    if (workersPath === "") throw new ConfigError("WORKERS_CONFIG_PATH is not set, cannot reload configs.");
    const text = await readSettingsFile(workersPath);
    this.authenticator.setGrants(readWorkers(text, workersPath, this.#warnAboutFile));
  }

  /** Stops taking requests, lets polls and handlers end, closes the storage. Twice is quiet. */
  stop(): Promise<void> {
    return this.#stopped ??= this.#stop();
  }

  async #stop(): Promise<void> {
    this.dispatcher.close();
    this.#stopping.abort();
    this.#wakeUp.abort();
    await this.closeServer();
    for (const { call } of this.#running.values()) {
      call.abort(new DOMException("The engine stops.", "AbortError"));
    }
    await Promise.allSettled(this.#loops);
    // Handlers that do not end are left: their jobs' leases run out, and the next engine runs them again.
    const drain = new AbortController();
    await Promise.race([
      Promise.allSettled(this.#background),
      this.clock.sleep(1_000, drain.signal),
    ]);
    drain.abort();
    for (const { waiting } of this.#running.values()) waiting.abort();
    this.#unsubscribe?.();
    await this.#flushTallies().catch(() => {});
    if (this.#isStarted) await this.storage.time(this.now()).catch(() => {});
    await this.storage[Symbol.asyncDispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Closes what takes requests, and resolves when all of them are answered; the storage is open until then. */
  protected closeServer(): Promise<void> {
    return Promise.resolve();
  }

  /** Aborted when the engine stops. */
  get stopping(): AbortSignal {
    return this.#stopping.signal;
  }

  #rules(): Rules {
    const { config } = this;
    const wall = this.clock.wall();
    return {
      now: this.now(),
      wall,
      newId: () => makeId(wall),
      maxRetries: config.jobMaxRetries,
      retryDelayMs: config.retryDelayMs,
      workerTimeoutMs: config.workerTimeoutMs,
      queueTimeoutMs: config.queueTimeoutMs,
    };
  }

  // ---- Submitting -------------------------------------------------------------------------------------------------

  /** Takes a job. Resolves when it is as durable as the storage promises. */
  async submit(
    client: Client,
    blueprint: StateMachineBlueprint,
    data: JsonObject,
    more: Submission = {},
  ): Promise<Submitted> {
    const wall = this.clock.wall();
    const span = beginSpan(`job ${blueprint.name}`, { "job.blueprint": blueprint.name }, more.trace);
    span?.end();
    const change = newJob({
      id: makeId(wall),
      blueprint: blueprint.name,
      client: client.name,
      plan: client.plan,
      clientParams: client.params,
      state: blueprint.start,
      initialData: data,
      trace: span?.trace ?? more.trace,
      queueTimeoutMs: more.queueTimeoutMs,
      resultTimeoutMs: more.resultTimeoutMs,
      webhook: more.webhookUrl === undefined ? undefined : { url: more.webhookUrl, tries: 0 },
    }, wall);
    let outcome: CommitOutcome;
    if (more.idempotencyKey === undefined && client.monthlyAttempts === undefined) {
      outcome = await this.#runAndSave(change);
    } else {
      // The job may be refused: nothing of it may run before it is in.
      const admission: Admission = {};
      if (more.idempotencyKey !== undefined) {
        const fingerprint = digest(`${blueprint.name}\n${JSON.stringify(data)}`);
        admission.idempotency = { key: more.idempotencyKey, fingerprint };
      }
      if (client.monthlyAttempts !== undefined) {
        admission.quota = { month: monthOf(wall), limit: client.monthlyAttempts };
      }
      change.admission = admission;
      outcome = await this.#save([change], this.now() + LEASE_MS);
      if (outcome.kind === "done") {
        this.#inBackground(this.#runAndSave(new JobChange({ ...change.job, revision: 1 })));
      }
      if (outcome.kind === "duplicate") {
        if (outcome.fingerprint !== admission.idempotency?.fingerprint) return { kind: "key-reused" };
        return { kind: "accepted", jobId: outcome.jobId };
      }
    }
    if (outcome.kind === "over-quota") {
      const next = new Date(`${monthOf(wall)}-01T00:00:00Z`);
      next.setUTCMonth(next.getUTCMonth() + 1);
      return { kind: "over-quota", retryAfterSeconds: Math.ceil((next.getTime() - wall) / 1000) };
    }
    if (outcome.kind !== "done") throw new Error(`A new job could not be stored (${outcome.kind}).`);
    this.metrics.submitted(blueprint.name);
    return { kind: "accepted", jobId: change.job.id };
  }

  async #submitScheduled(
    schedule: string,
    blueprintName: string,
    data: JsonObject,
    clientName: string,
    tick: number,
  ): Promise<void> {
    const blueprint = this.blueprints.get(blueprintName);
    if (blueprint === undefined) return;
    const known = this.authenticator.named(clientName);
    const client: Client = { name: clientName, plan: "unknown", params: {}, tokenDigest: "", ...known };
    // The tick is the key: several engines, or one that died between the job and its note, begin it once.
    delete client.monthlyAttempts;
    await this.submit(client, blueprint, data, {
      idempotencyKey: `schedule ${schedule} ${new Date(tick).toISOString()}`,
    });
  }

  // ---- Moving jobs on ---------------------------------------------------------------------------------------------

  // Runs what is due and saves; resolves when the first save is done. Handlers that end at once are saved together with
  // what led to them. Where several engines share the storage each step is saved first, so that no two run the same.
  async #runAndSave(change: JobChange): Promise<CommitOutcome> {
    for (;;) {
      if (change.job.status === "pending") change.job = { ...change.job, status: "running" };
      const { job } = change;
      const mustWait = job.status === "awaiting_retry" && job.retryAt > this.now();
      if (!isRunnable(job) || mustWait) return await this.#save([change]);
      if (this.storage.shared && change.history.length > 0 && this.#mayRunElsewhere(change)) {
        const outcome = await this.#save([change], this.now() + LEASE_MS);
        if (outcome.kind === "done") this.#continue(change);
        return outcome;
      }
      if (this.#running.size >= this.config.maxConcurrentJobs) {
        // Left for the watch, which finds it when there is room.
        return await this.#save([change]);
      }
      const blueprint = this.blueprints.get(job.blueprint);
      if (blueprint === undefined) {
        endJob(change, "quarantined", `There is no blueprint "${job.blueprint}".`, this.#rules());
        continue;
      }
      if (job.steps >= this.config.maxTransitions) {
        change.job = { ...job, failedState: job.state };
        endJob(
          change,
          "failed",
          `The job went through more than ${this.config.maxTransitions} states.`,
          this.#rules(),
        );
        continue;
      }
      const rules = this.#rules();
      const startedAt = rules.now;
      const call = this.#callFor(job, blueprint);
      call.span = beginSpan(
        `state ${job.state}`,
        { "job.id": job.id, "job.blueprint": job.blueprint },
        job.trace,
      );
      change.note("state_started", rules);
      const end = this.#run(blueprint, job, call);
      if (!(end instanceof Promise)) {
        this.#handlerEnded(change, blueprint, call, end, startedAt);
        continue;
      }
      const waiting = new AbortController();
      this.#running.set(job.id, { call, revision: change.stored + 1, waiting });
      let outcome: CommitOutcome;
      try {
        outcome = await this.#save([change], this.now() + LEASE_MS);
      } catch (error) {
        this.#running.delete(job.id);
        throw error;
      }
      if (outcome.kind !== "done") {
        this.#running.delete(job.id);
        call.abort(new DOMException("The job was changed meanwhile.", "AbortError"));
        return outcome;
      }
      this.#inBackground(this.#awaitHandler(change, blueprint, call, end, startedAt, waiting));
      return outcome;
    }
  }

  // Whether another engine could do the same step now. Nobody knows a new job yet; where there is no handler, nothing runs.
  #mayRunElsewhere({ job, stored }: JobChange): boolean {
    const state = this.blueprints.get(job.blueprint)?.states.get(job.state);
    return stored > 0 && (state?.handler !== undefined || state?.conditional.length !== 0);
  }

  // Goes on with what was just saved.
  #continue(change: JobChange): void {
    this.#inBackground(this.#runAndSave(new JobChange({ ...change.job, revision: change.stored + 1 })));
  }

  async #awaitHandler(
    change: JobChange,
    blueprint: StateMachineBlueprint,
    call: HandlerCall,
    ending: Promise<HandlerEnd>,
    startedAt: number,
    waiting: AbortController,
  ): Promise<void> {
    const limit = this.clock.sleep(this.config.handlerTimeoutMs, waiting.signal).then((): HandlerEnd => ({
      error: `The handler of state "${change.job.state}" did not end within ${
        this.config.handlerTimeoutMs / 1000
      } s.`,
    }));
    const end = await Promise.race([ending, limit]);
    waiting.abort();
    call.abort(new DOMException("The handler's time is over.", "TimeoutError"));
    this.#running.delete(change.job.id);
    if (this.#stopping.signal.aborted && "error" in end) return;
    const next = new JobChange({ ...change.job, revision: change.stored + 1 });
    this.#handlerEnded(next, blueprint, call, end, startedAt);
    await this.#exclusively(change.job.id, () => this.#runAndSave(next));
    this.#scheduleCheck(this.now());
  }

  #callFor(job: Job, blueprint: StateMachineBlueprint): HandlerCall {
    // A copy: what a handler writes before it throws must not stay.
    return new HandlerCall(job, copyObject(job.stateHistory, "stateHistory"), this.#storesOf(blueprint));
  }

  #run(blueprint: StateMachineBlueprint, job: Job, call: HandlerCall): HandlerEnd | Promise<HandlerEnd> {
    const state = blueprint.states.get(job.state);
    try {
      const handler = state?.conditional.find(({ matches }) => matches(call))?.handler ?? state?.handler;
      if (handler === undefined) {
        if (blueprint.ends(job.state)) return { action: undefined };
        return { error: `No handler of state "${job.state}" applies to this job.` };
      }
      const result = handler(call);
      if (!(result instanceof Promise)) return { action: result ?? undefined };
      return result.then(
        (action) => ({ action: action ?? undefined }),
        (error) => ({ error: messageOf(error) }),
      );
    } catch (error) {
      return { error: messageOf(error) };
    }
  }

  #handlerEnded(
    change: JobChange,
    blueprint: StateMachineBlueprint,
    call: HandlerCall,
    end: HandlerEnd,
    startedAt: number,
  ): void {
    const rules = this.#rules();
    const before = change.job;
    change.job = { ...before, steps: before.steps + 1 };
    let error = "error" in end ? end.error : undefined;
    call.span?.end(error);
    if (!("error" in end)) {
      try {
        change.job.stateHistory = copyObject(call.stateHistory, "stateHistory");
        const duration_ms = Math.round(rules.now - startedAt);
        change.note("state_finished", rules, { duration_ms });
        handlerDone(change, blueprint, end.action, rules);
        for (const [index, child] of change.children.entries()) {
          const childBlueprint = this.blueprints.get(child.blueprint);
          if (childBlueprint === undefined) throw new Error(`There is no blueprint "${child.blueprint}".`);
          change.children[index] = { ...child, state: childBlueprint.start };
        }
        return;
      } catch (thrown) {
        error = messageOf(thrown);
        change.children = [];
        change.enqueue = [];
        change.history = change.history.filter((event) => event.event_type !== "state_finished");
      }
    }
    change.job = { ...before, steps: before.steps + 1 };
    handlerFailed(change, error ?? "", rules);
    this.log("warn", "handler_failed", { job_id: before.id, state: before.state, error });
  }

  // Saves changes in one commit, then notifies dispatcher, listeners and parents.
  async #save(changes: readonly JobChange[], wakeAt?: number): Promise<CommitOutcome> {
    const wall = this.clock.wall();
    const now = this.now();
    const writes = changes.flatMap((change) => [
      change.write(wakeAt !== undefined && isRunnable(change.job) ? wakeAt : wakeOf(change.job, now), wall),
      ...change.children.map((child) => newChild(child).write(now + LEASE_MS, wall)),
    ]);
    const held = changes.some((change) => change.withdraw.length > 0)
      ? await Promise.all(changes.map((change) => this.storage.read(change.job.id)))
      : [];
    const outcome = await this.storage.commit(writes);
    if (outcome.kind !== "done") return outcome;
    for (const write of writes) {
      if (write.wakeAt !== null) this.#scheduleCheck(write.wakeAt);
      this.#remember(write.job);
      for (const listener of this.#listeners) listener(write.job);
    }
    for (const [index, change] of changes.entries()) {
      if (hasEnded(change.job) && !change.hadEnded) this.#ended(change.job);
      this.dispatcher.queued(change.enqueue);
      for (const task of change.enqueue) {
        if (task.queueBy !== undefined) this.#scheduleCheck(task.queueBy);
        this.log("info", "task_dispatched", { job_id: task.jobId, task_id: task.id, type: task.type });
      }
      for (const child of change.children) {
        this.#inBackground(this.#runAndSave(new JobChange({ ...child, revision: 1 })));
      }
      const tasks = held[index]?.tasks ?? [];
      for (const id of change.withdraw) {
        const task = tasks.find((one) => one.id === id);
        if (task?.workerId !== undefined) this.#announceCancel(task.workerId, id, task.jobId);
      }
    }
    return outcome;
  }

  #ended(job: Job): void {
    this.metrics.ended(job.blueprint, job.status, Math.max(0, this.clock.wall() - job.createdAt) / 1000);
    this.log(job.status === "finished" || job.status === "cancelled" ? "info" : "warn", "job_ended", {
      job_id: job.id,
      blueprint: job.blueprint,
      status: job.status,
      state: job.state,
      ...(job.error === undefined ? {} : { error: job.error }),
    });
    if (job.parentId !== undefined) this.#inBackground(this.#resumeParent(job.parentId, job));
    if (job.webhook !== undefined && job.webhook.done === undefined) this.#scheduleCheck(this.now());
  }

  #remember(job: Job): void {
    if (job.status !== "waiting_for_worker") {
      this.#cache.delete(job.id);
      return;
    }
    if (this.#cache.size >= MAX_CACHED_JOBS) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    this.#cache.set(job.id, new WeakRef({ job }));
  }

  // What a read would most likely return for a job whose task this worker holds; good for one use.
  #recall(jobId: string, taskId: string, workerId: string): { job: Job; tasks: Task[] } | undefined {
    const { job, task } = this.#cache.get(jobId)?.deref() ?? {};
    if (job === undefined || task?.id !== taskId || task.workerId !== workerId) return undefined;
    this.#cache.delete(jobId);
    return { job, tasks: [task] };
  }

  // A step on a job that others may move at the same time: read, step, save, and again if somebody was faster. `guess` is
  // tried instead of the first read.
  async #step<T>(
    jobId: string,
    act: (change: JobChange, tasks: Task[], rules: Rules) => { stop: T } | { go: T },
    guess?: () => { job: Job; tasks: Task[] } | undefined,
  ): Promise<T | undefined> {
    return await this.#exclusively(jobId, async () => {
      for (let round = 0; round < MAX_CONFLICTS; round++) {
        const read = (round === 0 ? guess?.() : undefined) ?? await this.storage.read(jobId);
        if (read === undefined) return undefined;
        const change = new JobChange(read.job);
        const answer = act(change, read.tasks, this.#rules());
        if ("stop" in answer) return answer.stop;
        if ((await this.#runAndSave(change)).kind === "done") return answer.go;
      }
      throw new Error(`Job ${jobId} is changed too often; try again.`);
    });
  }

  // One after another within this engine, so that a repeated result never runs a handler twice.
  async #exclusively<T>(jobId: string, act: () => Promise<T>): Promise<T> {
    for (let other = this.#busy.get(jobId); other !== undefined; other = this.#busy.get(jobId)) await other;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#busy.set(jobId, promise);
    try {
      return await act();
    } finally {
      this.#busy.delete(jobId);
      resolve();
    }
  }

  #inBackground(work: Promise<unknown>): void {
    const guarded = work.catch((error) =>
      this.log("error", "background_failed", { error: messageOf(error) })
    );
    this.#background.add(guarded);
    void guarded.finally(() => this.#background.delete(guarded));
  }

  #storesOf(blueprint: StateMachineBlueprint): Record<string, DataStore> {
    let stores = this.#dataStores.get(blueprint.name);
    if (stores === undefined) {
      stores = {};
      for (const [name, initial] of blueprint.dataStores) {
        const keyOf = (key: string) => `data ${blueprint.name} ${name} ${key}`;
        stores[name] = {
          get: async (key) => {
            const text = await this.storage.get(keyOf(key));
            return text === undefined
              ? (Object.hasOwn(initial, key) ? initial[key] : undefined)
              : JSON.parse(text);
          },
          set: (key, value) => this.storage.set(keyOf(key), JSON.stringify(value)),
        };
      }
      this.#dataStores.set(blueprint.name, stores);
    }
    return stores;
  }

  // ---- Workers ----------------------------------------------------------------------------------------------------

  /** A worker registers: tasks it held before, except `running_tasks`, are dispatched again. */
  async register(message: Registration): Promise<void> {
    const now = this.now();
    await this.workers.register(message, now, this.clock.wall());
    this.log("info", "worker_registered", { worker_id: message.worker_id, worker_type: message.worker_type });
    this.dispatcher.dismiss(message.worker_id);
    const running = new Set(message.running_tasks);
    for (const task of await this.storage.heldBy(message.worker_id)) {
      if (!running.has(task.id)) await this.#redeliver(task);
    }
  }

  /** A heartbeat with content. */
  async heartbeat(workerId: string, message: Heartbeat): Promise<LiveWorker | undefined> {
    if (this.workers.get(workerId) === undefined) {
      this.log("info", "worker_registered_by_heartbeat", { worker_id: workerId });
    }
    const worker = await this.workers.heartbeat(workerId, message, this.now(), this.clock.wall());
    this.dispatcher.changed(workerId);
    return worker;
  }

  /** A sign of life; false: not known. */
  async seen(workerId: string): Promise<boolean> {
    const worker = this.workers.get(workerId);
    if (worker === undefined) return false;
    await this.workers.seen(worker, this.now(), this.clock.wall());
    return true;
  }

  /** The next task for a worker that comes within `waitMs`; `signal` is aborted when its connection is gone. */
  async poll(
    workerId: string,
    signal: AbortSignal | undefined,
    waitMs: number,
  ): Promise<HeldTask | undefined> {
    const until = this.now() + waitMs;
    for (;;) {
      const leftMs = until - this.now();
      const worker = this.workers.get(workerId);
      if (worker !== undefined) {
        await this.workers.seen(worker, this.now(), this.clock.wall());
        return await this.dispatcher.poll(worker, signal, leftMs);
      }
      // Its heartbeat may make it known meanwhile, here or to another engine.
      if (signal === undefined || signal.aborted || leftMs <= 0 || this.#stopping.signal.aborted) {
        return undefined;
      }
      await this.clock.sleep(Math.min(leftMs, TICK_MS), AbortSignal.any([signal, this.#stopping.signal]));
    }
  }

  #taken(task: HeldTask): void {
    this.#scheduleCheck(task.takenAt + task.timeoutMs);
    const known = this.#cache.get(task.jobId)?.deref();
    if (known?.job.status === "waiting_for_worker" && known.job.task.id === task.id) known.task = task;
  }

  /** A worker's answer. It counts only for a task that is assigned to this worker. */
  async result(
    jobId: string,
    taskId: string,
    workerId: string,
    outcome: TaskResult,
  ): Promise<{ status: ResultStatus } | { status: "ignored"; reason: string }> {
    this.#forgetCancel(workerId, taskId);
    const ignored = (reason: string) => ({ stop: { status: "ignored" as const, reason } });
    const answer = await this.#step<{ status: ResultStatus } | { status: "ignored"; reason: string }>(
      jobId,
      (change, tasks, rules) => {
        const task = tasks.find((one) => one.id === taskId);
        if (hasEnded(change.job)) return ignored("The job has ended.");
        if (task === undefined) {
          return ignored("The task is not current: it was answered, withdrawn or given to another worker.");
        }
        if (task.workerId === undefined) return ignored("The task is not assigned to any worker.");
        if (task.workerId !== workerId) return ignored("The task is assigned to another worker.");
        return { go: { status: taskAnswered(change, task, outcome, rules) } };
      },
      () => this.#recall(jobId, taskId, workerId),
    );
    if (answer === undefined) return { status: "ignored", reason: "Job not found" };
    if (answer.status !== "ignored") {
      this.metrics.task(
        outcome.status === "failure" ? "failure" : outcome.status === "cancelled" ? "cancelled" : "success",
      );
      if (outcome.status !== "cancelled") this.#tally(workerId, outcome.status !== "failure");
    } else this.metrics.task("ignored");
    return answer;
  }

  #tally(workerId: string, succeeded: boolean): void {
    const day = Math.floor(this.clock.wall() / DAY_MS);
    const key = `${workerId}\0${day}`;
    const tally = this.#tallies.get(key) ?? { workerId, day, succeeded: 0, failed: 0 };
    if (succeeded) tally.succeeded++;
    else tally.failed++;
    this.#tallies.set(key, tally);
  }

  async #flushTallies(): Promise<void> {
    if (this.#tallies.size === 0) return;
    const tallies = [...this.#tallies.values()];
    this.#tallies = new Map();
    await this.storage.addTallies(tallies);
  }

  #firstDay(): number {
    return Math.floor(this.clock.wall() / DAY_MS) - REPUTATION_DAYS;
  }

  /** Keeps a worker's progress report in the job, if the task is assigned to this worker. */
  async progress(
    jobId: string,
    taskId: string,
    workerId: string | undefined,
    value?: number,
    message?: string,
  ): Promise<void> {
    await this.#step(jobId, (change, tasks, rules) => {
      const task = tasks.find((one) => one.id === taskId);
      if (task?.workerId === undefined || (workerId !== undefined && task.workerId !== workerId)) {
        return { stop: undefined };
      }
      change.job = { ...change.job, progress: { taskId, value, message, at: rules.wall } };
      return { go: undefined };
    });
  }

  async #redeliver(task: HeldTask): Promise<void> {
    await this.#step(task.jobId, (change, tasks, rules) => {
      const held = tasks.find((one) => one.id === task.id);
      if (held?.workerId !== task.workerId || held.takenAt !== task.takenAt) return { stop: undefined };
      workerLost(change, held, rules);
      this.metrics.task("redelivered");
      return { go: undefined };
    });
  }

  /** Cancelled tasks that this worker was given and has not answered. */
  cancelledTasks(workerId: string): string[] {
    return [...this.#cancelledTasks.get(workerId)?.keys() ?? []];
  }

  /** Calls the listener for cancelled tasks of a worker (of all workers: the empty id); returns the way to stop. */
  onCancel(workerId: string, listener: (command: CancelCommand) => void): () => void {
    const listeners = this.#commandListeners.get(workerId) ?? new Set();
    this.#commandListeners.set(workerId, listeners);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#commandListeners.delete(workerId);
    };
  }

  /** Whether somebody listens for this worker's commands. */
  listensForCommands(workerId: string): boolean {
    return this.#commandListeners.has(workerId);
  }

  #announceCancel(workerId: string, taskId: string, jobId: string): void {
    const tasks = this.#cancelledTasks.get(workerId) ?? new Map();
    this.#cancelledTasks.set(workerId, tasks);
    tasks.set(taskId, { jobId, at: this.now() });
    for (const id of [workerId, ""]) {
      for (const listener of this.#commandListeners.get(id) ?? []) listener({ taskId, jobId });
    }
  }

  #forgetCancel(workerId: string, taskId: string): void {
    const tasks = this.#cancelledTasks.get(workerId);
    if (tasks?.delete(taskId) && tasks.size === 0) this.#cancelledTasks.delete(workerId);
  }

  // ---- Clients ----------------------------------------------------------------------------------------------------

  /** Calls the listener after every change of a job, by this engine or another; returns the way to stop. */
  onJob(listener: JobListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends a job and its sub-jobs. `sent`: a worker that runs its task was notified at once. */
  async cancel(jobId: string): Promise<"ended" | "accepted" | "sent" | "unknown"> {
    for (let round = 0; round < MAX_CONFLICTS; round++) {
      const tree: { change: JobChange; tasks: Task[] }[] = [];
      let next: string | undefined = jobId;
      while (next !== undefined) {
        const read: { job: Job; tasks: Task[] } | undefined = await this.storage.read(next);
        if (read === undefined || hasEnded(read.job)) break;
        tree.push({ change: new JobChange(read.job), tasks: read.tasks });
        next = read.job.status === "waiting_for_sub_job" ? read.job.childId : undefined;
      }
      if (tree.length === 0) return await this.storage.read(jobId) === undefined ? "unknown" : "ended";
      const rules = this.#rules();
      for (const { change, tasks } of tree) cancelled(change, tasks, rules);
      const changes = tree.map(({ change }) => change);
      if ((await this.#save(changes, this.now() + LEASE_MS)).kind !== "done") continue;
      for (const change of changes) {
        this.#running.get(change.job.id)?.call.abort(
          new DOMException("The job was cancelled.", "AbortError"),
        );
        if (isRunnable(change.job)) this.#continue(change);
      }
      const held = tree.flatMap(({ tasks }) => tasks.flatMap((task) => task.workerId ?? []));
      return held.some((id) => this.listensForCommands(id) || this.listensForCommands(""))
        ? "sent"
        : "accepted";
    }
    throw new Error(`Job ${jobId} is changed too often; try again.`);
  }

  /** Decides for a job that waits for a human. `secret`: of the one-time link, when no client asks. */
  async approve(
    jobId: string,
    decision: string,
    secret?: string,
  ): Promise<"approved" | "unknown" | "not waiting" | "invalid decision" | "wrong link"> {
    const answer = await this.#step<"approved" | "not waiting" | "invalid decision" | "wrong link">(
      jobId,
      (change, _tasks, rules) => {
        const { job } = change;
        if (job.status !== "waiting_for_human") return { stop: "not waiting" };
        if (
          secret !== undefined && (job.linkHash === undefined || !sameDigest(digest(secret), job.linkHash))
        ) {
          return { stop: "wrong link" };
        }
        if (!Object.hasOwn(job.transitions, decision)) return { stop: "invalid decision" };
        decided(change, decision, rules);
        return { go: "approved" };
      },
    );
    return answer ?? "unknown";
  }

  /** Makes the one-time secret with which a waiting job can be decided without a token; an older one is void. */
  async approvalLink(jobId: string): Promise<string | undefined> {
    const secret = makeSecret();
    return await this.#step<string | undefined>(jobId, (change) => {
      if (change.job.status !== "waiting_for_human") return { stop: undefined };
      change.job = { ...change.job, linkHash: digest(secret) };
      return { go: secret };
    });
  }

  /** Runs a failed or quarantined job again from where it failed. */
  async requeue(jobId: string): Promise<"requeued" | "unknown" | "not failed" | "no blueprint"> {
    const answer = await this.#step<"requeued" | "not failed" | "no blueprint">(
      jobId,
      (change, _tasks, rules) => {
        const { job } = change;
        if (job.status !== "failed" && job.status !== "quarantined") return { stop: "not failed" };
        const blueprint = this.blueprints.get(job.blueprint);
        if (blueprint === undefined) return { stop: "no blueprint" };
        requeued(change, blueprint, rules);
        return { go: "requeued" };
      },
    );
    return answer ?? "unknown";
  }

  /** Takes a job off the quarantine list. */
  async unlist(jobId: string): Promise<boolean> {
    const answer = await this.#step<boolean>(jobId, (change) => {
      if (!change.job.listed) return { stop: false };
      change.job = { ...change.job, listed: undefined };
      return { go: true };
    });
    return answer ?? false;
  }

  // ---- What is due ------------------------------------------------------------------------------------------------

  // Something will be due then; the watch sleeps no longer. What is later than its next regular look needs no note.
  #scheduleCheck(at: number): void {
    if (at >= this.#regularCheckAt) return;
    this.#checksAt.add(Math.ceil(at));
    if (at >= this.#nextCheckAt) return;
    this.#nextCheckAt = at;
    this.#wakeUp.abort();
  }

  async #watch(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      this.#wakeUp = new AbortController();
      const now = this.now();
      if (now < this.#nextCheckAt) {
        await this.clock.sleep(this.#nextCheckAt - now, this.#wakeUp.signal);
        continue;
      }
      for (const at of this.#checksAt) if (at <= now) this.#checksAt.delete(at);
      this.#regularCheckAt = now + Math.min(TICK_MS, this.config.watcherIntervalMs || TICK_MS);
      this.#nextCheckAt = Math.min(this.#regularCheckAt, ...this.#checksAt);
      try {
        await this.#runDue();
      } catch (error) {
        this.log("error", "due_work_failed", { error: messageOf(error) });
      }
    }
  }

  async #runDue(): Promise<void> {
    const now = this.now();
    await this.#wakeJobs(now);
    await Promise.all((await this.storage.dueTasks(now, DUE_LIMIT)).map((task) => this.#timeOut(task)));
    for (const worker of this.workers.expired(now)) {
      if (!await this.workers.forget(worker)) continue;
      this.log("warn", "worker_lost", { worker_id: worker.id });
      this.dispatcher.forget(worker.id);
      await Promise.all((await this.storage.heldBy(worker.id)).map((task) => this.#redeliver(task)));
    }
  }

  async #wakeJobs(now: number): Promise<void> {
    for (;;) {
      const room = Math.min(CLAIM_LIMIT, this.config.maxConcurrentJobs - this.#running.size);
      if (room <= 0) return;
      const jobs = await this.storage.claim(now, Math.max(now + 1, this.now() + LEASE_MS), room);
      await Promise.all(jobs.map((job) => this.#running.has(job.id) ? undefined : this.#wake(job)));
      if (jobs.length < room || this.#stopping.signal.aborted) return;
    }
  }

  async #wake(job: Job): Promise<void> {
    if (hasEnded(job)) {
      this.#inBackground(this.#deliver(job));
    } else if (job.status === "waiting_for_sub_job") {
      const child = await this.storage.read(job.childId);
      if (child === undefined) {
        await this.#step(job.id, (change, _tasks, rules) => {
          if (change.job.status !== "waiting_for_sub_job") return { stop: undefined };
          endJob(change, "failed", "The sub-job is not there any longer.", rules);
          return { go: undefined };
        });
      } else if (hasEnded(child.job)) await this.#resumeParent(job.id, child.job);
      else await this.storage.lease(job.id, job.revision, this.now() + LEASE_MS);
    } else {
      await this.#step(job.id, (change, _tasks, rules) => {
        if (change.job.revision !== job.revision) return { stop: undefined };
        if (!isRunnable(change.job) && !retriesDue(change, rules)) {
          const next = wakeOf(change.job, rules.now);
          if (next !== null) this.#inBackground(this.storage.lease(job.id, job.revision, next));
          return { stop: undefined };
        }
        return { go: undefined };
      });
    }
  }

  async #timeOut(task: Task): Promise<void> {
    await this.#step(task.jobId, (change, tasks, rules) => {
      const open = tasks.find((one) => one.id === task.id);
      if (open === undefined || open.workerId !== task.workerId || open.takenAt !== task.takenAt) {
        return { stop: undefined };
      }
      taskTimedOut(change, open, rules);
      this.metrics.task("timeout");
      return { go: undefined };
    });
  }

  async #resumeParent(parentId: string, child: Job): Promise<void> {
    await this.#step(parentId, (change, _tasks, rules) => {
      if (change.job.status !== "waiting_for_sub_job" || change.job.childId !== child.id) {
        return { stop: undefined };
      }
      childEnded(change, child, rules);
      return { go: undefined };
    });
  }

  // The end of a job is reported to its webhook until somebody takes it, or nobody did for long.
  async #deliver(job: Job): Promise<void> {
    const { webhook } = job;
    if (webhook === undefined || webhook.done !== undefined) return;
    const failure = await deliverWebhook(
      job,
      webhook.url,
      this.authenticator.named(job.client)?.tokenDigest,
      this.#stopping.signal,
    );
    await this.#exclusively(job.id, async () => {
      const read = await this.storage.read(job.id);
      if (read === undefined || read.job.revision !== job.revision) return;
      const change = new JobChange(read.job);
      const rules = this.#rules();
      const tries = webhook.tries + 1;
      const delayMs = failure === undefined ? undefined : webhookDelayMs(tries);
      const done = failure === undefined
        ? "delivered"
        : delayMs === undefined
        ? `given up: ${failure}`
        : undefined;
      change.job = { ...job, webhook: { url: webhook.url, tries, done } };
      if (done !== undefined) {
        change.note(
          failure === undefined ? "webhook_delivered" : "webhook_given_up",
          rules,
          failure === undefined ? {} : { error: failure },
        );
      }
      const write = change.write(delayMs === undefined ? null : rules.now + delayMs, rules.wall);
      write.job.lastEvent = job.lastEvent;
      await this.storage.commit([write]);
      if (delayMs !== undefined) this.#scheduleCheck(rules.now + delayMs);
    });
  }

  // Once a second: engine time, leases of handlers that take long, other engines' workers, counts. Rarely: the rest.
  async #housekeep(): Promise<void> {
    const { signal } = this.#stopping;
    for (let second = 1; !signal.aborted; second++) {
      await this.clock.sleep(TICK_MS, signal);
      if (signal.aborted) return;
      this.arrivals.expire();
      try {
        const shared = await this.storage.time(this.now());
        if (shared > this.now()) this.#offset += shared - this.now();
        for (const [id, { revision }] of this.#running) {
          await this.storage.lease(id, revision, this.now() + LEASE_MS);
        }
        const queues = await this.storage.queues();
        const sum = (key: "queued" | "held") => queues.reduce((total, queue) => total + queue[key], 0);
        this.metrics.sample(Math.floor(this.clock.wall() / 1000), sum("queued"), sum("held"));
        if (this.storage.shared) {
          for (const id of await this.workers.load()) this.dispatcher.dismiss(id);
          for (const queue of queues) if (queue.queued > 0) this.dispatcher.queuedElsewhere(queue.type);
        }
        if (second % 10 === 0) await this.#flushTallies();
        if (second % 60 === 0) this.#forgetOldCancels();
        if (second % 3600 === 0) await this.workers.rate(this.#firstDay());
        if (second % 60 === 0 && this.config.retentionMs > 0) {
          await this.storage.prune(this.clock.wall() - this.config.retentionMs, 1000);
        }
      } catch (error) {
        this.log("error", "storage_unavailable", { error: messageOf(error) });
      }
    }
  }

  #forgetOldCancels(): void {
    for (const [workerId, tasks] of this.#cancelledTasks) {
      for (const [id, { at }] of tasks) if (at < this.now() - CANCEL_MEMORY_MS) tasks.delete(id);
      if (tasks.size === 0) this.#cancelledTasks.delete(workerId);
    }
  }

  #onNotice(notice: Notice): void {
    switch (notice.kind) {
      case "queued":
        this.dispatcher.queuedElsewhere(notice.type);
        return;
      case "withdrawn":
        this.#announceCancel(notice.workerId, notice.taskId, notice.jobId);
        return;
      case "job":
        if (this.#listeners.size > 0) {
          this.#inBackground(
            this.storage.read(notice.id).then((read) => {
              if (read !== undefined) { for (const listener of this.#listeners) listener(read.job); }
            }),
          );
        }
    }
  }
}

function newChild(job: Job): JobChange {
  const change = new JobChange(job, 0);
  change.history.push({ event_type: "job_created", timestamp: job.createdAt, state: job.state });
  return change;
}

// Quotas follow the calendar's months, in UTC.
function monthOf(wall: number): string {
  return new Date(wall).toISOString().slice(0, 7);
}

async function readSettingsFile(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ConfigError(`Cannot read ${path}: there is no such file.`);
    }
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new ConfigError(`Cannot read ${path}: permission denied.`);
    }
    throw error;
  }
}
