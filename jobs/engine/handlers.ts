/**
 * Handlers of blueprints: what they are given, and how one is run.
 *
 * @module
 */

import type { Action, DataStore, HandlerContext, StateMachineBlueprint } from "../model/blueprint.ts";
import { ACTIONS } from "../model/blueprint.ts";
import { messageOf } from "../model/errors.ts";
import type { Job, JsonObject, Trace } from "../model/job.ts";
import type { Storage } from "../model/store.ts";

/** What a handler is given. The signal is made only for handlers that ask for it. */
export class HandlerCall implements HandlerContext {
  #controller: AbortController | undefined;
  #aborted: unknown;
  readonly actions = ACTIONS;
  readonly currentState: string;
  readonly initialData: JsonObject;
  readonly client: HandlerContext["client"];
  readonly tracingContext: Trace;
  readonly aggregationResults: Record<string, JsonObject>;
  readonly jobId: string;
  constructor(job: Job, readonly stateHistory: JsonObject, readonly dataStores: Record<string, DataStore>) {
    this.jobId = job.id;
    this.currentState = job.state;
    this.initialData = job.initialData;
    this.client = { name: job.client, plan: job.plan, params: job.clientParams };
    this.tracingContext = job.trace ?? {};
    this.aggregationResults = job.aggregationResults ?? {};
  }
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted);
    }
    return this.#controller.signal;
  }
  abort(message: string, name = "AbortError"): void {
    this.#aborted = new DOMException(message, name);
    this.#controller?.abort(this.#aborted);
  }
}

/** How a handler ended. */
export type HandlerEnd = { action: Action | undefined } | { error: string };

/** Starts the handler of a job's state; one that is not asynchronous has ended when this returns. */
export function runHandler(
  blueprint: StateMachineBlueprint,
  job: Job,
  call: HandlerCall,
): HandlerEnd | Promise<HandlerEnd> {
  const state = blueprint.states.get(job.state);
  try {
    const handler = state?.conditional.find(({ matches }) => matches(call))?.handler ?? state?.handler;
    if (handler === undefined) {
      if (blueprint.ends(job.state)) return { action: undefined };
      return { error: `No handler of state "${job.state}" applies to this job.` };
    }
    const result = handler(call);
    if (!(result instanceof Promise)) return { action: result ?? undefined };
    return result.then(
      (action) => ({ action: action ?? undefined }),
      (error) => ({ error: messageOf(error) }),
    );
  } catch (error) {
    return { error: messageOf(error) };
  }
}

/** The stores of data that a blueprint names, kept in the engine's storage. */
export function dataStoresOf(blueprint: StateMachineBlueprint, storage: Storage): Record<string, DataStore> {
  const stores: Record<string, DataStore> = {};
  for (const [name, initial] of blueprint.dataStores) {
    const keyOf = (key: string) => `data ${blueprint.name} ${name} ${key}`;
    stores[name] = {
      async get(key) {
        const text = await storage.get(keyOf(key));
        if (text !== undefined) return JSON.parse(text);
        return Object.hasOwn(initial, key) ? initial[key] : undefined;
      },
      set: (key, value) => storage.set(keyOf(key), JSON.stringify(value)),
    };
  }
  return stores;
}
