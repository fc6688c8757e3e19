/**
 * Read-only memory of the board below 4 GiB, where a processor finds its first instruction. The
 * guest's writes to it are exits, which the trap answers as for any address that nothing owns.
 */
import { machineCalls } from '../../../linux/virtual-machine.node.js';
import { Request, slotFlags } from './abi.js';
import type { KvmMemory } from './memory.node.js';

const page = 4096;
const fourGiB = 2 ** 32;
/** Number of the ROM's memory slot; memory.node.ts has the first two. */
const romSlot = 8;
/** A PC shows the end of its ROM below 1 MiB as well, where 16-bit code can reach it. */
const lowEnd = 0x100000;
const maxLowCopy = 0x20000;

/**
 * Puts a ROM of whole pages at the end of the first 4 GiB, and a copy of its end below 1 MiB, which
 * firmware may write as if it were shadowed.
 * @returns an object to keep as long as the machine exists
 */
export function mapRom(vm: number, memory: KvmMemory, content: Uint8Array): object {
  if (content.length === 0 || content.length % page !== 0 || content.length > 16 << 20)
    throw new RangeError('the firmware is not of whole pages');
  const block = new SharedArrayBuffer(content.length + page);
  const system = machineCalls();
  const skip = Number(-system.addressOf(new Uint8Array(block, 0, 1)) & BigInt(page - 1));
  const rom = new Uint8Array(block, skip, content.length);
  rom.set(content);
  const region = new DataView(new ArrayBuffer(32));
  region.setUint32(0, romSlot, true);
  region.setUint32(4, slotFlags.readOnly, true);
  region.setBigUint64(8, BigInt(fourGiB - content.length), true);
  region.setBigUint64(16, BigInt(content.length), true);
  region.setBigUint64(24, system.addressOf(rom), true);
  system.exchange(vm, Request.setUserMemoryRegion, new Uint8Array(region.buffer));
  const low = content.subarray(-maxLowCopy);
  memory.area(lowEnd - low.length, low.length).set(low);
  return block;
}
