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
} from "./blueprint.ts";
export { Config, ConfigError, type Settings } from "./config.ts";
export { OrchestratorEngine } from "./engine.ts";
export type { JsonObject, JsonValue, Requirements, Strategy, Transitions } from "./job.ts";
export type { Storage } from "./store.ts";
export { openStorage } from "./storage.ts";
export { MemoryStorage } from "./store_memory.ts";
export {
  type TaskContext,
  type TaskHandler,
  type TaskOutcome,
  TaskStopped,
  Worker,
  WorkerError,
  type WorkerOptions,
} from "./worker.ts";
