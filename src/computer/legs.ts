/** The legs of a command's way, timed: from the trap to the virtual I/O client, there and back, and until the driver has its answer. */
import type { CommandTimes } from '../device/nvme/times.js';

/** Medians in ms over the most recent commands; undefined where there were none. */
export interface LegMedians {
  /** Trap to virtual I/O client: the hypervisor's own part. */
  readonly trap: number | undefined;
  /** Virtual I/O client to answer: network, server and physical device. */
  readonly far: number | undefined;
  /** Answer to the driver's taking the completion: interrupt and guest. */
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
