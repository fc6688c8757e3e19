/**
 * The registers of a virtio device on PCI (VIRTIO 1.2 §4.1, modern interface): one BAR with the
 * common configuration, the interrupt status, the device's configuration and the notifications; and
 * the capabilities that tell the driver where these are.
 *
 * It interrupts by MSI-X if the board has it and the driver switches it on, otherwise by the line
 * (§4.1.5.3). A driver may write anything: a ring that breaks the rules stops the device until the
 * driver resets it (DEVICE_NEEDS_RESET, §2.1.2).
 *
 * Left out: the window in the configuration space (§4.1.4.9), which firmware needs that reaches no
 * 64-bit BAR; notification data, queue reset, shared memory; the legacy interface.
 */
import type { InterruptLine, MsixPlace } from '../../machine/engine.js';
import type { GuestMemory } from '../../machine/guest-memory.js';
import { pciConfig } from '../../machine/pci.js';
import type { GuardedDevice } from '../../machine/trap.js';
import {
  Common,
  Feature,
  Isr,
  Status,
  Structure,
  firstPciDevice,
  noVector,
  pciVendor,
  vendorCapability,
} from '../../spec/virtio.js';
import { checkLike, highestRegister } from '../saved-state.js';
import { RingFault, VirtQueue, type QueueState } from './queue.js';

/** Offsets in the BAR. */
const isrAt = 0x400;
const deviceAt = 0x800;
const notifyAt = 0x1000;
const notifyStep = 4;

/** The part of a device behind the registers. */
export interface VirtioDevice {
  readonly name: string;
  /** Device type (§5). */
  readonly type: number;
  readonly classCode: readonly [base: number, sub: number, interface_: number];
  /** Numbers of the feature bits that it offers, besides VERSION_1. */
  readonly features: readonly number[];
  readonly queues: number;
  /** Its read-only configuration. */
  readonly config: Uint8Array;
  /** The driver has put something into a queue. May throw a {@link RingFault}. */
  notified(queue: number): void;
  /** The driver has reset the device, or the device has stopped because of a fault. */
  stopped(fault?: string): void;
}

/** The state of the registers and queues, as a snapshot holds it. */
export interface VirtioState {
  readonly status: number;
  readonly driverFeatures: readonly number[];
  readonly isr: number;
  readonly configVector: number;
  readonly selected: readonly number[];
  readonly queues: readonly QueueState[];
}

export class VirtioRegisters implements GuardedDevice {
  readonly name: string;
  readonly base: number;
  readonly size = 0x4000;
  /** A vector for the configuration and one for each queue. */
  readonly msix: MsixPlace;
  readonly queues: readonly VirtQueue[];
  /** Number of interrupts: the line went from low to high, or a message was sent. */
  interrupts = 0;
  readonly #device: VirtioDevice;
  readonly #features: readonly [number, number];
  #line: InterruptLine = { set: () => undefined };
  #status = 0;
  #driverFeatures = [0, 0];
  #isr = 0;
  #configVector: number = noVector;
  #deviceSelect = 0;
  #driverSelect = 0;
  #queueSelect = 0;

  constructor(base: number, memory: GuestMemory, device: VirtioDevice) {
    this.base = base;
    this.name = device.name;
    this.#device = device;
    this.msix = { vectors: device.queues + 1, tableOffset: 0x2000, pendingOffset: 0x3000 };
    this.queues = Array.from({ length: device.queues }, () => new VirtQueue(memory));
    const words: [number, number] = [0, 0];
    for (const bit of [...device.features, Feature.version1])
      words[bit >> 5] = (words[bit >> 5]! | (1 << (bit & 31))) >>> 0;
    this.#features = words;
  }

  /** The function's configuration space. */
  get pciConfig(): Uint8Array {
    const { type, classCode, config } = this.#device;
    const capabilities = [
      capability(Structure.common, 0, Common.size),
      capability(Structure.notify, notifyAt, this.queues.length * notifyStep, notifyStep),
      capability(Structure.isr, isrAt, 1),
      capability(Structure.device, deviceAt, config.length),
    ];
    const identity = { vendor: pciVendor, device: firstPciDevice + type, revision: 1, classCode, interruptPin: 1 };
    return pciConfig({ ...identity, barBase: this.base, capabilities });
  }

  connect(line: InterruptLine): void {
    this.#line = line;
  }

  /** True while the driver uses the device, and has broken no rule. */
  get running(): boolean {
    const needed = Status.driverOk | Status.featuresOk;
    return (this.#status & (needed | Status.needsReset)) === needed;
  }

  /** The processor vector of a queue's interrupt; undefined if the driver has set up none. */
  processorVector(queue: number): number | undefined {
    const { vector } = this.queues[queue]!;
    return vector === noVector ? undefined : this.#line.messages?.processorVector(vector);
  }

  /** Runs work on the rings. A fault of the driver stops the device. Returns undefined then. */
  guarded<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof RingFault)) throw error;
      this.#fail(error.message);
      return undefined;
    }
  }

  /**
   * Interrupts the driver for a queue, unless it wants none.
   * @throws RingFault
   */
  interrupt(queue: VirtQueue): void {
    if (queue.wantsInterrupt) this.#raise(Isr.queue, queue.vector);
  }

  /** Network frames are no commands of [SYS] fig. 6. */
  issuesCommand(): boolean {
    return false;
  }

  read(offset: number, size: number): number {
    if (offset < Common.size) return bytesAt(this.#common(), offset, size);
    if (offset === isrAt) return this.#takeIsr();
    if (offset >= deviceAt && offset < notifyAt) return bytesAt(this.#device.config, offset - deviceAt, size);
    return 0;
  }

  write(offset: number, size: number, value: number): void {
    if (offset < Common.size) return this.#writeCommon(offset, size, value >>> 0);
    const queue = (offset - notifyAt) / notifyStep;
    if (!this.running || !this.queues[queue]?.enabled) return;
    this.guarded(() => this.#device.notified(queue));
  }

  save(): VirtioState {
    return {
      status: this.#status,
      driverFeatures: [...this.#driverFeatures],
      isr: this.#isr,
      configVector: this.#configVector,
      selected: [this.#deviceSelect, this.#driverSelect, this.#queueSelect],
      queues: this.queues.map((queue) => queue.save()),
    };
  }

  /**
   * Restores a saved state and sets the interrupt line accordingly.
   * @throws StateFault or RingFault if it cannot have been saved
   */
  restore(state: VirtioState): void {
    checkLike(this.save(), state, highestRegister);
    this.#status = state.status;
    this.#driverFeatures = [...state.driverFeatures];
    this.#isr = state.isr;
    this.#configVector = this.#vector(state.configVector);
    [this.#deviceSelect = 0, this.#driverSelect = 0, this.#queueSelect = 0] = state.selected;
    this.queues.forEach((queue, i) => {
      queue.restore(state.queues[i]!);
      queue.vector = this.#vector(queue.vector);
    });
    this.#line.set(this.#isr !== 0);
  }

  get #selected(): VirtQueue | undefined {
    return this.queues[this.#queueSelect];
  }

  /** The common configuration as the driver reads it. */
  #common(): Uint8Array {
    const bytes = new Uint8Array(Common.size);
    const view = new DataView(bytes.buffer);
    const u16 = (at: number, value: number) => view.setUint16(at, value, true);
    const u32 = (at: number, value: number) => view.setUint32(at, value, true);
    u32(Common.deviceFeatureSelect, this.#deviceSelect);
    u32(Common.deviceFeature, this.#features[this.#deviceSelect] ?? 0);
    u32(Common.driverFeatureSelect, this.#driverSelect);
    u32(Common.driverFeature, this.#driverFeatures[this.#driverSelect] ?? 0);
    u16(Common.configVector, this.#configVector);
    u16(Common.queueCount, this.queues.length);
    bytes[Common.status] = this.#status;
    u16(Common.queueSelect, this.#queueSelect);
    const queue = this.#selected;
    u16(Common.queueVector, queue?.vector ?? noVector);
    // §4.1.4.3: a queue that does not exist has the size 0.
    if (!queue) return bytes;
    u16(Common.queueSize, queue.size);
    u16(Common.queueEnable, queue.enabled ? 1 : 0);
    u16(Common.queueNotifyOffset, this.#queueSelect);
    queue.areas.forEach((half, i) => u32(Common.queueDescriptors + 4 * i, half));
    return bytes;
  }

  /** §4.1.3.1: a field is written by one access of its size; 64-bit fields by halves. */
  #writeCommon(offset: number, size: number, value: number): void {
    const queue = this.#selected;
    switch (`${offset}/${size}`) {
      case `${Common.deviceFeatureSelect}/4`:
        this.#deviceSelect = value;
        return;
      case `${Common.driverFeatureSelect}/4`:
        this.#driverSelect = value;
        return;
      case `${Common.driverFeature}/4`:
        // §3.1.1: features are settled once FEATURES_OK is set.
        if (this.#driverSelect < 2 && (this.#status & Status.featuresOk) === 0)
          this.#driverFeatures[this.#driverSelect] = value;
        return;
      case `${Common.configVector}/2`:
        this.#configVector = this.#vector(value);
        return;
      case `${Common.status}/1`:
        return this.#setStatus(value & 0xff);
      case `${Common.queueSelect}/2`:
        this.#queueSelect = value & 0xffff;
        return;
      case `${Common.queueVector}/2`:
        if (queue) queue.vector = this.#vector(value);
        return;
    }
    if (queue && !queue.enabled) this.#writeQueue(queue, offset, size, value);
  }

  /** Fields that a driver may set only before it enables the queue. */
  #writeQueue(queue: VirtQueue, offset: number, size: number, value: number): void {
    if (offset === Common.queueSize && size === 2) queue.size = value & 0xffff;
    const half = (offset - Common.queueDescriptors) / 4;
    if (size === 4 && half in queue.areas) queue.areas[half] = value;
    if (offset !== Common.queueEnable || size !== 2 || (value & 0xffff) !== 1) return;
    this.guarded(() => {
      queue.check();
      queue.enabled = true;
    });
  }

  /** §4.1.5.1.2.1: a vector that does not exist is not assigned. */
  #vector(value: number): number {
    return (value & 0xffff) < this.msix.vectors ? value & 0xffff : noVector;
  }

  #setStatus(value: number): void {
    if (value === 0) return this.#reset();
    let status = value | (this.#status & Status.needsReset);
    // §2.2.2: features that the device did not offer, or a driver of the legacy interface.
    const [low = 0, high = 0] = this.#driverFeatures;
    const [offeredLow, offeredHigh] = this.#features;
    const understood =
      (low & ~offeredLow) === 0 && (high & ~offeredHigh) === 0 && (high & (1 << (Feature.version1 - 32))) !== 0;
    if (!understood) status &= ~Status.featuresOk;
    this.#status = status;
  }

  #reset(): void {
    this.#status = 0;
    this.#driverFeatures = [0, 0];
    this.#configVector = noVector;
    this.#deviceSelect = 0;
    this.#driverSelect = 0;
    this.#queueSelect = 0;
    for (const queue of this.queues) queue.reset();
    this.#takeIsr();
    this.#device.stopped();
  }

  #fail(fault: string): void {
    this.#status |= Status.needsReset;
    this.#device.stopped(fault);
    if (this.#status & Status.driverOk) this.#raise(Isr.configuration, this.#configVector);
  }

  #raise(why: number, vector: number): void {
    const { messages } = this.#line;
    if (messages?.enabled) {
      if (vector === noVector) return;
      this.interrupts++;
      return messages.signal(vector);
    }
    if (this.#isr === 0) this.interrupts++;
    this.#isr |= why;
    this.#line.set(true);
  }

  /** §4.1.4.5: reading the status acknowledges the interrupt. */
  #takeIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    if (isr !== 0) this.#line.set(false);
    return isr;
  }
}

/** §4.1.4: a capability that points to a structure in BAR 0. `step` is for notifications. */
function capability(type: number, offset: number, length: number, step?: number): Uint8Array {
  const bytes = new Uint8Array(step === undefined ? 16 : 20);
  const view = new DataView(bytes.buffer);
  bytes[0] = vendorCapability;
  bytes[2] = bytes.length;
  bytes[3] = type;
  view.setUint32(8, offset, true);
  view.setUint32(12, length, true);
  if (step !== undefined) view.setUint32(16, step, true);
  return bytes;
}

/** Little-endian number of `size` bytes; bytes beyond the end are 0. */
function bytesAt(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + (bytes[offset + i] ?? 0);
  return value;
}
