/**
 * Moves jobs on: runs the handlers that are due, saves what they changed in one commit, and notifies whoever follows.
 *
 * @module
 */

import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { messageOf } from "../model/errors.ts";
import type { Job } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import type { Rules } from "../model/job_change.ts";
import { endAfterFailure, endJob, isRunnable, JobChange, wakeOf } from "../model/job_change.ts";
import { copyObject } from "../model/json.ts";
import type { CommitOutcome, Task } from "../model/store.ts";
import { childEnded, handlerDone, handlerFailed } from "../model/transitions.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { HandlerEnd } from "./handlers.ts";
import { DataStores, HandlerCall, runHandler } from "./handlers.ts";
import { beginSpan } from "./trace.ts";

/** Attempts to save a step whose job somebody else moved meanwhile. */
export const MAX_CONFLICTS = 20;

/** A handler that is being awaited. */
interface Running {
  call: HandlerCall;
  revision: number;
  /** Ends the wait for it. */
  waiting: AbortController;
}

/** Runs jobs of one engine. */
export class JobRunner {
  /** Handlers that are being awaited, by job. */
  readonly running = new Map<string, Running>();
  readonly #core: EngineCore;
  readonly #stores: DataStores;
  readonly #busy = new Map<string, Promise<void>>();

  constructor(core: EngineCore) {
    this.#core = core;
    this.#stores = new DataStores(core.storage);
  }

  /** Has running handlers notice that the engine stops. */
  abortHandlers(): void {
    for (const { call } of this.running.values()) {
      call.abort(new DOMException("The engine stops.", "AbortError"));
    }
  }

  /** Waits for handlers no longer: their jobs' leases run out, and the next engine runs them again. */
  leaveHandlers(): void {
    for (const { waiting } of this.running.values()) waiting.abort();
  }

  // Runs what is due and saves; resolves when the first save is done. Handlers that end at once are saved together with
  // what led to them. Where several engines share the storage each step is saved first, so that no two run the same.
  async runAndSave(change: JobChange): Promise<CommitOutcome> {
    for (;;) {
      if (change.job.status === "pending") change.job = { ...change.job, status: "running" };
      const { job } = change;
      const mustWait = job.status === "awaiting_retry" && job.retryAt > this.#core.now();
      if (!isRunnable(job) || mustWait) return await this.save([change]);
      if (this.#core.storage.shared && change.history.length > 0 && this.#mayRunElsewhere(change)) {
        const outcome = await this.save([change], this.#core.now() + LEASE_MS);
        if (outcome.kind === "done") this.continue(change);
        return outcome;
      }
      if (this.running.size >= this.#core.config.maxConcurrentJobs) {
        // Left for the watch, which finds it when there is room.
        return await this.save([change]);
      }
      const blueprint = this.#core.blueprints.get(job.blueprint);
      if (blueprint === undefined || job.steps >= this.#core.config.maxTransitions) {
        this.#endUnrunnable(change, blueprint);
        continue;
      }
      const rules = this.#core.rules();
      const startedAt = rules.now;
      // A copy: what a handler writes before it throws must not stay.
      const history = copyObject(job.stateHistory, "stateHistory");
      const call = new HandlerCall(job, history, this.#stores.of(blueprint));
      call.span = beginSpan(
        `state ${job.state}`,
        { "job.id": job.id, "job.blueprint": job.blueprint },
        job.trace,
      );
      change.note("state_started", rules);
      const end = runHandler(blueprint, job, call);
      if (!(end instanceof Promise)) {
        this.#handlerEnded(change, blueprint, call, end, startedAt);
        continue;
      }
      const waiting = new AbortController();
      this.running.set(job.id, { call, revision: change.stored + 1, waiting });
      let outcome: CommitOutcome;
      try {
        outcome = await this.save([change], this.#core.now() + LEASE_MS);
      } catch (error) {
        this.running.delete(job.id);
        throw error;
      }
      if (outcome.kind !== "done") {
        this.running.delete(job.id);
        call.abort(new DOMException("The job was changed meanwhile.", "AbortError"));
        return outcome;
      }
      this.#core.inBackground(this.#awaitHandler(change, blueprint, call, end, startedAt, waiting));
      return outcome;
    }
  }

  /** Ends a job that has no blueprint here, or has gone through too many states. */
  #endUnrunnable(change: JobChange, blueprint: StateMachineBlueprint | undefined): void {
    const { job } = change;
    const rules = this.#core.rules();
    if (blueprint === undefined) {
      return endJob(change, "quarantined", `There is no blueprint "${job.blueprint}".`, rules);
    }
    const error = `The job went through more than ${this.#core.config.maxTransitions} states.`;
    endAfterFailure(change, { status: "failed", error }, rules);
  }

  // Whether another engine could do the same step now. Nobody knows a new job yet; where there is no handler, nothing runs.
  #mayRunElsewhere({ job, stored }: JobChange): boolean {
    const state = this.#core.blueprints.get(job.blueprint)?.states.get(job.state);
    return stored > 0 && (state?.handler !== undefined || state?.conditional.length !== 0);
  }

  // Goes on with what was just saved.
  continue(change: JobChange): void {
    this.#core.inBackground(this.runAndSave(new JobChange({ ...change.job, revision: change.stored + 1 })));
  }

  async #awaitHandler(
    change: JobChange,
    blueprint: StateMachineBlueprint,
    call: HandlerCall,
    ending: Promise<HandlerEnd>,
    startedAt: number,
    waiting: AbortController,
  ): Promise<void> {
    const limit = this.#core.clock.sleep(this.#core.config.handlerTimeoutMs, waiting.signal).then(
      (): HandlerEnd => ({
        error: `The handler of state "${change.job.state}" did not end within ${
          this.#core.config.handlerTimeoutMs / 1000
        } s.`,
      }),
    );
    const end = await Promise.race([ending, limit]);
    waiting.abort();
    call.abort(new DOMException("The handler's time is over.", "TimeoutError"));
    this.running.delete(change.job.id);
    if (this.#core.stopping.aborted && "error" in end) return;
    const next = new JobChange({ ...change.job, revision: change.stored + 1 });
    this.#handlerEnded(next, blueprint, call, end, startedAt);
    await this.exclusively(change.job.id, () => this.runAndSave(next));
    this.#core.checks.schedule(this.#core.now());
  }

  #handlerEnded(
    change: JobChange,
    blueprint: StateMachineBlueprint,
    call: HandlerCall,
    end: HandlerEnd,
    startedAt: number,
  ): void {
    const rules = this.#core.rules();
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
          const childBlueprint = this.#core.blueprints.get(child.blueprint);
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
    this.#core.log("warn", "handler_failed", { job_id: before.id, state: before.state, error });
  }

  // Saves changes in one commit, then notifies dispatcher, listeners and parents.
  async save(changes: readonly JobChange[], wakeAt?: number): Promise<CommitOutcome> {
    const wall = this.#core.clock.wall();
    const now = this.#core.now();
    const writes = changes.flatMap((change) => [
      change.write(wakeAt !== undefined && isRunnable(change.job) ? wakeAt : wakeOf(change.job, now), wall),
      ...change.children.map((child) => newChild(child).write(now + LEASE_MS, wall)),
    ]);
    const held = changes.some((change) => change.withdraw.length > 0)
      ? await Promise.all(changes.map((change) => this.#core.storage.read(change.job.id)))
      : [];
    const outcome = await this.#core.storage.commit(writes);
    if (outcome.kind !== "done") return outcome;
    for (const write of writes) {
      if (write.wakeAt !== null) this.#core.checks.schedule(write.wakeAt);
      this.#core.cache.remember(write.job);
      for (const listener of this.#core.listeners) listener(write.job);
    }
    for (const [index, change] of changes.entries()) {
      if (hasEnded(change.job) && !change.hadEnded) this.#ended(change.job);
      this.#core.dispatcher.queued(change.enqueue);
      for (const task of change.enqueue) {
        if (task.queueBy !== undefined) this.#core.checks.schedule(task.queueBy);
        this.#core.log("info", "task_dispatched", { job_id: task.jobId, task_id: task.id, type: task.type });
      }
      for (const child of change.children) {
        this.#core.inBackground(this.runAndSave(new JobChange({ ...child, revision: 1 })));
      }
      const tasks = held[index]?.tasks ?? [];
      for (const id of change.withdraw) {
        const task = tasks.find((one) => one.id === id);
        if (task?.workerId !== undefined) this.#core.cancels.announce(task.workerId, id, task.jobId);
      }
    }
    return outcome;
  }

  #ended(job: Job): void {
    this.#core.metrics.ended(
      job.blueprint,
      job.status,
      Math.max(0, this.#core.clock.wall() - job.createdAt) / 1000,
    );
    this.#core.log(job.status === "finished" || job.status === "cancelled" ? "info" : "warn", "job_ended", {
      job_id: job.id,
      blueprint: job.blueprint,
      status: job.status,
      state: job.state,
      ...(job.error === undefined ? {} : { error: job.error }),
    });
    if (job.parentId !== undefined) this.#core.inBackground(this.resumeParent(job.parentId, job));
    if (job.webhook !== undefined && job.webhook.done === undefined) {
      this.#core.checks.schedule(this.#core.now());
    }
  }

  // A step on a job that others may move at the same time: read, step, save, and again if somebody was faster. `guess` is
  // tried instead of the first read.
  async step<T>(
    jobId: string,
    act: (change: JobChange, tasks: Task[], rules: Rules) => { stop: T } | { go: T },
    guess?: () => { job: Job; tasks: Task[] } | undefined,
  ): Promise<T | undefined> {
    return await this.exclusively(jobId, async () => {
      for (let round = 0; round < MAX_CONFLICTS; round++) {
        const read = (round === 0 ? guess?.() : undefined) ?? await this.#core.storage.read(jobId);
        if (read === undefined) return undefined;
        const change = new JobChange(read.job);
        const answer = act(change, read.tasks, this.#core.rules());
        if ("stop" in answer) return answer.stop;
        if ((await this.runAndSave(change)).kind === "done") return answer.go;
      }
      throw new Error(`Job ${jobId} is changed too often; try again.`);
    });
  }

  // One after another within this engine, so that a repeated result never runs a handler twice.
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

  async resumeParent(parentId: string, child: Job): Promise<void> {
    await this.step(parentId, (change, _tasks, rules) => {
      if (change.job.status !== "waiting_for_sub_job" || change.job.childId !== child.id) {
        return { stop: undefined };
      }
      childEnded(change, child, rules);
      return { go: undefined };
    });
  }
}

function newChild(job: Job): JobChange {
  const change = new JobChange(job, 0);
  change.history.push({ event_type: "job_created", timestamp: job.createdAt, state: job.state });
  return change;
}
