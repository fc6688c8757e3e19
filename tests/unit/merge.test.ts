import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { DelayFilter } from '../../src/block/filters/delay.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { JoinedBuffers } from '../../src/base/joined-buffers.js';
import { MergeFilter } from '../../src/block/filters/merge.js';
import { TraceFilter, type TraceEntry } from '../../src/block/filters/trace.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { PagedBuffers } from '../../src/conformance/paged-buffers.js';
import { Random } from '../../src/conformance/random.js';
import { expectBytes, expectKind, expectSame, readBytes, writeBytes } from '../../src/conformance/subject.js';

const KiB = 1024;

function traced(options: { depth?: number; maxLength?: number; maxGap?: number } = {}): {
  device: MergeFilter;
  faults: FaultFilter;
  seen: TraceEntry[];
  shown: () => [string, number, number][];
} {
  const seen: TraceEntry[] = [];
  const faults = new FaultFilter(new MemoryDevice(new Random(1).bytes(1024 * KiB)));
  const device = new MergeFilter(new TraceFilter(faults, (entry) => seen.push(entry)), options);
  return { device, faults, seen, shown: () => seen.map(({ op, offset, length }) => [op, offset, length]) };
}

describe('merging', () => {
  test('concurrent neighbours become one request, in any order', async () => {
    const { device, shown } = traced();
    const wanted = await readBytes(device, 0, 64 * KiB);
    const places = new Random(2).shuffled(Array.from({ length: 16 }, (_, i) => i * 4096));
    const data = new Random(3).bytes(64 * KiB);
    await Promise.all(places.map((at) => expectBytes(device, at, wanted.subarray(at, at + 4096))));
    await Promise.all(places.map((at) => writeBytes(device, at, data.subarray(at, at + 4096))));
    await expectBytes(device, 0, data);
    expect(shown()).toEqual([
      ['read', 0, 65536],
      ['read', 0, 65536],
      ['write', 0, 65536],
      ['read', 0, 65536],
    ]);
  });

  test('reads span small gaps, writes never; FUA stays apart; no longer than allowed', async () => {
    const { device, seen, shown } = traced({ maxLength: 16 * KiB, maxGap: 1024 });
    await Promise.all([0, 1536, 8192, 9216].map((at) => readBytes(device, at, 512)));
    expect(shown()).toEqual([
      ['read', 0, 2048],
      ['read', 8192, 1536],
    ]);
    seen.length = 0;
    const sector = new Uint8Array(512);
    const write = (at: number, fua = false): Promise<void> => writeBytes(device, at, sector, { fua });
    await Promise.all([write(0), write(512), write(1024, true), write(1536, true), write(4096), write(5120)]);
    expect(seen.map(({ offset, length, fua }) => [offset, length, fua])).toEqual([
      [0, 1024, false],
      [1024, 1024, true],
      [4096, 512, false],
      [5120, 512, false],
    ]);
    seen.length = 0;
    await Promise.all(Array.from({ length: 16 }, (_, i) => readBytes(device, i * 4096, 4096)));
    expect(shown().map(([, , length]) => length)).toEqual([16384, 16384, 16384, 16384]);
  });

  test('requests that wait for a busy device are merged', async () => {
    const seen: TraceEntry[] = [];
    const slow = new DelayFilter(new MemoryDevice(1024 * KiB), { read: 5 });
    const device = new MergeFilter(new TraceFilter(slow, (entry) => seen.push(entry)), { depth: 1 });
    const reads: Promise<unknown>[] = [];
    for (let i = 0; i < 20; i++) {
      reads.push(readBytes(device, i * 4096, 4096));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(reads);
    expect(seen.length).toBeLessThan(6);
    expect(seen.reduce((sum, { length }) => sum + length, 0)).toBe(80 * KiB);
    await device.close();
  });

  test('if a merged request fails each part gets its own result', async () => {
    const { device, faults } = traced();
    const wanted = await readBytes(device, 0, 64 * KiB);
    faults.add({ range: { offset: 20 * KiB, length: 1 }, action: 'io' });
    const read = (at: number): Promise<void> => expectBytes(device, at, wanted.subarray(at, at + 4096));
    const reads = [0, 4096, 8192, 12288, 16384, 24576].map(read);
    await Promise.all([...reads, expectKind('io', read(20480))]);
    const sector = new Uint8Array(4096).fill(9);
    const writes = [0, 4096, 16384, 24576].map((at) => writeBytes(device, at, sector));
    await Promise.all([...writes, expectKind('io', writeBytes(device, 20480, sector))]);
    faults.clear();
    for (const at of [0, 4096, 16384, 24576]) await expectBytes(device, at, sector);
    await expectBytes(device, 20480, wanted.subarray(20480, 24576));
  });

  test('a cancelled request ends without the others', async () => {
    const { device, faults } = traced({ depth: 1 });
    faults.add({ on: ['read'], range: { offset: 512 * KiB, length: 1 }, action: 'stall' });
    const first = readBytes(device, 512 * KiB, 512);
    await new Promise((resolve) => setImmediate(resolve));
    const stop = new AbortController();
    const into = buffersOf(new Uint8Array(512));
    const given = expectKind('aborted', device.read(0, into, { signal: stop.signal }));
    const kept = readBytes(device, 512, 512);
    stop.abort();
    await given;
    faults.clear();
    await Promise.all([first, kept]);

    // Both requests are already in flight, merged: the merged request ends when both are aborted.
    faults.add({ on: ['read'], range: { offset: 0, length: 1 }, action: 'stall' });
    const both = [new AbortController(), new AbortController()];
    const reads = both.map(({ signal }, i) => expectKind('aborted', device.read(i * 512, into, { signal })));
    while (faults.stalled === 0) await new Promise((resolve) => setImmediate(resolve));
    both[0]!.abort();
    await new Promise((resolve) => setImmediate(resolve));
    expect(faults.stalled).toBe(1);
    both[1]!.abort();
    await Promise.all(reads);
    await device.close();
  });
});

test('joined buffers are the sequence of their parts', () => {
  const layout = fc.array(fc.integer({ min: 1, max: 9000 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(layout, fc.nat(1e6), (lengths, seed) => {
      const random = new Random(seed);
      const parts = lengths.map((length) =>
        random.chance(0.5) ? buffersOf(random.bytes(length)) : PagedBuffers.scattered(length, random).buffers,
      );
      const all = new JoinedBuffers(parts);
      const model = random.bytes(all.length);
      all.copyFrom(model, 0);
      for (let round = 0; round < 10; round++) {
        const at = random.below(all.length + 1);
        const length = random.below(all.length - at + 1);
        if (random.chance(0.3)) {
          all.zero(at, length);
          model.fill(0, at, at + length);
        } else if (random.chance(0.5)) {
          const bytes = random.bytes(length);
          all.copyFrom(bytes, at);
          model.set(bytes, at);
        }
        const got = new Uint8Array(length);
        all.slice(at, at + length).copyTo(got, 0);
        expectSame(got, model.slice(at, at + length), 'a slice');
      }
      const views = all.stable();
      if (views) expectSame(Buffer.concat(views), model, 'its views');
      expect(() => all.copyTo(new Uint8Array(2), all.length - 1)).toThrow(RangeError);
    }),
    { numRuns: 60 },
  );
});
