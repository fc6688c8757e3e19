/**
 * Loads a Linux kernel as a boot loader does ([SYS] fig. 11, step 325): x86 boot protocol, 32-bit
 * entry (kernel documentation, arch/x86/boot.rst, "32-bit Boot Protocol", and zero-page.rst).
 *
 * The kernel's compressed payload was unpacked on the host and is entered directly. That saves
 * about 7 s of a boot under v86 (docs/notes/engine.md, "Boot times"), and the kernel stays
 * unmodified. No BIOS is needed.
 */
import type { ProtectedModeEntry } from '../engine.js';
import type { GuestMemory } from '../guest-memory.js';
import { parseElf } from './elf.js';
import { memoryMap, place } from './place.js';

/** A Linux kernel with its initramfs and command line. */
export interface LinuxImage {
  /** The bzImage as packaged. Its setup header becomes part of the boot parameters. */
  readonly bzImage: Uint8Array;
  /** The unpacked payload of the bzImage: an ELF executable. */
  readonly vmlinux: Uint8Array;
  /** An initramfs, uncompressed or compressed by a method that the kernel supports. */
  readonly initramfs?: Uint8Array;
  /** The kernel's command line. */
  readonly commandLine: string;
}

const bootParameters = 0x10000;
const commandLineAt = 0x20000;
const stackTop = 0x9000;
/** Offsets in the boot parameters (zero-page.rst). */
const Zero = { e820Entries: 0x1e8, setupHeader: 0x1f1, e820Table: 0x2d0 } as const;
/** Offsets of fields of the setup header (boot.rst). */
const Header = {
  bootFlag: 0x1fe,
  magic: 0x202,
  version: 0x206,
  typeOfLoader: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLine: 0x228,
  initrdMax: 0x22c,
  commandLineSize: 0x238,
} as const;

/**
 * Puts a kernel, its initramfs and its boot parameters into guest memory.
 * @returns the start state of the processor
 * @throws Error if something does not fit into memory or is not a kernel
 */
export function loadLinux(memory: GuestMemory, image: LinuxImage): ProtectedModeEntry {
  const { bzImage, vmlinux, initramfs } = image;
  const header = new DataView(bzImage.buffer, bzImage.byteOffset, bzImage.byteLength);
  if (bzImage.length < 0x1000 || header.getUint16(Header.bootFlag, true) !== 0xaa55) {
    throw new Error('the kernel is not a bzImage');
  }
  if (header.getUint32(Header.magic, true) !== 0x53726448 || header.getUint16(Header.version, true) < 0x20a) {
    throw new Error('the kernel is too old: its boot protocol is below 2.10');
  }
  const kernel = parseElf(vmlinux);
  let kernelEnd = 0;
  for (const segment of kernel.segments) {
    const target = memory.view(segment.address, segment.memorySize);
    if (!target) throw new Error(`the kernel needs memory at ${segment.address >>> 20} MiB: give the computer more`);
    target.fill(0, segment.bytes.length);
    target.set(segment.bytes);
    kernelEnd = Math.max(kernelEnd, segment.address + segment.memorySize);
  }
  const commandLine = new TextEncoder().encode(`${image.commandLine}\0`);
  if (commandLine.length > header.getUint32(Header.commandLineSize, true)) {
    throw new Error(`the kernel command line is longer than ${header.getUint32(Header.commandLineSize, true)} bytes`);
  }
  place(memory, commandLineAt, commandLine);

  const zero = new Uint8Array(4096);
  const view = new DataView(zero.buffer);
  // boot.rst: the header ends at the target of its first jump
  const headerEnd = 0x202 + bzImage[0x201]!;
  zero.set(bzImage.subarray(Zero.setupHeader, headerEnd), Zero.setupHeader);
  view.setUint8(Header.typeOfLoader, 0xff);
  view.setUint8(Header.loadFlags, zero[Header.loadFlags]! | 1); // LOADED_HIGH
  view.setUint32(Header.commandLine, commandLineAt, true);
  if (initramfs) {
    const max = Math.min(memory.size, header.getUint32(Header.initrdMax, true));
    const at = (max - initramfs.length - 0x1000) & ~0xfff;
    if (at < kernelEnd) throw new Error('the kernel and its initramfs do not fit into memory: give the computer more');
    place(memory, at, initramfs);
    view.setUint32(Header.ramdiskImage, at, true);
    view.setUint32(Header.ramdiskSize, initramfs.length, true);
  }
  memoryMap(memory).forEach(([start, length, type], i) => {
    const entry = Zero.e820Table + 20 * i;
    view.setBigUint64(entry, BigInt(start), true);
    view.setBigUint64(entry + 8, BigInt(length), true);
    view.setUint32(entry + 16, type, true);
    view.setUint8(Zero.e820Entries, i + 1);
  });
  place(memory, bootParameters, zero);
  return { instructionPointer: kernel.entry, esi: bootParameters, esp: stackTop };
}
