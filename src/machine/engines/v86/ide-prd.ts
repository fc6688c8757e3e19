/**
 * Physical region descriptors of the bus master ([BMI] 1.2): the guest memory of a DMA transfer.
 */
import { RegionDescriptor } from '../../../spec/bus-master.js';
import { GuestBuffers, joinRanges, type GuestMemory, type GuestRange } from '../../guest-memory.js';

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
export function describedMemory(memory: GuestMemory, table: number, total: number): GuestBuffers | undefined {
  const segments: GuestRange[] = [];
  let left = total;
  for (let i = 0; i < maxDescriptors && left > 0; i++) {
    // The lowest bits of the registers and descriptors are reserved and read as zero.
    const entry = memory.view(((table & ~3) >>> 0) + RegionDescriptor.size * i, RegionDescriptor.size);
    if (!entry) return undefined;
    const view = new DataView(entry.buffer, entry.byteOffset, RegionDescriptor.size);
    const count = view.getUint16(RegionDescriptor.count, true) & 0xfffe;
    const length = Math.min(left, count || RegionDescriptor.largest);
    const address = (view.getUint32(RegionDescriptor.address, true) & ~1) >>> 0;
    if (!memory.view(address, length)) return undefined;
    segments.push({ address, length });
    left -= length;
    if (view.getUint8(RegionDescriptor.flags) & RegionDescriptor.last) break;
  }
  return left === 0 ? new GuestBuffers(memory, joinRanges(segments)) : undefined;
}
