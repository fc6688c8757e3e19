import { describe, expect, test, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { FarbusError } from '../../src/base/errors.js';
import type { RequestOptions } from '../../src/block/device.js';
import { DelayFilter, type DelayOptions } from '../../src/block/filters/delay.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { Filter } from '../../src/block/filters/filter.js';
import { RangeLock } from '../../src/block/filters/range-lock.js';
import { ReadOnlyFilter } from '../../src/block/filters/read-only.js';
import { SliceFilter } from '../../src/block/filters/slice.js';
import { TraceFilter, type TraceEntry } from '../../src/block/filters/trace.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';

const memory = (): MemoryDevice => new MemoryDevice(65536, { identity: 'disk' });
const sector = (): Uint8Array => new Uint8Array(512).fill(1);

describe('trace', () => {
  test('reports every request with its range, trace id and result', async () => {
    const seen: TraceEntry[] = [];
    const faulty = new FaultFilter(memory(), [{ on: ['trim'], action: 'io' }]);
    const device = new TraceFilter(faulty, (entry) => seen.push(entry));
    await device.read(512, buffersOf(new Uint8Array(1024)), { traceId: 7 });
    await writeBytes(device, 0, sector(), { fua: true });
    await device.flush();
    await device.writeZeroes(4096, 512);
    await expectKind('io', device.trim(0, 512));
    await expectKind('range', device.read(65536, buffersOf(sector())));
    const shown = seen.map(({ op, offset, length, traceId, fua, error }) => [
      op,
      offset,
      length,
      traceId,
      fua,
      error?.kind,
    ]);
    expect(shown).toEqual([
      ['read', 512, 1024, 7, false, undefined],
      ['write', 0, 512, undefined, true, undefined],
      ['flush', 0, 0, undefined, false, undefined],
      ['writeZeroes', 4096, 512, undefined, false, undefined],
      ['trim', 0, 512, undefined, false, 'io'],
    ]);
    for (const { ms } of seen) expect(ms).toBeGreaterThanOrEqual(0);
    await device.close();
  });

  test('every filter passes options on', async () => {
    const got: RequestOptions[] = [];
    const bottom = new (class extends Filter {
      protected override doRead(...args: Parameters<Filter['read']>): Promise<void> {
        got.push(args[2]!);
        return super.read.call(this.next, ...args);
      }
    })(memory());
    const device = new DelayFilter(
      new FaultFilter(new TraceFilter(new SliceFilter(new ReadOnlyFilter(bottom), 0, 4096), () => undefined)),
      {},
    );
    const { signal } = new AbortController();
    await device.read(0, buffersOf(sector()), { signal, traceId: 3 });
    expect(got).toEqual([{ signal, traceId: 3 }]);
    await device.close();
  });
});

describe('delay', () => {
  test('holds requests back, and a cancelled one has no effect', async () => {
    vi.useFakeTimers();
    try {
      const inner = memory();
      const device = new DelayFilter(inner, { write: 1000 });
      const control = new AbortController();
      const outcome = expectKind('aborted', writeBytes(device, 0, sector(), { signal: control.signal }));
      const kept = writeBytes(device, 512, sector());
      await vi.advanceTimersByTimeAsync(999);
      expect((await readBytes(inner, 512, 512))[0]).toBe(0);
      control.abort();
      await outcome;
      await vi.advanceTimersByTimeAsync(1);
      await kept;
      expect((await readBytes(inner, 512, 512))[0]).toBe(1);
      expect((await readBytes(inner, 0, 512))[0]).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  test('bandwidth: transfers queue', async () => {
    vi.useFakeTimers();
    try {
      const device = new DelayFilter(memory(), { bytesPerSecond: 4096 });
      let done = 0;
      const reads = [1, 2, 3].map(() => readBytes(device, 0, 4096).then(() => done++));
      for (const second of [1, 2, 3]) {
        await vi.advanceTimersByTimeAsync(999);
        expect(done).toBe(second - 1);
        await vi.advanceTimersByTimeAsync(1);
        expect(done).toBe(second);
      }
      await Promise.all(reads);
    } finally {
      vi.useRealTimers();
    }
  });

  test('refuses impossible times', () => {
    for (const read of [-1, Number.NaN, 2 ** 40])
      expect(() => new DelayFilter(memory(), { read })).toThrow(FarbusError);
    expect(() => new DelayFilter(memory(), { bytesPerSecond: 0 })).toThrow(FarbusError);
  });

  test.each([200, '200', undefined, null])('refuses %s instead of options, and shows their form', (options) => {
    const make = () => new DelayFilter(memory(), options as unknown as DelayOptions);
    expect(make).toThrow(TypeError);
    expect(make).toThrow(/^delay: .* is not possible: give .* \{ read: 200, write: 200 \}$/);
  });
});

describe('fault', () => {
  test('by kind of request, range, number and count', async () => {
    const device = new FaultFilter(memory());
    const rule = device.add({
      on: ['write'],
      range: { offset: 4096, length: 512 },
      skip: 1,
      count: 2,
      action: 'no-space',
    });
    const write = (at: number): Promise<void> => writeBytes(device, at, new Uint8Array(1024));
    await write(4096);
    await expectKind('no-space', write(3584));
    await write(4608);
    await readBytes(device, 4096, 512);
    await device.flush();
    await expectKind('no-space', write(4096));
    await write(4096);
    expect(rule.hits).toBe(2);
    await device.close();
  });

  test('by chance, the same for the same seed', async () => {
    const outcomes = async (seed: number): Promise<boolean[]> => {
      const device = new FaultFilter(memory(), [{ probability: 0.3, action: 'io' }], { seed });
      const list: boolean[] = [];
      for (let i = 0; i < 200; i++) list.push(await device.flush().then(() => true, () => false)); // prettier-ignore
      await device.close();
      return list;
    };
    const first = await outcomes(1);
    expect(await outcomes(1)).toEqual(first);
    expect(await outcomes(2)).not.toEqual(first);
    expect(first.filter((passed) => !passed).length).toBeGreaterThan(30);
    expect(first.filter((passed) => !passed).length).toBeLessThan(90);
    expect(() => new FaultFilter(memory(), [{ probability: 2, action: 'io' }])).toThrow(FarbusError);
  });

  test('a request that takes effect but loses its answer', async () => {
    const inner = memory();
    const device = new FaultFilter(inner, [{ on: ['write'], action: 'unreachable', afterEffect: true }]);
    await expectKind('unreachable', writeBytes(device, 0, sector()));
    expect((await readBytes(inner, 0, 512))[0]).toBe(1);
    await device.close();
  });

  test('stalls until released, cancelled or closed', async () => {
    const inner = memory();
    const device = new FaultFilter(inner);
    const rule = device.add({ on: ['write'], action: 'stall' });
    const control = new AbortController();
    const released = writeBytes(device, 0, sector());
    const aborted = expectKind('aborted', writeBytes(device, 512, sector(), { signal: control.signal }));
    await readBytes(device, 0, 512);
    await vi.waitFor(() => expect(device.stalled).toBe(2));
    control.abort();
    await aborted;
    expect(device.stalled).toBe(1);
    device.release();
    await released;
    expect((await readBytes(inner, 0, 512))[0]).toBe(1);
    expect((await readBytes(inner, 512, 512))[0]).toBe(0);

    const closed = expectKind('closed', writeBytes(device, 1024, sector()));
    await vi.waitFor(() => expect(device.stalled).toBe(1));
    await device.close();
    await closed;
    expect(rule.hits).toBe(3);
  });

  test('clear removes rules and releases requests', async () => {
    const device = new FaultFilter(memory(), [{ on: ['read'], action: 'stall' }, { action: 'io' }]);
    const read = readBytes(device, 0, 512);
    await vi.waitFor(() => expect(device.stalled).toBe(1));
    await expectKind('io', device.flush());
    device.clear();
    await read;
    await device.flush();
    await device.close();
  });
});

describe('slice and read-only', () => {
  test('a slice contains exactly its part', async () => {
    const inner = memory();
    const device = new SliceFilter(inner, 1024, 2048);
    expect(device.info).toMatchObject({ size: 2048, identity: 'disk@1024+2048' });
    await writeBytes(device, 0, new Uint8Array(2048).fill(5));
    const all = await readBytes(inner, 0, 4096);
    expect([all[1023], all[1024], all[3071], all[3072]]).toEqual([0, 5, 5, 0]);
    await expectKind('range', readBytes(device, 2048, 512));
    expect(await device.extents(512, 1024)).toEqual([{ offset: 512, length: 1024, hole: false, zero: false }]);
    for (const [start, size] of [
      [1, 512],
      [0, 511],
      [65536, 512],
      [-512, 512],
      [0, Number.NaN],
    ] as const) {
      // prettier-ignore
      expect(() => new SliceFilter(inner, start, size)).toThrow(FarbusError);
    }
    await device.close();
  });

  test('read-only says so and offers no change', async () => {
    const device = new ReadOnlyFilter(memory());
    expect(device.info).toMatchObject({ readOnly: true, can: { trim: false, writeZeroes: false, flush: true } });
    await expectKind('read-only', writeBytes(device, 0, sector()));
    await device.close();
  });

  test('a filter closes the device below it', async () => {
    const inner = memory();
    await new Filter(inner).close();
    await expectKind('closed', readBytes(inner, 0, 512));
  });
});

test('range locks: overlapping ones in order, others concurrently', async () => {
  const lock = new RangeLock();
  const order: string[] = [];
  const take = async (name: string, start: number, end: number): Promise<() => void> => {
    const release = await lock.acquire(start, end);
    order.push(name);
    return release;
  };
  const a = await take('a', 0, 10);
  const b = take('b', 5, 15);
  const c = take('c', 12, 20);
  const d = await take('d', 20, 30);
  expect(order).toEqual(['a', 'd']);
  a();
  (await b)();
  (await c)();
  d();
  expect(order).toEqual(['a', 'd', 'b', 'c']);
});
