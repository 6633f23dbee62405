/**
 * What clients ask for of jobs that exist: to cancel them, to decide for them, to run them again.
 *
 * @module
 */

import { digest, makeSecret, sameDigest } from "../model/ids.ts";
import type { Job } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import { isRunnable, JobChange } from "../model/job_change.ts";
import type { Task } from "../model/store.ts";
import { cancelled, decided, requeued } from "../model/transitions.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import { MAX_CONFLICTS } from "./runner.ts";

/** Requests of clients. */
export class ClientRequests {
  readonly #core: EngineCore;
  readonly #runner: JobRunner;

  constructor(core: EngineCore, runner: JobRunner) {
    this.#core = core;
    this.#runner = runner;
  }

  /** Ends a job and its sub-jobs. `sent`: a worker that runs its task was notified at once. */
  async cancel(jobId: string): Promise<"ended" | "accepted" | "sent" | "unknown"> {
    for (let round = 0; round < MAX_CONFLICTS; round++) {
      const tree: { change: JobChange; tasks: Task[] }[] = [];
      let next: string | undefined = jobId;
      while (next !== undefined) {
        const read: { job: Job; tasks: Task[] } | undefined = await this.#core.storage.read(next);
        if (read === undefined || hasEnded(read.job)) break;
        tree.push({ change: new JobChange(read.job), tasks: read.tasks });
        next = read.job.status === "waiting_for_sub_job" ? read.job.childId : undefined;
      }
      if (tree.length === 0) return await this.#core.storage.read(jobId) === undefined ? "unknown" : "ended";
      const rules = this.#core.rules();
      for (const { change, tasks } of tree) cancelled(change, tasks, rules);
      const changes = tree.map(({ change }) => change);
      if ((await this.#runner.save(changes, this.#core.now() + LEASE_MS)).kind !== "done") continue;
      for (const change of changes) {
        this.#runner.running.get(change.job.id)?.call.abort(
          new DOMException("The job was cancelled.", "AbortError"),
        );
        if (isRunnable(change.job)) this.#runner.continue(change);
      }
      const held = tree.flatMap(({ tasks }) => tasks.flatMap((task) => task.workerId ?? []));
      return held.some((id) => this.#core.cancels.isListenedTo(id) || this.#core.cancels.isListenedTo(""))
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
    const answer = await this.#runner.step<"approved" | "not waiting" | "invalid decision" | "wrong link">(
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
    return await this.#runner.step<string | undefined>(jobId, (change) => {
      if (change.job.status !== "waiting_for_human") return { stop: undefined };
      change.job = { ...change.job, linkHash: digest(secret) };
      return { go: secret };
    });
  }

  /** Runs a failed or quarantined job again from where it failed. */
  async requeue(jobId: string): Promise<"requeued" | "unknown" | "not failed" | "no blueprint"> {
    const answer = await this.#runner.step<"requeued" | "not failed" | "no blueprint">(
      jobId,
      (change, _tasks, rules) => {
        const { job } = change;
        if (job.status !== "failed" && job.status !== "quarantined") return { stop: "not failed" };
        const blueprint = this.#core.blueprints.get(job.blueprint);
        if (blueprint === undefined) return { stop: "no blueprint" };
        requeued(change, blueprint, rules);
        return { go: "requeued" };
      },
    );
    return answer ?? "unknown";
  }

  /** Takes a job off the quarantine list. */
  async unlist(jobId: string): Promise<boolean> {
    const answer = await this.#runner.step<boolean>(jobId, (change) => {
      if (!change.job.listed) return { stop: false };
      change.job = { ...change.job, listed: undefined };
      return { go: true };
    });
    return answer ?? false;
  }
}
