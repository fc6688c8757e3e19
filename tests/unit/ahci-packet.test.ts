import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import type { BlockDevice } from '../../src/block/device.js';
import { BlockError, type BlockErrorKind } from '../../src/block/errors.js';
import { ExchangeableDrive } from '../../src/block/exchangeable-drive.js';
import { AtaCommand, SataFeature, SetFeature } from '../../src/spec/ata.js';
import { PacketDrive, type PacketDriveOptions } from '../../src/device/ata/packet-drive.js';
import { Scsi } from '../../src/spec/scsi.js';
import { Signature } from '../../src/spec/sata-fis.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { FailingDisk, GatedDisk } from '../support/gated-disk.js';
import { nextIteration } from '../support/event-loop.js';

const size = 1 << 20;
const farFacts = { identity: 'far', readOnly: false, rotational: false, blockSize: 512 };

function content(length = size): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i >> 11) + 1);
}

/** A drive that has already reported its power-on unit attention. */
async function started(medium: BlockDevice | undefined, kind: PacketDriveOptions['kind'] = 'cdrom') {
  const drive = new PacketDrive({ kind, identity: testAtaIdentity, medium });
  const driver = new AhciDriver([drive]);
  await driver.start();
  await driver.packet([Scsi.testUnitReady]);
  await sense(driver);
  return { drive, driver };
}

/** Sense key, additional sense code and qualifier of REQUEST SENSE. */
async function sense(driver: AhciDriver): Promise<number[]> {
  const { data } = await driver.packet([Scsi.requestSense, 0, 0, 0, 18], 18);
  return [data[2]! & 0xf, data[12]!, data[13]!];
}

async function refused(driver: AhciDriver, packet: number[], length = 0, write = false): Promise<number[]> {
  const result = await driver.packet(packet, length, { write });
  expect(result.status & 1, `packet ${packet[0]}`).toBe(1);
  const [key, ...codes] = await sense(driver);
  expect(result.error >> 4).toBe(key);
  return [key!, ...codes];
}

const read10 = (lba: number, count: number) => [
  Scsi.read10,
  0,
  0,
  0,
  lba >> 8,
  lba & 0xff,
  0,
  count >> 8,
  count & 0xff,
];
const eventStatus = [Scsi.getEventStatus, 1, 0, 0, 0x10, 0, 0, 0, 8];

describe('a packet device', () => {
  it('identifies itself: signature, aborted IDENTIFY DEVICE, IDENTIFY PACKET DEVICE, INQUIRY', async () => {
    const { driver } = await started(new MemoryDevice(size));
    expect(driver.port('sig')).toBe(Signature.atapi);
    const plain = await driver.run({ command: AtaCommand.identify, prdt: [[driver.allocate(512), 512]] });
    expect(plain).toMatchObject({ status: 0x51, error: 4 });
    expect([...driver.frame('d2hRegister').subarray(4, 7)]).toEqual([0x01, 0x14, 0xeb]);
    await driver.restart();
    const data = await driver.identify(AtaCommand.identifyPacket);
    expect(data.getUint16(0, true)).toBe(0x85c0);
    const { data: inquiry } = await driver.packet([Scsi.inquiry, 0, 0, 0, 36], 36);
    expect([inquiry[0], inquiry[1]]).toEqual([5, 0x80]);
    expect(String.fromCharCode(...inquiry.subarray(8, 14))).toBe('FARBUS');
    const { data: serial } = await driver.packet([Scsi.inquiry, 1, 0x80, 0, 255], 255);
    expect(String.fromCharCode(...serial.subarray(4, 12))).toBe('TEST0001');
  });

  it('reports its reset once, by a unit attention', async () => {
    const driver = new AhciDriver([
      new PacketDrive({ kind: 'cdrom', identity: testAtaIdentity, medium: new MemoryDevice(size) }),
    ]);
    await driver.start();
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([6, 0x29, 0]);
    expect((await driver.packet([Scsi.testUnitReady])).status).toBe(0x50);
    expect(await sense(driver)).toEqual([0, 0, 0]);
  });

  it('answers wrong packets with the sense that the specification gives', async () => {
    const { driver } = await started(new MemoryDevice(size));
    expect(await refused(driver, [0xff])).toEqual([5, 0x20, 0]);
    expect(await refused(driver, read10(512, 1), 2048)).toEqual([5, 0x21, 0]);
    expect(await refused(driver, [Scsi.inquiry, 1, 0x77, 0, 255], 255)).toEqual([5, 0x24, 0]);
    expect(await refused(driver, [Scsi.readToc, 0, 5, 0, 0, 0, 0, 0, 255], 255)).toEqual([5, 0x24, 0]);
    expect(await refused(driver, [Scsi.getEventStatus, 0, 0, 0, 0x10, 0, 0, 0, 8], 8)).toEqual([5, 0x24, 0]);
    expect(await refused(driver, [Scsi.write10, 0, 0, 0, 0, 0, 0, 0, 1])).toEqual([5, 0x20, 0]);
  });

  it('a PACKET without a packet is aborted', async () => {
    const { driver } = await started(new MemoryDevice(size));
    expect(await driver.run({ command: AtaCommand.packet })).toMatchObject({ status: 0x51, error: 4 });
  });

  it('returns no more data than the buffer holds, by DMA and by PIO', async () => {
    const { driver } = await started(new MemoryDevice(size));
    const at = driver.allocate(512);
    driver.memory.at(at, 512).fill(0xee);
    const packet = [Scsi.inquiry, 0, 0, 0, 36];
    const result = await driver.run({ command: AtaCommand.packet, packet, prdt: [[at, 8]] });
    expect(result).toMatchObject({ status: 0x50, transferred: 8 });
    expect([...driver.memory.at(at + 6, 4)]).toEqual([0, 0, 0xee, 0xee]);
    expect(driver.frame('pioSetup')[0]).toBe(0x5f);
    expect(driver.frame('d2hRegister')[12]).toBe(3);
  });
});

describe('a CD/DVD drive', () => {
  it('reads sectors, its capacity and table of contents', async () => {
    const { driver } = await started(new MemoryDevice(content()));
    const { data } = await driver.packet(read10(17, 2), 4096);
    expect([data.length, data[0], data[2047], data[2048]]).toEqual([4096, 18, 18, 19]);
    const { data: capacity } = await driver.packet([Scsi.readCapacity10], 8);
    expect([...capacity]).toEqual([0, 0, 1, 0xff, 0, 0, 8, 0]);
    const { data: toc } = await driver.packet([Scsi.readToc, 0, 0, 0, 0, 0, 0, 0, 20], 20);
    expect([...toc]).toEqual([0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 2, 0]);
    const { data: msf } = await driver.packet([Scsi.readToc, 2, 0, 0, 0, 0, 0xaa, 0, 12], 12);
    expect([...msf.subarray(8)]).toEqual([0, 0, 8, 62]); // 512 sectors and 150 are 8 s, 62 frames
    const { data: cd } = await driver.packet([Scsi.readCd, 0, 0, 0, 0, 3, 0, 0, 1, 0x10], 2048);
    expect(cd[0]).toBe(4);
  });

  it('has the profile of its disc', async () => {
    const profileOf = async (driver: AhciDriver) => {
      const { data } = await driver.packet([Scsi.getConfiguration, 0, 0, 0, 0, 0, 0, 0, 255], 255);
      expect(new DataView(data.slice().buffer).getUint32(0)).toBe(data.length - 4);
      return (data[6]! << 8) | data[7]!;
    };
    const { driver, drive } = await started(new MemoryDevice(size));
    expect(await profileOf(driver)).toBe(0x08);
    drive.eject();
    expect(await profileOf(driver)).toBe(0);
    const dvd = new MemoryDevice(0);
    Object.assign(dvd, { info: { ...dvd.info, size: 4_000_000_000 - (4_000_000_000 % 2048) } });
    drive.insert(dvd);
    expect(await profileOf(driver)).toBe(0x10);
    await sense(driver);
    const { data } = await driver.packet([Scsi.readDvdStructure, 0, 0, 0, 0, 0, 0, 0, 8, 4], 2052);
    expect(data[4]).toBe(0x01);
  });

  it('answers every question that a stock driver asks', async () => {
    const { driver } = await started(new MemoryDevice(size));
    const questions: [number[], number][] = [
      [[Scsi.modeSense10, 0, 0x2a, 0, 0, 0, 0, 0, 128], 30],
      [[Scsi.modeSense10, 0, 0x3f, 0, 0, 0, 0, 0, 128], 54],
      [[Scsi.modeSense10, 0, 0x3f, 0xff, 0, 0, 0, 0, 128], 54],
      [[Scsi.modeSense6, 0, 0x2a, 0, 128], 26],
      [[Scsi.readDiscInformation, 0, 0, 0, 0, 0, 0, 0, 64], 34],
      [[Scsi.readTrackInformation, 1, 0, 0, 0, 1, 0, 0, 64], 36],
      [[Scsi.mechanismStatus, 0, 0, 0, 0, 0, 0, 0, 0, 8], 8],
      [[Scsi.readToc, 0, 1, 0, 0, 0, 0, 0, 12], 12],
      [[Scsi.reportLuns, 0, 0, 0, 0, 0, 0, 0, 0, 16], 16],
      [[Scsi.inquiry, 1, 0, 0, 64], 7],
      [[Scsi.inquiry, 1, 0x83, 0, 64], 16],
      [[Scsi.getEventStatus, 1, 0, 0, 0x02, 0, 0, 0, 8], 4],
    ];
    for (const [packet, length] of questions) {
      const { data, status } = await driver.packet(packet, 128);
      expect([status, data.length], `packet ${packet[0]!.toString(16)}`).toEqual([0x50, length]);
    }
  });
});

describe('medium', () => {
  it('absent, inserted, removed: the guest is told of each', async () => {
    const { driver, drive } = await started(undefined);
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([2, 0x3a, 1]);
    expect(await refused(driver, read10(0, 1), 2048)).toEqual([2, 0x3a, 1]);
    drive.insert(new MemoryDevice(content()));
    const { data: news } = await driver.packet(eventStatus, 8);
    expect([news[2], news[4], news[5]]).toEqual([4, 2, 2]); // new media; present
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([6, 0x28, 0]);
    expect((await driver.packet(read10(0, 1), 2048)).status).toBe(0x50);
    expect(() => drive.insert(new MemoryDevice(size))).toThrow(RangeError);
    expect(drive.eject()).toBe('ejected');
    expect(drive.eject()).toBe('empty');
    const { data: gone } = await driver.packet(eventStatus, 8);
    expect([gone[4], gone[5]]).toEqual([3, 1]); // removal; tray open
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([2, 0x3a, 2]);
  });

  it('locked: the guest cannot eject it, the owner only by force; a request to eject reaches the guest', async () => {
    const { driver, drive } = await started(new MemoryDevice(size));
    await driver.packet([Scsi.preventAllow, 0, 0, 0, 1]);
    expect(drive.locked).toBe(true);
    expect(await refused(driver, [Scsi.startStopUnit, 0, 0, 0, 2])).toEqual([5, 0x53, 2]);
    expect(drive.eject()).toBe('locked');
    expect((await driver.packet(eventStatus, 8)).data[4]).toBe(1); // eject request
    expect(drive.loaded).toBe(true);
    expect(drive.eject(true)).toBe('ejected');
    expect(await refused(driver, read10(0, 1), 2048)).toEqual([2, 0x3a, 2]);
  });

  it('ejected by the guest: flushed, and returned to the owner', async () => {
    const seen: unknown[] = [];
    class Flushed extends MemoryDevice {
      override flush(): Promise<void> {
        seen.push('flush');
        return Promise.resolve();
      }
    }
    const medium = new Flushed(size);
    const { driver, drive } = await started(medium, 'removable');
    drive.onGuestEject = (device) => seen.push(device);
    await driver.packet([Scsi.startStopUnit, 0, 0, 0, 2]);
    expect(seen).toEqual(['flush', medium]);
    expect(drive.loaded).toBe(false);
    expect(await refused(driver, [Scsi.startStopUnit, 0, 0, 0, 3])).toEqual([2, 0x3a, 1]);
  });

  it('removed while a read is in flight: the read ends with "medium not present"', async () => {
    const medium = new GatedDisk(size);
    const { driver, drive } = await started(medium);
    const reading = driver.packet(read10(0, 1), 2048);
    await nextIteration();
    drive.eject(true);
    expect((await reading).error >> 4).toBe(2);
    expect(await sense(driver)).toEqual([2, 0x3a, 2]);
    expect(medium.aborted).toBe(1);
  });

  it('gone from the far drive: not present, and present again when that drive has a medium', async () => {
    const medium = new FailingDisk(size, 'no-medium');
    const { driver, drive } = await started(medium);
    expect(await refused(driver, read10(0, 1), 2048)).toEqual([2, 0x3a, 0]);
    expect(drive.loaded).toBe(false);
    expect((await driver.packet(eventStatus, 8)).data[4]).toBe(3);
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([2, 0x3a, 0]);
    medium.kind = undefined;
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([6, 0x28, 0]);
    expect((await driver.packet(read10(0, 1), 2048)).status).toBe(0x50);
  });

  it('in a far drive: removed, replaced by another one, and ejected there by the guest', async () => {
    const far = new ExchangeableDrive(farFacts, new MemoryDevice(content()));
    const { driver, drive } = await started(far);
    expect((await driver.packet(read10(0, 1), 2048)).data[0]).toBe(1);
    await far.remove();
    expect(drive.loaded).toBe(false);
    expect((await driver.packet(eventStatus, 8)).data[4]).toBe(3);
    expect(await refused(driver, read10(0, 1), 2048)).toEqual([2, 0x3a, 0]);
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([2, 0x3a, 0]);

    far.insert(new MemoryDevice(new Uint8Array(2 * size).fill(9)));
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([6, 0x28, 0]);
    expect((await driver.packet(eventStatus, 8)).data[4]).toBe(2);
    const { data: capacity } = await driver.packet([Scsi.readCapacity10], 8);
    expect(new DataView(capacity.buffer, capacity.byteOffset).getUint32(0)).toBe((2 * size) / 2048 - 1);
    expect((await driver.packet(read10(0, 1), 2048)).data[0]).toBe(9);

    await driver.packet([Scsi.preventAllow, 0, 0, 0, 1]);
    expect(far.locked).toBe(true);
    expect(await refused(driver, [Scsi.startStopUnit, 0, 0, 0, 2])).toEqual([5, 0x53, 2]);
    await driver.packet([Scsi.preventAllow, 0, 0, 0, 0]);
    await driver.packet([Scsi.startStopUnit, 0, 0, 0, 2]);
    expect(far.loaded).toBe(false);
    expect(await refused(driver, read10(0, 1), 2048)).toEqual([2, 0x3a, 2]);
    // A disc with larger blocks does not fit this drive, so it is treated as absent.
    far.insert(new MemoryDevice(size, { blockSize: 4096 }));
    expect(await refused(driver, [Scsi.testUnitReady])).toEqual([2, 0x3a, 2]);
  });

  it('in a far drive: exchanged while a write is in flight; the write fails and does not reach the new medium', async () => {
    const old = new GatedDisk(size);
    const far = new ExchangeableDrive(farFacts, old);
    const { driver } = await started(far, 'removable');
    const writing = driver.packet([Scsi.write10, 0, 0, 0, 0, 0, 0, 0, 1], 512, { write: true });
    while (old.waiting.length === 0) await nextIteration();
    await far.remove();
    const fresh = new MemoryDevice(size);
    far.insert(fresh);
    expect((await writing).error >> 4).toBe(2);
    expect(old.aborted).toBe(1);
    expect(await refused(driver, [Scsi.write10, 0, 0, 0, 0, 0, 0, 0, 1], 512, true)).toEqual([6, 0x28, 0]);
    const bytes = new Uint8Array(512).fill(1);
    await fresh.read(0, buffersOf(bytes));
    expect(bytes.every((byte) => byte === 0)).toBe(true);
  });

  it('in a far drive that refuses to eject, or cannot: the guest gets an error', async () => {
    const medium = new ExchangeableDrive(farFacts, new MemoryDevice(size));
    const { driver } = await started(medium);
    let kind: BlockErrorKind = 'read-only';
    medium.media.eject = () => Promise.reject(new BlockError(kind, 'as asked'));
    expect(await refused(driver, [Scsi.startStopUnit, 0, 0, 0, 2])).toEqual([5, 0x53, 2]);
    kind = 'unsupported';
    expect(await refused(driver, [Scsi.startStopUnit, 0, 0, 0, 2])).toEqual([4, 0x53, 0]);
    expect((await driver.packet([Scsi.testUnitReady])).status).toBe(0x50);
  });

  it('in a far drive that has another one after a snapshot: the guest is told', async () => {
    const far = new ExchangeableDrive(farFacts, new MemoryDevice(size));
    const { driver } = await started(far);
    await driver.controller.pause();
    const state = JSON.parse(JSON.stringify(driver.controller.save())) as ReturnType<typeof driver.controller.save>;
    await far.remove();
    far.insert(new MemoryDevice(size));
    const drive = new PacketDrive({ kind: 'cdrom', identity: testAtaIdentity, medium: far });
    const other = new AhciDriver([drive]);
    await other.start();
    other.controller.restore(state);
    await other.reset();
    expect(await refused(other, [Scsi.testUnitReady])).toEqual([6, 0x28, 0]);
    expect((await other.packet([Scsi.testUnitReady])).status).toBe(0x50);
  });

  it('sends asynchronous notifications if the guest enables them (SATA 3.0 §13.8)', async () => {
    const { driver, drive } = await started(undefined);
    drive.insert(new MemoryDevice(size));
    expect(driver.port('is') & 8).toBe(0);
    drive.eject();
    const count = SataFeature.asynchronousNotification;
    await driver.run({ command: AtaCommand.setFeatures, features: SetFeature.enableSataFeature, count });
    drive.insert(new MemoryDevice(size));
    expect(driver.port('is') & 8).toBe(8);
    expect([...driver.frame('setDeviceBits').subarray(0, 2)]).toEqual([0xa1, 0xc0]);
    expect(driver.line).toBe(true);
  });
});

describe('a removable disk', () => {
  it('reads and writes, flushes, and says when it is write-protected', async () => {
    const { driver } = await started(new MemoryDevice(size), 'removable');
    const at = driver.allocate(1024);
    driver.memory.at(at, 1024).fill(0x77);
    const write10 = [Scsi.write10, 0, 0, 0, 0, 9, 0, 0, 2];
    expect(await driver.packet(write10, 1024, { write: true, at })).toMatchObject({ status: 0x50, transferred: 1024 });
    await driver.packet([Scsi.synchronizeCache10]);
    const { data } = await driver.packet([Scsi.read16, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 1], 512);
    expect([data.length, data[511]]).toEqual([512, 0x77]);
    const { data: mode } = await driver.packet([Scsi.modeSense10, 0, 0x08, 0, 0, 0, 0, 0, 64], 64);
    expect([mode[3], mode[8], mode[10]]).toEqual([0x10, 8, 4]);

    const protectedDisk = await started(new MemoryDevice(size, { readOnly: true }), 'removable');
    const page = await protectedDisk.driver.packet([Scsi.modeSense10, 0, 0x3f, 0, 0, 0, 0, 0, 64], 64);
    expect(page.data[3]! & 0x80).toBe(0x80);
    const refusal = await protectedDisk.driver.packet(write10, 1024, { write: true, at });
    expect(refusal.error >> 4).toBe(7);
  });

  it('describes itself in mode pages that cannot be changed', async () => {
    const { driver } = await started(new MemoryDevice(size), 'removable');
    const page = async (...packet: number[]) => [...(await driver.packet(packet, 128)).data];
    expect((await page(Scsi.inquiry, 1, 0x00, 0, 128)).slice(4)).toEqual([0x00, 0x80, 0x83, 0xb0, 0xb1]);
    expect(await page(Scsi.inquiry, 1, 0xb0, 0, 128)).toHaveLength(64);
    expect((await page(Scsi.inquiry, 1, 0xb1, 0, 128)).slice(0, 6)).toEqual([0, 0xb1, 0, 60, 0, 1]);
    const changeable = await page(Scsi.modeSense10, 0, 0x48, 0, 0, 0, 0, 0, 64);
    expect(changeable.slice(8)).toEqual([8, 18, ...new Array<number>(18).fill(0)]);
    expect(await refused(driver, [Scsi.modeSense10, 0, 0x08, 1, 0, 0, 0, 0, 64], 64)).toEqual([5, 0x24, 0]);
    expect(await refused(driver, [Scsi.inquiry, 1, 0xb2, 0, 64], 64)).toEqual([5, 0x24, 0]);
  });

  it('keeps lock, attention and sense in a snapshot', async () => {
    const { driver } = await started(new MemoryDevice(size), 'removable');
    await driver.packet([Scsi.preventAllow, 0, 0, 0, 1]);
    await driver.packet([0xff]);
    await driver.controller.pause();
    const state = JSON.parse(JSON.stringify(driver.controller.save())) as ReturnType<typeof driver.controller.save>;
    const drive = new PacketDrive({ kind: 'removable', identity: testAtaIdentity, medium: new MemoryDevice(size) });
    const other = new AhciDriver([drive]);
    await other.start();
    other.controller.restore(state);
    expect(drive.locked).toBe(true);
    await other.reset();
    expect(await sense(other)).toEqual([5, 0x20, 0]);
  });
});
