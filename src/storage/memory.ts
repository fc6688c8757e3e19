/**
 * Memory as a block device, for tests, benchmarks and scratch disks. Its content is lost when the
 * process ends.
 */
import type { Buffers } from '../base/buffers.js';
import { BlockBase } from '../block/base.js';
import type { BlockInfo } from '../block/device.js';
import type { DirectAccess } from '../block/direct.js';
import { BlockError } from '../block/errors.js';
import { blockInfo } from '../block/info.js';

/** Memory as a block device. Its content is lost when the process ends. */
export class MemoryDevice extends BlockBase {
  /** The facts of the device. */
  readonly info: BlockInfo;
  /** The content. */
  protected readonly bytes: Uint8Array;

  /**
   * @param content the bytes, used in place; or a size in bytes for a disk of zeroes
   * @param options facts that replace the defaults
   */
  constructor(content: Uint8Array | number, options: Partial<Omit<BlockInfo, 'size'>> = {}) {
    super();
    this.bytes = typeof content === 'number' ? new Uint8Array(content) : content;
    this.info = {
      ...blockInfo({
        size: this.bytes.length,
        // A flush has nothing to do: memory has no state less durable than its content.
        can: { flush: true, fua: true, trim: true, writeZeroes: true, multiConnection: true },
      }),
      ...options,
    };
  }

  protected async doRead(offset: number, into: Buffers): Promise<void> {
    into.copyFrom(this.#range(offset, into.length), 0);
  }

  protected async doWrite(offset: number, from: Buffers): Promise<void> {
    from.copyTo(this.#range(offset, from.length), 0);
  }

  /**
   * The bytes of a range.
   * @throws BlockError if the caller's array has shrunk (a view of a resizable buffer)
   */
  #range(offset: number, length: number): Uint8Array {
    const bytes = this.bytes.subarray(offset, offset + length);
    if (bytes.length < length) throw new BlockError('io', `the memory ends at byte ${this.bytes.length}`);
    return bytes;
  }

  protected async doFlush(): Promise<void> {}

  protected override async doTrim(offset: number, length: number): Promise<void> {
    this.bytes.fill(0, offset, offset + length);
  }

  protected override async doWriteZeroes(offset: number, length: number): Promise<void> {
    this.bytes.fill(0, offset, offset + length);
  }

  protected async doClose(): Promise<void> {}
}

/**
 * A MemoryDevice with synchronous reads and writes. Do not derive a class with another `doRead` or
 * `doWrite` from it: synchronous requests bypass them.
 */
export class ReadyMemoryDevice extends MemoryDevice {
  protected override get uncheckedDirect(): DirectAccess {
    return {
      read: (offset, into) => this.readDirect(offset, into),
      write: (offset, from) => this.writeDirect(offset, from),
    };
  }

  /** Reads at once. */
  protected readDirect(offset: number, into: Uint8Array): boolean {
    if (offset + into.length > this.bytes.length) return false;
    into.set(this.bytes.subarray(offset, offset + into.length));
    return true;
  }

  /** Writes at once. */
  protected writeDirect(offset: number, from: Uint8Array): boolean {
    if (offset + from.length > this.bytes.length) return false;
    this.bytes.set(from, offset);
    return true;
  }
}
