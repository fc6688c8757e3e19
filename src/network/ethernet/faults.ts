/**
 * A fault model for frames: loss, duplication, reordering, truncation, bit flips and delay. A seed
 * makes its random decisions repeatable. For tests of protocols on a bad network.
 */
import { usageError } from '../../base/errors.js';
import { seededRandom } from '../../base/random.js';
import { frameHeaderSize } from './segment.js';

/** Faults of a segment, for tests. */
export interface FrameFaults {
  /** Chance that a frame is lost, 0 to 1. Default 0. */
  readonly loss?: number;
  /** Chance that a frame is delivered twice. Default 0. */
  readonly duplication?: number;
  /**
   * Chance that a frame, or a copy of it, is delayed by up to `reorderMs`, behind later frames.
   * Default 0.
   */
  readonly reordering?: number;
  /** Largest extra delay of a reordered frame, in ms. Default 5. */
  readonly reorderMs?: number;
  /** Chance that a copy of a frame is cut, anywhere after the Ethernet header. Default 0. */
  readonly truncation?: number;
  /**
   * Chance that one bit of a copy is flipped, anywhere after the Ethernet header. Default 0. A real
   * network drops such a frame because its checksum is wrong; this tests that the receiver neither
   * crashes nor hangs.
   */
  readonly flips?: number;
  /**
   * Only the first bytes after the Ethernet header are damaged by flips; the length in bytes.
   * Default: all.
   */
  readonly flipsWithin?: number;
  /** Delay of every frame, in ms. Default 0. */
  readonly delayMs?: number;
  /** Seed of the random decisions. Default 1. */
  readonly seed?: number;
}

const none = {
  loss: 0,
  duplication: 0,
  reordering: 0,
  truncation: 0,
  flips: 0,
  flipsWithin: Infinity,
  reorderMs: 5,
  delayMs: 0,
  seed: 1,
};

export class FaultModel {
  readonly #faults: Required<FrameFaults>;
  readonly #random: () => number;

  constructor(faults: FrameFaults) {
    this.#faults = { ...none, ...faults };
    for (const name of ['loss', 'duplication', 'reordering', 'truncation', 'flips'] as const) {
      const chance = this.#faults[name];
      if (!(chance >= 0 && chance <= 1)) throw usageError(`${name} ${chance} is no chance: give 0 to 1`);
    }
    this.#random = seededRandom(this.#faults.seed);
  }

  /**
   * The delays in ms after which copies of the next frame are delivered. Empty if the frame is
   * lost.
   */
  next(): number[] {
    const { loss, duplication } = this.#faults;
    const copies = this.#random() < duplication ? 2 : 1;
    const times: number[] = [];
    for (let copy = 0; copy < copies; copy++) if (this.#random() >= loss) times.push(this.#delay());
    return times;
  }

  /** Returns the frame, or a damaged copy of it. */
  damage(frame: Uint8Array): Uint8Array {
    const { truncation, flips, flipsWithin } = this.#faults;
    const room = frame.length - frameHeaderSize;
    if (room < 1) return frame;
    const place = (within = room): number => frameHeaderSize + Math.floor(this.#random() * within);
    let damaged = frame;
    if (truncation > 0 && this.#random() < truncation) damaged = damaged.subarray(0, place());
    if (flips === 0 || this.#random() >= flips) return damaged;
    const at = place(Math.min(flipsWithin, room));
    if (at >= damaged.length) return damaged;
    damaged = damaged.slice();
    damaged[at]! ^= 1 << Math.floor(this.#random() * 8);
    return damaged;
  }

  #delay(): number {
    const { reordering, reorderMs, delayMs } = this.#faults;
    return delayMs + (this.#random() < reordering ? this.#random() * reorderMs : 0);
  }
}
