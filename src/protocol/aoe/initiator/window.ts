/**
 * How many messages may be under way: never more than the target's buffers hold, fewer where the network loses some.
 * Slow start, then one more a round trip; half when something was lost, and one when nothing comes back (RFC 5681
 * section 3.1, in messages instead of bytes).
 */

const first = 8;

export class CongestionWindow {
  #limit: number;
  #size: number;
  #threshold: number;
  /** Losses of what was sent before this time are one and the same event. */
  #reducedAt = -Infinity;

  /** @param limit The target's buffer count. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#threshold = limit;
    this.#size = Math.min(first, limit);
  }

  get size(): number {
    return Math.floor(this.#size);
  }

  /** The target says how much it holds now. */
  limit(limit: number): void {
    this.#limit = limit;
    this.#size = Math.min(this.#size, limit);
  }

  answered(): void {
    const step = this.#size < this.#threshold ? 1 : 1 / this.#size;
    this.#size = Math.min(this.#limit, this.#size + step);
  }

  /** A message that was sent at `sentAt` (performance.now()) was lost. */
  lost(sentAt: number): void {
    if (sentAt <= this.#reducedAt) return;
    this.#reducedAt = performance.now();
    this.#threshold = Math.max(2, this.#size / 2);
    this.#size = this.#threshold;
  }

  /** Nothing comes back: begin anew. */
  collapse(): void {
    this.#threshold = Math.max(2, this.#size / 2);
    this.#size = 1;
  }
}
