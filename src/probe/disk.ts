/**
 * Decides what a disk is: its partition table and its content. All code that shows partitions,
 * content or identity uses this one decision. Sources: [UEFI] 5.2.3 and Linux
 * (block/partitions/efi.c, msdos.c) for the choice of the table, blkid(8) for the rest.
 *
 * - If an entry of the master boot record (MBR) has type 0xEE (protective), the GPT is used, even
 *   with a hybrid MBR, and the MBR never is. Otherwise the MBR is used.
 * - A GPT of which only the backup is left is used if the disk has no other content. The Linux
 *   kernel does not use it; blkid and sfdisk do.
 * - The boot sector of a file system is not taken for an MBR.
 */
import { contentOf, type Content, type Finding } from './content.js';
import { besideTable, probeContents, rivals } from './contents.js';
import { readGpt, type FoundGpt } from './gpt.js';
import { mbrEntries, readMbr } from './mbr.js';
import type { ProbeReader } from './reader.js';
import type { FoundTable, Partition, PartitionTable } from './table.js';

export interface Disk {
  readonly table?: PartitionTable;
  /** Content of the whole disk. */
  readonly content?: Content;
  /** Problems of the table, one line each. */
  readonly problems: readonly string[];
  /** Other things that the disk could be, one line each. */
  readonly ambiguous: readonly string[];
}

/** Content that begins with a boot sector, which has the signature of an MBR without a table. */
const bootSectors = new Set(['vfat', 'exfat', 'ntfs', 'BitLocker']);
/** MBR partition type that announces a GPT. */
const protective = 0xee;

/** Decides what a disk is. @param blockSize block size of the device, in bytes */
export async function decideDisk(reader: ProbeReader, blockSize: number): Promise<Disk> {
  const all = await probeContents(reader);
  const ambiguous: string[] = [];
  const found = await findTable(reader, blockSize, all[0], ambiguous);
  // Content that was found within a partition belongs to that partition.
  const own = all.filter(({ at }) => at === undefined || !isCovered(found?.table.partitions ?? [], at));
  const [content] = own;
  const rival = rivals(own);
  if (rival !== undefined) ambiguous.unshift(rival);
  if (found && found.table.partitions.length > 0 && content && !besideTable(content)) {
    const kind = found.table.kind === 'gpt' ? 'GPT' : 'MBR';
    ambiguous.push(`it has a partition table (${kind}), and is ${content.type} as a whole: one of them is left over`);
  }
  const { table, problems = [] } = found ?? {};
  return { ...(table && { table }), ...(content && { content: contentOf(content) }), problems, ambiguous };
}

async function findTable(
  reader: ProbeReader,
  blockSize: number,
  content: Finding | undefined,
  ambiguous: string[],
): Promise<FoundTable | undefined> {
  const sector = Math.min(4096, Math.max(512, blockSize));
  const entries = (await mbrEntries(reader)) ?? [];
  const gpt = await findGpt(reader, sector);
  if (entries.some(({ type }) => type === protective)) {
    if (gpt?.used === 'backup' && content && content.at === undefined && !besideTable(content)) {
      ambiguous.push(`the backup of an old GPT is left at its end, and not used: it is ${content.type}`);
      return undefined;
    }
    const others = entries.filter(({ type, count }) => type !== 0 && type !== protective && count !== 0).length;
    if (others > 0 && gpt) {
      ambiguous.push(`its MBR is a hybrid with ${others} partitions of its own: the GPT is used, as by Linux`);
    }
    if (gpt && gpt.used !== undefined) {
      if (!entries.some(({ type, start }) => type === protective && start === 1)) {
        ambiguous.push('the protective entry of its MBR does not begin at sector 1: Linux does not use the GPT then');
      }
      if (gpt.used === 'backup')
        ambiguous.push('only the backup of its GPT is left: Linux does not use it, blkid does');
      return gpt;
    }
    const told = 'the disk says that it has a GPT, and none can be read';
    return {
      table: { kind: 'gpt', id: '', sectorSize: sector, partitions: [] },
      problems: [...(gpt?.problems ?? []), told],
    };
  }
  const mbr = await readMbr(reader, sector);
  if (mbr && content && bootSectors.has(content.type)) {
    ambiguous.push(`its boot sector looks like an MBR with ${mbr.table.partitions.length} partitions as well`);
    return undefined;
  }
  if (gpt?.used !== undefined) {
    const which = gpt.used === 'backup' ? 'the backup of an old GPT' : 'an old GPT';
    const instead = mbr ? 'the MBR is used' : 'it is not used';
    ambiguous.push(`it has ${which} as well: ${instead}, since no entry of the MBR is protective (type 0xEE)`);
  }
  return mbr;
}

/** The GPT, regardless of the MBR; a damaged one if there is no good one. */
async function findGpt(reader: ProbeReader, sector: number): Promise<FoundGpt | undefined> {
  let damaged: FoundGpt | undefined;
  // Try other sector sizes too: the image file of a disk with 4096-byte sectors has no sector size
  // of its own.
  for (const sectorSize of new Set([sector, 512, 4096])) {
    const gpt = await readGpt(reader, sectorSize);
    if (gpt && gpt.used !== undefined) return gpt;
    damaged ??= gpt;
  }
  return damaged;
}

function isCovered(partitions: readonly Partition[], at: number): boolean {
  return partitions.some(({ extended, start, size }) => !extended && at >= start && at < start + size);
}
