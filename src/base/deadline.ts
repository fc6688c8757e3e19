/**
 * A time limit as an abort signal, beside another signal or alone.
 *
 * AbortSignal.any() of an AbortSignal.timeout() is not it: Node 20 may collect the timeout signal as garbage while its
 * dependant is still listened to, and the limit then never comes.
 */

/** Aborts after a time, or as soon as its parent does. `end()` it when the work is done. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #end: () => void;
  #passed = false;

  /**
   * @param ms time limit in ms
   * @param parent whose abort counts as well, with its reason
   */
  constructor(ms: number, parent?: AbortSignal) {
    const controller = new AbortController();
    this.signal = controller.signal;
    const follow = (): void => {
      clearTimeout(timer);
      controller.abort(parent?.reason);
    };
    const timer = setTimeout(() => {
      this.#passed = true;
      this.end();
      controller.abort(new DOMException('the time limit has passed', 'TimeoutError'));
    }, ms);
    this.#end = (): void => {
      clearTimeout(timer);
      parent?.removeEventListener('abort', follow);
    };
    if (parent?.aborted) follow();
    else parent?.addEventListener('abort', follow, { once: true });
  }

  /** Whether it was the time limit that aborted. */
  get passed(): boolean {
    return this.#passed;
  }

  /** Lets go of the timer and of the parent. The signal no longer aborts. */
  end(): void {
    this.#end();
  }
}
