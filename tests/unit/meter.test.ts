import { expect, test } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { MeterFilter } from '../../src/export/meter.js';
import { MemoryDevice } from '../../src/storage/memory.js';

/** Memory that answers synchronously. */
class Prompt extends MemoryDevice {
  protected override doReadNow(): boolean {
    return true;
  }

  protected override doWriteNow(): boolean {
    return true;
  }
}

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);

test('counts each request once, synchronous or not', async () => {
  const device = new MeterFilter(new Prompt(1 << 20));
  const bytes = new Uint8Array(4096).fill(7);
  expect(device.writeNow(0, bytes)).toBe(true);
  await device.write(4096, buffersOf(bytes));
  expect(device.readNow(0, bytes)).toBe(true);
  await device.read(4096, buffersOf(bytes));
  expect(sum(device.counts.read.buckets)).toBe(2);
  expect(sum(device.counts.write.buckets)).toBe(2);
  // A request that is declined synchronously comes again.
  const slow = new MeterFilter(new MemoryDevice(1 << 20));
  expect(slow.readNow(0, bytes)).toBe(false);
  await slow.read(0, buffersOf(bytes));
  expect(sum(slow.counts.read.buckets)).toBe(1);
});
