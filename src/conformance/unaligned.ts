/**
 * Conformance: through byte access (block/filters/byte-access.ts) a device serves ranges that
 * are not whole blocks.
 */
import { ByteAccessFilter } from '../block/filters/byte-access.js';
import { Random } from './random.js';
import { randomOperations } from './random-operations.js';
import type { BlockDevice } from '../block/device.js';
import { expect } from './expect.js';
import {
  expectBytes,
  expectError,
  expectKind,
  readBytes,
  within,
  writeBytes,
  type AddTest,
  type Subject,
} from './subject.js';
import { allExtents } from './zeroes.js';

/** The filter of each device: one for all its tests, as an export has one for its connections. */
const filters = new WeakMap<BlockDevice, ByteAccessFilter>();

function through({ device, region, seed, steps }: Subject): Subject {
  const filter = filters.get(device) ?? new ByteAccessFilter(device);
  filters.set(device, filter);
  return { device: filter, region, seed: seed + 100, steps: Math.ceil(steps / 2) };
}

export function unalignedTests(add: AddTest): void {
  const test = within('requests of any offset and length, through byte access', add);
  test('single bytes and ranges across blocks are read and written, and leave their neighbours', async (aligned) => {
    const { device, region, seed } = through(aligned);
    const block = aligned.device.info.blockSize;
    expect(device.info.blockSize === 1, 'byte access has blocks of one byte');
    const random = new Random(seed);
    const model = random.bytes(region);
    await writeBytes(device, 0, model);
    const ranges: [number, number][] = [
      [3, 1],
      [0, 1],
      [region - 1, 1],
      [block - 1, 2],
      [block + 1, block - 2],
      [1, region - 2],
      [Math.min(4097, region - 3), 3],
    ];
    for (const [at, length] of ranges) {
      if (at < 0 || length < 1 || at + length > region) continue;
      await expectBytes(device, at, model.subarray(at, at + length));
      for (const fua of [false, true]) {
        const bytes = random.bytes(length);
        await writeBytes(device, at, bytes, { fua });
        model.set(bytes, at);
        await expectBytes(aligned.device, 0, model);
      }
      await device.writeZeroes(at, length);
      model.fill(0, at, at + length);
      await expectBytes(aligned.device, 0, model);
    }
  });

  test('the last byte can be reached, and no byte beyond it', async (aligned) => {
    const { device } = through(aligned);
    const { size } = device.info;
    await readBytes(device, size - 1, 1);
    await expectKind('range', readBytes(device, size, 1));
    await expectKind('range', readBytes(device, size - 1, 2));
    await expectKind('range', writeBytes(device, size - 1, new Uint8Array(2)));
    await expectKind('range', device.writeZeroes(-1, 1));
  });

  test('concurrent changes of neighbouring bytes all take effect', async (aligned) => {
    const { device, region, seed } = through(aligned);
    const block = aligned.device.info.blockSize;
    const random = new Random(seed + 1);
    const length = Math.min(region, 16 * Math.max(block, 64));
    const model = random.bytes(length);
    await writeBytes(device, 0, model);
    for (let round = 0; round < 4; round++) {
      const jobs: (() => Promise<void>)[] = [];
      for (let at = 0; at < length;) {
        const rest = length - at;
        const whole = at % block === 0 && rest >= block && random.chance(0.3);
        const count = whole ? block : Math.min(rest, 1 + random.below(Math.max(64, block)));
        const from = at;
        if (random.chance(0.3)) {
          model.fill(0, from, from + count);
          jobs.push(() => device.writeZeroes(from, count));
        } else {
          const bytes = random.bytes(count);
          model.set(bytes, from);
          jobs.push(async () => {
            if (!device.direct?.write(from, bytes)) await writeBytes(device, from, bytes);
          });
        }
        at += count;
      }
      await Promise.all(random.shuffled(jobs).map((job) => job()));
      await expectBytes(device, 0, model);
    }
  });

  test('a change of one byte does not undo a change of its whole block', async (aligned) => {
    const { region, seed } = through(aligned);
    const { device: under } = aligned;
    const block = under.info.blockSize;
    if (region < block || block === 1) return;
    const random = new Random(seed + 2);
    for (let round = 0; round < 8; round++) {
      // Fresh: the first change of a part of a block finds changes in flight that have no lock.
      const device = new ByteAccessFilter(under);
      await writeBytes(under, 0, new Uint8Array(block).fill(1));
      const bytes = new Uint8Array(block).fill(2);
      const at = random.below(block);
      const whole = (): Promise<void> =>
        round % 4 === 1 ? device.writeZeroes(0, block) : writeBytes(device, 0, bytes);
      const part = (): Promise<void> => writeBytes(device, at, new Uint8Array([3]));
      await Promise.all(round % 2 === 0 ? [part(), whole()] : [whole(), part()]);
      const got = await readBytes(under, 0, block);
      const wanted = round % 4 === 1 ? 0 : 2;
      expect(got[at] === wanted || got[at] === 3, `byte ${at} is ${got[at]}`);
      got[at] = wanted;
      expect(
        got.every((byte) => byte === wanted),
        'a change of the whole block is undone',
      );
    }
  });

  test('a trim leaves the parts of blocks at its ends, and extents are clipped', async (aligned) => {
    const { device, region, seed } = through(aligned);
    if (region < 8) return;
    const model = new Random(seed + 3).bytes(region);
    await writeBytes(device, 0, model);
    await device.trim(1, region - 2);
    await device.trim(1, 1);
    await expectBytes(device, 0, model.subarray(0, 1));
    await expectBytes(device, region - 1, model.subarray(region - 1));
    for (const [from, to] of [
      [1, region - 1],
      [3, 4],
      [region - 2, region],
    ] as const) {
      for (const { zero, offset, length } of await allExtents(device, from, to)) {
        if (zero) await expectBytes(device, offset, new Uint8Array(length));
      }
    }
  });

  test('fast zeroing of a part of a block is refused or done', async (aligned) => {
    const { device, region, seed } = through(aligned);
    const model = new Random(seed + 4).bytes(Math.min(region, 65536));
    await writeBytes(device, 0, model);
    const done = await device.writeZeroes(1, model.length - 2, { fastOnly: true }).then(
      () => true,
      (error: unknown) => (expectError('unsupported', error), false),
    );
    if (done) model.fill(0, 1, model.length - 1);
    await expectBytes(device, 0, model);
  });

  randomOperations(test, through);
}
