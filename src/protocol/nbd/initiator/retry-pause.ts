/** Pauses between attempts to connect again: longer each time, and cut short when somebody wants the connection. */

/** Of the first, doubled up to the last, in ms. */
const firstPause = 100;
const lastPause = 2000;

export class RetryPause {
  #next = firstPause;
  #wake: ((now: boolean) => void) | undefined;

  /** The next one. */
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
        // A caller that tries again and again does not make us do the same.
        if (now || performance.now() - began >= firstPause) end();
      };
    });
  }

  /** Somebody waits: a pause that has lasted for some time is over. */
  hurry(): void {
    this.#wake?.(false);
  }

  /** There will be no further attempt. */
  end(): void {
    this.#wake?.(true);
  }
}
