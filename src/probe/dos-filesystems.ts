/**
 * Probes for file systems that begin with a DOS boot sector: FAT, exFAT, NTFS. Sources: Microsoft's
 * FAT32 and exFAT specifications; for NTFS the documentation of the ntfs-3g project.
 */
import { content, type ContentProbe } from './content.js';
import type { ProbeReader } from './reader.js';
import { diskText, serialText } from './text.js';

/** Length of the part of a root directory that is searched for a label, in bytes. */
const maxDirectory = 65536;

const powerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

/**
 * FAT12, FAT16 and FAT32 (blkid: "vfat"). Every boot sector has the same magic number, so the other
 * fields must be plausible too.
 */
export const vfat: ContentProbe = async (reader) => {
  const view = await reader.view(0, 512);
  if (!view) return undefined;
  const bytes = new Uint8Array(view.buffer);
  const sector = view.getUint16(11, true);
  const cluster = bytes[13]!;
  const reserved = view.getUint16(14, true);
  const fats = bytes[16]!;
  const rootEntries = view.getUint16(17, true);
  const media = bytes[21]!;
  const fat16Length = view.getUint16(22, true);
  const fat32Length = view.getUint32(36, true);
  const total = view.getUint16(19, true) || view.getUint32(32, true);
  const jump = bytes[0] === 0xeb || bytes[0] === 0xe9;
  if (!jump || !powerOfTwo(sector) || sector < 512 || sector > 4096 || !powerOfTwo(cluster)) return undefined;
  if (reserved === 0 || fats === 0 || fats > 2 || total === 0 || !(media === 0xf0 || media >= 0xf8)) return undefined;
  const is32 = fat16Length === 0;
  if (is32 ? fat32Length === 0 || rootEntries !== 0 : rootEntries === 0) return undefined;
  const serial = serialText(view.getUint32(is32 ? 67 : 39, true));
  const fatsEnd = (reserved + fats * (is32 ? fat32Length : fat16Length)) * sector;
  const rootAt = is32 ? fatsEnd + (view.getUint32(44, true) - 2) * cluster * sector : fatsEnd;
  const label = (await directoryLabel(reader, rootAt, is32 ? cluster * sector : rootEntries * 32)) ?? '';
  const written = diskText(bytes.subarray(is32 ? 71 : 43, is32 ? 82 : 54), 'latin1');
  const fallback = written === 'NO NAME' ? '' : written;
  return content('filesystem', 'vfat', label || fallback, serial);
};

/** The label in a FAT directory: the name of the entry with the attribute "volume label" (0x08). */
async function directoryLabel(reader: ProbeReader, at: number, length: number): Promise<string | undefined> {
  const bytes = await reader.bytes(at, Math.min(length, maxDirectory));
  for (let entry = 0; bytes && entry + 32 <= bytes.length && bytes[entry] !== 0; entry += 32) {
    const deleted = bytes[entry] === 0xe5;
    if (!deleted && (bytes[entry + 11]! & 0x3f) === 0x08) return diskText(bytes.subarray(entry, entry + 11), 'latin1');
  }
  return undefined;
}

/** exFAT ([exFAT] 3.1 boot sector, 7.3 volume label entry). */
export const exfat: ContentProbe = async (reader) => {
  const view = await reader.view(0, 512);
  if (!view || diskText(new Uint8Array(view.buffer, 3, 8), 'latin1') !== 'EXFAT') return undefined;
  const serial = serialText(view.getUint32(100, true));
  const sector = 2 ** view.getUint8(108);
  const cluster = sector * 2 ** view.getUint8(109);
  const root = view.getUint32(88, true) * sector + (view.getUint32(96, true) - 2) * cluster;
  const bytes = await reader.bytes(root, Math.min(cluster, maxDirectory));
  for (let entry = 0; bytes && entry + 32 <= bytes.length && bytes[entry] !== 0; entry += 32) {
    if (bytes[entry] !== 0x83) continue;
    const letters = Math.min(11, bytes[entry + 1]!);
    const label = diskText(bytes.subarray(entry + 2, entry + 2 + letters * 2), 'utf-16le');
    return content('filesystem', 'exfat', label, serial);
  }
  return content('filesystem', 'exfat', undefined, serial);
};

/** NTFS. The label is attribute 0x60 of the fourth record of the master file table. */
export const ntfs: ContentProbe = async (reader) => {
  const view = await reader.view(0, 512);
  if (!view || diskText(new Uint8Array(view.buffer, 3, 8), 'latin1') !== 'NTFS') return undefined;
  const serial = view.getBigUint64(72, true);
  const sector = view.getUint16(11, true);
  const perCluster = view.getUint8(13);
  const cluster = sector * (perCluster < 0x80 ? perCluster : 2 ** (256 - perCluster));
  const perRecord = view.getInt8(64);
  const record = perRecord > 0 ? perRecord * cluster : 2 ** -perRecord;
  const table = Number(view.getBigUint64(48, true)) * cluster;
  const label = record >= 512 && record <= 65536 ? await ntfsLabel(reader, table + 3 * record, record) : undefined;
  return content('filesystem', 'ntfs', label, serial.toString(16).toUpperCase().padStart(16, '0'));
};

async function ntfsLabel(reader: ProbeReader, at: number, length: number): Promise<string | undefined> {
  const view = await reader.view(at, length);
  if (!view || view.getUint32(0) !== 0x46494c45) return undefined;
  for (let attribute = view.getUint16(20, true); attribute + 24 <= length;) {
    const type = view.getUint32(attribute, true);
    const size = view.getUint32(attribute + 4, true);
    if (type === 0xffffffff || size < 24) return undefined;
    if (type === 0x60 && view.getUint8(attribute + 8) === 0) {
      const from = attribute + view.getUint16(attribute + 20, true);
      const to = from + Math.min(256, view.getUint32(attribute + 16, true));
      return to <= length ? diskText(new Uint8Array(view.buffer).subarray(from, to), 'utf-16le') : undefined;
    }
    attribute += size;
  }
  return undefined;
}
