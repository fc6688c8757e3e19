/**
 * Delay filter: simulates a slow or remote device by a delay per request and a bandwidth. For
 * experiments and tests. Every request must wait, so it passes on no synchronous transfers and no
 * file ranges.
 */
import { usageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { Filter, type BlockOperation, type BlockRequest } from './filter.js';
import { waitFor } from './wait.js';

/** Delay of each kind of request before it is passed on, in ms; default 0. */
export interface DelayOptions extends Partial<Readonly<Record<BlockOperation, number>>> {
  /**
   * Bandwidth of reads and writes together, in bytes per second; requests queue for it. Default:
   * unlimited.
   */
  readonly bytesPerSecond?: number | undefined;
}

/** Longest delay that setTimeout supports, in ms. */
const longest = 2 ** 31 - 1;

/** Simulates a slow or remote device by a delay per request and a bandwidth, for tests. */
export class DelayFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly #options: DelayOptions;
  /** When the last byte of all transfers so far has passed, in ms of `performance.now()`. */
  #busyUntil = 0;

  /**
   * @param options Delays in ms by kind of request, such as `{ read: 200, write: 200 }`
   * @throws TypeError if the options are not an object
   * @throws FarbusError if a delay or the bandwidth is not possible
   */
  constructor(next: BlockDevice, options: DelayOptions) {
    super(next);
    // JavaScript passes a bare number of milliseconds too, and it has no entries: nothing would be
    // delayed.
    if (typeof options !== 'object' || options === null) {
      throw new TypeError(
        `delay: ${String(options)} is not possible: give ms by kind of request, as in { read: 200, write: 200 }`,
      );
    }
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined) continue;
      const least = name === 'bytesPerSecond' ? 1 : 0;
      if (!(value >= least && value <= (least ? Number.MAX_SAFE_INTEGER : longest))) {
        throw usageError(`delay: ${name} ${value} is not possible: give ${least ? 'bytes a second' : 'milliseconds'}`);
      }
    }
    this.#options = options;
  }

  protected override async around<T>({ op, length, options }: BlockRequest, pass: () => Promise<T>): Promise<T> {
    const ms = Math.min(longest, (this.#options[op] ?? 0) + this.#queue(op, length));
    if (ms > 0) {
      await waitFor(options.signal, (done) => {
        const timer = setTimeout(done, ms);
        return () => clearTimeout(timer);
      });
    }
    return pass();
  }

  /** Time until this transfer's last byte has passed at the set bandwidth, in ms. */
  #queue(op: BlockOperation, length: number): number {
    const { bytesPerSecond } = this.#options;
    if (bytesPerSecond === undefined || (op !== 'read' && op !== 'write')) return 0;
    const now = performance.now();
    this.#busyUntil = Math.max(now, this.#busyUntil) + (length / bytesPerSecond) * 1000;
    return this.#busyUntil - now;
  }
}
