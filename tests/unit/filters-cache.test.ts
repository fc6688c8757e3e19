/**
 * The cache filter: which reads it saves, when its file is trusted again, and which data it must
 * never return.
 */
import { closeSync, copyFileSync, openSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { TraceFilter, type TraceEntry } from '../../src/block/filters/trace.js';
import { openCacheFile } from '../../src/storage/cache-file.node.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { tempPath } from '../support/temp.js';

const size = 1 << 20;
const cluster = 65536;

/** A device that records which bytes are read from it. Its content survives closing. */
class Far {
  readonly content = new Random(5).bytes(size);
  readonly reads: string[] = [];
  readonly faults: FaultFilter[] = [];

  open(identity = 'far', flush = true): BlockDevice {
    const memory = new MemoryDevice(this.content, {
      identity,
      can: { ...new MemoryDevice(512).info.can, flush, fua: flush },
    });
    const faulty = new FaultFilter(memory);
    this.faults.push(faulty);
    return new TraceFilter(faulty, ({ op, offset, length }: TraceEntry) => {
      if (op === 'read') this.reads.push(`${offset}+${length}`);
    });
  }
}

describe('a cache', () => {
  test('reads whole blocks once', async () => {
    const far = new Far();
    const path = tempPath('cache');
    const cache = await openCacheFile(far.open(), path);
    await expectBytes(cache, 70_144, far.content.slice(70_144, 70_144 + 512));
    await expectBytes(cache, cluster, far.content.slice(cluster, 2 * cluster));
    await expectBytes(cache, 0, far.content.slice(0, 3 * cluster));
    expect(far.reads.sort()).toEqual(['0+65536', '131072+65536', '65536+65536']);
    expect(cache.counts).toMatchObject({ hitBytes: 2 * cluster, held: 3, storeErrors: 0 });
    await cache.close();
  });

  test('is bounded: blocks that were not used for long are dropped', async () => {
    const far = new Far();
    const path = tempPath('cache');
    const cache = await openCacheFile(far.open(), path, { cacheSize: 4 * cluster });
    for (let at = 0; at < size; at += cluster) await readBytes(cache, at, 512);
    expect(cache.counts.held).toBe(4);
    expect(statSync(path).size).toBe(65536 + 4 * cluster);
    far.reads.length = 0;
    await readBytes(cache, size - cluster, cluster);
    expect(far.reads).toEqual([]);
    await cache.close();
  });

  describe('opened again', () => {
    async function filled(keep: boolean, flush = true): Promise<{ far: Far; path: string }> {
      const [far, path] = [new Far(), tempPath('cache')];
      const cache = await openCacheFile(far.open('far', flush), path, { keep });
      await readBytes(cache, 0, size);
      await writeBytes(cache, 0, new Uint8Array(512).fill(9));
      await cache.close();
      far.reads.length = 0;
      return { far, path };
    }

    /**
     * Reads the whole device through the cache. True if nothing was read from the device itself.
     */
    async function warm(far: Far, path: string, options: object = { keep: true }, identity = 'far'): Promise<boolean> {
      const cache = await openCacheFile(far.open(identity), path, options);
      await expectBytes(cache, 0, far.content);
      await cache.close();
      return far.reads.length === 0;
    }

    test('is used if the user asked for it and it was closed cleanly', async () => {
      const { far, path } = await filled(true);
      expect(await warm(far, path)).toBe(true);
      expect(await warm(far, path)).toBe(true);
    });

    test.each([
      ['it was not to be kept when it was filled', false, {}, 'far'],
      ['it is not to be kept now', true, { keep: false }, 'far'],
      ['it is of another device', true, {}, 'another'],
      ['its device has no identity', true, {}, ''],
      ['it was of another size', true, { cacheSize: 128 << 10 }, 'far'],
    ])('starts empty if %s', async (_, keep, options, identity) => {
      const { far, path } = await filled(keep);
      expect(await warm(far, path, { keep: true, ...options }, identity)).toBe(false);
    });

    test('starts empty if its data was not durable', async () => {
      const { far, path } = await filled(true, false);
      expect(await warm(far, path)).toBe(false);
    });

    test('starts empty after a crash', async () => {
      const { far, path } = await filled(true);
      const crashed = await openCacheFile(far.open(), path, { keep: true });
      await readBytes(crashed, 0, 512);
      const copy = tempPath('cache');
      copyFileSync(path, copy);
      await crashed.close();
      far.content.fill(0x33);
      expect(await warm(far, copy)).toBe(false);
    });

    test('starts empty if its table is damaged', async () => {
      const { far, path } = await filled(true);
      const fd = openSync(path, 'r+');
      writeSync(fd, Uint8Array.of(7), 0, 1, 4096 + 9);
      closeSync(fd);
      expect(await warm(far, path)).toBe(false);
    });
  });

  test('blocks of a failed write are read from the device again', async () => {
    const far = new Far();
    const cache = await openCacheFile(far.open(), tempPath('cache'));
    await readBytes(cache, 0, cluster);
    // The write takes effect, but its answer is lost.
    far.faults[0]!.add({ on: ['write'], count: 1, action: 'io', afterEffect: true });
    await expectKind('io', writeBytes(cache, 512, new Uint8Array(512).fill(1)));
    await expectBytes(cache, 0, far.content.slice(0, 4096));
    await cache.close();
  });

  test('after a failed flush, blocks are read from the device again', async () => {
    const far = new Far();
    const cache = await openCacheFile(far.open(), tempPath('cache'));
    await writeBytes(cache, 0, new Uint8Array(cluster).fill(1));
    far.content.fill(2);
    far.faults[0]!.add({ on: ['flush'], count: 1, action: 'io' });
    await expectKind('io', cache.flush());
    await expectBytes(cache, 0, new Uint8Array(cluster).fill(2));
    await cache.close();
  });

  test('a file of another kind is left alone', async () => {
    const path = tempPath('precious');
    writeFileSync(path, 'precious'.repeat(1000));
    const far = new Far().open();
    await expect(openCacheFile(far, path)).rejects.toThrow(/is not a cache/);
    await expect(openCacheFile(far, path, { cacheSize: 1 })).rejects.toThrow(/not possible/);
    expect(statSync(path).size).toBe(8000);
    truncateSync(path, 0);
    await (await openCacheFile(far, path)).close();
  });

  test('a file in use is left alone', async () => {
    const path = tempPath('cache');
    const first = await openCacheFile(new Far().open(), path);
    await readBytes(first, 0, cluster);
    const far = new Far().open();
    await expect(openCacheFile(far, path, { cacheSize: cluster })).rejects.toThrow(/locked/);
    expect(statSync(path).size).toBeGreaterThan(size);
    await Promise.all([first.close(), far.close()]);
  });
});
