/** Converts block status ([NBD] "base:allocation") to the extents of BlockDevice. */
import type { Extent } from '../../../block/device.js';
import { AllocationFlag } from '../spec.js';

/** A run of bytes with one status, as received: its length in bytes and its flags. */
export interface StatusRun {
  length: number;
  readonly flags: number;
}

/**
 * Most runs kept of one reply; the range after them is queried again. Limits the memory that a
 * server can make us use.
 */
export const maxStatusRuns = 16_384;

/**
 * Converts runs to extents, from `offset` on and within `length` bytes. All extents begin and end
 * at block boundaries. A block with parts of different status is a hole, or zero, only if all its
 * parts are.
 */
export function extentsOf(runs: readonly StatusRun[], offset: number, length: number, blockSize: number): Extent[] {
  const extents: Extent[] = [];
  const add = (to: number, flags: number): void => {
    const last = extents.at(-1);
    const from = last ? last.offset + last.length : offset;
    const hole = (flags & AllocationFlag.hole) !== 0;
    const zero = (flags & AllocationFlag.zero) !== 0;
    if (last && last.hole === hole && last.zero === zero) {
      extents[extents.length - 1] = { ...last, length: to - last.offset };
    } else {
      extents.push({ offset: from, length: to - from, hole, zero });
    }
  };
  const end = offset + length;
  let at = offset;
  // The flags that all parts so far of the block around `at` have in common.
  let common = ~0;
  for (const run of runs) {
    const to = Math.min(end, at + run.length);
    const whole = at - (at % blockSize);
    if (whole !== at) {
      common &= run.flags;
      if (to >= whole + blockSize) {
        add(whole + blockSize, common);
        at = whole + blockSize;
      }
    }
    const until = to - (to % blockSize);
    if (until > at && at % blockSize === 0) add(until, run.flags);
    if (to % blockSize !== 0 && until >= at) common = run.flags;
    at = to;
    if (at === end) break;
  }
  // The reply does not even cover one block: data is always a safe answer.
  if (extents.length === 0) add(offset + blockSize, 0);
  return extents;
}
