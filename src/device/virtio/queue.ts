/**
 * A split virtqueue in guest memory (VIRTIO 1.2 §2.7), as the device sees it.
 *
 * The driver owns the memory and may write anything, also while the device reads. Each index and
 * each descriptor is therefore read once and then checked. A ring that breaks the rules is a
 * {@link RingFault}, after which the device needs a reset.
 *
 * Left out: indirect descriptors and event indices, which the device does not offer.
 */
import { savedNumber } from '../saved-state.js';
import { joinRanges, type GuestMemory, type GuestRange } from '../../machine/guest-memory.js';
import {
  DescriptorFlag,
  availableEntry,
  descriptorSize,
  noInterrupt,
  noVector,
  ringHeader,
  usedEntry,
} from '../../spec/virtio.js';

/** Largest number of descriptors that a driver may give to a queue. */
export const maxQueueSize = 256;

/** The driver has broken the rules of a ring. The message completes "the driver's ring …". */
export class RingFault extends Error {
  override readonly name = 'RingFault';
}

/** One request of the driver: memory that the device reads, then memory that it writes. */
export interface Chain {
  /** Index of the first descriptor, which names the chain. */
  readonly head: number;
  readonly readable: readonly GuestRange[];
  readonly writable: readonly GuestRange[];
}

/** Numbers of the three areas: descriptor table, available ring, used ring. */
const Area = { descriptors: 0, available: 1, used: 2 } as const;

/** A queue's state, as a snapshot holds it. */
export interface QueueState {
  readonly size: number;
  readonly vector: number;
  readonly enabled: boolean;
  readonly areas: readonly number[];
  readonly taken: number;
  readonly returned: number;
}

export class VirtQueue {
  /** Number of descriptors. */
  size = maxQueueSize;
  /** MSI-X vector of its interrupt. */
  vector: number = noVector;
  enabled = false;
  /** Guest-physical addresses of the areas, each as its low and its high 32 bits. */
  readonly areas = new Uint32Array(6);
  readonly #memory: GuestMemory;
  /** Numbers of chains taken and returned, modulo 2^16. */
  #taken = 0;
  #returned = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  reset(): void {
    this.size = maxQueueSize;
    this.vector = noVector;
    this.enabled = false;
    this.areas.fill(0);
    this.#taken = 0;
    this.#returned = 0;
  }

  /**
   * Checks what the driver has set up (§2.7, alignment and sizes).
   * @throws RingFault
   */
  check(): void {
    const { size } = this;
    if (size < 1 || size > maxQueueSize || (size & (size - 1)) !== 0) throw new RingFault(`has a size of ${size}`);
    const misaligned = [16, 2, 4].some((alignment, area) => this.areas[2 * area]! % alignment !== 0);
    if (misaligned) throw new RingFault('is not aligned');
    this.#area(Area.descriptors, 0, size * descriptorSize);
    this.#area(Area.available, 0, ringHeader + size * availableEntry);
    this.#area(Area.used, 0, ringHeader + size * usedEntry);
  }

  /**
   * Takes the next chain; undefined if there is none.
   * @throws RingFault
   */
  take(): Chain | undefined {
    const waiting = (this.#index(Area.available) - this.#taken) & 0xffff;
    if (waiting === 0) return undefined;
    if (waiting > this.size) throw new RingFault('says that it has more entries than it holds');
    const entry = ringHeader + (this.#taken % this.size) * availableEntry;
    const head = this.#area(Area.available, entry, availableEntry).getUint16(0, true);
    const chain = this.#follow(head);
    this.#taken = (this.#taken + 1) & 0xffff;
    return chain;
  }

  /**
   * Returns a chain to the driver, after the device has written `length` bytes into it.
   * @throws RingFault
   */
  giveBack(head: number, length: number): void {
    const at = ringHeader + (this.#returned % this.size) * usedEntry;
    const entry = this.#area(Area.used, at, usedEntry);
    entry.setUint32(0, head, true);
    entry.setUint32(4, length, true);
    this.#returned = (this.#returned + 1) & 0xffff;
    // §2.7.8.2: the index becomes visible after the entry, and before the flags are read.
    Atomics.store(this.#words(Area.used), 1, this.#returned);
    const base = this.#address(Area.used);
    this.#memory.written(base, ringHeader);
    this.#memory.written(base + at, usedEntry);
  }

  /**
   * False if the driver does not want to be interrupted now (§2.7.7).
   * @throws RingFault
   */
  get wantsInterrupt(): boolean {
    return (Atomics.load(this.#words(Area.available), 0) & noInterrupt) === 0;
  }

  save(): QueueState {
    const { size, vector, enabled, areas } = this;
    return { size, vector, enabled, areas: [...areas], taken: this.#taken, returned: this.#returned };
  }

  /** @throws StateFault or RingFault if it cannot have been saved */
  restore(state: QueueState): void {
    this.size = savedNumber(state.size, 0xffff);
    this.vector = savedNumber(state.vector, noVector);
    this.enabled = state.enabled;
    this.areas.set(state.areas);
    this.#taken = savedNumber(state.taken, 0xffff);
    this.#returned = savedNumber(state.returned, 0xffff);
    if (this.enabled) this.check();
  }

  /** §2.7.5: follows the descriptors from `head`. */
  #follow(head: number): Chain {
    const readable: GuestRange[] = [];
    const writable: GuestRange[] = [];
    let index = head;
    // A chain of more descriptors than the table has is a loop (§2.7.5.3.1).
    for (let count = 0; count < this.size; count++) {
      if (index >= this.size) throw new RingFault('names a descriptor that does not exist');
      const entry = this.#area(Area.descriptors, index * descriptorSize, descriptorSize);
      const address = entry.getUint32(4, true) * 2 ** 32 + entry.getUint32(0, true);
      const length = entry.getUint32(8, true);
      const flags = entry.getUint16(12, true);
      index = entry.getUint16(14, true);
      if (flags & DescriptorFlag.indirect) throw new RingFault('has an indirect descriptor');
      if (!this.#memory.view(address, length)) throw new RingFault('leads out of memory');
      if (flags & DescriptorFlag.write) writable.push({ address, length });
      else if (writable.length > 0) throw new RingFault('has memory to read after memory to write');
      else readable.push({ address, length });
      if (flags & DescriptorFlag.next) continue;
      return { head, readable: joinRanges(readable), writable: joinRanges(writable) };
    }
    throw new RingFault('has a loop');
  }

  #address(area: number): number {
    return this.areas[2 * area + 1]! * 2 ** 32 + this.areas[2 * area]!;
  }

  /** A view of a part of an area. */
  #area(area: number, offset: number, length: number): DataView {
    const view = this.#memory.view(this.#address(area) + offset, length);
    if (!view) throw new RingFault('is not in memory');
    return new DataView(view.buffer, view.byteOffset, length);
  }

  /** The flags and the index of a ring, for atomic accesses. */
  #words(area: number): Uint16Array {
    const { buffer, byteOffset } = this.#area(area, 0, ringHeader);
    return new Uint16Array(buffer, byteOffset, 2);
  }

  #index(area: number): number {
    return Atomics.load(this.#words(area), 1);
  }
}
