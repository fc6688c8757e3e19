/**
 * Conformance: facets (src/block/direct.ts). A facet that a device offers gives the same bytes as
 * `read` and `write`; one that it does not offer is undefined.
 */
import { readSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { FileRange } from '../../src/block/direct.js';
import { Random } from '../support/random.js';
import { expectBytes, expectSame, expectThrow, readBytes, writeBytes, type Subject } from './subject.js';

/** The facets of a device that its caller may count on. */
export type FacetName = 'direct' | 'files';

/** Rounds of random ranges in each test. */
const rounds = 40;

export function facetTests(subject: () => Subject, offered: readonly FacetName[]): void {
  test(`facets offered: ${offered.join(', ') || 'none'}`, () => {
    const { device } = subject();
    for (const name of ['direct', 'files'] as const) {
      expect(device[name] !== undefined, name).toBe(offered.includes(name));
      expect(device[name], `${name} does not change`).toBe(device[name]);
    }
  });

  /** A random range of whole blocks within the region; every other one of whole pages. */
  function rangeOf(random: Random): { offset: number; length: number } {
    const { region, device } = subject();
    const unit = random.chance(0.5) ? device.info.blockSize : Math.max(4096, device.info.blockSize);
    const units = Math.floor(region / unit);
    const first = random.below(units);
    const count = 1 + random.below(Math.min(units - first, Math.ceil((64 << 10) / unit)));
    return { offset: first * unit, length: count * unit };
  }

  if (offered.includes('direct')) {
    test('synchronous reads and writes transfer the same bytes as the others', async () => {
      const { device, region, seed } = subject();
      const { readOnly } = device.info;
      const direct = device.direct!;
      const random = new Random(seed + 200);
      const model = readOnly ? await readBytes(device, 0, region) : random.bytes(region);
      if (!readOnly) await writeBytes(device, 0, model);
      let done = 0;
      for (let i = 0; i < rounds; i++) {
        const { offset, length } = rangeOf(random);
        if (!readOnly && random.chance(0.5)) {
          const bytes = random.bytes(length);
          if (direct.write(offset, bytes)) done++;
          else await writeBytes(device, offset, bytes);
          model.set(bytes, offset);
          await expectBytes(device, offset, bytes);
        }
        const other = rangeOf(random);
        const into = new Uint8Array(other.length).fill(0xc3);
        if (!direct.read(other.offset, into)) continue;
        done++;
        expectSame(into, model.subarray(other.offset, other.offset + other.length), `bytes from ${other.offset}`);
      }
      expect(done).toBeGreaterThan(0);
      await expectBytes(device, 0, model);
    });

    test('synchronous requests refuse ranges like the others', () => {
      const { device } = subject();
      const { size, blockSize, readOnly } = device.info;
      const direct = device.direct!;
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
    test('file ranges hold the same bytes as a read returns', async () => {
      const { device, region, seed } = subject();
      const files = device.files!;
      const random = new Random(seed + 201);
      if (!device.info.readOnly) await writeBytes(device, 0, random.bytes(region));
      const model = await readBytes(device, 0, region);
      const check = (range: FileRange | undefined, offset: number, length: number): number => {
        if (!range) return 0;
        const bytes = new Uint8Array(length);
        readSync(range.fd, bytes, 0, length, range.offset);
        range.release();
        expectSame(bytes, model.subarray(offset, offset + length), `bytes from ${offset}`);
        return 1;
      };
      let done = 0;
      for (let i = 0; i < rounds; i++) {
        const { offset, length } = rangeOf(random);
        done += check(files.resident(offset, length), offset, length);
        done += check(await files.load?.(offset, length), offset, length);
      }
      expect(done).toBeGreaterThan(0);
      const { size, blockSize } = device.info;
      expectThrow('range', () => files.resident(size, blockSize));
      await expect(Promise.resolve(files.load?.(size, blockSize) ?? Promise.reject(new Error()))).rejects.toThrow();
    });
  }
}
