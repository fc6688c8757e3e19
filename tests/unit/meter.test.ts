import { expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { MeterFilter } from '../../src/export/meter.js';
import { MemoryDevice, ReadyMemoryDevice } from '../../src/storage/memory.js';

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

test('counts each request once, synchronous or not', async () => {
  const device = new MeterFilter(new ReadyMemoryDevice(1 << 20));
  const bytes = new Uint8Array(4096).fill(7);
  expect(device.direct!.write(0, bytes)).toBe(true);
  await device.write(4096, buffersOf(bytes));
  expect(device.direct!.read(0, bytes)).toBe(true);
  await device.read(4096, buffersOf(bytes));
  expect(sum(device.counts.read.buckets)).toBe(2);
  expect(sum(device.counts.write.buckets)).toBe(2);
  // A request that is declined synchronously comes again.
  class Slow extends ReadyMemoryDevice {
    protected override readDirect(): boolean {
      return false;
    }
  }
  const slow = new MeterFilter(new Slow(1 << 20));
  expect(slow.direct!.read(0, bytes)).toBe(false);
  await slow.read(0, buffersOf(bytes));
  expect(sum(slow.counts.read.buckets)).toBe(1);
  expect(new MeterFilter(new MemoryDevice(1 << 20)).direct).toBeUndefined();
});
