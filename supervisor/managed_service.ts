/**
 * One service of a run: its definition, what is wanted of it, its state, and the attempt that the state owns.
 *
 * @module
 */

import type { Service } from "../config/definition.ts";
import { Tail } from "../process/lines.ts";
import type { Attempt } from "./attempt.ts";
import type { Desired, Managed } from "./lifecycle.ts";
import { INITIAL } from "./lifecycle.ts";
import type { ActiveState, ServiceSnapshot, ServiceState } from "./model.ts";
import { isAtRest } from "./model.ts";

/** A state and, exactly where something runs or is waited for, the attempt that ends with it. */
type Life =
  | { state: ActiveState; attempt: Attempt }
  | { state: Exclude<ServiceState, ActiveState>; attempt: null };

/** One service of a run. */
export class ManagedService implements Managed {
  service: Service;
  desired: Desired = "running";
  /** The last lines that it printed, over all attempts. */
  readonly tail = new Tail();
  #life: Life = { state: INITIAL, attempt: null };
  /** Where the last process listened that was started. */
  #lastPort: number | null = null;

  constructor(service: Service) {
    this.service = service;
  }

  get state(): ServiceState {
    return this.#life.state;
  }

  get attempt(): Attempt | null {
    return this.#life.attempt;
  }

  /** The port of the present or last process, or else the one that is defined. */
  get port(): number | null {
    return this.attempt?.launch?.port ?? this.#lastPort ?? this.service.port;
  }

  /** Takes over a state. One at rest ends the attempt; in another one there is the same or a new attempt. */
  become(state: ServiceState, begin: () => Attempt): void {
    const { attempt } = this.#life;
    if (!isAtRest(state)) this.#life = { state, attempt: attempt ?? begin() };
    else {
      this.#lastPort = this.port;
      this.#life = { state, attempt: null };
      attempt?.[Symbol.dispose]();
    }
  }

  /** How it looks now. @param recent how many of its last lines */
  snapshot(recent: number): ServiceSnapshot {
    const { state, port, service: { name, title, kind, maxRetries } } = this;
    return { name, title, kind, port, maxRetries, state, recent: recent === 0 ? [] : this.tail.last(recent) };
  }
}
