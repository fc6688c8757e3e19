/**
 * The overlay's promise after a crash: every block holds the content that was last flushed, or a
 * later one. It never holds the base's bytes in place of flushed ones, garbage, or another block's
 * content.
 */
import { expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';
import { FaultFilter, type FaultRule } from '../../src/block/filters/fault.js';
import { createOverlay, openOverlay, overlayStoreSize } from '../../src/block/filters/overlay-store.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectSame, readBytes } from '../../src/conformance/subject.js';
import { History, stamped, stampOf, type Change } from '../support/block-history.js';
import { CrashStore } from '../support/crash-store.js';

const block = 512;

interface Run {
  readonly overlay: BlockDevice;
  readonly history: History;
  readonly random: Random;
  stamp: number;
}

/** Makes one change or flush on blocks that no other worker changes at the same time. */
async function operate(run: Run, first: number, count: number): Promise<void> {
  const { overlay, history, random } = run;
  const [at, length] = [first * block, count * block];
  const kind = random.below(10);
  const fua = random.chance(0.15);
  let changes: Change[];
  if (kind < 6) {
    const stamps = Array.from({ length: count }, () => ++run.stamp);
    const bytes = new Uint8Array(length);
    stamps.forEach((stamp, index) => bytes.set(stamped(stamp), index * block));
    changes = history.begin(first, stamps);
    await overlay.write(at, buffersOf(bytes), { fua });
  } else if (kind < 8) {
    changes = history.begin(first, new Array<number>(count).fill(0));
    await overlay.writeZeroes(at, length, { fua, noHole: random.chance(0.2) });
  } else if (kind < 9) {
    changes = history.begin(first, new Array<'any'>(count).fill('any'));
    await overlay.trim(at, length, { fua });
  } else {
    const point = history.flushPoint();
    await overlay.flush();
    return history.flushed(point);
  }
  for (const change of changes) change.acknowledged = true;
  if (!fua) return;
  const point = history.flushPoint();
  const only = point.map((change, index) => (index >= first && index < first + count ? change : undefined));
  history.flushed(only);
}

/** Runs workers that each change their own blocks, until `steps` operations have begun. */
async function work(run: Run, blocks: number, steps: number): Promise<void> {
  const workers = 4;
  const share = Math.floor(blocks / workers);
  let begun = 0;
  await Promise.all(
    Array.from({ length: workers }, async (_, index) => {
      while (begun++ < steps) {
        const count = 1 + run.random.below(run.random.chance(0.2) ? share : 12);
        const length = Math.min(count, share);
        await operate(run, index * share + run.random.below(share - length + 1), length);
      }
    }),
  );
}

/** In a bad base, one of this many blocks is unreadable. */
const badEvery = 5;
/** Stands for the content of an unreadable block. */
const unreadable = -1;

async function stampAt(overlay: BlockDevice, index: number): Promise<number> {
  try {
    return stampOf(await readBytes(overlay, index * block, block));
  } catch (error) {
    if (error instanceof BlockError && error.kind === 'io') return unreadable;
    throw error;
  }
}

for (const clusterSize of [4096, 16384]) {
  for (const [fastZeroes, bad] of [
    [true, false],
    [false, false],
    [true, true],
  ] as const) {
    const what = `store with${fastZeroes ? '' : 'out'} fast zeroes, base with${bad ? '' : 'out'} bad blocks`;
    test(`crashes at any moment: clusters of ${clusterSize}, ${what}`, async () => {
      for (let seed = 1; seed <= (bad ? 12 : 25); seed++) {
        const random = new Random(seed * 104729 + clusterSize + Number(fastZeroes));
        const blocks = 8 * 64 + 3;
        const content = new Uint8Array(blocks * block);
        for (let index = 0; index < blocks; index++) content.set(stamped(1_000_000 + index), index * block);
        const isBad = (index: number): boolean => bad && index % badEvery === seed % badEvery;
        const faults: FaultRule[] = Array.from({ length: blocks }, (_, index) => index)
          .filter(isBad)
          .map((index) => ({ on: ['read'], range: { offset: index * block, length: block }, action: 'io' }));
        const base = (): BlockDevice =>
          new FaultFilter(new MemoryDevice(content, { readOnly: true, identity: 'base' }), faults);
        const original = content.slice();
        let store = new CrashStore(random.bytes(overlayStoreSize(base(), { clusterSize })), random, fastZeroes);
        let overlay = await createOverlay(base(), store, { clusterSize });
        let stamps = Array.from({ length: blocks }, (_, index) => (isBad(index) ? unreadable : 1_000_000 + index));
        let stamp = 0;
        for (let generation = 0; generation < 3; generation++) {
          const history = new History(stamps);
          const run: Run = { overlay, history, random, stamp };
          // The crash happens while the workers are busy, after a number of iterations of the event
          // loop.
          const done = work(run, blocks, 60);
          for (let turns = random.below(400); turns > 0; turns--) await new Promise((r) => setImmediate(r));
          const left = store.crash();
          const frozen = new History([]);
          frozen.blocks.push(...history.blocks.map((changes) => changes.map((change) => ({ ...change }))));
          await done;
          await overlay.close();

          store = new CrashStore(left, random, fastZeroes);
          overlay = await openOverlay(base(), store);
          stamps = await Promise.all(Array.from({ length: blocks }, (_, index) => stampAt(overlay, index)));
          for (const [index, found] of stamps.entries()) {
            frozen.check(index, found, `seed ${seed}, generation ${generation}`);
          }
          stamp = run.stamp;
        }
        await overlay.close();
        expectSame(content, original, 'the base');
      }
    });
  }
}

test('a crash while an overlay is made leaves none, or an empty one', async () => {
  for (let seed = 1; seed <= 200; seed++) {
    const random = new Random(seed);
    const base = new MemoryDevice(stamped(7, 64 * block), { readOnly: true });
    const store = new CrashStore(random.bytes(overlayStoreSize(base)), random, true);
    const made = createOverlay(base, store);
    for (let turns = random.below(12); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
    const left = new MemoryDevice(store.crash());
    await made;
    const overlay = await openOverlay(base, left).catch((error: Error) => error.message);
    if (typeof overlay === 'string') expect(overlay).toMatch(/not an overlay|damaged/);
    else await expectBytes(overlay, 0, stamped(7, 64 * block));
  }
});
