/**
 * A guest that writes nonsense: random register writes, queue entries and PRPs, with no processor.
 * The controller may answer with any status or fail (CSTS.CFS), but never throw, never leave guest
 * memory, and a reset must revive it. Its disks are those that the command line opens: files,
 * overlays, caches, gateways.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { NvmOpcode, Register } from '../../src/spec/nvme.js';
import { GatedDisk } from '../support/gated-disk.js';
import { NvmeDriver } from '../support/nvme-driver.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';
import { GuestDisks } from './harness/guest-disks.js';
import { nextIteration } from '../support/event-loop.js';

const runs = inputsWanted(200, 5000);

let disks: GuestDisks;
beforeAll(async () => {
  disks = await GuestDisks.open();
});
afterAll(() => disks.close());

const offset = fc.oneof(
  fc.constantFrom(...Object.values<number>(Register)),
  fc.integer({ min: 0, max: 0x4000 }),
  fc.integer({ min: 0, max: 40 }).map((index) => Register.doorbells + index * 4),
);
const dword = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0, max: 64 }),
  fc.constantFrom(0x10000, 0x460001, 0x464001, 0xffffffff, 0x1f001f),
);
const access = fc.record({
  kind: fc.constantFrom('write' as const, 'read' as const, 'poke' as const),
  offset,
  size: fc.constantFrom(1, 2, 4, 4, 4, 4),
  value: dword,
});

it(
  'survives random accesses, and works after a reset',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(access, { maxLength: 120 }), async (accesses) => {
        const driver = new NvmeDriver(disks.next());
        await driver.enable();
        for (const { kind, offset, size, value } of accesses) {
          if (kind === 'write') driver.controller.write(offset, size, value, { address: 0, value, time: 0 });
          else if (kind === 'read') expect(Number.isInteger(driver.controller.read(offset, size))).toBe(true);
          else driver.memory.data(0x10000 + ((offset * 4) % 0x2000), 4).setUint32(0, value, true);
        }
        await settle();
        await driver.disable();
        // A reset clears the mask of interrupts, but not one that was set while there was none.
        driver.write(Register.intmc, 0xffffffff);
        await driver.start();
        await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
      }),
      runs,
    );
  },
  patience,
);

it(
  'answers every command, whatever its content',
  async () => {
    const command = fc.record({
      admin: fc.boolean(),
      opcode: fc.oneof(fc.constantFrom(0, 1, 2, 4, 5, 6, 8, 9, 0xa), fc.integer({ min: 0, max: 255 })),
      nsid: fc.constantFrom(0, 1, 1, 1, 2, 0xffffffff),
      prp1: fc.oneof(fc.constantFrom(0, 0x800000, 0x800200, 0xfffff000), fc.integer({ min: 0, max: 0xffffffff })),
      prp2: fc.oneof(fc.constantFrom(0, 0x900000, 0x900ff8, 0xfffff000), fc.integer({ min: 0, max: 0xffffffff })),
      dword0: fc.constantFrom(0, 0, 0, 0x100, 0x4000, 0x8000),
      dword10: dword,
      dword11: dword,
      dword12: dword,
    });
    await attack(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 30 }), fc.uint8Array(), async (commands, noise) => {
        const driver = new NvmeDriver(disks.next());
        await driver.start();
        driver.memory.at(0x900000, noise.length).set(noise);
        for (const { admin, ...fields } of commands) {
          // Queue management is the driver's own here: a queue that it deletes itself answers
          // nothing more.
          if (admin && [0, 1, 4, 5, 0xc].includes(fields.opcode)) continue;
          const { status } = await driver.submit(fields, admin ? 0 : 1);
          expect(status).toBeGreaterThanOrEqual(0);
        }
      }),
      runs,
    );
  },
  patience,
);

it(
  'finds its data through lists of any shape, and never outside of memory',
  async () => {
    const page = fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 0xa00, max: 0xfff }).map((number) => number * 4096) },
      fc.constantFrom(0, 0x800200, 0xfff000, 0x1000000, 0xfffff000, 2 ** 40),
    );
    const command = fc.record({
      write: fc.boolean(),
      blocks: fc.integer({ min: 1, max: 2048 }),
      lba: fc.integer({ min: 0, max: 2100 }),
      offset: fc.constantFrom(0, 0, 0x200, 0x201, 0xffc),
      listOffset: fc.constantFrom(0, 0, 8, 0xff8, 0xff0, 4),
      pages: fc.array(page, { minLength: 1, maxLength: 600 }),
    });
    await attack(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 8 }), async (commands) => {
        const driver = new NvmeDriver(disks.next());
        await driver.start();
        for (const { write, blocks, lba, offset, listOffset, pages } of commands) {
          const list = driver.memory.data(0x900000, 8192);
          pages.forEach((address, i) => list.setBigUint64(8 * i, BigInt(address), true));
          const fields = { prp1: 0xa00000 + offset, prp2: 0x900000 + listOffset, dword10: lba, dword12: blocks - 1 };
          const { status } = await driver.submit({ opcode: write ? NvmOpcode.write : NvmOpcode.read, ...fields }, 1);
          if (lba + blocks > 2048) expect(status).not.toBe(0);
        }
        await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
      }),
      runs,
    );
  },
  patience,
);

it(
  'a guest that resets at any moment gets no late data',
  async () => {
    const step = fc.constantFrom('read', 'read', 'disable', 'shutdown', 'enable', 'answer');
    await attack(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, honoursAbort) => {
        const medium = new GatedDisk(new Uint8Array(1 << 20).fill(0x11));
        medium.honoursAbort = honoursAbort;
        const driver = new NvmeDriver(medium);
        await driver.start();
        const at = driver.allocate(16 * 4096);
        let count = 0;
        for (const one of steps) {
          // A reset drops commands without an answer: do not wait for them.
          if (one === 'read' && driver.queues.has(1)) {
            void driver.submit({ opcode: NvmOpcode.read, prp1: at + (count++ % 16) * 4096, dword12: 7 }, 1);
          } else if (one === 'answer') medium.waiting.shift()?.();
          else if (one === 'disable') driver.write(Register.cc, 0);
          else if (one === 'shutdown') driver.write(Register.cc, 1 | (6 << 16) | (4 << 20) | (1 << 14));
          else if (one === 'enable') driver.write(Register.cc, 1 | (6 << 16) | (4 << 20));
          await nextIteration();
        }
        driver.write(Register.cc, 0);
        medium.open();
        await driver.disable();
        // Not before: while CSTS.RDY is 1 what was in flight may still end.
        driver.memory.at(at, 16 * 4096).fill(0x99);
        for (let i = 0; i < 3; i++) await nextIteration();
        expect(driver.memory.at(at, 16 * 4096).every((byte) => byte === 0x99)).toBe(true);
        await driver.start();
        await driver.expect({ opcode: NvmOpcode.read, prp1: at, dword12: 7 }, 1);
        expect(driver.memory.at(at, 4096).every((byte) => byte === 0x11)).toBe(true);
      }),
      runs,
    );
  },
  patience,
);

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
