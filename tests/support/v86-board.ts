/**
 * The exits and the memory of the v86 engine for the drivers of tests: controllers are behind its
 * MMIO blocks and the trap, and guest memory is WebAssembly's, which moves. There is no processor.
 */
import { Steps } from '../../src/base/steps.js';
import { Exits } from '../../src/machine/engines/v86/exits.js';
import type { V86Cpu } from '../../src/machine/engines/v86/internals.js';
import { V86Memory } from '../../src/machine/engines/v86/memory.js';
import { TrapHandler, type GuardedDevice } from '../../src/machine/trap.js';
import type { DriverRegisters } from './driver-board.js';
import type { DriverMemory } from './guest-memory.js';

type Handler = (address: number, value: number) => number | void;

export function v86Board(device: GuardedDevice): DriverRegisters {
  let handlers: readonly Handler[] = [];
  const cpu = {
    io: { mmap_register: (_base: number, _size: number, ...all: Handler[]) => (handlers = all) },
  } as unknown as V86Cpu;
  const trap = new TrapHandler(new Steps());
  trap.guard(device);
  new Exits(cpu, trap, () => undefined).guard(device.base, device.size);
  const [read8, write8, read32, write32] = handlers as [Handler, Handler, Handler, Handler];
  // v86 has no handlers for two bytes: it calls those for one byte twice.
  const bytes = (offset: number, size: number) =>
    Array.from({ length: size }, (_, i) => (device.base + offset + i) | 0);
  return {
    read: (offset, size) =>
      size === 4
        ? Number(read32((device.base + offset) | 0, 0)) >>> 0
        : bytes(offset, size).reduce((value, at, i) => value | (Number(read8(at, 0)) << (8 * i)), 0),
    write: (offset, size, value) => {
      if (size === 4) write32((device.base + offset) | 0, value | 0);
      else bytes(offset, size).forEach((at, i) => write8(at, (value >>> (8 * i)) & 0xff));
    },
  };
}

const page = 0x10000;
/** RAM for devices begins above the VGA window. */
const firstFree = 0x100000;
/** Machines that exist at the same time in one test file. */
const machines = 8;
const machineBytes = 17 << 20;
/** One WebAssembly memory, because each takes 10 GiB of addresses. */
const wasm = new WebAssembly.Memory({ initial: (machines * machineBytes) / page });
let machine = 0;

export class V86DriverMemory extends V86Memory implements DriverMemory {
  readonly writes: { address: number; length: number }[] = [];
  #next = firstFree;
  #grows = false;

  constructor(size: number) {
    if (size + firstFree > machineBytes) throw new RangeError('the test needs more guest memory');
    const mem8 = new Uint8Array(wasm.buffer, (machine++ % machines) * machineBytes, machineBytes);
    mem8.fill(0);
    super({ mem8, wasm_memory: wasm, jit_dirty_cache: () => undefined } as unknown as V86Cpu, size + firstFree);
  }

  override view(address: number, length: number): Uint8Array | undefined {
    // The memory grows while the guest runs, that is between two turns of the event loop.
    if (!this.#grows && wasm.buffer.byteLength < 2 ** 30) {
      this.#grows = true;
      setImmediate(() => {
        this.#grows = false;
        wasm.grow(1);
      });
    }
    return super.view(address, length);
  }

  override written(address: number, length: number): void {
    super.written(address, length);
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
