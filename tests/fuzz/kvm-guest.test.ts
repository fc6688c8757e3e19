/**
 * A guest that writes nonsense with two processors at once, on the computer that the command line
 * makes: into configuration spaces, MSI-X tables, the registers of NVMe, AHCI and virtio, the rings
 * and queues in its memory, `fw_cfg`, UEFI's flash, and the quick ports. The computer must go on or
 * end, its process must not fail, and a reset of the NVMe controller must revive it.
 */
import { accessSync, constants } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Buffers } from '../../src/base/buffers.js';
import type { RequestOptions } from '../../src/block/device.js';
import { Random } from '../../src/conformance/random.js';
import { HbaRegister, PortRegister, portSize, portsStart } from '../../src/spec/ahci.js';
import { Cc, Csts, NvmOpcode, Register } from '../../src/spec/nvme.js';
import { Common } from '../../src/spec/virtio.js';
import { hasKoffi } from '../support/koffi.js';
import { accessRom, doneAt, type Access, type AccessKind } from '../support/kvm-guest-program.js';
import { inputsWanted, patience } from './harness/loop.js';

// Compiled, because the threads of the processors start from a file.
const dist = (path: string) => import(new URL(`../../dist/${path}.js`, import.meta.url).href) as Promise<unknown>;
const { createComputer } = (await dist('app/computer/start')) as typeof import('../../src/app/computer/start.js');
const { SharedAdapter } = (await dist(
  'computer/shared-adapter',
)) as typeof import('../../src/computer/shared-adapter.js');
const { Hub } = (await dist('network/ethernet/hub')) as typeof import('../../src/network/ethernet/hub.js');
const { MemoryDevice } = (await dist('storage/memory')) as typeof import('../../src/storage/memory.js');

const rounds = inputsWanted(4, 400);
/** Accesses of each processor in a round. */
const accesses = 1500;
const memorySize = 64 << 20;

const slots = { virtio: 6, nvme: 8, ahci: 9 } as const;
const bars = { virtio: 0xfdfe0000, nvme: 0xfe000000, ahci: 0xfe020000 } as const;
type Device = keyof typeof slots;
const devices = Object.keys(slots) as Device[];
/** Memory for queues and rings, to which all registers point. */
const queuesAt = 0x200000;
const queuesSize = 0x10000;
/** Memory of the driver that revives the controller: nothing was told of it. */
const revivalAt = 0x3000000;
/** The first processor says here that the devices are set up. */
const readyAt = 0x508;
/** Its read, by which the test knows that the controller works. */
const revival = { lba: 0x155, blocks: 7 } as const;

function usable(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return hasKoffi && process.arch === 'x64';
  } catch {
    return false;
  }
}

const write32 = (at: number, value: number): Access => ({ kind: 'write32', at, value: value >>> 0 });
/** A write to a configuration space. */
const configure = (slot: number, offset: number, kind: AccessKind, value: number): Access[] => [
  { kind: 'out32', at: 0xcf8, value: (0x80000000 | (slot << 11) | (offset & 0xfc)) >>> 0 },
  { kind, at: 0xcfc + (offset & 3), value },
];

/** Puts a device back where it was. */
const place = (device: Device): Access[] => [
  ...configure(slots[device], device === 'ahci' ? 0x24 : 0x10, 'out32', bars[device]),
  ...configure(slots[device], 4, 'out16', 7),
];

/** Valid set-ups, so that nonsense finds devices that work. */
function setUp(): Access[] {
  const ahciPort = bars.ahci + portsStart;
  return [
    ...devices.flatMap((device) => configure(slots[device], 4, 'out16', 7)),
    // MSI-X is switched on.
    ...[slots.virtio, slots.nvme].flatMap((slot) => configure(slot, 0x42, 'out16', 0x8000)),
    ...startNvme(queuesAt),
    write32(bars.ahci + HbaRegister.ghc, 0x80000002),
    write32(ahciPort + PortRegister.clb, queuesAt + 0x4000),
    write32(ahciPort + PortRegister.fb, queuesAt + 0x5000),
    write32(ahciPort + PortRegister.ie, 0xffffffff),
    write32(ahciPort + PortRegister.cmd, 0x11),
    ...[0, 1, 3].map((value): Access => ({ kind: 'write8', at: bars.virtio + Common.status, value })),
    write32(bars.virtio + Common.driverFeatureSelect, 1),
    write32(bars.virtio + Common.driverFeature, 1),
    { kind: 'write8', at: bars.virtio + Common.status, value: 11 },
    ...[0, 1].flatMap((queue): Access[] => [
      { kind: 'write16', at: bars.virtio + Common.queueSelect, value: queue },
      { kind: 'write16', at: bars.virtio + Common.queueSize, value: 8 },
      write32(bars.virtio + Common.queueDescriptors, queuesAt + 0x8000 + queue * 0x3000),
      write32(bars.virtio + Common.queueDriver, queuesAt + 0x9000 + queue * 0x3000),
      write32(bars.virtio + Common.queueDevice, queuesAt + 0xa000 + queue * 0x3000),
      { kind: 'write16', at: bars.virtio + Common.queueEnable, value: 1 },
    ]),
    { kind: 'write8', at: bars.virtio + Common.status, value: 15 },
  ];
}

/** Starts the controller with an admin queue of 32 entries at `at`, completions a page later. */
function startNvme(at: number): Access[] {
  return [
    write32(bars.nvme + Register.cc, 0),
    { kind: 'waitClear', at: bars.nvme + Register.csts, value: Csts.ready },
    write32(bars.nvme + Register.aqa, 0x1f001f),
    write32(bars.nvme + Register.asq, at),
    write32(bars.nvme + Register.asq + 4, 0),
    write32(bars.nvme + Register.acq, at + 0x1000),
    write32(bars.nvme + Register.acq + 4, 0),
    write32(bars.nvme + Register.cc, (6 << Cc.iosqesShift) | (4 << Cc.iocqesShift) | Cc.enable),
    { kind: 'waitSet', at: bars.nvme + Register.csts, value: Csts.ready },
  ];
}

/** Brings the board in order, starts the controller anew, and reads. */
function revive(): Access[] {
  const command = (at: number, words: Readonly<Record<number, number>>): Access[] =>
    Array.from({ length: 16 }, (_, i) => write32(at + 4 * i, words[i] ?? 0));
  const [sq, cq] = [revivalAt + 0x2000, revivalAt + 0x3000];
  const completed = (at: number): Access => ({ kind: 'waitSet', at: at + 12, value: 0x10000 });
  return [
    { kind: 'waitSet', at: doneAt[1], value: 1 },
    ...devices.flatMap(place),
    write32(bars.ahci + HbaRegister.ghc, 0x80000001),
    { kind: 'write8', at: bars.virtio + Common.status, value: 0 },
    // Completions are seen by a bit that was 0, whatever the devices have written to this memory.
    ...[revivalAt + 0x1000, cq].flatMap((at) => Array.from({ length: 32 }, (_, i) => write32(at + 16 * i + 12, 0))),
    ...startNvme(revivalAt),
    ...command(revivalAt, { 0: 0x00010005, 6: cq, 10: 0x001f0001, 11: 1 }),
    write32(bars.nvme + Register.doorbells, 1),
    completed(revivalAt + 0x1000),
    ...command(revivalAt + 64, { 0: 0x00020001, 6: sq, 10: 0x001f0001, 11: 0x10001 }),
    write32(bars.nvme + Register.doorbells, 2),
    completed(revivalAt + 0x1010),
    ...command(sq, {
      0: 0x00030000 | NvmOpcode.read,
      1: 1,
      6: revivalAt + 0x4000,
      10: revival.lba,
      12: revival.blocks - 1,
    }),
    write32(bars.nvme + Register.doorbells + 8, 1),
    completed(cq),
  ];
}

/** Random accesses, near to what a driver does. */
function nonsense(random: Random): Access[] {
  const value = (): number =>
    random.pick([
      () => random.next(),
      () => random.below(80),
      () => queuesAt + random.below(queuesSize),
      () => 2 ** random.below(32),
      () =>
        random.pick([
          0xfee00000,
          0x460001,
          0x464001,
          0x1f001f,
          0xffffffff,
          0x80000002,
          0x10001,
          0x11000,
          memorySize - 4,
        ]),
    ])();
  const register = (device: Device): number =>
    random.pick([
      () => random.below(0x4000),
      () => 0x2000 + 4 * random.below(70), // MSI-X: the table, and the pending bits
      () => 0x3000 + 4 * random.below(8),
      () => 0x1000 + 4 * random.below(12), // doorbells, notification
      () =>
        device === 'nvme'
          ? random.pick(Object.values<number>(Register))
          : device === 'virtio'
            ? random.pick(Object.values<number>(Common))
            : random.once(4)
              ? random.pick(Object.values<number>(HbaRegister))
              : portsStart + random.below(2) * portSize + random.pick(Object.values<number>(PortRegister)),
    ])();
  const sized = (prefix: 'write' | 'read' | 'out' | 'in'): AccessKind =>
    `${prefix}${random.pick([8, 16, 32, 32, 32] as const)}`;
  const one = (): Access[] => {
    const device = random.pick(devices);
    switch (random.below(18)) {
      case 0:
        if (random.once(2)) return devices.flatMap(place);
        return configure(
          slots[device],
          random.pick([4, 0x10, 0x24, 0x40, 0x42, 0x44, 0x48, random.below(256)]),
          sized('out'),
          value(),
        );
      case 1:
        return [...configure(random.below(32), random.below(256), sized('in'), 0)];
      case 2: // fw_cfg: its ports, and a description of a DMA access, which is big-endian
        return random.once(2)
          ? [{ kind: random.once(2) ? sized('out') : sized('in'), at: 0x510 + random.below(12), value: value() }]
          : [
              ...[random.pick([0x02, 0x04, 0x0a, 0x10]) * 2 ** 24 + random.below(0x300), value(), 0, value()].map(
                (word, i) => write32(queuesAt + 0xf000 + 4 * i, word),
              ),
              { kind: 'out32', at: 0x518, value: random.once(4) ? value() : 0x00f02000 },
            ];
      case 3:
        return [{ kind: 'insert', at: random.pick([0x511, 0x3f8, 0x71, 0xcfc]), value: value() }];
      case 4: // ports: none that switches off or resets
        return [{ kind: sized('in'), at: random.below(0x10000), value: 0 }];
      case 5:
        return [
          {
            kind: sized('out'),
            at: random.pick([0x70, 0x61, 0x3f9, 0x3fb, 0x3fc, 0x60, 0x600, 0x602, 0xcf8]),
            value: value(),
          },
        ];
      case 6:
        return [{ kind: 'fill', at: bars[device] + register(device), value: random.below(20) }];
      case 7:
        return [{ kind: 'copyFrom', at: bars[device] + register(device), value: random.below(20) }];
      case 8:
        return [{ kind: random.once(2) ? sized('read') : 'increment', at: bars[device] + register(device), value: 0 }];
      case 9: // UEFI's flash, and the ROM above it
        return [
          {
            kind: sized('write'),
            at: 0xfff3c000 + random.below(0x90000),
            value: random.pick([0x10, 0x40, 0x20, 0xd0, 0x50, 0x70, 0xff]),
          },
        ];
      case 10:
        return [{ kind: sized('write'), at: value(), value: value() }].filter(
          ({ at }) => at < 0xfee00000 || at > 0xfeefffff,
        ) as Access[];
      case 11:
        return [write32(bars.nvme + Register.doorbells + 4 * random.below(2), random.below(32))];
      case 12: // a frame to send, in one descriptor
        return [
          ...[queuesAt, 0, value() & 0xfff, 0].map((word, i) => write32(queuesAt + 0xb000 + 4 * i, word)),
          write32(queuesAt + 0xc000, random.below(20) << 16),
          write32(queuesAt + 0xc004, random.below(12)),
          { kind: 'write16', at: bars.virtio + 0x1004, value: 1 },
        ];
      case 13:
        return [write32(queuesAt + 4 * random.below(queuesSize / 4), value())];
      default:
        return [{ kind: sized('write'), at: bars[device] + register(device), value: value() }];
    }
  };
  const all: Access[] = [];
  while (all.length < accesses) all.push(...one());
  return all;
}

describe.skipIf(!usable())('a guest with two processors that writes nonsense', () => {
  it(
    'ends or can be ended, and a reset revives its disk',
    async () => {
      let revived = 0;
      const base = Number(process.env['FARBUS_FUZZ_SEED'] ?? 1);
      for (let seed = base; seed < base + rounds; seed++) {
        const outcome = await round(seed);
        expect(outcome, `FARBUS_FUZZ_SEED=${seed}`).toMatch(/^(revived|ended)$/);
        if (outcome === 'revived') revived++;
      }
      expect(revived).toBeGreaterThan(rounds / 2);
    },
    patience,
  );
});

/** Tells of each read. */
class WatchedDisk extends MemoryDevice {
  readonly #told: (offset: number, length: number) => void;

  constructor(size: number, told: (offset: number, length: number) => void) {
    super(size);
    this.#told = told;
  }

  override read(offset: number, into: Buffers, options: RequestOptions = {}): Promise<void> {
    this.#told(offset, into.length);
    return super.read(offset, into, options);
  }
}

/** "revived"; "ended" by the guest's own fault, for messages may be NMIs; otherwise what failed. */
async function round(seed: number): Promise<string> {
  const random = new Random(seed);
  let read: () => void = () => undefined;
  const revived = new Promise<void>((resolve) => (read = resolve));
  const disk = new WatchedDisk(4 << 20, (offset, length) => {
    if (offset === revival.lba * 512 && length === revival.blocks * 512) read();
  });
  const hub = new Hub({ name: 'lan', mtu: 1500 });
  const adapter = new SharedAdapter(hub, { mac: Uint8Array.of(2, 0, 0, 0, 0, 1) });
  const bios = accessRom([
    [...setUp(), write32(readyAt, 1), ...nonsense(random), ...revive()],
    [{ kind: 'waitSet', at: readyAt, value: 1 }, ...nonsense(random)],
  ]);
  const variables = { content: new Uint8Array(528 << 10).fill(0xff), changed: () => undefined };
  const drives = [disk, { device: new MemoryDevice(1 << 20), bus: 'ahci' as const }];
  const log = { log: () => undefined };
  const options = { log, firmware: { bios, variables }, engine: 'kvm' as const, processors: 2, adapter };
  const computer = await createComputer(drives, memorySize, options);
  try {
    computer.bootFirmware();
    let timer: NodeJS.Timeout | undefined;
    const slow = new Promise<string>((resolve) => (timer = setTimeout(resolve, 60_000, 'slow')));
    const outcome = await Promise.race([
      revived.then(() => 'revived'),
      computer.ended.then((why) => (why === 'failed' ? (computer.endDetail ?? why) : 'ended')),
      slow,
    ]);
    clearTimeout(timer);
    return outcome;
  } finally {
    await computer.stop();
    adapter.close();
    await hub.close();
  }
}
