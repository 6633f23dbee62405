/**
 * How a job goes from state to state. Each function takes a `JobChange` (the job as it was read, and what is to be stored
 * with its next revision), decides what comes next and adds it; it reads no clock, no random numbers and no storage. The
 * engine commits the change.
 *
 * @module
 */

import type { Action, StateMachineBlueprint, TaskRequest } from "./blueprint.ts";
import { endsBadly } from "./blueprint.ts";
import type { Branch, Job, JobFacts, OpenTask, TaskSpec, Transitions, Verdict } from "./job.ts";
import { hasEnded } from "./job.ts";
import type { Rules } from "./job_change.ts";
import { JobChange, joinBranches, targetOf } from "./job_change.ts";
import { copyObject } from "./json.ts";
import type { Task } from "./store.ts";

/** Sub-jobs below sub-jobs. */
const MAX_DEPTH = 20;

/** The job that a submission begins. */
export function newJob(
  given:
    & Pick<JobFacts, "id" | "blueprint" | "client" | "plan" | "clientParams" | "state" | "initialData">
    & Partial<
      Pick<JobFacts, "parentId" | "depth" | "trace" | "webhook" | "queueTimeoutMs" | "resultTimeoutMs">
    >,
  rules: Rules,
): JobChange {
  const { wall } = rules;
  const change = new JobChange(
    {
      ...given,
      revision: 0,
      stateHistory: {},
      createdAt: wall,
      updatedAt: wall,
      steps: 0,
      lastEvent: "job_created",
      status: "pending",
    },
    rules,
    0,
  );
  change.note("job_created");
  return change;
}

/** A state's handler has ended well. @throws Error when its action cannot be done; the change is then as it was. */
export function handlerDone(
  change: JobChange,
  blueprint: StateMachineBlueprint,
  action: Action | undefined,
): void {
  const { job } = change;
  const verdict = verdictOf(job);
  if (blueprint.ends(job.state)) {
    if (action !== undefined) {
      throw new Error(
        `The end state "${job.state}" returned an action; return none, or take away its "isEnd".`,
      );
    }
    if (verdict !== undefined) change.end(verdict.status, verdict.error);
    else if (job.state === "quarantined") change.end("quarantined", job.error);
    else if (endsBadly(job.state)) change.end("failed", job.error);
    else change.end("finished");
    return;
  }
  if (action === undefined) {
    throw new Error(
      `The handler of state "${job.state}" returned no action; return one, or mark the state "isEnd".`,
    );
  }
  act(change, blueprint, action);
}

/** The end that is decided already, if one is. */
function verdictOf(job: Job): Verdict | undefined {
  return "verdict" in job ? job.verdict : undefined;
}

function act(change: JobChange, blueprint: StateMachineBlueprint, action: Action): void {
  const { job, rules } = change;
  switch (action.kind) {
    case "transition": {
      checkTargets(blueprint, job.state, { transition: action.to });
      change.follow(action.to, {}, verdictOf(job));
      return;
    }
    case "task": {
      const transitions = targets(blueprint, job.state, action.transitions);
      const task = openTask(action, job, rules);
      change.awaitTask(task, transitions);
      change.queue(task);
      return;
    }
    case "parallel": {
      checkTargets(blueprint, job.state, { parallel: action.aggregateInto });
      const tasks = action.tasks.map((task) => openTask(task, job, rules));
      const branches = tasks.map((task): Branch => ({ open: true, ...task }));
      const into = action.aggregateInto;
      change.enter({ status: "waiting_for_parallel_tasks", branches, into }, { progress: undefined });
      change.note("parallel_started", { next_state: into });
      for (const task of tasks) change.queue(task);
      joinBranches(change);
      return;
    }
    case "approval": {
      const transitions = targets(blueprint, job.state, action.transitions);
      const { integration = "", message } = action;
      const question = { integration, message, askedAt: rules.wall };
      change.enter({ status: "waiting_for_human", question, transitions });
      change.note("approval_requested");
      return;
    }
    case "sub_blueprint": {
      const transitions = targets(blueprint, job.state, action.transitions);
      if ((job.depth ?? 0) >= MAX_DEPTH) {
        throw new Error(`Sub-blueprints are nested deeper than ${MAX_DEPTH}.`);
      }
      const state = rules.startOf(action.blueprintName);
      if (state === undefined) throw new Error(`There is no blueprint "${action.blueprintName}".`);
      const childId = rules.newId();
      const child = newJob({
        id: childId,
        blueprint: action.blueprintName,
        client: job.client,
        plan: job.plan,
        clientParams: job.clientParams,
        state,
        initialData: copyObject(action.initialData ?? {}, "initialData"),
        parentId: job.id,
        depth: (job.depth ?? 0) + 1,
        trace: job.trace,
        queueTimeoutMs: job.queueTimeoutMs,
        resultTimeoutMs: job.resultTimeoutMs,
      }, rules);
      change.children.push(child);
      change.enter({ status: "waiting_for_sub_job", childId, transitions });
      change.note("sub_blueprint_started");
      return;
    }
  }
}

// What a handler may lead to: what it says, else what its state declares; always states that exist, and declared ones.
function targets(
  blueprint: StateMachineBlueprint,
  state: string,
  given: Transitions | undefined,
): Transitions {
  const transitions = given ?? blueprint.states.get(state)?.to;
  if (transitions === undefined) {
    throw new Error(
      `State "${state}" does not say where it leads; give the action "transitions" or the state "to".`,
    );
  }
  checkTargets(blueprint, state, transitions);
  return { ...transitions };
}

function checkTargets(blueprint: StateMachineBlueprint, state: string, transitions: Transitions): void {
  const declared = blueprint.states.get(state)?.to;
  for (const [label, target] of Object.entries(transitions)) {
    if (!blueprint.has(target)) {
      throw new Error(`State "${state}" leads to "${target}", which is not a state of "${blueprint.name}".`);
    }
    if (declared !== undefined && !Object.values(declared).includes(target)) {
      throw new Error(`State "${state}" leads to "${target}", which its "to" does not name.`);
    }
    blueprint.noteEdge(state, target, label);
  }
}

function openTask(request: TaskRequest, job: Job, rules: Rules): OpenTask {
  const { taskType, timeoutSeconds, queueTimeoutSeconds, priority = 0, maxCost } = request;
  if (typeof taskType !== "string" || taskType === "") throw new Error("A task needs a taskType.");
  for (const [name, value] of Object.entries({ timeoutSeconds, queueTimeoutSeconds, priority, maxCost })) {
    if (value !== undefined && !Number.isFinite(value)) throw new Error(`A task's ${name} must be a number.`);
  }
  const queueTimeoutMs = queueTimeoutSeconds === undefined
    ? job.queueTimeoutMs ?? (rules.queueTimeoutMs || undefined)
    : queueTimeoutSeconds * 1000;
  const spec: TaskSpec = {
    type: taskType,
    params: copyObject(request.params ?? {}, "params"),
    strategy: request.dispatchStrategy ?? "default",
    needs: request.resourceRequirements,
    timeoutMs: timeoutSeconds === undefined
      ? job.resultTimeoutMs ?? rules.workerTimeoutMs
      : timeoutSeconds * 1000,
    queueTimeoutMs,
    maxCost,
    unknownCostPasses: request.unknownCostPasses,
    priority,
  };
  return { id: rules.newId(), spec, retries: 0, since: rules.now, dispatchedAt: rules.wall };
}

/** A state's handler threw, or took too long. */
export function handlerFailed(change: JobChange, message: string): void {
  const { job } = change;
  const retries = job.status === "awaiting_retry" ? job.retries : 0;
  const verdict = verdictOf(job);
  change.note("state_failed", { error: message, attempt_number: retries + 1 });
  if (retries < change.rules.maxRetries) {
    const retryAt = change.retryAt(retries);
    const error = verdict === undefined ? message : job.error;
    change.enter({ status: "awaiting_retry", retries: retries + 1, retryAt, verdict }, { error });
  } else if (verdict !== undefined) {
    change.end(verdict.status, verdict.error);
  } else {
    change.fail({ status: "quarantined", error: message });
  }
}

/** A person decided. @throws Error when the job waits for no such decision. */
export function decided(change: JobChange, decision: string): void {
  const { job } = change;
  const target = job.status === "waiting_for_human" ? targetOf(job.transitions, decision) : undefined;
  if (job.status !== "waiting_for_human" || target === undefined) {
    throw new Error(`Job ${job.id} waits for no such decision.`);
  }
  const durationMs = Math.max(0, change.rules.wall - job.question.askedAt);
  change.note("approval_received", { next_state: target, duration_ms: durationMs });
  change.follow(target);
}

/** A sub-job ended: its parent goes on. */
export function childEnded(change: JobChange, child: Job): void {
  const { job } = change;
  if (job.status !== "waiting_for_sub_job" || job.childId !== child.id) return;
  const outcome = child.status === "finished" ? "success" : "failure";
  const stateHistory = {
    ...job.stateHistory,
    [`sub_job_${child.id}_result`]: {
      outcome,
      final_state: child.state,
      error_message: child.error ?? null,
      state_history: child.stateHistory,
    },
  };
  change.note("sub_blueprint_finished", child.error === undefined ? {} : { error: child.error });
  const target = targetOf(job.transitions, outcome) ?? "failed";
  const error = outcome === "success" ? undefined : child.error ?? `The sub-job ended ${child.status}.`;
  change.follow(target, {
    stateHistory,
    error,
    ...(error === undefined ? {} : { failedState: job.state }),
  });
}

/** The client cancels the job. */
export function cancelled(change: JobChange, tasks: readonly Task[]): void {
  const { job } = change;
  change.note("cancel_requested");
  change.leaveTask(tasks.find((task) => task.workerId !== undefined)?.workerId);
  change.withdraw.push(...tasks);
  const transitions = "transitions" in job ? job.transitions : {};
  change.endBy("cancelled", { status: "cancelled", error: job.error }, transitions);
}

/** An ended job runs again from where it failed. */
export function requeued(change: JobChange, blueprint: StateMachineBlueprint): void {
  const { job } = change;
  if (!hasEnded(job)) return;
  const state = job.failedState ?? (blueprint.ends(job.state) ? blueprint.start : job.state);
  change.enter({ status: "running" }, {
    state,
    error: undefined,
    failedState: undefined,
    listed: undefined,
    steps: 0,
    webhook: job.webhook === undefined ? undefined : { url: job.webhook.url, tries: 0 },
  });
  change.note("job_requeued", { previous_state: job.state, next_state: state });
}
