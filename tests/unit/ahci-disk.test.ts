import { describe, expect, it } from 'vitest';
import type { BlockErrorKind } from '../../src/block/errors.js';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { AtaCommand, AtaLog, SetFeature, Smart } from '../../src/spec/ata.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity, type DriverCommand } from '../support/ahci-driver.js';
import { FailingDisk } from '../support/gated-disk.js';
import { nextIteration } from '../support/event-loop.js';

const size = 4 << 20;

async function started(medium: MemoryDevice): Promise<AhciDriver> {
  const driver = new AhciDriver([new AtaDisk(medium, testAtaIdentity)]);
  await driver.start();
  return driver;
}

/** Records the requests that it receives. */
class Recorder extends MemoryDevice {
  readonly seen: string[] = [];

  override write(...[offset, from, options]: Parameters<MemoryDevice['write']>): Promise<void> {
    this.seen.push(`write ${offset}+${from.length}${options?.fua ? ' fua' : ''}`);
    return super.write(offset, from, options);
  }

  override flush(): Promise<void> {
    this.seen.push('flush');
    return super.flush();
  }

  override trim(...[offset, length, options]: Parameters<MemoryDevice['trim']>): Promise<void> {
    this.seen.push(`trim ${offset}+${length}`);
    return super.trim(offset, length, options);
  }
}

function text(data: DataView, word: number, words: number): string {
  let result = '';
  for (let i = 0; i < words * 2; i++) result += String.fromCharCode(data.getUint8((word * 2 + i) ^ 1));
  return result.trim();
}

describe('IDENTIFY DEVICE (ATA8-ACS 7.16)', () => {
  it('reports its identity, its size and its abilities', async () => {
    const driver = await started(new MemoryDevice(size));
    const data = await driver.identify();
    const word = (index: number) => data.getUint16(index * 2, true);
    expect(text(data, 10, 10)).toBe('TEST0001');
    expect(text(data, 27, 20)).toBe('Test Disk');
    expect(data.getUint32(120, true)).toBe(size / 512);
    expect(data.getBigUint64(200, true)).toBe(BigInt(size / 512));
    expect(word(75)).toBe(31);
    expect(word(76) & 0x100).toBe(0x100);
    expect(word(83) & 0x3400).toBe(0x3400);
    expect(word(169)).toBe(1);
    expect(word(106)).toBe(0x6003); // 8 logical sectors a physical one
    expect(word(217)).toBe(1);
    expect([word(108), word(111)]).toEqual([0x3101, 0x0607]);
    let sum = 0;
    for (let i = 0; i < 512; i++) sum += data.getUint8(i);
    expect(sum & 0xff).toBe(0);
  });

  it('reports no write cache and no trim if the device has none', async () => {
    const can = { flush: false, fua: false, trim: false, writeZeroes: false, extents: false, multiConnection: false };
    const driver = await started(new MemoryDevice(size, { can }));
    const data = await driver.identify();
    expect(data.getUint16(82 * 2, true) & (1 << 5)).toBe(0);
    expect(data.getUint16(169 * 2, true)).toBe(0);
    expect((await driver.run({ command: AtaCommand.setFeatures, features: SetFeature.enableWriteCache })).error).toBe(
      4,
    );
  });

  it('has sectors of 4096 bytes if the device has such blocks', async () => {
    const driver = await started(new MemoryDevice(size, { blockSize: 4096 }));
    const data = await driver.identify();
    expect(data.getUint16(212, true)).toBe(0x5000);
    expect(data.getUint32(234, true)).toBe(2048);
    expect(data.getUint32(120, true)).toBe(size / 4096);
    const at = driver.allocate(4096);
    expect(await driver.run({ command: AtaCommand.readDmaExt, lba: 1023, count: 1, prdt: [[at, 4096]] })).toMatchObject(
      {
        status: 0x50,
        transferred: 4096,
      },
    );
  });
});

describe('data commands', () => {
  it('address sectors as each command does', async () => {
    const content = Uint8Array.from({ length: size }, (_, i) => (i >> 9) & 0xff);
    const driver = await started(new MemoryDevice(content));
    const at = driver.allocate(1 << 20);
    const cases: [DriverCommand, number, number][] = [
      [{ command: AtaCommand.readDma, lba: 0x21, count: 0 }, 256, 0x21], // 28 bits: 0 is 256
      [{ command: AtaCommand.readDmaExt, lba: 0x35, count: 3 }, 3, 0x35],
      [{ command: AtaCommand.readSectorsExt, lba: 0x07, count: 300 }, 300, 0x07],
      [{ command: AtaCommand.readSectors, lba: 0xff, count: 1 }, 1, 0xff],
    ];
    for (const [command, sectors, first] of cases) {
      const { status } = await driver.run({ ...command, prdt: [[at, sectors * 512]] });
      expect(status).toBe(0x50);
      expect(driver.memory.at(at, 1)[0]).toBe(first);
      expect(driver.memory.at(at + sectors * 512 - 1, 1)[0]).toBe((first + sectors - 1) & 0xff);
    }
  });

  it('READ MULTIPLE needs SET MULTIPLE first', async () => {
    const driver = await started(new MemoryDevice(size));
    const at = driver.allocate(4096);
    const read = { command: AtaCommand.readMultipleExt, count: 8, prdt: [[at, 4096]] as const };
    expect((await driver.run(read)).error).toBe(4);
    await driver.restart();
    expect((await driver.run({ command: AtaCommand.setMultiple, count: 5 })).error).toBe(4);
    await driver.restart();
    expect((await driver.run({ command: AtaCommand.setMultiple, count: 8 })).status).toBe(0x50);
    expect((await driver.run(read)).status).toBe(0x50);
  });

  it('writes with FUA, writes without a cache, and flushes', async () => {
    const medium = new Recorder(size);
    const driver = await started(medium);
    const prdt = [[driver.allocate(512), 512]] as const;
    await driver.run({ command: AtaCommand.writeDmaExt, count: 1, lba: 1, prdt, write: true });
    await driver.run({ command: AtaCommand.writeDmaFuaExt, count: 1, lba: 2, prdt, write: true });
    driver.queue(2, { command: AtaCommand.writeFpdma, features: 1, lba: 3, device: 0xc0, prdt, write: true });
    await driver.queuedEnd(1 << 2);
    await driver.run({ command: AtaCommand.setFeatures, features: SetFeature.disableWriteCache });
    await driver.run({ command: AtaCommand.writeDmaExt, count: 1, lba: 4, prdt, write: true });
    await driver.run({ command: AtaCommand.flushCacheExt });
    await driver.run({ command: AtaCommand.standbyImmediate });
    expect(medium.seen).toEqual([
      'write 512+512',
      'write 1024+512 fua',
      'write 1536+512 fua',
      'write 2048+512 fua',
      'flush',
      'flush',
    ]);
  });

  it('trims ranges, joined where they are neighbours (DATA SET MANAGEMENT)', async () => {
    const medium = new Recorder(size);
    const driver = await started(medium);
    const at = driver.allocate(512);
    const ranges = driver.memory.data(at, 512);
    [
      [8, 8],
      [16, 4],
      [0, 0],
      [100, 1],
    ].forEach(([lba, count], i) => {
      ranges.setUint32(i * 8, lba!, true);
      ranges.setUint16(i * 8 + 6, count!, true);
    });
    const trim = {
      command: AtaCommand.dataSetManagement,
      features: 1,
      count: 1,
      prdt: [[at, 512]] as const,
      write: true,
    };
    expect((await driver.run(trim)).status).toBe(0x50);
    expect(medium.seen).toEqual(['trim 4096+6144', 'trim 51200+512']);
    driver.memory.data(at, 512).setUint32(24, size, true);
    expect((await driver.run(trim)).error).toBe(0x10);
    expect(medium.seen.length).toBe(2);
  });

  it('verifies by reading', async () => {
    const medium = new FailingDisk(size, 'io');
    const driver = await started(medium);
    expect((await driver.run({ command: AtaCommand.readVerifyExt, count: 100 })).error).toBe(0x40);
    await driver.restart();
    medium.kind = undefined;
    // A count of 0 means 65536 sectors: too many.
    expect((await driver.run({ command: AtaCommand.readVerifyExt, count: 0 })).error).toBe(0x10);
    await driver.restart();
    expect((await driver.run({ command: AtaCommand.readVerifyExt, count: 8192 })).status).toBe(0x50);
  });
});

describe('errors', () => {
  it("of the medium are reported by ATA's bits, and in more detail by sense data", async () => {
    const cases: [BlockErrorKind, boolean, number, number, number][] = [
      ['io', false, 0x51, 0x40, 0x031100],
      ['unreachable', false, 0x51, 0x40, 0x031100],
      ['io', true, 0x71, 0x04, 0x030c00], // device fault: a write fault
      ['no-space', true, 0x51, 0x04, 0x072707],
      ['read-only', true, 0x51, 0x04, 0x072700],
      ['range', false, 0x51, 0x10, 0x052100],
    ];
    for (const [kind, write, status, error, sense] of cases) {
      const driver = await started(new FailingDisk(size, kind));
      await driver.run({ command: AtaCommand.setFeatures, features: SetFeature.senseReporting, count: 1 });
      const prdt = [[driver.allocate(512), 512]] as const;
      const command = write ? AtaCommand.writeDmaExt : AtaCommand.readDmaExt;
      const result = await driver.run({ command, count: 1, prdt, write });
      expect(result, kind).toMatchObject({ status: status | 2, error });
      await driver.restart();
      await driver.run({ command: AtaCommand.requestSenseDataExt });
      const frame = driver.frame('d2hRegister');
      expect((frame[6]! << 16) | (frame[5]! << 8) | frame[4]!, kind).toBe(sense);
    }
  });

  it('of unknown commands and wrong arguments are aborted', async () => {
    const driver = await started(new MemoryDevice(size));
    const prdt = [[driver.allocate(512), 512]] as const;
    const cases: DriverCommand[] = [
      { command: AtaCommand.nop },
      { command: AtaCommand.identifyPacket, prdt },
      { command: AtaCommand.packet, packet: [0], prdt },
      { command: 0xf1 }, // SECURITY SET PASSWORD
      { command: AtaCommand.readDma, device: 0, count: 1, prdt }, // cylinder, head, sector
      { command: AtaCommand.setFeatures, features: 0x99 },
      { command: AtaCommand.setFeatures, features: SetFeature.transferMode, count: 0xff },
      { command: AtaCommand.dataSetManagement, features: 0, count: 1, prdt },
      { command: AtaCommand.dataSetManagement, features: 1, count: 9, prdt },
      { command: AtaCommand.readLogExt, lba: 0x77, count: 1, prdt },
      { command: AtaCommand.readLogExt, lba: AtaLog.ncqError, count: 2, prdt },
      { command: AtaCommand.smart, features: Smart.readData, lba: 0, prdt },
    ];
    for (const command of cases) {
      expect(await driver.run(command), JSON.stringify(command)).toMatchObject({ status: 0x51, error: 4 });
      await driver.restart();
    }
  });

  it('of a queued command with a tag that is not its slot end it', async () => {
    const driver = await started(new MemoryDevice(size));
    driver.prepare(3, {
      command: AtaCommand.readFpdma,
      count: 5 << 3,
      features: 1,
      prdt: [[driver.allocate(512), 512]],
    });
    driver.setPort('sact', 1 << 3);
    driver.setPort('ci', 1 << 3);
    await nextIteration();
    expect(driver.port('is') >>> 30).toBe(1);
  });
});

describe('SMART and logs', () => {
  it('count commands and errors', async () => {
    const disk = new FailingDisk(size, 'io');
    disk.kind = undefined;
    const driver = await started(disk);
    const at = driver.allocate(4096);
    const key = Smart.key << 8;
    await driver.run({ command: AtaCommand.readDmaExt, count: 8, prdt: [[at, 4096]] });
    await driver.run({ command: AtaCommand.writeDmaExt, count: 2, prdt: [[at, 1024]], write: true });
    // A wrong address and an unknown command are not errors of the disk: A.19.
    await driver.run({ command: AtaCommand.readDmaExt, lba: size, count: 8, prdt: [[at, 4096]] });
    await driver.restart();
    await driver.run({ command: 0x02 });
    await driver.restart();
    disk.kind = 'io';
    await driver.run({ command: AtaCommand.readDmaExt, count: 8, prdt: [[at, 4096]] });
    await driver.restart();
    disk.kind = undefined;
    const page = driver.allocate(512);
    const smart = { command: AtaCommand.smart, lba: key, count: 1, prdt: [[page, 512]] as const };
    await driver.run({ ...smart, features: Smart.readData });
    const data = driver.memory.data(page, 512);
    const raw = (index: number) => [data.getUint8(2 + index * 12), data.getUint32(2 + index * 12 + 5, true)];
    expect([raw(0), raw(1), raw(2)]).toEqual([
      [187, 1],
      [241, 2],
      [242, 8],
    ]);
    await driver.run({ ...smart, features: Smart.readLog, lba: key | AtaLog.summaryError });
    const log = driver.memory.at(page, 512);
    expect([log[0], log[1], log[452]]).toEqual([1, 1, 1]);
    expect(log[2 + 48 + 7]).toBe(AtaCommand.readDmaExt);
    expect([log[2 + 60 + 1], log[2 + 60 + 7]]).toEqual([0x40, 0x51]);
    await driver.run({ ...smart, features: Smart.readLog, lba: key | AtaLog.selfTest });
    const tests = driver.memory.at(page, 512);
    expect([tests[0], tests.subarray(2, 511).every((byte) => byte === 0)]).toEqual([1, true]);
    expect(tests.reduce((sum, byte) => sum + byte, 0) & 0xff).toBe(0);
    await driver.run({ command: AtaCommand.smart, features: Smart.returnStatus, lba: key });
    expect([...driver.frame('d2hRegister').subarray(5, 7)]).toEqual([0x4f, 0xc2]);
    await driver.run({ command: AtaCommand.smart, features: Smart.disable, lba: key });
    expect((await driver.run({ ...smart, features: Smart.readData })).error).toBe(4);
  });
});
