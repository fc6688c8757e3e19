/**
 * The plan of a copy: divides the source into items in ascending order, each either data of at most
 * one chunk or zeroes that the source reports.
 */
import { buffersOf } from '../base/buffers.js';
import type { BlockDevice, Extent } from './device.js';
import { blockErrorOf } from './errors.js';

/** A part of the copy. Items are in order and leave no gap. */
export interface CopyItem {
  /** Bytes from the start of the device. */
  readonly offset: number;
  readonly length: number;
  /** True if the source reports that the range reads as zeroes. */
  readonly zero: boolean;
}

/** Shortest run of zeroes that gets a request of its own, in bytes. Chosen, not measured. */
const shortestZero = 65536;
/** Longest item of zeroes, in bytes. A copy can be aborted between two items only. */
const longestZero = 256 << 20;
/** Longest range of one query for extents, in bytes. */
const askedAtOnce = 1 << 30;

/**
 * Yields the items from `start` to the end of `from`.
 * @param chunk longest item of data in bytes, a power of two; items of data end at its multiples
 * @param blockSize block size of the destination, in bytes: items of zeroes begin at multiples of
 * it and of the source's block size
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
  /** All bytes before this offset have been yielded. */
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
        // The rest, less than a chunk, is yielded together with the data that follows.
        yield* data(Math.floor(at / chunk) * chunk);
      }
    }
  }
  yield* data(end);
}

/**
 * Extents from `at` on. If they are not available or not credible, the whole range counts as data.
 */
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
 * True if the device's last block can be read. Some servers report the range beyond the end of a
 * file that has shrunk as a hole, although reads fail there.
 */
async function reachesEnd(from: BlockDevice, signal?: AbortSignal): Promise<boolean> {
  const { size, blockSize } = from.info;
  const last = Math.floor((size - 1) / blockSize) * blockSize;
  return from.read(last, buffersOf(new Uint8Array(size - last)), signal && { signal }).then(
    () => true,
    () => false,
  );
}

/**
 * The runs of `bytes` that are zero and those that are not, in order; zero ones are whole pieces of
 * 64 KiB, or all of it.
 */
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

/** True if every byte is zero. */
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
