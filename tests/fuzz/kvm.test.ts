/**
 * A guest of the KVM engine that writes nonsense, with no processor: into configuration spaces,
 * MSI-X tables, MSI capabilities and BARs of the board that has an NVMe and an AHCI controller; and
 * into the pages of shadow doorbells, also while the controller reads them, as another processor
 * of the guest does. Nothing may throw or run without end, and a reset must revive the controllers.
 */
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Steps } from '../../src/base/steps.js';
import { Board } from '../../src/machine/engines/kvm/board/board.js';
import { pciConfig } from '../../src/machine/pci.js';
import { TrapHandler } from '../../src/machine/trap.js';
import * as ahci from '../../src/device/ahci/controller.js';
import { AtaDisk } from '../../src/device/ata/disk.js';
import * as nvme from '../../src/device/nvme/controller.js';
import { NvmOpcode, Register } from '../../src/spec/nvme.js';
import { testAtaIdentity } from '../support/ahci-driver.js';
import { nextIteration } from '../support/event-loop.js';
import { TestMemory } from '../support/guest-memory.js';
import { NvmeDriver } from '../support/nvme-driver.js';
import { GuestDisks } from './harness/guest-disks.js';
import { inputsWanted, patience } from './harness/loop.js';
import { attack } from './harness/property.js';

const runs = inputsWanted(100, 5000);
const shadowRuns = inputsWanted(40, 5000);

let disks: GuestDisks;
beforeAll(async () => {
  disks = await GuestDisks.open();
});
afterAll(() => disks.close());

const slots = { nvme: 8, ahci: 9 } as const;
const bases = { nvme: 0xfe000000, ahci: 0xfe020000 } as const;

/** The board of the engine with both controllers, connected as the engine does it. */
function makeBoard() {
  const memory = new TestMemory(16 << 20);
  const trap = new TrapHandler(new Steps());
  const messages: [number, number][] = [];
  const board = new Board(trap, {
    setInput: () => undefined,
    sendMessage: (address, data) => messages.push([address, data]),
    onSerial: () => undefined,
    onRoom: () => undefined,
    onEnd: () => undefined,
  });
  const identity = { serial: 'S', model: 'M', firmware: '1', uuid: new Uint8Array(16) };
  const disk = new nvme.NvmeController({ base: bases.nvme, memory, disk: disks.next(), identity });
  const adapter = new ahci.AhciController({ base: bases.ahci, memory, ports: 2 });
  adapter.plug(0, new AtaDisk(disks.next(), testAtaIdentity));
  const add = (device: nvme.NvmeController | ahci.AhciController, slot: number, extra: object) => {
    const { base: barBase, size: barSize, name } = device;
    const barIndex = device === disk ? 0 : ahci.barIndex;
    const kind = {
      vendor: 1,
      device: slot,
      classCode: [1, 8, 2],
      revision: 1,
      barIndex,
      barBase,
      interruptPin: 1,
    } as const;
    trap.guard(device);
    const place = board.pci.add(
      { name, slot, config: pciConfig(kind), barIndex, barBase, barSize, ...extra },
      () => undefined,
    );
    device.connect({ set: () => undefined, messages: place.messages, writeEvents: { watch: () => undefined } });
    return place;
  };
  const places = [add(disk, slots.nvme, { msix: nvme.msix }), add(adapter, slots.ahci, { msi: true })];
  return { board, messages, places };
}

const dword = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0, max: 64 }),
  fc.constantFrom(0xfee00000, 0x8000_0000, 0xc000_0000, 0x00810000, 0x460001, 0x0107, 0xfe000000, 0xffffffff),
);
const access = fc.record({
  kind: fc.constantFrom('config' as const, 'config' as const, 'memory' as const, 'port' as const, 'signal' as const),
  slot: fc.constantFrom(0, 8, 8, 9, 9, 10),
  offset: fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(4, 0x10, 0x24, 0x40, 0x42, 0x44, 0x48, 0x4c)),
  at: fc.oneof(
    fc.integer({ min: -64, max: 0x4040 }),
    fc.integer({ min: 0x2000, max: 0x2120 }),
    fc.constantFrom(...Object.values<number>(Register)),
  ),
  size: fc.constantFrom(1, 2, 4, 4, 4),
  value: dword,
});

it(
  'the board answers any access to configuration spaces, MSI-X tables, MSI and BARs',
  async () => {
    await attack(
      fc.asyncProperty(fc.array(access, { maxLength: 150 }), async (accesses) => {
        const { board, messages, places } = makeBoard();
        const configure = (slot: number, offset: number, size: number, value: number) => {
          board.writePort(0xcf8, 4, (0x80000000 | (slot << 11) | (offset & 0xfc)) >>> 0);
          board.writePort(0xcfc + (offset & 3), size, value);
        };
        for (const slot of Object.values(slots)) configure(slot, 4, 2, 7);
        for (const { kind, slot, offset, at, size, value } of accesses) {
          const narrow = size === 4 ? value : value % 2 ** (8 * size);
          const address = (slot === slots.ahci ? bases.ahci : bases.nvme) + at;
          if (kind === 'config') configure(slot, offset, size, narrow);
          else if (kind === 'port') board.writePort(0xcf8 + (offset & 7), size, narrow);
          else if (kind === 'memory') board.writeMemory(address, size, narrow);
          else {
            const before = messages.length;
            for (const { messages: own } of places) {
              own!.signal(value % 20);
              if (!own!.enabled) expect(messages.length).toBeLessThanOrEqual(before + 1);
            }
          }
          for (const read of [board.readMemory(address, size), board.readPort(0xcfc, size)])
            expect(Number.isInteger(read) && read >= 0 && read < 2 ** (8 * size)).toBe(true);
        }
        await nextIteration();
        for (const [address, data] of messages) expect([address, data].every(Number.isInteger)).toBe(true);
      }),
      runs,
    );
  },
  patience,
);

const step = fc.record({
  kind: fc.constantFrom('poke' as const, 'poke' as const, 'submit' as const, 'ring' as const, 'wait' as const),
  page: fc.constantFrom('doorbells' as const, 'events' as const),
  word: fc.oneof(fc.integer({ min: 2, max: 5 }), fc.integer({ min: 0, max: 1023 })),
  value: fc.oneof(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 0, max: 0xffffffff })),
});

it(
  'shadow doorbells of any content, which change at any moment, stop nothing and harm only their guest',
  async () => {
    await attack(
      fc.asyncProperty(
        fc.array(step, { maxLength: 60 }),
        fc.boolean(),
        fc.boolean(),
        async (steps, changing, messages) => {
          const driver = new NvmeDriver(disks.next(), {}, { messages, writeEvents: true });
          await driver.start(2);
          await driver.useShadow();
          const { memory } = driver;
          const shadow = driver.shadow!;
          const view = memory.view.bind(memory);
          let looks = 0;
          if (changing) {
            memory.view = (address, length) => {
              const bytes = view(address, length);
              if (address === shadow.doorbells && bytes) bytes[8 + 4 * (looks % 4)] = (looks++ * 7) % 70;
              return bytes;
            };
          }
          for (const { kind, page, word, value } of steps) {
            if (kind === 'poke') memory.data(shadow[page] + 4 * word, 4).setUint32(0, value, true);
            else if (kind === 'submit') void driver.submit({ opcode: NvmOpcode.read, prp1: 0x800000 }, 1 + (value & 1));
            else if (kind === 'ring') driver.write(Register.doorbells + 4 * (word % 8), value);
            else await nextIteration();
          }
          for (let i = 0; i < 3; i++) await nextIteration();
          memory.view = view;
          await driver.disable();
          await driver.start();
          await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
        },
      ),
      shadowRuns,
    );
  },
  patience,
);
