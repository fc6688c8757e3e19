/**
 * Content with a second copy of its superblock (LUKS2, NILFS2): the copy identifies it when the
 * first one is lost. Sources: LUKS2 on-disk format specification 2.1 "Binary header"; Linux,
 * include/uapi/linux/nilfs2_ondisk.h.
 */
import { crc32Raw } from '../base/crc32.js';
import { content, type Content, type ContentProbe } from './content.js';
import type { ProbeReader } from './reader.js';
import { diskText, uuidText } from './text.js';

/**
 * Possible offsets of the second LUKS2 header, in bytes: one for each allowed size of the first
 * header.
 */
const luks2Places = [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000];
/** "SKUL", the first four bytes of the second header's magic number, big-endian. */
const luks2Magic = 0x534b554c;

export const luks2Second: ContentProbe = async (reader) => {
  for (const at of luks2Places) {
    const view = await reader.view(at, 264);
    if (!view || view.getUint32(0) !== luks2Magic || view.getUint16(4) !== 0xbabe || view.getUint16(6) !== 2) continue;
    // The header contains its own offset. If that differs, the header is a copy within other data.
    if (view.getBigUint64(256) !== BigInt(at)) continue;
    const bytes = new Uint8Array(view.buffer);
    const label = diskText(bytes.subarray(24, 72));
    return { ...content('crypto', 'crypto_LUKS', label, diskText(bytes.subarray(168, 208), 'latin1')), at };
  }
  return undefined;
};

export const nilfs2: ContentProbe = (reader) => readNilfs2(reader, 1024);

/** NILFS2 by its second superblock, which is in the last block of 4 KiB. */
export const nilfs2Second: ContentProbe = async (reader) => {
  const at = (Math.floor(reader.size / 4096) - 1) * 4096;
  const found = at > 1024 ? await readNilfs2(reader, at) : undefined;
  return found && { ...found, at };
};

/**
 * Reads a NILFS2 superblock. Its magic number has only two bytes, so the checksum must match too.
 */
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
