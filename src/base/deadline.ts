/**
 * A time limit as an abort signal, alone or joined with another signal.
 *
 * AbortSignal.any() over an AbortSignal.timeout() does not work: Node 20 may collect the timeout
 * signal as garbage while the joined signal still has listeners, and then the limit never takes
 * effect.
 */

/** Aborts after a time, or when its parent aborts. Call `end()` when the work is done. */
export class Deadline {
  readonly signal: AbortSignal;
  readonly #end: () => void;
  #passed = false;

  /**
   * @param ms time limit in ms
   * @param parent signal whose abort also aborts this one, with the parent's reason
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

  /** True if the time limit has aborted the signal; false if the parent has. */
  get passed(): boolean {
    return this.#passed;
  }

  /** Stops the timer and stops following the parent: the signal no longer aborts. */
  end(): void {
    this.#end();
  }
}
