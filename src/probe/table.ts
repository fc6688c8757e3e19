/** The contents of a partition table, MBR or GPT. */
import type { Content } from './content.js';

/** One partition. */
export interface Partition {
  /**
   * Number as in Linux: primary and GPT partitions from 1 by their place in the table, logical ones
   * from 5.
   */
  readonly number: number;
  /** Offset from the start of the disk, in bytes. */
  readonly start: number;
  /** Length in bytes according to the table; it may exceed the disk. */
  readonly size: number;
  /** "0x83", or a GUID in upper case. */
  readonly typeId: string;
  /** The type by name, or "unknown". */
  readonly type: string;
  /** GPT: the name of the partition. */
  readonly name?: string;
  /**
   * GPT: the partition's GUID in lower case. MBR: disk identifier and partition number, like
   * blkid's PARTUUID.
   */
  readonly uuid?: string;
  /** MBR: marked active; GPT: attribute "legacy BIOS bootable". */
  readonly bootable: boolean;
  /** MBR: an extended partition, which only contains other partitions. */
  readonly extended: boolean;
  /** Its content, if recognised. */
  readonly content?: Content;
}

/** A partition table. */
export interface PartitionTable {
  /** The format of the table. */
  readonly kind: 'mbr' | 'gpt';
  /** The disk's identifier: eight hexadecimal digits, or a GUID in lower case. */
  readonly id: string;
  /** Length of the table's sectors, in bytes. */
  readonly sectorSize: number;
  /** The partitions in the order of their numbers. */
  readonly partitions: readonly Partition[];
}

/** A table and its problems, one line each. */
export interface FoundTable {
  readonly table: PartitionTable;
  readonly problems: readonly string[];
}
