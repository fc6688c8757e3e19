/**
 * Content that keeps a second copy of its superblock elsewhere, by which it is known when the first one is lost. Sources:
 * LUKS2 on-disk format specification 2.1 "Binary header"; Linux, include/uapi/linux/nilfs2_ondisk.h.
 */
import { crc32Raw } from '../base/crc32.js';
import { content, type Content, type ContentProbe } from './content.js';
import type { ProbeReader } from './reader.js';
import { diskText, uuidText } from './text.js';

/** Where the second LUKS2 header can be: behind a first one of each size that is allowed, in bytes. */
const luks2Places = [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000];
/** "SKUL" and two bytes, big-endian. */
const luks2Magic = 0x534b554c;

export const luks2Second: ContentProbe = async (reader) => {
  for (const at of luks2Places) {
    const view = await reader.view(at, 264);
    if (!view || view.getUint32(0) !== luks2Magic || view.getUint16(4) !== 0xbabe || view.getUint16(6) !== 2) continue;
    // It says where it is: one elsewhere is a copy.
    if (view.getBigUint64(256) !== BigInt(at)) continue;
    const bytes = new Uint8Array(view.buffer);
    const label = diskText(bytes.subarray(24, 72));
    return { ...content('crypto', 'crypto_LUKS', label, diskText(bytes.subarray(168, 208), 'latin1')), at };
  }
  return undefined;
};

export const nilfs2: ContentProbe = (reader) => readNilfs2(reader, 1024);

/** The second superblock is in the last 4 KiB that begin at a multiple of 4 KiB. */
export const nilfs2Second: ContentProbe = async (reader) => {
  const at = (Math.floor(reader.size / 4096) - 1) * 4096;
  const found = at > 1024 ? await readNilfs2(reader, at) : undefined;
  return found && { ...found, at };
};

/** The magic number has two bytes only: the checksum tells. */
async function readNilfs2(reader: ProbeReader, at: number): Promise<Content | undefined> {
  const view = await reader.view(at, 1024);
  if (view?.getUint16(6, true) !== 0x3434) return undefined;
  const bytes = new Uint8Array(view.buffer);
  const length = view.getUint16(8, true);
  if (length < 248 || length > bytes.length) return undefined;
  const summed = bytes.slice(0, length).fill(0, 16, 20);
  if (crc32Raw(view.getUint32(12, true), summed) !== view.getUint32(16, true)) return undefined;
  return content('filesystem', 'nilfs2', diskText(bytes.subarray(168, 248)), uuidText(bytes.subarray(152, 168)));
}
