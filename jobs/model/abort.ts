/**
 * Abort signals that depend on others. `AbortSignal.any` would do, but a signal that lives as long as the program
 * keeps what it made forever.
 *
 * @module
 */

// One for all: to make it, with its stack, takes longer than the rest of an abort.
const ENDED = new DOMException("The scope has ended", "AbortError");

/** A controller that is aborted with its parent, if it has one, and at the end of its scope. */
export class ScopedAbort extends AbortController implements Disposable {
  readonly #follow = () => this.abort(this.parent?.reason);
  constructor(readonly parent?: AbortSignal) {
    super();
    if (parent?.aborted) this.#follow();
    else parent?.addEventListener("abort", this.#follow);
  }

  override abort(reason: unknown = ENDED): void {
    super.abort(reason);
  }

  [Symbol.dispose](): void {
    this.parent?.removeEventListener("abort", this.#follow);
    this.abort();
  }
}
