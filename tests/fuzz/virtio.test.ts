/**
 * A guest that writes nonsense into the registers and rings of its virtio network card, with no
 * processor. The card may stop, but never throw, never leave guest memory, never work for ever, and
 * a reset must revive it.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Common, NetworkQueue } from '../../src/spec/virtio.js';
import { nextIteration } from '../support/event-loop.js';
import { VirtioDriver } from '../support/virtio-driver.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';

const runs = inputsWanted(300, 10_000);

const dword = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0, max: 16 }),
  fc.constantFrom(0x0f, 0x07, 0x80, 0xffff, 0x10000, 0x11000, 0x400000, 0xfffffff0),
);
const offset = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...Object.values<number>(Common)) },
  fc.constantFrom(0x400, 0x800, 0x1000, 0x1004, 0x1004, 0x1008),
  fc.integer({ min: 0, max: 0x3fff }),
);
const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), offset, size: fc.constantFrom(1, 2, 4), value: dword }),
  fc.record({ kind: fc.constant('read' as const), offset, size: fc.constantFrom(1, 2, 4), value: dword }),
  // Rings and descriptors, which begin at 0x10000; and a frame from the network.
  fc.record({
    kind: fc.constantFrom('poke' as const, 'poke' as const, 'frame' as const),
    offset: fc.integer({ min: 0, max: 0x1800 }).map((number) => number * 4),
    size: fc.constantFrom(14, 60, 1514, 1518, 9000),
    value: dword,
  }),
);

it(
  'survives random accesses and rings, and works after a reset',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(step, { maxLength: 120 }), fc.boolean(), async (steps, messages) => {
        const driver = new VirtioDriver({ messages });
        driver.start();
        for (let i = 0; i < 4; i++) driver.offer();
        for (const { kind, offset, size, value } of steps) {
          if (kind === 'write') driver.write(offset, size, value);
          else if (kind === 'read') expect(Number.isInteger(driver.read(offset, size))).toBe(true);
          else if (kind === 'poke') driver.memory.data(0x10000 + offset, 4).setUint32(0, value, true);
          else driver.card.receive(new Uint8Array(size));
        }
        for (let i = 0; i < 3; i++) await nextIteration();
        works(driver);
      }),
      runs,
    );
  },
  patience,
);

it(
  'follows chains of any shape',
  async () => {
    const descriptor = fc.record({
      address: fc.oneof(fc.integer({ min: 0, max: 0x3ff000 }), fc.constantFrom(0x3fffff, 0x400000, 2 ** 40, 2 ** 53)),
      length: fc.oneof(fc.integer({ min: 0, max: 4096 }), fc.constantFrom(0x400000, 0xffffffff)),
      flags: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(0, 1, 2, 3) }, fc.integer({ min: 0, max: 0xffff })),
      next: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: 7 }) }, fc.constantFrom(8, 0xffff)),
    });
    const heads = fc.array(fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: 7 }) }, fc.constant(8)), {
      minLength: 1,
      maxLength: 9,
    });
    const table = fc.array(descriptor, { minLength: 8, maxLength: 8 });
    await attack(
      fc.asyncProperty(table, heads, fc.constantFrom(0, 1), async (descriptors, heads, index) => {
        const driver = new VirtioDriver();
        driver.start();
        const queue = driver.queues[index]!;
        descriptors.forEach(({ address, length, flags, next }, i) => {
          const at = driver.memory.data(queue.descriptors + 16 * i, 16);
          at.setBigUint64(0, BigInt(address), true);
          at.setUint32(8, length, true);
          at.setUint16(12, flags, true);
          at.setUint16(14, next, true);
        });
        heads.forEach((head, i) => driver.memory.data(queue.available + 4 + 2 * (i % 8), 2).setUint16(0, head, true));
        driver.memory.data(queue.available, 4).setUint16(2, heads.length, true);
        driver.notify(index);
        for (let i = 0; i < heads.length; i++) driver.card.receive(new Uint8Array(60));
        expect(driver.sent.every(({ length }) => length >= 14 && length <= 1518)).toBe(true);
        await nextIteration();
        works(driver);
      }),
      runs,
    );
  },
  patience,
);

/** Resets the card; it then sends and receives. */
function works(driver: VirtioDriver): void {
  driver.start();
  driver.sent.length = 0;
  driver.send(new Uint8Array(60).fill(7));
  driver.offer();
  expect(driver.card.receive(new Uint8Array(60))).toBe('taken');
  expect(driver.sent).toEqual([new Uint8Array(60).fill(7)]);
  expect([driver.taken(NetworkQueue.transmit).length, driver.taken(NetworkQueue.receive).length]).toEqual([1, 1]);
}
