/**
 * Byte access filter: accepts requests of any offset and length for a device with blocks of more
 * than one byte.
 *
 * A read is extended to whole blocks. A write of a part of a block reads the block, changes it and
 * writes it back (read-modify-write). A trim is shrunk to the whole blocks within it. Extents are
 * queried for whole blocks and clipped.
 *
 * Two requests that change different bytes of one block both take effect, because a
 * read-modify-write and any other change of its block run one after the other, under a lock. Until
 * the first read-modify-write, requests for whole blocks go straight to the next device without a
 * promise or an object of this filter; from then on their changes take the lock.
 *
 * Not here: protection against programs that write to the next device by another way. Their changes
 * of the same block can be lost.
 */
import { buffersOf, type Buffers, type Bytes } from '../../base/buffers.js';
import type { BlockDevice, BlockInfo, Extent, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import type { DirectAccess, FileRanges } from '../direct.js';
import { BlockError } from '../errors.js';
import { Filter } from './filter.js';
import { JoinedBuffers } from '../../base/joined-buffers.js';
import { inParallel } from './parallel.js';
import { RangeLock } from './range-lock.js';

/**
 * A device that accepts requests of any offset and length: `device` itself if its blocks are single
 * bytes.
 */
export function byteAccess(device: BlockDevice): BlockDevice {
  // A drive with removable media always needs the filter: another medium may have larger blocks.
  return device.info.blockSize === 1 && !device.media ? device : new ByteAccessFilter(device);
}

/** Accepts requests of any offset and length, by reading, changing and writing whole blocks. */
export class ByteAccessFilter extends Filter {
  protected override readonly keepsNothing = true;
  /** Locks byte ranges of whole blocks. Every change takes it since the first read-modify-write. */
  readonly #lock = new RangeLock();
  /**
   * Resolves when all changes that took no lock have settled; undefined before the first
   * read-modify-write.
   */
  #unlocked: Promise<void> | undefined;

  constructor(next: BlockDevice) {
    super(next);
    // Without `settled` a later read-modify-write cannot wait for earlier changes: lock from the
    // start.
    if (!next.settled) this.#unlocked = Promise.resolve();
  }

  protected override get follows(): boolean {
    return true;
  }

  protected override describe(next: BlockInfo): BlockInfo {
    return { ...next, blockSize: 1 };
  }

  override read(offset: number, into: Bytes, options?: RequestOptions): Promise<void> {
    if (this.#isWhole(offset, into.length)) return this.next.read(offset, into, options);
    return super.read(offset, into, options);
  }

  override write(offset: number, from: Bytes, options?: WriteOptions): Promise<void> {
    if (!this.#unlocked && this.#isWhole(offset, from.length)) return this.next.write(offset, from, options);
    return super.write(offset, from, options);
  }

  override trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    // No lock: what trimmed bytes read as is undefined, so a read-modify-write may write back old
    // bytes.
    if (this.#isWhole(offset, length)) return this.next.trim(offset, length, options);
    return super.trim(offset, length, options);
  }

  override writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    if (!this.#unlocked && this.#isWhole(offset, length)) return this.next.writeZeroes(offset, length, options);
    return super.writeZeroes(offset, length, options);
  }

  override flush(options?: RequestOptions): Promise<void> {
    return this.next.flush(options);
  }

  override extents(offset: number, length: number, options?: RequestOptions): Promise<readonly Extent[]> {
    if (this.#isWhole(offset, length)) return this.next.extents(offset, length, options);
    return super.extents(offset, length, options);
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    return (
      direct && {
        read: (offset, into) => this.#isWhole(offset, into.length) && direct.read(offset, into),
        write: (offset, from) => {
          if (!this.#isWhole(offset, from.length)) return false;
          if (this.#unlocked && this.#lock.overlaps(offset, offset + from.length)) return false;
          return direct.write(offset, from);
        },
      }
    );
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    const { files } = this.next;
    return (
      files && {
        resident: (offset, length) => (this.#isWhole(offset, length) ? files.resident(offset, length) : undefined),
      }
    );
  }

  override async settled(): Promise<void> {
    await Promise.all([super.settled(), this.next.settled?.()]);
  }

  protected override doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const { start, end } = this.#blocksOf(offset, into.length);
    const before = buffersOf(new Uint8Array(offset - start));
    const after = buffersOf(new Uint8Array(end - offset - into.length));
    return this.next.read(start, joined([before, into, after]), options);
  }

  protected override doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.#locked(offset, from.length, options, () => this.#change(offset, from, options));
  }

  protected override async doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    const { first, last } = this.#wholeBlocksIn(offset, length);
    if (first < last) await this.next.trim(first, last - first, options);
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    if (options.fastOnly && !this.#isWhole(offset, length)) {
      return Promise.reject(new BlockError('unsupported', 'zeroing a part of a block is not faster than writing it'));
    }
    return this.#locked(offset, length, options, async () => {
      const { first, last } = this.#wholeBlocksIn(offset, length);
      const end = offset + length;
      const zero = (from: number, to: number): Promise<void> =>
        this.#change(from, buffersOf(new Uint8Array(to - from)), options);
      if (offset < first) await zero(offset, Math.min(first, end));
      if (first < last) await this.next.writeZeroes(first, last - first, options);
      if (end > Math.max(first, last)) await zero(Math.max(first, last), end);
    });
  }

  protected override async doExtents(
    offset: number,
    length: number,
    options: RequestOptions,
  ): Promise<readonly Extent[]> {
    const { start, end } = this.#blocksOf(offset, length);
    const extents = await this.next.extents(start, end - start, options);
    return extents.flatMap((extent) => {
      const from = Math.max(extent.offset, offset);
      const to = Math.min(extent.offset + extent.length, offset + length);
      return from < to ? [{ ...extent, offset: from, length: to - from }] : [];
    });
  }

  /** Runs `act` while no other change of the range's blocks is in flight. */
  async #locked(offset: number, length: number, options: RequestOptions, act: () => Promise<void>): Promise<void> {
    if (!this.#isWhole(offset, length)) this.#unlocked ??= this.next.settled!();
    const { start, end } = this.#blocksOf(offset, length);
    const release = await this.#lock.acquire(start, end);
    try {
      await this.#unlocked;
      options.signal?.throwIfAborted();
      await act();
    } finally {
      release();
    }
  }

  /**
   * Read-modify-write: writes `from` and keeps the other bytes of its first and last block. The
   * caller holds the lock.
   */
  async #change(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const { blockSize } = this.next.info;
    const { start, end } = this.#blocksOf(offset, from.length);
    const before = new Uint8Array(offset - start);
    const after = new Uint8Array(end - offset - from.length);
    const jobs: (() => Promise<void>)[] = [];
    const read = async (at: number, use: (block: Uint8Array) => void): Promise<void> => {
      const block = new Uint8Array(blockSize);
      await this.next.read(at, buffersOf(block), forRead(options));
      use(block);
    };
    const keepBefore = (block: Uint8Array): void => before.set(block.subarray(0, before.length));
    const keepAfter = (block: Uint8Array): void => after.set(block.subarray(blockSize - after.length));
    const oneBlock = end - start === blockSize;
    if (oneBlock && offset > start) jobs.push(() => read(start, (block) => (keepBefore(block), keepAfter(block))));
    else {
      if (before.length > 0) jobs.push(() => read(start, keepBefore));
      if (after.length > 0) jobs.push(() => read(end - blockSize, keepAfter));
    }
    await inParallel(jobs);
    await this.next.write(start, joined([buffersOf(before), from, buffersOf(after)]), options);
  }

  #isWhole(offset: number, length: number): boolean {
    const { blockSize } = this.next.info;
    return offset % blockSize === 0 && length % blockSize === 0;
  }

  /** The blocks that a range touches: [start, end) in bytes. */
  #blocksOf(offset: number, length: number): { start: number; end: number } {
    const { blockSize } = this.next.info;
    return { start: offset - (offset % blockSize), end: Math.ceil((offset + length) / blockSize) * blockSize };
  }

  /**
   * The blocks that a range covers completely: [first, last) in bytes; none if `last` ≤ `first`.
   */
  #wholeBlocksIn(offset: number, length: number): { first: number; last: number } {
    const { blockSize } = this.next.info;
    const end = offset + length;
    return { first: Math.ceil(offset / blockSize) * blockSize, last: end - (end % blockSize) };
  }
}

function joined(parts: readonly Buffers[]): Buffers {
  return new JoinedBuffers(parts.filter(({ length }) => length > 0));
}

/** The options of a write that also apply to a read. */
function forRead({ signal, traceId, medium }: RequestOptions): RequestOptions {
  return {
    ...(signal && { signal }),
    ...(traceId !== undefined && { traceId }),
    ...(medium !== undefined && { medium }),
  };
}
