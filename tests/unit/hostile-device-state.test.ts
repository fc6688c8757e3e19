/**
 * States of logical devices from a snapshot that an enemy has made: each is refused with an
 * exception, or makes a device that stays within the guest's memory and can be paused and stopped.
 */
import { expect, it } from 'vitest';
import { Random } from '../../src/conformance/random.js';
import { AtaDisk } from '../../src/device/ata/disk.js';
import { VirtioNet } from '../../src/device/virtio/net.js';
import { NvmOpcode } from '../../src/spec/nvme.js';
import { MemoryDevice } from '../../src/storage/memory.js';
import { AhciDriver, testAtaIdentity } from '../support/ahci-driver.js';
import { nextIteration } from '../support/event-loop.js';
import { TestMemory } from '../support/guest-memory.js';
import { NvmeDriver } from '../support/nvme-driver.js';

const rounds = process.env['FARBUS_TEST_ALL'] ? 20_000 : 300;
const size = 4 << 20;
const odd = [null, -1, 0, 1, 255, 65535, 2 ** 31, 2 ** 32, 2 ** 53, 1.5, 'x', [], {}, true, 0xfffff000, 0xbfffff];

/** Changes one value somewhere. */
function change(value: unknown, random: Random): unknown {
  if (value === null || typeof value !== 'object' || random.below(10) === 0) return odd[random.below(odd.length)];
  const keys = Object.keys(value);
  if (keys.length === 0) return odd[random.below(odd.length)];
  const key = keys[random.below(keys.length)]!;
  const copy = (Array.isArray(value) ? [...(value as unknown[])] : { ...value }) as Record<string, unknown>;
  copy[key] = change((value as Record<string, unknown>)[key], random);
  return copy;
}

interface Device {
  restore(state: never): void;
  pause(): unknown;
  resume(): void;
}

/** Restores changed states in new devices. Returns how many were refused, and how many were not. */
async function attack(state: unknown, make: () => Device, use: (device: Device) => void): Promise<[number, number]> {
  const random = new Random(11);
  let [refused, taken] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    let bad = JSON.parse(JSON.stringify(state)) as unknown;
    for (let i = 0; i <= random.below(3); i++) bad = change(bad, random);
    const device = make();
    try {
      device.restore(bad as never);
    } catch {
      refused++;
      continue;
    }
    taken++;
    device.resume();
    use(device);
    await nextIteration();
    await device.pause();
  }
  return [refused, taken];
}

it('NVMe: any state is refused, or harmless', async () => {
  const driver = new NvmeDriver(new MemoryDevice(size));
  await driver.start(2);
  await driver.expect({ opcode: NvmOpcode.read, prp1: driver.allocate(4096) }, 1);
  await driver.controller.pause();
  const state = driver.controller.save();
  const make = () => new NvmeDriver(new MemoryDevice(size), { memory: driver.memory }).controller;
  const [refused, taken] = await attack(state, make, (device) => {
    for (let index = 0; index < 6; index++)
      (device as ReturnType<typeof make>).write(0x1000 + 4 * index, 4, index % 2 === 0 ? 3 : 0);
  });
  expect(refused).toBeGreaterThan(0);
  expect(taken).toBeGreaterThan(0);
}, 300_000);

it('AHCI: a register with more than 32 bits is refused, which would make the port loop', async () => {
  const disk = () => new AtaDisk(new MemoryDevice(size), testAtaIdentity);
  const driver = new AhciDriver([disk()]);
  await driver.start();
  await driver.controller.pause();
  const state = driver.controller.save();
  const [port] = state.ports;
  const bad = { ...state, ports: [{ ...port!, registers: { ...port!.registers, ci: 2 ** 32 } }] };
  expect(() => new AhciDriver([disk()]).controller.restore(bad)).toThrow('damaged');
});

it('AHCI: any state is refused, or harmless', async () => {
  const disk = () => new AtaDisk(new MemoryDevice(size), testAtaIdentity);
  const driver = new AhciDriver([disk()]);
  await driver.start();
  await driver.identify();
  await driver.controller.pause();
  const state = driver.controller.save();
  const make = () => new AhciDriver([disk()], { memory: driver.memory }).controller;
  const [refused, taken] = await attack(state, make, (device) => {
    (device as ReturnType<typeof make>).write(0x138, 4, 1);
  });
  expect(refused).toBeGreaterThan(0);
  expect(taken).toBeGreaterThan(0);
}, 300_000);

it('virtio: any state is refused, or harmless', async () => {
  const memory = new TestMemory(1 << 20);
  const make = () => new VirtioNet({ base: 0xfe000000, memory, mac: Uint8Array.of(2, 0, 0, 0, 0, 1), mtu: 1500 });
  const queue = { size: 8, vector: 0, enabled: true, areas: [0x1000, 0, 0x2000, 0, 0x3000, 0], taken: 0, returned: 0 };
  const [status, driverFeatures] = [0x0f, [(1 << 5) | (1 << 3), 1]];
  const state = { status, driverFeatures, isr: 0, configVector: 0, selected: [0, 0, 0], queues: [queue, queue] };
  const [refused, taken] = await attack(state, make, (device) => {
    const card = device as ReturnType<typeof make>;
    for (const index of [0, 1]) card.registers.write(0x1000 + 4 * index, 2, index);
    card.receive(new Uint8Array(64));
  });
  expect(refused).toBeGreaterThan(0);
  expect(taken).toBeGreaterThan(0);
}, 300_000);
