/**
 * What the Redis storage sends to its scripts and reads from their answers: jobs, tasks and lanes as texts.
 *
 * @module
 */
import { hasEnded } from "../model/job.ts";
import type { HeldTask, JobWrite, Task, TaskRecord } from "../model/store.ts";

const QUOTA_SECONDS = 400 * 86_400;

/** Queued tasks that are alike in all that `fits` looks at. */
export interface Lane {
  name: string;
  /** A task as they are in it; true only in what `fits` looks at. */
  like: TaskRecord;
}

/**
 * Tasks that are alike in what `fits` looks at share a queue. So a worker's fitness is judged once for each queue,
 * however many tasks wait in it.
 */
function laneOf({ type, needs, maxCost, unknownCostPasses }: TaskRecord): string {
  return needs === undefined && maxCost === undefined
    ? JSON.stringify([type])
    : JSON.stringify([type, needs ?? null, maxCost ?? null, unknownCostPasses ?? false]);
}

/** A lane by its name. */
export function readLane(name: string): Lane {
  const [type, needs, maxCost, unknownCostPasses] = JSON.parse(name);
  const like: TaskRecord = {
    ...{ id: "", jobId: "", priority: 0, since: 0, strategy: "default", timeoutMs: 0, payload: "" },
    type,
    needs: needs ?? undefined,
    maxCost: maxCost ?? undefined,
    unknownCostPasses,
  };
  return { name, like };
}

// A text for each moment of engine time, in the same order: the bits of a positive number are in order.
function sortable(moment: number): string {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, moment);
  return bits.getBigUint64(0).toString(16).padStart(16, "0");
}

/** The arguments of `COMMIT`. */
export function commitArguments(origin: string, writes: readonly JobWrite[]): string[] {
  const args = [origin, String(writes.length), String(QUOTA_SECONDS)];
  for (const { job, wakeAt, enqueue, settle, withdraw, history, admission } of writes) {
    const { idempotency, quota } = admission ?? {};
    args.push(
      job.id,
      String(job.revision),
      job.client,
      job.status,
      `${job.blueprint}\n${job.state}\n${job.error ?? ""}`,
      JSON.stringify(job),
      wakeAt === null ? "" : String(wakeAt),
      hasEnded(job) ? String(job.endedAt) : "",
      job.listed ? "1" : "",
      history === undefined || history.length === 0 ? "" : JSON.stringify(history),
      idempotency === undefined ? "" : `${job.client}\0${idempotency.key}`,
      idempotency?.fingerprint ?? "",
      quota?.month ?? "",
      String(quota?.limit ?? 0),
      String(settle?.length ?? 0),
      String(withdraw?.length ?? 0),
      String(enqueue?.length ?? 0),
    );
    for (const { taskId, workerId } of settle ?? []) args.push(taskId, workerId);
    for (const taskId of withdraw ?? []) args.push(taskId);
    for (const task of enqueue ?? []) {
      const { payload, ...record } = task;
      args.push(
        task.id,
        task.type,
        laneOf(task),
        String(-task.priority),
        String(task.since),
        sortable(task.since),
        String(task.timeoutMs),
        task.queueBy === undefined ? "" : String(task.queueBy),
        JSON.stringify(record),
        payload,
      );
    }
  }
  return args;
}

/** Tasks of an answer, four texts each: record, payload, worker and moment of its taking (empty when queued). */
export function readTasks(flat: string[]): Task[] {
  return inGroups(flat, 4).map(([record, payload, workerId, takenAt]) =>
    workerId === ""
      ? { ...JSON.parse(record), payload }
      : { ...JSON.parse(record), payload, workerId, takenAt: Number(takenAt) }
  );
}

/** The tasks of an answer that are assigned. */
export function readHeld(flat: string[]): HeldTask[] {
  return readTasks(flat).flatMap((task) => task.workerId === undefined ? [] : [task]);
}

/** An answer's values as texts. */
export function texts(reply: unknown): string[] {
  return Array.isArray(reply) ? reply.map(String) : [];
}

/** An answer's values as numbers. */
export function numbers(reply: unknown): number[] {
  return Array.isArray(reply) ? reply.map(Number) : [];
}

/** A flat answer in groups of as many values. */
export function inGroups(flat: string[], size: 2): [string, string][];
export function inGroups(flat: string[], size: 4): [string, string, string, string][];
export function inGroups(flat: string[], size: number): string[][] {
  return Array.from({ length: flat.length / size }, (_, n) => flat.slice(n * size, n * size + size));
}
