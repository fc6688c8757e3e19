/**
 * Congestion window: the number of messages that may be in flight. It is at most the target's
 * buffer count, and less if the network loses messages. Slow start, then one more message a round
 * trip; halved after a loss, one after silence (RFC 5681 section 3.1, in messages instead of
 * bytes).
 */

/** Maximum initial size of the window, in messages (chosen, not measured). */
const first = 8;

export class CongestionWindow {
  /** The target's buffer count. */
  #limit = Infinity;
  #size = first;
  /** Size at which slow start ends. RFC 5681 3.1: unlimited until the first loss. */
  #threshold = Infinity;
  /** Losses of messages sent before this time belong to a loss already handled. */
  #reducedAt = -Infinity;

  get size(): number {
    return Math.floor(this.#size);
  }

  /** Sets the target's buffer count. */
  limit(limit: number): void {
    this.#limit = limit;
    this.#size = Math.min(this.#size, limit);
  }

  answered(): void {
    const step = this.#size < this.#threshold ? 1 : 1 / this.#size;
    this.#size = Math.min(this.#limit, this.#size + step);
  }

  /** A message sent at `sentAt` (performance.now()) was lost. */
  lost(sentAt: number): void {
    if (sentAt <= this.#reducedAt) return;
    this.#reducedAt = performance.now();
    this.#threshold = Math.max(2, this.#size / 2);
    this.#size = this.#threshold;
  }

  /** The target is silent: restart with one message. */
  collapse(): void {
    this.#threshold = Math.max(2, this.#size / 2);
    this.#size = 1;
  }
}
