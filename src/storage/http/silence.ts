/** Ends a transfer whose other side says nothing for too long, or that takes too long in all. */
import { onAbort } from '../../base/abort.js';

export class Silence {
  readonly #controller = new AbortController();
  readonly #ms: number;
  readonly #unwatch: () => void;
  /** When the transfer ends at the latest, in ms of performance.now(). */
  readonly #end: number;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #passed = false;

  /**
   * @param ms longest silence in ms
   * @param parent signal whose abort also ends the transfer
   * @param wholeMs longest time of the transfer in ms
   */
  constructor(ms: number, parent: AbortSignal, wholeMs = Infinity) {
    this.#ms = ms;
    this.#end = performance.now() + wholeMs;
    this.#unwatch = onAbort(parent, () => this.#controller.abort(parent.reason));
    if (parent.aborted) this.#controller.abort(parent.reason);
    else this.heard();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** True if one of the two times was exceeded. */
  get passed(): boolean {
    return this.#passed;
  }

  /** The other side said something: the time begins anew. */
  readonly heard = (): void => {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        this.#passed = true;
        this.#controller.abort(new DOMException('the server is silent', 'TimeoutError'));
      },
      Math.max(0, Math.min(this.#ms, this.#end - performance.now())),
    );
  };

  end(): void {
    clearTimeout(this.#timer);
    this.#unwatch();
  }
}
