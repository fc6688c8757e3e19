/** The virtio network card, by a small driver of its own (VIRTIO 1.2). */
import { describe, expect, it } from 'vitest';
import { SharedAdapter } from '../../src/computer/shared-adapter.js';
import { Hub } from '../../src/network/ethernet/hub.js';
import {
  Common,
  DescriptorFlag,
  Feature,
  Isr,
  NetworkQueue,
  Status,
  Structure,
  frameHeader,
  noInterrupt,
  noVector,
} from '../../src/spec/virtio.js';
import { bareComputerOn } from '../support/bare-computer.js';
import { nextIteration } from '../support/event-loop.js';
import { VirtioDriver, cardMac } from '../support/virtio-driver.js';

const isrAt = 0x400;
const deviceAt = 0x800;
const { receive, transmit } = NetworkQueue;

function frame(length: number, fill = 0x5a): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i < 6 ? 0xff : fill + i) & 0xff);
}

function started(options: ConstructorParameters<typeof VirtioDriver>[0] = {}, size = 8): VirtioDriver {
  const driver = new VirtioDriver(options);
  driver.start(size);
  return driver;
}

describe('its registers', () => {
  it('describes itself in the configuration space', () => {
    const { registers } = new VirtioDriver().card;
    const config = registers.pciConfig;
    const view = new DataView(config.buffer);
    expect([view.getUint16(0, true), view.getUint16(2, true), config[8], config[0x0b]]).toEqual([0x1af4, 0x1041, 1, 2]);
    const found = new Map<number, [offset: number, length: number]>();
    for (let at = config[0x34]!; at !== 0; at = config[at + 1]!) {
      expect(config[at]).toBe(9);
      found.set(config[at + 3]!, [view.getUint32(at + 8, true), view.getUint32(at + 12, true)]);
    }
    expect([...found.keys()].sort()).toEqual(Object.values<number>(Structure));
    // No two structures overlap, and each is in the BAR.
    const ends = [...found.values()].sort(([a], [b]) => a - b);
    ends.forEach(([at, length], i) => expect(at + length).toBeLessThanOrEqual(ends[i + 1]?.[0] ?? registers.size));
  });

  it('tells the driver its address and the MTU of the network', () => {
    const driver = new VirtioDriver({ mtu: 1400 });
    expect(driver.offered).toEqual([Feature.netMtu, Feature.netMac, Feature.version1]);
    expect([0, 1, 2, 3, 4, 5].map((i) => driver.read(deviceAt + i, 1))).toEqual([...cardMac]);
    expect(driver.read(deviceAt + 10, 2)).toBe(1400);
    expect(new VirtioDriver().card.mtu).toBe(1500); // of a network with larger frames
    expect([driver.read(Common.queueCount, 2), driver.read(Common.queueSize, 2)]).toEqual([2, 256]);
    driver.write(Common.queueSelect, 2, 2);
    expect([driver.read(Common.queueSize, 2), driver.read(Common.queueVector, 2)]).toEqual([0, noVector]);
  });

  it('refuses features that it does not offer, and a driver of the legacy interface', () => {
    const driver = new VirtioDriver();
    expect(driver.negotiate([Feature.version1]) & Status.featuresOk).not.toBe(0);
    expect(driver.negotiate([Feature.version1, 15]) & Status.featuresOk).toBe(0);
    expect(driver.negotiate([Feature.netMac]) & Status.featuresOk).toBe(0);
    driver.write(Common.status, 1, driver.status | Status.driverOk);
    expect(driver.card.receive(frame(60))).toBe('off');
  });

  it('keeps the place of an enabled queue, and no vector that does not exist', () => {
    const driver = started({ messages: true });
    driver.write(Common.queueSelect, 2, receive);
    driver.write(Common.queueDescriptors, 4, 0x1234);
    expect(driver.read(Common.queueDescriptors, 4)).toBe(driver.queues[receive]!.descriptors);
    driver.write(Common.queueVector, 2, 3);
    expect(driver.read(Common.queueVector, 2)).toBe(noVector);
  });

  it('needs a reset after a queue with an impossible size or place', () => {
    for (const [at, size, value] of [
      [Common.queueSize, 2, 3],
      [Common.queueSize, 2, 512],
      [Common.queueDescriptors, 4, 0x10008],
      [Common.queueDevice, 4, 0x7fffff00],
      [Common.queueDriver + 4, 4, 1],
    ] as const) {
      const driver = new VirtioDriver();
      driver.negotiate();
      driver.write(Common.queueSize, 2, 8);
      driver.write(at, size, value);
      driver.write(Common.queueEnable, 2, 1);
      expect(driver.status & Status.needsReset, `${at} ${value}`).not.toBe(0);
      expect(driver.read(Common.queueEnable, 2)).toBe(0);
      driver.start();
      driver.send(frame(60));
      expect(driver.sent).toHaveLength(1);
    }
  });
});

describe('frames', () => {
  it('sends what the driver gives it, whatever its pieces', () => {
    const driver = started();
    const bytes = frame(1514);
    driver.send(bytes);
    expect(driver.taken(transmit)).toEqual([{ head: 0, length: 0 }]);
    const at = driver.memory.allocate(4096);
    driver.memory.at(at, 4096).fill(0);
    driver.memory.at(at + frameHeader, 60).set(frame(60));
    driver.give(transmit, [
      { address: at, length: 5 },
      { address: at + 5, length: 0 },
      { address: at + 5, length: 67 },
    ]);
    driver.notify(transmit);
    expect(driver.sent).toEqual([bytes, frame(60)]);
  });

  it('drops frames that Ethernet cannot have, and returns their memory', () => {
    const driver = started();
    for (const length of [0, 13, 1519, 60_000]) driver.send(frame(length));
    expect(driver.sent).toEqual([]);
    expect(driver.taken(transmit)).toHaveLength(4);
    expect(driver.status & Status.needsReset).toBe(0);
  });

  it('puts frames into buffers, each behind a header', () => {
    const driver = started();
    const at = driver.offer();
    const [one, two] = [driver.memory.allocate(100), driver.memory.allocate(2000)];
    driver.give(receive, [
      { address: one, length: 20, write: true },
      { address: two, length: 2000, write: true },
    ]);
    expect(driver.card.receive(frame(60))).toBe('taken');
    expect(driver.card.receive(frame(1514))).toBe('taken');
    expect(driver.taken(receive)).toEqual([
      { head: 0, length: 72 },
      { head: 1, length: 1526 },
    ]);
    expect([...driver.memory.at(at, frameHeader)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    expect(driver.memory.at(at + frameHeader, 60)).toEqual(frame(60));
    expect([...driver.memory.at(one + 12, 8), ...driver.memory.at(two, 1506)]).toEqual([...frame(1514)]);
  });

  it('is full without a buffer, and says when there is room again', async () => {
    const driver = started();
    expect(driver.card.receive(frame(60))).toBe('full');
    driver.offer();
    expect(driver.rooms).toBe(0);
    driver.notify(receive);
    expect(driver.rooms).toBe(0); // not within the guest's instruction
    await nextIteration();
    expect(driver.rooms).toBe(1);
    expect(driver.card.receive(frame(60))).toBe('taken');
  });

  it('loses a frame that does not fit, and goes on', () => {
    const driver = started();
    driver.offer(71);
    driver.offer(72);
    expect([driver.card.receive(frame(60)), driver.card.receive(frame(60))]).toEqual(['off', 'taken']);
    expect(driver.taken(receive).map(({ length }) => length)).toEqual([0, 72]);
  });

  it('goes on after the indices have wrapped', () => {
    const driver = started({}, 2);
    const queue = driver.queues[transmit]!;
    const address = driver.memory.allocate(100);
    for (let i = 0; i < 66_000; i++) {
      driver.give(transmit, [{ address, length: 72 }]);
      driver.notify(transmit);
    }
    expect(driver.sent).toHaveLength(66_000);
    expect(driver.memory.data(queue.used, 4).getUint16(2, true)).toBe(66_000 - 0x10000);
  });

  it('sends many frames in several goes', async () => {
    const driver = started({}, 256);
    const address = driver.memory.allocate(100);
    // The driver adds while the card sends: without a limit, it could keep the event loop busy.
    driver.card.onSend((bytes) => {
      driver.sent.push(bytes.slice());
      if (driver.sent.length < 600) driver.give(transmit, [{ address, length: 72 }]);
    });
    driver.give(transmit, [{ address, length: 72 }]);
    driver.notify(transmit);
    expect(driver.sent).toHaveLength(256);
    for (let i = 0; i < 4; i++) await nextIteration();
    expect(driver.sent).toHaveLength(600);
  });
});

describe('interrupts', () => {
  it('raises the line until the driver reads the status', () => {
    const driver = started();
    driver.send(frame(60));
    expect(driver.line).toBe(true);
    expect(driver.read(isrAt, 1)).toBe(Isr.queue);
    expect([driver.line, driver.read(isrAt, 1)]).toEqual([false, 0]);
  });

  it("sends the queue's message if the driver has switched MSI-X on", () => {
    const driver = started({ messages: true });
    driver.send(frame(60));
    driver.offer();
    driver.card.receive(frame(60));
    expect(driver.signalled).toEqual([transmit + 1, receive + 1]);
    expect([driver.line, driver.read(isrAt, 1)]).toEqual([false, 0]);
    expect(driver.card.interruptVector()).toBe(0x41);
  });

  it('does not interrupt a driver that wants none', () => {
    const driver = started();
    driver.memory.data(driver.queues[transmit]!.available, 2).setUint16(0, noInterrupt, true);
    driver.send(frame(60));
    expect([driver.line, driver.sent.length]).toEqual([false, 1]);
  });
});

describe('a ring that breaks the rules', () => {
  const at = (driver: VirtioDriver) => driver.memory.data(driver.queues[transmit]!.descriptors, 16);
  const faults: Record<string, (driver: VirtioDriver) => void> = {
    'has a loop': (driver) => {
      at(driver).setUint16(12, DescriptorFlag.next, true);
      at(driver).setUint16(14, 0, true);
    },
    'names a descriptor beyond the table': (driver) => {
      at(driver).setUint16(12, DescriptorFlag.next, true);
      at(driver).setUint16(14, 8, true);
    },
    'has an indirect table': (driver) => at(driver).setUint16(12, DescriptorFlag.indirect, true),
    'leads out of memory': (driver) => at(driver).setUint32(8, 0xffffffff, true),
    'has an address near 2^64': (driver) => at(driver).setUint32(4, 0xffffffff, true),
    'has more entries than places': (driver) => {
      const index = driver.memory.data(driver.queues[transmit]!.available, 4);
      index.setUint16(2, 9, true);
    },
  };

  it.each(Object.entries(faults))('%s: the card stops until a reset', async (_, spoil) => {
    const driver = started({ messages: true });
    const address = driver.memory.allocate(100);
    driver.give(transmit, [{ address, length: 72 }]);
    spoil(driver);
    driver.notify(transmit);
    expect(driver.sent).toEqual([]);
    expect(driver.status & Status.needsReset).not.toBe(0);
    expect(driver.signalled).toEqual([0]); // the configuration's vector
    driver.offer();
    expect(driver.card.receive(frame(60))).toBe('off');
    driver.start();
    driver.send(frame(60));
    await nextIteration();
    expect(driver.sent).toHaveLength(1);
  });
});

describe('snapshots', () => {
  it('continues where it was, in another card', () => {
    const driver = started();
    driver.send(frame(60));
    driver.card.pause();
    expect(driver.card.receive(frame(60))).toBe('full');
    driver.give(transmit, [{ address: driver.memory.allocate(100), length: 72 }]);
    driver.notify(transmit);
    expect(driver.sent).toHaveLength(1);
    const state = JSON.parse(JSON.stringify(driver.card.save())) as never;
    const other = new VirtioDriver();
    other.memory.at(0, other.memory.size).set(driver.memory.at(0, driver.memory.size));
    other.queues = driver.queues;
    other.card.restore(state);
    expect(other.line).toBe(true); // the interrupt of the first frame
    other.notify(transmit);
    expect(other.sent).toHaveLength(1);
    expect(other.taken(transmit)).toHaveLength(2);
  });
});

it('is on the board of a computer whose engine has no network card', async () => {
  const hub = new Hub({ mtu: 9000 });
  const adapter = new SharedAdapter(hub, { mac: cardMac });
  const { trap, close } = await bareComputerOn(adapter);
  expect([0, 1, 2, 3, 4, 5].map((i) => trap.read(0xfdfe0000 + deviceAt + i, 1))).toEqual([...cardMac]);
  expect(trap.counts.commands).toBe(0);
  await close();
});
