import { describe, expect, it, test } from 'vitest';
import { FarbusError } from '../../src/base/errors.js';
import { FaultFilter } from '../../src/block/filters/fault.js';
import { TraceFilter } from '../../src/block/filters/trace.js';
import { openPartition } from '../../src/probe/partition.js';
import { probeDisk } from '../../src/probe/probe.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { expectKind } from '../../src/conformance/subject.js';
import { diskOf, gptDisk, putMbr, sealGpt } from './probe-disks.js';

describe('MBR', () => {
  it('an empty disk has no partitions', async () => {
    expect(await probeDisk(new MemoryDevice(1 << 20))).toEqual({ problems: [] });
    expect(await probeDisk(new MemoryDevice(0))).toEqual({ problems: [] });
    expect(await probeDisk(new MemoryDevice(512))).toEqual({ problems: [] });
  });

  it('a chain of logical partitions that is a circle ends', async () => {
    const disk = new Uint8Array(1 << 20);
    putMbr(disk, 0, [{ type: 0x05, start: 64, count: 1000 }]);
    putMbr(disk, 64, [
      { type: 0x83, start: 1, count: 8 },
      { type: 0x05, start: 100, count: 100 },
    ]);
    putMbr(disk, 164, [
      { type: 0x83, start: 1, count: 8 },
      { type: 0x05, start: 0, count: 100 },
    ]);
    const { table, problems } = await probeDisk(diskOf(disk));
    expect(table!.partitions.map(({ number, start }) => [number, start / 512])).toEqual([
      [1, 64],
      [5, 65],
      [6, 165],
    ]);
    expect(problems.join()).toContain('circle');
  });

  it('a chain without an end is cut', async () => {
    const disk = new Uint8Array(1 << 20);
    putMbr(disk, 0, [{ type: 0x0f, start: 1, count: 1000 }]);
    for (let at = 1; at < 1500; at++) {
      putMbr(disk, at, [
        { type: 0x83, start: 1, count: 1 },
        { type: 0x05, start: at, count: 1 },
      ]);
    }
    const { table, problems } = await probeDisk(diskOf(disk));
    expect(table!.partitions).toHaveLength(129);
    expect(problems.join()).toContain('more than 128');
  });

  it('reports partitions beyond the end and overlaps', async () => {
    const disk = new Uint8Array(1 << 20);
    putMbr(disk, 0, [
      { type: 0x83, start: 64, count: 100 },
      { type: 0x83, start: 100, count: 0xffffffff },
    ]);
    const { table, problems } = await probeDisk(diskOf(disk));
    expect(table!.partitions).toHaveLength(2);
    expect(problems).toEqual(['partition 2 reaches beyond the end of the disk', 'partitions 1 and 2 overlap']);
  });
});

describe('GPT', () => {
  const problemsOf = async (disk: Uint8Array): Promise<string> => (await probeDisk(diskOf(disk))).problems.join('\n');

  it('is read, and a missing backup is reported', async () => {
    const { table, problems } = await probeDisk(diskOf(gptDisk()));
    expect(table).toMatchObject({ kind: 'gpt', partitions: [{ number: 1, start: 40 * 512, size: 60 * 512 }] });
    expect(problems).toEqual(['the backup of the GPT is missing']);
  });

  it.each([
    ['header', 512 + 60],
    ['entries', 1024 + 50],
  ])('a changed byte in its %s is damage', async (what, at) => {
    const disk = gptDisk();
    disk[at]! ^= 1;
    expect(await problemsOf(disk)).toContain(`damaged ${what === 'header' ? 'header' : 'entries'}`);
  });

  it.each([
    ['an absurd number of entries', 80, 0xffffffff],
    ['no entries', 80, 0],
    ['entries of no length', 84, 0],
    ['entries of odd length', 84, 129],
    ['a header longer than a sector', 12, 4096],
    ['a header too short', 12, 10],
  ])('%s is damage, though the checksum is right', async (_, at, value) => {
    const disk = gptDisk();
    new DataView(disk.buffer).setUint32(512 + at, value, true);
    sealGpt(disk, 512);
    expect(await problemsOf(disk)).toContain('damaged');
  });

  it('entries somewhere beyond the disk are damage', async () => {
    const disk = gptDisk();
    new DataView(disk.buffer).setBigUint64(512 + 72, 2n ** 63n, true);
    sealGpt(disk, 512);
    expect(await problemsOf(disk)).toContain('damaged entries');
  });

  it('a partition that ends before it begins, or is too long for a number, is ignored', async () => {
    for (const end of [3n, 2n ** 64n - 1n]) {
      const disk = gptDisk();
      new DataView(disk.buffer).setBigUint64(1024 + 40, end, true);
      sealGpt(disk, 512);
      expect(await problemsOf(disk)).toContain('partition 1 ends before it begins');
    }
  });
});

describe('reading', () => {
  it('a block that cannot be read is reported, and the rest is found', async () => {
    const device = new FaultFilter(diskOf(gptDisk(1024)), [
      { on: ['read'], range: { offset: 1023 * 512, length: 512 }, action: 'io' },
    ]);
    const { table, problems } = await probeDisk(device);
    expect(table!.partitions).toHaveLength(1);
    expect(problems.join()).toContain('cannot be read at byte 523776');
  });

  it('a device that is gone is an error', async () => {
    const device = new FaultFilter(new MemoryDevice(1 << 20), [{ action: 'unreachable' }]);
    await expectKind('unreachable', probeDisk(device));
  });

  it('reads little of a large empty disk', async () => {
    let bytes = 0;
    const device = new TraceFilter(new MemoryDevice(64 << 20), ({ length }) => (bytes += length));
    await probeDisk(device);
    expect(bytes).toBeLessThanOrEqual(12 * 65536);
  });
});

describe('a partition as a device', () => {
  test('is its part of the disk', async () => {
    const disk = gptDisk();
    disk.fill(0x5a, 40 * 512, 100 * 512);
    const part = await openPartition(diskOf(disk), 1);
    expect(part.info.size).toBe(60 * 512);
    await part.close();
  });

  test('one that does not exist, is extended, or reaches beyond the disk is refused', async () => {
    const disk = new Uint8Array(1 << 20);
    putMbr(disk, 0, [
      { type: 0x05, start: 64, count: 64 },
      { type: 0x83, start: 200, count: 1 << 20 },
    ]);
    putMbr(disk, 64, []);
    for (const [number, message] of [
      [1, /no partition 1: it has 2/],
      [7, /no partition 7/],
      [2, /beyond the end/],
    ] as const) {
      const failure = await openPartition(diskOf(disk), number).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(FarbusError);
      expect((failure as FarbusError).message).toMatch(message);
    }
  });
});
