import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { compareDevices } from '../../src/block/compare.js';
import { copyDevice, CopyFailure } from '../../src/block/copy.js';
import { planCopy } from '../../src/block/copy-plan.js';
import type { Extent } from '../../src/block/device.js';
import { DelayFilter } from '../../src/block/filters/delay.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { Filter, type BlockRequest } from '../../src/block/filters/filter.js';
import { TraceFilter, type TraceEntry } from '../../src/block/filters/trace.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { expectSame, readBytes } from '../../src/conformance/subject.js';

const KiB = 1024;

/** Memory that reports which of its blocks are zero, in extents of at most `longest` blocks. */
class SparseMemory extends Filter {
  readonly #longest: number;

  constructor(bytes: Uint8Array, longest: number, blockSize = 512) {
    const can = { flush: true, fua: true, trim: true, writeZeroes: true, extents: true, multiConnection: true };
    super(new MemoryDevice(bytes, { blockSize, can }));
    this.#longest = longest;
  }

  protected override async doExtents(offset: number, length: number): Promise<readonly Extent[]> {
    const { blockSize } = this.info;
    const bytes = await readBytes(this.next, offset, Math.min(length, this.#longest * blockSize));
    const zero = (at: number): boolean => bytes.subarray(at, at + blockSize).every((byte) => byte === 0);
    const list: { offset: number; length: number; hole: boolean; zero: boolean }[] = [];
    for (let at = 0; at < bytes.length; at += blockSize) {
      const kind = zero(at);
      const last = list.at(-1);
      if (last?.zero === kind) last.length += blockSize;
      else list.push({ offset: offset + at, length: blockSize, hole: kind, zero: kind });
    }
    return list;
  }
}

function content(size: number, seed: number): Uint8Array {
  const random = new Random(seed);
  const bytes = random.bytes(size);
  for (let holes = 0; holes < 6; holes++) {
    const at = random.below(size);
    bytes.fill(0, at, at + random.below(size / 3));
  }
  return bytes;
}

describe('copying', () => {
  test('any content, block sizes, chunks and starts: equal bytes, and nothing behind them changes', async () => {
    const sizes = fc.record({
      blocks: fc.integer({ min: 1, max: 1500 }),
      fromBlock: fc.constantFrom(1, 512, 4096),
      toBlock: fc.constantFrom(1, 512, 4096),
      more: fc.nat(3),
      chunk: fc.constantFrom(4 * KiB, 64 * KiB, 1024 * KiB),
      jobs: fc.integer({ min: 1, max: 9 }),
      longest: fc.integer({ min: 1, max: 400 }),
      seed: fc.nat(1e6),
      resume: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ blocks, fromBlock, toBlock, more, chunk, jobs, longest, seed, resume }) => {
        const bytes = content(blocks * fromBlock, seed);
        const from = new SparseMemory(bytes, longest, fromBlock);
        const room = (Math.ceil(bytes.length / toBlock) + more) * toBlock;
        const before = new Random(seed + 1).bytes(room);
        const unit = Math.max(fromBlock, toBlock);
        const start = resume ? Math.floor(bytes.length / 2 / unit) * unit : 0;
        before.set(bytes.subarray(0, start));
        const target = before.slice();
        const to = new MemoryDevice(target, { blockSize: toBlock });
        const { copied, zeroes } = await copyDevice(from, to, { chunkSize: chunk, jobs, start });
        expect(copied + zeroes).toBe(bytes.length - start);
        before.set(bytes);
        expectSame(target, before, 'the copy');
        expect(await compareDevices(from, to, { chunkSize: chunk, jobs })).toBeUndefined();
      }),
      { numRuns: 50 },
    );
  });

  test('zeroes are skipped on a new target, and written or punched on an old one', async () => {
    const bytes = content(1024 * KiB, 3);
    bytes.fill(0, 256 * KiB, 768 * KiB);
    const seen: TraceEntry[] = [];
    const to = new TraceFilter(new MemoryDevice(1024 * KiB), (entry) => seen.push(entry));
    await copyDevice(new SparseMemory(bytes, 100), to, { fresh: true });
    expect(seen.filter(({ op }) => op !== 'flush').every(({ op }) => op === 'write')).toBe(true);
    expect(await compareDevices(new MemoryDevice(bytes), to)).toBeUndefined();
    seen.length = 0;
    await copyDevice(new MemoryDevice(bytes), to, {});
    expect(seen.some(({ op }) => op === 'writeZeroes')).toBe(true);
    expect(seen.at(-1)!.op).toBe('flush');
  });

  test('as many requests are in flight as asked, and no more', async () => {
    let [now, most] = [0, 0];
    const from = new (class extends Filter {
      protected override async around<T>(_: unknown, pass: () => Promise<T>): Promise<T> {
        most = Math.max(most, ++now);
        return pass().finally(() => now--);
      }
    })(new DelayFilter(new MemoryDevice(new Random(1).bytes(1024 * KiB)), { read: 2 }));
    await copyDevice(from, new MemoryDevice(1024 * KiB), { jobs: 5, chunkSize: 16 * KiB });
    expect(most).toBe(5);
  });
});

describe('a copy that fails', () => {
  test('names the byte that cannot be read, and everything before it is copied', async () => {
    const bytes = new Random(5).bytes(2048 * KiB);
    const bad = 1300 * KiB + 512;
    const from = new FaultFilter(new DelayFilter(new MemoryDevice(bytes), { read: 1 }), [
      { on: ['read'], range: { offset: bad, length: 1 }, action: 'io' },
    ]);
    const target = new Uint8Array(bytes.length);
    let checkpoint = -1;
    const failure = await copyDevice(from, new MemoryDevice(target), {
      chunkSize: 64 * KiB,
      checkpoint: (at) => Promise.resolve(void (checkpoint = at)),
    }).catch((error: unknown) => error as CopyFailure);
    expect(failure).toBeInstanceOf(CopyFailure);
    const { side, at, position, cause } = failure as CopyFailure;
    expect({ side, at, kind: cause.kind }).toEqual({ side: 'from', at: bad, kind: 'io' });
    expect(position).toBe(checkpoint);
    expect(position).toBeLessThanOrEqual(bad);
    expectSame(target.subarray(0, position), bytes.subarray(0, position), 'what is copied');
  });

  test.each(['no-space', 'io'] as const)('reports a target that fails (%s)', async (action) => {
    const range = { offset: 300 * KiB, length: 512 };
    const to = new FaultFilter(new MemoryDevice(1024 * KiB), [{ on: ['write'], range, action }]);
    const copy = copyDevice(new MemoryDevice(new Random(1).bytes(1024 * KiB)), to, { chunkSize: 64 * KiB });
    await expect(copy).rejects.toMatchObject({ side: 'to', at: 256 * KiB, cause: { kind: action } });
  });

  test('fails if its flush fails, and calls nothing durable', async () => {
    const to = new FaultFilter(new MemoryDevice(512 * KiB), [{ on: ['flush'], action: 'io' }]);
    const copy = copyDevice(new MemoryDevice(new Random(1).bytes(512 * KiB)), to);
    await expect(copy).rejects.toMatchObject({ side: 'to', position: 0 });
  });

  it('leaves no request in flight when it is cancelled', async () => {
    const bytes = new Random(7).bytes(1024 * KiB);
    const target = new Uint8Array(bytes.length);
    const stop = new AbortController();
    const to = new DelayFilter(new MemoryDevice(target), { write: 5 });
    const copy = copyDevice(new MemoryDevice(bytes), to, {
      chunkSize: 16 * KiB,
      signal: stop.signal,
      onProgress: (at) => void (at > 300 * KiB && stop.abort()),
    });
    const failure = (await copy.catch((error: unknown) => error)) as CopyFailure;
    expect(failure.cause.kind).toBe('aborted');
    const seen = target.slice();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expectSame(target, seen, 'the target after the copy was given up');
    expectSame(target.subarray(0, failure.position), bytes.subarray(0, failure.position), 'what is copied');
    await copyDevice(new MemoryDevice(bytes), new MemoryDevice(target), { start: failure.position });
    expectSame(target, bytes, 'the target after going on');
  });

  test('checkpoints never claim bytes that are not durable', async () => {
    const bytes = content(2048 * KiB, 11);
    const target = new Random(12).bytes(bytes.length);
    const random = new Random(13);
    const slow = new (class extends Filter {
      protected override async around<T>({ op }: BlockRequest, pass: () => Promise<T>): Promise<T> {
        if (op !== 'flush') await new Promise((resolve) => setTimeout(resolve, random.below(4)));
        return pass();
      }
    })(new MemoryDevice(target));
    let last = 0;
    let count = 0;
    await copyDevice(new SparseMemory(bytes, 37), slow, {
      chunkSize: 8 * KiB,
      checkpointMs: 0,
      checkpoint: async (position) => {
        expect(position).toBeGreaterThanOrEqual(last);
        last = position;
        count++;
        expectSame(target.subarray(0, position), bytes.subarray(0, position), `before ${position}`);
      },
    });
    expect(last).toBe(bytes.length);
    expect(count).toBeGreaterThan(3);
  });
});

describe('comparing', () => {
  test('finds one differing byte anywhere, also in a range that only one side knows to be zero', async () => {
    const random = new Random(21);
    for (let round = 0; round < 40; round++) {
      const bytes = content(512 * KiB, round);
      const other = bytes.slice();
      const at = random.below(bytes.length);
      other[at]! ^= 1 + random.below(255);
      const a = new SparseMemory(bytes, 50);
      const b = round % 2 ? new MemoryDevice(other) : new SparseMemory(other, 33);
      expect(await compareDevices(a, b, { chunkSize: 32 * KiB })).toBe(at);
    }
  });

  test('a failure to read is an error, not a difference', async () => {
    const a = new MemoryDevice(new Random(1).bytes(256 * KiB));
    const b = new FaultFilter(a, [{ on: ['read'], range: { offset: 200 * KiB, length: 1 }, action: 'io' }]);
    await expect(compareDevices(a, b, { chunkSize: 16 * KiB })).rejects.toMatchObject({ kind: 'io' });
  });
});

test('a source whose extents cannot be read is copied as data', async () => {
  const bytes = content(256 * KiB, 1);
  const from = new FaultFilter(new SparseMemory(bytes, 10), [{ on: ['extents'], action: 'unsupported' }]);
  const items: unknown[] = [];
  for await (const item of planCopy(from, 0, 64 * KiB, 512)) items.push(item);
  expect(items).toHaveLength(4);
  const to = new MemoryDevice(256 * KiB);
  await to.write(0, buffersOf(new Random(2).bytes(256 * KiB)));
  await copyDevice(from, to);
  expectSame(await readBytes(to, 0, bytes.length), bytes, 'the copy');
});
