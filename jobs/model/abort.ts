/**
 * Abort signals that follow others. `AbortSignal.any` would do, but a signal that lives as long as the program keeps
 * what it made forever.
 *
 * @module
 */

/** A controller that is aborted with its parent, until the end of its scope. */
export class LinkedAbort extends AbortController implements Disposable {
  readonly #follow = () => this.abort(this.parent.reason);
  constructor(readonly parent: AbortSignal) {
    super();
    if (parent.aborted) this.#follow();
    else parent.addEventListener("abort", this.#follow);
  }

  [Symbol.dispose](): void {
    this.parent.removeEventListener("abort", this.#follow);
  }
}
