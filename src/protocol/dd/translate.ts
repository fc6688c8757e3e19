/**
 * Translates read and write requests into runs of dd ([SYS] fig. 13, steps 422 and 425): offset and
 * length in bytes become a block size and numbers of such blocks.
 */

/**
 * One run of dd: `bs=unit`, `skip=` or `seek=position`, `count=count`, and the record count that dd
 * prints on success.
 */
export interface DdRun {
  readonly unit: number;
  readonly position: number;
  readonly count: number;
  /** The input records in dd's message: whole ones + partial ones. */
  readonly records: string;
}

/** The part of a request that one run moves: offset on the device and length, in bytes. */
export interface DdPart {
  readonly offset: number;
  readonly length: number;
}

/** Block size if dd counts in bytes: the amount that one system call moves. */
const byteUnit = 65536;
/** Largest block size if dd counts in blocks. */
const maxUnit = 131072;
/**
 * A block size from this on is good enough. If it is smaller, a long request is split, so that most
 * of it has a larger one.
 */
const goodUnit = 4096;

/** The way in which dd counts. */
export interface DdCounting {
  /** True: in bytes (skip_bytes, seek_bytes, count_bytes). False: in blocks. */
  readonly bytes: boolean;
  /**
   * True if dd cannot fill blocks from a pipe: its input is read byte by byte, so count and records
   * are numbers of bytes.
   */
  readonly byteInput?: boolean;
}

/**
 * The run for a part. If dd counts in blocks, the block size is the largest power of two that
 * divides offset and length.
 */
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

/**
 * Splits a request so that no run is longer than `most`, and so that as much of it as possible has
 * a good block size.
 */
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
