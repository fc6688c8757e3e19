import { DelayFilter } from '../../src/block/filters/delay.js';
import { MergeFilter } from '../../src/block/filters/merge.js';
import { ReadAheadFilter } from '../../src/block/filters/readahead.js';
import { ReadOnlyFilter } from '../../src/block/filters/read-only.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { JitterFilter } from '../unit/jitter.js';
import { Random } from '../../src/conformance/random.js';
import { conformance } from './suite.js';

const size = 2 << 20;
const memory = (options?: ConstructorParameters<typeof MemoryDevice>[1]): MemoryDevice =>
  new MemoryDevice(new Random(99).bytes(size), options);
const small = { pieceSize: 8192, maxWindow: 65536, maxBytes: 131072 };

conformance('read-ahead', async () => ({ device: new ReadAheadFilter(memory()) }), {
  openReadOnly: async () => ({ device: new ReadAheadFilter(new ReadOnlyFilter(memory())) }),
});
conformance('read-ahead in small pieces, of a device that does as it likes', async () => ({
  device: new ReadAheadFilter(new JitterFilter(memory(), 5), small),
}));
conformance('read-ahead of blocks of 4096, in pieces of one block, memory for two', async () => ({
  device: new ReadAheadFilter(memory({ blockSize: 4096 }), { pieceSize: 4096, maxWindow: 8192, maxBytes: 8192 }),
}));
conformance('read-ahead of an odd size, blocks of one byte', async () => ({
  device: new ReadAheadFilter(new MemoryDevice(1_000_003, { blockSize: 1 }), small),
}));

conformance('merge', async () => ({ device: new MergeFilter(memory()) }), {
  openReadOnly: async () => ({ device: new MergeFilter(new ReadOnlyFilter(memory())) }),
});
conformance('merge, one request at a time, of a device that does as it likes', async () => ({
  device: new MergeFilter(new JitterFilter(memory(), 6), { depth: 1, maxGap: 65536 }),
}));
conformance(
  'merge over read-ahead over a far device',
  async () => {
    const far = new DelayFilter(memory(), { read: 1, write: 1 });
    return { device: new MergeFilter(new ReadAheadFilter(far, small), { depth: 4 }) };
  },
  { steps: 100, region: 256 << 10 },
);
