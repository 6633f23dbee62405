// Signature only; the engine follows.
import type { StateMachineBlueprint } from "./blueprint.ts";
import type { Clock } from "./clock.ts";
import type { Config } from "./config.ts";
import type { Storage } from "./store.ts";

/** One structured log line's fields; never a token. */
export type Log = (
  level: "DEBUG" | "INFO" | "WARNING" | "ERROR",
  event: string,
  fields?: Record<string, unknown>,
) => void;

/** Takes jobs, runs their blueprints, hands tasks to workers. */
export class OrchestratorEngine implements AsyncDisposable {
  constructor(
    readonly storage: Storage,
    readonly config: Config,
    readonly options: { clock?: Clock; log?: Log } = {},
  ) {}
  /** Takes in a checked blueprint. @throws BlueprintError */
  registerBlueprint(_blueprint: StateMachineBlueprint): void {}
  /** Loads clients, workers and schedules, opens the port, begins to work; resolves when it listens. */
  start(): Promise<{ url: string; madeTokens: { client?: string; worker?: string } }> {
    return Promise.reject(new Error("not yet"));
  }
  /** Answers one HTTP request, without a port (tests). */
  handle(_request: Request): Promise<Response> {
    return Promise.reject(new Error("not yet"));
  }
  /** Stops taking requests, lets handlers and polls end (polls answer 204, sockets close with 1001), closes the storage. */
  stop(): Promise<void> {
    return Promise.resolve();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}
