/**
 * Everything that a part of a disk could be taken for, in the order in which it is believed. Sources: blkid(8) of
 * util-linux for what ends the search, what may stand beside other content and what is ambiguous. Of two file systems,
 * which blkid only calls ambiguous, the one whose superblock is nearer to the start is believed: what is behind it can lie
 * in a file of that file system, and what is before it cannot.
 */
import type { Content, ContentProbe, Finding } from './content.js';
import { contentProbes, lastProbes } from './filesystems.js';
import type { ProbeReader } from './reader.js';

/** What is made to stand beside other content: an ISO image is often a disk image as well (blkid: "tolerant"). */
const tolerant = new Set(['iso9660', 'udf']);

/** What was found, the one that is believed first; empty where nothing is known. */
export async function probeContents(reader: ProbeReader): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  const look = async (probes: readonly ContentProbe[]): Promise<void> => {
    for (const probe of probes) {
      const content = await probe(reader);
      if (!content || found.some(({ type }) => type === content.type)) continue;
      found.push(content);
      // What is seen of the content of a RAID or an encrypted container is no rival of it.
      if (content.kind === 'member' || content.kind === 'crypto') return;
    }
  };
  await look(contentProbes);
  if (found.length === 0) await look(lastProbes);
  return found;
}

/** One line where content is not the only one that was found, for people; undefined where it is. */
export function rivals([first, ...others]: readonly Content[]): string | undefined {
  if (!first || others.length === 0) return undefined;
  if ([first, ...others].every(({ type }) => tolerant.has(type))) return undefined;
  const names = others.map(({ type }) => type).join(', ');
  return `it is taken for ${first.type}, and looks like ${names} as well: wipefs(8) removes what is left over`;
}

/** Whether content of a whole disk says nothing against a partition table. */
export function besideTable({ type }: Content): boolean {
  return tolerant.has(type) || type === 'hfsplus' || type === 'hfs';
}
