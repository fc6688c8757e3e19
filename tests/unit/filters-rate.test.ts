/** The rate filter, with a fake clock: the total rate and its distribution. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { RateFilter, RateLimit } from '../../src/block/filters/rate.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { expectKind } from '../../src/conformance/subject.js';

const KiB = 1024;

describe('a rate', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  /** Reads or writes sequentially without end. Reports how many bytes have passed. */
  function reader(limit: RateLimit, length: number, depth: number, op: 'read' | 'write' = 'read'): { bytes: number } {
    const device = new RateFilter(new MemoryDevice(1 << 20), limit);
    const passed = { bytes: 0 };
    const loop = async (): Promise<void> => {
      for (;;) {
        await device[op](0, buffersOf(new Uint8Array(length)));
        passed.bytes += length;
      }
    };
    for (let i = 0; i < depth; i++) void loop();
    return passed;
  }

  test('is kept, separately in each direction', async () => {
    const limit = new RateLimit(256 * KiB);
    const reads = reader(limit, 4096, 8);
    const writes = reader(limit, 64 * KiB, 2, 'write');
    await vi.advanceTimersByTimeAsync(20_000);
    for (const { bytes } of [reads, writes]) {
      expect(bytes / (20 * 256 * KiB)).toBeGreaterThan(0.95);
      expect(bytes / (20 * 256 * KiB)).toBeLessThan(1.05);
    }
  });

  test('gives equal shares to clients with few and many, short and long requests', async () => {
    const limit = new RateLimit(256 * KiB);
    const all = [
      reader(limit, 512 * KiB, 1),
      reader(limit, 4096, 16),
      reader(limit, 16 * KiB, 64),
      reader(limit, 64 * KiB, 4),
    ];
    await vi.advanceTimersByTimeAsync(60_000);
    const share = (60 * 256 * KiB) / all.length;
    for (const { bytes } of all) {
      expect(bytes).toBeGreaterThan(0.8 * share);
      expect(bytes).toBeLessThan(1.2 * share);
    }
  });

  test('a cancelled request uses none of it', async () => {
    const limit = new RateLimit(64 * KiB);
    const device = new RateFilter(new MemoryDevice(1 << 20), limit);
    const stop = new AbortController();
    await device.read(0, buffersOf(new Uint8Array(64 * KiB)));
    const waiting = device.read(0, buffersOf(new Uint8Array(4096)), { signal: stop.signal });
    stop.abort();
    await expectKind('aborted', waiting);
    const next = reader(limit, 4096, 1);
    await vi.advanceTimersByTimeAsync(10_000);
    expect(next.bytes / (10 * 64 * KiB)).toBeGreaterThan(0.85);
    await device.close();
  });

  test('requests that are given up leave their filter its whole share', async () => {
    const limit = new RateLimit(64 * KiB);
    const device = new RateFilter(new MemoryDevice(1 << 20), limit);
    const other = reader(limit, 4096, 4);
    await vi.advanceTimersByTimeAsync(1000);
    for (let i = 0; i < 100; i++) {
      const stop = new AbortController();
      const waiting = device.read(0, buffersOf(new Uint8Array(4096)), { signal: stop.signal });
      stop.abort();
      await expectKind('aborted', waiting);
    }
    const before = other.bytes;
    const done = device.read(0, buffersOf(new Uint8Array(4096)));
    await vi.advanceTimersByTimeAsync(1000);
    await done;
    expect(other.bytes - before).toBeLessThan(66 * KiB);
    await device.close();
  });

  test('flushes and holes pass at once', async () => {
    const device = new RateFilter(new MemoryDevice(1 << 20), new RateLimit(512));
    await device.flush();
    await device.trim(0, 1 << 20);
    await device.close();
    expect(() => new RateLimit(0)).toThrow(/not possible/);
  });
});
