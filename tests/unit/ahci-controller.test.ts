import { describe, expect, it } from 'vitest';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { AtaCommand, AtaLog } from '../../src/spec/ata.js';
import { HbaRegister, PortInterrupt } from '../../src/spec/ahci.js';
import { Signature } from '../../src/spec/sata-fis.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { FailingDisk, GatedDisk } from '../support/gated-disk.js';
import { nextIteration } from '../support/event-loop.js';

const size = 4 << 20;

function disk(medium = new MemoryDevice(size)): AtaDisk {
  return new AtaDisk(medium, testAtaIdentity);
}

async function started(medium = new MemoryDevice(size)): Promise<AhciDriver> {
  const driver = new AhciDriver([disk(medium)]);
  await driver.start();
  return driver;
}

function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31 + (i >> 8)) & 0xff);
}

describe('generic registers (AHCI 1.3.1 §3.1)', () => {
  it('report capabilities, version and ports', () => {
    const driver = new AhciDriver([disk(), undefined, disk()]);
    const cap = driver.read(HbaRegister.cap);
    expect(cap & 0x1f).toBe(2); // NP, 0-based
    expect((cap >>> 8) & 0x1f).toBe(31); // NCS
    expect((cap >>> 30) & 1).toBe(1); // SNCQ
    expect((cap >>> 29) & 1).toBe(0); // SSNTF: not, it would cost accesses
    expect(driver.read(HbaRegister.vs)).toBe(0x00010301);
    expect(driver.read(HbaRegister.pi)).toBe(0b111);
    expect(driver.read(HbaRegister.ghc)).toBe(0x80000000);
    expect(driver.port('ssts', 0)).toBe(0x133);
    expect(driver.port('ssts', 1)).toBe(0);
    expect(driver.port('sig', 0)).toBe(Signature.ata);
    expect(driver.port('tfd', 1)).toBe(0x7f);
  });

  it('all 32 ports fit', () => {
    const driver = new AhciDriver(Array.from({ length: 32 }, () => disk()));
    expect(driver.read(HbaRegister.pi)).toBe(0xffffffff);
    expect(driver.read(HbaRegister.cap) & 0x1f).toBe(31);
    expect(driver.port('sig', 31)).toBe(Signature.ata);
  });

  it('can be read and written by bytes and words', () => {
    const driver = new AhciDriver([disk()]);
    const { controller } = driver;
    expect(controller.read(HbaRegister.vs + 2, 2)).toBe(0x0001);
    expect(controller.read(HbaRegister.vs + 1, 1)).toBe(0x03);
    driver.setPort('ie', 0x7d40004f);
    controller.write(0x100 + 0x14 + 1, 1, 0); // the second byte of PxIE
    expect(driver.port('ie')).toBe(0x7d40004f);
    controller.write(0x100 + 0x14 + 2, 2, 0);
    expect(driver.port('ie')).toBe(0x4f);
  });

  it('GHC.HR resets everything but the addresses, and devices announce themselves again', async () => {
    const driver = await started();
    const list = driver.port('clb');
    driver.write(HbaRegister.ghc, 0x80000003);
    for (let i = 0; i < 100 && driver.read(HbaRegister.ghc) & 1; i++) await nextIteration();
    expect(driver.read(HbaRegister.ghc)).toBe(0x80000000);
    expect(driver.port('cmd') & 0xc011).toBe(0);
    expect(driver.port('clb')).toBe(list);
    expect(driver.port('sig')).toBe(Signature.ata);
    expect(driver.line).toBe(false);
    await driver.start();
    await driver.identify();
  });

  it('GHC.HR stays 1 until no command in flight can have a later effect, and no late data reaches memory', async () => {
    const medium = new GatedDisk(size);
    medium.honoursAbort = false;
    const driver = await started(medium);
    const at = driver.allocate(4096);
    driver.memory.at(at, 4096).fill(0x55);
    driver.queue(3, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    driver.write(HbaRegister.ghc, 0x80000003);
    for (let i = 0; i < 20; i++) await nextIteration();
    expect(driver.read(HbaRegister.ghc) & 1).toBe(1);
    medium.open();
    for (let i = 0; i < 100 && driver.read(HbaRegister.ghc) & 1; i++) await nextIteration();
    expect(driver.read(HbaRegister.ghc) & 1).toBe(0);
    expect(driver.memory.at(at, 4096).every((byte) => byte === 0x55)).toBe(true);
  });
});

describe('commands and frames', () => {
  it('writes and reads by DMA through scattered descriptors', async () => {
    const medium = new MemoryDevice(size);
    const driver = await started(medium);
    const data = pattern(4096);
    const a = driver.allocate(8192);
    driver.memory.at(a + 2, 1000).set(data.subarray(0, 1000));
    driver.memory.at(a + 4096, 3096).set(data.subarray(1000));
    const prdt = [
      [a + 2, 1000],
      [a + 4096, 3096],
    ] as const;
    const written = await driver.run({ command: AtaCommand.writeDmaExt, lba: 100, count: 8, prdt, write: true });
    expect(written).toMatchObject({ status: 0x50, error: 0, transferred: 4096 });
    expect(written.interrupts & PortInterrupt.d2hRegister).toBe(PortInterrupt.d2hRegister);
    const b = driver.allocate(4096);
    const read = await driver.run({ command: AtaCommand.readDma, lba: 100, count: 8, prdt: [[b, 4096]] });
    expect(read).toMatchObject({ status: 0x50, transferred: 4096 });
    expect(driver.memory.at(b, 4096)).toEqual(data);
    const fis = driver.frame('d2hRegister');
    expect([fis[0], fis[1], fis[2], fis[3]]).toEqual([0x34, 0x40, 0x50, 0]);
  });

  it('reads by PIO: a PIO setup frame and its interrupt, no register frame', async () => {
    const driver = await started(new MemoryDevice(pattern(size)));
    const at = driver.allocate(1024);
    driver.frame('d2hRegister').fill(0);
    const { interrupts, status } = await driver.run({ command: AtaCommand.readSectors, count: 2, prdt: [[at, 1024]] });
    expect(status).toBe(0x50);
    expect(interrupts & 3).toBe(PortInterrupt.pioSetup);
    expect(driver.memory.at(at, 1024)).toEqual(pattern(size).subarray(0, 1024));
    const fis = driver.frame('pioSetup');
    expect([fis[0], fis[1], fis[15]]).toEqual([0x5f, 0x60, 0x50]);
    expect(driver.frame('d2hRegister')[0]).toBe(0);
  });

  it('runs queued commands concurrently and completes them in any order', async () => {
    const medium = new GatedDisk(pattern(size));
    const driver = await started(medium);
    const at = driver.allocate(32 * 4096);
    for (let slot = 0; slot < 32; slot++) {
      driver.queue(slot, {
        command: AtaCommand.readFpdma,
        features: 8,
        lba: slot * 8,
        prdt: [[at + slot * 4096, 4096]],
      });
    }
    expect(medium.waiting.length).toBe(32);
    expect(driver.port('ci')).toBe(0);
    expect(driver.port('sact')).toBe(0xffffffff);
    medium.waiting.splice(31, 1)[0]!();
    await nextIteration();
    expect(driver.port('sact')).toBe(0x7fffffff);
    expect(driver.line).toBe(true);
    const frame = driver.frame('setDeviceBits');
    expect([frame[0], frame[1], frame[7]]).toEqual([0xa1, 0x40, 0x80]);
    medium.open();
    const { interrupts } = await driver.queuedEnd(0x7fffffff);
    expect(interrupts & PortInterrupt.setDeviceBits).toBe(PortInterrupt.setDeviceBits);
    expect(driver.memory.at(at, 32 * 4096)).toEqual(pattern(size).subarray(0, 32 * 4096));
    expect(driver.line).toBe(false);
  });

  it('runs unqueued commands one after the other', async () => {
    const medium = new GatedDisk(size);
    const driver = await started(medium);
    const at = driver.allocate(8192);
    for (const slot of [4, 9]) {
      driver.prepare(slot, { command: AtaCommand.readDmaExt, count: 8, prdt: [[at, 4096]] });
    }
    driver.setPort('ci', (1 << 4) | (1 << 9));
    expect(medium.waiting.length).toBe(1);
    expect(driver.port('tfd') & 0x80).toBe(0x80);
    medium.open();
    await driver.end(9);
    await driver.end(4);
    expect(driver.port('ci')).toBe(0);
    expect((driver.port('cmd') >> 8) & 0x1f).toBe(9);
  });

  it("needs only its driver's accesses: two to issue a command, none while it runs", async () => {
    const driver = await started();
    driver.accesses = 0;
    driver.queue(0, { command: AtaCommand.readFpdma, features: 1, prdt: [[driver.allocate(512), 512]] });
    expect(driver.accesses).toBe(2);
  });

  it('does nothing while PxCMD.ST is 0', async () => {
    const driver = new AhciDriver([disk()]);
    driver.setPort('ci', 1);
    driver.setPort('sact', 1);
    expect(driver.port('ci')).toBe(0);
    expect(driver.port('sact')).toBe(0);
  });
});

describe('errors (§6)', () => {
  it('a failed command leaves its bit, stops the list, and the list runs again after ST', async () => {
    const driver = await started();
    const at = driver.allocate(512);
    const bad = await driver.run(
      { command: AtaCommand.readDmaExt, lba: size / 512, count: 1, prdt: [[at, 512]] },
      { slot: 5 },
    );
    expect(bad).toMatchObject({ status: 0x51, error: 0x10 });
    expect(bad.interrupts >>> 30).toBe(1);
    expect(driver.port('ci')).toBe(1 << 5);
    driver.prepare(6, { command: AtaCommand.readDmaExt, count: 1, prdt: [[at, 512]] });
    driver.setPort('ci', 1 << 6);
    await nextIteration();
    expect(driver.port('ci')).toBe((1 << 5) | (1 << 6));
    await driver.restart();
    expect(driver.port('ci')).toBe(0);
    expect(await driver.run({ command: AtaCommand.readDmaExt, count: 1, prdt: [[at, 512]] })).toMatchObject({
      status: 0x50,
    });
  });

  it('READ LOG EXT 10h names a failed queued command, the others are aborted', async () => {
    const medium = new FailingDisk(size, 'io');
    const driver = await started(medium);
    const at = driver.allocate(8192);
    driver.queue(7, { command: AtaCommand.readFpdma, features: 8, lba: 0x123, prdt: [[at, 4096]] });
    const { interrupts, status, error } = await driver.queuedEnd(1 << 7);
    expect(interrupts & (PortInterrupt.setDeviceBits | PortInterrupt.taskFileError)).not.toBe(0);
    expect([status & 1, error]).toEqual([1, 0x40]);
    expect(driver.port('sact')).toBe(1 << 7);
    await driver.restart();
    const log = driver.allocate(512);
    await driver.run({ command: AtaCommand.readLogExt, lba: AtaLog.ncqError, count: 1, prdt: [[log, 512]] });
    const page = driver.memory.at(log, 512);
    expect([page[0], page[2]! & 1, page[3], page[4], page[5]]).toEqual([7, 1, 0x40, 0x23, 0x01]);
    expect(page.reduce((sum, byte) => sum + byte, 0) & 0xff).toBe(0);
    medium.kind = undefined;
    driver.queue(7, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    await driver.queuedEnd(1 << 7);
    expect(driver.port('sact')).toBe(0);
  });

  it('a command that is not queued among queued ones ends them all with an error (SATA 13.6.4)', async () => {
    const medium = new GatedDisk(size);
    const driver = await started(medium);
    const at = driver.allocate(4096);
    driver.queue(0, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    driver.prepare(1, { command: AtaCommand.flushCacheExt });
    driver.setPort('ci', 2);
    expect(driver.port('is') >>> 30).toBe(1);
    await driver.restart();
    expect(medium.aborted).toBe(1);
    const log = driver.allocate(512);
    await driver.run({ command: AtaCommand.readLogExt, lba: AtaLog.ncqError, count: 1, prdt: [[log, 512]] });
    expect(driver.memory.at(log, 1)[0]).toBe(0x80);
  });

  it('reports command lists, tables and data outside of memory, and buffers that are too short', async () => {
    const cases: [string, (driver: AhciDriver) => void, number][] = [
      ['table', (driver) => driver.memory.data(driver.places(0).header, 32).setUint32(8, 0xfffff000, true), 29],
      ['data', (driver) => driver.memory.data(driver.places(0).table + 0x80, 16).setUint32(0, 0xfffff000, true), 29],
      [
        'high data',
        (driver) => driver.memory.data(driver.places(0).table + 0x80, 16).setUint32(4, 0xffffffff, true),
        29,
      ],
      ['no descriptors', (driver) => driver.memory.data(driver.places(0).header, 32).setUint32(0, 5, true), 24],
      ['frame type', (driver) => driver.memory.at(driver.places(0).table, 1).fill(0x34), 27],
      [
        'frame length',
        (driver) => driver.memory.data(driver.places(0).header, 32).setUint32(0, 1 | (1 << 16), true),
        27,
      ],
    ];
    for (const [name, spoil, bit] of cases) {
      const driver = await started();
      const at = driver.allocate(4096);
      const command = { command: AtaCommand.readDmaExt, count: 8, prdt: [[at, 4096]] as const };
      driver.prepare(0, command);
      spoil(driver);
      driver.setPort('ci', 1);
      for (let i = 0; i < 5; i++) await nextIteration();
      expect((driver.port('is') >>> bit) & 1, name).toBe(1);
      expect(driver.line, name).toBe(true);
      await driver.reset();
      expect(await driver.run(command), name).toMatchObject({ status: 0x50 });
    }
    const lost = await started();
    await lost.stop();
    lost.setPort('clb', 0xfffffc00);
    lost.setPort('cmd', 0x11);
    lost.setPort('ci', 1);
    expect((lost.port('is') >>> 29) & 1).toBe(1);
  });

  it('takes 65535 descriptors of two bytes', async () => {
    const medium = new MemoryDevice(pattern(size));
    const driver = await started(medium);
    const table = driver.allocate(0x80 + 65535 * 16);
    const at = driver.allocate(131072);
    driver.prepare(0, { command: AtaCommand.readDmaExt, count: 255 });
    const header = driver.memory.data(driver.places(0).header, 32);
    driver.memory.at(table, 0x80).set(driver.memory.at(driver.places(0).table, 0x80));
    for (let i = 0; i < 65535; i++) {
      const entry = driver.memory.data(table + 0x80 + i * 16, 16);
      entry.setBigUint64(0, BigInt(at + (65534 - i) * 2), true);
      entry.setUint32(12, 1, true);
    }
    header.setUint32(0, (5 | (65535 << 16)) >>> 0, true);
    header.setBigUint64(8, BigInt(table), true);
    driver.setPort('ci', 1);
    expect(await driver.end()).toMatchObject({ status: 0x50, transferred: 255 * 512 });
    expect([...driver.memory.at(at + 65534 * 2, 2)]).toEqual([...pattern(size).subarray(0, 2)]);
  });
});

describe('stops, resets and hot plug', () => {
  it('PxCMD.CR stays 1 after ST is cleared until a write in flight can have no later effect', async () => {
    const medium = new GatedDisk(size);
    medium.honoursAbort = false;
    const driver = await started(medium);
    const at = driver.allocate(4096);
    driver.queue(0, { command: AtaCommand.writeFpdma, features: 8, write: true, prdt: [[at, 4096]] });
    driver.setPort('cmd', 0x10);
    for (let i = 0; i < 20; i++) await nextIteration();
    expect(driver.port('cmd') & 0x8000).toBe(0x8000);
    expect(driver.port('sact')).toBe(0);
    medium.open();
    await driver.waitPort('cmd', 0x8000, 0);
  });

  it('an adapter reset (§10.4.3) forgets commands that a stop and a COMRESET left waiting', async () => {
    const medium = new GatedDisk(size);
    medium.honoursAbort = false;
    const driver = await started(medium);
    const at = driver.allocate(8192);
    driver.queue(0, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    driver.setPort('cmd', 0x10);
    driver.setPort('cmd', 0x11);
    driver.setPort('sctl', 0x301);
    driver.setPort('sctl', 0x300);
    driver.queue(1, { command: AtaCommand.readFpdma, features: 8, prdt: [[at + 4096, 4096]] });
    driver.write(HbaRegister.ghc, 0x80000001);
    driver.memory.at(at, 8192).fill(0x55);
    medium.open();
    for (let i = 0; i < 1000 && driver.read(HbaRegister.ghc) & 1; i++) await nextIteration();
    for (let i = 0; i < 20; i++) await nextIteration();
    expect(driver.memory.at(at, 8192).every((byte) => byte === 0x55)).toBe(true);
  });

  it('after COMRESET the device is busy until writes in flight have ended; its signature comes with the first frame', async () => {
    const medium = new GatedDisk(size);
    medium.honoursAbort = false;
    const driver = await started(medium);
    const at = driver.allocate(4096);
    driver.memory.at(at, 4096).fill(0x55);
    driver.queue(0, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    driver.setPort('cmd', 0x10);
    driver.setPort('sctl', 0x301);
    expect(driver.port('ssts')).toBe(0);
    driver.frame('d2hRegister').fill(0);
    driver.setPort('sctl', 0x300);
    for (let i = 0; i < 20; i++) await nextIteration();
    expect(driver.port('ssts')).toBe(0x133);
    expect(driver.port('tfd') & 0x80).toBe(0x80);
    expect(driver.port('sig')).toBe(0xffffffff);
    medium.open();
    await driver.waitPort('tfd', 0x80, 0);
    expect(driver.port('sig')).toBe(Signature.ata);
    expect([...driver.frame('d2hRegister').subarray(0, 7)]).toEqual([0x34, 0, 0x50, 1, 1, 0, 0]);
    expect(driver.port('serr') & ((1 << 26) | (1 << 16))).toBe((1 << 26) | (1 << 16));
    expect(driver.memory.at(at, 4096).every((byte) => byte === 0x55)).toBe(true);
    await driver.start();
    await driver.identify();
  });

  it('a software reset (§10.4.1) ends with the signature', async () => {
    const driver = await started();
    const clearBusy = (1 << 8) | (1 << 10);
    expect((await driver.run({ command: 0, control: 4, header: clearBusy })).status & 0x80).toBe(0);
    driver.frame('d2hRegister').fill(0);
    await driver.run({ command: 0, control: 0 }, { slot: 1 });
    await driver.waitPort('tfd', 0x88, 0);
    expect(driver.frame('d2hRegister')[0]).toBe(0x34);
    await driver.restart();
    await driver.identify();
  });

  it('PxSERR and interrupts report a device that is pulled out and plugged in', async () => {
    const medium = new GatedDisk(size);
    const device = disk(medium);
    const driver = new AhciDriver([device]);
    await driver.start();
    const at = driver.allocate(4096);
    driver.queue(0, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    expect(driver.controller.unplug(0)).toBe(device);
    expect(driver.port('ssts')).toBe(0);
    expect(driver.port('is') & PortInterrupt.phyReadyChange).toBe(PortInterrupt.phyReadyChange);
    expect(driver.line).toBe(true);
    expect(medium.aborted).toBe(1);
    driver.setPort('serr', 0xffffffff);
    driver.write(HbaRegister.is, 1);
    expect(driver.line).toBe(false);
    driver.controller.plug(0, device);
    await nextIteration();
    expect(driver.port('is') & PortInterrupt.connectChange).toBe(PortInterrupt.connectChange);
    expect(driver.line).toBe(true);
    medium.open();
    await driver.reset();
    await driver.identify();
  });

  it('IS latches per port, and the line follows GHC.IE and PxIE', async () => {
    const driver = new AhciDriver([disk(), disk()]);
    await driver.start(0);
    await driver.start(1);
    for (const port of [0, 1]) {
      driver.prepare(0, { command: AtaCommand.flushCacheExt }, port);
      driver.setPort('ci', 1, port);
    }
    await nextIteration();
    expect(driver.read(HbaRegister.is)).toBe(3);
    driver.write(HbaRegister.is, 3); // both are still pending
    expect(driver.read(HbaRegister.is)).toBe(3);
    driver.setPort('is', 0xffffffff, 0);
    driver.write(HbaRegister.is, 1);
    expect(driver.read(HbaRegister.is)).toBe(2);
    expect(driver.line).toBe(true);
    driver.write(HbaRegister.ghc, 0x80000000);
    expect(driver.line).toBe(false);
    driver.write(HbaRegister.ghc, 0x80000002);
    driver.setPort('ie', 0, 1);
    driver.write(HbaRegister.is, 2);
    expect(driver.line).toBe(false);
  });
});

describe('interrupts by message (§2.3)', () => {
  it('are sent once for each new cause, and again if the driver leaves a cause', async () => {
    const driver = new AhciDriver([disk(), disk()], {}, true);
    await driver.start(0);
    await driver.start(1);
    const { messages } = driver;
    await driver.run({ command: AtaCommand.flushCacheExt });
    expect(driver.messages).toBe(messages + 1);
    driver.prepare(0, { command: AtaCommand.flushCacheExt });
    driver.setPort('ci', 1);
    await driver.waitEnd();
    expect(driver.messages).toBe(messages + 2);
    // Another port's cause while the first is not acknowledged.
    driver.prepare(0, { command: AtaCommand.flushCacheExt }, 1);
    driver.setPort('ci', 1, 1);
    await driver.waitEnd(0, 1);
    expect(driver.messages).toBe(messages + 3);
    driver.acknowledge(0, 0);
    expect(driver.messages).toBe(messages + 4); // port 1 is left
    driver.acknowledge(0, 1);
    expect(driver.messages).toBe(messages + 4);
    // A port that still has a cause sets its bit again.
    driver.prepare(0, { command: AtaCommand.flushCacheExt });
    driver.setPort('ci', 1);
    await driver.waitEnd();
    driver.write(HbaRegister.is, 1);
    expect(driver.messages).toBe(messages + 6);
  });

  it('leave the line to follow, for a driver that switches them off', async () => {
    const driver = new AhciDriver([disk()], {}, true);
    await driver.start();
    driver.prepare(0, { command: AtaCommand.flushCacheExt });
    driver.setPort('ci', 1);
    await driver.waitEnd();
    expect(driver.line).toBe(true);
    driver.acknowledge();
    expect(driver.line).toBe(false);
  });
});

describe('pause, save and restore', () => {
  it('waits for commands in flight, keeps unfetched ones, and another adapter continues from there', async () => {
    const medium = new GatedDisk(pattern(size));
    const driver = await started(medium);
    const at = driver.allocate(8192);
    driver.queue(0, { command: AtaCommand.readFpdma, features: 8, prdt: [[at, 4096]] });
    const paused = driver.controller.pause();
    driver.queue(1, { command: AtaCommand.readFpdma, features: 8, lba: 8, prdt: [[at + 4096, 4096]] });
    medium.open();
    await paused;
    expect(driver.port('sact')).toBe(2);
    expect(driver.port('ci')).toBe(2);
    const state = JSON.parse(JSON.stringify(driver.controller.save())) as ReturnType<typeof driver.controller.save>;
    const { memory } = driver;
    const other = new AhciDriver([disk(new MemoryDevice(pattern(size)))], { memory });
    other.controller.restore(state);
    expect(other.line).toBe(true);
    other.controller.resume();
    for (let i = 0; i < 5; i++) await nextIteration();
    expect(other.port('sact')).toBe(0);
    expect(memory.at(at, 8192)).toEqual(pattern(size).subarray(0, 8192));
  });
});
