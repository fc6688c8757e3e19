/**
 * Loads a 64-bit Linux kernel by its PVH entry point: flat 32-bit protected mode, with the address
 * of a start_info structure in EBX (Xen, docs/misc/pvh.pandoc and
 * xen/include/public/arch-x86/hvm/start_info.h). The kernel switches to 64-bit mode by itself.
 *
 * The kernel's compressed payload was unpacked on the host, as in linux.ts.
 */
import type { ProtectedModeEntry } from '../engine.js';
import type { GuestMemory } from '../guest-memory.js';
import type { LinuxImage } from './linux.js';
import { memoryMap, place } from './place.js';

const startInfoAt = 0x6000;
const moduleAt = 0x6100;
const memoryMapAt = 0x6200;
const commandLineAt = 0x20000;
/** Linux, arch/x86/include/asm/setup.h: COMMAND_LINE_SIZE of x86. */
const maxCommandLine = 2048;
/** "xEn3" with the high bit of the E set. */
const startInfoMagic = 0x336ec578;
/** Xen's ELF note XEN_ELFNOTE_PHYS32_ENTRY. */
const entryNote = 18;
/** Program header types. */
const loadType = 1;
const noteType = 4;
/** An initramfs stays below this, because the kernel's first page tables end there. */
const initramfsLimit = 0x7fffffff;

/** True if the unpacked kernel is a 64-bit ELF file. */
export function is64Bit(vmlinux: Uint8Array): boolean {
  return vmlinux[4] === 2;
}

/**
 * Puts a kernel, its initramfs and its start_info into guest memory.
 * @param acpiRoot guest-physical address of the RSDP
 * @returns the start state of the processor
 * @throws Error if something does not fit into memory, or the kernel has no PVH entry
 */
export function loadPvh(memory: GuestMemory, image: LinuxImage, acpiRoot: number): ProtectedModeEntry {
  const { entry, end } = loadKernel(memory, image.vmlinux);
  const commandLine = new TextEncoder().encode(`${image.commandLine}\0`);
  if (commandLine.length > maxCommandLine) {
    throw new Error(`the kernel command line is longer than ${maxCommandLine} bytes`);
  }
  place(memory, commandLineAt, commandLine);
  const info = new DataView(new ArrayBuffer(56));
  info.setUint32(0, startInfoMagic, true);
  info.setUint32(4, 1, true); // version
  if (image.initramfs) {
    const low = memory.ranges?.[0]?.length ?? memory.size;
    const at = Math.floor((Math.min(low, initramfsLimit) - image.initramfs.length - 0x1000) / 4096) * 4096;
    if (at < end) throw new Error('the kernel and its initramfs do not fit into memory: give the computer more');
    place(memory, at, image.initramfs);
    info.setUint32(12, 1, true);
    info.setBigUint64(16, BigInt(moduleAt), true);
    const module = new DataView(new ArrayBuffer(32));
    module.setBigUint64(0, BigInt(at), true);
    module.setBigUint64(8, BigInt(image.initramfs.length), true);
    place(memory, moduleAt, new Uint8Array(module.buffer));
  }
  info.setBigUint64(24, BigInt(commandLineAt), true);
  info.setBigUint64(32, BigInt(acpiRoot), true);
  info.setBigUint64(40, BigInt(memoryMapAt), true);
  const map = memoryMap(memory);
  info.setUint32(48, map.length, true);
  const entries = new DataView(new ArrayBuffer(24 * map.length));
  map.forEach(([start, length, type], i) => {
    entries.setBigUint64(24 * i, BigInt(start), true);
    entries.setBigUint64(24 * i + 8, BigInt(length), true);
    entries.setUint32(24 * i + 16, type, true);
  });
  place(memory, memoryMapAt, new Uint8Array(entries.buffer));
  place(memory, startInfoAt, new Uint8Array(info.buffer));
  return { instructionPointer: entry, ebx: startInfoAt, esi: 0, esp: 0 };
}

/** Loads the segments of a 64-bit ELF file. Returns its PVH entry, and the end of its memory. */
function loadKernel(memory: GuestMemory, file: Uint8Array): { entry: number; end: number } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const table = file.length < 64 ? NaN : Number(view.getBigUint64(32, true));
  const size = file.length < 64 ? 0 : view.getUint16(54, true);
  const count = file.length < 64 ? 0 : view.getUint16(56, true);
  if (size < 56 || !(table + size * count <= file.length)) throw new Error('the kernel is not a whole ELF file');
  let entry: number | undefined;
  let end = 0;
  for (let i = 0; i < count; i++) {
    const at = table + i * size;
    const [offset, address, length, memorySize] = [8, 24, 32, 40].map((field) =>
      Number(view.getBigUint64(at + field, true)),
    ) as [number, number, number, number];
    if (offset + length > file.length) throw new Error("a segment of the kernel's ELF file is cut off");
    const bytes = file.subarray(offset, offset + length);
    const type = view.getUint32(at, true);
    if (type === noteType) entry ??= findEntry(bytes);
    if (type !== loadType) continue;
    const target = memory.view(address, Math.max(memorySize, length));
    if (!target)
      throw new Error(`the kernel needs memory at ${Math.floor(address / 2 ** 20)} MiB: give the computer more`);
    target.fill(0, length);
    target.set(bytes);
    end = Math.max(end, address + memorySize);
  }
  if (entry === undefined) throw new Error('the kernel has no PVH entry: it is too old, or not for x86-64');
  return { entry, end };
}

/** Finds the entry among the notes of a segment. Each: name length, length, type, name, content. */
function findEntry(notes: Uint8Array): number | undefined {
  const view = new DataView(notes.buffer, notes.byteOffset, notes.byteLength);
  const padded = (length: number) => Math.ceil(length / 4) * 4;
  for (let at = 0; at + 12 <= notes.length;) {
    const content = at + 12 + padded(view.getUint32(at, true));
    const length = view.getUint32(at + 4, true);
    if (content + length > notes.length) return undefined;
    if (view.getUint32(at + 8, true) === entryNote && length >= 4) return view.getUint32(content, true);
    at = content + padded(length);
  }
  return undefined;
}
