/**
 * Takes jobs in: from clients, within their quotas, and from schedules.
 *
 * @module
 */

import type { StateMachineBlueprint } from "../model/blueprint.ts";
import { digest, makeId } from "../model/ids.ts";
import type { JsonObject, Trace } from "../model/job.ts";
import { JobChange } from "../model/job_change.ts";
import type { Admission, CommitOutcome } from "../model/store.ts";
import { newJob } from "../model/transitions.ts";
import type { EngineCore } from "./core.ts";
import { LEASE_MS } from "./core.ts";
import type { Schedule } from "./scheduler.ts";
import type { JobRunner } from "./runner.ts";
import type { Client } from "./tokens.ts";
import { beginSpan } from "./trace.ts";

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

/** Stores new jobs and starts them. */
export class Submissions {
  readonly #core: EngineCore;
  readonly #runner: JobRunner;

  constructor(core: EngineCore, runner: JobRunner) {
    this.#core = core;
    this.#runner = runner;
  }

  /** Takes a job. Resolves when it is as durable as the storage promises. */
  async submit(
    client: Client,
    blueprint: StateMachineBlueprint,
    data: JsonObject,
    more: Submission = {},
  ): Promise<Submitted> {
    const wall = this.#core.clock.wall();
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
      outcome = await this.#runner.runAndSave(change);
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
      outcome = await this.#runner.save([change], this.#core.now() + LEASE_MS);
      if (outcome.kind === "done") {
        this.#core.inBackground(this.#runner.runAndSave(new JobChange({ ...change.job, revision: 1 })));
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
    this.#core.metrics.submitted(blueprint.name);
    return { kind: "accepted", jobId: change.job.id };
  }

  /** Takes the job of a schedule's tick, once however often it is asked for. */
  async submitScheduled(
    { name, blueprint: blueprintName, inputData, client: clientName }: Schedule,
    tick: number,
  ) {
    const blueprint = this.#core.blueprints.get(blueprintName);
    if (blueprint === undefined) return;
    const known = this.#core.authenticator.named(clientName);
    const client: Client = { name: clientName, plan: "unknown", params: {}, tokenDigest: "", ...known };
    // The tick is the key: several engines, or one that died between the job and its note, begin it once.
    delete client.monthlyAttempts;
    await this.submit(client, blueprint, inputData, {
      idempotencyKey: `schedule ${name} ${new Date(tick).toISOString()}`,
    });
  }
}

// Quotas follow the calendar's months, in UTC.
function monthOf(wall: number): string {
  return new Date(wall).toISOString().slice(0, 7);
}
