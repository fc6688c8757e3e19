/** What a bad network does to frames, by chances that a seed makes repeatable: for tests of what has to live with it. */
import { usageError } from '../../base/errors.js';
import { seededRandom } from '../../base/random.js';

export interface FrameFaults {
  /** Chance that a frame is lost, 0 to 1. Default 0. */
  readonly loss?: number;
  /** Chance that a frame comes twice. Default 0. */
  readonly duplication?: number;
  /** Chance that a frame, or a copy, comes up to `reorderMs` later than others. Default 0. */
  readonly reordering?: number;
  /** Default 5. */
  readonly reorderMs?: number;
  /** Every frame comes so much later, in ms. Default 0. */
  readonly delayMs?: number;
  /** Default 1. */
  readonly seed?: number;
}

export class FaultModel {
  readonly #faults: Required<FrameFaults>;
  readonly #random: () => number;

  constructor(faults: FrameFaults) {
    this.#faults = { loss: 0, duplication: 0, reordering: 0, reorderMs: 5, delayMs: 0, seed: 1, ...faults };
    for (const name of ['loss', 'duplication', 'reordering'] as const) {
      const chance = this.#faults[name];
      if (!(chance >= 0 && chance <= 1)) throw usageError(`${name} ${chance} is no chance: give 0 to 1`);
    }
    this.#random = seededRandom(this.#faults.seed);
  }

  /** When the copies of the next frame arrive, in ms from now: none where it is lost. */
  next(): number[] {
    const { loss, duplication } = this.#faults;
    const copies = this.#random() < duplication ? 2 : 1;
    const times: number[] = [];
    for (let copy = 0; copy < copies; copy++) if (this.#random() >= loss) times.push(this.#delay());
    return times;
  }

  #delay(): number {
    const { reordering, reorderMs, delayMs } = this.#faults;
    return delayMs + (this.#random() < reordering ? this.#random() * reorderMs : 0);
  }
}
