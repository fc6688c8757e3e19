/**
 * Conformance: what was written is what is read, in every order, size and number of requests at
 * once.
 */
import { buffersOf } from '../base/buffers.js';
import { Random } from './random.js';
import { expect } from './expect.js';
import { expectBytes, expectSame, readBytes, within, writeBytes, type AddTest } from './subject.js';

export function dataTests(add: AddTest): void {
  const test = within('data', add);
  test('reads the data that was written, at random places', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    const random = new Random(seed);
    const model = await readBytes(device, 0, region);
    const blocks = region / blockSize;
    for (let round = 0; round < 64; round++) {
      const count = 1 + random.below(Math.min(blocks, Math.max(1, 65536 / blockSize)));
      const at = random.below(blocks - count + 1) * blockSize;
      const bytes = random.bytes(count * blockSize);
      await writeBytes(device, at, bytes);
      model.set(bytes, at);
      await expectBytes(device, at, bytes);
    }
    await expectBytes(device, 0, model);
  });

  test('the later of two overlapping writes wins where they overlap', async ({ device, region }) => {
    const { blockSize } = device.info;
    const length = Math.min(region, 8 * 4096);
    const model = new Uint8Array(length);
    for (let value = 1; value <= 40; value++) {
      const at = ((value * 3) % Math.max(1, Math.floor(length / 2 / blockSize))) * blockSize;
      const bytes = new Uint8Array(Math.floor(length / 2 / blockSize) * blockSize || blockSize).fill(value);
      if (value === 1) await writeBytes(device, 0, model);
      await writeBytes(device, at, bytes);
      model.set(bytes, at);
    }
    await expectBytes(device, 0, model);
  });

  test('long requests, beginning and ending between preferred units', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    if (region < 3 * blockSize) return;
    const bytes = new Random(seed + 1).bytes(region - 2 * blockSize);
    const edge = new Uint8Array(blockSize).fill(0xee);
    await writeBytes(device, 0, edge);
    await writeBytes(device, region - blockSize, edge);
    await writeBytes(device, blockSize, bytes);
    await expectBytes(device, blockSize, bytes);
    await expectBytes(device, 0, edge);
    await expectBytes(device, region - blockSize, edge);
  });

  test('requests longer than the longest transfer', async ({ device, seed }) => {
    const { blockSize, maxTransfer, size } = device.info;
    const length = maxTransfer + blockSize;
    if (length > Math.min(size, 40 << 20)) return;
    const bytes = new Random(seed + 2).bytes(length);
    await writeBytes(device, 0, bytes);
    await expectBytes(device, 0, bytes);
  });

  test('the last block', async ({ device, seed }) => {
    const { blockSize, size } = device.info;
    const bytes = new Random(seed + 3).bytes(blockSize);
    await writeBytes(device, size - blockSize, bytes);
    await expectBytes(device, size - blockSize, bytes);
  });

  test('many requests at once that do not overlap', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    const random = new Random(seed + 4);
    const unit = Math.max(blockSize, Math.floor(region / 200 / blockSize) * blockSize);
    const places = random.shuffled(Array.from({ length: Math.floor(region / unit) }, (_, index) => index * unit));
    const model = random.bytes(places.length * unit);
    const part = (at: number): Uint8Array => model.subarray(at, at + unit);
    await Promise.all(places.map((at) => writeBytes(device, at, part(at))));
    await Promise.all(random.shuffled(places).map((at) => expectBytes(device, at, part(at))));

    // Neighbours within one preferred unit, written at once: neither may carry old bytes of the
    // other along.
    const small = Array.from({ length: Math.min(64, region / blockSize) }, (_, index) => index * blockSize);
    const fresh = random.bytes(small.length * blockSize);
    await Promise.all(small.map((at) => writeBytes(device, at, fresh.subarray(at, at + blockSize))));
    await expectBytes(device, 0, fresh);
  });

  test('concurrent reads and writes', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    const half = Math.floor(region / 2 / blockSize) * blockSize;
    if (half === 0) return;
    const random = new Random(seed + 5);
    const kept = random.bytes(half);
    await writeBytes(device, half, kept);
    const unit = Math.max(blockSize, Math.floor(half / 32 / blockSize) * blockSize);
    const work: Promise<void>[] = [];
    for (let at = 0; at + unit <= half; at += unit) {
      work.push(writeBytes(device, at, random.bytes(unit)));
      work.push(expectBytes(device, half + at, kept.subarray(at, at + unit)));
    }
    await Promise.all(work);
  });

  test('requests of no bytes do nothing', async ({ device, region }) => {
    const { size } = device.info;
    const before = await readBytes(device, 0, Math.min(region, 4096));
    const nothing = buffersOf(new Uint8Array(0));
    for (const at of [0, size]) {
      await device.read(at, nothing);
      await device.write(at, nothing);
      await device.trim(at, 0);
      await device.writeZeroes(at, 0);
      expect((await device.extents(at, 0)).length === 0, 'a range of no bytes has no extents');
    }
    await expectBytes(device, 0, before);
  });

  test('flush, and writes that are durable when answered', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    const random = new Random(seed + 6);
    const bytes = random.bytes(Math.min(region, 64 * blockSize));
    await device.flush();
    await writeBytes(device, 0, bytes, { fua: true });
    await Promise.all([device.flush(), device.flush(), device.flush()]);
    await expectBytes(device, 0, bytes);
    const count = bytes.length / blockSize;
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const at = index * blockSize;
        await writeBytes(device, at, bytes.subarray(bytes.length - at - blockSize, bytes.length - at), { fua: true });
        await device.flush();
      }),
    );
    const turned = new Uint8Array(bytes.length);
    for (let at = 0; at < bytes.length; at += blockSize) {
      turned.set(bytes.subarray(bytes.length - at - blockSize, bytes.length - at), at);
    }
    expectSame(await readBytes(device, 0, bytes.length), turned, 'blocks in reverse');
  });
}
