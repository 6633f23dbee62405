/** What every storage must do: one suite of tests, registered for each of them. */
// @ts-types="../../config/std.d.ts"
import { assert, assertEquals } from "@std/assert";
import type { Job } from "../model/job.ts";
import type { JobWrite, Notice, Storage, TaskRecord, WorkerProfile } from "../model/store.ts";

/** How a storage is opened for a test. */
export interface Opened {
  storage: Storage;
  /** Closes it and opens what it kept; absent: it keeps nothing. */
  reopen?: () => Promise<Storage>;
  /** A second engine's view of the same storage; absent: not shared. */
  second?: () => Promise<Storage>;
  /** Removes what the test made. Called after the storages were closed. */
  clean?: () => Promise<void>;
}

let ids = 0;

/** A job for storage tests. */
export function someJob(change: Partial<Job> = {}): Job {
  const job = {
    id: `job-${++ids}-${crypto.randomUUID()}`,
    revision: 1,
    blueprint: "flow",
    client: "ann",
    plan: "basic",
    clientParams: {},
    state: "start",
    initialData: { text: "Grüße \u{1F600}", deep: { list: [1, 2.5, null, true] } },
    stateHistory: {},
    createdAt: 1_700_000_000_000 + ids,
    updatedAt: 1_700_000_000_000 + ids,
    steps: 0,
    lastEvent: "job_created",
    status: "running",
    ...change,
  };
  return job as Job;
}

function someTask(job: Job, change: Partial<TaskRecord> = {}): TaskRecord {
  return {
    id: `task-${++ids}`,
    jobId: job.id,
    type: "echo",
    priority: 0,
    since: 100,
    strategy: "default",
    timeoutMs: 1000,
    payload: `{"task":"Grüße"}`,
    ...change,
  };
}

function profile(workerId: string, change: Partial<WorkerProfile> = {}): WorkerProfile {
  return { workerId, types: ["echo"], models: [], ...change };
}

function insert(job: Job, change: Partial<JobWrite> = {}): JobWrite {
  return { job, wakeAt: null, ...change };
}

/** Insertions counted for ann in a month: the smallest limit under which another one is taken, which then counts too. */
async function countedInsertions(storage: Storage, month: string): Promise<number> {
  for (let limit = 0;; limit++) {
    const outcome = await storage.commit([insert(someJob(), { admission: { quota: { month, limit } } })]);
    if (outcome.kind === "done") return limit - 1;
  }
}

/** Registers the tests. `ignore`: why they cannot run here. */
export function storeContract(name: string, open: () => Promise<Opened>, ignore?: string): void {
  const check = (sentence: string, body: (storage: Storage, opened: Opened) => Promise<void>) =>
    Deno.test({
      name: `${name} storage: ${sentence}${ignore === undefined ? "" : ` (ignored: ${ignore})`}`,
      ignore: ignore !== undefined,
      fn: async () => {
        const opened = await open();
        try {
          await body(opened.storage, opened);
        } finally {
          await opened.storage[Symbol.asyncDispose]();
          await opened.clean?.();
        }
      },
    });

  check("a job is read as it was written, and a change of what was read changes nothing", async (storage) => {
    const job = someJob();
    assertEquals(await storage.commit([insert(job)]), { kind: "done" });
    const read = await storage.read(job.id);
    assertEquals(read, { job, tasks: [] });
    if (read !== undefined) read.job.stateHistory.mine = 1;
    assertEquals((await storage.read(job.id))?.job, job);
    assertEquals(await storage.read("nobody"), undefined);
  });

  check("a write counts only on the revision that it was made from", async (storage) => {
    const job = someJob();
    await storage.commit([insert(job)]);
    assertEquals(await storage.commit([insert(job)]), { kind: "conflict" });
    const next = { ...job, revision: 2, state: "two" };
    assertEquals(await storage.commit([insert(next)]), { kind: "done" });
    assertEquals(await storage.commit([insert({ ...job, revision: 2, state: "other" })]), {
      kind: "conflict",
    });
    assertEquals(await storage.commit([insert({ ...someJob(), revision: 2 })]), { kind: "conflict" });
    assertEquals((await storage.read(job.id))?.job, next);
  });

  check("of many writers on one revision exactly one wins", async (storage) => {
    const job = someJob();
    await storage.commit([insert(job)]);
    const tries = Array.from(
      { length: 50 },
      (_, n) => storage.commit([insert({ ...job, revision: 2, state: `s${n}` })]),
    );
    const kinds = (await Promise.all(tries)).map((outcome) => outcome.kind);
    assertEquals(kinds.filter((kind) => kind === "done").length, 1);
  });

  check("a commit of several jobs is all or nothing", async (storage) => {
    const [one, two] = [someJob(), someJob()];
    await storage.commit([insert(one)]);
    const writes = [insert(two, { enqueue: [someTask(two)] }), insert({ ...one, revision: 5 })];
    assertEquals(await storage.commit(writes), { kind: "conflict" });
    assertEquals(await storage.read(two.id), undefined);
    assertEquals(await storage.take(profile("w"), 0), undefined);
    assertEquals(await storage.commit([insert(two), insert({ ...one, revision: 2 })]), { kind: "done" });
  });

  check("an idempotency key gives back the first job of its client only", async (storage) => {
    const first = someJob();
    const admission = { idempotency: { key: "k", fingerprint: "f1" } };
    assertEquals((await storage.commit([insert(first, { admission })])).kind, "done");
    const again = await storage.commit([
      insert(someJob(), { admission: { idempotency: { key: "k", fingerprint: "f2" } } }),
    ]);
    assertEquals(again, { kind: "duplicate", jobId: first.id, fingerprint: "f1" });
    assertEquals((await storage.commit([insert(someJob({ client: "bob" }), { admission })])).kind, "done");
  });

  check("of many submissions with one key exactly one is taken", async (storage) => {
    const admission = {
      idempotency: { key: "same", fingerprint: "f" },
      quota: { month: "2026-01", limit: 9 },
    };
    const tries = Array.from({ length: 20 }, () => storage.commit([insert(someJob(), { admission })]));
    const kinds = (await Promise.all(tries)).map((outcome) => outcome.kind);
    assertEquals(kinds.filter((kind) => kind === "done").length, 1);
    assertEquals(kinds.filter((kind) => kind === "duplicate").length, 19);
    assertEquals(await countedInsertions(storage, "2026-01"), 1);
  });

  check("a quota counts insertions by client and month, refused ones not", async (storage) => {
    const quota = (month: string) => ({ admission: { quota: { month, limit: 2 } } });
    const tries = Array.from({ length: 5 }, () => storage.commit([insert(someJob(), quota("2026-01"))]));
    const kinds = (await Promise.all(tries)).map((outcome) => outcome.kind);
    assertEquals(kinds.toSorted(), ["done", "done", "over-quota", "over-quota", "over-quota"]);
    assertEquals(await countedInsertions(storage, "2026-01"), 2);
    assertEquals((await storage.commit([insert(someJob(), quota("2026-02"))])).kind, "done");
    assertEquals((await storage.commit([insert(someJob({ client: "bob" }), quota("2026-01"))])).kind, "done");
  });

  check(
    "due jobs are claimed once, the most overdue first, and again when the lease has run out",
    async (storage) => {
      const [first, second, third] = [someJob(), someJob(), someJob()];
      const wakes = [[first, 300], [second, 100], [third, 200], [someJob(), null]] as const;
      for (const [job, wakeAt] of wakes) await storage.commit([insert(job, { wakeAt })]);
      assertEquals(await storage.claim(99, 1000, 10), []);
      const claims = await Promise.all([storage.claim(250, 1000, 1), storage.claim(250, 1000, 10)]);
      assertEquals(claims.flat().map((job) => job.id), [second.id, third.id]);
      assertEquals((await storage.claim(999, 2000, 10)).map((job) => job.id), [first.id]);
      assertEquals(
        (await storage.claim(1000, 5000, 10)).map((job) => job.id).toSorted(),
        [
          second.id,
          third.id,
        ].toSorted(),
      );
    },
  );

  check("a lease moves only with the revision it was taken for; a write replaces it", async (storage) => {
    const job = someJob();
    await storage.commit([insert(job, { wakeAt: 10 })]);
    assertEquals(await storage.lease(job.id, 1, 500), true);
    assertEquals(await storage.claim(499, 999, 10), []);
    await storage.commit([insert({ ...job, revision: 2 }, { wakeAt: null })]);
    assertEquals(await storage.lease(job.id, 1, 600), false);
    assertEquals(await storage.claim(100_000, 200_000, 10), []);
  });

  check("tasks go by priority, then age, then order of queueing, across types", async (storage) => {
    const job = someJob();
    const wanted: [string, Partial<TaskRecord>][] = [
      ["e", { since: 300 }],
      ["c", { since: 200 }],
      ["d", { since: 200, type: "other" }],
      ["a", { since: 400, priority: 5.5, type: "other" }],
      ["b", { since: 400, priority: 5 }],
      ["f", { since: 100, priority: -1 }],
    ];
    const enqueue = wanted.map(([id, change]) => someTask(job, { id: `${job.id}-${id}`, ...change }));
    await storage.commit([insert(job, { enqueue })]);
    let order = "";
    for (;;) {
      const task = await storage.take(profile("w", { types: ["echo", "other"] }), 500);
      if (task === undefined) break;
      order += task.id.slice(-1);
    }
    assertEquals(order, "abcdef");
  });

  check("a task is handed to one worker, whole, and belongs to it", async (storage) => {
    const job = someJob();
    const task = someTask(job, { needs: { installed_models: ["m"] }, maxCost: 2, queueBy: 9_999 });
    await storage.commit([insert(job, { enqueue: [task] })]);
    const taken = await Promise.all(
      Array.from(
        { length: 20 },
        (_, n) => storage.take(profile(`w${n}`, { models: ["m", "n"], cost: 1 }), 700),
      ),
    );
    const [held, ...rest] = taken.filter((one) => one !== undefined);
    assertEquals(rest, []);
    assertEquals(held, { ...task, workerId: held?.workerId ?? "", takenAt: 700 });
    assert(held !== undefined);
    assertEquals((await storage.read(job.id))?.tasks, [held]);
    assertEquals(await storage.heldBy(held.workerId), [held]);
    assertEquals(await storage.heldBy("another"), []);
  });

  check("a worker gets only what it fits, past what it does not", async (storage) => {
    const job = someJob();
    const tasks = {
      type: someTask(job, { type: "video" }),
      model: someTask(job, { needs: { installed_models: ["llama", "bert"] } }),
      gpu: someTask(job, { needs: { gpu_info: { model: "A100", vram_gb: 40 } } }),
      cost: someTask(job, { maxCost: 0.5 }),
      anyCost: someTask(job, { maxCost: 0.5, unknownCostPasses: true }),
    };
    await storage.commit([insert(job, { enqueue: Object.values(tasks) })]);
    const takes = async (change: Partial<WorkerProfile>) => (await storage.take(profile("w", change), 1))?.id;
    assertEquals(await takes({ types: ["none"] }), undefined);
    assertEquals(
      await takes({ models: ["llama"], gpu: { model: "NVIDIA A100", vram_gb: 24 }, cost: 0.6 }),
      undefined,
    );
    assertEquals(await takes({ models: ["bert", "llama", "x"], cost: 0.6 }), tasks.model.id);
    assertEquals(await takes({ gpu: { model: "NVIDIA A100", vram_gb: 40 }, cost: 0.6 }), tasks.gpu.id);
    assertEquals(await takes({ cost: 0.5 }), tasks.cost.id);
    assertEquals(await takes({}), tasks.anyCost.id);
    assertEquals(await takes({ types: ["video"] }), tasks.type.id);
  });

  check("a task that could not be delivered goes back to its place", async (storage) => {
    const job = someJob();
    const [one, two] = [someTask(job), someTask(job)];
    await storage.commit([insert(job, { enqueue: [one, two] })]);
    await storage.take(profile("w"), 5);
    await storage.giveBack(one.id, "another");
    assertEquals((await storage.heldBy("w")).map((task) => task.id), [one.id]);
    await storage.giveBack(one.id, "w");
    assertEquals(await storage.heldBy("w"), []);
    assertEquals((await storage.take(profile("v"), 6))?.id, one.id);
    assertEquals((await storage.take(profile("v"), 6))?.id, two.id);
  });

  check("a result is settled once, and only by the worker that holds the task", async (storage) => {
    const job = someJob();
    const task = someTask(job);
    await storage.commit([insert(job, { enqueue: [task] })]);
    const settle = (workerId: string) =>
      storage.commit([insert({ ...job, revision: 2 }, { settle: [{ taskId: task.id, workerId }] })]);
    assertEquals((await settle("w")).kind, "conflict");
    await storage.take(profile("w"), 1);
    assertEquals((await settle("v")).kind, "conflict");
    assertEquals((await storage.read(job.id))?.job.revision, 1);
    assertEquals((await settle("w")).kind, "done");
    const late = await storage.commit([
      insert({ ...job, revision: 3 }, { settle: [{ taskId: task.id, workerId: "w" }] }),
    ]);
    assertEquals(late.kind, "conflict");
    assertEquals(await storage.heldBy("w"), []);
  });

  check("withdrawn tasks are gone, queued or held", async (storage) => {
    const job = someJob();
    const [one, two] = [someTask(job), someTask(job)];
    await storage.commit([insert(job, { enqueue: [one, two] })]);
    await storage.take(profile("w"), 1);
    const withdraw = [one.id, two.id, "unknown"];
    assertEquals((await storage.commit([insert({ ...job, revision: 2 }, { withdraw })])).kind, "done");
    assertEquals(await storage.heldBy("w"), []);
    assertEquals(await storage.take(profile("w"), 1), undefined);
    assertEquals(await storage.dueTasks(1e12, 10), []);
  });

  check("tasks come due by their pick-up before it and by their result after it", async (storage) => {
    const job = someJob();
    const [limited, patient] = [someTask(job, { queueBy: 400, timeoutMs: 50 }), someTask(job)];
    await storage.commit([insert(job, { enqueue: [limited, patient] })]);
    const due = async (now: number) => (await storage.dueTasks(now, 10)).map((task) => task.id);
    assertEquals(await due(399), []);
    assertEquals(await due(400), [limited.id]);
    await storage.take(profile("w"), 390);
    assertEquals(await due(439), []);
    assertEquals(await due(440), [limited.id]);
    await storage.take(profile("w"), 420);
    assertEquals((await due(1420)).toSorted(), [limited.id, patient.id].toSorted());
    await storage.giveBack(limited.id, "w");
    assertEquals(await due(399), []);
  });

  check("queue depths tell what is queued and held", async (storage) => {
    const job = someJob();
    const enqueue = [
      someTask(job, { since: 70 }),
      someTask(job, { since: 50 }),
      someTask(job, { type: "b" }),
    ];
    await storage.commit([insert(job, { enqueue })]);
    await storage.take(profile("w"), 80);
    await storage.take(profile("w", { types: ["b"] }), 80);
    const depths = (await storage.queues()).toSorted((a, b) => a.type < b.type ? -1 : 1);
    assertEquals(depths.map(({ type, queued, held }) => [type, queued, held]), [["b", 0, 1], ["echo", 1, 1]]);
    assertEquals(depths[1]?.oldestSince, 70);
  });

  check("workers are remembered, replaced, and dropped only as they were seen", async (storage) => {
    const record = { id: "w", expiresAt: 10, seenAt: 1, registeredAt: 1, info: `{"a":"ü"}` };
    await storage.putWorker(record);
    await storage.putWorker({ ...record, id: "v" });
    await storage.putWorker({ ...record, expiresAt: 20 });
    assertEquals(await storage.dropWorker("w", 10), false);
    const workers = (await storage.workers()).toSorted((a, b) => a.id < b.id ? -1 : 1);
    assertEquals(workers, [{ ...record, id: "v" }, { ...record, expiresAt: 20 }]);
    assertEquals(await storage.dropWorker("w", 20), true);
    assertEquals((await storage.workers()).map((worker) => worker.id), ["v"]);
  });

  check("lists are newest first, narrowed and paged", async (storage) => {
    const jobs = [
      someJob({ state: "alpha" }),
      someJob({ client: "bob" }),
      someJob({ status: "quarantined", endedAt: 5, listed: true, error: "Model NOT found" } as Partial<Job>),
      someJob({ blueprint: "other" }),
    ];
    for (const job of jobs) await storage.commit([insert(job)]);
    const list = async (query: Record<string, unknown>) =>
      (await storage.list({ limit: 10, offset: 0, ...query })).map((job) =>
        jobs.findIndex(({ id }) => id === job.id)
      );
    assertEquals(await list({}), [3, 2, 1, 0]);
    assertEquals(await list({ client: "ann" }), [3, 2, 0]);
    assertEquals(await list({ client: "ann", limit: 1, offset: 1 }), [2]);
    assertEquals(await list({ client: "ann", status: "running" }), [3, 0]);
    assertEquals(await list({ client: "ann", blueprint: "flow", offset: 1 }), [0]);
    assertEquals(await list({ listed: true }), [2]);
    assertEquals(await list({ client: "bob", listed: true }), []);
    assertEquals(await list({ search: "not FOUND" }), [2]);
    assertEquals(await list({ search: "ALPHA" }), [0]);
    assertEquals(await list({ search: jobs[1]?.id.slice(-12) }), [1]);
    assertEquals(await list({ search: "%" }), []);
    assertEquals(await storage.counts("ann"), { running: 2, quarantined: 1 });
    assertEquals(await storage.counts(), { running: 3, quarantined: 1 });
    assertEquals(await storage.counts("nobody"), {});
  });

  check("history keeps its order over commits", async (storage) => {
    const job = someJob();
    const event = (n: number) => ({ event_type: "state_started" as const, timestamp: n, state: `s${n}` });
    await storage.commit([insert(job, { history: [event(1), event(2)] })]);
    await storage.commit([insert({ ...job, revision: 2 })]);
    for (let revision = 3; revision < 15; revision++) {
      await storage.commit([insert({ ...job, revision }, { history: [event(revision)] })]);
    }
    assertEquals((await storage.history(job.id)).map((entry) => entry.timestamp), [
      1,
      2,
      ...Array.from({ length: 12 }, (_, n) => n + 3),
    ]);
    assertEquals(await storage.history("nobody"), []);
  });

  check("old ended jobs are removed with their history, others stay", async (storage) => {
    const admission = { idempotency: { key: "k", fingerprint: "f" } };
    const ended = (endedAt: number) => someJob({ status: "finished", endedAt } as Partial<Job>);
    const [old, young, open] = [ended(10), ended(20), someJob()];
    const history = [{ event_type: "job_finished" as const, timestamp: 10, state: "end" }];
    await storage.commit([insert(old, { admission, history })]);
    await storage.commit([insert(young)]);
    await storage.commit([insert(open)]);
    assertEquals(await storage.prune(20, 10), 1);
    assertEquals(await storage.prune(20, 10), 0);
    assertEquals(await storage.read(old.id), undefined);
    assertEquals(await storage.history(old.id), []);
    assertEquals((await storage.list({ limit: 10, offset: 0 })).map((job) => job.id), [open.id, young.id]);
    assertEquals(await storage.counts("ann"), { running: 1, finished: 1 });
    assertEquals((await storage.commit([insert(someJob(), { admission })])).kind, "done");
  });

  check("tallies add up by worker since a day", async (storage) => {
    await storage.addTallies([{ workerId: "w", day: 1, succeeded: 5, failed: 5 }]);
    await storage.addTallies([
      { workerId: "w", day: 2, succeeded: 1, failed: 0 },
      { workerId: "v", day: 3, succeeded: 0, failed: 2 },
    ]);
    await storage.addTallies([{ workerId: "w", day: 2, succeeded: 1, failed: 1 }]);
    const sums = (await storage.tallies(2)).toSorted((a, b) => a.workerId < b.workerId ? -1 : 1);
    assertEquals(sums, [
      { workerId: "v", day: 2, succeeded: 0, failed: 2 },
      { workerId: "w", day: 2, succeeded: 2, failed: 1 },
    ]);
  });

  check("named values are kept, and engine time never goes back", async (storage) => {
    assertEquals(await storage.get("a"), undefined);
    await storage.set("a", "1");
    await storage.set("a", `{"b":"ü"}`);
    assertEquals(await storage.get("a"), `{"b":"ü"}`);
    assertEquals(await storage.time(0), 0);
    assertEquals(await storage.time(50.5), 50.5);
    assertEquals(await storage.time(20), 50.5);
  });

  check("what was kept is there after a restart", async (storage, opened) => {
    if (opened.reopen === undefined) return;
    const job = someJob();
    const [queued, held] = [
      someTask(job, { since: 9 }),
      someTask(job, { since: 1, queueBy: 4, timeoutMs: 60 }),
    ];
    const admission = { idempotency: { key: "k", fingerprint: "f" }, quota: { month: "2026-01", limit: 5 } };
    const history = [{ event_type: "job_created" as const, timestamp: 1, state: "start" }];
    await storage.commit([insert(job, { wakeAt: 77, enqueue: [queued, held], admission, history })]);
    const taken = await storage.take(profile("w"), 10);
    await storage.putWorker({ id: "w", expiresAt: 10, seenAt: 1, registeredAt: 1, info: "{}" });
    await storage.set("a", "1");
    await storage.time(1234);
    const again = opened.storage = await opened.reopen();
    assertEquals(await again.time(0), 1234);
    assertEquals(await again.get("a"), "1");
    const read = await again.read(job.id);
    assertEquals(read?.job, job);
    assertEquals(read?.tasks.toSorted((a, b) => a.since - b.since), [taken, queued]);
    assertEquals(await again.heldBy("w"), [taken]);
    assertEquals((await again.dueTasks(70, 10)).map((task) => task.id), [held.id]);
    assertEquals((await again.claim(77, 99, 10)).map((one) => one.id), [job.id]);
    assertEquals((await again.take(profile("v"), 11))?.id, queued.id);
    assertEquals((await again.workers()).map((worker) => worker.id), ["w"]);
    assertEquals((await again.commit([insert(someJob(), { admission })])).kind, "duplicate");
    assertEquals(await again.history(job.id), history);
    assertEquals(await again.counts("ann"), { running: 1 });
    assertEquals(await countedInsertions(again, "2026-01"), 1);
  });

  check("engines that share it hear of each other's changes", async (storage, opened) => {
    assertEquals(storage.shared, opened.second !== undefined);
    if (opened.second === undefined) return;
    await using other = await opened.second();
    const heard: Notice[] = [];
    const all = Promise.withResolvers<void>();
    const stop = other.subscribe((notice) => {
      heard.push(notice);
      if (notice.kind === "withdrawn") all.resolve();
    });
    const job = someJob();
    const task = someTask(job);
    await storage.commit([insert(job, { enqueue: [task] })]);
    assertEquals((await other.take(profile("w"), 1))?.id, task.id);
    await storage.commit([insert({ ...job, revision: 2 }, { withdraw: [task.id] })]);
    await all.promise;
    stop();
    assert(
      heard.some((notice) => notice.kind === "job" && notice.id === job.id && notice.client === job.client),
    );
    assert(heard.some((notice) => notice.kind === "queued" && notice.type === "echo"));
    assert(
      heard.some((notice) =>
        notice.kind === "withdrawn" && notice.taskId === task.id && notice.workerId === "w"
      ),
    );
  });

  check("closing twice is quiet", async (storage) => {
    await storage.commit([insert(someJob())]);
    await storage[Symbol.asyncDispose]();
    await storage[Symbol.asyncDispose]();
  });
}
