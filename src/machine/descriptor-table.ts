/**
 * Reads the guest's interrupt descriptor table (Intel SDM vol. 3, §6.10, §6.11, §6.14.1) through
 * the guest's own page tables (chapter 4), to see which handlers the operating system has installed
 * ([SYS] fig. 6, steps 301 and 302; fig. 11, step 326).
 *
 * Linear addresses are bigints, because 64-bit systems use addresses near 2^64.
 */
import type { DescriptorRegisters } from './engine.js';
import type { GuestMemory } from './guest-memory.js';

/** The protection interrupts of x86: general protection fault and page fault. */
export const protectionVectors = { generalProtection: 13, pageFault: 14 } as const;

/** CR0 bits 0 and 31, CR4 bits 5 and 12, EFER bit 10. */
const protection = 1;
const paging = 0x80000000;
const pae = 0x20;
const fiveLevels = 0x1000;
const longModeActive = 0x400;
/** Page table entries: present; large page. */
const present = 1;
const large = 0x80;

/** The linear address of the handler for a vector; undefined if none is installed. */
export function installedHandler(memory: GuestMemory, cpu: DescriptorRegisters, vector: number): bigint | undefined {
  const long = isLong(cpu);
  const size = long ? 16 : 8;
  if ((cpu.cr0 & protection) === 0 || vector * size + size - 1 > cpu.idtLimit) return undefined;
  const at = cpu.idtBase + BigInt(vector * size);
  const low = readLinear(memory, cpu, at);
  const high = readLinear(memory, cpu, at + 4n);
  const highest = long ? readLinear(memory, cpu, at + 8n) : 0;
  if (low === undefined || high === undefined || highest === undefined || (high & 0x8000) === 0) return undefined;
  return (BigInt(highest) << 32n) | BigInt(((high & 0xffff0000) | (low & 0xffff)) >>> 0);
}

function isLong({ efer }: DescriptorRegisters): boolean {
  return (efer & longModeActive) !== 0;
}

function readLinear(memory: GuestMemory, cpu: DescriptorRegisters, address: bigint): number | undefined {
  const physical = translate(memory, cpu, BigInt.asUintN(isLong(cpu) ? 64 : 32, address));
  return physical === undefined ? undefined : read32(memory, physical);
}

/** Translates a linear to a physical address; the same address if paging is off. */
function translate(memory: GuestMemory, cpu: DescriptorRegisters, address: bigint): number | undefined {
  if ((cpu.cr0 & paging) === 0) return Number(address);
  if ((cpu.cr4 & pae) === 0) return translate32(memory, cpu, Number(address));
  // §4.4, §4.5: tables of 512 entries of 8 bytes; with PAE the first has 4.
  const levels = !isLong(cpu) ? 3 : (cpu.cr4 & fiveLevels) !== 0 ? 5 : 4;
  let table = isLong(cpu) ? cpu.cr3 - (cpu.cr3 % 4096) : cpu.cr3 - (cpu.cr3 % 32);
  for (let level = levels; level > 0; level--) {
    const shift = 12 + 9 * (level - 1);
    const index = Number((address >> BigInt(shift)) & (level === 3 && !isLong(cpu) ? 3n : 511n));
    const entry = read64(memory, table + index * 8);
    if (entry === undefined || (entry.flags & present) === 0) return undefined;
    if (level === 1 || (level < 4 && (entry.flags & large) !== 0)) {
      const size = 2 ** shift;
      return entry.address - (entry.address % size) + Number(address % BigInt(size));
    }
    table = entry.address;
  }
  return undefined;
}

/** §4.3: 32-bit paging. */
function translate32(memory: GuestMemory, { cr3 }: DescriptorRegisters, address: number): number | undefined {
  const pde = read32(memory, cr3 - (cr3 % 4096) + (address >>> 22) * 4);
  if (pde === undefined || (pde & present) === 0) return undefined;
  if (pde & large) return ((pde & 0xffc00000) >>> 0) + (address & 0x3fffff);
  const pte = read32(memory, ((pde & ~0xfff) >>> 0) + ((address >>> 12) & 0x3ff) * 4);
  return pte === undefined || (pte & present) === 0 ? undefined : ((pte & ~0xfff) >>> 0) + (address & 0xfff);
}

/** An entry's flags (its low 12 bits), and the physical address that it holds (bits 12 to 51). */
function read64(memory: GuestMemory, at: number): { flags: number; address: number } | undefined {
  const low = read32(memory, at);
  const high = read32(memory, at + 4);
  if (low === undefined || high === undefined) return undefined;
  return { flags: low & 0xfff, address: (high & 0xfffff) * 2 ** 32 + ((low & ~0xfff) >>> 0) };
}

function read32(memory: GuestMemory, address: number): number | undefined {
  const bytes = memory.view(address, 4);
  return bytes && (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
}
