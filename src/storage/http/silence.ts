/** Ends a transfer whose other side says nothing for too long. */
import { onAbort } from '../../base/abort.js';

export class Silence {
  readonly #controller = new AbortController();
  readonly #ms: number;
  readonly #unwatch: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #passed = false;

  /**
   * @param ms longest silence in ms
   * @param parent signal whose abort also ends the transfer
   */
  constructor(ms: number, parent: AbortSignal) {
    this.#ms = ms;
    this.#unwatch = onAbort(parent, () => this.#controller.abort(parent.reason));
    if (parent.aborted) this.#controller.abort(parent.reason);
    else this.heard();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** True if the transfer was silent for too long. */
  get passed(): boolean {
    return this.#passed;
  }

  /** The other side said something: the time begins anew. */
  readonly heard = (): void => {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#passed = true;
      this.#controller.abort(new DOMException('the server is silent', 'TimeoutError'));
    }, this.#ms);
  };

  end(): void {
    clearTimeout(this.#timer);
    this.#unwatch();
  }
}
