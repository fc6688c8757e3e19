/**
 * A guest that writes nonsense to the engine's IDE controller with far disks on it: random
 * registers, commands, region tables, data and resets in the middle, with no processor. A drive may
 * answer with any error, but never throw, never leave guest memory, never write what no write
 * command named, and a reset must revive it.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { sectorCommands } from '../../src/spec/ata.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { GatedDisk } from '../support/gated-disk.js';
import { IdeBoard, Port } from '../support/ide-board.js';
import { inputsWanted, patience } from './harness/loop.js';
import { GuestDisks, guestDiskSize } from './harness/guest-disks.js';
import { attack } from './harness/property.js';
import { nextIteration } from '../support/event-loop.js';

const runs = inputsWanted(150, 3000);
const size = guestDiskSize;

const slaveBytes = new Uint8Array(size).fill(0x77);
const slave = new MemoryDevice(slaveBytes, { readOnly: true });
let board: IdeBoard;
let disks: GuestDisks;

beforeAll(async () => {
  disks = await GuestDisks.open();
  board = await IdeBoard.create(disks.gateway, slave);
});
afterAll(async () => {
  await board.close();
  await disks.close();
});

/** The commands that v86's drives have: not those with FUA, and none that are queued. */
const known = new Map([...sectorCommands].filter(([, { fua, queued }]) => !fua && !queued));
const commandByte = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...known.keys()) },
  fc.constantFrom(0xec, 0xe7, 0xea, 0xef, 0xc6, 0x90, 0x08, 0xa0, 0xa1, 0xe0, 0x10, 0xf8, 0x27, 0),
  fc.integer({ min: 0, max: 255 }),
);
const port = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...Object.values<number>(Port)) },
  fc.integer({ min: 0x1f0, max: 0x1f7 }),
  fc.integer({ min: 0x170, max: 0x177 }),
  fc.integer({ min: 0xb400, max: 0xb40f }),
);
const value = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0, max: 16 }),
  fc.constantFrom(0x40, 0x50, 0xe0, 0xf0, 0x1000, 0x1004, 0x3ffff8, 0x400000, 0xfffffff8, 0xfffffffc),
);
const step = fc.oneof(
  fc.record({ kind: fc.constant('out' as const), port, value, size: fc.constantFrom(1, 1, 2, 4) }),
  fc.record({ kind: fc.constant('in' as const), port, size: fc.constantFrom(1, 2, 4) }),
  fc.record({ kind: fc.constant('command' as const), value: commandByte }),
  fc.record({ kind: fc.constant('data' as const), words: fc.integer({ min: 1, max: 300 }), write: fc.boolean() }),
  fc.record({ kind: fc.constant('start' as const), value: fc.constantFrom(0, 1, 9) }),
  fc.record({ kind: fc.constant('poke' as const), at: fc.integer({ min: 0, max: 64 }), value }),
  fc.record({ kind: fc.constant('reset' as const) }),
  fc.record({ kind: fc.constant('wait' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function take(on: IdeBoard, one: Step): Promise<void> | void {
  switch (one.kind) {
    case 'out':
      return on.out(one.port, one.value, one.size);
    case 'in':
      return expect(Number.isInteger(on.in(one.port, one.size))).toBe(true);
    case 'command':
      return on.out(Port.command, one.value);
    case 'data':
      return void (one.write ? on.write(new Uint8Array(2 * one.words).fill(0x5a)) : on.read(one.words));
    case 'start':
      return on.out(Port.busMaster, one.value);
    case 'poke':
      return on.memory.data(0x1000 + 4 * one.at, 4).setUint32(0, one.value, true);
    case 'reset':
      on.out(Port.control, 4);
      return on.out(Port.control, 0);
    case 'wait':
      return nextIteration();
  }
}

/** Both drives are used by DMA and at the data port. */
async function revive(on: IdeBoard, second = true): Promise<void> {
  await on.reset();
  for (const slave of second ? [false, true] : [false]) {
    on.issue({ command: 0xec, slave });
    expect((await on.ended()) & 0x89).toBe(0x08);
    expect(new TextDecoder().decode(on.read(256).subarray(20, 26))).toBe('ESIRLA');
    on.describe(0x8000, [[0x10000, 4096]]);
    on.issue({ command: 0x25, lba: 8, count: 8, slave, wide: true });
    expect((await on.transfer(true)) & 0xa1).toBe(0);
    expect(on.in(Port.busMasterStatus) & 3).toBe(0);
  }
}

it(
  'survives random accesses, and works after a reset',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(step, { maxLength: 150 }), async (steps) => {
        await board.reset();
        for (const one of steps) await take(board, one);
        await revive(board);
        expect(slaveBytes.every((byte) => byte === 0x77)).toBe(true);
      }),
      runs,
    );
  },
  patience,
);

const place = fc.oneof(
  fc.constantFrom(0x10000, 0x10002, 0x10001, 0x3ff000, 0x3ffffe, 0x400000, 0xfffffffe, 0),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const task = fc.record({
  command: fc.oneof(fc.constantFrom(...known.keys()), fc.integer({ min: 0, max: 255 })),
  lba: fc.oneof(fc.integer({ min: 0, max: 2100 }), fc.integer({ min: 0, max: 2 ** 48 - 1 })),
  count: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 0, max: 0xffff })),
  features: fc.integer({ min: 0, max: 255 }),
  slave: fc.boolean(),
  wide: fc.boolean(),
  regions: fc.array(fc.tuple(place, fc.integer({ min: 0, max: 0xffff })), { minLength: 1, maxLength: 8 }),
  table: fc.oneof({ weight: 5, arbitrary: fc.constant(0x1000) }, place),
  words: fc.integer({ min: 0, max: 5000 }),
  start: fc.constantFrom(1, 9),
});

it(
  'completes every command, whatever its content, and reports errors as ATA does',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(task, { minLength: 1, maxLength: 20 }), async (tasks) => {
        await board.reset();
        for (const { regions, table, words, start, ...given } of tasks) {
          board.describe(0x1000, regions);
          board.out(Port.descriptors, table, 4);
          board.issue(given);
          const sectors = known.has(given.command);
          const wide = known.get(given.command)?.wide ?? false;
          const lba = wide === given.wide ? given.lba % 2 ** (wide ? 48 : 28) : undefined;
          if (sectors && lba !== undefined && lba >= size / 512) {
            expect(board.status & 0x89, 'an error, not busy, no data').toBe(0x01);
            expect(board.in(Port.features)).toBe(0x10);
          }
          if (board.status & 0x08) {
            board.out(Port.busMaster, start);
            for (let i = 0; i < words; i++) {
              if ((i + start) % 2) board.in(Port.data, 2);
              else board.out(Port.data, i, 2);
            }
          }
          const status = await board.ended();
          // An error has a cause.
          if (status & 0x01) expect(board.in(Port.features)).not.toBe(0);
          board.out(Port.busMaster, 0);
          await board.reset();
        }
        await revive(board);
        expect(slaveBytes.every((byte) => byte === 0x77)).toBe(true);
      }),
      runs,
    );
  },
  patience,
);

it(
  'a guest that resets or stops the bus master at any moment gets no late data, and has at most one request in flight',
  async () => {
    const gated = new GatedDisk(new Uint8Array(size).fill(0x11));
    const own = await IdeBoard.create(gated);
    const act = fc.constantFrom('read', 'write', 'reset', 'stop', 'start', 'diagnose', 'answer', 'flush');
    try {
      await attack(
        fc.asyncProperty(fc.array(act, { maxLength: 40 }), async (acts) => {
          gated.gated = true;
          for (const one of acts) {
            if (one === 'read' || one === 'write') {
              own.describe(0x8000, [[0x10000, 4096]]);
              own.issue({ command: one === 'read' ? 0xc8 : 0xca, lba: 64, count: 8 });
              own.out(Port.busMaster, one === 'read' ? 9 : 1);
            } else if (one === 'answer') gated.waiting.shift()?.();
            else if (one === 'stop') own.out(Port.busMaster, 0);
            else if (one === 'start') own.out(Port.busMaster, 9);
            else if (one === 'diagnose') own.issue({ command: 0x90, slave: true });
            else if (one === 'flush') own.issue({ command: 0xe7 });
            else {
              own.out(Port.control, 4);
              own.out(Port.control, 0);
            }
            // One request of a drive is in flight at most, whatever its guest does.
            expect(gated.waiting.length).toBeLessThanOrEqual(1);
            await nextIteration();
          }
          own.out(Port.busMaster, 0);
          own.out(Port.control, 4);
          own.out(Port.control, 0);
          own.memory.at(0x10000, 4096).fill(0x99);
          gated.open();
          await own.reset();
          for (let i = 0; i < 5; i++) await nextIteration();
          expect(own.memory.at(0x10000, 4096).every((byte) => byte === 0x99)).toBe(true);
          await revive(own, false);
        }),
        runs,
      );
    } finally {
      await own.close();
    }
  },
  patience,
);
