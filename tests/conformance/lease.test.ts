import { LeaseArbiter } from '../../src/block/filters/lease.js';
import { MemoryDevice, ReadyMemoryDevice } from '../../src/storage/memory.js';
import { Random } from '../../src/conformance/random.js';
import { conformance } from './suite.js';

conformance('side that has the lease', async () => ({
  device: new LeaseArbiter(new MemoryDevice(new Random(99).bytes(2 << 20)), ['a', 'b'], 'b').side('b'),
}));

conformance(
  'side that has the lease, of memory that answers at once',
  async () => {
    const device = new ReadyMemoryDevice(new Random(99).bytes(2 << 20));
    return { device: new LeaseArbiter(device, ['a', 'b'], 'b').side('b') };
  },
  { facets: ['direct'] },
);
