/**
 * What clients ask for: to begin jobs, to cancel them, to decide for them, to run them again.
 *
 * @module
 */

import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { digest, makeSecret, sameDigest } from "../model/ids.ts";
import type { Job, JobFacts, JsonObject } from "../model/job.ts";
import { hasEnded } from "../model/job.ts";
import { isRunnable, JobChange } from "../model/job_change.ts";
import type { CommitOutcome, Task } from "../model/store.ts";
import { cancelled, decided, newJob, requeued } from "../model/transitions.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { JobRunner } from "./runner.ts";
import { MAX_CONFLICTS } from "./runner.ts";
import type { Client } from "./tokens.ts";
import { beginSpan } from "./trace.ts";

/** What a submission says besides its data. */
export interface Submission
  extends Pick<JobFacts, "trace" | "webhook" | "queueTimeoutMs" | "resultTimeoutMs"> {
  idempotencyKey?: string | undefined;
}

/** What became of a submission. */
export type Submitted =
  | { kind: "accepted"; jobId: string }
  | { kind: "over-quota"; retryAfterSeconds: number }
  | { kind: "key-reused" };

export class ClientRequests {
  constructor(private readonly core: EngineCore, private readonly runner: JobRunner) {}

  /** Takes a job. Resolves when it is as durable as the storage promises. */
  async submit(
    client: Client,
    blueprint: StateMachineBlueprint,
    data: JsonObject,
    { idempotencyKey: key, trace, ...facts }: Submission = {},
  ): Promise<Submitted> {
    const rules = this.core.rules();
    const { wall } = rules;
    const span = beginSpan(`job ${blueprint.name}`, { "job.blueprint": blueprint.name }, trace);
    span?.end();
    const change = newJob({
      ...facts,
      id: rules.newId(),
      blueprint: blueprint.name,
      client: client.name,
      plan: client.plan,
      clientParams: client.params,
      state: blueprint.start,
      initialData: data,
      trace: span?.trace ?? trace,
    }, rules);
    const { monthlyAttempts: limit } = client;
    const fingerprint = key === undefined ? "" : digest(`${blueprint.name}\n${JSON.stringify(data)}`);
    let outcome: CommitOutcome;
    if (key === undefined && limit === undefined) outcome = await this.runner.runAndSave(change);
    else {
      // The job may be refused: nothing of it may run before it is in.
      change.admission = {
        ...(key !== undefined && { idempotency: { key, fingerprint } }),
        ...(limit !== undefined && { quota: { month: monthOf(wall), limit } }),
      };
      outcome = await this.runner.save([change], LEASE_MS);
      if (outcome.kind === "done") this.runner.continue(change);
    }
    switch (outcome.kind) {
      case "done":
        this.core.metrics.submitted(blueprint.name);
        return { kind: "accepted", jobId: change.job.id };
      case "duplicate":
        if (outcome.fingerprint !== fingerprint) return { kind: "key-reused" };
        return { kind: "accepted", jobId: outcome.jobId };
      case "over-quota": {
        const next = new Date(`${monthOf(wall)}-01T00:00:00Z`);
        next.setUTCMonth(next.getUTCMonth() + 1);
        return { kind: "over-quota", retryAfterSeconds: Math.ceil((next.getTime() - wall) / 1000) };
      }
      case "conflict":
        throw new Error("A new job could not be stored (conflict).");
    }
  }
  /** Ends a job and its sub-jobs. `sent`: a worker that runs its task was notified at once. */
  async cancel(jobId: string): Promise<"ended" | "accepted" | "sent" | "unknown"> {
    const { cancels, storage } = this.core;
    for (let round = 0; round < MAX_CONFLICTS; round++) {
      const tree = await this.#openTree(jobId);
      if (tree.length === 0) return await storage.read(jobId) === undefined ? "unknown" : "ended";
      for (const { change, tasks } of tree) cancelled(change, tasks);
      // Before it is saved: a poll that gets the command listens no more.
      const isListening = ({ workerId }: Task) =>
        workerId !== undefined && (cancels.isListenedTo(workerId) || cancels.isListenedTo(""));
      const isSent = tree.some(({ tasks }) => tasks.some(isListening));
      const changes = tree.map(({ change }) => change);
      if ((await this.runner.save(changes, LEASE_MS)).kind !== "done") continue;
      for (const change of changes) {
        this.runner.running.get(change.job.id)?.run.call.abort("The job was cancelled.");
        if (isRunnable(change.job)) this.runner.continue(change);
      }
      return isSent ? "sent" : "accepted";
    }
    throw new Error(`Job ${jobId} is changed too often; try again.`);
  }

  /** A job and the sub-jobs it waits for, as far as they have not ended. */
  async #openTree(jobId: string): Promise<{ change: JobChange; tasks: Task[] }[]> {
    const tree = [];
    for (let id: string | undefined = jobId; id !== undefined;) {
      const read: { job: Job; tasks: Task[] } | undefined = await this.core.storage.read(id);
      if (read === undefined || hasEnded(read.job)) break;
      tree.push({ change: new JobChange(read.job, this.core.rules()), tasks: read.tasks });
      id = read.job.status === "waiting_for_sub_job" ? read.job.childId : undefined;
    }
    return tree;
  }

  /** Decides for a job that waits for a human. `secret`: of the one-time link, when no client asks. */
  async approve(
    jobId: string,
    decision: string,
    secret?: string,
  ): Promise<"approved" | "unknown" | "not waiting" | "invalid decision" | "wrong link"> {
    const answer = await this.runner.step(jobId, (change) => {
      const { job } = change;
      if (job.status !== "waiting_for_human") return "not waiting";
      if (secret !== undefined && !sameDigest(digest(secret), job.linkHash ?? "")) return "wrong link";
      if (!Object.hasOwn(job.transitions, decision)) return "invalid decision";
      decided(change, decision);
      return "approved";
    });
    return answer ?? "unknown";
  }

  /** Makes the one-time secret with which a waiting job can be decided without a token; an older one is void. */
  async approvalLink(jobId: string): Promise<string | undefined> {
    const secret = makeSecret();
    return await this.runner.step(jobId, (change) => {
      if (change.job.status !== "waiting_for_human") return undefined;
      change.job = { ...change.job, linkHash: digest(secret) };
      return secret;
    });
  }

  /** Runs a failed or quarantined job again from where it failed. */
  async requeue(jobId: string): Promise<"requeued" | "unknown" | "not failed" | "no blueprint"> {
    const answer = await this.runner.step(jobId, (change) => {
      const { job } = change;
      if (job.status !== "failed" && job.status !== "quarantined") return "not failed";
      const blueprint = this.core.blueprints.get(job.blueprint);
      if (blueprint === undefined) return "no blueprint";
      requeued(change, blueprint);
      return "requeued";
    });
    return answer ?? "unknown";
  }

  /** Takes a job off the quarantine list. */
  async unlist(jobId: string): Promise<boolean> {
    const answer = await this.runner.step(jobId, (change) => {
      if (!change.job.listed) return false;
      change.job = { ...change.job, listed: undefined };
      return true;
    });
    return answer ?? false;
  }
}

// Quotas follow the calendar's months, in UTC.
function monthOf(wall: number): string {
  return new Date(wall).toISOString().slice(0, 7);
}
