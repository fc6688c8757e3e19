/**
 * Reads the guest's interrupt descriptor table (Intel SDM vol. 3, §6.10, §6.11) through the guest's
 * own page tables, to see which handlers the operating system has installed ([SYS] fig. 6, steps
 * 301 and 302; fig. 11, step 326).
 *
 * Left out: 64-bit mode.
 */
import type { DescriptorRegisters } from './engine.js';
import type { GuestMemory } from './guest-memory.js';

/** The protection interrupts of x86: general protection fault and page fault. */
export const protectionVectors = { generalProtection: 13, pageFault: 14 } as const;

/** The linear address of the handler for a vector; undefined if none is installed. */
export function installedHandler(memory: GuestMemory, cpu: DescriptorRegisters, vector: number): number | undefined {
  if ((cpu.cr0 & 1) === 0 || vector * 8 + 7 > cpu.idtLimit) return undefined;
  const low = readLinear(memory, cpu, cpu.idtBase + vector * 8);
  const high = readLinear(memory, cpu, cpu.idtBase + vector * 8 + 4);
  if (low === undefined || high === undefined || (high & 0x8000) === 0) return undefined;
  return ((high & 0xffff0000) | (low & 0xffff)) >>> 0;
}

function readLinear(memory: GuestMemory, cpu: DescriptorRegisters, address: number): number | undefined {
  const physical = translate(memory, cpu, address >>> 0);
  return physical === undefined ? undefined : read32(memory, physical);
}

/**
 * Translates a linear to a physical address: §4.3 32-bit paging, §4.4 PAE paging, or the same
 * address if paging is off.
 */
function translate(memory: GuestMemory, cpu: DescriptorRegisters, address: number): number | undefined {
  if (cpu.cr0 >>> 31 === 0) return address;
  const pae = (cpu.cr4 & 0x20) !== 0;
  if (!pae) {
    const pde = read32(memory, (cpu.cr3 & ~0xfff) + (address >>> 22) * 4);
    if (pde === undefined || (pde & 1) === 0) return undefined;
    if (pde & 0x80) return (pde & 0xffc00000) + (address & 0x3fffff);
    const pte = read32(memory, (pde & ~0xfff) + ((address >>> 12) & 0x3ff) * 4);
    return pte === undefined || (pte & 1) === 0 ? undefined : (pte & ~0xfff) + (address & 0xfff);
  }
  const pdpte = read32(memory, (cpu.cr3 & ~0x1f) + (address >>> 30) * 8);
  if (pdpte === undefined || (pdpte & 1) === 0) return undefined;
  const pde = read32(memory, (pdpte & ~0xfff) + ((address >>> 21) & 0x1ff) * 8);
  if (pde === undefined || (pde & 1) === 0) return undefined;
  if (pde & 0x80) return (pde & 0xffe00000) + (address & 0x1fffff);
  const pte = read32(memory, (pde & ~0xfff) + ((address >>> 12) & 0x1ff) * 8);
  return pte === undefined || (pte & 1) === 0 ? undefined : (pte & ~0xfff) + (address & 0xfff);
}

function read32(memory: GuestMemory, address: number): number | undefined {
  const bytes = memory.view(address >>> 0, 4);
  return bytes && (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
}
