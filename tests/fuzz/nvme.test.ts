/**
 * A guest that writes nonsense: random register writes, queue entries and PRPs, with no processor. The controller may
 * answer with any status or fail (CSTS.CFS), but never throw, never leave guest memory, and a reset must revive it.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { NvmOpcode, Register } from '../../src/device/nvme/spec.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { NvmeDriver } from '../support/nvme-driver.js';

const runs = process.env['FARBUS_TEST_ALL'] ? 5000 : 300;

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

it('survives random accesses, and works after a reset', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(access, { maxLength: 120 }), async (accesses) => {
      const driver = new NvmeDriver(new MemoryDevice(1 << 20));
      await driver.enable();
      for (const { kind, offset, size, value } of accesses) {
        if (kind === 'write') driver.controller.write(offset, size, value, { address: 0, value, time: 0 });
        else if (kind === 'read') expect(Number.isInteger(driver.controller.read(offset, size))).toBe(true);
        else driver.memory.data(0x10000 + ((offset * 4) % 0x2000), 4).setUint32(0, value, true);
      }
      await settle();
      await driver.disable();
      await driver.start();
      await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
    }),
    { numRuns: runs },
  );
});

it('answers every command that it was given, whatever is in it', async () => {
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
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 30 }), fc.uint8Array(), async (commands, noise) => {
      const disk = new MemoryDevice(1 << 20);
      const driver = new NvmeDriver(disk);
      await driver.start();
      driver.memory.at(0x900000, noise.length).set(noise);
      for (const { admin, ...fields } of commands) {
        // Queue management is the driver's own here: a queue that it deletes itself answers nothing more.
        if (admin && [0, 1, 4, 5, 0xc].includes(fields.opcode)) continue;
        const { status } = await driver.submit(fields, admin ? 0 : 1);
        expect(status).toBeGreaterThanOrEqual(0);
      }
    }),
    { numRuns: runs },
  );
});

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
