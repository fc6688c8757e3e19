/** A disk as the engine's own IDE controller sees it: bytes by their place, answered when they are there or durable. */
export interface IdeDisk {
  /** Bytes; a multiple of 512, at most {@link maxIdeSize}. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Writes may be answered before they are durable; a flush makes them so. */
  readonly writeCache: boolean;
  /** Asked for at each IDENTIFY DEVICE. */
  readonly identity: IdeIdentity;
  /** Reads into all of `into`, from byte `offset`. */
  read(offset: number, into: Uint8Array): Promise<void>;
  write(offset: number, from: Uint8Array): Promise<void>;
  flush(): Promise<void>;
}

/** Who a disk says it is: ASCII of at most 20, 40 and 8 characters, and 8 bytes of world wide name. */
export interface IdeIdentity {
  readonly serial: string;
  readonly model: string;
  readonly firmware: string;
  readonly worldWideName: Uint8Array;
}

/** The controller counts sectors with 31 bits. */
export const maxIdeSize = 2 ** 31 * 512 - 512;
/** Master and slave of one channel. */
export const maxIdeDisks = 2;
/** Where it is on the board. */
export const ideSlot = 0x1e;
