/**
 * The world wide name of a target's disk ([ATA] 7.16.7.50). It is derived from the disk's own
 * marks (block/identity.ts), so an initiator recognises the disk at the same address after a
 * restart of either side. A disk without marks has no name, because its address does not identify
 * it.
 */
import type { DiskMarks } from '../../../block/identity.js';

/** FNV-1a, 64 bits: the initial value and the prime. */
const offsetBasis = 0xcbf29ce484222325n;
const prime = 0x100000001b3n;

/**
 * 16 hexadecimal digits in a format that a maker may choose freely (NAA 3h, SPC-3 7.6.3.6.4); '' if
 * the disk has no permanent mark.
 */
export function worldWideNameOf({ hardware, layer, file }: DiskMarks = {}): string {
  const mark = hardware ?? layer ?? file;
  if (mark === undefined) return '';
  // FNV-1a: it need only spread names evenly, not keep them secret.
  let hash = offsetBasis;
  for (const byte of new TextEncoder().encode(mark)) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * prime);
  }
  return `3${hash.toString(16).padStart(16, '0').slice(1)}`;
}
