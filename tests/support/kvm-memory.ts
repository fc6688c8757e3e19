/**
 * The KVM engine's memory for the drivers of tests: RAM on both sides of the hole below 4 GiB, in
 * one block. Allocations take turns: at the beginning, up to the hole, above 4 GiB.
 */
import { KvmMemory, lowMemoryEnd } from '../../src/machine/engines/kvm/memory.node.js';
import type { DriverMemory } from './guest-memory.js';

const page = 4096;

export class KvmDriverMemory extends KvmMemory implements DriverMemory {
  readonly writes: { address: number; length: number }[] = [];
  /** Next addresses at the beginning and above 4 GiB; and the end of free memory up to the hole. */
  readonly #next = [0x100000, 2 ** 32];
  #end = lowMemoryEnd;
  #turn = 0;

  /** @param size of the part above 4 GiB, in bytes; the kernel gives pages as they are used */
  constructor(size: number) {
    super(lowMemoryEnd + size);
  }

  allocate(length: number): number {
    const bytes = Math.ceil(length / page) * page;
    const turn = this.#turn++ % 3;
    if (turn === 2) return (this.#end -= bytes);
    const at = this.#next[turn]!;
    this.#next[turn] = at + bytes;
    if (!this.view(at, bytes)) throw new Error('the test needs more guest memory');
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
