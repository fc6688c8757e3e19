/**
 * Guest memory without an engine. Its array moves at every access, so that code that keeps a view
 * across an await fails.
 */
import type { GuestMemory } from '../../src/machine/guest-memory.js';

export class TestMemory implements GuestMemory {
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

  /** Address of new page-aligned memory for a driver. */
  allocate(length: number): number {
    const at = this.#next;
    this.#next += Math.ceil(length / 4096) * 4096;
    if (this.#next > this.size) throw new Error('the test needs more guest memory');
    return at;
  }

  /** A view for the test itself, at a guest-physical address. */
  at(address: number, length: number): Uint8Array {
    return this.view(address, length)!;
  }

  data(address: number, length: number): DataView {
    const view = this.at(address, length);
    return new DataView(view.buffer, view.byteOffset, length);
  }
}
