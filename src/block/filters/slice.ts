/** Slice filter: presents a contiguous part of the next device as a device. */
import type { Buffers } from '../../base/buffers.js';
import { FarbusError } from '../../base/errors.js';
import type { BlockDevice, BlockInfo, Extent, RequestOptions, WriteOptions, ZeroOptions } from '../device.js';
import type { DirectAccess, FileRanges } from '../direct.js';
import { marksOfPart } from '../identity.js';
import { bytesFrom, defineFilter } from './definition.js';
import { Filter } from './filter.js';

/** Presents a contiguous part of the next device as a device, such as a partition. */
export class SliceFilter extends Filter {
  readonly #start: number;
  readonly #size: number;
  readonly #toEnd: boolean;

  /**
   * @param start offset of the part's first byte, a multiple of the next device's block size
   * @param size length of the part in bytes, a multiple of the next device's block size
   * @param toEnd true if the part ends where the device ends; it then also reports the device's
   * tail
   * @throws FarbusError if the range is not aligned or exceeds the device
   */
  constructor(next: BlockDevice, start: number, size: number, toEnd = false) {
    super(next);
    const { size: total, blockSize } = next.info;
    const whole = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value % blockSize === 0;
    if (!whole(start) || !whole(size)) {
      throw new FarbusError(
        `offset ${start} and size ${size} must be multiples of the device's block size, ${blockSize}`,
      );
    }
    if (start + size > total) {
      throw new FarbusError(`offset ${start} and size ${size} do not fit: the device has ${total} bytes`);
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

  override get contentVersion(): BlockDevice['contentVersion'] {
    const whole = this.next.contentVersion;
    if (!whole) return undefined;
    return async () => {
      const version = await whole();
      return version === undefined ? undefined : `${version}@${this.#start}+${this.#size}`;
    };
  }

  protected override get uncheckedDirect(): DirectAccess | undefined {
    const { direct } = this.next;
    return (
      direct && {
        read: (offset, into) => direct.read(this.#start + offset, into),
        write: (offset, from) => direct.write(this.#start + offset, from),
      }
    );
  }

  protected override get uncheckedFiles(): FileRanges | undefined {
    const { files } = this.next;
    return files && { resident: (offset, length) => files.resident(this.#start + offset, length) };
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

export const sliceFilter = defineFilter({
  options: {
    offset: { value: 'BYTES', about: 'begin at this byte', parse: bytesFrom(0) },
    size: { value: 'BYTES', about: 'use only so many bytes', parse: bytesFrom(1) },
  },
  open: (device, { offset, size }) => {
    if (offset === undefined && size === undefined) return device;
    const start = offset ?? 0;
    const all = device.info.size;
    if (start >= all) throw new FarbusError(`offset ${start} leaves nothing: the device has ${all} bytes`);
    return new SliceFilter(device, start, size ?? all - start, size === undefined);
  },
});
