/**
 * Pauses between attempts to reconnect: each is longer than the one before, up to a limit. A
 * waiting caller shortens them.
 */

/**
 * Length of the first pause, doubled each time up to that of the last, in ms. Chosen, not measured.
 */
const firstPause = 100;
const lastPause = 2000;

export class RetryPause {
  #next = firstPause;
  #wake: ((now: boolean) => void) | undefined;

  /** Waits for the next pause. */
  wait(): Promise<void> {
    const ms = this.#next;
    this.#next = Math.min(2 * ms, lastPause);
    return new Promise((resolve) => {
      const began = performance.now();
      const end = (): void => {
        clearTimeout(timer);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#wake = (now) => {
        // A caller that retries again and again must not make us reconnect as often.
        if (now || performance.now() - began >= firstPause) end();
      };
    });
  }

  /** A caller waits: ends a pause that has lasted at least as long as the first one. */
  hurry(): void {
    this.#wake?.(false);
  }

  /** Ends the pause for good: there will be no further attempt. */
  end(): void {
    this.#wake?.(true);
  }
}
