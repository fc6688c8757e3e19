/**
 * Facets of a block device that save its callers promises and copies. A device that cannot offer
 * one has none, so that a caller asks once and then goes the only way that there is. A facet does
 * not change while the device is open. Its calls have no options: they cannot name a medium, so a
 * drive with removable media has no such facet.
 *
 * A filter passes a facet on only if it keeps all its promises for requests that use the facet.
 */

/**
 * Synchronous transfers, for callers with many small requests ({@link BlockDevice.direct}). Memory
 * must not move during a call. Each call throws a BlockError as `read` and `write` reject.
 */
export interface DirectAccess {
  /**
   * Reads `into.length` bytes. Returns false if the data is not immediately available; the content
   * of `into` is then undefined: call `read`.
   */
  read(offset: number, into: Uint8Array): boolean;
  /**
   * Writes. Returns true if the write is acknowledged, false if it is not and must be done by
   * `write`.
   */
  write(offset: number, from: Uint8Array): boolean;
}

/**
 * Places of a device's bytes in an open file, for a caller that sends them unread with sendfile(2)
 * ({@link BlockDevice.files}). Only devices that are Node-only code have it. Data that is written
 * to a range before the caller sends it may be sent, as for any read and write in flight together.
 */
export interface FileRanges {
  /**
   * The place of a range that can be read now without waiting for a disk; undefined if there is
   * none.
   * @throws BlockError like `read`
   */
  resident(offset: number, length: number): FileRange | undefined;
}

/** The place of a range in a file. It counts as a request in flight until its release. */
export interface FileRange {
  /** File descriptor, open until {@link release}. */
  readonly fd: number;
  /** Offset in the file, in bytes. */
  readonly offset: number;
  /** True if `length` bytes at `offset` of the file can be read now without waiting for a disk. */
  ready(offset: number, length: number): boolean;
  /** Ends the use of the range. Call it exactly once. */
  release(): void;
}
