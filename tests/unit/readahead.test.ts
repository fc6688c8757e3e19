import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { MergeFilter } from '../../src/block/filters/merge.js';
import { ReadAheadFilter } from '../../src/block/filters/readahead.js';
import { TraceFilter, type TraceEntry } from '../../src/block/filters/trace.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectKind, expectSame, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { JitterFilter } from './jitter.js';
import { nextIteration } from '../support/event-loop.js';

const KiB = 1024;
const content = (length: number): Uint8Array => new Random(1).bytes(length);

/** Reads [from, to) in requests of `step` bytes, one after another. */
async function readThrough(device: BlockDevice, from: number, to: number, step: number): Promise<Uint8Array> {
  const out = new Uint8Array(to - from);
  for (let at = from; at < to; at += step) await device.read(at, buffersOf(out.subarray(at - from, at - from + step)));
  return out;
}

function traced(length: number): { device: TraceFilter; seen: TraceEntry[]; bytes: Uint8Array } {
  const bytes = content(length);
  const seen: TraceEntry[] = [];
  return { device: new TraceFilter(new MemoryDevice(bytes.slice()), (entry) => seen.push(entry)), seen, bytes };
}

describe('read-ahead', () => {
  test('reads ahead of sequential readers, each byte once, also of several at once', async () => {
    const { device: next, seen, bytes } = traced(8192 * KiB);
    const device = new ReadAheadFilter(next);
    const halves = await Promise.all(
      [0, 1, 2].map((i) => readThrough(device, i * 2048 * KiB, (i + 1) * 2048 * KiB, 16 * KiB)),
    );
    for (const [i, half] of halves.entries())
      expectSame(half, bytes.subarray(i * 2048 * KiB, (i + 1) * 2048 * KiB), `${i}`);
    // Without read-ahead there would be 384 requests.
    expect(seen.length).toBeLessThan(60);
    expect(device.counts.servedBytes).toBeGreaterThan(5 * 1024 * KiB);
    await device.close();
  });

  test('ignores random readers', async () => {
    const { device: next } = traced(64 * 1024 * KiB);
    const device = new ReadAheadFilter(next);
    const random = new Random(2);
    for (let i = 0; i < 300; i++) await readBytes(device, random.below(16384) * 4096, 4096);
    expect(device.counts.prefetches).toBeLessThan(15);
    await device.close();
  });

  test('follows one reader with many concurrent requests, out of order', async () => {
    const { device: next, bytes } = traced(4096 * KiB);
    const device = new ReadAheadFilter(new JitterFilter(next, 3));
    const random = new Random(4);
    for (let at = 0; at < 4096 * KiB; at += 128 * KiB) {
      const parts = random.shuffled([0, 1, 2, 3, 4, 5, 6, 7].map((i) => at + i * 16 * KiB));
      await Promise.all(parts.map((part) => expectBytes(device, part, bytes.subarray(part, part + 16 * KiB))));
    }
    expect(device.counts.servedBytes).toBeGreaterThan(3 * 1024 * KiB);
    await device.close();
  });

  test('holds no more than its limit', async () => {
    const device = new ReadAheadFilter(new JitterFilter(traced(16384 * KiB).device, 5), {
      maxBytes: 512 * KiB,
      maxWindow: 512 * KiB,
      pieceSize: 64 * KiB,
    });
    const random = new Random(6);
    let most = 0;
    await Promise.all(
      [0, 1, 2, 3, 4, 5].map(async (i) => {
        for (let at = i * 2048 * KiB; at < (i + 1) * 2048 * KiB; at += 16 * KiB) {
          await readBytes(device, at, 16 * KiB);
          most = Math.max(most, device.counts.heldBytes);
          if (random.chance(0.05)) await device.trim(at, 512 * KiB);
        }
      }),
    );
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(512 * KiB);
    await device.close();
    expect(device.counts.heldBytes).toBeLessThanOrEqual(512 * KiB);
  });

  test('a failed read-ahead is not reported; a later read asks the device again', async () => {
    const bytes = content(2048 * KiB);
    const faults = new FaultFilter(new MemoryDevice(bytes));
    const device = new ReadAheadFilter(faults, { pieceSize: 64 * KiB });
    const bad = { on: ['read' as const], range: { offset: 300 * KiB, length: 512 }, action: 'io' as const };
    const rule = faults.add(bad);
    const before = 256 * KiB;
    expectSame(await readThrough(device, 0, before, 16 * KiB), bytes.subarray(0, before), 'before the bad block');
    expect(rule.hits).toBeGreaterThan(0);
    await expectBytes(device, before, bytes.subarray(before, before + 16 * KiB));
    await expectKind('io', readBytes(device, 288 * KiB, 16 * KiB));
    rule.remove();
    await expectBytes(device, 288 * KiB, bytes.subarray(288 * KiB, 304 * KiB));
    await device.close();
  });

  test('data that was read ahead before a change is not used after it, even if it arrives later', async () => {
    for (const change of ['write', 'writeZeroes', 'trim'] as const) {
      const bytes = content(1024 * KiB);
      const faults = new FaultFilter(new MemoryDevice(bytes.slice()));
      const device = new ReadAheadFilter(faults, { pieceSize: 64 * KiB });
      await readThrough(device, 0, 32 * KiB, 16 * KiB);
      // The read-ahead of the next window hangs; a change within it must not hang.
      const rule = faults.add({ on: ['read'], range: { offset: 128 * KiB, length: 1 }, action: 'stall' });
      await readThrough(device, 32 * KiB, 64 * KiB, 16 * KiB);
      expect(faults.stalled).toBeGreaterThan(0);
      rule.remove();
      const at = 130 * KiB;
      const fresh = new Uint8Array(KiB).fill(change === 'write' ? 7 : 0);
      if (change === 'write') await writeBytes(device, at, fresh);
      else await device[change](at, KiB);
      faults.release();
      await nextIteration();
      await expectBytes(device, at, fresh);
      await device.close();
    }
  });

  test('a read that waits for a read-ahead can be cancelled', async () => {
    const faults = new FaultFilter(new MemoryDevice(content(1024 * KiB)));
    const device = new ReadAheadFilter(faults, { pieceSize: 64 * KiB });
    faults.add({ on: ['read'], range: { offset: 128 * KiB, length: 1 }, action: 'stall' });
    await readThrough(device, 0, 64 * KiB, 16 * KiB);
    const stop = new AbortController();
    const into = new Uint8Array(4096);
    const read = expectKind('aborted', device.read(132 * KiB, buffersOf(into), { signal: stop.signal }));
    stop.abort();
    await read;
    faults.clear();
    await nextIteration();
    expect(into.every((byte) => byte === 0)).toBe(true);
    await device.close();
  });

  test('closing ends a read-ahead that hangs', async () => {
    const faults = new FaultFilter(new MemoryDevice(content(1024 * KiB)));
    const device = new ReadAheadFilter(faults, { pieceSize: 64 * KiB });
    faults.add({ on: ['read'], range: { offset: 128 * KiB, length: 1 }, action: 'stall' });
    await readThrough(device, 0, 64 * KiB, 16 * KiB);
    expect(faults.stalled).toBeGreaterThan(0);
    await device.close();
    expect(faults.stalled).toBe(0);
  });
});

describe('never a stale byte', () => {
  /**
   * Each block contains the number of its last write. A read may return any number from the last
   * write acknowledged before it began to the last write begun before it ended, and no other.
   */
  async function storm(device: BlockDevice, seed: number): Promise<void> {
    const blocks = 512;
    const random = new Random(seed);
    const begun = new Uint32Array(blocks);
    const acknowledged = new Uint32Array(blocks);
    const busy = new Uint8Array(blocks);
    const write = async (first: number, count: number): Promise<void> => {
      // The order of two concurrent writes to one block is undefined: avoid them.
      for (let block = first; block < first + count; block++) if (busy[block]) return;
      const words = new Uint32Array(count * 128);
      for (let i = 0; i < count; i++) {
        busy[first + i] = 1;
        words.fill(++begun[first + i]!, i * 128, (i + 1) * 128);
      }
      await device.write(first * 512, buffersOf(new Uint8Array(words.buffer)), { fua: random.chance(0.1) });
      for (let i = 0; i < count; i++) {
        busy[first + i] = 0;
        acknowledged[first + i] = begun[first + i]!;
      }
    };
    const read = async (first: number, count: number): Promise<void> => {
      const least = acknowledged.slice(first, first + count);
      const words = new Uint32Array(count * 128);
      await device.read(first * 512, buffersOf(new Uint8Array(words.buffer)));
      for (let i = 0; i < count; i++) {
        const got = words[i * 128]!;
        const whole = words.subarray(i * 128, (i + 1) * 128).every((word) => word === got);
        if (!whole || got < least[i]! || got > begun[first + i]!) {
          expect.fail(
            `seed ${seed}: block ${first + i} is ${got}, not ${least[i]}..${begun[first + i]} (whole: ${whole})`,
          );
        }
      }
    };
    const reader = async (): Promise<void> => {
      for (let round = 0; round < 4; round++) {
        let at = random.below(blocks / 2);
        while (at < blocks) {
          const count = Math.min(blocks - at, 1 + random.below(16));
          await read(at, count);
          at += count;
          if (random.chance(0.02)) break;
        }
      }
    };
    const writer = async (): Promise<void> => {
      for (let round = 0; round < 120; round++) {
        const count = 1 + random.below(8);
        await write(random.below(blocks - count), count);
        if (random.chance(0.1)) await device.flush();
      }
    };
    await Promise.all([reader(), reader(), reader(), writer(), writer()]);
    await read(0, blocks);
    await device.close();
  }

  const far = (seed: number): BlockDevice => new JitterFilter(new MemoryDevice(512 * 512), seed, 6);
  const small = { pieceSize: 4096, maxWindow: 32768, maxBytes: 65536 };
  const runs = process.env['FARBUS_TEST_ALL'] ? 300 : 25;

  test('through read-ahead, under readers and writers at once', async () => {
    for (let seed = 1; seed <= runs; seed++) await storm(new ReadAheadFilter(far(seed), small), seed);
  });
  test('through merging', async () => {
    for (let seed = 1; seed <= runs; seed++) await storm(new MergeFilter(far(seed), { depth: 1 + (seed % 4) }), seed);
  });
  test('through both', async () => {
    for (let seed = 1; seed <= runs; seed++) {
      await storm(new MergeFilter(new ReadAheadFilter(far(seed), small), { depth: 3 }), seed);
    }
  });
});
