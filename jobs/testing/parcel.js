/** Blueprints for tests of the page: a job that is worked on once, after somebody has decided when its data asks for it. */
export default ({ StateMachineBlueprint }) => {
  const flow = new StateMachineBlueprint({ name: "parcel", apiEndpoint: "/jobs/parcel", apiVersion: "v1" });
  flow.handlerFor(
    "start",
    { isStart: true, to: ["review", "pack"] },
    ({ initialData, actions }) =>
      actions.transitionTo(typeof initialData.question === "string" ? "review" : "pack"),
  );
  flow.handlerFor(
    "review",
    { to: { approved: "pack", rejected: "failed" } },
    ({ initialData, actions }) =>
      actions.awaitHumanApproval({ message: String(initialData.question), integration: "desk" }),
  );
  flow.handlerFor(
    "pack",
    { to: { success: "completed", failure: "failed" } },
    ({ initialData, actions }) =>
      actions.dispatchTask({ taskType: "pack", params: { item: initialData.item ?? "book" } }),
  );
  flow.handlerFor("completed", { isEnd: true });
  flow.handlerFor("failed", { isEnd: true });
  return [flow];
};
