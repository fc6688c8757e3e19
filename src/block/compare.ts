/** Compares two devices byte by byte, with several requests in flight, in bounded memory. */
import { buffersOf } from '../base/buffers.js';
import { isZero, planCopy } from './copy-plan.js';
import type { BlockDevice, RequestOptions } from './device.js';

/** Options of {@link compareDevices}. */
export interface CompareOptions {
  /** Requests in flight to each device. Default 8. */
  readonly jobs?: number;
  /** Longest request in bytes, a power of two; less if a device takes less. Default 1 MiB. */
  readonly chunkSize?: number;
  /** Ends the comparison, which then rejects with kind `aborted`. */
  readonly signal?: AbortSignal;
  /** Receives the number of bytes that have been compared so far. Must not throw. */
  readonly onProgress?: (bytes: number) => void;
}

/**
 * Compares all of `a` with the start of `b`, which must be at least as long. Ranges that both
 * devices report as zeroes are not read.
 * @returns the offset of a byte that differs (the lowest that was found, not always the first), or
 * undefined if there is no difference
 * @throws BlockError if a device cannot be read and no difference was found
 */
export async function compareDevices(
  a: BlockDevice,
  b: BlockDevice,
  options: CompareOptions = {},
): Promise<number | undefined> {
  const { jobs = 8, chunkSize = 1 << 20, signal, onProgress } = options;
  const unit = Math.max(a.info.blockSize, b.info.blockSize);
  const most = Math.min(chunkSize, a.info.maxTransfer, b.info.maxTransfer);
  const chunk = Math.max(unit, 2 ** Math.floor(Math.log2(most)));
  const request = signal ? { signal } : {};
  const items = planCopy(a, 0, chunk, b.info.blockSize, signal);
  let different: number | undefined;
  let failure: { readonly reason: unknown } | undefined;
  let done = 0;

  /** Reads whole blocks of `b`, even though `a` may end within one. */
  const readB = async (memory: Uint8Array, offset: number, length: number): Promise<Uint8Array> => {
    const whole = Math.ceil(length / b.info.blockSize) * b.info.blockSize;
    await b.read(offset, buffersOf(memory.subarray(0, whole)), request);
    return memory.subarray(0, length);
  };
  const differ = (at: number): void => void (different = Math.min(different ?? at, at));

  const zeroes = async (offset: number, length: number, memory: Uint8Array): Promise<void> => {
    const end = offset + length;
    for (let at = offset; at < end && different === undefined;) {
      const whole = Math.ceil((end - at) / b.info.blockSize) * b.info.blockSize;
      const [extent] = await b.extents(at, whole, request);
      const stop = Math.min(end, extent!.offset + extent!.length);
      while (at < stop) {
        const part = extent!.zero ? stop - at : Math.min(chunk, stop - at);
        if (!extent!.zero) {
          const bytes = await readB(memory, at, part);
          if (!isZero(bytes)) return differ(at + bytes.findIndex((byte) => byte !== 0));
        }
        at += part;
      }
    }
  };

  const worker = async (): Promise<void> => {
    const [mine, other] = [new Uint8Array(chunk), new Uint8Array(chunk + unit)];
    while (different === undefined && !failure) {
      const { value: item, done: over } = await items.next();
      if (over) return;
      signal?.throwIfAborted();
      const { offset, length, zero } = item;
      if (zero) {
        await zeroes(offset, length, other);
      } else {
        const bytes = mine.subarray(0, length);
        const results = await Promise.allSettled([
          a.read(offset, buffersOf(bytes), request),
          readB(other, offset, length),
        ]);
        for (const result of results) if (result.status === 'rejected') throw result.reason;
        const at = firstDifference(bytes, other.subarray(0, length));
        if (at !== undefined) differ(offset + at);
      }
      done += length;
      onProgress?.(done);
    }
  };
  const guarded = (): Promise<void> => worker().catch((reason: unknown) => void (failure ??= { reason }));
  await Promise.all(Array.from({ length: jobs }, guarded));
  if (different === undefined && failure) throw failure.reason;
  return different;
}

/** Length of one sample, in bytes; at least one block. */
const sampleSize = 4096;

/**
 * Compares up to `count` samples, evenly spread over the first `end` bytes of both devices. The
 * last whole sample is always among them if `count` is at least 2.
 * @returns `differs`: the offset of a byte that differs, if any. `proof`: true if a sample of `a`
 * contains data; samples of zeroes prove nothing, because empty disks are all alike
 * @throws BlockError if one of them cannot be read
 */
export async function compareSamples(
  a: BlockDevice,
  b: BlockDevice,
  end: number,
  count: number,
  options: RequestOptions = {},
): Promise<{ readonly differs?: number; readonly proof: boolean }> {
  const length = Math.max(sampleSize, a.info.blockSize, b.info.blockSize);
  const whole = Math.floor(end / length);
  const places = Math.min(count, whole);
  const found = await Promise.all(
    Array.from({ length: places }, async (_, i) => {
      const offset = Math.floor((i * (whole - 1)) / Math.max(1, places - 1)) * length;
      const [mine, other] = [new Uint8Array(length), new Uint8Array(length)];
      await Promise.all([a.read(offset, buffersOf(mine), options), b.read(offset, buffersOf(other), options)]);
      const at = firstDifference(mine, other);
      return { differs: at === undefined ? undefined : offset + at, data: at === undefined && !isZero(mine) };
    }),
  );
  const differs = found.find((one) => one.differs !== undefined)?.differs;
  return { ...(differs !== undefined && { differs }), proof: found.some(({ data }) => data) };
}

/** The first place at which two arrays of one length differ; undefined if they are equal. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number | undefined {
  let at = 0;
  if (a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0) {
    const [x, y] = [a, b].map((bytes) => new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2));
    while (at < x!.length && x![at] === y![at]) at++;
    at *= 4;
  }
  while (at < a.length && a[at] === b[at]) at++;
  return at < a.length ? at : undefined;
}
