/**
 * A clock for time limits of what others owe to this process: it stands still while the process
 * sleeps (a suspended laptop, a frozen tab, a stopped process). Otherwise a limit would have passed
 * on waking, before the other side had a chance to answer.
 *
 * A sleep is recognised by a timer that fires far too late. So the clock must be counting
 * meanwhile. A busy event loop also makes a timer late, and is taken for a short sleep. But each
 * count adds at least the time that the timer was set for, and up to `mostCounted`: a limit is
 * reached after a bounded number of counts, however often and however long the process sleeps.
 */

/** Interval at which time is counted, in ms. */
const countMs = 500;
/** Most time that one count adds, in ms. The rest of a longer interval was sleep. */
const mostCounted = 2000;

type Timer = ReturnType<typeof setTimeout>;

export class AwakeClock {
  /** How long the process has slept while the clock counted, in ms. */
  #asleep = 0;
  /** The time of the last count, in ms of `performance.now()`. */
  #last = 0;
  /** The clock counts at least until it shows this time, in ms. */
  #until = 0;
  #timer: Timer | undefined;

  /** The time in ms. Only differences mean something. */
  now(): number {
    const now = performance.now();
    // An event of a socket may come before the timer when the process wakes up.
    if (this.#timer !== undefined) {
      this.#asleep += Math.max(0, now - this.#last - mostCounted);
      this.#last = now;
    }
    return now - this.#asleep;
  }

  /** Counts for the next `ms` at least. Sleep at other times is not noticed. */
  count(ms: number): void {
    this.#until = Math.max(this.#until, this.now() + ms);
    if (this.#timer !== undefined) return;
    this.#last = performance.now();
    this.#arm();
  }

  /** Stops counting. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#until = 0;
  }

  /**
   * Calls `run` when `ms` have passed by this clock.
   * @returns a function that cancels the call
   */
  after(ms: number, run: () => void): () => void {
    this.count(ms);
    const end = this.now() + ms;
    let timer: Timer;
    const wait = (left: number): void => {
      timer = setTimeout(look, Math.min(left, countMs));
    };
    const look = (): void => {
      const left = end - this.now();
      if (left > 0) wait(left);
      else run();
    };
    wait(ms);
    return () => clearTimeout(timer);
  }

  #arm(): void {
    this.#timer = setTimeout(() => {
      if (this.now() < this.#until) this.#arm();
      else this.stop();
    }, countMs);
    // It only looks: a process that has nothing else to wait for may end.
    (this.#timer as { unref?: () => void }).unref?.();
  }
}
