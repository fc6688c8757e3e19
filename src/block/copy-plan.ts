/** What a copy does in which order: runs of data of at most one chunk, and runs of zeroes that the source knows of. */
import { buffersOf } from '../base/buffers.js';
import type { BlockDevice, Extent } from './device.js';
import { blockErrorOf } from './errors.js';

/** A part of the copy. Parts are in order and cover all. */
export interface CopyItem {
  /** Bytes from the start of the device. */
  readonly offset: number;
  readonly length: number;
  /** The source says that it reads as zeroes. */
  readonly zero: boolean;
}

/** Shortest run of zeroes that is worth a request of its own, in bytes. */
const shortestZero = 65536;
/** Longest run of zeroes of one item: so often it can be given up. */
const longestZero = 256 << 20;
/** Bytes whose extents are asked for at once. */
const askedAtOnce = 1 << 30;

/**
 * The items of [start, end of `from`).
 * @param chunk Longest item of data in bytes, a power of two; items end at its multiples.
 * @param blockSize What items of zeroes begin at multiples of, besides the source's own block size.
 */
export async function* planCopy(
  from: BlockDevice,
  start: number,
  chunk: number,
  blockSize: number,
  signal?: AbortSignal,
): AsyncGenerator<CopyItem, void, undefined> {
  const end = from.info.size;
  const unit = Math.max(from.info.blockSize, blockSize);
  /** All before it has been given. */
  let given = start;
  function* data(to: number): Generator<CopyItem> {
    while (given < to) {
      const length = Math.min(to, (Math.floor(given / chunk) + 1) * chunk) - given;
      yield { offset: given, length, zero: false };
      given += length;
    }
  }
  for (let at = start; at < end;) {
    for (const extent of await extentsFrom(from, at, Math.min(askedAtOnce, end - at), signal)) {
      at = extent.offset + extent.length;
      const first = Math.ceil(extent.offset / unit) * unit;
      const last = at === end ? end : Math.floor(at / unit) * unit;
      if (extent.zero && last - first >= shortestZero) {
        yield* data(first);
        while (given < last) {
          const length = Math.min(longestZero, last - given);
          yield { offset: given, length, zero: true };
          given += length;
        }
      } else {
        // What is left of it is given with what follows.
        yield* data(Math.floor(at / chunk) * chunk);
      }
    }
  }
  yield* data(end);
}

/** Extents from `at` on; where they cannot be had or not be believed, all is data. */
async function extentsFrom(
  from: BlockDevice,
  at: number,
  length: number,
  signal?: AbortSignal,
): Promise<readonly Extent[]> {
  try {
    const extents = await from.extents(at, length, signal && { signal });
    const zeroes = extents.some(({ zero }) => zero);
    if (extents.length > 0 && (!zeroes || (await reachesEnd(from, signal)))) return extents;
  } catch (error) {
    const { kind } = blockErrorOf(error);
    if (kind !== 'unsupported' && kind !== 'io') throw error;
  }
  return [{ offset: at, length, hole: false, zero: false }];
}

/**
 * Whether the device's last block can be read. Some servers report everything behind the end of a file that has become
 * shorter as a hole, although reads fail there.
 */
async function reachesEnd(from: BlockDevice, signal?: AbortSignal): Promise<boolean> {
  const { size, blockSize } = from.info;
  const last = Math.floor((size - 1) / blockSize) * blockSize;
  return from.read(last, buffersOf(new Uint8Array(size - last)), signal && { signal }).then(
    () => true,
    () => false,
  );
}

/** The runs of `bytes` that are zero and those that are not, in order; zero ones are whole pieces of 64 KiB, or all of it. */
export function zeroRuns(bytes: Uint8Array): { offset: number; length: number; zero: boolean }[] {
  const runs: { offset: number; length: number; zero: boolean }[] = [];
  for (let offset = 0; offset < bytes.length; offset += shortestZero) {
    const piece = bytes.subarray(offset, offset + shortestZero);
    const zero = isZero(piece);
    const last = runs.at(-1);
    if (last?.zero === zero) last.length += piece.length;
    else runs.push({ offset, length: piece.length, zero });
  }
  return runs;
}

/** Whether every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  let at = 0;
  if (bytes.byteOffset % 4 === 0) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    for (const word of words) if (word !== 0) return false;
    at = words.length * 4;
  }
  for (; at < bytes.length; at++) if (bytes[at] !== 0) return false;
  return true;
}
