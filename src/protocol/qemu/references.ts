/**
 * Other files that a disk image names, as its header says: a backing file, a file of its data, or extents. Sources: QEMU,
 * docs/interop/qcow2.txt and qed_spec.txt; VMware, Virtual Disk Format 5.0.
 */
import { getU32 } from '../../base/big-endian.js';
import type { ImageFormat } from './formats.js';

/** Bytes from the start of an image that {@link namesOthers} wants to see, where there are as many. */
export const referenceBytes = 65_536;

/** Whether an image of `format` that begins with `bytes` says that some of its content is in another file. */
export function namesOthers(format: ImageFormat, bytes: Uint8Array): boolean {
  const nonZero = (at: number, length: number): boolean => bytes.subarray(at, at + length).some((byte) => byte !== 0);
  switch (format) {
    case 'qcow':
      return nonZero(8, 8);
    case 'qcow2':
      // Incompatible feature 2: the data is in another file. From version 3 on.
      return nonZero(8, 8) || (getU32(bytes, 4) >= 3 && (bytes[79]! & 4) !== 0);
    case 'qed':
      // Feature 0: there is a backing file. Little-endian.
      return (bytes[16]! & 1) !== 0;
    case 'vmdk': {
      const text = new TextDecoder('latin1').decode(bytes);
      if (text.startsWith('COWD')) return false;
      // With a capacity of 0 the embedded descriptor names extents.
      return !text.startsWith('KDMV') || !nonZero(12, 8) || !/^\s*parentCID\s*=\s*ffffffff\s*$/im.test(text);
    }
    default:
      return false;
  }
}
