/**
 * The translation of read and write commands into dd runs ([SYS] fig. 13, steps 422 and 425): offset and length in bytes
 * become a unit, and counts of it.
 */

/** One run of dd: `bs=unit`, `skip=` or `seek=position`, `count=count`, and what dd reports when all of it was moved. */
export interface DdRun {
  readonly unit: number;
  readonly position: number;
  readonly count: number;
  /** The records that dd reads: whole ones + partial ones. */
  readonly records: string;
}

/** The part of a request that one run moves, in bytes from the start of the device. */
export interface DdPart {
  readonly offset: number;
  readonly length: number;
}

/** Unit where dd counts in bytes: what one system call moves. */
const byteUnit = 65536;
/** Largest unit of a dd that counts in units. */
const maxUnit = 131072;
/** A unit of this size is good enough; less, and a long request is divided so that most of it has a larger one. */
const goodUnit = 4096;

/** How dd is to count. */
export interface DdCounting {
  /** In bytes: skip_bytes, seek_bytes, count_bytes. Otherwise in units. */
  readonly bytes: boolean;
  /** Its input is read byte by byte, as it cannot fill blocks from a pipe: count and records are of bytes. */
  readonly byteInput?: boolean;
}

/** The run for a part. Without counting in bytes, the unit is the largest power of two that divides all. */
export function translate({ offset, length }: DdPart, { bytes, byteInput = false }: DdCounting): DdRun {
  if (bytes) {
    const whole = Math.floor(length / byteUnit);
    const records = `${whole}+${length % byteUnit === 0 ? 0 : 1}`;
    return { unit: byteUnit, position: offset, count: length, records };
  }
  const unit = unitOf(offset, length);
  const count = byteInput ? length : length / unit;
  return { unit, position: offset / unit, count, records: `${count}+0` };
}

/** Divides a request so that no run is longer than `most`, and has no poor unit where a part of it can have a good one. */
export function divide(offset: number, length: number, most: number, bytes: boolean): DdPart[] {
  const parts: DdPart[] = [];
  const end = offset + length;
  for (let at = offset; at < end;) {
    let next = Math.min(end, at + most);
    if (!bytes && unitOf(at, next - at) < goodUnit) {
      const up = Math.ceil(at / goodUnit) * goodUnit;
      const down = Math.floor(next / goodUnit) * goodUnit;
      if (up > at && up < next) next = up;
      else if (up === at && down > at) next = down;
    }
    parts.push({ offset: at, length: next - at });
    at = next;
  }
  return parts;
}

function unitOf(offset: number, length: number): number {
  let unit = maxUnit;
  while (offset % unit !== 0 || length % unit !== 0) unit /= 2;
  return unit;
}
