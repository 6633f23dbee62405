// Two blueprints: a job that dispatches one task to a worker, and one whose task fails.
// A function that is given `StateMachineBlueprint` needs no import, so this file runs with the compiled program, too.

const line = "=".repeat(50);

export default ({ StateMachineBlueprint }) => {
  const test = new StateMachineBlueprint({ name: "test_flow", apiEndpoint: "/jobs/test", apiVersion: "v1" });

  test.handlerFor(
    "start",
    { isStart: true, to: { success: "completed", failure: "failed" } },
    ({ jobId, initialData, actions }) => {
      console.log(`${line}\n[ORCHESTRATOR] Job ${jobId} started\n[ORCHESTRATOR] Initial data:`, initialData);
      console.log(`[ORCHESTRATOR] Dispatching task to worker...\n${line}`);
      return actions.dispatchTask({
        taskType: "echo_task",
        params: {
          message: initialData.message ?? "Hello from Orchestrator!",
          multiply: initialData.multiply ?? 2,
        },
      });
    },
  );
  test.handlerFor("completed", { isEnd: true }, showEnd("COMPLETED! Result from worker:"));
  test.handlerFor("failed", { isEnd: true }, showEnd("FAILED! Error info:"));

  const failing = new StateMachineBlueprint({
    name: "failing_flow",
    apiEndpoint: "/jobs/failing",
    apiVersion: "v1",
  });
  failing.handlerFor(
    "start",
    { isStart: true, to: { success: "completed", failure: "failed" } },
    ({ actions }) => actions.dispatchTask({ taskType: "failing_task" }),
  );
  failing.handlerFor("completed", { isEnd: true });
  failing.handlerFor("failed", { isEnd: true }, showEnd("FAILED! Error info:"));

  return [test, failing];
};

function showEnd(words) {
  return ({ jobId, stateHistory }) => {
    console.log(`${line}\n[ORCHESTRATOR] Job ${jobId} ${words}`, stateHistory, `\n${line}`);
  };
}
