/**
 * Retransmission timeout: the smoothed round-trip time and its variation, in ms (V. Jacobson and
 * M. Karels, "Congestion avoidance and control", 1988; RFC 6298 section 2).
 */

/** Timeout before the first measured round trip, in ms (chosen, not measured). */
const first = 200;
/** Minimum timeout in ms. If it were less, a busy event loop would look like a loss. */
const shortest = 30;
/** Maximum timeout in ms (chosen, not measured). */
const longest = 1000;

export class RoundTrip {
  #smoothed: number | undefined;
  #variation = 0;

  /**
   * Adds a measured round trip. Only requests sent once count: for the others it is unknown which
   * copy the answer belongs to.
   */
  sample(ms: number): void {
    if (this.#smoothed === undefined) {
      this.#smoothed = ms;
      this.#variation = ms / 2;
      return;
    }
    const error = ms - this.#smoothed;
    this.#smoothed += error / 8;
    this.#variation += (Math.abs(error) - this.#variation) / 4;
  }

  /** A time in ms that round trips rarely exceed; {@link timeout} is never shorter. */
  get late(): number {
    return this.#smoothed === undefined ? first : this.#smoothed + 4 * this.#variation;
  }

  /** Timeout in ms after the `copies`-th copy. */
  timeout(copies: number): number {
    return Math.min(longest, Math.max(shortest, this.late) * 2 ** Math.min(copies - 1, 6));
  }
}
