/** Shadow doorbells (NVMe 1.4 §5.7, §7.13) on a board whose writes can be events. */
import { describe, expect, it } from 'vitest';
import { Steps } from '../../src/base/steps.js';
import { AdminOpcode, LogPage, NvmOpcode, Register, Status } from '../../src/spec/nvme.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { nextIteration } from '../support/event-loop.js';
import { GatedDisk } from '../support/gated-disk.js';
import { NvmeDriver, type TestBoard } from '../support/nvme-driver.js';

const board = { messages: true, writeEvents: true } as const;
const size = 4 << 20;
const config = AdminOpcode.doorbellBufferConfig;

async function started(disk = new MemoryDevice(size), on: TestBoard = board, queues = 1): Promise<NvmeDriver> {
  const driver = new NvmeDriver(disk, {}, on);
  await driver.start(queues);
  return driver;
}

const oacs = async (driver: NvmeDriver) => (await driver.identifyController()).getUint16(256, true);
const read = (driver: NvmeDriver, at: number) => driver.expect({ opcode: NvmOpcode.read, prp1: at, dword12: 7 }, 1);

describe('the offer', () => {
  it('is made on a board with write events', async () => {
    const driver = await started();
    expect(await oacs(driver)).toBe(1 << 8);
    const page = driver.allocate(4096);
    await driver.expect({
      opcode: AdminOpcode.getLogPage,
      prp1: page,
      dword10: LogPage.commandsSupported | (255 << 16),
    });
    expect(driver.memory.data(page, 4096).getUint32(4 * config, true)).toBe(1);
  });

  it('is not made without write events, nor while steps are reported', async () => {
    const steps = new Steps();
    steps.add({ step: () => undefined });
    const traced = new NvmeDriver(new MemoryDevice(size), { steps }, board);
    await traced.start();
    for (const driver of [await started(undefined, { messages: true }), traced]) {
      expect(await oacs(driver)).toBe(0);
      const page = driver.allocate(4096);
      const { status } = await driver.submit({ opcode: config, prp1: page, prp2: page });
      expect(status).toBe(Status.invalidOpcode);
    }
  });

  it('refuses buffers that are misplaced', async () => {
    const driver = await started();
    const page = driver.allocate(4096);
    const status = async (prp1: number, prp2: number) => (await driver.submit({ opcode: config, prp1, prp2 })).status;
    expect(await status(page + 4, page)).toBe(Status.invalidPrpOffset);
    expect(await status(page, page + 2048)).toBe(Status.invalidPrpOffset);
    expect(await status(0xfffff000, page)).toBe(Status.dataTransferError);
    expect(await status(page, driver.memory.size)).toBe(Status.dataTransferError);
    expect(driver.watched).toEqual([]);
  });
});

describe('commands by shadow doorbells', () => {
  it.each([
    ['messages', { messages: true, writeEvents: true }],
    ['the interrupt line', { writeEvents: true }],
  ])('reach the disk and complete, with %s', async (_, on) => {
    const driver = await started(new MemoryDevice(size), on, 2);
    await driver.useShadow();
    expect(driver.watched).toEqual([Register.doorbells + 8, Register.doorbells + 16]);
    const at = driver.allocate(4096);
    const { traps } = driver;
    for (let i = 0; i < 300; i++) await read(driver, at);
    await driver.expect({ opcode: NvmOpcode.read, prp1: at }, 2);
    // With the line, the driver must write each head, so that the line falls within the write.
    if ('messages' in on) expect(driver.traps).toBe(traps);
    else expect(driver.traps).toBe(traps + 301);
    expect(driver.events).toBe(301);
    if (!('messages' in on)) expect(driver.line).toBe(false);
  });

  it('cost one event for all that the driver submits before the controller looks', async () => {
    const driver = await started();
    await driver.useShadow();
    const at = driver.allocate(4096);
    const done = Array.from({ length: 32 }, () => driver.submit({ opcode: NvmOpcode.read, prp1: at }, 1));
    expect(driver.events).toBe(1);
    for (const { status } of await Promise.all(done)) expect(status).toBe(0);
    expect(driver.events).toBe(1);
  });

  it('are fetched although the driver writes no more registers when it frees a full completion queue', async () => {
    const disk = new GatedDisk(new Uint8Array(size));
    const driver = new NvmeDriver(disk, {}, board);
    await driver.enable();
    await driver.createQueue(1, 4);
    await driver.useShadow();
    const at = driver.allocate(4096);
    driver.consuming = false;
    let ended = 0;
    const submit = () => void driver.submit({ opcode: NvmOpcode.read, prp1: at }, 1).then(() => ended++);
    disk.open();
    for (let i = 0; i < 3; i++) submit();
    await settle();
    expect(ended).toBe(0);
    submit(); // there is no room for its completion
    await settle();
    driver.consuming = true;
    driver.poll();
    await settle();
    driver.poll();
    expect(ended).toBe(4);
  });

  it('are fetched from a queue that is created later, also in the place of a deleted one', async () => {
    const driver = await started();
    await driver.useShadow();
    await driver.createQueue(2);
    const at = driver.allocate(4096);
    for (let i = 0; i < 5; i++) await driver.expect({ opcode: NvmOpcode.read, prp1: at }, 2);
    await driver.expect({ opcode: AdminOpcode.deleteSq, dword10: 2 });
    expect(driver.watched).toEqual([Register.doorbells + 8]);
    await driver.expect({ opcode: AdminOpcode.deleteCq, dword10: 2 });
    await driver.createQueue(2);
    await read(driver, at);
    for (let i = 0; i < 5; i++) await driver.expect({ opcode: NvmOpcode.read, prp1: at }, 2);
    expect(driver.strays).toEqual([]);
  });

  it('end with a reset: the registers count again', async () => {
    const driver = await started();
    await driver.useShadow();
    await driver.disable();
    expect(driver.watched).toEqual([]);
    await driver.start();
    await read(driver, driver.allocate(4096));
    expect(driver.events).toBe(0);
  });

  it('go on after a snapshot', async () => {
    const driver = await started();
    await driver.useShadow();
    const at = driver.allocate(4096);
    await read(driver, at);
    await driver.controller.pause();
    const state = structuredClone(driver.controller.save());
    const waiting = driver.submit({ opcode: NvmOpcode.read, prp1: at }, 1);
    await settle();
    expect(state.shadowDoorbells).toEqual(driver.shadow);
    driver.controller.resume();
    expect((await waiting).status).toBe(0);
  });
});

it('the interrupt line follows while there are messages, for a driver that switches them off', async () => {
  const driver = await started(undefined, { messages: true });
  driver.consuming = false;
  void driver.submit({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
  await settle();
  expect(driver.line).toBe(true);
  driver.consuming = true;
  driver.poll();
  expect(driver.line).toBe(false);
});

describe('a driver that leaves nonsense in its shadow doorbells', () => {
  it('is told by an event, and harms only itself', async () => {
    const driver = await started();
    await driver.useShadow();
    const event = driver.submit({ opcode: AdminOpcode.asyncEventRequest });
    driver.memory.data(driver.shadow!.doorbells + 8, 4).setUint32(0, 64, true);
    driver.write(Register.doorbells + 8, 0);
    expect((await event).result & 0xffff).toBe(0x0100);
    driver.memory.data(driver.shadow!.doorbells + 8, 8).setBigUint64(0, 0xffffffffffffffffn, true);
    driver.write(Register.doorbells + 8, 0);
    await settle();
    await driver.disable();
    await driver.start();
    await read(driver, driver.allocate(4096));
  });

  it('has a bounded share of each turn of the event loop', async () => {
    const driver = await started();
    await driver.useShadow();
    const { memory } = driver;
    const at = driver.shadow!.doorbells;
    const view = memory.view.bind(memory);
    let looks = 0;
    // As another processor of the guest would: the tail moves at each look.
    memory.view = (address, length) => {
      if (address === at) memory.data(at + 8, 4).setUint32(0, looks++ % 64, true);
      return view(address, length);
    };
    driver.write(Register.doorbells + 8, 0);
    await nextIteration();
    const first = looks;
    expect(first).toBeLessThan(200);
    await settle();
    expect(looks).toBeGreaterThan(first);
    memory.view = view;
    await driver.disable();
  });
});

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await nextIteration();
}
