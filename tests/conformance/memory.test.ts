import { expect, test } from 'vitest';
import { MemoryDevice, ReadyMemoryDevice } from '../../src/storage/memory.js';
import { expectKind, writeBytes } from '../../src/conformance/subject.js';
import { conformance } from './suite.js';

const size = 4 << 20;

conformance('memory', async () => ({ device: new MemoryDevice(size) }), {
  openReadOnly: async () => ({ device: new MemoryDevice(size, { readOnly: true }) }),
});

conformance('memory that answers at once', async () => ({ device: new ReadyMemoryDevice(size) }), {
  openReadOnly: async () => ({ device: new ReadyMemoryDevice(size, { readOnly: true }) }),
  facets: ['direct'],
});

const nothing = { flush: false, fua: false, trim: false, writeZeroes: false, extents: false, multiConnection: false };
conformance('memory that can do nothing by itself', async () => ({
  device: new MemoryDevice(size, { can: nothing, blockSize: 4096, maxTransfer: 65536 }),
}));
conformance('memory, flush for FUA', async () => ({
  device: new MemoryDevice(size, { can: { ...nothing, flush: true } }),
}));
conformance('memory, blocks of one byte, odd size', async () => ({
  device: new MemoryDevice(300_001, { blockSize: 1 }),
}));

test('memory that its owner has shrunk fails beyond its end, also for synchronous requests', async () => {
  // The compiler's library does not have resizable buffers yet (ES2024).
  const Resizable = ArrayBuffer as unknown as new (
    size: number,
    options: { maxByteLength: number },
  ) => ArrayBuffer & { resize(size: number): void };
  const buffer = new Resizable(size, { maxByteLength: size });
  const device = new ReadyMemoryDevice(new Uint8Array(buffer));
  buffer.resize(4096);
  const block = new Uint8Array(4096);
  expect(device.direct!.read(4096, block)).toBe(false);
  expect(device.direct!.write(4096, block)).toBe(false);
  await expectKind('io', writeBytes(device, 4096, block));
});
