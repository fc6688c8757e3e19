import { describe } from 'vitest';
import { MemoryDevice, ReadyMemoryDevice } from '../../src/storage/memory.js';
import { aoePair } from '../support/aoe.js';
import { conformance as oneConformance } from './suite.js';

const size = 4 << 20;
/**
 * A segment that loses frames makes the suite wait for timeouts, so it gets little to do there. The
 * region is still larger than a jumbo frame and than the congestion window at its start.
 */
const all = process.env['FARBUS_TEST_ALL'] !== undefined;
const onBadSegment = all ? { region: 256 << 10, steps: 100 } : { region: 64 << 10, steps: 30 };

/** The suites wait for timeouts most of the time, so they run beside each other. */
const conformance: typeof oneConformance = (name, ...rest) => {
  describe.concurrent(name, () => {
    describe.sequential('alone', () => oneConformance(name, ...rest));
  });
};

conformance('AoE over a hub, jumbo frames', () => aoePair(new MemoryDevice(size)), {
  openReadOnly: () => aoePair(new MemoryDevice(size), { target: { readOnly: true } }),
});

conformance('AoE, two sectors a frame, a target that promises no durability', () =>
  aoePair(
    new MemoryDevice(size, {
      can: { flush: false, fua: false, trim: false, writeZeroes: false, extents: false, multiConnection: true },
    }),
    { hub: { mtu: 1500 } },
  ),
);

conformance('AoE without sessions', () => aoePair(new MemoryDevice(size), { target: { sessions: false } }));

const bad = { loss: 0.1, duplication: 0.05, reordering: 0.1, reorderMs: 5, seed: 3 };
conformance(
  'AoE, 10 % loss, 5 % duplication, reordering',
  () => aoePair(new MemoryDevice(size), { hub: { faults: bad } }),
  onBadSegment,
);

conformance(
  'AoE without sessions, 5 % loss, reordering',
  () =>
    aoePair(new MemoryDevice(size), {
      hub: { faults: { ...bad, loss: 0.05, duplication: 0 } },
      target: { sessions: false },
      initiator: { frameLifetimeMs: 10 },
    }),
  onBadSegment,
);

const damaging = { ...bad, loss: 0.05, truncation: 0.03 };
conformance(
  'AoE, 5 % loss, 3 % of frames cut',
  () => aoePair(new MemoryDevice(size), { hub: { faults: damaging } }),
  onBadSegment,
);

// Only the headers: no checksum of AoE or Farbus covers the data.
const turning = { ...bad, loss: 0.02, flips: 0.03, flipsWithin: 22 };
conformance(
  'AoE, 3 % of headers with a turned bit',
  () => aoePair(new MemoryDevice(size), { hub: { faults: turning } }),
  {
    region: 256 << 10,
    steps: 100,
  },
);

/** Like a file in the page cache: answers synchronously, except at every hundredth call. */
class ReadyDevice extends ReadyMemoryDevice {
  #calls = 0;
  protected override readDirect(offset: number, into: Uint8Array): boolean {
    return ++this.#calls % 100 !== 0 && super.readDirect(offset, into);
  }
  protected override writeDirect(offset: number, from: Uint8Array): boolean {
    return ++this.#calls % 100 !== 0 && super.writeDirect(offset, from);
  }
}

conformance('AoE, a device that answers at once', () => aoePair(new ReadyDevice(new Uint8Array(size))));

conformance(
  'AoE, a device that answers at once, 10 % loss, 5 % duplication, reordering',
  () => aoePair(new ReadyDevice(new Uint8Array(size)), { hub: { faults: bad } }),
  onBadSegment,
);
