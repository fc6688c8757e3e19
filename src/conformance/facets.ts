/**
 * Conformance: facets (block/direct.ts). A facet that a device offers gives the same bytes as
 * `read` and `write`; one that it does not offer is undefined.
 */
import type { BlockDevice } from '../block/device.js';
import type { FileRange } from '../block/direct.js';
import { Random } from './random.js';
import { expect } from './expect.js';
import { expectBytes, expectSame, expectThrow, readBytes, writeBytes, type AddTest, type Subject } from './subject.js';

/** The facets of a device that its caller may count on. */
export type FacetName = 'direct' | 'files';

/** Reads the bytes of an open file at an offset. */
export type ReadDescriptor = (fd: number, offset: number, into: Uint8Array) => void;

/** Rounds of random ranges in each test. */
const rounds = 40;

function facetOf<N extends FacetName>(device: BlockDevice, name: N): NonNullable<BlockDevice[N]> {
  const facet = device[name];
  expect(facet !== undefined, `the device does not offer the facet ${name}`);
  return facet as NonNullable<BlockDevice[N]>;
}

export function facetTests(test: AddTest, offered: readonly FacetName[], readDescriptor?: ReadDescriptor): void {
  test(`facets offered: ${offered.join(', ') || 'none'}`, ({ device }) => {
    for (const name of ['direct', 'files'] as const) {
      const has = device[name] !== undefined;
      expect(has === offered.includes(name), `the device ${has ? 'offers' : 'does not offer'} the facet ${name}`);
      expect(device[name] === device[name], `the facet ${name} does not change`);
    }
  });

  /** A random range of whole blocks within the region; every other one of whole pages. */
  function rangeOf({ device, region }: Subject, random: Random): { offset: number; length: number } {
    const unit = random.chance(0.5) ? device.info.blockSize : Math.max(4096, device.info.blockSize);
    const units = Math.floor(region / unit);
    const first = random.below(units);
    const count = 1 + random.below(Math.min(units - first, Math.ceil((64 << 10) / unit)));
    return { offset: first * unit, length: count * unit };
  }

  if (offered.includes('direct')) {
    test('synchronous reads and writes transfer the same bytes as the others', async (subject) => {
      const { device, region, seed } = subject;
      const { readOnly } = device.info;
      const direct = facetOf(device, 'direct');
      const random = new Random(seed + 200);
      const model = readOnly ? await readBytes(device, 0, region) : random.bytes(region);
      if (!readOnly) await writeBytes(device, 0, model);
      let done = 0;
      for (let i = 0; i < rounds; i++) {
        const { offset, length } = rangeOf(subject, random);
        if (!readOnly && random.chance(0.5)) {
          const bytes = random.bytes(length);
          if (direct.write(offset, bytes)) done++;
          else await writeBytes(device, offset, bytes);
          model.set(bytes, offset);
          await expectBytes(device, offset, bytes);
        }
        const other = rangeOf(subject, random);
        const into = new Uint8Array(other.length).fill(0xc3);
        if (!direct.read(other.offset, into)) continue;
        done++;
        expectSame(into, model.subarray(other.offset, other.offset + other.length), `bytes from ${other.offset}`);
      }
      expect(done > 0, 'no request was synchronous');
      await expectBytes(device, 0, model);
    });

    test('synchronous requests refuse ranges like the others', ({ device }) => {
      const { size, blockSize, readOnly } = device.info;
      const direct = facetOf(device, 'direct');
      const bytes = new Uint8Array(blockSize);
      const outside: (readonly [number, Uint8Array])[] = [
        [size, bytes],
        [-blockSize, bytes],
        [NaN, bytes],
        [size - blockSize, new Uint8Array(2 * blockSize)],
      ];
      if (blockSize > 1) outside.push([1, bytes], [0, new Uint8Array(1)]);
      for (const [offset, part] of outside) {
        expectThrow('range', () => direct.read(offset, part));
        expectThrow('range', () => direct.write(offset, part));
      }
      if (readOnly) expectThrow('read-only', () => direct.write(0, bytes));
    });
  }

  if (offered.includes('files')) {
    test('file ranges hold the same bytes as a read returns', async (subject) => {
      const { device, region, seed } = subject;
      expect(readDescriptor !== undefined, 'the facet files needs the option readDescriptor');
      const files = facetOf(device, 'files');
      const random = new Random(seed + 201);
      if (!device.info.readOnly) await writeBytes(device, 0, random.bytes(region));
      const model = await readBytes(device, 0, region);
      const check = (range: FileRange | undefined, offset: number, length: number): number => {
        if (!range) return 0;
        const bytes = new Uint8Array(length);
        readDescriptor(range.fd, range.offset, bytes);
        range.release();
        expectSame(bytes, model.subarray(offset, offset + length), `bytes from ${offset}`);
        return 1;
      };
      let done = 0;
      for (let i = 0; i < rounds; i++) {
        const { offset, length } = rangeOf(subject, random);
        done += check(files.resident(offset, length), offset, length);
      }
      expect(done > 0, 'no file range was given');
      const { size, blockSize } = device.info;
      expectThrow('range', () => files.resident(size, blockSize));
    });
  }
}
