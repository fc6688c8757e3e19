/**
 * Recognises disk image formats other than raw by a file's content and name. Specification: QEMU,
 * docs/interop/qcow2.txt and qed_spec.txt; the makers' specifications of VMDK, VHD and VHDX;
 * VirtualBox, VDICore.h.
 *
 * A guest that can write a raw disk can make its first bytes look like any of these formats, with
 * the path of a host file in them (CVE-2008-2004). So content alone never decides that a file is
 * an image. The user decides, by a format (`qcow2:PATH`) or the file's name (`vm.qcow2`).
 *
 * Not here: the other files that an image names (references.ts).
 */
import { getU32 } from '../../base/big-endian.js';

/** Formats that are read through qemu-nbd, by QEMU's names. */
export const imageFormats = ['qcow2', 'qcow', 'qed', 'vmdk', 'vdi', 'vhdx', 'vpc', 'parallels'] as const;
export type ImageFormat = (typeof imageFormats)[number];

/** Bytes from the start of a file that {@link formatOf} examines. */
export const formatBytes = 512;

/** Signatures of the formats: offset and Latin-1 text. */
const signatures: readonly (readonly [format: ImageFormat, offset: number, text: string])[] = [
  ['qcow', 0, 'QFI\xfb\0\0\0\x01'],
  // Version 2 and later; QEMU refuses an unknown version.
  ['qcow2', 0, 'QFI\xfb'],
  ['qed', 0, 'QED\0'],
  ['vmdk', 0, 'KDMV'],
  ['vmdk', 0, 'COWD'],
  ['vdi', 64, '\x7f\x10\xda\xbe'],
  ['vhdx', 0, 'vhdxfile'],
  ['vpc', 0, 'conectix'],
  ['parallels', 0, 'WithoutFreeSpace'],
  ['parallels', 0, 'WithouFreSpacExt'],
];

/**
 * True if a text is a VMDK descriptor: comments and blank lines, then its title or version. It is
 * checked line by line, because one regular expression for all of it could take exponential time
 * on a guest's text.
 */
function isDescriptor(text: string): boolean {
  for (const line of text.split('\n')) {
    if (/^(?:# Disk DescriptorFile|version=[123]\r?$)/i.test(line)) return true;
    if (!line.startsWith('#') && line.trim() !== '') return false;
  }
  return false;
}

/**
 * The format that a file with these first bytes has, however few they are; undefined if unknown.
 */
export function formatOf(bytes: Uint8Array): ImageFormat | undefined {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, formatBytes));
  // The decoder follows WHATWG, so bytes 0x80 to 0x9f become other characters. No signature has
  // such a byte.
  const found = signatures.find(([, offset, magic]) => text.startsWith(magic, offset));
  if (found) return found[0];
  return isDescriptor(text) ? 'vmdk' : undefined;
}

/** Bytes at the end of a file that {@link isFixedVhd} examines. */
export const footerBytes = 512;

/**
 * True if a file with this end is a VHD of fixed size: the disk's bytes, then a footer (VHD 1.0,
 * "Hard Disk Footer").
 */
export function isFixedVhd(end: Uint8Array): boolean {
  return (
    end.length === footerBytes &&
    new TextDecoder('latin1').decode(end.subarray(0, 8)) === 'conectix' &&
    getU32(end, 60) === 2
  );
}

/** Formats by file name extension. A qcow2 image is often called .qcow. */
const endings: Readonly<Record<string, readonly ImageFormat[]>> = {
  qcow2: ['qcow2'],
  qcow: ['qcow', 'qcow2'],
  qed: ['qed'],
  vmdk: ['vmdk'],
  vdi: ['vdi'],
  vhdx: ['vhdx'],
  vhd: ['vpc'],
  vpc: ['vpc'],
  parallels: ['parallels'],
};

/** The formats that a file name claims; none for names such as disk.img. */
export function formatsOfName(path: string): readonly ImageFormat[] {
  const ending = /[^/]\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? '';
  return Object.hasOwn(endings, ending) ? endings[ending]! : [];
}

/** Endings of packed files and of images that no program here writes. */
const otherEndings = /\.(?:gz|xz|zst|bz2|lz4|zip|7z|dmg|ova|ovf)$/i;

/** True if a file name claims a format in which no disk can be written here. */
export function claimsOtherFormat(path: string): boolean {
  return otherEndings.test(path);
}
