import { expect, test } from 'vitest';
import { buffersOf, type Buffers } from '../../src/base/buffers.js';
import { ByteAccessFilter, byteAccess } from '../../src/block/filters/byte-access.js';
import { MemoryDevice, ReadyMemoryDevice } from '../../src/storage/memory.js';
import { expectKind, readBytes, writeBytes } from '../../src/conformance/subject.js';
import { nextIteration } from '../support/event-loop.js';

/** A disk whose writes take effect only when the test releases them, in the order of its list. */
class SlowDisk extends ReadyMemoryDevice {
  readonly writes: { readonly offset: number; readonly go: () => void }[] = [];

  protected override async doWrite(offset: number, from: Buffers): Promise<void> {
    await new Promise<void>((go) => this.writes.push({ offset, go }));
    return super.doWrite(offset, from);
  }

  async letGo(index = 0): Promise<void> {
    this.writes.splice(index, 1)[0]!.go();
    await nextIteration();
  }
}

test('a change of a byte waits for a change of its block in flight, although that took no lock', async () => {
  const disk = new SlowDisk(4096);
  const device = new ByteAccessFilter(disk);
  const whole = writeBytes(device, 0, new Uint8Array(512).fill(2));
  const part = writeBytes(device, 7, new Uint8Array([3]));
  await nextIteration();
  expect(disk.writes).toHaveLength(1);
  await disk.letGo();
  await whole;
  await disk.letGo();
  await part;
  expect([...(await readBytes(device, 5, 4))]).toEqual([2, 2, 3, 2]);
});

test('a change of a block waits for the change of its byte; other blocks do not', async () => {
  const disk = new SlowDisk(4096);
  const device = new ByteAccessFilter(disk);
  const part = writeBytes(device, 7, new Uint8Array([3]));
  await nextIteration();
  const whole = writeBytes(device, 0, new Uint8Array(512).fill(2));
  expect(device.direct!.write(0, new Uint8Array(512))).toBe(false);
  const zero = device.writeZeroes(0, 512);
  const other = writeBytes(device, 512, new Uint8Array(512).fill(4));
  await nextIteration();
  expect(disk.writes.map(({ offset }) => offset)).toEqual([0, 512]);
  await disk.letGo(1);
  await other;
  await disk.letGo();
  await part;
  await nextIteration();
  await disk.letGo();
  await Promise.all([whole, zero]);
  expect(await readBytes(device, 0, 8)).toEqual(new Uint8Array(8));
});

test('requests of whole blocks pass through unchanged until a part of a block is changed', async () => {
  const disk = new ReadyMemoryDevice(4096);
  const device = new ByteAccessFilter(disk);
  const promise = Promise.resolve();
  disk.read = disk.write = disk.flush = disk.trim = disk.writeZeroes = () => promise;
  const block = buffersOf(new Uint8Array(512));
  expect(device.read(0, block)).toBe(promise);
  expect(device.write(512, block)).toBe(promise);
  expect(device.writeZeroes(0, 1024)).toBe(promise);
  expect(device.trim(0, 1024)).toBe(promise);
  expect(device.flush()).toBe(promise);
  expect(device.direct!.write(0, new Uint8Array(512))).toBe(true);
  expect(device.direct!.read(0, new Uint8Array(512))).toBe(true);
});

test('a change that is cancelled while it waits changes nothing and lets the next one pass', async () => {
  const disk = new SlowDisk(4096);
  const device = new ByteAccessFilter(disk);
  const first = writeBytes(device, 1, new Uint8Array([1]));
  const stop = new AbortController();
  const second = expectKind('aborted', writeBytes(device, 2, new Uint8Array([2]), { signal: stop.signal }));
  const third = writeBytes(device, 3, new Uint8Array([3]));
  await nextIteration();
  stop.abort();
  await disk.letGo();
  await second;
  await disk.letGo();
  await Promise.all([first, third]);
  expect([...(await readBytes(device, 0, 5))]).toEqual([0, 1, 0, 3, 0]);
});

test('a close waits for a change between its read and its write', async () => {
  const disk = new SlowDisk(4096);
  const device = new ByteAccessFilter(disk);
  const part = writeBytes(device, 1, new Uint8Array([1]));
  const closed = device.close();
  await nextIteration();
  await disk.letGo();
  await part;
  await closed;
});

test('a read-only device refuses, and one with blocks of one byte is used directly', async () => {
  const device = byteAccess(new MemoryDevice(4096, { readOnly: true }));
  await expectKind('read-only', writeBytes(device, 1, new Uint8Array(1)));
  await expectKind('read-only', device.trim(1, 1));
  await expectKind('read-only', device.writeZeroes(1, 1));
  const bytes = new MemoryDevice(4096, { blockSize: 1 });
  expect(byteAccess(bytes)).toBe(bytes);
});

test('waits for changes begun earlier, not for later ones', async () => {
  const disk = new SlowDisk(4096);
  await disk.settled();
  const first = writeBytes(disk, 0, new Uint8Array(512));
  const order: string[] = [];
  const one = disk.settled().then(() => order.push('one'));
  const second = writeBytes(disk, 512, new Uint8Array(512));
  const two = disk.settled().then(() => order.push('two'));
  const three = disk.settled().then(() => order.push('three'));
  await nextIteration();
  await disk.letGo(1);
  await second;
  await nextIteration();
  expect(order).toEqual([]);
  await disk.letGo();
  await first;
  await Promise.all([one, two, three]);
  expect(order).toEqual(['one', 'two', 'three']);
});
