/** Guest memory of the v86 engine. It moves when the WebAssembly memory grows. */
import type { GuestMemory } from '../../guest-memory.js';
import type { V86Cpu } from './internals.js';

/** The VGA window: guest-physical addresses that are not RAM for devices. */
const vgaStart = 0xa0000;
const vgaEnd = 0xc0000;

export class V86Memory implements GuestMemory {
  readonly size: number;
  readonly #cpu: V86Cpu;
  readonly #offset: number;
  #bytes: Uint8Array;

  constructor(cpu: V86Cpu, size: number) {
    this.size = size;
    this.#cpu = cpu;
    this.#offset = cpu.mem8.byteOffset;
    this.#bytes = this.#map();
  }

  view(address: number, length: number): Uint8Array | undefined {
    if (!(address >= 0 && length >= 0 && address + length <= this.size)) return undefined;
    if (address < vgaEnd && address + length > vgaStart) return undefined;
    // When the WebAssembly memory has grown, the old view is detached and has length 0
    // (docs/notes/engine.md, "Guest memory moves").
    if (this.#bytes.length === 0) this.#bytes = this.#map();
    return this.#bytes.subarray(address, address + length);
  }

  written(address: number, length: number): void {
    this.#cpu.jit_dirty_cache(address, address + length);
  }

  #map(): Uint8Array {
    return new Uint8Array(this.#cpu.wasm_memory.buffer, this.#offset, this.size);
  }
}
