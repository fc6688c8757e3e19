/**
 * Reads the partition table of a master boot record (MBR) and the logical partitions of its
 * extended partition. Source: [UEFI] 5.2.1. No standard describes extended partitions; they are
 * read as Linux does (block/partitions/msdos.c).
 *
 * Not here: BSD and Solaris labels within a partition; the choice between MBR and GPT (disk.ts).
 */
import type { ProbeReader } from './reader.js';
import { isExtended, mbrTypeName } from './partition-types.js';
import type { FoundTable, Partition } from './table.js';

/** Most logical partitions that are read: far more than are in use. It bounds a malicious chain. */
const maxLogical = 128;

interface Entry {
  readonly active: boolean;
  readonly type: number;
  /** Start and length in sectors. */
  readonly start: number;
  readonly count: number;
}

/** The four entries of the boot record at `offset` bytes; undefined if it has no signature. */
export async function mbrEntries(reader: ProbeReader, offset = 0): Promise<(Entry & { flag: number })[] | undefined> {
  const view = await reader.view(offset, 512);
  if (view?.getUint16(510, true) !== 0xaa55) return undefined;
  return [446, 462, 478, 494].map((at) => ({
    flag: view.getUint8(at),
    active: view.getUint8(at) === 0x80,
    type: view.getUint8(at + 4),
    start: view.getUint32(at + 8, true),
    count: view.getUint32(at + 12, true),
  }));
}

/** Reads the table of the first sector; undefined if there is none. */
export async function readMbr(reader: ProbeReader, sectorSize: number): Promise<FoundTable | undefined> {
  const entries = await mbrEntries(reader);
  // Every boot sector has the signature, but only a table has flags of 0 or 0x80.
  if (!entries || entries.some(({ flag }) => (flag & 0x7f) !== 0)) return undefined;
  if (entries.every(({ type, count }) => type === 0 || count === 0)) return undefined;
  const id = ((await reader.view(440, 4))?.getUint32(0, true) ?? 0).toString(16).padStart(8, '0');
  const problems: string[] = [];
  const partitions: Partition[] = [];
  const add = (number: number, { active, type, count }: Entry, start: number): void => {
    partitions.push({
      number,
      start: start * sectorSize,
      size: count * sectorSize,
      typeId: `0x${type.toString(16).padStart(2, '0')}`,
      type: mbrTypeName(type),
      ...(id !== '00000000' && { uuid: `${id}-${number.toString(16).padStart(2, '0')}` }),
      bootable: active,
      extended: isExtended(type),
    });
  };
  for (const [index, entry] of entries.entries()) {
    if (entry.type !== 0 && entry.count !== 0) add(index + 1, entry, entry.start);
  }
  const extended = entries.filter(({ type, count }) => isExtended(type) && count !== 0);
  if (extended.length > 1) problems.push('there is more than one extended partition: only the first one is read');
  if (extended[0]) await readLogical(reader, sectorSize, extended[0].start, add, problems);
  return { table: { kind: 'mbr', id, sectorSize, partitions }, problems };
}

/**
 * Follows the chain of extended boot records. Each contains a logical partition and the place of
 * the next record.
 */
async function readLogical(
  reader: ProbeReader,
  sectorSize: number,
  base: number,
  add: (number: number, entry: Entry, start: number) => void,
  problems: string[],
): Promise<void> {
  const seen = new Set<number>();
  let number = 5;
  for (let at = base; ;) {
    if (seen.has(at)) return void problems.push('the chain of logical partitions is a circle: cut where it closes');
    if (seen.size === maxLogical) {
      return void problems.push(`there are more than ${maxLogical} logical partitions: the rest is not read`);
    }
    seen.add(at);
    const entries = await mbrEntries(reader, at * sectorSize);
    if (!entries) return void problems.push(`the chain of logical partitions is broken at sector ${at}`);
    for (const entry of entries) {
      if (entry.type === 0 || entry.count === 0 || isExtended(entry.type)) continue;
      add(number++, entry, at + entry.start);
      break;
    }
    const next = entries.find(({ type, count }) => isExtended(type) && count !== 0);
    if (!next) return;
    at = base + next.start;
  }
}
