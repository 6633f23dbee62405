/**
 * Jobs: an engine that runs state-machine blueprints, and workers that pull their tasks.
 *
 * @module
 */
export {
  type Action,
  type Actions,
  BlueprintError,
  checkBlueprint,
  type Condition,
  type DataStore,
  type Handler,
  type HandlerContext,
  StateMachineBlueprint,
  type StateOptions,
  type TaskRequest,
} from "./model/blueprint.ts";
export { Config, type Settings } from "./engine/config.ts";
export { ConfigError } from "./model/errors.ts";
export { OrchestratorEngine } from "./http/server.ts";
export type { JsonObject, JsonValue, Requirements, Strategy, Transitions } from "./model/job.ts";
export type { Storage } from "./model/store.ts";
export { openStorage } from "./stores/open.ts";
export { MemoryStorage } from "./stores/memory.ts";
export { WorkerError, type WorkerOptions } from "./worker/settings.ts";
export { type TaskContext, type TaskHandler, type TaskOutcome, TaskStopped } from "./worker/task.ts";
export { Worker } from "./worker/worker.ts";
