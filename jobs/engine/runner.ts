/**
 * Moves jobs on: runs the handlers that are due, saves what they changed in one commit, and notifies whoever follows.
 *
 * @module
 */

import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { messageOf } from "../model/errors.ts";
import type { Job } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import { isRunnable, JobChange, wakeOf, workerLost } from "../model/job_change.ts";
import { copyObject } from "../model/json.ts";
import type { CommitOutcome, HeldTask, Task } from "../model/store.ts";
import { childEnded, handlerDone, handlerFailed } from "../model/transitions.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { HandlerEnd } from "./handlers.ts";
import { dataStoresOf, HandlerCall, runHandler } from "./handlers.ts";
import type { Span } from "./trace.ts";
import { beginSpan } from "./trace.ts";

/** Attempts to save a step whose job somebody else moved meanwhile. */
export const MAX_CONFLICTS = 20;

/** One run of a handler. */
interface Run {
  change: JobChange;
  blueprint: StateMachineBlueprint;
  call: HandlerCall;
  span: Span | undefined;
  startedAt: number;
}

export class JobRunner {
  /** Handlers that are being awaited, by job; `waiting` ends the wait. */
  readonly running = new Map<string, { run: Run; waiting: AbortController }>();
  readonly #busy = new Map<string, Promise<void>>();

  constructor(private readonly core: EngineCore) {}

  /** Has running handlers notice that the engine stops. */
  abortHandlers(): void {
    for (const { run } of this.running.values()) run.call.abort("The engine stops.");
  }

  /** Waits for handlers no longer: their jobs' leases run out, and the next engine runs them again. */
  leaveHandlers(): void {
    for (const { waiting } of this.running.values()) waiting.abort();
  }

  /**
   * Runs what is due and saves; resolves when the first save is done. Handlers that end at once are saved together with
   * what led to them. Where several engines share the storage each step is saved first, so that no two run the same.
   */
  async runAndSave(change: JobChange): Promise<CommitOutcome> {
    const { blueprints, clock, config, storage } = this.core;
    for (;;) {
      if (change.job.status === "pending") change.job = { ...change.job, status: "running" };
      const { job } = change;
      const mustWait = job.status === "awaiting_retry" && job.retryAt > clock.now();
      if (!isRunnable(job) || mustWait) return await this.save([change]);
      if (storage.shared && change.history.length > 0 && this.#mayRunElsewhere(change)) {
        const outcome = await this.save([change], LEASE_MS);
        if (outcome.kind === "done") this.continue(change);
        return outcome;
      }
      // When there is no room, it is left for the next check that finds some.
      if (this.running.size >= config.maxConcurrentJobs) return await this.save([change]);
      const blueprint = blueprints.get(job.blueprint);
      if (blueprint === undefined) {
        change.end("quarantined", `There is no blueprint "${job.blueprint}".`);
      } else if (job.steps >= config.maxTransitions) {
        const error = `The job went through more than ${config.maxTransitions} states.`;
        change.fail({ status: "failed", error });
      } else {
        const run = this.#begin(change, blueprint);
        const end = runHandler(blueprint, job, run.call);
        if (end instanceof Promise) return await this.#saveRunning(run, end);
        this.#handlerEnded(run, end);
      }
    }
  }

  // Whether another engine could do the same step now. Nobody knows a new job yet; where there is no handler, nothing runs.
  #mayRunElsewhere({ job, stored }: JobChange): boolean {
    const state = this.core.blueprints.get(job.blueprint)?.states.get(job.state);
    return stored > 0 && (state?.handler !== undefined || state?.conditional.length !== 0);
  }

  #begin(change: JobChange, blueprint: StateMachineBlueprint): Run {
    const { job } = change;
    // A copy: what a handler writes before it throws must not stay.
    const history = copyObject(job.stateHistory, "stateHistory");
    const call = new HandlerCall(job, history, dataStoresOf(blueprint, this.core.storage));
    const attributes = { "job.id": job.id, "job.blueprint": job.blueprint };
    const span = beginSpan(`state ${job.state}`, attributes, job.trace);
    change.note("state_started");
    return { change, blueprint, call, span, startedAt: change.rules.now };
  }

  async #saveRunning(run: Run, ending: Promise<HandlerEnd>): Promise<CommitOutcome> {
    const { id } = run.change.job;
    const waiting = new AbortController();
    this.running.set(id, { run, waiting });
    let outcome: CommitOutcome | undefined;
    try {
      outcome = await this.save([run.change], LEASE_MS);
    } finally {
      if (outcome?.kind !== "done") this.running.delete(id);
    }
    if (outcome.kind === "done") this.core.inBackground(this.#awaitHandler(run, ending, waiting));
    else run.call.abort("The job was changed meanwhile.");
    return outcome;
  }

  async #awaitHandler(run: Run, ending: Promise<HandlerEnd>, waiting: AbortController): Promise<void> {
    const { checks, clock, config, stopping } = this.core;
    const { id, state } = run.change.job;
    const limit = clock.sleep(config.handlerTimeoutMs, waiting.signal).then((): HandlerEnd => (
      { error: `The handler of state "${state}" did not end within ${config.handlerTimeoutMs / 1000} s.` }
    ));
    const end = await Promise.race([ending, limit]);
    waiting.abort();
    run.call.abort("The handler's time is over.", "TimeoutError");
    this.running.delete(id);
    if (stopping.aborted && "error" in end) return;
    const change = run.change.next(this.core.rules());
    this.#handlerEnded({ ...run, change }, end);
    await this.exclusively(id, () => this.runAndSave(change));
    checks.schedule(clock.now());
  }

  #handlerEnded({ change, blueprint, call, span, startedAt }: Run, end: HandlerEnd): void {
    change.rules = this.core.rules();
    const before = change.job;
    change.job = { ...before, steps: before.steps + 1 };
    const noted = change.history.length;
    let error = "error" in end ? end.error : undefined;
    span?.end(error);
    if (!("error" in end)) {
      try {
        change.job.stateHistory = copyObject(call.stateHistory, "stateHistory");
        change.note("state_finished", { duration_ms: Math.round(change.rules.now - startedAt) });
        return handlerDone(change, blueprint, end.action);
      } catch (thrown) {
        error = messageOf(thrown);
        change.history.length = noted;
      }
    }
    change.job = { ...before, steps: before.steps + 1 };
    handlerFailed(change, error ?? "");
    this.core.log("warn", "handler_failed", { job_id: before.id, state: before.state, error });
  }

  /** Goes on with what was just saved. */
  continue(change: JobChange): void {
    this.core.inBackground(this.runAndSave(change.next(this.core.rules())));
  }

  /** Saves changes in one commit, then notifies dispatcher, listeners and parents. `leaseMs`: runnable jobs are begun here. */
  async save(changes: readonly JobChange[], leaseMs?: number): Promise<CommitOutcome> {
    const { cache, checks, clock, listeners, storage } = this.core;
    const wall = clock.wall();
    const now = clock.now();
    const writes = changes.flatMap((change) => [
      change.write(
        leaseMs !== undefined && isRunnable(change.job) ? now + leaseMs : wakeOf(change.job, now),
        wall,
      ),
      ...change.children.map((child) => child.write(now + LEASE_MS, wall)),
    ]);
    const outcome = await storage.commit(writes);
    if (outcome.kind !== "done") return outcome;
    for (const { job, wakeAt } of writes) {
      if (wakeAt !== null) checks.schedule(wakeAt);
      cache.remember(job);
      for (const listener of listeners) listener(job);
    }
    for (const change of changes) this.#saved(change);
    return outcome;
  }

  #saved({ job, before, enqueue, children, withdraw }: JobChange): void {
    const { cancels, checks, dispatcher, log } = this.core;
    if (hasEnded(job) && !hasEnded(before)) this.#ended(job);
    dispatcher.queued(enqueue);
    for (const { id, jobId, type, queueBy } of enqueue) {
      if (queueBy !== undefined) checks.schedule(queueBy);
      log("info", "task_dispatched", { job_id: jobId, task_id: id, type });
    }
    for (const child of children) this.continue(child);
    for (const { id, jobId, workerId } of withdraw) {
      if (workerId !== undefined) cancels.announce(workerId, id, jobId);
    }
  }

  #ended(job: Job): void {
    const { checks, clock, log, metrics } = this.core;
    metrics.ended(job.blueprint, job.status, Math.max(0, clock.wall() - job.createdAt) / 1000);
    log(job.status === "finished" || job.status === "cancelled" ? "info" : "warn", "job_ended", {
      job_id: job.id,
      blueprint: job.blueprint,
      status: job.status,
      state: job.state,
      ...(job.error === undefined ? {} : { error: job.error }),
    });
    if (job.parentId !== undefined) this.core.inBackground(this.resumeParent(job.parentId, job));
    if (job.webhook !== undefined && job.webhook.done === undefined) checks.schedule(clock.now());
  }

  /**
   * A step on a job that others may move at the same time: reads it and calls `act`; saves what that changed, and begins
   * again if somebody was faster. Resolves with the answer of `act`, or undefined when there is no such job.
   *
   * @param guess tried instead of the first read
   */
  async step<T>(
    jobId: string,
    act: (change: JobChange, tasks: Task[]) => T,
    guess?: () => { job: Job; tasks: Task[] } | undefined,
  ): Promise<T | undefined> {
    return await this.exclusively(jobId, async () => {
      for (let round = 0; round < MAX_CONFLICTS; round++) {
        const read = (round === 0 ? guess?.() : undefined) ?? await this.core.storage.read(jobId);
        if (read === undefined) return undefined;
        const change = new JobChange(read.job, this.core.rules());
        const answer = act(change, read.tasks);
        if (change.isEmpty || (await this.runAndSave(change)).kind === "done") return answer;
      }
      throw new Error(`Job ${jobId} is changed too often; try again.`);
    });
  }

  /** One after another within this engine, so that a repeated result never runs a handler twice. */
  async exclusively<T>(jobId: string, act: () => Promise<T>): Promise<T> {
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

  /** A sub-job has ended. */
  async resumeParent(parentId: string, child: Job): Promise<void> {
    await this.step(parentId, (change) => childEnded(change, child));
  }

  /** Has a task that its worker lost dispatched again. */
  async redeliver(task: HeldTask): Promise<void> {
    await this.step(task.jobId, (change, tasks) => {
      const held = tasks.find((one) => one.id === task.id);
      if (held?.workerId !== task.workerId || held.takenAt !== task.takenAt) return;
      workerLost(change, held);
      this.core.metrics.task("redelivered");
    });
  }
}
