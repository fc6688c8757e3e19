/**
 * The guest's exits: v86 calls MMIO handlers, registered above RAM in blocks of 128 KiB
 * (docs/notes/engine.md, "MMIO blocks"), which hand the accesses to the trap.
 */
import type { TrapHandler } from '../../trap.js';
import type { V86Cpu } from './internals.js';

const mmioBlock = 0x20000;

export class Exits {
  readonly #cpu: V86Cpu;
  readonly #trap: TrapHandler;
  readonly #written: () => void;
  readonly #blocks = new Set<number>();
  #depth = 0;

  /** @param written called after each write */
  constructor(cpu: V86Cpu, trap: TrapHandler, written: () => void) {
    this.#cpu = cpu;
    this.#written = written;
    this.#trap = trap;
  }

  /** True within an exit, that is within a guest instruction. */
  get within(): boolean {
    return this.#depth > 0;
  }

  /** Sends the exits of every 128 KiB block that overlaps [base, base + size) to the trap. */
  guard(base: number, size: number): void {
    const read = (bytes: number) => (address: number) => {
      this.#depth++;
      try {
        return this.#trap.read(address >>> 0, bytes) | 0;
      } finally {
        this.#depth--;
      }
    };
    const write = (bytes: number) => (address: number, value: number) => {
      this.#depth++;
      try {
        this.#trap.write(address >>> 0, bytes, bytes === 4 ? value >>> 0 : value);
      } finally {
        this.#depth--;
      }
      this.#written();
    };
    for (let block = base - (base % mmioBlock); block < base + size; block += mmioBlock) {
      if (this.#blocks.has(block)) continue;
      this.#blocks.add(block);
      this.#cpu.io.mmap_register(block | 0, mmioBlock, read(1), write(1), read(4), write(4));
    }
  }
}
