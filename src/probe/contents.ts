/**
 * Finds all content that a device or partition appears to have, the most credible first.
 *
 * The rules are those of blkid(8) of util-linux: which content ends the search, which may stand
 * beside other content, and what is ambiguous. One rule is ours: of two file systems, which blkid
 * only calls ambiguous, the one whose superblock is nearer to the start is believed. A superblock
 * after it can lie within one of its files; a superblock before it cannot.
 */
import type { Content, ContentProbe, Finding } from './content.js';
import { contentProbes, lastProbes } from './filesystems.js';
import type { ProbeReader } from './reader.js';

/**
 * Content that may stand beside other content (blkid: "tolerant"): an ISO image is often a disk
 * image too.
 */
const tolerant = new Set(['iso9660', 'udf']);

/** All recognised content, the most credible first; empty if there is none. */
export async function probeContents(reader: ProbeReader): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  const look = async (probes: readonly ContentProbe[]): Promise<void> => {
    for (const probe of probes) {
      const content = await probe(reader);
      if (!content || found.some(({ type }) => type === content.type)) continue;
      found.push(content);
      // Stop: further signatures may belong to the content of the RAID or the encrypted container.
      if (content.kind === 'member' || content.kind === 'crypto') return;
    }
  };
  await look(contentProbes);
  if (found.length === 0) await look(lastProbes);
  return found;
}

/** A line for people that names all content if it is ambiguous; undefined if it is not. */
export function rivals([first, ...others]: readonly Content[]): string | undefined {
  if (!first || others.length === 0) return undefined;
  if ([first, ...others].every(({ type }) => tolerant.has(type))) return undefined;
  const names = others.map(({ type }) => type).join(', ');
  return `it is taken for ${first.type}, and looks like ${names} as well: wipefs(8) removes what is left over`;
}

/** True if this content of a whole disk may stand beside a partition table. */
export function besideTable({ type }: Content): boolean {
  return tolerant.has(type) || type === 'hfsplus' || type === 'hfs';
}
