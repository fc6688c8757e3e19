/** What a probe finds on a device or on a part of it, and the form of a probe. */
import type { ProbeReader } from './reader.js';

/**
 * What kind of content it is:
 * - `filesystem`: can be mounted; `swap`: swap space;
 * - `member`: a part of something larger (RAID, LVM, ZFS); `crypto`: an encrypted container;
 * - `image`: a disk image format, so that the disk in it is not what is read here.
 */
export type ContentKind = 'filesystem' | 'swap' | 'member' | 'crypto' | 'image';

/** Content that was recognised by its signature. */
export interface Content {
  readonly kind: ContentKind;
  /** As blkid(8) names it where it knows it: "ext4", "vfat", "crypto_LUKS", "LVM2_member". */
  readonly type: string;
  readonly label?: string;
  readonly uuid?: string;
}

/** Content as a probe finds it. */
export interface Finding extends Content {
  /** Where it was found, in bytes, if that is a place where one of the disk's partitions can be just as well. */
  readonly at?: number;
}

/** Looks for one kind of content; undefined where it is not there. Takes nothing that it reads for granted. */
export type ContentProbe = (reader: ProbeReader) => Promise<Finding | undefined>;

/** What is told of a finding. */
export function contentOf({ kind, type, label, uuid }: Finding): Content {
  return content(kind, type, label, uuid);
}

/** A Content without the parts that are not known. */
export function content(kind: ContentKind, type: string, label?: string, uuid?: string): Content {
  return { kind, type, ...(label && { label }), ...(uuid && { uuid }) };
}
