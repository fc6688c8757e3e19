/**
 * Physical region descriptors of the bus master: the guest memory of a DMA transfer.
 *
 * Specification: [BMI] 1.2 (spec/ide.ts).
 */
import type { GuestMemory } from '../../guest-memory.js';

/** A range of guest memory that a descriptor describes. */
export interface Piece {
  readonly address: number;
  readonly length: number;
}

/**
 * Largest number of descriptors read. A transfer of 65536 sectors (32 MiB) needs 8193 pages at
 * most.
 */
const maxDescriptors = 16384;

/**
 * The guest memory for `total` bytes that the descriptor table at `table` describes. A region that
 * is longer than the rest is used in part. Returns undefined if the table describes too little, or
 * memory that does not exist.
 */
export function describedMemory(memory: GuestMemory, table: number, total: number): Piece[] | undefined {
  const pieces: Piece[] = [];
  let left = total;
  for (let i = 0; i < maxDescriptors && left > 0; i++) {
    // The lowest bits of the registers and descriptors are reserved and read as zero.
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

/** Copies the data of a transfer into guest memory. */
export function scatter(memory: GuestMemory, pieces: readonly Piece[], data: Uint8Array): void {
  let at = 0;
  for (const { address, length } of pieces) {
    memory.view(address, length)!.set(data.subarray(at, at + length));
    memory.written(address, length);
    at += length;
  }
}

/** Copies the data of a transfer from guest memory. */
export function gather(memory: GuestMemory, pieces: readonly Piece[], data: Uint8Array): void {
  let at = 0;
  for (const { address, length } of pieces) {
    data.set(memory.view(address, length)!, at);
    at += length;
  }
}
