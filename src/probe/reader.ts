/**
 * ProbeReader: reads small pieces of a device for probes.
 *
 * It caches the device in chunks of 64 KiB, so that many probes of the same place cost one request
 * to a remote disk. The total number of bytes read is bounded, so that no malicious table can make
 * a probe read a whole disk. If a chunk cannot be read, the blocks that a probe needs are read one
 * by one, so that one bad sector does not hide its neighbours.
 */
import { buffersOf } from '../base/buffers.js';
import type { BlockDevice, RequestOptions } from '../block/device.js';
import { blockErrorOf } from '../block/errors.js';

/** Length of a chunk in bytes; a multiple of every block size. */
const chunkSize = 65536;
/** Most bytes that the probes of one device read together. */
const defaultBudget = 64 << 20;

/**
 * The bytes of a chunk; 'bad' if it cannot be read as a whole; undefined if the budget is used up.
 */
type Chunk = Uint8Array | 'bad' | undefined;

/** State that all readers of one device share. */
interface Shared {
  readonly device: BlockDevice;
  readonly options: RequestOptions;
  readonly chunks: Map<number, Promise<Chunk>>;
  /** Offsets on the device of blocks that could not be read. */
  readonly unreadable: Set<number>;
  /** Bytes that may still be read. */
  budget: number;
}

/** A part of a device, read in pieces. */
export class ProbeReader {
  readonly #shared: Shared;
  readonly #start: number;
  /** Length of the part in bytes. */
  readonly size: number;

  private constructor(shared: Shared, start: number, size: number) {
    this.#shared = shared;
    this.#start = start;
    this.size = size;
  }

  /**
   * A reader of the whole `device`.
   * @param options `budget`: most bytes that may be read; default 64 MiB
   */
  static of(device: BlockDevice, options: RequestOptions & { readonly budget?: number } = {}): ProbeReader {
    const { budget = defaultBudget, ...rest } = options;
    const shared = { device, options: rest, chunks: new Map(), unreadable: new Set<number>(), budget };
    return new ProbeReader(shared, 0, device.info.size);
  }

  /** A reader of the part of `size` bytes from `start`, cut at the end of this part. */
  within(start: number, size: number): ProbeReader {
    const from = Math.min(start, this.size);
    return new ProbeReader(this.#shared, this.#start + from, Math.min(size, this.size - from));
  }

  /** Offsets on the device of blocks that a probe needed and could not read. */
  get unreadable(): readonly number[] {
    return [...this.#shared.unreadable];
  }

  /** True if the budget is used up: later probes get no bytes. */
  get exhausted(): boolean {
    return this.#shared.budget <= 0;
  }

  /**
   * `length` bytes at `offset` of the part. Undefined if they exceed the part or 1 MiB, cannot be
   * read, or exceed the budget. Rejects with a BlockError if the whole device fails (unreachable,
   * aborted, closed).
   */
  async bytes(offset: number, length: number): Promise<Uint8Array | undefined> {
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0;
    if (!whole || offset + length > this.size || length > 1 << 20) return undefined;
    const at = this.#start + offset;
    const out = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const index = Math.floor((at + done) / chunkSize);
      const chunk = await this.#chunk(index);
      if (!chunk) return undefined;
      if (chunk === 'bad') {
        const end = Math.min(at + length, (index + 1) * chunkSize);
        const part = await this.#blocks(at + done, end);
        if (!part) return undefined;
        out.set(part, done);
        done += part.length;
        continue;
      }
      const from = at + done - index * chunkSize;
      const part = chunk.subarray(from, Math.min(chunk.length, from + length - done));
      if (part.length === 0) return undefined;
      out.set(part, done);
      done += part.length;
    }
    return out;
  }

  /** Like {@link bytes}, as a DataView. */
  async view(offset: number, length: number): Promise<DataView | undefined> {
    const bytes = await this.bytes(offset, length);
    return bytes && new DataView(bytes.buffer);
  }

  #chunk(index: number): Promise<Chunk> {
    const { chunks } = this.#shared;
    let chunk = chunks.get(index);
    if (!chunk) {
      chunk = this.#read(index);
      chunks.set(index, chunk);
    }
    return chunk;
  }

  async #read(index: number): Promise<Chunk> {
    const { device } = this.#shared;
    const at = index * chunkSize;
    const bytes = new Uint8Array(Math.min(chunkSize, device.info.size - at));
    if (this.#shared.budget <= 0) return undefined;
    return (await this.#fill(at, bytes)) ? bytes : 'bad';
  }

  /** Bytes [start, end) of the device, read in whole blocks and not cached. */
  async #blocks(start: number, end: number): Promise<Uint8Array | undefined> {
    const { device, unreadable } = this.#shared;
    const { blockSize } = device.info;
    const first = start - (start % blockSize);
    const bytes = new Uint8Array(Math.ceil((end - first) / blockSize) * blockSize);
    if (this.#shared.budget <= 0) return undefined;
    if (await this.#fill(first, bytes)) return bytes.subarray(start - first, end - first);
    unreadable.add(first);
    return undefined;
  }

  /** Fills `bytes` from offset `at` of the device. @returns false if it cannot be read */
  async #fill(at: number, bytes: Uint8Array): Promise<boolean> {
    const { device, options } = this.#shared;
    this.#shared.budget -= bytes.length;
    try {
      await device.read(at, buffersOf(bytes), options);
      return true;
    } catch (error) {
      const failure = blockErrorOf(error);
      if (failure.kind !== 'io' && failure.kind !== 'range') throw failure;
      return false;
    }
  }
}
