/**
 * Flush and FUA through the NBD target. After an answer that promises durability, the data is
 * durable at every later moment, even on a device that keeps no more than it promises.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { silent } from '../../src/base/log.js';
import type { BlockDevice } from '../../src/block/device.js';
import { DelayFilter } from '../../src/block/filters/delay.js';
import { Filter } from '../../src/block/filters/filter.js';
import { MergeFilter } from '../../src/block/filters/merge.js';
import { RecordingFilter, replay, WriteLog, type RecordedRequest } from '../../src/block/filters/record.js';
import { openCache, layoutOfCache } from '../../src/block/filters/cache-store.js';
import { Exports, type ExportOptions } from '../../src/export/exports.js';
import { Server } from '../../src/export/nbd/server.js';
import { unixDialer } from '../../src/network/dial.node.js';
import { listenOn } from '../../src/network/listen.node.js';
import { connectNbd } from '../../src/protocol/nbd/initiator/initiator.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { generationOf, sealed, sealedSize } from '../support/sealed-blocks.js';
import { tempFolder } from '../support/temp.js';

const blocks = 64;
const workers = 8;
const steps = process.env['FARBUS_TEST_ALL'] ? 400 : 120;
const size = blocks * sealedSize;

/**
 * The promises that a client had at a moment of the log: for each block the lowest generation that
 * must be durable.
 */
interface Promised {
  readonly moment: number;
  readonly generations: readonly number[];
}

/**
 * Works on an export of `device` and records the promises. `log` records what has reached the
 * medium.
 */
async function work(device: BlockDevice, log: WriteLog, options: Partial<ExportOptions> = {}): Promise<Promised[]> {
  const path = join(tempFolder(), 'nbd.sock');
  const exports = new Exports();
  exports.add({ name: 'disk', device, ...options });
  const server = new Server(exports, silent);
  server.add(await listenOn({ path }, server.accept, () => undefined));
  const disk = await connectNbd(unixDialer(path));
  const acknowledged = new Array<number>(blocks).fill(0);
  const durable = new Array<number>(blocks).fill(0);
  const promised: Promised[] = [];
  const promise = (generations: readonly number[]): void => {
    for (const [block, generation] of generations.entries()) durable[block] = Math.max(durable[block]!, generation);
    promised.push({ moment: log.now, generations: [...durable] });
  };
  const worker = async (number: number): Promise<void> => {
    const random = new Random(number + 1);
    for (let step = 1; step <= steps; step++) {
      if (random.below(6) === 0) {
        const before = [...acknowledged];
        await disk.flush();
        promise(before);
        continue;
      }
      // Each block belongs to one worker, because overlapping requests have no order.
      const block = random.below(blocks / workers) * workers + number;
      const fua = random.below(8) === 0;
      const generation = acknowledged[block]! + 1;
      await disk.write(block * sealedSize, buffersOf(sealed(block, generation)), { fua });
      acknowledged[block] = generation;
      if (fua) promise(acknowledged.map((_, index) => (index === block ? generation : 0)));
    }
  };
  try {
    await Promise.all(Array.from({ length: workers }, (_, number) => worker(number)));
  } finally {
    await disk.close();
    await server.drain();
  }
  return promised;
}

/**
 * Replays the log up to every moment at which data became durable or was promised: once with only
 * the durable data, and once with some of the uncertain data too.
 * @returns the broken promises, one line each
 */
function check(log: WriteLog, promised: readonly Promised[]): string[] {
  const missing: string[] = [];
  const random = new Random(3);
  const moments = [...new Set([...log.durabilityPoints(), ...promised.map(({ moment }) => moment)])].sort(
    (a, b) => a - b,
  );
  let at = 0;
  for (const moment of moments) {
    while (at + 1 < promised.length && promised[at + 1]!.moment <= moment) at++;
    const wanted = promised[at]!.moment <= moment ? promised[at]!.generations : undefined;
    if (!wanted) continue;
    const durable = log.durableAt(moment);
    const uncertain = log.uncertainAt(moment).filter(() => random.below(2) === 0);
    // Apply writes in the order in which they began: a write that began after another had ended
    // overwrites it.
    const mixed = [...durable, ...uncertain].sort((a, b) => a.began - b.began);
    for (const changes of [durable, mixed]) {
      const found = generations(changes);
      for (let block = 0; block < blocks; block++) {
        if (found[block]! < wanted[block]!) {
          missing.push(`at ${moment}: block ${block} is ${found[block]!}, promised ${wanted[block]!}`);
        }
      }
    }
  }
  // Finally check every byte of the final image.
  const image = new Uint8Array(size);
  replay(image, log.durableAt(log.now));
  for (let block = 0; block < blocks; block++) {
    generationOf(block, image.subarray(block * sealedSize, (block + 1) * sealedSize));
  }
  return missing;
}

/** The generation of each block after these changes. */
function generations(changes: readonly RecordedRequest[]): number[] {
  const found = new Array<number>(blocks).fill(0);
  for (const { offset, data } of changes) {
    for (let at = 0; data && at < data.length; at += sealedSize) {
      found[(offset + at) / sealedSize] = new DataView(data.buffer, data.byteOffset + at).getUint32(4);
    }
  }
  return found;
}

/** A device without FUA of its own. */
function memory(fua: boolean): BlockDevice {
  return new MemoryDevice(size, { can: { ...new MemoryDevice(512).info.can, fua } });
}

describe('flushed data', () => {
  const slow = (device: BlockDevice): BlockDevice => new DelayFilter(device, { flush: 1 });

  it.each([
    ['a device with FUA', true, {}],
    ['a device without', false, {}],
    [
      'an export with a rate, one writer, and metrics',
      true,
      { rate: 1 << 30, oneWriter: 'refuse' as const, metered: true },
    ],
  ])('is on the medium when it is acknowledged: %s', async (_, fua, options) => {
    const log = new WriteLog();
    const promised = await work(new RecordingFilter(slow(memory(fua)), log), log, options);
    expect(promised.length).toBeGreaterThan(100);
    expect(check(log, promised).slice(0, 5)).toEqual([]);
  });

  it('is so behind a cache and merging', async () => {
    const log = new WriteLog();
    const far = new RecordingFilter(slow(memory(true)), log);
    const store = new MemoryDevice(layoutOfCache(far, { clusterSize: 4096 }).storeSize);
    const cache = await openCache(new MergeFilter(far), store, { clusterSize: 4096 });
    const promised = await work(cache, log);
    expect(check(log, promised).slice(0, 5)).toEqual([]);
  });

  it('is missing on a device that loses flushes: the test can fail', async () => {
    /** Answers flushes before they are done. */
    class Liar extends Filter {
      protected override doFlush(): Promise<void> {
        void this.next.flush();
        return Promise.resolve();
      }
    }
    const log = new WriteLog();
    const promised = await work(new Liar(new RecordingFilter(slow(memory(true)), log)), log);
    expect(check(log, promised).length).toBeGreaterThan(0);
  });
});
