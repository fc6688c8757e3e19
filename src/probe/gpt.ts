/**
 * Reads the GUID partition table (GPT): header and entries with their checksums, and the backup at
 * the end of the disk. Source: [UEFI] 5.3.
 *
 * Not here: whether the table is used, which the master boot record decides (disk.ts).
 */
import { crc32 } from '../base/crc32.js';
import { gptTypeName } from './partition-types.js';
import type { ProbeReader } from './reader.js';
import type { FoundTable, Partition } from './table.js';
import { diskText, guidText } from './text.js';

/** Longest list of entries that is read, in bytes: 64 times the usual length. */
const maxEntryBytes = 1 << 20;
const zeroGuid = '00000000-0000-0000-0000-000000000000';

interface Header {
  readonly id: string;
  /** Sector of the other copy. */
  readonly alternate: number;
  /** The last sector that a partition may use. */
  readonly lastUsable: number;
  readonly entriesAt: number;
  readonly entryCount: number;
  readonly entrySize: number;
  readonly entriesCrc: number;
}

export interface FoundGpt extends FoundTable {
  /** The copy from which the table was read; undefined if both are damaged. */
  readonly used: 'primary' | 'backup' | undefined;
}

/**
 * Reads the table of a disk with sectors of `sectorSize` bytes, from its primary copy or else its
 * backup. Undefined if there is none.
 */
export async function readGpt(reader: ProbeReader, sectorSize: number): Promise<FoundGpt | undefined> {
  const last = Math.floor(reader.size / sectorSize) - 1;
  const problems: string[] = [];
  const primary = await readCopy(reader, sectorSize, 1, problems);
  const noted = problems.length;
  const backup = await readCopy(reader, sectorSize, last, problems);
  if (!primary && !backup) {
    // Report a damaged primary copy. A damaged backup alone may be a remnant and is not reported.
    if (noted === 0) return undefined;
    const table = { kind: 'gpt', id: '', sectorSize, partitions: [] } as const;
    return { table, problems: problems.slice(0, noted), used: undefined };
  }
  const used = (primary ?? backup)!;
  if (!primary && noted === 0) problems.push('the GPT at the start is missing: its backup at the end was used');
  if (!primary && noted > 0) problems.push('the backup of the GPT was used');
  if (primary && !backup && problems.length === noted) {
    const where =
      primary.header.alternate < last
        ? 'not at the end of the disk, which is larger than the table knows'
        : primary.header.alternate > last
          ? 'beyond the end of the disk, which is smaller than the table knows'
          : 'missing';
    problems.push(`the backup of the GPT is ${where}`);
  }
  if (primary && backup && primary.header.entriesCrc !== backup.header.entriesCrc) {
    problems.push('the GPT and its backup differ: the first was used');
  }
  if (used.header.lastUsable > last) problems.push('the GPT is of a larger disk: Linux does not use it');
  const { header, partitions } = used;
  const table = { kind: 'gpt', id: header.id.toLowerCase(), sectorSize, partitions } as const;
  return { table, problems, used: primary ? 'primary' : 'backup' };
}

async function readCopy(
  reader: ProbeReader,
  sectorSize: number,
  lba: number,
  problems: string[],
): Promise<{ header: Header; partitions: readonly Partition[] } | undefined> {
  const bytes = await reader.bytes(lba * sectorSize, sectorSize);
  if (!bytes || diskText(bytes.subarray(0, 8), 'latin1') !== 'EFI PART') return undefined;
  const which = lba === 1 ? 'the GPT' : 'the backup of the GPT';
  const header = decodeHeader(bytes, lba);
  if (!header) return void problems.push(`${which} has a damaged header (its checksum or its fields are wrong)`);
  const { entriesAt, entryCount, entrySize, entriesCrc } = header;
  const entries = await reader.bytes(entriesAt * sectorSize, entryCount * entrySize);
  if (!entries || crc32(entries) !== entriesCrc) {
    return void problems.push(`${which} has damaged entries (their checksum is wrong, or they cannot be read)`);
  }
  const partitions: Partition[] = [];
  for (let index = 0; index < entryCount; index++) {
    const entry = entries.subarray(index * entrySize, (index + 1) * entrySize);
    const partition = decodeEntry(entry, index + 1, sectorSize);
    if (partition === 'impossible') problems.push(`${which}: partition ${index + 1} ends before it begins`);
    else if (partition) partitions.push(partition);
  }
  return { header, partitions };
}

/** Decodes a header ([UEFI] table 5.5); undefined if its checksum or a field is wrong. */
function decodeHeader(bytes: Uint8Array, lba: number): Header | undefined {
  const view = new DataView(bytes.buffer);
  const length = view.getUint32(12, true);
  if (length < 92 || length > bytes.length) return undefined;
  const summed = bytes.slice(0, length);
  summed.fill(0, 16, 20);
  if (crc32(summed) !== view.getUint32(16, true) || view.getBigUint64(24, true) !== BigInt(lba)) return undefined;
  const entrySize = view.getUint32(84, true);
  const entryCount = view.getUint32(80, true);
  const powerOfTwo = (entrySize & (entrySize - 1)) === 0;
  if (!powerOfTwo || entrySize < 128 || entryCount === 0 || entryCount * entrySize > maxEntryBytes) return undefined;
  return {
    id: guidText(bytes.subarray(56, 72)),
    alternate: Number(view.getBigUint64(32, true)),
    lastUsable: Number(view.getBigUint64(48, true)),
    entriesAt: Number(view.getBigUint64(72, true)),
    entryCount,
    entrySize,
    entriesCrc: view.getUint32(88, true),
  };
}

/**
 * Decodes an entry ([UEFI] table 5.6); undefined if it is free, 'impossible' if its end is before
 * its start.
 */
function decodeEntry(bytes: Uint8Array, number: number, sectorSize: number): Partition | 'impossible' | undefined {
  const typeId = guidText(bytes.subarray(0, 16));
  if (typeId === zeroGuid) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const first = Number(view.getBigUint64(32, true));
  const last = Number(view.getBigUint64(40, true));
  const end = (last + 1) * sectorSize;
  if (last < first || !Number.isSafeInteger(end)) return 'impossible';
  const name = diskText(bytes.subarray(56, 128), 'utf-16le');
  return {
    number,
    start: first * sectorSize,
    size: end - first * sectorSize,
    typeId,
    type: gptTypeName(typeId),
    ...(name && { name }),
    uuid: guidText(bytes.subarray(16, 32)).toLowerCase(),
    bootable: (view.getUint32(48, true) & 0x4) !== 0,
    extended: false,
  };
}
