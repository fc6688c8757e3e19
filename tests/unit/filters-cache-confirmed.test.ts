/**
 * Caches whose disk is confirmed by its server (docs/web.md): kept between visits, sealed while
 * they are in use, and never the source of a byte that the disk does not have.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BlockDevice } from '../../src/block/device.js';
import { BlockError } from '../../src/block/errors.js';
import type { CacheFilter } from '../../src/block/filters/cache.js';
import { layoutOfCache, openCache, type CacheOptions } from '../../src/block/filters/cache-store.js';
import { CacheVersion } from '../../src/block/filters/cache-version.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { TraceFilter } from '../../src/block/filters/trace.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, readBytes } from '../../src/conformance/subject.js';
import { identifyDisk } from '../../src/probe/disk-identity.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { CrashStore } from '../support/crash-store.js';

const cluster = 4096;
const blocks = 40;
const size = blocks * cluster;
/** Smaller than the disk, so that blocks are evicted. */
const small = { cacheSize: 16 * cluster, clusterSize: cluster };
const large = { cacheSize: size, clusterSize: cluster };

/** A disk of a server that gives a mark of its content. */
class Far {
  content = new Random(1).bytes(size);
  mark: string | undefined = 'v1';
  asked = 0;
  answer = (): Promise<string | undefined> => {
    this.asked++;
    return Promise.resolve(this.mark);
  };

  open(): BlockDevice {
    return new MemoryDevice(this.content, { readOnly: true, identity: 'far' });
  }

  change(mark: string | undefined): void {
    this.content.set(new Random(this.asked + 7).bytes(size));
    this.mark = mark;
  }
}

const stops: string[] = [];

async function visit(far: Far, store: BlockDevice, options: CacheOptions = large): Promise<CacheFilter> {
  const version = await CacheVersion.open(() => far.answer());
  const confirmed = { version: version!, onStop: (why: string) => stops.push(why) };
  return openCache(far.open(), store, { ...options, confirmed });
}

/** A store whose content survives its end. */
function storeOf(content = new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)): BlockDevice {
  return new MemoryDevice(content);
}

/** Lets the cache seal what it has added. */
async function seal(): Promise<void> {
  await vi.advanceTimersByTimeAsync(3000);
}

beforeEach(() => {
  stops.length = 0;
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
});

afterEach(() => void vi.useRealTimers());

describe('a confirmed cache', () => {
  test('is used again after its process has ended without notice', async () => {
    const [far, content] = [new Far(), new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)];
    const first = await visit(far, storeOf(content));
    await readBytes(first, 0, size);
    await seal();
    const second = await visit(far, storeOf(content.slice()));
    await expectBytes(second, 0, far.content);
    expect(second.counts).toMatchObject({ missBytes: 0, storeErrors: 0 });
    // A visit that adds nothing leaves the seal as it is.
    const third = await visit(far, storeOf(content.slice()));
    await expectBytes(third, 0, far.content);
    expect(third.counts.missBytes).toBe(0);
    for (const cache of [first, second, third]) await cache.close();
  });

  test.each([
    ['has another mark', (far: Far) => far.change('v2')],
    ['has another size', (far: Far) => void (far.content = far.content.slice(0, size - cluster))],
  ])('starts empty if the disk %s', async (_, change) => {
    const [far, content] = [new Far(), new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)];
    const first = await visit(far, storeOf(content));
    await readBytes(first, 0, size);
    await first.close();
    change(far);
    const second = await visit(far, storeOf(content));
    await expectBytes(second, 0, far.content);
    expect(second.counts.hitBytes).toBe(0);
    await second.close();
  });

  test('starts empty if the mark is the same, but samples of the disk are not: the server is wrong', async () => {
    const [far, content] = [new Far(), new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)];
    const identified = async (): Promise<CacheFilter> => {
      const identity = await identifyDisk(far.open());
      return visit(far, storeOf(content), { ...large, identify: () => Promise.resolve(identity) });
    };
    const first = await identified();
    await readBytes(first, 0, size);
    await first.close();
    const second = await identified();
    await expectBytes(second, 0, far.content);
    expect(second.counts.missBytes).toBe(0);
    await second.close();
    far.change('v1');
    const third = await identified();
    await expectBytes(third, 0, far.content);
    expect(third.counts.hitBytes).toBe(0);
    await third.close();
  });

  test('is not made without a mark, nor for a disk that can be written', async () => {
    const far = new Far();
    for (const mark of [undefined, '', 'with a space', 'x'.repeat(101)]) {
      far.mark = mark;
      expect(await CacheVersion.open(() => far.answer())).toBeUndefined();
    }
    expect(await CacheVersion.open(() => Promise.reject(new Error('away')))).toBeUndefined();
    far.mark = 'v1';
    const version = (await CacheVersion.open(() => far.answer()))!;
    const confirmed = { version, onStop: () => undefined };
    const writable = new MemoryDevice(size);
    await expect(openCache(writable, storeOf(), { ...large, confirmed })).rejects.toThrow(/read-only/);
  });

  test('gives no byte of before a change that the server tells, and is not sealed', async () => {
    const [far, content] = [new Far(), new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)];
    const cache = await visit(far, storeOf(content));
    await readBytes(cache, 0, size / 2);
    far.change(undefined);
    vi.advanceTimersByTime(1000);
    await expectBytes(cache, 0, far.content);
    expect(stops).toEqual([]);
    far.change('v2');
    await vi.advanceTimersByTimeAsync(3000);
    await expectBytes(cache, 0, far.content);
    expect(stops).toEqual(['the disk has been written on its server']);
    await cache.close();
    far.mark = 'v1';
    const next = await visit(far, storeOf(content));
    await expectBytes(next, 0, far.content);
    expect(next.counts.hitBytes).toBe(0);
    await next.close();
  });

  test('that is closed while it is sealed is whole the next time', async () => {
    const [far, content] = [new Far(), new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)];
    const first = await visit(far, storeOf(content));
    await readBytes(first, 0, size);
    let answered = (): void => undefined;
    far.answer = () => new Promise((resolve) => (answered = () => resolve('v1')));
    await seal();
    const closed = first.close();
    await vi.advanceTimersByTimeAsync(100);
    answered();
    await closed;
    far.answer = () => Promise.resolve('v1');
    const second = await visit(far, storeOf(content));
    await expectBytes(second, 0, far.content);
    expect(second.counts.missBytes).toBe(0);
    await second.close();
  });

  test('asks at most once a second', async () => {
    const far = new Far();
    const cache = await visit(far, storeOf());
    const before = far.asked;
    for (let i = 0; i < 50; i++) await readBytes(cache, 0, cluster);
    expect(far.asked).toBe(before);
    vi.advanceTimersByTime(1000);
    await Promise.all(Array.from({ length: 50 }, () => readBytes(cache, 0, cluster)));
    expect(far.asked).toBe(before + 1);
    await cache.close();
  });

  test('keeps what it has when its store is full, and says so once', async () => {
    const [far, store] = [new Far(), new FaultFilter(storeOf())];
    const cache = await visit(far, store);
    await readBytes(cache, 0, 4 * cluster);
    store.add({ on: ['write'], action: 'no-space' });
    await expectBytes(cache, 0, far.content);
    await expectBytes(cache, 0, far.content);
    expect(stops).toHaveLength(1);
    expect(cache.counts).toMatchObject({ held: 4 });
    await cache.close();
  });

  test('never gives a damaged block of an earlier visit', async () => {
    const [far, content] = [new Far(), new Uint8Array(layoutOfCache(new Far().open(), large).storeSize)];
    const first = await visit(far, storeOf(content));
    await readBytes(first, 0, size);
    await first.close();
    const { dataOffset } = layoutOfCache(far.open(), large);
    const random = new Random(3);
    for (let i = 0; i < 20; i++) {
      const bad = content.slice();
      for (let flips = 0; flips < 4; flips++) bad[dataOffset + random.below(size)]! ^= 1 << random.below(8);
      const cache = await visit(far, storeOf(bad));
      await expectBytes(cache, 0, far.content);
      expect(cache.counts.storeErrors).toBeGreaterThan(0);
      await cache.close();
    }
    // The end of the store is lost.
    const cut = content.slice().fill(0, dataOffset + size / 3);
    const cache = await visit(far, storeOf(cut));
    await expectBytes(cache, 0, far.content);
    expect(cache.counts.hitBytes).toBeGreaterThan(0);
    await cache.close();
  });

  test('gives right bytes after power cuts at any write of its store, and changes of the disk', async () => {
    const random = new Random(11);
    const [far, layout] = [new Far(), layoutOfCache(new Far().open(), small)];
    let left = new Uint8Array(layout.storeSize);
    let hits = 0;
    for (let round = 0; round < 60; round++) {
      const store = new CrashStore(left, random, true);
      const states: Uint8Array[] = [];
      const traced = new TraceFilter(store, () => void (random.below(4) === 0 && states.push(store.crash())));
      const cache = await visit(far, traced, small);
      for (let i = 0; i < 30; i++) {
        const [first, count] = [random.below(blocks), 1 + random.below(4)];
        const [at, end] = [first * cluster, Math.min(blocks, first + count) * cluster];
        await expectBytes(cache, at, far.content.slice(at, end));
        if (random.below(5) === 0) await seal();
      }
      hits += cache.counts.hitBytes;
      await cache.close();
      states.push(store.crash());
      left = Uint8Array.from(states[random.below(states.length)]!);
      if (random.below(4) === 0) far.change(`after-${round}`);
    }
    expect(hits).toBeGreaterThan(0);
    expect(stops).toEqual([]);
  });
});

test('an error of the version is no error of a read', async () => {
  const far = new Far();
  const cache = await visit(far, storeOf());
  await readBytes(cache, 0, size);
  far.answer = (): Promise<string> => Promise.reject(new BlockError('unreachable', 'away'));
  vi.advanceTimersByTime(1000);
  await expectBytes(cache, 0, far.content);
  await cache.close();
});
