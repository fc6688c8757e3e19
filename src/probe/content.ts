/** The result of a probe, and the type of a probe function. */
import type { ProbeReader } from './reader.js';

/**
 * The kind of content:
 * - `filesystem`: can be mounted; `swap`: swap space;
 * - `member`: a part of a larger volume (RAID, LVM, ZFS); `crypto`: an encrypted container;
 * - `image`: a disk image format, whose inner disk is not accessible here.
 */
export type ContentKind = 'filesystem' | 'swap' | 'member' | 'crypto' | 'image';

/** Recognised content. */
export interface Content {
  /** `filesystem`, `volume`, `swap` and the like. */
  readonly kind: ContentKind;
  /** Its name, that of blkid(8) if it has one: "ext4", "vfat", "crypto_LUKS", "LVM2_member". */
  readonly type: string;
  /** Its label, if it has one. */
  readonly label?: string;
  /** Its UUID or serial number, if it has one. */
  readonly uuid?: string;
}

/** Content as a probe finds it. */
export interface Finding extends Content {
  /**
   * Offset at which it was found, in bytes; set only if that place can also lie within a partition.
   */
  readonly at?: number;
}

/**
 * Searches for one kind of content; undefined if it is absent. Must not trust any byte that it
 * reads.
 */
export type ContentProbe = (reader: ProbeReader) => Promise<Finding | undefined>;

/** The content of a finding, without its place. */
export function contentOf({ kind, type, label, uuid }: Finding): Content {
  return content(kind, type, label, uuid);
}

/** Makes a Content; an unknown or empty label or UUID is left out. */
export function content(kind: ContentKind, type: string, label?: string, uuid?: string): Content {
  return { kind, type, ...(label && { label }), ...(uuid && { uuid }) };
}
