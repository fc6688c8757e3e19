/**
 * A KVM guest's memory: one shared block of this process, which KVM maps into the guest at address
 * 0 and, beyond the hole that PCI needs below 4 GiB, at 4 GiB.
 *
 * Every access of a device to guest memory passes {@link KvmMemory.biosView}, the only place that
 * checks its bounds.
 */
import { FarbusError } from '../../../base/errors.js';
import { formatBytes } from '../../../base/format.js';
import type { GuestMemory, MemoryRange } from '../../guest-memory.js';
import { machineCalls } from '../../../linux/virtual-machine.node.js';

const page = 4096;
const fourGiB = 2 ** 32;
/** RAM below 4 GiB ends here; registers of devices are above it. */
export const lowMemoryEnd = 0xc0000000;
/** The VGA window and the ROMs: not RAM for the operating system or for devices. */
const vgaStart = 0xa0000;
const vgaEnd = 0x100000;

/** A range for KVM_SET_USER_MEMORY_REGION. */
export interface MemorySlot {
  readonly guestAddress: number;
  readonly length: number;
  readonly processAddress: bigint;
}

export class KvmMemory implements GuestMemory {
  readonly size: number;
  readonly ranges: readonly MemoryRange[];
  readonly #block: SharedArrayBuffer;
  readonly #start: number;
  readonly #low: number;

  /**
   * Allocates the memory; the kernel gives pages as the guest uses them.
   * @param size in bytes, a multiple of 1 MiB
   * @throws FarbusError if there is not enough memory
   */
  constructor(size: number) {
    this.size = size;
    this.#low = Math.min(size, lowMemoryEnd);
    this.ranges = [
      { start: 0, length: this.#low },
      ...(size > this.#low ? [{ start: fourGiB, length: size - this.#low }] : []),
    ];
    try {
      this.#block = new SharedArrayBuffer(size + page);
    } catch (error) {
      throw new FarbusError(`this computer cannot give ${formatBytes(size)} of memory to a guest: take less`, {
        cause: error,
      });
    }
    const address = machineCalls().addressOf(new Uint8Array(this.#block, 0, 1));
    this.#start = Number((BigInt(page) - (address % BigInt(page))) % BigInt(page));
  }

  get slots(): readonly MemorySlot[] {
    const base = machineCalls().addressOf(new Uint8Array(this.#block, this.#start, 1));
    let offset = 0;
    return this.ranges.map(({ start, length }) => {
      const slot = { guestAddress: start, length, processAddress: base + BigInt(offset) };
      offset += length;
      return slot;
    });
  }

  view(address: number, length: number): Uint8Array | undefined {
    if (address < vgaEnd && address + length > vgaStart) return undefined;
    return this.biosView(address, length);
  }

  /** Like {@link view}, with the BIOS area, into which firmware loads files. */
  biosView(address: number, length: number): Uint8Array | undefined {
    if (!(Number.isSafeInteger(address) && Number.isSafeInteger(length) && address >= 0 && length >= 0))
      return undefined;
    const end = address + length;
    if (end <= this.#low) {
      return new Uint8Array(this.#block, this.#start + address, length);
    }
    if (address < fourGiB || end > fourGiB + this.size - this.#low) return undefined;
    return new Uint8Array(this.#block, this.#start + this.#low + address - fourGiB, length);
  }

  /** Memory below 4 GiB for the board itself, the BIOS area included. */
  area(address: number, length: number): Uint8Array {
    if (address + length > this.#low) throw new RangeError('not in memory');
    return new Uint8Array(this.#block, this.#start + address, length);
  }

  /** All of RAM as consecutive bytes, without the hole, for snapshots. */
  linear(offset: number, length: number): Uint8Array {
    if (offset < 0 || length < 0 || offset + length > this.size) throw new RangeError('not in memory');
    return new Uint8Array(this.#block, this.#start + offset, length);
  }

  written(): void {
    // The processor itself keeps its caches coherent.
  }
}
