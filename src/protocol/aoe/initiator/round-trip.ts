/**
 * How long an answer may take before its request is sent again: the smoothed round-trip time and its variation (V.
 * Jacobson and M. Karels, "Congestion avoidance and control", 1988; RFC 6298 section 2), in ms.
 */

const first = 200;
/** Below this, what the event loop of a busy process takes would count as loss. */
const shortest = 30;
const longest = 1000;

export class RoundTrip {
  #smoothed: number | undefined;
  #variation = 0;

  /** The time of an answer to a request that was sent once: of any other it is not known which copy it answers. */
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

  /** A time that answers seldom exceed; {@link timeout} is not shorter. */
  get late(): number {
    return this.#smoothed === undefined ? first : this.#smoothed + 4 * this.#variation;
  }

  /** How long to wait for an answer to the `copies`-th copy. */
  timeout(copies: number): number {
    return Math.min(longest, Math.max(shortest, this.late) * 2 ** Math.min(copies - 1, 6));
  }
}
