/** What tests of the job machine share: a job at any point of its life, and rules that stand still. */
import type { Action } from "../model/blueprint.ts";
import { StateMachineBlueprint } from "../model/blueprint.ts";
import type { Job, Phase, TaskSpec } from "../model/job.ts";
import type { Rules } from "../model/job_change.ts";
import { JobChange } from "../model/job_change.ts";

/** Rules whose clocks stand still; ids are `id-1`, `id-2`, and so on. */
export function someRules(given: Partial<Rules> = {}): Rules {
  let ids = 0;
  return {
    now: 1_000,
    wall: 50_000,
    newId: () => `id-${++ids}`,
    maxRetries: 2,
    retryDelayMs: 100,
    workerTimeoutMs: 300_000,
    queueTimeoutMs: 0,
    startOf: (blueprint) => blueprint === "other" ? "begin" : undefined,
    ...given,
  };
}

/** A change of a job that is stored as revision 3; `given` says where it is. */
export function changeOf(
  given: Partial<Job> & Phase = { status: "running" },
  rules: Rules = someRules(),
): JobChange {
  const job: Job = {
    id: "job",
    revision: 3,
    blueprint: "flow",
    client: "ann",
    plan: "gold",
    clientParams: { color: "red" },
    state: "work",
    initialData: { given: 1 },
    stateHistory: { before: 1 },
    createdAt: 20_000,
    updatedAt: 40_000,
    steps: 4,
    lastEvent: "state_started",
    ...given,
  };
  return new JobChange(job, rules);
}

/** A job that waits for a worker's result of the task `task`. */
export function waiting(given: Partial<Job> = {}, retries = 0): JobChange {
  return changeOf({
    ...given,
    status: "waiting_for_worker",
    task: { id: "task", spec: someSpec(), retries, since: 600, dispatchedAt: 30_000 },
    transitions: { success: "next", failure: "failed", cancelled: "end", odd: "next" },
  });
}

/** What is asked of a worker. */
export function someSpec(given: Partial<TaskSpec> = {}): TaskSpec {
  return {
    type: "echo",
    params: { say: "hi" },
    strategy: "default",
    timeoutMs: 5_000,
    priority: 0,
    ...given,
  };
}

/** A blueprint of the states work (leads anywhere), strict (leads to next), next, end. */
export function flow(): StateMachineBlueprint {
  const nothing = (): Action => ({ kind: "transition", to: "end" });
  return new StateMachineBlueprint({ name: "flow" })
    .handlerFor("work", { isStart: true }, nothing)
    .handlerFor("strict", { to: { success: "next" } }, nothing)
    .handlerFor("next", nothing)
    .handlerFor("end", { isEnd: true });
}
