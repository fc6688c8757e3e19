/** What a partition table says. */
import type { Content } from './content.js';

/** One partition. */
export interface Partition {
  /** As Linux counts them: primary and GPT ones from 1 by their place in the table, logical ones from 5. */
  readonly number: number;
  /** Bytes from the start of the disk. */
  readonly start: number;
  /** Bytes, as the table says; it may reach beyond the disk. */
  readonly size: number;
  /** "0x83", or a GUID in upper case. */
  readonly typeId: string;
  /** The type by name, or "unknown". */
  readonly type: string;
  /** GPT: its name. */
  readonly name?: string;
  /** GPT: its own GUID, lower case; MBR: the disk's identifier and its number, as blkid has it for PARTUUID. */
  readonly uuid?: string;
  /** MBR: marked active; GPT: attribute "legacy BIOS bootable". */
  readonly bootable: boolean;
  /** It only holds other partitions. */
  readonly extended: boolean;
  /** What is in it, where that is known. */
  readonly content?: Content;
}

export interface PartitionTable {
  readonly kind: 'mbr' | 'gpt';
  /** The disk's identifier: eight hexadecimal digits, or a GUID in lower case. */
  readonly id: string;
  /** Bytes of a sector as the table counts. */
  readonly sectorSize: number;
  readonly partitions: readonly Partition[];
}

/** A table, and what is wrong with it, a line each. */
export interface FoundTable {
  readonly table: PartitionTable;
  readonly problems: readonly string[];
}
