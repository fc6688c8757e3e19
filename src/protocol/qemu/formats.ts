/**
 * Disk image formats that are not the bytes of the disk, told by their first bytes. Sources: QEMU, docs/interop/qcow2.txt
 * and qed_spec.txt; the VMDK, VHD and VHDX specifications of their makers; VirtualBox, VDICore.h.
 *
 * A guest that may write a raw disk can make its first bytes look like any of these, with the name of a file of the
 * host's in them. So an image that names other files is never opened for its looks alone (CVE-2008-2004).
 */
import { getU32 } from '../../base/big-endian.js';

/** The formats that are read through qemu-nbd, by QEMU's names. */
export const imageFormats = ['qcow2', 'qcow', 'qed', 'vmdk', 'vdi', 'vhdx', 'vpc', 'parallels'] as const;
export type ImageFormat = (typeof imageFormats)[number];

export interface FoundFormat {
  readonly format: ImageFormat;
  /** Whether it says that some of its content is in another file. */
  readonly namesOthers: boolean;
}

/** Bytes from the start that {@link formatOf} wants to see, where there are as many. */
export const formatBytes = 65_536;

/** The format of an image that begins with `bytes`; undefined where it is none that is known. */
export function formatOf(bytes: Uint8Array): FoundFormat | undefined {
  const text = (at: number, length: number): string =>
    new TextDecoder('latin1').decode(bytes.subarray(at, at + length));
  const nonZero = (at: number, length: number): boolean => bytes.subarray(at, at + length).some((byte) => byte !== 0);
  if (bytes.length < 512) return undefined;
  if (text(0, 4) === 'QFI\xfb') {
    const backed = nonZero(8, 8);
    if (getU32(bytes, 4) === 1) return { format: 'qcow', namesOthers: backed };
    // Incompatible feature 2: the data is in another file. From version 3 on.
    const external = getU32(bytes, 4) >= 3 && (bytes[79]! & 4) !== 0;
    return { format: 'qcow2', namesOthers: backed || external };
  }
  // Feature 0: there is a backing file. Little-endian.
  if (text(0, 4) === 'QED\0') return { format: 'qed', namesOthers: (bytes[16]! & 1) !== 0 };
  if (text(0, 4) === 'KDMV' || text(0, 4) === 'COWD') {
    const own = /^\s*parentCID\s*=\s*ffffffff\s*$/im.test(text(0, bytes.length));
    return { format: 'vmdk', namesOthers: !own };
  }
  if (text(0, 21) === '# Disk DescriptorFile') return { format: 'vmdk', namesOthers: true };
  if (text(64, 4) === '\x7f\x10\xda\xbe') return { format: 'vdi', namesOthers: false };
  // Differencing images of these two, which QEMU does not open.
  if (text(0, 8) === 'vhdxfile') return { format: 'vhdx', namesOthers: false };
  if (text(0, 8) === 'conectix') return { format: 'vpc', namesOthers: false };
  if (text(0, 16) === 'WithoutFreeSpace' || text(0, 16) === 'WithouFreSpacExt') {
    return { format: 'parallels', namesOthers: false };
  }
  return undefined;
}
