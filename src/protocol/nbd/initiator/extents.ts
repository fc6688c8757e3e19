/** Block status ([NBD] "base:allocation") as the extents that BlockDevice has. */
import type { Extent } from '../../../block/device.js';
import { AllocationFlag } from '../spec.js';

/** A run of one status, as it came: its length in bytes and its flags. */
export interface StatusRun {
  length: number;
  readonly flags: number;
}

/** Runs kept of one reply; what comes after them is asked for again. A bound on what a server can make us keep. */
export const maxStatusRuns = 16_384;

/**
 * Extents from `offset` on, within `length` bytes. All of them begin and end at whole blocks: a block that a server
 * describes in parts is a hole, or zero, only if all its parts are.
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
  // What the parts of the block that `at` is in the middle of have in common.
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
  // A reply that does not even tell about one block: data is always a safe answer.
  if (extents.length === 0) add(offset + blockSize, 0);
  return extents;
}
