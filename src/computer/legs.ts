/**
 * Times of the three legs of a command: from the trap to the virtual I/O client, from there to the
 * answer, and until the driver consumes the completion.
 */
import type { CommandTimes } from '../device/command-times.js';

/** Medians in ms over the most recent commands; undefined if there were none. */
export interface LegMedians {
  /** From the trap to the virtual I/O client: time in the hypervisor. */
  readonly trap: number | undefined;
  /** From the virtual I/O client to the answer: network, server and physical device. */
  readonly far: number | undefined;
  /** From the answer until the driver consumes the completion: interrupt and guest. */
  readonly guest: number | undefined;
}

const kept = 4096;

export class Legs {
  readonly #trap = new Float64Array(kept);
  readonly #far = new Float64Array(kept);
  readonly #guest = new Float64Array(kept);
  #count = 0;

  add(times: CommandTimes): void {
    const at = this.#count++ % kept;
    this.#trap[at] = times.issued - times.trapped;
    this.#far[at] = times.answered - times.issued;
    this.#guest[at] = times.consumed - times.answered;
  }

  medians(): LegMedians {
    return { trap: this.#median(this.#trap), far: this.#median(this.#far), guest: this.#median(this.#guest) };
  }

  #median(values: Float64Array): number | undefined {
    const sorted = values.slice(0, Math.min(this.#count, kept)).sort();
    return sorted.length === 0 ? undefined : sorted[sorted.length >> 1];
  }
}
