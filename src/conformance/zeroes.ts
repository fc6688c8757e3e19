/** Conformance: trim, write zeroes, and what extents say. */
import type { BlockDevice, Extent } from '../block/device.js';
import { Random } from './random.js';
import { isZero } from '../block/copy-plan.js';
import { expect } from './expect.js';
import { expectBytes, expectError, readBytes, within, writeBytes, type AddTest } from './subject.js';

export function zeroTests(add: AddTest): void {
  const test = within('trim, zeroes, extents', add);
  test('trim leaves the neighbours alone, and the range can be written again', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    if (region < 3 * blockSize) return;
    const model = new Random(seed + 20).bytes(region);
    await writeBytes(device, 0, model);
    const from = blockSize;
    const to = region - blockSize;
    for (const fua of [false, true]) {
      await device.trim(from, to - from, { fua });
      await expectBytes(device, 0, model.subarray(0, from));
      await expectBytes(device, to, model.subarray(to));
      await readBytes(device, from, to - from);
    }
    const again = new Random(seed + 21).bytes(to - from);
    await writeBytes(device, from, again);
    await expectBytes(device, from, again);
  });

  for (const noHole of [false, true]) {
    for (const fua of [false, true]) {
      for (const fastOnly of [false, true]) {
        test(`write zeroes: noHole ${noHole}, fua ${fua}, fastOnly ${fastOnly}`, async ({ device, region, seed }) => {
          const { blockSize } = device.info;
          const model = new Random(seed + 22).bytes(region);
          await writeBytes(device, 0, model);
          for (const { from, to } of ranges(region, blockSize)) {
            const error = await device.writeZeroes(from, to - from, { noHole, fua, fastOnly }).then(
              () => undefined,
              (reason: unknown) => reason,
            );
            if (error === undefined) {
              model.fill(0, from, to);
            } else {
              expect(fastOnly, `zeroing failed: ${String(error)}`);
              expectError('unsupported', error);
            }
            await expectBytes(device, 0, model);
          }
          const again = new Random(seed + 23).bytes(region);
          await writeBytes(device, 0, again);
          await expectBytes(device, 0, again);
        });
      }
    }
  }

  test('extents cover their range in order, and ranges that they call zero read as zero', async ({
    device,
    region,
    seed,
  }) => {
    const { blockSize } = device.info;
    const random = new Random(seed + 24);
    const blocks = region / blockSize;
    for (let round = 0; round < 8; round++) {
      const bytes = random.bytes((1 + random.below(Math.max(1, Math.floor(blocks / 8)))) * blockSize);
      await writeBytes(device, random.below((region - bytes.length) / blockSize + 1) * blockSize, bytes);
      const count = 1 + random.below(Math.max(1, Math.floor(blocks / 8)));
      const at = random.below(blocks - count + 1) * blockSize;
      if (random.chance(0.5)) await device.writeZeroes(at, count * blockSize);
      else await device.trim(at, count * blockSize);
    }
    const content = await readBytes(device, 0, region);
    for (let round = 0; round < 16; round++) {
      const from = round === 0 ? 0 : random.below(blocks) * blockSize;
      const to = round === 0 ? region : from + (1 + random.below((region - from) / blockSize)) * blockSize;
      for (const extent of await allExtents(device, from, to)) {
        if (!extent.zero) continue;
        const part = content.subarray(extent.offset, extent.offset + extent.length);
        expect(isZero(part), `the extent at ${extent.offset} is called zero and is not`);
      }
    }
  });

  test('data that was just written is never reported as zero', async ({ device, region, seed }) => {
    const bytes = new Random(seed + 25).bytes(region);
    await device.trim(0, region);
    await writeBytes(device, 0, bytes);
    for (const extent of await allExtents(device, 0, region))
      expect(!extent.zero, `the extent at ${extent.offset} is called zero and was written`);
  });
}

/** Ranges within and across units of 4096 bytes, and the whole. */
function ranges(region: number, blockSize: number): { from: number; to: number }[] {
  return [
    { from: blockSize, to: 2 * blockSize },
    { from: 3 * blockSize, to: 3 * blockSize + 3 * 4096 },
    { from: 8192, to: 16384 },
    { from: 0, to: region },
  ].filter(({ from, to }) => from % blockSize === 0 && to % blockSize === 0 && to <= region);
}

/**
 * All extents of [from, to), asked for until the range is covered; checks their form on the way.
 */
export async function allExtents(device: BlockDevice, from: number, to: number): Promise<Extent[]> {
  const all: Extent[] = [];
  for (let at = from; at < to;) {
    const some = await device.extents(at, to - at);
    expect(some.length > 0, `no extent at ${at}`);
    for (const { offset, length, ...status } of some) {
      expect(offset === at, `an extent begins at ${offset} instead of ${at}`);
      expect(length > 0 && length % device.info.blockSize === 0, `the extent at ${at} has ${length} bytes`);
      at += length;
      all.push({ offset, length, ...status });
    }
    expect(at <= to, `the extents end at ${at}, beyond the range that ends at ${to}`);
  }
  return all;
}
