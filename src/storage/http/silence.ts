/** Ends a transfer whose other side says nothing for too long, or that takes too long in all. */
import { onAbort } from '../../base/abort.js';

export class Silence {
  readonly #ms: number;
  readonly #unwatch: readonly (() => void)[];
  /** When the transfer ends at the latest, in ms of performance.now(). */
  readonly #last: number;
  #heardAt = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #end: ((reason: Error) => void) | undefined;
  #reason: Error | undefined;
  #passed = false;

  /**
   * @param ms longest silence in ms
   * @param parents signals whose abort also ends the transfer
   * @param wholeMs longest time of the transfer in ms
   */
  constructor(ms: number, parents: readonly (AbortSignal | undefined)[], wholeMs: number) {
    this.#ms = ms;
    this.#last = this.#heardAt + wholeMs;
    this.#unwatch = parents.map((one) => onAbort(one, () => this.#over(one!.reason as Error)));
    const aborted = parents.find((one) => one?.aborted);
    if (aborted) this.#over(aborted.reason as Error);
    else this.#wait();
  }

  /** True if one of the two times was exceeded. */
  get passed(): boolean {
    return this.#passed;
  }

  /** The other side said something: the time begins anew. */
  heard(): void {
    this.#heardAt = performance.now();
  }

  /** Takes the function that ends the transfer. Calls it at once if the transfer is over. */
  readonly endBy = (end: (reason: Error) => void): void => {
    this.#end = end;
    if (this.#reason) end(this.#reason);
  };

  end(): void {
    clearTimeout(this.#timer);
    for (const unwatch of this.#unwatch) unwatch();
  }

  /** Checks when the time may be over, not at each part: a timer costs more than a part. */
  #wait(): void {
    const left = Math.min(this.#heardAt + this.#ms, this.#last) - performance.now();
    if (left > 0) {
      this.#timer = setTimeout(() => this.#wait(), left);
      return;
    }
    this.#passed = true;
    this.#over(new DOMException('the server is silent', 'TimeoutError'));
  }

  #over(reason: Error): void {
    this.#reason = reason;
    this.#end?.(reason);
  }
}
