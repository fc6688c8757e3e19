/**
 * A device with a volatile write cache that can lose power. Writes stay in the cache until a flush.
 * After a crash, each sector independently has its durable content or any later version from the
 * cache. So writes are lost, reordered, and torn between sectors, but never within a sector. Reads
 * see the cache.
 */
import type { Buffers } from '../../src/base/buffers.js';
import { BlockBase } from '../../src/block/base.js';
import type { BlockInfo } from '../../src/block/device.js';
import type { Random } from '../../src/conformance/random.js';

const sector = 512;

export class CrashStore extends BlockBase {
  readonly info: BlockInfo;
  readonly #random: Random;
  readonly #now: Uint8Array;
  readonly #durable: Uint8Array;
  /** The versions of each sector that are only in the cache, oldest first. */
  #cached = new Map<number, Uint8Array[]>();

  constructor(content: Uint8Array, random: Random, fastZeroes: boolean) {
    super();
    this.#random = random;
    this.#now = content.slice();
    this.#durable = content.slice();
    this.info = {
      size: content.length,
      blockSize: sector,
      preferredSize: 4096,
      maxTransfer: 1 << 20,
      readOnly: false,
      removable: false,
      rotational: false,
      identity: '',
      can: {
        flush: true,
        fua: false,
        trim: true,
        writeZeroes: fastZeroes,
        extents: false,
        multiConnection: true,
      },
    };
  }

  /**
   * Returns the medium after a power cut at this moment. This device continues to work; that does
   * not affect the returned copy.
   */
  crash(): Uint8Array {
    const left = this.#durable.slice();
    for (const [at, versions] of this.#cached) {
      const kept = this.#random.below(versions.length + 1);
      if (kept > 0) left.set(versions[kept - 1]!, at);
    }
    return left;
  }

  protected async doRead(offset: number, into: Buffers): Promise<void> {
    await this.#wait();
    into.copyFrom(this.#now.subarray(offset, offset + into.length), 0);
  }

  protected async doWrite(offset: number, from: Buffers): Promise<void> {
    const bytes = new Uint8Array(from.length);
    from.copyTo(bytes, 0);
    await this.#put(offset, bytes);
  }

  /**
   * Fills a trimmed range with garbage, because callers must rely neither on its old content nor on
   * zeroes.
   */
  protected override doTrim(offset: number, length: number): Promise<void> {
    return this.#put(offset, new Uint8Array(length).fill(0xbb));
  }

  protected override doWriteZeroes(offset: number, length: number): Promise<void> {
    return this.#put(offset, new Uint8Array(length));
  }

  protected async doFlush(): Promise<void> {
    // The versions that are in the cache when the flush begins become durable at some moment before
    // it ends.
    const flushed = new Map([...this.#cached].map(([at, versions]) => [at, versions.length]));
    // Wait long enough for further writes, which this flush does not cover.
    await this.#wait(12);
    for (const [at, count] of flushed) {
      const versions = this.#cached.get(at)!;
      // A flush that began later may have finished earlier.
      const done = versions.splice(0, Math.min(count, versions.length));
      if (done.length > 0) this.#durable.set(done.at(-1)!, at);
      if (versions.length === 0) this.#cached.delete(at);
    }
    await this.#wait();
  }

  protected async doClose(): Promise<void> {}

  async #put(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#wait();
    const sectors = Array.from({ length: bytes.length / sector }, (_, index) => index * sector);
    // A crash can happen between any two sectors of one write.
    const pause = this.#random.below(sectors.length + 1) * sector;
    for (const from of this.#random.shuffled(sectors)) {
      if (from === pause) await this.#wait(this.#random.chance(0.2) ? 60 : 3);
      const part = bytes.slice(from, from + sector);
      this.#now.set(part, offset + from);
      const versions = this.#cached.get(offset + from);
      if (versions) versions.push(part);
      else this.#cached.set(offset + from, [part]);
    }
    await this.#wait();
  }

  async #wait(most = 3): Promise<void> {
    for (let turns = this.#random.below(most); turns > 0; turns--)
      await new Promise((resolve) => setImmediate(resolve));
  }
}
