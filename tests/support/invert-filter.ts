/**
 * A toy filter, which tests/conformance/toy-filter.test.ts adds by the recipe of ARCHITECTURE.md:
 * the bits of a mask appear inverted in every byte. Zeroes of the source are no zeroes behind it,
 * so it offers no extents, no zeroing and no trims.
 */
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { usageError } from '../../src/base/errors.js';
import type { BlockDevice, BlockInfo, RequestOptions, WriteOptions } from '../../src/block/device.js';
import { defineFilter } from '../../src/block/filters/definition.js';
import { Filter } from '../../src/block/filters/filter.js';

export class InvertFilter extends Filter {
  readonly #mask: number;

  constructor(next: BlockDevice, mask: number) {
    super(next);
    this.#mask = mask;
  }

  protected override describe(next: BlockInfo): BlockInfo {
    return { ...next, can: { ...next.can, trim: false, writeZeroes: false, extents: false } };
  }

  protected override async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const bytes = new Uint8Array(into.length);
    await this.next.read(offset, buffersOf(bytes), options);
    into.copyFrom(this.#inverted(bytes), 0);
  }

  protected override async doWrite(offset: number, from: Buffers, options: WriteOptions): Promise<void> {
    const bytes = new Uint8Array(from.length);
    from.copyTo(bytes, 0);
    await this.next.write(offset, buffersOf(this.#inverted(bytes)), options);
  }

  #inverted(bytes: Uint8Array): Uint8Array {
    return bytes.map((byte) => byte ^ this.#mask);
  }
}

export const invertFilter = defineFilter({
  options: {
    invert: {
      value: 'MASK',
      about: 'invert these bits of every byte, 1 to 255',
      parse: (text, name) => {
        const mask = Number(text);
        if (!Number.isInteger(mask) || mask < 1 || mask > 255) throw usageError(`${name} ${text}: expected 1 to 255`);
        return mask;
      },
    },
  },
  open: (device, { invert }) => (invert === undefined ? device : new InvertFilter(device, invert)),
});
