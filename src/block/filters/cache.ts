/**
 * Cache filter: keeps data that was read from a remote device on a local store, and reads it there
 * the next time. Writes go to the device first and then into the cache (write-through), so flush
 * and FUA are those of the device. The cache is bounded: blocks that have not been used for long
 * are evicted.
 *
 * A failure of the store never fails a request: the block is forgotten and the device is read. The
 * cache cannot notice that another program writes to the device past it, unless it is confirmed
 * (cache-version.ts). Otherwise a user of the cache accepts that.
 *
 * No synchronous transfers and no file ranges: each request must update the cache.
 *
 * Not here: opening the cache (cache-store.ts), its format (cache-format.ts), eviction
 * (cache-slots.ts), what is written so that it can be used again (cache-seal.ts).
 */
import { buffersOf, type Buffers } from '../../base/buffers.js';
import { crc32 } from '../../base/crc32.js';
import type { BlockDevice, BlockInfo, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import { BlockError, blockErrorOf, isLocal } from '../errors.js';
import type { CacheLayout } from './cache-format.js';
import type { CacheSeal } from './cache-seal.js';
import type { CacheSlots } from './cache-slots.js';
import type { CacheVersion } from './cache-version.js';
import { Filter } from './filter.js';
import { inParallel } from './parallel.js';
import { RangeLock } from './range-lock.js';

/** Longest read of the device to fill the cache, in bytes. */
const fillSize = 1 << 20;
/** A confirmed cache is sealed for this time after a block was added, in ms. */
const sealMs = 2000;

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
  /** How often it was sealed: its blocks of that time are there after a sudden end. */
  readonly seals: number;
}

/** The parts that keep a cache for the next time. */
export interface KeptCache {
  /** Finds the identity of the device's content as text, '' if it is unknown. */
  readonly name: () => Promise<string>;
  readonly seal: CacheSeal;
  /** Set if the device's content is confirmed; the device is then read-only. */
  readonly confirmed?: ConfirmedCache | undefined;
}

/** A cache that is used only as long as the server confirms that the content is the same. */
export interface ConfirmedCache {
  /** The version of the content with which the cache begins. */
  readonly version: CacheVersion;
  /** Called once if no more blocks are kept, with the reason as a clause. Must not throw. */
  readonly onStop: (why: string) => void;
}

/** Keeps data that was read from a slow device on a store, and writes through to the device. */
export class CacheFilter extends Filter {
  readonly #store: BlockDevice;
  readonly #layout: CacheLayout;
  readonly #slots: CacheSlots;
  readonly #kept: KeptCache | undefined;
  readonly #lock = new RangeLock();
  #hitBytes = 0;
  #missBytes = 0;
  #storeErrors = 0;
  #seals = 0;
  #written = false;
  #stopped = false;
  /** Blocks were added since the last seal. */
  #unsealed = false;
  #sealing: ReturnType<typeof setTimeout> | undefined;
  /** Resolves when the last seal that a timer began is written, or has failed. */
  #sealed: Promise<void> = Promise.resolve();

  /**
   * For {@link openCache}. Takes over both devices.
   * @param kept undefined if the cache is not kept
   */
  constructor(
    next: BlockDevice,
    store: BlockDevice,
    layout: CacheLayout,
    slots: CacheSlots,
    kept: KeptCache | undefined,
  ) {
    super(next);
    this.#store = store;
    this.#layout = layout;
    this.#slots = slots;
    this.#kept = kept;
  }

  /** Counts since the cache was opened. */
  get counts(): CacheCounts {
    const [hitBytes, missBytes, storeErrors] = [this.#hitBytes, this.#missBytes, this.#storeErrors];
    return { hitBytes, missBytes, storeErrors, held: this.#slots.held, seals: this.#seals };
  }

  /** Limits requests to `fillSize`, the memory of one fill. */
  protected override describe(next: BlockInfo): BlockInfo {
    const piece = fillSize - (fillSize % next.blockSize);
    return { ...next, maxTransfer: Math.max(next.blockSize, Math.min(next.maxTransfer, piece)) };
  }

  protected override async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    if (!(await this.#confirmed())) {
      await this.next.read(offset, into, options);
      this.#missBytes += into.length;
      return;
    }
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
    clearTimeout(this.#sealing);
    // A store that is closed between table and header would be empty the next time.
    await this.#sealed;
    try {
      if (this.#kept && (await this.#durable())) await this.#seal();
    } catch {
      // Not sealed: the cache starts empty the next time.
    }
    await Promise.all([this.next.close(), this.#store.close()]);
  }

  /** True if the content of the cache may be used: it was confirmed, or nothing need confirm it. */
  async #confirmed(): Promise<boolean> {
    const { version, onStop } = this.#kept?.confirmed ?? {};
    if (!version) return true;
    const recently = version.recently();
    if (recently === true || (await recently)) return true;
    if (version.changed) this.#stop(onStop!, 'the disk has been written on its server');
    return false;
  }

  #stop(tell: (why: string) => void, why: string): void {
    if (this.#stopped) return;
    this.#stopped = true;
    tell(why);
  }

  /** True if all writes are durable on the device. */
  async #durable(): Promise<boolean> {
    if (!this.#written) return true;
    await this.next.flush();
    return this.next.info.can.flush;
  }

  /** Seals the cache, which is kept. */
  async #seal(): Promise<void> {
    const { name, seal, confirmed } = this.#kept!;
    if (confirmed && !this.#unsealed) return;
    for (const slot of this.#slots.withoutChecksum()) await this.#checkSlot(slot);
    this.#unsealed = false;
    let done = false;
    try {
      done = await seal.seal(name);
    } finally {
      if (done) this.#seals++;
      else this.#unsealed = true;
    }
  }

  /** Finds the checksum of a slot whose block was written in part. */
  async #checkSlot(slot: number): Promise<void> {
    const bytes = new Uint8Array(this.#lengthOf(this.#slots.table[slot]!));
    await this.#store.read(this.#at(slot), buffersOf(bytes));
    this.#slots.check(slot, crc32(bytes));
  }

  /** Notes a new block. A confirmed cache is sealed soon, because its process may end at once. */
  #sealSoon(): void {
    this.#unsealed = true;
    if (!this.#kept?.confirmed || this.#sealing !== undefined) return;
    this.#sealing = setTimeout(() => {
      this.#sealing = undefined;
      // A failure is one of the store: the cache starts empty the next time.
      this.#sealed = this.#seal().catch(() => undefined);
    }, sealMs);
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
      await this.#readSlot(block, slot, start - block * clusterSize, part);
      this.#hitBytes += part.length;
    } catch {
      this.#storeErrors++;
      this.#slots.drop(block);
      await this.next.read(start, part, options);
    } finally {
      this.#slots.unpin(slot);
    }
  }

  /** Reads a part of a slot. The first time after a load, the whole content is compared. */
  async #readSlot(block: number, slot: number, at: number, into: Buffers): Promise<void> {
    const checksum = this.#slots.unchecked(slot);
    if (checksum === undefined) return this.#store.read(this.#at(slot) + at, into);
    const bytes = new Uint8Array(this.#lengthOf(block));
    await this.#store.read(this.#at(slot), buffersOf(bytes));
    if (crc32(bytes) !== checksum) throw new BlockError('io', 'the content of a block in the cache has changed');
    this.#slots.check(slot, checksum);
    into.copyFrom(bytes.subarray(at, at + into.length), 0);
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
    const slot = this.#stopped ? undefined : this.#slots.take();
    if (slot === undefined) return;
    try {
      if (this.#kept?.seal.guards(slot)) await this.#kept.seal.break();
      await this.#store.write(this.#at(slot), buffersOf(bytes));
      this.#slots.put(slot, block, this.#kept && crc32(bytes));
      this.#sealSoon();
    } catch (error) {
      this.#storeErrors++;
      this.#slots.giveBack(slot);
      this.#storeFailed(error);
    } finally {
      this.#slots.unpin(slot);
    }
  }

  /** A confirmed cache whose store is full keeps what it has. */
  #storeFailed(error: unknown): void {
    const { kind, message } = blockErrorOf(error);
    const confirmed = this.#kept?.confirmed;
    if (confirmed && kind === 'no-space') this.#stop(confirmed.onStop, message);
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
      // The checksum is computed again when the cache is sealed. So damage must be found before.
      if (this.#slots.unchecked(slot) !== undefined) await this.#readSlot(block, slot, 0, buffersOf(new Uint8Array(0)));
      this.#slots.forgetChecksum(slot);
      await this.#store.write(this.#at(slot) + at, part);
    } catch {
      this.#storeErrors++;
      this.#slots.drop(block);
    } finally {
      this.#slots.unpin(slot);
    }
  }

  #lengthOf(block: number): number {
    const { clusterSize, sourceSize } = this.#layout;
    return Math.min(clusterSize, sourceSize - block * clusterSize);
  }

  #at(slot: number): number {
    return this.#layout.dataOffset + slot * this.#layout.clusterSize;
  }
}
