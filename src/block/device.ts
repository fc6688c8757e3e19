/**
 * BlockDevice: the one interface of everything that stores blocks, local or remote ([SYS] device
 * 914 and every way to reach it). A file, a disk, a protocol's initiator, an overlay and a fault
 * injector are each a BlockDevice. So each can serve a logical device or a target, or be the next
 * device of a filter.
 *
 * Many requests may be in flight and may finish in any order. Two requests that overlap have no
 * order unless the caller awaits the first. Offsets and lengths are in bytes and multiples of
 * {@link BlockInfo.blockSize}.
 *
 * Every implementation promises:
 * 1. `flush` and FUA are answered only when every write acknowledged before is durable, unless
 *    `can.flush` is false.
 * 2. A request that failed or was aborted has no effect after its promise has settled (no ghost
 *    write).
 * 3. Success means that all bytes were transferred and that a read returned current data.
 */
import type { Bytes } from '../base/buffers.js';
import type { DirectAccess, FileRanges } from './direct.js';
import type { DiskMarks } from './identity.js';
import type { Losses } from './losses.js';
import type { WriterLock } from './writer-lock.js';

/**
 * The operations that a device supports by itself. Callers read them once. The base class emulates
 * or refuses the others, as {@link BlockDevice} says.
 */
export interface Capabilities {
  /**
   * `flush` makes acknowledged writes durable. False: durability cannot be promised and must not be
   * advertised.
   */
  readonly flush: boolean;
  /** Writes with `fua` are durable when answered. False: the base class flushes after the write. */
  readonly fua: boolean;
  /** `trim` reaches the medium. False: it is a no-op. */
  readonly trim: boolean;
  /** `writeZeroes` transfers no zeroes. False: the base class writes zeroes. */
  readonly writeZeroes: boolean;
  /** `extents` reports holes. False: the whole device is reported as data. */
  readonly extents: boolean;
  /**
   * Several connections see each other's writes, and a flush on one covers the writes of all
   * (NBD_FLAG_CAN_MULTI_CONN).
   */
  readonly multiConnection: boolean;
}

/**
 * Facts about a device. While the device is open only the size, the route and `away` change; a
 * change of a removable medium changes them all.
 */
export interface BlockInfo {
  /** Length in bytes; a multiple of `blockSize`. */
  readonly size: number;
  /**
   * Bytes of the device after `size`, unreachable because they do not fill a block. Absent: none.
   */
  readonly tail?: number | undefined;
  /**
   * Smallest addressable unit in bytes: a power of two, 1 to 65536; 512 for disks that do not
   * report it.
   */
  readonly blockSize: number;
  /** Best unit of a request in bytes: a power of two, at least `blockSize`; 4096 if unknown. */
  readonly preferredSize: number;
  /** Longest transfer of one request, in bytes. The base class splits longer requests. */
  readonly maxTransfer: number;
  /** True if writes are refused. */
  readonly readOnly: boolean;
  /** True if the medium can be exchanged. */
  readonly removable: boolean;
  /** True if the medium rotates, so that near blocks are faster to reach. */
  readonly rotational: boolean;
  /**
   * A name of the disk, for example "nbd:disk1"; '' if it has none. Another disk may get the same
   * name later.
   */
  readonly identity: string;
  /**
   * The gateway in use, if the disk is reached by one of several (for example
   * "nbd://b:10809/disk"). Changes when another one is used.
   */
  readonly route?: string | undefined;
  /**
   * When the server of the disk was lost, in ms since 1970. Requests wait for it, or fail. Absent
   * while it is there.
   */
  readonly away?: number | undefined;
  /**
   * The marks that identify the disk after a restart or a replacement (identity.ts); absent if
   * there are none.
   */
  readonly marks?: DiskMarks;
  /** The operations that the device supports by itself. */
  readonly can: Capabilities;
}

/** Options of every request. */
export interface RequestOptions {
  /**
   * Aborts the request. It then settles with kind `aborted` as soon as a later effect is
   * impossible, or with its own result if that comes first.
   */
  readonly signal?: AbortSignal;
  /** The command's id in `--trace` (base/steps.ts). */
  readonly traceId?: number;
  /**
   * For a drive with removable media: the {@link RemovableMedia.medium} that the request is meant
   * for; default: the first one. If another medium or none is in the drive, the request has no
   * effect and is rejected with kind `no-medium`.
   */
  readonly medium?: string;
}

/** Options of requests that change the content. */
export interface WriteOptions extends RequestOptions {
  /** Force unit access: durable when answered. */
  readonly fua?: boolean;
}

/** Options of {@link BlockDevice.writeZeroes}. */
export interface ZeroOptions extends WriteOptions {
  /** If true, the blocks stay allocated. Otherwise the device may make a hole. */
  readonly noHole?: boolean;
  /**
   * If true, fail with `unsupported` unless zeroing is faster than writing zeroes
   * (NBD_CMD_FLAG_FAST_ZERO).
   */
  readonly fastOnly?: boolean;
}

/** A range of bytes with one allocation status. Offset and length in bytes. */
export interface Extent {
  /** First byte of the range, from the start of the device. */
  readonly offset: number;
  /** Length of the range in bytes. */
  readonly length: number;
  /** No storage is allocated for the range. */
  readonly hole: boolean;
  /** The range reads as zeroes. */
  readonly zero: boolean;
}

/**
 * Facet of drives with removable media. While the drive is empty, {@link BlockInfo.size} is 0 and
 * requests are rejected with kind `no-medium`. Otherwise `info` describes the medium in the drive.
 */
export interface RemovableMedia {
  /**
   * Identifies the insertion of the present medium, as far as the drive knows. Each insertion gets
   * a new name, even of the same disc. At most 64 characters of [A-Za-z0-9.-]; '' while the drive
   * is empty.
   */
  readonly medium: string;
  /**
   * `medium` when the device was opened. Requests without {@link RequestOptions.medium} are meant
   * for it.
   */
  readonly first: string;
  /**
   * Calls `listener` after every change of `medium`, when `info` has changed too. It must not
   * throw.
   * @returns a function that ends the watch
   */
  watch(listener: () => void): () => void;
  /**
   * Ejects the medium `options.medium`, without a flush. Rejects with `read-only` if another user
   * has locked it, with `unsupported` if the drive cannot eject.
   */
  eject(options?: RequestOptions): Promise<void>;
  /**
   * Locks the medium against ejection by hand or by other users, or unlocks it. Rejects if the
   * drive cannot.
   */
  lock(locked: boolean, options?: RequestOptions): Promise<void>;
}

/** A block device. Every method rejects with a BlockError and with no other error. */
export interface BlockDevice {
  /** Its facts. */
  readonly info: BlockInfo;
  /**
   * Set if the device is a drive with removable media; does not change while the device is open.
   * Only filters that keep no data of a medium pass it on.
   */
  readonly media?: RemovableMedia | undefined;
  /** The storage engine's lock for its one writer, if there is one. */
  readonly writerLock?: WriterLock | undefined;
  /**
   * Calls `listener` when the size has changed without a request. Absent if the device does not
   * notice. `listener` must not throw.
   * @returns a function that ends the watch
   */
  readonly watchSize?: ((listener: () => void) => () => void) | undefined;
  /**
   * Finds a mark of the present content: printable ASCII without spaces, at most 100 characters. If
   * two marks are equal, no byte has changed between the two calls, not even by another program or
   * in a restart. Undefined if that cannot be promised now, for example because the content has
   * just changed. Absent if the device can never promise it.
   */
  readonly contentVersion?: (() => Promise<string | undefined>) | undefined;
  /** Synchronous reads and writes, if the device has them. */
  readonly direct?: DirectAccess | undefined;
  /** Its bytes in an open file, if they can be sent from there. */
  readonly files?: FileRanges | undefined;
  /** Reads `into.length` bytes at `offset`. */
  read(offset: number, into: Bytes, options?: RequestOptions): Promise<void>;
  /**
   * Writes `from.length` bytes at `offset`. The memory must not change until the promise settles.
   */
  write(offset: number, from: Bytes, options?: WriteOptions): Promise<void>;
  /** Losses of acknowledged writes. Every user of a shared device watches them (losses.ts). */
  readonly losses: Losses;
  /**
   * Makes every write durable that was acknowledged before this call. A no-op if `can.flush` is
   * false.
   */
  flush(options?: RequestOptions): Promise<void>;
  /**
   * Tells the device that a range's content is no longer needed. What it reads as afterwards is
   * undefined.
   */
  trim(offset: number, length: number, options?: WriteOptions): Promise<void>;
  /** Makes a range read as zeroes. */
  writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void>;
  /**
   * Reports the allocation of a range: extents in order that cover [offset, offset + n), 0 < n ≤
   * length.
   */
  extents(offset: number, length: number, options?: RequestOptions): Promise<readonly Extent[]>;
  /**
   * Waits until every request that began before this call has settled. File ranges that are still
   * held do not count. Absent if the device does not count its requests.
   */
  settled?(): Promise<void>;
  /**
   * Checks whether the medium has grown, and updates `info` if so. Absent if the length cannot
   * change or cannot be determined. If the medium has shrunk, `info` keeps the old length, and
   * requests beyond the end fail.
   */
  refresh?(): Promise<void>;
  /** Waits for requests in flight, then releases everything. Idempotent. */
  close(): Promise<void>;
}
