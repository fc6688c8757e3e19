/**
 * Cache filter: keeps data that was read from a remote device on a local store, and reads it there
 * the next time. Writes go to the device first and then into the cache (write-through), so flush
 * and FUA are those of the device. The cache is bounded: blocks that have not been used for long
 * are evicted.
 *
 * A failure of the store never fails a request: the block is forgotten and the device is read. The
 * cache cannot notice that another program writes to the device past it; a user of the cache
 * accepts that.
 *
 * No synchronous transfers and no file ranges: each request must update the cache.
 *
 * Not here: opening the cache (cache-store.ts), its format (cache-format.ts), eviction
 * (cache-slots.ts).
 */
import { buffersOf, type Buffers } from '../../base/buffers.js';
import { crc32 } from '../../base/crc32.js';
import type { BlockDevice, BlockInfo, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import { isLocal } from '../errors.js';
import { encodeCacheHeader, type CacheLayout } from './cache-format.js';
import { CacheSlots } from './cache-slots.js';
import { Filter } from './filter.js';
import { inParallel } from './parallel.js';
import { RangeLock } from './range-lock.js';

/** Longest read of the device to fill the cache, in bytes. */
const fillSize = 1 << 20;

/** Counters, for measurements and tests. */
export interface CacheCounts {
  /** Bytes that readers have got from the store. */
  readonly hitBytes: number;
  /** Bytes that readers have got from the device. */
  readonly missBytes: number;
  /** Number of blocks that could not be kept or read back because the store failed. */
  readonly storeErrors: number;
  /** Number of blocks that are held. */
  readonly held: number;
}

/** Keeps data that was read from a slow device on a store, and writes through to the device. */
export class CacheFilter extends Filter {
  readonly #store: BlockDevice;
  readonly #layout: CacheLayout;
  readonly #slots: CacheSlots;
  readonly #name: (() => Promise<string>) | undefined;
  readonly #lock = new RangeLock();
  #hitBytes = 0;
  #missBytes = 0;
  #storeErrors = 0;
  #written = false;

  /**
   * For {@link openCache}. Takes over both devices.
   * @param name finds the device's identity as text, '' if unknown; undefined if the cache is not
   * kept
   */
  constructor(
    next: BlockDevice,
    store: BlockDevice,
    layout: CacheLayout,
    slots: CacheSlots,
    name: (() => Promise<string>) | undefined,
  ) {
    super(next);
    this.#store = store;
    this.#layout = layout;
    this.#slots = slots;
    this.#name = name;
  }

  /** Counts since the cache was opened. */
  get counts(): CacheCounts {
    const [hitBytes, missBytes, storeErrors] = [this.#hitBytes, this.#missBytes, this.#storeErrors];
    return { hitBytes, missBytes, storeErrors, held: this.#slots.held };
  }

  /** Limits requests to `fillSize`, the memory of one fill. */
  protected override describe(next: BlockInfo): BlockInfo {
    const piece = fillSize - (fillSize % next.blockSize);
    return { ...next, maxTransfer: Math.max(next.blockSize, Math.min(next.maxTransfer, piece)) };
  }

  protected override async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    await this.#locked(offset, into.length, async (first, end) => {
      const jobs: (() => Promise<void>)[] = [];
      let missing = first;
      for (let block = first; block <= end; block++) {
        const slot = block < end ? this.#slots.pin(block) : undefined;
        if (slot === undefined && block < end) continue;
        const [from, to] = [missing, block];
        if (from < to) jobs.push(() => this.#fill(from, to, offset, into, options));
        if (slot !== undefined) jobs.push(() => this.#hit(block, slot, offset, into, options));
        missing = block + 1;
      }
      await inParallel(jobs, Infinity);
    });
  }

  protected override async doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    await this.#change(offset, from.length, () => this.next.write(offset, from, options), true, from);
  }

  protected override async doFlush(options: RequestOptions): Promise<void> {
    try {
      await this.next.flush(options);
    } catch (error) {
      // The device may have lost acknowledged writes: forget all blocks and read them from the
      // device.
      const release = await this.#lock.acquire(0, Infinity);
      this.#slots.dropRange(0, Infinity);
      release();
      throw error;
    }
  }

  protected override async doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    await this.#change(offset, length, () => this.next.trim(offset, length, options), false);
  }

  protected override async doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    await this.#change(offset, length, () => this.next.writeZeroes(offset, length, options), false);
  }

  protected override async doClose(): Promise<void> {
    try {
      const identity = this.#name && (await this.#durable()) ? await this.#name() : '';
      if (identity !== '') await this.#seal(identity);
    } catch {
      // Not sealed: the cache starts empty the next time.
    }
    await Promise.all([this.next.close(), this.#store.close()]);
  }

  /** True if all writes are durable on the device. */
  async #durable(): Promise<boolean> {
    if (!this.#written) return true;
    await this.next.flush();
    return this.next.info.can.flush;
  }

  /** Writes the table, and a header that says that the content agrees with the device. */
  async #seal(identity: string): Promise<void> {
    const { table } = this.#slots;
    const bytes = new Uint8Array(this.#layout.tableSize);
    const view = new DataView(bytes.buffer);
    for (const [slot, block] of table.entries()) view.setUint32(slot * 4, block, true);
    await this.#store.write(this.#layout.tableOffset, buffersOf(bytes));
    await this.#store.flush();
    const header = encodeCacheHeader({
      layout: this.#layout,
      identity,
      closed: true,
      tableChecksum: crc32(bytes),
    });
    await this.#store.write(0, buffersOf(header));
    await this.#store.flush();
  }

  async #locked(offset: number, length: number, work: (first: number, end: number) => Promise<void>): Promise<void> {
    const { clusterSize } = this.#layout;
    const first = Math.floor(offset / clusterSize);
    const end = Math.ceil((offset + length) / clusterSize);
    const release = await this.#lock.acquire(first, end);
    try {
      await work(first, end);
    } finally {
      release();
    }
  }

  /** Reads a block's part of the request from its slot, or from the device if the store fails. */
  async #hit(block: number, slot: number, offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const { clusterSize } = this.#layout;
    const start = Math.max(offset, block * clusterSize);
    const stop = Math.min(offset + into.length, (block + 1) * clusterSize);
    const part = into.slice(start - offset, stop - offset);
    try {
      await this.#store.read(this.#at(slot) + (start - block * clusterSize), part);
      this.#hitBytes += part.length;
    } catch {
      this.#storeErrors++;
      this.#slots.drop(block);
      await this.next.read(start, part, options);
    } finally {
      this.#slots.unpin(slot);
    }
  }

  /**
   * Reads the blocks [first, end) from the device, copies the requested bytes, and keeps the
   * blocks. If that fails, it reads exactly the requested bytes, so that a bad sector beside them
   * does not fail the request.
   */
  async #fill(first: number, end: number, offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const { clusterSize, sourceSize } = this.#layout;
    const start = first * clusterSize;
    const bytes = new Uint8Array(Math.min(sourceSize, end * clusterSize) - start);
    const from = Math.max(offset, start);
    const to = Math.min(offset + into.length, start + bytes.length);
    try {
      await this.next.read(start, buffersOf(bytes), options);
    } catch (error) {
      if (to - from === bytes.length || !isLocal(error)) throw error;
      await this.next.read(from, into.slice(from - offset, to - offset), options);
      this.#missBytes += to - from;
      return;
    }
    into.copyFrom(bytes.subarray(from - start, to - start), from - offset);
    this.#missBytes += to - from;
    const jobs: (() => Promise<void>)[] = [];
    for (let block = first; block < end; block++) {
      const at = (block - first) * clusterSize;
      jobs.push(() => this.#keepBlock(block, bytes.subarray(at, at + clusterSize)));
    }
    await inParallel(jobs);
  }

  async #keepBlock(block: number, bytes: Uint8Array): Promise<void> {
    const slot = this.#slots.take();
    if (slot === undefined) return;
    try {
      await this.#store.write(this.#at(slot), buffersOf(bytes));
      this.#slots.put(slot, block);
    } catch {
      this.#storeErrors++;
      this.#slots.giveBack(slot);
    } finally {
      this.#slots.unpin(slot);
    }
  }

  /**
   * Runs a change of the device. Afterwards the cache has the new bytes (`refresh`), or has
   * forgotten the blocks.
   */
  #change(
    offset: number,
    length: number,
    change: () => Promise<void>,
    refresh: boolean,
    data?: Buffers,
  ): Promise<void> {
    return this.#locked(offset, length, async (first, end) => {
      let done = false;
      this.#written = true;
      try {
        await change();
        done = refresh;
      } finally {
        // dropRange loops over at most as many blocks as are held, even for a long zeroing.
        if (!done) this.#slots.dropRange(first, end);
      }
      if (data && done) await this.#refresh(first, end, offset, data);
    });
  }

  async #refresh(first: number, end: number, offset: number, data: Buffers): Promise<void> {
    const { clusterSize, sourceSize } = this.#layout;
    const jobs: (() => Promise<void>)[] = [];
    for (let block = first; block < end; block++) {
      const start = Math.max(offset, block * clusterSize);
      const stop = Math.min(offset + data.length, (block + 1) * clusterSize);
      const slot = this.#slots.pin(block);
      const part = data.slice(start - offset, stop - offset);
      if (slot !== undefined) {
        jobs.push(() => this.#refreshSlot(block, slot, start - block * clusterSize, part));
      } else if (part.length === Math.min(clusterSize, sourceSize - block * clusterSize)) {
        const bytes = new Uint8Array(part.length);
        part.copyTo(bytes, 0);
        jobs.push(() => this.#keepBlock(block, bytes));
      }
    }
    await inParallel(jobs);
  }

  async #refreshSlot(block: number, slot: number, at: number, part: Buffers): Promise<void> {
    try {
      await this.#store.write(this.#at(slot) + at, part);
    } catch {
      this.#storeErrors++;
      this.#slots.drop(block);
    } finally {
      this.#slots.unpin(slot);
    }
  }

  #at(slot: number): number {
    return this.#layout.dataOffset + slot * this.#layout.clusterSize;
  }
}
