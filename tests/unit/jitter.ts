/**
 * A device whose requests take effect and are answered after random delays, in any order. For
 * tests.
 */
import { Filter, type BlockRequest } from '../../src/block/filters/filter.js';
import type { BlockDevice } from '../../src/block/device.js';
import { Random } from '../../src/conformance/random.js';

export class JitterFilter extends Filter {
  readonly #random: Random;
  readonly #turns: number;

  /** @param turns most iterations of the event loop that each half of a request takes */
  constructor(next: BlockDevice, seed: number, turns = 4) {
    super(next);
    this.#random = new Random(seed);
    this.#turns = turns;
  }

  protected override async around<T>(_: BlockRequest, pass: () => Promise<T>): Promise<T> {
    await this.#wait();
    const result = await pass();
    await this.#wait();
    return result;
  }

  async #wait(): Promise<void> {
    for (let left = this.#random.below(this.#turns + 1); left > 0; left--) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}
