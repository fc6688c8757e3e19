/**
 * NVMe over a disk with synchronous reads and writes: a command is complete when the doorbell write
 * returns, or takes the asynchronous way.
 */
import { describe, expect, it } from 'vitest';
import { Steps } from '../../src/base/steps.js';
import { BlockError } from '../../src/block/errors.js';
import { VirtualIoClient } from '../../src/computer/virtual-io-client.js';
import { NvmOpcode } from '../../src/spec/nvme.js';
import { NvmeDriver, type TestCommand } from '../support/nvme-driver.js';
import { AtOnceMedium, mediumBytes } from '../support/at-once-medium.js';

const fua = 1 << 30;

async function started(steps = new Steps()) {
  const medium = new AtOnceMedium();
  const driver = new NvmeDriver(new VirtualIoClient(medium, steps), { steps });
  await driver.start();
  return { medium, driver };
}

/** Submits a command. `atOnce`: it was complete when the doorbell write returned. */
async function issue(driver: NvmeDriver, command: TestCommand) {
  const before = driver.controller.counts.commands;
  const done = driver.submit(command, 1);
  const atOnce = driver.controller.counts.commands > before;
  const { status } = await done;
  return { atOnce, status };
}

const blocks = (first: number, count: number) => ({ dword10: first, dword12: count - 1 });

describe('an NVMe disk that answers at once', () => {
  it('reads and writes within the doorbell write, through scattered pages', async () => {
    const { medium, driver } = await started();
    const [at, second] = [driver.allocate(4096), (driver.allocate(4096), driver.allocate(4096))];
    const pages = { prp1: at + 512, prp2: second };
    expect(await issue(driver, { opcode: NvmOpcode.read, ...pages, ...blocks(100, 8) })).toEqual({
      atOnce: true,
      status: 0,
    });
    const expected = medium.content.slice(51200, 51200 + 4096);
    expect(driver.memory.view(at + 512, 3584)).toEqual(expected.subarray(0, 3584));
    expect(driver.memory.view(second, 512)).toEqual(expected.subarray(3584));
    expect(await issue(driver, { opcode: NvmOpcode.write, ...pages, ...blocks(500, 8) })).toEqual({
      atOnce: true,
      status: 0,
    });
    expect(medium.content.subarray(256000, 256000 + 4096)).toEqual(expected);
    expect([medium.atOnce, medium.later]).toEqual([4, 0]);
  });

  it('executes a command asynchronously if a part of it must wait', async () => {
    const { medium, driver } = await started();
    medium.ready = (offset) => offset < 51200 + 4096;
    const [at, second] = [driver.allocate(4096), (driver.allocate(4096), driver.allocate(4096))];
    const read = { opcode: NvmOpcode.read, prp1: at, prp2: second, ...blocks(100, 16) };
    expect(await issue(driver, read)).toEqual({ atOnce: false, status: 0 });
    expect(driver.memory.view(second, 4096)).toEqual(medium.content.slice(55296, 55296 + 4096));
    expect(medium.later).toBe(1);
  });

  it('executes writes with FUA, errors and traced commands asynchronously', async () => {
    const { medium, driver } = await started();
    const prp1 = driver.allocate(4096);
    const { dword10, dword12 } = blocks(0, 1);
    const durable = { opcode: NvmOpcode.write, prp1, dword10, dword12: dword12 + fua };
    expect(await issue(driver, durable)).toEqual({ atOnce: false, status: 0 });
    const beyond = await issue(driver, { opcode: NvmOpcode.read, prp1, ...blocks(mediumBytes / 512, 1) });
    expect(beyond).toEqual({ atOnce: false, status: 0x80 });
    medium.ready = () => {
      throw new BlockError('io', 'a bad sector');
    };
    expect(await issue(driver, { opcode: NvmOpcode.read, prp1, ...blocks(0, 1) })).toEqual({
      atOnce: false,
      status: 0,
    });
    const steps = new Steps();
    steps.add({ step: () => undefined });
    const traced = await started(steps);
    const read = { opcode: NvmOpcode.read, prp1: traced.driver.allocate(4096), ...blocks(0, 1) };
    expect(await issue(traced.driver, read)).toEqual({ atOnce: false, status: 0 });
    expect([medium.atOnce, traced.medium.atOnce]).toEqual([0, 0]);
  });

  it('executes a limited number of commands within one doorbell write', async () => {
    const { medium, driver } = await started();
    const prp1 = driver.allocate(4096);
    const all = Array.from({ length: 60 }, (_, i) =>
      driver.submit({ opcode: NvmOpcode.read, prp1, ...blocks(i, 1) }, 1, false),
    );
    driver.ring(1);
    expect(medium.atOnce).toBe(32);
    for (const { status } of await Promise.all(all)) expect(status).toBe(0);
    expect(driver.interrupts).toBeLessThan(30);
  });
});
