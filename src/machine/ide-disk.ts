/**
 * A disk on the engine's own IDE controller: requests by byte offset, each answered when it is
 * complete.
 */
import type { AtaIdentity } from '../spec/ata-identify.js';

export interface IdeDisk {
  /** Size in bytes: a multiple of 512, at most {@link maxIdeSize}. */
  readonly size: number;
  readonly readOnly: boolean;
  /** True if writes may be answered before they are durable. A flush makes them durable. */
  readonly writeCache: boolean;
  /** Read at each IDENTIFY DEVICE. */
  readonly identity: AtaIdentity;
  /** Reads `into.length` bytes at byte `offset`. */
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

/** Largest size in bytes: the controller has 31 bits for a sector number. */
export const maxIdeSize = 2 ** 31 * 512 - 512;
/** One channel has a master and a slave. */
export const maxIdeDisks = 2;
/** PCI slot of the controller on the board. */
export const ideSlot = 0x1e;
