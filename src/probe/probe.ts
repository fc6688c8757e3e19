/**
 * What is on a disk: its partition table (MBR, GPT) and the file systems and other content on it and in its partitions, by
 * their signatures. Only reads, a bounded number of bytes however the disk is made, and trusts nothing that it reads.
 * Other tables (Apple, BSD, Sun) are not known.
 */
import { usageError } from '../base/errors.js';
import type { BlockDevice, RequestOptions } from '../block/device.js';
import { inParallel } from '../block/filters/parallel.js';
import { SliceFilter } from '../block/filters/slice.js';
import type { Content } from './content.js';
import { contentProbes } from './filesystems.js';
import { readGpt } from './gpt.js';
import { mbrEntries, readMbr } from './mbr.js';
import { ProbeReader } from './reader.js';
import type { FoundTable, Partition, PartitionTable } from './table.js';

/** What a probe found. */
export interface DiskLayout {
  readonly table?: PartitionTable;
  /** What is on the whole device: where there is no table, and on hybrid images beside one. */
  readonly content?: Content;
  /** What is wrong, a line each, for people. */
  readonly problems: readonly string[];
}

/** Partitions that are looked into, at most. */
const maxProbed = 256;
const maxProblems = 32;
/** Content that begins with a boot sector, which has the signature of a table but none. */
const bootSectors = new Set(['vfat', 'exfat', 'ntfs', 'BitLocker']);

/**
 * Looks at a disk.
 * @throws BlockError where the device as a whole fails; damaged blocks and damaged tables are problems in the answer.
 */
export async function probeDisk(device: BlockDevice, options: RequestOptions = {}): Promise<DiskLayout> {
  const reader = ProbeReader.of(device, options);
  const content = await probeContent(reader);
  const found = await findTable(reader, device.info.blockSize, content);
  const problems = [...(found?.problems ?? [])];
  let table = found?.table;
  if (table) {
    const { partitions } = table;
    problems.push(...impossible(partitions, device.info.size));
    if (partitions.length > maxProbed) problems.push(`only the first ${maxProbed} partitions were looked into`);
    table = { ...table, partitions: await withContent(reader, partitions) };
  }
  for (const at of reader.unreadable) problems.push(`the device cannot be read at byte ${at}`);
  if (reader.exhausted) problems.push('there is more to look at than is read: some content is not named');
  const more = problems.length - maxProblems;
  if (more > 0) problems.splice(maxProblems, more, `and ${more} problems more`);
  return { ...(table && { table }), ...(content && { content }), problems };
}

/**
 * The partition `number` of a disk as a device of its own, which takes the disk over.
 * @throws FarbusError where there is none, or it cannot be used.
 */
export async function openPartition(device: BlockDevice, number: number): Promise<SliceFilter> {
  const reader = ProbeReader.of(device);
  const found = await findTable(reader, device.info.blockSize, await probeContent(reader));
  const partitions = (found?.table.partitions ?? []).filter(({ extended }) => !extended);
  const partition = partitions.find((one) => one.number === number);
  if (!partition) {
    const there =
      partitions.length === 0
        ? 'none'
        : partitions
            .slice(0, 16)
            .map((one) => one.number)
            .join(', ');
    throw usageError(`the disk has no partition ${number}: it has ${there}; see farbus info`);
  }
  if (partition.start + partition.size > device.info.size) {
    throw usageError(`partition ${number} reaches beyond the end of the disk: its table is damaged; see farbus info`);
  }
  return new SliceFilter(device, partition.start, partition.size);
}

/** The content of a part of a disk. */
export async function probeContent(reader: ProbeReader): Promise<Content | undefined> {
  for (const probe of contentProbes) {
    const found = await probe(reader);
    if (found) return found;
  }
  return undefined;
}

/** The partition table of a disk that has `content` as a whole; undefined where there is none. */
export async function findTable(
  reader: ProbeReader,
  blockSize: number,
  content: Content | undefined,
): Promise<FoundTable | undefined> {
  // An image of a disk of 4096-byte sectors is a file with blocks of 512: its table tells.
  const sizes = [...new Set([Math.min(4096, Math.max(512, blockSize)), 512, 4096])];
  let damaged: FoundTable | undefined;
  for (const sectorSize of sizes) {
    const gpt = await readGpt(reader, sectorSize);
    if (gpt && gpt.table.id !== '') return gpt;
    damaged ??= gpt;
  }
  if (content && bootSectors.has(content.type)) return damaged;
  const mbr = await readMbr(reader, sizes[0]!);
  const protective = (await mbrEntries(reader))?.some(({ type }) => type === 0xee) ?? false;
  if (mbr && protective) {
    return {
      ...mbr,
      problems: [...(damaged?.problems ?? []), 'the disk says that it has a GPT, and none can be read'],
    };
  }
  return mbr ?? damaged;
}

function impossible(partitions: readonly Partition[], size: number): string[] {
  const problems: string[] = [];
  for (const { number, start, size: length } of partitions) {
    if (start + length > size) problems.push(`partition ${number} reaches beyond the end of the disk`);
  }
  const sorted = partitions.filter(({ extended }) => !extended).sort((a, b) => a.start - b.start);
  for (const [index, one] of sorted.entries()) {
    const before = sorted[index - 1];
    if (before && before.start + before.size > one.start) {
      problems.push(`partitions ${before.number} and ${one.number} overlap`);
    }
  }
  return problems;
}

async function withContent(reader: ProbeReader, partitions: readonly Partition[]): Promise<Partition[]> {
  const done = [...partitions];
  const jobs = partitions.slice(0, maxProbed).map((partition, index) => async () => {
    if (partition.extended) return;
    const content = await probeContent(reader.within(partition.start, partition.size));
    if (content) done[index] = { ...partition, content };
  });
  await inParallel(jobs, 8);
  return done;
}
