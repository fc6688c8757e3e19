/**
 * The world wide name that a target gives its disk ([ATA] 7.16.7.50): made from the disk's own marks (block/identity.ts), so
 * that an initiator recognises the disk behind the same address after either side was restarted. A disk without such marks
 * has no name; its address is none.
 */
import type { DiskMarks } from '../../../block/identity.js';

const offsetBasis = 0xcbf29ce484222325n;
const prime = 0x100000001b3n;

/** 16 hexadecimal digits of the kind that a maker may choose (NAA 3h, SPC-3 7.6.3.6.4); '' if no mark is for life. */
export function worldWideNameOf({ hardware, layer, file }: DiskMarks = {}): string {
  const mark = hardware ?? layer ?? file;
  if (mark === undefined) return '';
  // FNV-1a: spreads names, keeps no secrets.
  let hash = offsetBasis;
  for (const byte of new TextEncoder().encode(mark)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * prime);
  }
  return `3${hash.toString(16).padStart(16, '0').slice(1)}`;
}
