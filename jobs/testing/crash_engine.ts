// An engine to be killed. Arguments: storage, port, and "stuck" if its handlers shall never end. Prints its address
// when it listens.
import { Config, openStorage, OrchestratorEngine, StateMachineBlueprint } from "../mod.ts";
import type { JsonObject, JsonValue } from "../model/job.ts";

const [storage, port, mood] = Deno.args;

// Handlers that take a while, so that a kill finds some of them at work.
const pause = (data: JsonObject) =>
  new Promise((resolve) => {
    if (mood !== "stuck") setTimeout(resolve, Number(data.pauseMs));
  });

const single = new StateMachineBlueprint({ name: "single", apiEndpoint: "/jobs/single", apiVersion: "v1" });
single.handlerFor("start", { isStart: true }, async ({ initialData, actions }) => {
  await pause(initialData);
  return actions.dispatchTask({
    taskType: "work",
    params: { label: initialData.label, part: "first" },
    priority: Number(initialData.priority ?? 0),
    transitions: { success: "second" },
  });
});
single.handlerFor("second", ({ initialData, actions }) =>
  actions.dispatchTask({
    taskType: "work",
    params: { label: initialData.label, part: "second" },
    transitions: { success: "done" },
  }));
single.handlerFor("done", { isEnd: true });

const fork = new StateMachineBlueprint({ name: "fork", apiEndpoint: "/jobs/fork", apiVersion: "v1" });
fork.handlerFor("start", { isStart: true }, ({ initialData, actions }) =>
  actions.dispatchParallel({
    tasks: ["left", "middle", "right"].map((part) => ({
      taskType: "work",
      params: { label: initialData.label, part },
    })),
    aggregateInto: "joined",
  }));
fork.aggregatorFor("joined", async ({ initialData, aggregationResults, stateHistory, actions }) => {
  await pause(initialData);
  const said = Object.values(aggregationResults).map((result): JsonValue => result.data ?? null);
  stateHistory.parts = said;
  return actions.transitionTo("done");
});
fork.handlerFor("done", { isEnd: true });

const parent = new StateMachineBlueprint({ name: "parent", apiEndpoint: "/jobs/parent", apiVersion: "v1" });
parent.handlerFor("start", { isStart: true }, ({ initialData, actions }) =>
  actions.runBlueprint({
    blueprintName: "single",
    initialData,
    transitions: { success: "done", failure: "failed" },
  }));
parent.handlerFor("done", { isEnd: true });
parent.handlerFor("failed", { isEnd: true });

const config = new Config({
  port: Number(port),
  clientToken: "client-token",
  workerToken: "worker-token",
  // Workers that say nothing for two seconds are taken for dead.
  healthCheckMs: 1_000,
  workerTimeoutMs: 120_000,
});
const engine = new OrchestratorEngine(await openStorage(storage!), config);
for (const blueprint of [single, fork, parent]) engine.registerBlueprint(blueprint);
const { url } = await engine.start();
console.log(url);
