/** Conformance: transfers from and to memory that is scattered and moves, as a guest's does. */
import { PagedBuffers, type MovingMemory } from './paged-buffers.js';
import { Random } from './random.js';
import { nextIteration } from '../base/event-loop.js';
import { expectBytes, expectSame, within, writeBytes, type AddTest } from './subject.js';

/** Moves `memory` at every round of the event loop while `work` runs. */
async function whileMoving<T>(memories: readonly MovingMemory[], work: () => Promise<T>): Promise<T> {
  let over = false;
  const turn = (): void => {
    if (over) return;
    for (const memory of memories) memory.move();
    nextIteration(turn);
  };
  nextIteration(turn);
  try {
    return await work();
  } finally {
    over = true;
  }
}

export function pagedTests(add: AddTest): void {
  const test = within('scattered memory that moves during a request', add);
  for (const units of [1, 2, 9, 33]) {
    test(`${units} blocks`, async ({ device, region, seed }) => {
      const { blockSize } = device.info;
      const length = Math.min(region - blockSize, units * Math.max(512, blockSize));
      if (length <= 0) return;
      const random = new Random(seed + 40 + units);
      const bytes = random.bytes(length);

      const source = PagedBuffers.scattered(length, random);
      source.buffers.copyFrom(bytes, 0);
      await whileMoving([source.memory], () => device.write(blockSize, source.buffers));
      await expectBytes(device, blockSize, bytes);

      const target = PagedBuffers.scattered(length, random);
      await whileMoving([target.memory], () => device.read(blockSize, target.buffers));
      const back = new Uint8Array(length);
      target.buffers.copyTo(back, 0);
      expectSame(back, bytes, 'scattered read');
    });
  }

  test('many requests at once, and a long one', async ({ device, region, seed }) => {
    const { blockSize } = device.info;
    const random = new Random(seed + 50);
    const model = random.bytes(region);
    await writeBytes(device, 0, model);
    const unit = Math.max(blockSize, Math.floor(region / 16 / blockSize) * blockSize);
    const parts = Array.from({ length: Math.floor(region / unit) }, (_, index) => {
      return { at: index * unit, ...PagedBuffers.scattered(unit, random) };
    });
    const whole = { at: 0, ...PagedBuffers.scattered(region, random) };
    const all = [...parts, whole];
    await whileMoving(
      all.map(({ memory }) => memory),
      () => Promise.all(all.map(({ at, buffers }) => device.read(at, buffers))),
    );
    for (const { at, buffers } of all) {
      const back = new Uint8Array(buffers.length);
      buffers.copyTo(back, 0);
      expectSame(back, model.subarray(at, at + back.length), `scattered read at ${at}`);
    }
    for (const { at, buffers } of parts)
      buffers.copyFrom(
        model
          .subarray(at, at + unit)
          .slice()
          .reverse(),
        0,
      );
    await whileMoving(
      parts.map(({ memory }) => memory),
      () => Promise.all(parts.map(({ at, buffers }) => device.write(at, buffers))),
    );
    for (const { at } of parts)
      await expectBytes(
        device,
        at,
        model
          .subarray(at, at + unit)
          .slice()
          .reverse(),
      );
  });
}
