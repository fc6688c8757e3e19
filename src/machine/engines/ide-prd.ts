/** Physical region descriptors of the bus master: the memory that a transfer goes to or comes from. Specification: [BMI] 1.2. */
import type { GuestMemory } from '../guest-memory.js';

/** A part of guest memory that a descriptor names. */
export interface Piece {
  readonly address: number;
  readonly length: number;
}

/** What a transfer of 65536 sectors can need in pages, and some. */
const maxDescriptors = 16384;

/**
 * The memory for `total` bytes that the table at `table` names; undefined where it is not there or too little. A region
 * longer than what is left is used in part.
 */
export function describedMemory(memory: GuestMemory, table: number, total: number): Piece[] | undefined {
  const pieces: Piece[] = [];
  let left = total;
  for (let i = 0; i < maxDescriptors && left > 0; i++) {
    // The registers' and descriptors' lowest bits are reserved and read as zero.
    const entry = memory.view(((table & ~3) >>> 0) + 8 * i, 8);
    if (!entry) return undefined;
    const view = new DataView(entry.buffer, entry.byteOffset, 8);
    const length = Math.min(left, view.getUint16(4, true) & 0xfffe || 0x10000);
    const address = (view.getUint32(0, true) & ~1) >>> 0;
    if (!memory.view(address, length)) return undefined;
    pieces.push({ address, length });
    left -= length;
    if (view.getUint8(7) & 0x80) break;
  }
  return left === 0 ? pieces : undefined;
}

/** Puts a transfer's bytes where they belong. */
export function scatter(memory: GuestMemory, pieces: readonly Piece[], data: Uint8Array): void {
  let at = 0;
  for (const { address, length } of pieces) {
    memory.view(address, length)!.set(data.subarray(at, at + length));
    memory.written(address, length);
    at += length;
  }
}

/** Takes a transfer's bytes from where they are. */
export function gather(memory: GuestMemory, pieces: readonly Piece[], data: Uint8Array): void {
  let at = 0;
  for (const { address, length } of pieces) {
    data.set(memory.view(address, length)!, at);
    at += length;
  }
}
