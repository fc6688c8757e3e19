/**
 * Guest memory without an engine. Its array does not move; that of v86-board.ts does, so that code
 * which keeps a view across an await fails there.
 */
import type { GuestMemory } from '../../src/machine/guest-memory.js';

/** Guest memory as the drivers of tests use it. */
export interface DriverMemory extends GuestMemory {
  readonly writes: { address: number; length: number }[];
  /** Address of new page-aligned memory for a driver. */
  allocate(length: number): number;
  /** A view for the test itself, at a guest-physical address. */
  at(address: number, length: number): Uint8Array;
  data(address: number, length: number): DataView;
}

let make: (size: number) => DriverMemory = (size) => new TestMemory(size);

/** Memory of at least `size` bytes for a driver. */
export function driverMemory(size: number): DriverMemory {
  return make(size);
}

/** From now on, the drivers of this test file get other memory. */
export function useMemory(other: (size: number) => DriverMemory): void {
  make = other;
}

export class TestMemory implements DriverMemory {
  readonly size: number;
  readonly writes: { address: number; length: number }[] = [];
  readonly #bytes: Uint8Array;
  #next = 0x10000;

  constructor(size: number) {
    this.size = size;
    this.#bytes = new Uint8Array(size);
  }

  view(address: number, length: number): Uint8Array | undefined {
    if (!(address >= 0 && length >= 0 && address + length <= this.size)) return undefined;
    return this.#bytes.subarray(address, address + length);
  }

  written(address: number, length: number): void {
    this.writes.push({ address, length });
    if (this.writes.length > 1000) this.writes.length = 0;
  }

  allocate(length: number): number {
    const at = this.#next;
    this.#next += Math.ceil(length / 4096) * 4096;
    if (this.#next > this.size) throw new Error('the test needs more guest memory');
    return at;
  }

  at(address: number, length: number): Uint8Array {
    return this.view(address, length)!;
  }

  data(address: number, length: number): DataView {
    const view = this.at(address, length);
    return new DataView(view.buffer, view.byteOffset, length);
  }
}
