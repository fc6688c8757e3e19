/**
 * Back-off: the pauses between attempts at something that has failed. Each pause is twice as long
 * as the one before, up to a limit. A caller that waits for the result can shorten a pause.
 */
import { onAbort } from './abort.js';

/** First and last length of a pause, in ms. Chosen, not measured. */
export const usualPauses = { first: 100, last: 2000 };

export class BackOff {
  readonly #first: number;
  readonly #last: number;
  #next: number;
  #hurry: (() => void) | undefined;

  /** @param pauses length of the first pause and limit of the later ones, in ms */
  constructor({ first, last } = usualPauses) {
    this.#first = this.#next = first;
    this.#last = last;
  }

  /** Waits for the next pause. An abort of the signal ends the pause early, without an error. */
  wait(signal?: AbortSignal): Promise<void> {
    const ms = this.#next;
    this.#next = Math.min(2 * ms, this.#last);
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const began = performance.now();
      const end = (): void => {
        clearTimeout(timer);
        unwatch();
        this.#hurry = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      const unwatch = onAbort(signal, end);
      // A caller that retries again and again must not cause as many attempts.
      this.#hurry = () => {
        if (performance.now() - began >= this.#first) end();
      };
    });
  }

  /** A caller waits: ends a pause that has lasted at least as long as the first one. */
  hurry(): void {
    this.#hurry?.();
  }
}
