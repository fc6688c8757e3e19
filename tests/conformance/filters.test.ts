import type { BlockDevice } from '../../src/block/device.js';
import { openCache, layoutOfCache } from '../../src/block/filters/cache-store.js';
import { DelayFilter } from '../../src/block/filters/delay.js';
import { FaultFilter, type FaultRule } from '../../src/block/filters/fault.js';
import { Filter } from '../../src/block/filters/filter.js';
import { ByteAccessFilter } from '../../src/block/filters/byte-access.js';
import { createOverlay, overlayStoreSize } from '../../src/block/filters/overlay-store.js';
import { KeptOpenFilter } from '../../src/block/filters/kept-open.js';
import { RateFilter, RateLimit } from '../../src/block/filters/rate.js';
import { RecordingFilter, WriteLog } from '../../src/block/filters/record.js';
import { ReadOnlyFilter } from '../../src/block/filters/read-only.js';
import { SliceFilter } from '../../src/block/filters/slice.js';
import { TraceFilter } from '../../src/block/filters/trace.js';
import { MeterFilter } from '../../src/export/meter.js';
import { MemoryDevice, ReadyMemoryDevice } from '../../src/storage/memory.js';
import { openCacheFile } from '../../src/storage/cache-file.node.js';
import { openFile } from '../../src/storage/file.node.js';
import { openPath } from '../../src/storage/open.node.js';
import { openOverlayFile } from '../../src/storage/overlay-file.node.js';
import { hasKoffi } from '../support/koffi.js';
import { tempPath, tempImage } from '../support/temp.js';
import { Random } from '../../src/conformance/random.js';
import { conformance } from './suite.js';

const size = 2 << 20;
const content = (length = size): Uint8Array => new Random(99).bytes(length);
const ready = (): MemoryDevice => new ReadyMemoryDevice(content());
const memory = (length = size): MemoryDevice => new MemoryDevice(content(length));

async function overlay(base: BlockDevice, clusterSize?: number): Promise<BlockDevice> {
  const store = new MemoryDevice(overlayStoreSize(base, { clusterSize }), { blockSize: 1 });
  return createOverlay(base, store, { clusterSize });
}

const readOnly = (device: BlockDevice): BlockDevice => new ReadOnlyFilter(device);

conformance('filter that does nothing', async () => ({ device: new Filter(memory()) }), {
  openReadOnly: async () => ({ device: readOnly(memory()) }),
});
conformance('trace', async () => ({ device: new TraceFilter(memory(), () => undefined) }));
conformance('fault without rules', async () => ({ device: new FaultFilter(memory()) }));
conformance('fault whose zeroing and trimming do not work', async () => ({
  device: new FaultFilter(memory(), [{ on: ['writeZeroes'], action: 'unsupported' }]),
}));
conformance('kept open', async () => ({ device: new KeptOpenFilter(ready()) }), {
  openReadOnly: async () => ({ device: new KeptOpenFilter(readOnly(ready())) }),
  facets: ['direct'],
});
conformance('delay', async () => ({ device: new DelayFilter(memory(), { read: 1, write: 1, flush: 1 }) }), {
  steps: 60,
  region: 256 << 10,
});
conformance('recording', async () => ({ device: new RecordingFilter(memory(), new WriteLog()) }));
conformance('slice', async () => ({ device: new SliceFilter(memory(), 512, size - 1536) }));
conformance(
  'slice of memory that answers at once',
  async () => ({ device: new SliceFilter(ready(), 512, size - 1536) }),
  {
    openReadOnly: async () => ({ device: readOnly(new SliceFilter(ready(), 512, size - 1536)) }),
    facets: ['direct'],
  },
);
const sliced = tempImage(content());
conformance(
  'slice of a file',
  async () => ({ device: new SliceFilter(await openPath(sliced), 4096 + 512, size - 8192) }),
  { persistent: true, facets: hasKoffi ? ['direct', 'files'] : [] },
);
conformance(
  'meter over byte access over a file of blocks of 4096',
  async () => ({ device: new MeterFilter(new ByteAccessFilter(await openFile(sliced, { blockSize: 4096 }))) }),
  { persistent: true, facets: hasKoffi ? ['direct', 'files'] : [] },
);
// These must see every request, or hold data that the device below has not.
conformance('trace over memory that answers at once', async () => ({
  device: new TraceFilter(ready(), () => undefined),
}));
conformance('overlay over memory that answers at once', async () => ({ device: await overlay(readOnly(ready())) }));

conformance('overlay in memory', async () => ({ device: await overlay(readOnly(memory())) }));
conformance('overlay of an odd size, blocks of one byte', async () => ({
  device: await overlay(new MemoryDevice(content(1_000_003), { blockSize: 1, readOnly: true })),
}));
conformance('overlay of whole sectors but no whole clusters, large clusters', async () => ({
  device: await overlay(memory(size - 1536), 65536),
}));
conformance('overlay of blocks of 4096', async () => ({
  device: await overlay(new MemoryDevice(content(), { blockSize: 4096 }), 16384),
}));
conformance('overlay over an overlay', async () => ({ device: await overlay(await overlay(memory())) }));

const base = tempImage(content());
const file = tempPath('overlay');
conformance(
  'overlay file over a file',
  async () => ({ device: await openOverlayFile(await openPath(base, { readOnly: true }), file) }),
  { persistent: true },
);
const plain = tempPath('overlay');
conformance(
  'overlay file over a file, without koffi',
  async () => {
    const native = false;
    return { device: await openOverlayFile(await openPath(base, { readOnly: true, native }), plain, { native }) };
  },
  { persistent: true },
);
conformance(
  'delay over fault over trace over slice of an overlay file over a sparse file',
  async () => {
    const top = await openOverlayFile(await openPath(tempImage(4 << 20), { readOnly: true }), tempPath('overlay'));
    const traced = new TraceFilter(new SliceFilter(top, 4096, 3 << 20), () => undefined);
    return { device: new DelayFilter(new FaultFilter(traced), { flush: 1 }) };
  },
  { steps: 200 },
);
conformance(
  'delay over an overlay over a far base',
  async () => {
    const far = new DelayFilter(readOnly(memory()), { read: 1, extents: 1 });
    return { device: new DelayFilter(await overlay(far), { write: 1 }) };
  },
  { steps: 100, region: 256 << 10 },
);

const small = { cacheSize: 256 << 10, clusterSize: 4096 };
async function cache(device: BlockDevice, faults: FaultRule[] = []): Promise<BlockDevice> {
  const store = new MemoryDevice(layoutOfCache(device, small).storeSize, { blockSize: 512 });
  return openCache(device, new FaultFilter(store, faults), small);
}
conformance('cache smaller than what is used', async () => ({ device: await cache(memory()) }), {
  openReadOnly: async () => ({ device: await cache(readOnly(memory())) }),
});
conformance('cache whose store fails now and then', async () => ({
  device: await cache(memory(), [{ on: ['read', 'write'], skip: 1, probability: 0.2, action: 'io' }]),
}));
const cached = tempImage(content());
const kept = tempPath('cache');
conformance(
  'cache file over a file, kept',
  async () => ({ device: await openCacheFile(await openPath(cached), kept, { keep: true }) }),
  { persistent: true },
);
const odd = tempImage(content(1_000_003));
conformance('cache file over a file of an odd size', async () => ({
  device: await openCacheFile(await openPath(odd), tempPath('cache')),
}));
conformance('rate', async () => ({ device: new RateFilter(memory(), new RateLimit(64 << 20)) }), { steps: 100 });
conformance(
  'rate over memory that answers at once',
  async () => ({ device: new RateFilter(ready(), new RateLimit(64 << 20)) }),
  { steps: 100, facets: ['direct'] },
);
conformance(
  'rate over a cache over a far device',
  async () => {
    const far = new DelayFilter(memory(), { read: 1, write: 1 });
    return { device: new RateFilter(await cache(far), new RateLimit(64 << 20)) };
  },
  { steps: 60, region: 256 << 10 },
);
