/** Slice filter: a part of the next device as a device of its own. */
import type { Buffers } from '../../base/buffers.js';
import { usageError } from '../../base/errors.js';
import type { BlockDevice, BlockInfo, Extent, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import { marksOfPart } from '../identity.js';
import { Filter } from './filter.js';

export class SliceFilter extends Filter {
  readonly #start: number;
  readonly #size: number;
  readonly #toEnd: boolean;

  /**
   * @param start First byte of the part.
   * @param size Its length in bytes. Both whole blocks of the next device.
   * @param toEnd Whether it is meant to be all of the device from `start` on.
   * @throws FarbusError where it is not a part of the device.
   */
  constructor(next: BlockDevice, start: number, size: number, toEnd = false) {
    super(next);
    const { size: total, blockSize } = next.info;
    const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value % blockSize === 0;
    if (!whole(start) || !whole(size)) {
      throw usageError(`offset ${start} and size ${size} must be multiples of the device's block size, ${blockSize}`);
    }
    if (start + size > total) {
      throw usageError(`offset ${start} and size ${size} do not fit: the device has ${total} bytes`);
    }
    this.#start = start;
    this.#size = size;
    this.#toEnd = toEnd;
  }

  protected override describe(next: BlockInfo): BlockInfo {
    const identity = next.identity === '' ? '' : `${next.identity}@${this.#start}+${this.#size}`;
    const marks = marksOfPart(next.marks ?? {}, this.#start, this.#size);
    return { ...next, size: this.#size, tail: this.#toEnd ? next.tail : undefined, identity, marks };
  }

  protected override doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    return this.next.read(this.#start + offset, into, options);
  }

  protected override doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    return this.next.write(this.#start + offset, from, options);
  }

  protected override doTrim(offset: number, length: number, options: WriteOptions): Promise<void> {
    return this.next.trim(this.#start + offset, length, options);
  }

  protected override doWriteZeroes(offset: number, length: number, options: ZeroOptions): Promise<void> {
    return this.next.writeZeroes(this.#start + offset, length, options);
  }

  protected override async doExtents(
    offset: number,
    length: number,
    options: RequestOptions,
  ): Promise<readonly Extent[]> {
    const extents = await this.next.extents(this.#start + offset, length, options);
    return extents.map((extent) => ({ ...extent, offset: extent.offset - this.#start }));
  }
}
