/**
 * BlockDevice: the one interface at which everything that stores blocks meets, near or far ([SYS] device 914 and every
 * way to it). A file, a disk, a protocol's initiator, an overlay, a fault injector are each one, so each can stand
 * behind a logical device, behind a target, or behind another.
 *
 * Requests may be under way at once and may finish in any order; two that overlap have no order unless the caller waits
 * for the first. Offsets and lengths are bytes, multiples of {@link BlockInfo.blockSize}.
 *
 * What an implementation owes its callers (design: what a remote disk must never do):
 * 1. `flush` and FUA are answered only when every write acknowledged before is durable, or `can.flush` is false.
 * 2. A request that failed or was given up takes no effect after its promise has settled (no ghost write).
 * 3. Success means all bytes, current ones.
 */
import type { Bytes } from '../base/buffers.js';
import type { DiskMarks } from './identity.js';
import type { Losses } from './losses.js';

/** What a device can do by itself. Asked once; what is false is emulated or refused as {@link BlockDevice} says. */
export interface Capabilities {
  /** `flush` makes acknowledged writes durable. False: durability cannot be promised, and none is to be advertised. */
  readonly flush: boolean;
  /** Writes with `fua` are durable when answered; false: done by a flush after the write. */
  readonly fua: boolean;
  /** `trim` tells the medium; false: it is a no-op. */
  readonly trim: boolean;
  /** `writeZeroes` needs no transfer of zeroes; false: zeroes are written. */
  readonly writeZeroes: boolean;
  /** `extents` knows about holes; false: all is reported as data. */
  readonly extents: boolean;
  /** Several connections see each other's writes, and a flush on one covers all (NBD_FLAG_CAN_MULTI_CONN). */
  readonly multiConnection: boolean;
}

/** Facts of a device, fixed while it is open but for the size; those of a removable medium change with it. */
export interface BlockInfo {
  /** Length in bytes; a multiple of `blockSize`. */
  readonly size: number;
  /** Bytes that the device has behind `size` and that cannot be reached, as they do not fill a block. Absent: none. */
  readonly tail?: number | undefined;
  /** Smallest addressable unit in bytes: a power of two, 1 to 65536; 512 for disks that do not say. */
  readonly blockSize: number;
  /** Best unit of a request in bytes: a power of two of at least `blockSize`; 4096 where it is not known. */
  readonly preferredSize: number;
  /** Longest transfer that one request may carry, in bytes. Longer ones are split by the base class. */
  readonly maxTransfer: number;
  readonly readOnly: boolean;
  readonly removable: boolean;
  readonly rotational: boolean;
  /** A name for the bytes, for example "nbd:disk1"; '' if there is none. Another disk may take the name later. */
  readonly identity: string;
  /** By what the disk is recognised after a restart or a replacement (identity.ts); absent if nothing tells. */
  readonly marks?: DiskMarks;
  readonly can: Capabilities;
}

/** What goes with any request. */
export interface RequestOptions {
  /**
   * Gives the request up. It then settles with kind `aborted` as soon as it is sure to have no later effect, or with its
   * own result if that comes first.
   */
  readonly signal?: AbortSignal;
  /** The command's tag for `--trace` (base/steps.ts). */
  readonly tag?: number;
  /**
   * Of a drive with a removable medium: the {@link RemovableMedia.medium} that is meant, by default the first. With another
   * one in the drive, or none, the request has no effect and is rejected with kind `no-medium`.
   */
  readonly medium?: string;
}

export interface WriteOptions extends RequestOptions {
  /** Force unit access: durable when answered. */
  readonly fua?: boolean;
}

export interface ZeroOptions extends WriteOptions {
  /** The blocks must stay allocated. Otherwise the device may make a hole. */
  readonly noHole?: boolean;
  /** Fail with `unsupported` rather than be as slow as a write (NBD_CMD_FLAG_FAST_ZERO). */
  readonly fastOnly?: boolean;
}

/** A run of bytes of one kind. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
  /** Nothing is allocated here. */
  readonly hole: boolean;
  /** Reads as zeroes. */
  readonly zero: boolean;
}

/**
 * An offer of drives whose medium can be taken out and put in. While there is none, {@link BlockInfo.size} is 0 and requests
 * are rejected with kind `no-medium`; with each medium, `info` is that medium's.
 */
export interface RemovableMedia {
  /**
   * Names the stay in the drive of the medium that is there, as far as is known: each that is put in has another name, the
   * same disc again too. At most 64 characters of [A-Za-z0-9.-]; '' while there is none.
   */
  readonly medium: string;
  /** The one that was there when the device was opened: what is meant by requests that do not say. */
  readonly first: string;
  /**
   * Calls back after every change of `medium`, when `info` has changed as well. It must not throw.
   * @returns what ends the watch.
   */
  watch(listener: () => void): () => void;
  /**
   * Ejects the medium of `options.medium`; nothing is flushed. Rejects with `read-only` where somebody else holds it, with
   * `unsupported` where the drive cannot.
   */
  eject(options?: RequestOptions): Promise<void>;
  /** Keeps the medium from being ejected by hand or by others, or lets it go. Rejects where the drive cannot. */
  lock(locked: boolean, options?: RequestOptions): Promise<void>;
}

/** Where bytes of a device are in an open file, for who sends them on without looking at them (sendfile(2)). */
export interface FileRange {
  /** Open until {@link release}. */
  readonly fd: number;
  /** In the file, in bytes. */
  readonly offset: number;
  /** Whether `length` bytes at `offset` of the file can be had now without waiting for a disk. */
  ready(offset: number, length: number): boolean;
  /** Nobody needs it any more. Once. */
  release(): void;
}

/** A block device. Every method rejects with a BlockError and with nothing else. */
export interface BlockDevice {
  readonly info: BlockInfo;
  /** Set for as long as the device is open, or not at all. Filters pass it on that keep nothing of a medium. */
  readonly media?: RemovableMedia | undefined;
  /** Reads `into.length` bytes at `offset`. */
  read(offset: number, into: Bytes, options?: RequestOptions): Promise<void>;
  /** Writes `from.length` bytes at `offset`. The memory must not change until it settles. */
  write(offset: number, from: Bytes, options?: WriteOptions): Promise<void>;
  /**
   * Reads at once what needs no waiting, into memory that stays where it is. An offer, for who has many small requests:
   * a device need not have it, and filters that would be passed over do not.
   * @returns false where it would have to wait: {@link read} then; what is in `into` is undefined.
   * @throws BlockError as `read` rejects
   */
  readNow?(offset: number, into: Uint8Array): boolean;
  /** The same for a write: true when it is acknowledged. */
  writeNow?(offset: number, from: Uint8Array): boolean;
  /**
   * Where a range is that could be read at once. What is written there before it is sent may be sent, as with any read and
   * write that are under way together. An offer, as {@link readNow}; undefined where it is to be read.
   * @throws BlockError as `read` rejects
   */
  fileNow?(offset: number, length: number): FileRange | undefined;
  /**
   * The same of a range that is still on a disk, when it is where it can be had at once. An offer; undefined where it is to
   * be read.
   */
  fileSoon?(offset: number, length: number): Promise<FileRange | undefined>;
  /** What was lost of acknowledged writes; every user of a shared device watches it (losses.ts). */
  readonly losses: Losses;
  /** Makes every write that was acknowledged before this call durable. A no-op where `can.flush` is false. */
  flush(options?: RequestOptions): Promise<void>;
  /** Says that the content of a range is no longer needed; what it reads as afterwards is not defined. */
  trim(offset: number, length: number, options?: WriteOptions): Promise<void>;
  /** Makes a range read as zeroes. */
  writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void>;
  /** What is allocated in a range: extents in order that cover [offset, offset + n) for some 0 < n ≤ length. */
  extents(offset: number, length: number, options?: RequestOptions): Promise<readonly Extent[]>;
  /**
   * Waits until every request that was begun before this call, but for those of `fileNow` and `fileSoon`, is over.
   * An optional capability: absent where a device does not count its requests.
   */
  settled?(): Promise<void>;
  /**
   * Looks whether the medium has become longer, and has its new length in `info` then. An offer: a device whose length
   * cannot change, or that cannot tell, does not have it. One that has become shorter keeps its length, and gives errors.
   */
  refresh?(): Promise<void>;
  /** Waits for what is under way, then releases everything. Idempotent. */
  close(): Promise<void>;
}
