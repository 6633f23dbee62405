import { assertEquals } from "@std/assert";
import { systemClock } from "../../config/clock.ts";
import type { TaskRecord } from "../model/store.ts";
import { MemoryStorage } from "../stores/memory.ts";
import { changeOf } from "../testing/job.ts";
import { Dispatcher } from "./dispatcher.ts";
import { Workers } from "./workers.ts";

Deno.test("a task that is queued while a poll begins to wait is given to it", async () => {
  const task: TaskRecord = {
    id: "task",
    jobId: "job",
    type: "echo",
    priority: 0,
    since: 0,
    strategy: "default",
    timeoutMs: 1_000,
    payload: "{}",
  };
  // Its queueing may fall into any step between the storage's answer and the poll's wait.
  for (let steps = 0; steps < 12; steps++) {
    await using storage = new MemoryStorage();
    const workers = new Workers(storage, systemClock, 60_000, () => undefined);
    await workers.register({ worker_id: "w", supported_tasks: ["echo"] });
    const worker = workers.get("w");
    if (worker === undefined) throw new Error("The worker is not registered.");
    const dispatcher = new Dispatcher(storage, workers, systemClock, () => {});
    const taken = dispatcher.poll(worker, undefined, 10_000);
    for (let step = 0; step < steps; step++) await Promise.resolve();
    void storage.commit([{ job: { ...changeOf().job, revision: 1 }, wakeAt: null, enqueue: [task] }]);
    dispatcher.queued([task]);
    const stuck = setTimeout(() => dispatcher.close(), 500);
    assertEquals((await taken)?.id, "task", `queued after ${steps} steps`);
    clearTimeout(stuck);
  }
});
