/**
 * A guest that writes nonsense: random register writes, command lists, descriptors, frames and
 * packets, with no processor. The adapter may answer with any error, but never throw, never leave
 * guest memory, and a reset must revive it. Its disks are those that the command line opens: files,
 * overlays, caches, gateways.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { AtaCommand } from '../../src/spec/ata.js';
import { PacketDrive } from '../../src/device/ata/packet-drive.js';
import { Scsi } from '../../src/spec/scsi.js';
import { HbaRegister, PortRegister, portSize, portsStart } from '../../src/spec/ahci.js';
import { ReadyMemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { GatedDisk } from '../support/gated-disk.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';
import { GuestDisks } from './harness/guest-disks.js';
import { nextIteration } from '../support/event-loop.js';

const runs = inputsWanted(100, 2000);

let disks: GuestDisks;
beforeAll(async () => {
  disks = await GuestDisks.open();
});
afterAll(() => disks.close());

const registers = [
  ...Object.values<number>(HbaRegister),
  ...[0, 1, 2].flatMap((port) =>
    Object.values<number>(PortRegister).map((register) => portsStart + port * portSize + register),
  ),
];
const offset = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...registers) }, fc.integer({ min: 0, max: 0x1fff }));
const dword = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0, max: 64 }),
  fc.constantFrom(0x10, 0x11, 0x19, 0x300, 0x301, 0x304, 0x10000, 0x11000, 0xffffffff, 0x80000002, 0x80000003),
);
const access = fc.record({
  kind: fc.constantFrom('write' as const, 'read' as const, 'poke' as const, 'wait' as const, 'plug' as const),
  offset,
  size: fc.constantFrom(1, 2, 4, 4, 4, 4),
  value: dword,
});

/** @param ready Whether the disk answers at once. */
function devices(ready: boolean) {
  return {
    disk: new AtaDisk(ready ? new ReadyMemoryDevice(1 << 20) : disks.next(), testAtaIdentity),
    cd: new PacketDrive({ kind: 'cdrom', identity: testAtaIdentity, medium: disks.next() }),
    removable: new PacketDrive({ kind: 'removable', identity: testAtaIdentity, medium: disks.next() }),
  };
}

/** Brings the adapter back, whatever was done to it, and uses it. */
async function revive(driver: AhciDriver): Promise<void> {
  driver.write(HbaRegister.ghc, 0x80000001);
  for (let i = 0; i < 100_000 && driver.read(HbaRegister.ghc) & 1; i++) await nextIteration();
  expect(driver.read(HbaRegister.ghc) & 1).toBe(0);
  for (const port of [0, 1, 2]) await driver.start(port);
  await driver.identify(AtaCommand.identify, 0);
  await driver.identify(AtaCommand.identifyPacket, 1);
  const at = driver.allocate(4096);
  driver.queue(3, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
  await driver.queuedEnd(1 << 3);
  expect(driver.port('sact')).toBe(0);
}

it(
  'survives random accesses, plugs and pulls, and works after a reset',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(access, { maxLength: 120 }), fc.boolean(), async (accesses, ready) => {
        const { disk, cd, removable } = devices(ready);
        const driver = new AhciDriver([disk, cd, removable]);
        for (const port of [0, 1, 2]) await driver.start(port);
        const places = driver.places(0);
        for (const { kind, offset: at, size, value } of accesses) {
          if (kind === 'write') driver.controller.write(at, size, value, { address: 0, value, time: 0 });
          else if (kind === 'read') expect(Number.isInteger(driver.controller.read(at, size))).toBe(true);
          else if (kind === 'poke')
            driver.memory.data(places.header + ((at * 4) % 0x1000), 4).setUint32(0, value, true);
          else if (kind === 'wait') await nextIteration();
          else if (value % 2) driver.controller.unplug(0);
          else driver.controller.plug(0, disk);
        }
        await nextIteration();
        driver.controller.unplug(0);
        driver.controller.plug(0, disk);
        await revive(driver);
      }),
      runs,
    );
  },
  patience,
);

const place = fc.oneof(
  fc.constantFrom(0x800000, 0x800002, 0x800001, 0xfffff000, 0xffffff, 0xfffffe, 0),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const command = fc.record({
  queued: fc.boolean(),
  slot: fc.integer({ min: 0, max: 31 }),
  port: fc.integer({ min: 0, max: 2 }),
  command: fc.oneof(fc.constantFrom(...Object.values<number>(AtaCommand)), fc.integer({ min: 0, max: 255 })),
  lba: fc.oneof(fc.integer({ min: 0, max: 2100 }), fc.integer({ min: 0, max: 2 ** 48 - 1 })),
  count: fc.oneof(fc.integer({ min: 0, max: 16 }), fc.integer({ min: 0, max: 0xffff })),
  features: fc.oneof(fc.integer({ min: 0, max: 16 }), fc.integer({ min: 0, max: 0xffff })),
  device: fc.constantFrom(0x40, 0x40, 0xc0, 0, 0xff),
  header: fc.oneof(fc.constant(0), fc.constantFrom(0x100, 0x500, 0x200, 0x1f, 0x40)),
  prdt: fc.array(fc.tuple(place, fc.integer({ min: 1, max: 0x400000 })), { maxLength: 8 }),
  packet: fc.option(
    fc
      .tuple(
        fc.oneof(fc.constantFrom(...Object.values<number>(Scsi)), fc.integer({ min: 0, max: 255 })),
        fc.array(fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constant(0)), { minLength: 15, maxLength: 15 }),
      )
      .map(([opcode, rest]) => [opcode, ...rest]),
    { nil: undefined },
  ),
  control: fc.option(fc.constantFrom(0, 4, 0xff), { nil: undefined, freq: 8 }),
  table: fc.option(place, { nil: undefined, freq: 10 }),
});

it(
  'completes every command, whatever its content',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 25 }), fc.boolean(), async (commands, ready) => {
        const { disk, cd, removable } = devices(ready);
        const driver = new AhciDriver([disk, cd, removable]);
        for (const port of [0, 1, 2]) await driver.start(port);
        for (const { queued, slot, port, packet, control, table, ...fields } of commands) {
          const own = queued ? { count: slot << 3, command: AtaCommand.readFpdma + (fields.command & 1) } : {};
          const given = { ...fields, ...own, ...(packet && { packet }), ...(control !== undefined && { control }) };
          driver.prepare(slot, given, port);
          if (table !== undefined) driver.memory.data(driver.places(slot, port).header, 32).setUint32(8, table, true);
          // A bit of PxSACT without a queued command is the driver's own, and stays.
          if (queued && port === 0 && control === undefined) driver.setPort('sact', 1 << slot, port);
          driver.setPort('ci', 1 << slot, port);
          await driver.waitEnd(slot, port);
          driver.acknowledge(slot, port);
          await driver.reset(port);
        }
        await revive(driver);
      }),
      runs,
    );
  },
  patience,
);

it(
  'a guest that resets at any moment gets no late data',
  async () => {
    const step = fc.constantFrom('queue', 'stop', 'comreset', 'hba', 'answer');
    await attack(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, honoursAbort) => {
        const medium = new GatedDisk(new Uint8Array(1 << 20).fill(0x11));
        medium.honoursAbort = honoursAbort;
        const driver = new AhciDriver([new AtaDisk(medium, testAtaIdentity)]);
        await driver.start();
        const at = driver.allocate(32 * 4096);
        let slot = 0;
        for (const one of steps) {
          if (one === 'queue') {
            slot = (slot + 1) % 32;
            driver.queue(slot, { command: AtaCommand.readFpdma, features: 8, prdt: [[at + slot * 4096, 4096]] });
          } else if (one === 'answer') medium.waiting.shift()?.();
          else if (one === 'stop') driver.setPort('cmd', driver.port('cmd') ^ 1);
          else if (one === 'comreset') {
            driver.setPort('sctl', 0x301);
            driver.setPort('sctl', 0x300);
          } else driver.write(HbaRegister.ghc, 0x80000001);
          await nextIteration();
        }
        driver.write(HbaRegister.ghc, 0x80000001);
        const sent = [...Array(32).keys()].map((i) => driver.memory.at(at + i * 4096, 4096));
        for (const page of sent) page.fill(0x99);
        medium.open();
        for (let i = 0; i < 100_000 && driver.read(HbaRegister.ghc) & 1; i++) await nextIteration();
        await driver.start();
        expect(driver.memory.at(at, 32 * 4096).every((byte) => byte === 0x99)).toBe(true);
        await driver.identify();
      }),
      runs,
    );
  },
  patience,
);

it(
  'accepts any bytes as command header, frame, packet and descriptors',
  async () => {
    const patch = fc.record({
      at: fc.integer({ min: 0, max: 0x80 + 16 * 16 - 1 }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 40 }),
    });
    const raw = fc.record({
      port: fc.integer({ min: 0, max: 2 }),
      slot: fc.integer({ min: 0, max: 31 }),
      queued: fc.boolean(),
      command: fc.constantFrom<number>(...Object.values<number>(AtaCommand)),
      header: fc.option(fc.uint8Array({ minLength: 1, maxLength: 32 }), { nil: undefined }),
      patches: fc.array(patch, { maxLength: 4 }),
      /** Rewritten while the command is in flight. */
      late: fc.array(patch, { maxLength: 2 }),
    });
    await attack(
      fc.asyncProperty(fc.array(raw, { minLength: 1, maxLength: 20 }), fc.boolean(), async (commands, ready) => {
        const { disk, cd, removable } = devices(ready);
        const driver = new AhciDriver([disk, cd, removable]);
        for (const port of [0, 1, 2]) await driver.start(port);
        for (const { port, slot, queued, command: opcode, header, patches, late } of commands) {
          const packet = port > 0 ? { packet: [Scsi.read10, 0, 0, 0, 0, 0, 0, 0, 1] } : {};
          driver.prepare(slot, { command: opcode, count: 8, prdt: [[0x800000, 4096]], ...packet }, port);
          const places = driver.places(slot, port);
          const put = (list: typeof patches): void => {
            for (const { at, bytes } of list)
              driver.memory.at(places.table, 0x200).set(bytes.subarray(0, 0x200 - at), at);
          };
          put(patches);
          if (header) driver.memory.at(places.header, header.length).set(header);
          if (queued && port === 0) driver.setPort('sact', 1 << slot, port);
          driver.setPort('ci', 1 << slot, port);
          put(late);
          for (let i = 0; i < 3; i++) await nextIteration();
          await driver.reset(port);
        }
        await revive(driver);
      }),
      runs,
    );
  },
  patience,
);
