/**
 * Meter filter: counts the requests to an export's device and their durations (a histogram) by kind
 * of request, for metrics.
 */
import type { DirectAccess, FileRange, FileRanges } from '../block/direct.js';
import { Filter, type BlockOperation, type BlockRequest } from '../block/filters/filter.js';

/** Upper bounds of the histogram's buckets, in seconds. */
export const latencyBounds: readonly number[] = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

/** Counters of the settled requests of one kind. */
export interface OperationCounts {
  /** Failed requests; synchronous ones that fail do not count. */
  errors: number;
  /** Duration of all requests together, in seconds. */
  seconds: number;
  /**
   * Number of requests by duration: one bucket for each of {@link latencyBounds}, and one for
   * longer requests.
   */
  readonly buckets: number[];
}

const operations: readonly BlockOperation[] = ['read', 'write', 'flush', 'trim', 'writeZeroes', 'extents'];

export class MeterFilter extends Filter {
  protected override readonly keepsNothing = true;
  readonly counts = Object.fromEntries(
    operations.map((op) => [
      op,
      { errors: 0, seconds: 0, buckets: new Array<number>(latencyBounds.length + 1).fill(0) },
    ]),
  ) as unknown as Readonly<Record<BlockOperation, OperationCounts>>;

  protected override get follows(): boolean {
    return true;
  }

  /**
   * A synchronous request that returns false does not count: the caller repeats it asynchronously.
   */
  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    const counted = (op: BlockOperation, act: () => boolean): boolean => {
      const start = performance.now();
      const done = act();
      if (done) this.#count(op, start);
      return done;
    };
    return (
      direct && {
        read: (offset, into) => counted('read', () => direct.read(offset, into)),
        write: (offset, from) => counted('write', () => direct.write(offset, from)),
      }
    );
  }

  /** A file range counts as one read, which ends when the range is known. */
  protected override get uncheckedFiles(): FileRanges | undefined {
    const { files } = this.next;
    const counted = (range: FileRange | undefined, start: number): FileRange | undefined => {
      if (range) this.#count('read', start);
      return range;
    };
    return (
      files && {
        resident: (offset, length) => {
          const start = performance.now();
          return counted(files.resident(offset, length), start);
        },
      }
    );
  }

  protected override async around<T>({ op }: BlockRequest, pass: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await pass();
    } catch (error) {
      this.counts[op].errors++;
      throw error;
    } finally {
      this.#count(op, start);
    }
  }

  /** Counts one request. @param start when it began, in ms of performance.now() */
  #count(op: BlockOperation, start: number): void {
    const counts = this.counts[op];
    const seconds = (performance.now() - start) / 1000;
    counts.seconds += seconds;
    let bucket = 0;
    while (bucket < latencyBounds.length && seconds > latencyBounds[bucket]!) bucket++;
    counts.buckets[bucket]!++;
  }
}
