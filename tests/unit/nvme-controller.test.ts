import { describe, expect, it } from 'vitest';
import { buffersOf } from '../../src/base/buffers.js';
import { AdminOpcode, Cns, Feature, LogPage, NvmOpcode, Register, Status } from '../../src/spec/nvme.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { NvmeDriver, type TestCommand } from '../support/nvme-driver.js';
import { FailingDisk, GatedDisk } from '../support/gated-disk.js';

const size = 4 << 20;

async function started(disk = new MemoryDevice(size), queues = 1): Promise<NvmeDriver> {
  const driver = new NvmeDriver(disk);
  await driver.start(queues);
  return driver;
}

describe('registers (NVMe 1.4 §3.1)', () => {
  it('reports its capabilities and version', () => {
    const driver = new NvmeDriver(new MemoryDevice(size));
    expect(driver.read(Register.cap) & 0xffff).toBe(1023); // MQES
    expect((driver.read(Register.cap) >>> 16) & 1).toBe(1); // CQR
    expect(driver.read(Register.cap + 4) & 0xf).toBe(0); // DSTRD
    expect(driver.read(Register.vs)).toBe(0x00010400);
    expect(driver.read(Register.csts)).toBe(0);
  });

  it('keeps the admin queue attributes writable only while disabled', async () => {
    const driver = await started();
    const before = driver.read(Register.asq);
    driver.write(Register.asq, 0x123000);
    expect(driver.read(Register.asq)).toBe(before);
  });

  it('fails with CSTS.CFS on an admin queue outside of memory, and a reset revives it', async () => {
    const driver = new NvmeDriver(new MemoryDevice(size));
    driver.write(Register.aqa, 31 | (31 << 16));
    driver.write(Register.asq, 0xfffff000);
    driver.write(Register.acq, 0x10000);
    driver.write(Register.cc, 1 | (6 << 16) | (4 << 20));
    expect(driver.read(Register.csts) & 2).toBe(2);
    await driver.disable();
    expect(driver.read(Register.csts)).toBe(0);
    await driver.start();
    await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
  });

  it('completes a shutdown after a flush (§7.6.2)', async () => {
    let flushes = 0;
    class Flushed extends MemoryDevice {
      override flush(): Promise<void> {
        flushes++;
        return Promise.resolve();
      }
    }
    const driver = await started(new Flushed(size));
    driver.write(Register.cc, driver.read(Register.cc) | (1 << 14));
    for (let i = 0; i < 100 && ((driver.read(Register.csts) >> 2) & 3) !== 2; i++) await Promise.resolve();
    expect((driver.read(Register.csts) >> 2) & 3).toBe(2);
    expect(flushes).toBe(1);
  });
});

describe('admin commands (§5)', () => {
  it('identifies controller and namespace', async () => {
    const driver = await started();
    const controller = await driver.identifyController();
    const text = (at: number, length: number) =>
      String.fromCharCode(...new Uint8Array(controller.buffer, controller.byteOffset + at, length)).trim();
    expect(text(4, 20)).toBe('TEST0001');
    expect(text(24, 40)).toBe('Test Disk');
    expect(controller.getUint8(512)).toBe(0x66);
    const namespace = await driver.identify(Cns.namespace, 1);
    expect(namespace.getBigUint64(0, true)).toBe(BigInt(size / 512));
    expect(namespace.getUint8(130)).toBe(9);
    const active = await driver.identify(Cns.activeNamespaces, 0);
    expect([active.getUint32(0, true), active.getUint32(4, true)]).toEqual([1, 0]);
    const page = driver.allocate(4096);
    const other = await driver.submit({ opcode: AdminOpcode.identify, nsid: 2, prp1: page, dword10: Cns.namespace });
    expect(other.status).toBe(Status.invalidNamespace);
  });

  it("answers wrong commands with the specification's status", async () => {
    const driver = await started();
    const page = driver.allocate(4096);
    const cases: [TestCommand, number][] = [
      [{ opcode: 0x7f }, Status.invalidOpcode],
      [{ opcode: AdminOpcode.identify, prp1: page, dword10: 0x77 }, Status.invalidField],
      [{ opcode: AdminOpcode.identify, prp1: driver.memory.size, dword10: 1 }, Status.dataTransferError],
      [{ opcode: AdminOpcode.identify, prp1: page + 2, dword10: 1 }, Status.invalidPrpOffset],
      [{ opcode: AdminOpcode.identify, prp1: page, dword10: 1, dword0: 1 << 14 }, Status.invalidField],
      [{ opcode: AdminOpcode.createCq, prp1: page, dword10: 0 | (7 << 16), dword11: 1 }, Status.invalidQueueIdentifier],
      [{ opcode: AdminOpcode.createCq, prp1: page, dword10: 1 | (7 << 16), dword11: 1 }, Status.invalidQueueIdentifier],
      [{ opcode: AdminOpcode.createCq, prp1: page, dword10: 2, dword11: 1 }, Status.invalidQueueSize],
      [{ opcode: AdminOpcode.createCq, prp1: page, dword10: 2 | (0xffff << 16), dword11: 1 }, Status.invalidQueueSize],
      [{ opcode: AdminOpcode.createCq, prp1: page, dword10: 2 | (7 << 16), dword11: 0 }, Status.invalidField],
      [
        { opcode: AdminOpcode.createCq, prp1: page, dword10: 2 | (7 << 16), dword11: 1 | (1 << 16) },
        Status.invalidInterruptVector,
      ],
      [
        { opcode: AdminOpcode.createSq, prp1: page, dword10: 2 | (7 << 16), dword11: 1 | (9 << 16) },
        Status.completionQueueInvalid,
      ],
      [{ opcode: AdminOpcode.deleteCq, dword10: 1 }, Status.invalidQueueDeletion],
      [{ opcode: AdminOpcode.deleteSq, dword10: 5 }, Status.invalidQueueIdentifier],
      [{ opcode: AdminOpcode.getLogPage, prp1: page, dword10: 0x99 }, Status.invalidLogPage],
      [{ opcode: AdminOpcode.getFeatures, dword10: 0x99 }, Status.invalidField],
      [
        { opcode: AdminOpcode.setFeatures, dword10: (Feature.arbitration | (1 << 31)) >>> 0 },
        Status.featureNotSaveable,
      ],
      [{ opcode: AdminOpcode.setFeatures, dword10: Feature.volatileWriteCache }, Status.featureNotChangeable],
    ];
    for (const [command, status] of cases) {
      const completion = await driver.submit(command);
      expect(completion.status, JSON.stringify(command)).toBe(status);
      expect(completion.doNotRetry).toBe(true);
    }
  });

  it('sets and gets features', async () => {
    const driver = await started();
    const queues = await driver.expect({
      opcode: AdminOpcode.setFeatures,
      dword10: Feature.numberOfQueues,
      dword11: 3,
    });
    expect(queues).toBe((15 << 16) | 15);
    await driver.expect({ opcode: AdminOpcode.setFeatures, dword10: Feature.temperatureThreshold, dword11: 300 });
    expect(await driver.expect({ opcode: AdminOpcode.getFeatures, dword10: Feature.temperatureThreshold })).toBe(300);
    const byDefault = { opcode: AdminOpcode.getFeatures, dword10: Feature.temperatureThreshold | (1 << 8) };
    expect(await driver.expect(byDefault)).toBe(343);
  });

  it('logs errors and use', async () => {
    const driver = await started();
    const buffer = driver.allocate(4096);
    const wrong = await driver.submit({ opcode: NvmOpcode.read, prp1: buffer, dword10: size }, 1);
    expect(wrong.status).toBe(Status.lbaOutOfRange);
    await driver.expect({ opcode: NvmOpcode.read, prp1: buffer, dword12: 7 }, 1);
    const log = driver.allocate(4096);
    const dwords = (64 / 4 - 1) << 16;
    await driver.expect({ opcode: AdminOpcode.getLogPage, prp1: log, dword10: LogPage.error | dwords });
    const entry = driver.memory.data(log, 64);
    expect(Number(entry.getBigUint64(0, true))).toBe(1);
    expect((entry.getUint16(12, true) >> 1) & 0x7ff).toBe(Status.lbaOutOfRange);
    expect(Number(entry.getBigUint64(16, true))).toBe(size);
    await driver.expect({ opcode: AdminOpcode.getLogPage, prp1: log, dword10: LogPage.smart | ((512 / 4 - 1) << 16) });
    const health = driver.memory.data(log, 512);
    expect(Number(health.getBigUint64(32, true))).toBe(1); // data units read, rounded up
    expect(Number(health.getBigUint64(64, true))).toBe(1); // host read commands
  });

  it('reports a wrong doorbell as an asynchronous event (§5.2)', async () => {
    const driver = await started();
    const event = driver.submit({ opcode: AdminOpcode.asyncEventRequest });
    driver.write(Register.doorbells + 8, 9999);
    const { status, result } = await event;
    expect(status).toBe(0);
    expect(result).toBe(0x010100); // log page 1, invalid doorbell write value, error
    driver.write(Register.doorbells + 8 * 12, 1); // no such queue, and no event request yet
    expect((await driver.submit({ opcode: AdminOpcode.asyncEventRequest })).result).toBe(0x010000);
  });

  it('bounds the asynchronous event requests that wait, and aborts one (§5.1)', async () => {
    const driver = await started();
    const waiting = [1, 2, 3, 4].map((i) => driver.submit({ opcode: AdminOpcode.asyncEventRequest, cid: 100 + i }));
    expect((await driver.submit({ opcode: AdminOpcode.asyncEventRequest })).status).toBe(
      Status.asyncEventLimitExceeded,
    );
    expect(await driver.expect({ opcode: AdminOpcode.abort, dword10: 102 << 16 })).toBe(0);
    expect((await waiting[1]!).status).toBe(Status.abortRequested);
  });
});

describe('the NVM command set (§6)', () => {
  it('reads and writes through PRP1, PRP2 and PRP lists of any shape (§4.3)', async () => {
    const disk = new MemoryDevice(size);
    const driver = await started(disk);
    for (const [length, offset] of [
      [512, 0],
      [4096, 0],
      [8192, 0],
      [4096, 512],
      [8192, 512],
      [40 * 4096, 0],
      [40 * 4096, 1024],
      [600 * 512, 3584],
    ] as const) {
      const content = new Uint8Array(length).map((_, i) => (i * 7 + length + offset) & 0xff);
      // Pages in descending order, so that no two are adjacent, with the list at the end of a page,
      // so that it continues.
      const count = Math.ceil((offset + length) / 4096);
      const pages = Array.from({ length: count }, () => driver.allocate(8192)).reverse();
      let at = 0;
      pages.forEach((page, i) => {
        const start = i === 0 ? offset : 0;
        const take = Math.min(4096 - start, length - at);
        driver.memory.at(page + start, take).set(content.subarray(at, at + take));
        at += take;
      });
      const prp = { prp1: pages[0]! + offset, prp2: prpList(driver, pages.slice(1)) };
      const sectors = { dword10: 64, dword12: length / 512 - 1 };
      await driver.expect({ opcode: NvmOpcode.write, ...prp, ...sectors }, 1);
      const stored = new Uint8Array(length);
      await disk.read(64 * 512, buffersOf(stored));
      expect(Buffer.compare(stored, content)).toBe(0);
      for (const page of pages) driver.memory.at(page, 4096).fill(0);
      await driver.expect({ opcode: NvmOpcode.read, ...prp, ...sectors }, 1);
      at = 0;
      pages.forEach((page, i) => {
        const start = i === 0 ? offset : 0;
        const take = Math.min(4096 - start, length - at);
        expect(Buffer.compare(driver.memory.at(page + start, take), content.subarray(at, at + take))).toBe(0);
        at += take;
      });
    }
  });

  it('writes zeroes and deallocates', async () => {
    const disk = new MemoryDevice(new Uint8Array(size).fill(0xaa));
    const driver = await started(disk);
    await driver.expect({ opcode: NvmOpcode.writeZeroes, dword10: 8, dword12: 7 }, 1);
    const found = new Uint8Array(3 * 4096);
    await disk.read(0, buffersOf(found));
    expect(found.subarray(4096, 8192).every((byte) => byte === 0)).toBe(true);
    expect(found[4095]).toBe(0xaa);
    expect(found[8192]).toBe(0xaa);
    const table = driver.allocate(4096);
    const ranges = driver.memory.data(table, 32);
    ranges.setUint32(4, 8, true);
    ranges.setBigUint64(8, 16n, true);
    ranges.setUint32(20, 1, true);
    ranges.setBigUint64(24, 100n, true);
    await driver.expect({ opcode: NvmOpcode.datasetManagement, prp1: table, dword10: 1, dword11: 4 }, 1);
    await disk.read(0, buffersOf(found));
    expect(found[16 * 512]).toBe(0);
    driver.memory.data(table, 32).setBigUint64(24, BigInt(size), true);
    const wrong = await driver.submit({ opcode: NvmOpcode.datasetManagement, prp1: table, dword10: 1, dword11: 4 }, 1);
    expect(wrong.status).toBe(Status.lbaOutOfRange);
  });

  it('refuses what is out of range, misplaced or unknown', async () => {
    const driver = await started();
    const buffer = driver.allocate(4096);
    const last = size / 512;
    const cases: [TestCommand, number][] = [
      [{ opcode: NvmOpcode.read, prp1: buffer, dword10: last }, Status.lbaOutOfRange],
      [{ opcode: NvmOpcode.read, prp1: buffer, dword10: last - 1, dword12: 1 }, Status.lbaOutOfRange],
      [{ opcode: NvmOpcode.read, prp1: buffer, dword11: 0xffffffff }, Status.lbaOutOfRange],
      [{ opcode: NvmOpcode.read, prp1: buffer, nsid: 7 }, Status.invalidNamespace],
      [{ opcode: NvmOpcode.read, prp1: buffer, dword0: 1 << 8 }, Status.invalidField],
      [{ opcode: NvmOpcode.read, prp1: driver.memory.size }, Status.dataTransferError],
      [{ opcode: NvmOpcode.read, prp1: buffer, dword12: 0xffff }, Status.lbaOutOfRange],
      [{ opcode: NvmOpcode.read, prp1: buffer, prp2: buffer + 4, dword12: 100 }, Status.invalidPrpOffset],
      [{ opcode: NvmOpcode.read, prp1: buffer, prp2: driver.memory.size, dword12: 100 }, Status.dataTransferError],
      [{ opcode: NvmOpcode.write, prp1: buffer, prp2: buffer + 8, dword12: 15 }, Status.invalidPrpOffset],
      [{ opcode: 0x55, prp1: buffer }, Status.invalidOpcode],
    ];
    for (const [command, status] of cases) {
      expect((await driver.submit(command, 1)).status, JSON.stringify(command)).toBe(status);
    }
  });

  it('refuses a transfer beyond MDTS', async () => {
    const driver = await started(new MemoryDevice(8 << 20));
    const { status } = await driver.submit({ opcode: NvmOpcode.read, prp1: 0, dword12: 4096 }, 1);
    expect(status).toBe(Status.invalidField);
  });

  it.each([
    ['no-space', Status.capacityExceeded],
    ['read-only', Status.writeToReadOnly],
    ['io', Status.writeFault],
    ['unreachable', Status.internalError],
    ['no-medium', Status.namespaceNotReady],
  ] as const)('tells the guest of %s', async (kind, status) => {
    const driver = await started(new FailingDisk(size, kind));
    const completion = await driver.submit({ opcode: NvmOpcode.write, prp1: driver.allocate(4096) }, 1);
    expect(completion.status).toBe(status);
    expect(completion.doNotRetry).toBe(true);
  });

  it('serves several queues at once and wraps around each of them', async () => {
    const driver = await started(new MemoryDevice(size), 4);
    const buffer = driver.allocate(4096);
    for (let round = 0; round < 5; round++) {
      const all: Promise<{ status: number }>[] = [];
      for (let qid = 1; qid <= 4; qid++) {
        for (let i = 0; i < 50; i++) all.push(driver.submit({ opcode: NvmOpcode.read, prp1: buffer }, qid, i === 49));
      }
      for (const { status } of await Promise.all(all)) expect(status).toBe(0);
    }
    expect(driver.controller.counts.commands).toBe(1000);
    expect(driver.interrupts).toBeLessThan(1000);
    expect(driver.strays).toEqual([]);
  });

  it('holds completions back while the completion queue is full', async () => {
    const driver = await started();
    const buffer = driver.allocate(4096);
    driver.consuming = false;
    const first = Array.from({ length: 60 }, () => driver.submit({ opcode: NvmOpcode.read, prp1: buffer }, 1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    const second = Array.from({ length: 30 }, () => driver.submit({ opcode: NvmOpcode.read, prp1: buffer }, 1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    driver.consuming = true;
    driver.poll();
    await new Promise((resolve) => setTimeout(resolve, 5));
    driver.poll();
    for (const { status } of await Promise.all([...first, ...second])) expect(status).toBe(0);
  });

  it('masks its interrupt (§3.1.3)', async () => {
    const driver = await started();
    driver.write(Register.intms, 1);
    driver.consuming = false;
    void driver.submit({ opcode: NvmOpcode.flush }, 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(driver.line).toBe(false);
    driver.write(Register.intmc, 1);
    expect(driver.line).toBe(true);
  });
});

describe('resets and aborts', () => {
  it('stays ready until commands in flight can have no later effect (§7.3.2)', async () => {
    const disk = new GatedDisk(size);
    disk.honoursAbort = false;
    const driver = await started(disk);
    void driver.submit({ opcode: NvmOpcode.write, prp1: driver.allocate(4096) }, 1);
    driver.write(Register.cc, 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(driver.read(Register.csts) & 1).toBe(1);
    disk.open();
    await driver.waitReady(false);
    driver.queues.clear();
    await driver.start();
    await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
    expect(driver.strays).toEqual([]);
  });

  it('cancels the cancellable commands at a reset', async () => {
    const disk = new GatedDisk(size);
    const driver = await started(disk);
    void driver.submit({ opcode: NvmOpcode.write, prp1: driver.allocate(4096) }, 1);
    await driver.disable();
    expect(disk.waiting.length).toBe(1);
  });

  it('aborts a cancellable command, and says so', async () => {
    const disk = new GatedDisk(size);
    const driver = await started(disk);
    const read = driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096), cid: 500 }, 1);
    expect(await driver.expect({ opcode: AdminOpcode.abort, dword10: 1 | (500 << 16) })).toBe(0);
    expect((await read).status).toBe(Status.abortRequested);
  });

  it('lets an uncancellable command run on, and says so', async () => {
    const disk = new GatedDisk(size);
    disk.honoursAbort = false;
    const driver = await started(disk);
    const read = driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096), cid: 500 }, 1);
    expect(await driver.expect({ opcode: AdminOpcode.abort, dword10: 1 | (500 << 16) })).toBe(1);
    disk.open();
    expect((await read).status).toBe(Status.success);
  });

  it('deletes a queue with commands in flight (§5.6)', async () => {
    const disk = new GatedDisk(size);
    const driver = await started(disk);
    const read = driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
    await driver.expect({ opcode: AdminOpcode.deleteSq, dword10: 1 });
    expect((await read).status).toBe(Status.abortedSqDeletion);
    await driver.expect({ opcode: AdminOpcode.deleteCq, dword10: 1 });
  });

  it('refuses a command identifier that is in use', async () => {
    const disk = new GatedDisk(size);
    const driver = await started(disk);
    void driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096), cid: 9 }, 1);
    const again = await driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096), cid: 9 }, 1);
    expect(again.status).toBe(Status.commandIdConflict);
    disk.open();
  });

  it('saves its state, and another controller continues from it', async () => {
    const disk = new MemoryDevice(size);
    const driver = await started(disk, 2);
    const event = driver.submit({ opcode: AdminOpcode.asyncEventRequest });
    await driver.controller.pause();
    const whileSaved = driver.submit({ opcode: NvmOpcode.flush }, 2);
    const state = JSON.parse(JSON.stringify(driver.controller.save())) as ReturnType<typeof driver.controller.save>;
    const other = new NvmeDriver(disk);
    Object.assign(other, { memory: driver.memory, queues: driver.queues });
    const revived = new NvmeDriver(disk, { memory: driver.memory });
    for (const [id, queue] of driver.queues) revived.queues.set(id, { ...queue });
    Object.defineProperty(revived, 'memory', { value: driver.memory });
    revived.controller.restore(state);
    revived.controller.resume();
    const done = await revived.submit({ opcode: NvmOpcode.flush, cid: 4242 }, 1);
    expect(done.status).toBe(0);
    // The flush that waited when the state was saved.
    expect(revived.strays.map(({ sqid }) => sqid)).toEqual([2]);
    revived.write(Register.doorbells + 8, 9999);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(revived.strays.some(({ sqid, result }) => sqid === 0 && result === 0x010100)).toBe(true);
    void event;
    void whileSaved;
  });
});

/**
 * The PRP2 value for `pages`: the page itself, or a list whose first part ends at a page boundary
 * after three entries.
 */
function prpList(driver: NvmeDriver, pages: readonly number[]): number {
  if (pages.length <= 1) return pages[0] ?? 0;
  const first = driver.allocate(4096) + 4096 - 3 * 8;
  let list = driver.memory.data(first, 24);
  let at = 0;
  let left = 3;
  pages.forEach((page, i) => {
    if (left === 1 && pages.length - i > 1) {
      const next = driver.allocate(4096);
      list.setBigUint64(at, BigInt(next), true);
      list = driver.memory.data(next, 4096);
      at = 0;
      left = 512;
    }
    list.setBigUint64(at, BigInt(page), true);
    at += 8;
    left--;
  });
  return first;
}
