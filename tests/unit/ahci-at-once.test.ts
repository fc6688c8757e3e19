/**
 * AHCI disks over a device with synchronous reads and writes: a command ends before its issue
 * returns, or takes the slow path.
 */
import { describe, expect, it } from 'vitest';
import { BlockError } from '../../src/block/errors.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';
import { Steps } from '../../src/base/steps.js';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { AtaCommand, SetFeature } from '../../src/spec/ata.js';
import { AhciDriver, testAtaIdentity, type DriverCommand } from '../support/ahci-driver.js';
import { AtOnceMedium, mediumBytes } from '../support/at-once-medium.js';

async function started(medium = new AtOnceMedium(), steps = new Steps()) {
  const client = new VirtualIoClient(medium, steps);
  const driver = new AhciDriver([new AtaDisk(client, testAtaIdentity)]);
  await driver.start();
  return { medium, client, driver };
}

/**
 * Issues a command.
 * @returns true if the command had ended when the issue returned
 */
function issue(driver: AhciDriver, command: DriverCommand, slot = 0): boolean {
  driver.prepare(slot, command);
  driver.setPort('ci', 1 << slot);
  return driver.port('ci') === 0 && (driver.port('is') & 1) === 1;
}

describe('an AHCI disk with synchronous reads and writes', () => {
  it('reads and writes within the issue of a command, through scattered descriptors', async () => {
    const { medium, client, driver } = await started();
    const at = driver.allocate(8192);
    const prdt = [
      [at + 2, 1024],
      [at + 4096, 3072],
    ] as const;
    expect(issue(driver, { command: AtaCommand.readDmaExt, lba: 100, count: 8, prdt })).toBe(true);
    expect(driver.acknowledge()).toMatchObject({ status: 0x50, error: 0, transferred: 4096 });
    const expected = medium.content.slice(51200, 51200 + 4096);
    expect(driver.memory.at(at + 2, 1024)).toEqual(expected.subarray(0, 1024));
    expect(driver.memory.at(at + 4096, 3072)).toEqual(expected.subarray(1024));
    expect(issue(driver, { command: AtaCommand.writeDmaExt, lba: 500, count: 8, prdt, write: true })).toBe(true);
    driver.acknowledge();
    expect(medium.content.subarray(256000, 256000 + 4096)).toEqual(expected);
    expect([medium.atOnce, medium.later]).toEqual([4, 0]);
    expect(client.counts).toMatchObject({ readBytes: 4096, writtenBytes: 4096, errors: 0 });
  });

  it('completes queued commands at once, each with its own bit', async () => {
    const { medium, driver } = await started();
    const at = driver.allocate(8192);
    driver.queue(3, { command: AtaCommand.readFpdma, features: 8, lba: 8, prdt: [[at, 4096]] });
    expect([driver.port('sact'), driver.port('ci')]).toEqual([0, 0]);
    driver.queue(4, { command: AtaCommand.readFpdma, features: 8, lba: 16, prdt: [[at + 4096, 4096]] });
    expect(driver.port('sact')).toBe(0);
    expect(driver.memory.at(at, 8192)).toEqual(medium.content.slice(4096, 4096 + 8192));
    expect(medium.later).toBe(0);
  });

  it('takes the asynchronous path for a whole command if a part of it would have to wait', async () => {
    const { medium, driver } = await started();
    medium.ready = (offset) => offset < 51200 + 1024;
    const at = driver.allocate(8192);
    const prdt = [
      [at, 1024],
      [at + 4096, 3072],
    ] as const;
    expect(issue(driver, { command: AtaCommand.readDmaExt, lba: 100, count: 8, prdt })).toBe(false);
    expect(await driver.end()).toMatchObject({ status: 0x50, transferred: 4096 });
    expect(driver.memory.at(at + 4096, 3072)).toEqual(medium.content.slice(52224, 52224 + 3072));
    expect(medium.later).toBe(1);
  });

  it('waits for durable writes, and for every write while the write cache is off', async () => {
    const { medium, driver } = await started();
    const prdt = [[driver.allocate(512), 512]] as const;
    const write = { lba: 0, count: 1, prdt, write: true };
    await driver.run({ command: AtaCommand.writeDmaFuaExt, ...write });
    await driver.run({ command: AtaCommand.setFeatures, features: SetFeature.disableWriteCache });
    await driver.run({ command: AtaCommand.writeDmaExt, ...write });
    expect([medium.atOnce, medium.later]).toEqual([0, 2]);
  });

  it('leaves every refusal to the asynchronous path', async () => {
    const { medium, driver } = await started();
    const at = driver.allocate(4096);
    // Descriptors that end within a sector or beyond the end of the disk, too few descriptors, and
    // a disk that fails.
    const odd = [
      [at, 1000],
      [at + 2048, 24],
    ] as const;
    expect(issue(driver, { command: AtaCommand.readDmaExt, count: 2, prdt: odd })).toBe(false);
    expect(await driver.end()).toMatchObject({ status: 0x50, transferred: 1024 });
    expect(
      (await driver.run({ command: AtaCommand.readDmaExt, lba: mediumBytes / 512, count: 1, prdt: [[at, 512]] })).error,
    ).toBe(0x10);
    await driver.restart();
    const short = await driver.run({ command: AtaCommand.readDmaExt, count: 8, prdt: [[at, 512]] });
    expect(short.interrupts & 0x01000000).not.toBe(0);
    await driver.restart();
    medium.ready = () => {
      throw new BlockError('io', 'a bad sector');
    };
    expect(issue(driver, { command: AtaCommand.readDmaExt, count: 8, prdt: [[at, 4096]] })).toBe(false);
    expect(await driver.end()).toMatchObject({ status: 0x50 });
    expect(medium.atOnce).toBe(0);
  });

  it('is not used while steps are traced', async () => {
    const steps = new Steps();
    const told: string[] = [];
    steps.add({ step: ({ id }) => void told.push(id) });
    const { medium, driver } = await started(new AtOnceMedium(), steps);
    await driver.run({ command: AtaCommand.readDmaExt, count: 1, prdt: [[driver.allocate(512), 512]] });
    expect([medium.atOnce, medium.later]).toEqual([0, 1]);
    expect(told).toContain('262');
  });
});
