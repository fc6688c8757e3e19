/** Common to the boot protocols: the memory map, and bytes put into guest memory. */
import type { GuestMemory } from '../guest-memory.js';

/** Start and length in bytes, and type (1 RAM, 2 reserved) of an E820 entry. */
export type MapEntry = readonly [start: number, length: number, type: number];

/** The memory map as a BIOS reports it. */
export function memoryMap({ size, ranges = [{ start: 0, length: size }] }: GuestMemory): MapEntry[] {
  const [low, ...others] = ranges;
  return [
    [0, 0x9fc00, 1],
    [0x9fc00, 0x100000 - 0x9fc00, 2],
    [0x100000, low!.length - 0x100000, 1],
    ...others.map(({ start, length }): MapEntry => [start, length, 1]),
  ];
}

/** @throws Error if the bytes do not fit */
export function place(memory: GuestMemory, address: number, bytes: Uint8Array): void {
  const target = memory.view(address, bytes.length);
  if (!target) throw new Error('the computer has too little memory');
  target.set(bytes);
}
