/**
 * A KVM guest's memory: one block of this process, which KVM maps into the guest at address 0 and,
 * beyond the hole that PCI needs below 4 GiB, at 4 GiB. Its alignment lets the kernel map it by
 * huge pages, which spare the processor most walks through nested page tables.
 *
 * Every access of a device to guest memory passes `offsetOf`, the only place that checks its
 * bounds.
 */
import { FarbusError } from '../../../base/errors.js';
import { formatBytes } from '../../../base/format.js';
import type { GuestMemory, MemoryRange } from '../../guest-memory.js';
import { machineCalls, type MemoryBlock } from '../../../linux/virtual-machine.node.js';

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
  readonly #block: MemoryBlock;
  readonly #low: number;
  /** Address of the block in this process: a safe integer, because user space has 47 bits. */
  readonly #start: number;

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
      this.#block = machineCalls().reserve(size);
    } catch (error) {
      throw new FarbusError(`this computer cannot give ${formatBytes(size)} of memory to a guest: take less`, {
        cause: error,
      });
    }
    this.#start = Number(this.#block.address);
  }

  /** Must be called before the guest uses its memory. */
  preferHugePages(): void {
    this.#block.preferHugePages();
  }

  /** Gives the memory's pages back when the machine has ended. Late accesses see zeros. */
  discard(): void {
    this.#block.discard();
  }

  get slots(): readonly MemorySlot[] {
    let offset = 0;
    return this.ranges.map(({ start, length }) => {
      const slot = { guestAddress: start, length, processAddress: this.#block.address + BigInt(offset) };
      offset += length;
      return slot;
    });
  }

  view(address: number, length: number): Uint8Array | undefined {
    if (isVga(address, length)) return undefined;
    return this.biosView(address, length);
  }

  /** Like {@link view}, with the BIOS area, into which firmware loads files. */
  biosView(address: number, length: number): Uint8Array | undefined {
    const offset = this.#offsetOf(address, length);
    return offset === undefined ? undefined : this.#bytes(offset, length);
  }

  addressOf(address: number, length: number): number | undefined {
    if (isVga(address, length)) return undefined;
    const offset = this.#offsetOf(address, length);
    return offset === undefined ? undefined : this.#start + offset;
  }

  /** The place of a range in the block; undefined if any of it is not RAM. */
  #offsetOf(address: number, length: number): number | undefined {
    if (!(Number.isSafeInteger(address) && Number.isSafeInteger(length) && address >= 0 && length >= 0))
      return undefined;
    const end = address + length;
    if (end <= this.#low) return address;
    if (address < fourGiB || end > fourGiB + this.size - this.#low) return undefined;
    return this.#low + address - fourGiB;
  }

  /** The caller has checked that all of it is within the block. */
  #bytes(offset: number, length: number): Uint8Array | undefined {
    const { parts, step } = this.#block;
    // No transfer is longer than a part reaches beyond the start of the next.
    if (length > step) return undefined;
    const number = Math.min(Math.floor(offset / step), parts.length - 1);
    return new Uint8Array(parts[number]!, offset - number * step, length);
  }

  /** Memory below 4 GiB for the board itself, the BIOS area included. */
  area(address: number, length: number): Uint8Array {
    if (address + length > this.#low) throw new RangeError('not in memory');
    return this.linear(address, length);
  }

  /** All of RAM as consecutive bytes, without the hole, for snapshots. */
  linear(offset: number, length: number): Uint8Array {
    const inside = offset >= 0 && length >= 0 && offset + length <= this.size;
    const bytes = inside ? this.#bytes(offset, length) : undefined;
    if (!bytes) throw new RangeError('not in memory');
    return bytes;
  }

  written(): void {
    // The processor itself keeps its caches coherent.
  }
}

/** True if any of a range is in the VGA window or in the ROMs below 1 MiB. */
function isVga(address: number, length: number): boolean {
  return address < vgaEnd && address + length > vgaStart;
}
