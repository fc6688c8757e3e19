/**
 * Disk image formats that are not the bytes of the disk: how a file's content and its name tell them. Sources: QEMU,
 * docs/interop/qcow2.txt and qed_spec.txt; the VMDK, VHD and VHDX specifications of their makers; VirtualBox, VDICore.h.
 *
 * A guest that may write a raw disk can make its first bytes look like any of these, with the path of a file of the
 * host in them (CVE-2008-2004). Therefore content alone never decides that a file is an image: the user's words do,
 * which are a format (`qcow2:PATH`) or the file's name (`vm.qcow2`).
 *
 * Not here: which other files an image names (references.ts).
 */
import { getU32 } from '../../base/big-endian.js';

/** The formats that are read through qemu-nbd, by QEMU's names. */
export const imageFormats = ['qcow2', 'qcow', 'qed', 'vmdk', 'vdi', 'vhdx', 'vpc', 'parallels'] as const;
export type ImageFormat = (typeof imageFormats)[number];

/** Bytes from the start of a file that {@link formatOf} looks at. */
export const formatBytes = 512;

/** Each format's signatures: where they stand, and what they are (Latin-1). */
const signatures: readonly (readonly [format: ImageFormat, offset: number, text: string])[] = [
  ['qcow', 0, 'QFI\xfb\0\0\0\x01'],
  // Version 2 and later; an unknown version is refused by QEMU.
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
 * Whether a text is a VMDK descriptor: comments and blank lines, then its title or version. Line by line: a regular
 * expression for all of it could take a guest's text apart in exponentially many ways.
 */
function isDescriptor(text: string): boolean {
  for (const line of text.split('\n')) {
    if (/^(?:# Disk DescriptorFile|version=[123]\r?$)/i.test(line)) return true;
    if (!line.startsWith('#') && line.trim() !== '') return false;
  }
  return false;
}

/** The format that a file with these first bytes looks like, however short it is; undefined where it is none that is known. */
export function formatOf(bytes: Uint8Array): ImageFormat | undefined {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, formatBytes));
  // The decoder follows WHATWG: bytes 0x80 to 0x9f become other characters. No signature has one.
  const found = signatures.find(([, offset, magic]) => text.startsWith(magic, offset));
  if (found) return found[0];
  return isDescriptor(text) ? 'vmdk' : undefined;
}

/** Bytes at the end of a file that {@link isFixedVhd} looks at. */
export const footerBytes = 512;

/** Whether a file with this end is a VHD of fixed size: the disk's bytes, and behind them a footer (VHD 1.0, "Hard Disk Footer"). */
export function isFixedVhd(end: Uint8Array): boolean {
  return (
    end.length === footerBytes &&
    new TextDecoder('latin1').decode(end.subarray(0, 8)) === 'conectix' &&
    getU32(end, 60) === 2
  );
}

/** What the end of a file's name says of its format. A qcow2 image is often called .qcow. */
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

/** The formats that a file's name claims; none for names such as disk.img. */
export function formatsOfName(path: string): readonly ImageFormat[] {
  const ending = /[^/]\.([a-z0-9]+)$/i.exec(path)?.[1]?.toLowerCase() ?? '';
  return Object.hasOwn(endings, ending) ? endings[ending]! : [];
}
