/** Everything that a guest can make grow on its host has a limit (docs/security.md, "Bounds"). */
import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { AtaCommand } from '../../src/spec/ata.js';
import { slots } from '../../src/spec/ahci.js';
import { AdminOpcode, NvmOpcode, Register } from '../../src/spec/nvme.js';
import { InFlight } from '../../src/device/in-flight.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { bareComputer, type BareComputer } from '../support/bare-computer.js';
import { GatedDisk } from '../support/gated-disk.js';
import { NvmeDriver } from '../support/nvme-driver.js';
import { tempPath } from '../support/temp.js';
import { nextIteration } from '../support/event-loop.js';

const size = 1 << 20;
const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await nextIteration();
};

afterEach(() => vi.restoreAllMocks());

/** Guest-physical addresses of the queues. */
const adminSq = 0x1000;
const adminCq = 0x2000;
const ioCq = 0x100000;
const ioSq = 0x200000;
const ioData = 0x300000;
const entries = 1024;

/**
 * Sets up the admin queues and one pair of I/O queues with 1,024 entries, full of read commands.
 */
async function withReads(guest: BareComputer): Promise<void> {
  const { memory } = guest;
  guest.write(Register.aqa, 31 | (31 << 16));
  guest.write(Register.asq, adminSq);
  guest.write(Register.acq, adminCq);
  guest.write(Register.cc, 1 | (6 << 16) | (4 << 20));
  const admin = async (at: number, opcode: number, dword10: number, dword11: number, prp1: number) => {
    const entry = memory.data(adminSq + at * 64, 64);
    entry.setUint32(0, opcode | (at << 16), true);
    entry.setUint32(24, prp1, true);
    entry.setUint32(40, dword10, true);
    entry.setUint32(44, dword11, true);
    guest.write(Register.doorbells, at + 1);
    await turns(2);
  };
  await admin(0, AdminOpcode.createCq, 1 | ((entries - 1) << 16), 1, ioCq);
  await admin(1, AdminOpcode.createSq, 1 | ((entries - 1) << 16), 1 | (1 << 16), ioSq);
  for (let i = 0; i < entries; i++) {
    const entry = memory.data(ioSq + i * 64, 64);
    entry.setUint32(0, NvmOpcode.read | (i << 16), true);
    entry.setUint32(4, 1, true);
    entry.setUint32(24, ioData, true);
  }
}

describe('NVMe commands of a guest that takes no completions', () => {
  it('are fetched only while there is room for their completions (file, as farbus run opens it)', async () => {
    const path = tempPath('d.img');
    writeFileSync(path, new Uint8Array(size));
    const guest = await bareComputer(path);
    try {
      await withReads(guest);
      for (let bell = 1; bell <= 20; bell++) {
        guest.write(Register.doorbells + 8, (bell * (entries - 1)) % entries);
        await turns(20);
      }
      const settles = async (count: number) => {
        await vi.waitUntil(() => guest.computer.counts.commands >= count, { timeout: 30_000 });
        await turns(200);
        expect(guest.computer.counts.commands).toBe(count);
      };
      await settles(entries - 1);
      // The completions that the guest takes make room for as many further ones.
      guest.write(Register.doorbells + 12, 10);
      await settles(entries - 1 + 10);
    } finally {
      await guest.close();
    }
  });

  it('continue while asynchronous event requests wait, which reserve no room', async () => {
    const driver = new NvmeDriver(new MemoryDevice(size));
    await driver.start();
    for (let i = 0; i < 4; i++) void driver.submit({ opcode: AdminOpcode.asyncEventRequest, cid: 1000 + i });
    for (let i = 0; i < 100; i++) await driver.expect({ opcode: AdminOpcode.getFeatures, dword10: 1 });
  });

  it('share the room of a completion queue that has several submission queues', async () => {
    const driver = new NvmeDriver(new MemoryDevice(size));
    await driver.start();
    const cq1 = 1 | (1 << 16);
    const base = driver.allocate(64 * 64);
    await driver.expect({ opcode: AdminOpcode.createSq, prp1: base, dword10: 2 | (63 << 16), dword11: cq1 });
    driver.consuming = false;
    for (let i = 0; i < 64; i++) {
      driver.memory.data(base + i * 64, 64).setUint32(0, NvmOpcode.flush | (i << 16), true);
      driver.memory.data(base + i * 64, 64).setUint32(4, 1, true);
    }
    for (let i = 0; i < 50; i++) void driver.submit({ opcode: NvmOpcode.flush }, 1);
    driver.write(Register.doorbells + 16, 63);
    await turns(20);
    expect(driver.controller.counts.commands).toBe(63);
  });
});

describe('repeated resets and shutdowns by a guest', () => {
  it('NVMe: one wait for all resets while a command is in flight', async () => {
    const disk = new GatedDisk(size);
    disk.honoursAbort = false;
    const driver = new NvmeDriver(disk);
    await driver.start();
    void driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
    const drained = vi.spyOn(InFlight.prototype, 'drained');
    for (let i = 0; i < 1000; i++) {
      driver.write(Register.cc, 0);
      driver.write(Register.cc, 1 | (6 << 16) | (4 << 20));
    }
    expect(drained.mock.calls.length).toBeLessThan(10);
    driver.write(Register.cc, 0);
    disk.open();
    await driver.waitReady(false);
  });

  it('NVMe: one flush for all shutdowns, also over resets', async () => {
    let flushes = 0;
    class Stuck extends MemoryDevice {
      override flush(): Promise<void> {
        flushes++;
        return new Promise(() => undefined);
      }
    }
    const driver = new NvmeDriver(new Stuck(size));
    await driver.start();
    const enabled = 1 | (6 << 16) | (4 << 20);
    for (let i = 0; i < 100; i++) {
      driver.write(Register.cc, enabled | (1 << 14));
      driver.write(Register.cc, enabled);
      await nextIteration();
      driver.write(Register.cc, 0);
      driver.write(Register.cc, enabled);
    }
    expect(flushes).toBe(1);
  });

  it('AHCI: one wait for all resets of a port and of the adapter', async () => {
    const disk = new GatedDisk(size);
    disk.honoursAbort = false;
    const driver = new AhciDriver([new AtaDisk(disk, testAtaIdentity)]);
    await driver.start();
    const read = { command: AtaCommand.readDmaExt, count: 1, prdt: [[driver.allocate(512), 512]] as const };
    driver.prepare(0, read);
    driver.setPort('ci', 1);
    const drained = vi.spyOn(InFlight.prototype, 'drained');
    for (let i = 0; i < 1000; i++) {
      driver.setPort('sctl', 1);
      driver.setPort('sctl', 0);
    }
    for (let i = 0; i < 1000; i++) driver.write(4, 1);
    expect(drained.mock.calls.length).toBeLessThan(10);
    disk.open();
    await turns(5);
    expect(driver.read(4) & 1).toBe(0);
    expect(driver.port('tfd') & 0x80).toBe(0);
  });
});

describe('AHCI commands of a guest that acknowledges no interrupt', () => {
  it('are remembered up to the number of slots', async () => {
    let consumed = 0;
    const driver = new AhciDriver([new AtaDisk(new MemoryDevice(size), testAtaIdentity)], {
      onCommand: () => consumed++,
    });
    await driver.start();
    driver.setPort('is', 0xffffffff);
    const before = consumed;
    driver.prepare(0, { command: AtaCommand.readDmaExt, count: 1, prdt: [[driver.allocate(512), 512]] });
    for (let i = 0; i < 1000; i++) {
      driver.setPort('ci', 1);
      while (driver.port('ci') !== 0) await nextIteration();
    }
    driver.setPort('is', 0xffffffff);
    expect(consumed - before).toBe(slots);
  });
});
