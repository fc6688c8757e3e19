/**
 * A minimal driver of a virtio network card for tests. It knows the specification and does only
 * what the test tells it.
 */
import { VirtioNet, type VirtioNetOptions } from '../../src/device/virtio/net.js';
import { Common, DescriptorFlag, Feature, NetworkQueue, Status, frameHeader, noVector } from '../../src/spec/virtio.js';
import { TestMemory } from './guest-memory.js';

export const cardMac = Uint8Array.of(2, 0, 0, 0, 0, 1);
const base = 0xfdfe0000;
const notifyAt = 0x1000;

/** A buffer of a chain. */
export interface TestBuffer {
  readonly address: number;
  readonly length: number;
  /** The card writes it. */
  readonly write?: boolean;
}

/** A queue as the driver has set it up. */
export interface TestQueue {
  readonly index: number;
  readonly size: number;
  readonly descriptors: number;
  readonly available: number;
  readonly used: number;
  /** Numbers of chains given and seen, modulo 2^16. */
  given: number;
  seen: number;
  free: number;
}

export class VirtioDriver {
  readonly memory = new TestMemory(4 << 20);
  readonly card: VirtioNet;
  /** Level of the line, and the vectors of the messages. */
  line = false;
  readonly signalled: number[] = [];
  /** True if the board has MSI-X and the driver has switched it on. */
  messages: boolean;
  readonly sent: Uint8Array[] = [];
  rooms = 0;
  queues: TestQueue[] = [];

  constructor({ messages = false, ...options }: Partial<VirtioNetOptions> & { messages?: boolean } = {}) {
    this.messages = messages;
    this.card = new VirtioNet({ base, memory: this.memory, mac: cardMac, mtu: 9000, ...options });
    const signal = (vector: number) => void this.signalled.push(vector);
    this.card.registers.connect({
      set: (asserted) => (this.line = asserted),
      messages: { enabled: messages, signal, processorVector: (vector) => 0x40 + vector },
    });
    this.card.onSend((frame) => this.sent.push(frame.slice()));
    this.card.onRoom(() => this.rooms++);
  }

  read(offset: number, size: number): number {
    return this.card.registers.read(offset, size);
  }

  write(offset: number, size: number, value: number): void {
    this.card.registers.write(offset, size, value);
  }

  get status(): number {
    return this.read(Common.status, 1);
  }

  /** The features that the card offers. */
  get offered(): number[] {
    return [0, 1].flatMap((select) => {
      this.write(Common.deviceFeatureSelect, 4, select);
      const word = this.read(Common.deviceFeature, 4);
      return Array.from({ length: 32 }, (_, bit) => bit).flatMap((bit) =>
        (word >>> bit) & 1 ? [32 * select + bit] : [],
      );
    });
  }

  /** §3.1.1, steps 1 to 6. Returns the status. */
  negotiate(features: readonly number[] = [Feature.version1, Feature.netMac]): number {
    this.write(Common.status, 1, 0);
    this.write(Common.status, 1, Status.acknowledge | Status.driver);
    for (const select of [0, 1]) {
      this.write(Common.driverFeatureSelect, 4, select);
      const word = features.filter((bit) => bit >> 5 === select).reduce((bits, bit) => bits | (1 << (bit & 31)), 0);
      this.write(Common.driverFeature, 4, word >>> 0);
    }
    this.write(Common.status, 1, Status.acknowledge | Status.driver | Status.featuresOk);
    return this.status;
  }

  /** Sets up one queue in new memory. */
  setUp(index: number, size = 8): TestQueue {
    const queue = {
      index,
      size,
      descriptors: this.memory.allocate(16 * size),
      available: this.memory.allocate(4 + 2 * size),
      used: this.memory.allocate(4 + 8 * size),
      given: 0,
      seen: 0,
      free: 0,
    };
    for (const [address, length] of [
      [queue.available, 4 + 2 * size],
      [queue.used, 4 + 8 * size],
    ] as const) {
      this.memory.at(address, length).fill(0);
    }
    this.write(Common.queueSelect, 2, index);
    this.write(Common.queueSize, 2, size);
    this.write(Common.queueVector, 2, this.messages ? index + 1 : noVector);
    [queue.descriptors, queue.available, queue.used].forEach((address, i) => {
      this.write(Common.queueDescriptors + 8 * i, 4, address);
      this.write(Common.queueDescriptors + 8 * i + 4, 4, 0);
    });
    this.write(Common.queueEnable, 2, 1);
    this.queues[index] = queue;
    return queue;
  }

  /** Everything that a driver does before the first frame. */
  start(size = 8): void {
    this.negotiate();
    this.setUp(NetworkQueue.receive, size);
    this.setUp(NetworkQueue.transmit, size);
    this.write(Common.configVector, 2, this.messages ? 0 : noVector);
    this.write(Common.status, 1, this.status | Status.driverOk);
  }

  /** Puts a chain into a queue. Returns its head. */
  give(index: number, buffers: readonly TestBuffer[]): number {
    const queue = this.queues[index]!;
    const head = queue.free;
    buffers.forEach(({ address, length, write = false }, i) => {
      const last = i === buffers.length - 1;
      const at = this.memory.data(queue.descriptors + 16 * ((head + i) % queue.size), 16);
      at.setBigUint64(0, BigInt(address), true);
      at.setUint32(8, length, true);
      at.setUint16(12, (last ? 0 : DescriptorFlag.next) | (write ? DescriptorFlag.write : 0), true);
      at.setUint16(14, (head + i + 1) % queue.size, true);
    });
    queue.free = (head + buffers.length) % queue.size;
    this.memory.data(queue.available + 4 + 2 * (queue.given % queue.size), 2).setUint16(0, head, true);
    queue.given = (queue.given + 1) & 0xffff;
    this.memory.data(queue.available, 4).setUint16(2, queue.given, true);
    return head;
  }

  notify(index: number): void {
    this.write(notifyAt + 4 * index, 2, index);
  }

  /** The chains that the card has returned since the last call. */
  taken(index: number): { head: number; length: number }[] {
    const queue = this.queues[index]!;
    const until = this.memory.data(queue.used, 4).getUint16(2, true);
    const chains: { head: number; length: number }[] = [];
    for (; queue.seen !== until; queue.seen = (queue.seen + 1) & 0xffff) {
      const entry = this.memory.data(queue.used + 4 + 8 * (queue.seen % queue.size), 8);
      chains.push({ head: entry.getUint32(0, true), length: entry.getUint32(4, true) });
    }
    return chains;
  }

  /** Sends a frame from one buffer, with its header. */
  send(frame: Uint8Array): void {
    const address = this.memory.allocate(frameHeader + frame.length);
    this.memory.at(address, frameHeader).fill(0);
    this.memory.at(address + frameHeader, frame.length).set(frame);
    this.give(NetworkQueue.transmit, [{ address, length: frameHeader + frame.length }]);
    this.notify(NetworkQueue.transmit);
  }

  /** Gives the card one buffer for a frame. Returns its address. */
  offer(length = 1530): number {
    const address = this.memory.allocate(length);
    this.give(NetworkQueue.receive, [{ address, length, write: true }]);
    return address;
  }
}
