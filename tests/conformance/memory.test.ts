import { MemoryDevice } from '../../src/storage/memory.js';
import { conformance } from './suite.js';

const size = 4 << 20;

conformance('memory', async () => ({ device: new MemoryDevice(size) }), {
  openReadOnly: async () => ({ device: new MemoryDevice(size, { readOnly: true }) }),
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
