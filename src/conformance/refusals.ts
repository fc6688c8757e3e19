/**
 * Conformance: what must be refused is refused with the right kind, changes nothing and leaves the
 * device working.
 */
import { buffersOf } from '../base/buffers.js';
import type { BlockDevice } from '../block/device.js';
import { Random } from './random.js';
import { nextIteration, sleep } from '../base/event-loop.js';
import { expectBytes, expectError, expectKind, readBytes, within, writeBytes, type AddTest } from './subject.js';

/** Every kind of request at one range. */
function requests(device: BlockDevice, at: number, length: number): (() => Promise<unknown>)[] {
  const bytes = new Uint8Array(Number.isSafeInteger(length) && length >= 0 && length < 1 << 24 ? length : 512);
  const list = [
    () => device.trim(at, length),
    () => device.writeZeroes(at, length),
    () => device.writeZeroes(at, length, { fastOnly: true, noHole: true }),
    () => device.extents(at, length),
  ];
  if (bytes.length === length) {
    list.push(() => device.read(at, buffersOf(bytes)));
    list.push(() => device.write(at, buffersOf(bytes)));
  }
  return list;
}

export function refusalTests(add: AddTest): void {
  const test = within('refusals', add);
  test('requests beyond the end, before the start or with fractions are out of range', async ({ device }) => {
    const { size, blockSize } = device.info;
    const before = await readBytes(device, size - blockSize, blockSize);
    const bad: [number, number][] = [
      [size, blockSize],
      [size - blockSize, 2 * blockSize],
      [size + blockSize, blockSize],
      [size + blockSize, 0],
      [-blockSize, blockSize],
      [0, -blockSize],
      [Number.NaN, blockSize],
      [0, Number.NaN],
      [0, Number.POSITIVE_INFINITY],
      [Number.MAX_SAFE_INTEGER, blockSize],
      [2 ** 53, blockSize],
      [0.5, blockSize],
    ];
    for (const [at, length] of bad) {
      for (const request of requests(device, at, length)) await expectKind('range', request());
    }
    await expectBytes(device, size - blockSize, before);
  });

  test('requests that are not whole blocks are out of range', async ({ device }) => {
    const { blockSize } = device.info;
    if (blockSize === 1) return;
    const bad: [number, number][] = [
      [1, blockSize],
      [blockSize / 2, blockSize],
      [0, blockSize - 1],
      [0, blockSize + 1],
    ];
    for (const [at, length] of bad) {
      for (const request of requests(device, at, length)) await expectKind('range', request());
    }
  });

  test('a request that was cancelled before it began does nothing', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    const bytes = new Random(seed + 60).bytes(Math.min(region, 8 * blockSize));
    await writeBytes(device, 0, bytes);
    const signal = AbortSignal.abort();
    const other = new Uint8Array(bytes.length).fill(1);
    await expectKind('aborted', device.read(0, buffersOf(other.slice()), { signal }));
    await expectKind('aborted', device.write(0, buffersOf(other), { signal }));
    await expectKind('aborted', device.write(0, buffersOf(other), { signal, fua: true }));
    await expectKind('aborted', device.writeZeroes(0, bytes.length, { signal }));
    await expectBytes(device, 0, bytes);
  });

  test('a request that is cancelled in flight settles once, and has no effect after that', async ({
    device,
    region,
    seed,
  }) => {
    const { blockSize } = device.info;
    const length = Math.min(region, 64 * blockSize);
    const old = new Random(seed + 61).bytes(length);
    const fresh = new Random(seed + 62).bytes(length);
    for (let round = 0; round < 8; round++) {
      const control = new AbortController();
      const write = writeBytes(device, 0, fresh, { signal: control.signal });
      const read = device.read(0, buffersOf(new Uint8Array(length)), { signal: control.signal });
      if (round % 2 === 0) await new Promise<void>((resolve) => nextIteration(resolve));
      control.abort();
      for (const result of await Promise.allSettled([write, read])) {
        if (result.status === 'fulfilled') continue;
        expectError('aborted', result.reason);
      }
      // The given-up write is over: a newer one must not be overtaken by it.
      await writeBytes(device, 0, old);
      await expectBytes(device, 0, old);
      await sleep(2);
      await expectBytes(device, 0, old);
    }
  });
}
