/**
 * Finds out what is on a disk: its partition table (MBR or GPT), and the file systems and other
 * content on it and in its partitions, recognised by their signatures. It only reads, a bounded
 * number of bytes, and trusts no byte that it reads.
 *
 * Not here: other partition tables (Apple, BSD, Sun).
 */
import type { BlockDevice, RequestOptions } from '../block/device.js';
import { inParallel } from '../block/filters/parallel.js';
import { contentOf, type Content } from './content.js';
import { probeContents, rivals } from './contents.js';
import { decideDisk } from './disk.js';
import { ProbeReader } from './reader.js';
import type { Partition, PartitionTable } from './table.js';

/** The result of a probe. */
export interface DiskLayout {
  /** The partition table; absent if there is none. */
  readonly table?: PartitionTable;
  /**
   * Content of the whole device: of a disk without a table, or beside the table of a hybrid image.
   */
  readonly content?: Content;
  /**
   * Other things that the disk or a partition could be, one line each, for people; absent if there
   * are none.
   */
  readonly ambiguous?: readonly string[];
  /** Problems, one line each, for people. */
  readonly problems: readonly string[];
}

/** Most partitions whose content is probed. */
const maxProbed = 256;
const maxProblems = 32;

/**
 * Probes a disk. Damaged blocks and tables are reported as problems.
 * @throws BlockError if the whole device fails
 */
export async function probeDisk(device: BlockDevice, options: RequestOptions = {}): Promise<DiskLayout> {
  const reader = ProbeReader.of(device, options);
  const disk = await decideDisk(reader, device.info.blockSize);
  const { content } = disk;
  const problems = [...disk.problems];
  const ambiguous = disk.ambiguous.map((line) => `the disk: ${line}`);
  let { table } = disk;
  if (table) {
    const { partitions } = table;
    problems.push(...impossible(partitions, device.info.size));
    if (partitions.length > maxProbed) problems.push(`only the first ${maxProbed} partitions were examined`);
    table = { ...table, partitions: await withContent(reader, partitions, ambiguous) };
  }
  const [first, ...others] = [...reader.unreadable].sort((one, other) => one - other);
  if (first !== undefined) {
    const more = others.length === 0 ? '' : ` and ${others.length} other ${others.length === 1 ? 'place' : 'places'}`;
    problems.push(`the device cannot be read at byte ${first}${more}`);
  }
  if (reader.exhausted) problems.push('the disk has more content than is examined: some of it is not named');
  const more = problems.length - maxProblems;
  if (more > 0) problems.splice(maxProblems, more, `and ${more} problems more`);
  const unclear = ambiguous.length > 0 && { ambiguous: ambiguous.slice(0, maxProblems) };
  return { ...(table && { table }), ...(content && { content }), ...unclear, problems };
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

async function withContent(
  reader: ProbeReader,
  partitions: readonly Partition[],
  ambiguous: string[],
): Promise<Partition[]> {
  const done = [...partitions];
  const lines: (string | undefined)[] = [];
  const jobs = partitions.slice(0, maxProbed).map((partition, index) => async () => {
    if (partition.extended) return;
    const contents = await probeContents(reader.within(partition.start, partition.size));
    const [content] = contents;
    if (content) done[index] = { ...partition, content: contentOf(content) };
    const rival = rivals(contents);
    if (rival !== undefined) lines[index] = `partition ${partition.number}: ${rival}`;
  });
  await inParallel(jobs, 8);
  ambiguous.push(...lines.filter((line) => line !== undefined));
  return done;
}
