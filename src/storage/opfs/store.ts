/**
 * A sparse store in the browser's OPFS, for a disk, an overlay or a cache.
 *
 * The store is a folder of files, one for each 16 MiB, and a range without a file reads as zeroes.
 * A browser counts the whole length of a file against the quota of the page, so one file as large
 * as the disk would use up the quota by a write near its end.
 *
 * Durable when flushed, as far as the browser passes flushes on: a closed or crashed tab loses
 * nothing that was written; a power failure loses what was not flushed.
 */
import { contiguous, type Buffers } from '../../base/buffers.js';
import { BlockBase } from '../../block/base.js';
import type { BlockInfo, Extent } from '../../block/device.js';
import { BlockError } from '../../block/errors.js';
import { blockInfo, type DeviceFacts } from '../../block/info.js';
import {
  isNotFound,
  lockFolder,
  storageSpace,
  type IterableFolder,
  type LockedFolder,
  type StoreKind,
  type SyncFile,
} from './files.js';

/** Length of a file of the store, in bytes. */
export const partSize = 16 << 20;
/** Most files that are open at a time. A browser limits them. */
const maxOpen = 128;
const pieceSize = 1 << 20;
/**
 * A cache takes no more room if less than this would be left for overlays: a share of all room of
 * the page, and bytes.
 */
const spared = { share: 1 / 4, most: 512 << 20 };

/** A file of the store. */
interface Part {
  /**
   * True if its file exists. Then it is opened and never made again: a file that was removed from
   * outside would read as zeroes.
   */
  made: boolean;
  /** Undefined while it is closed. */
  file: SyncFile | undefined;
  opening: Promise<void> | undefined;
  /** Written since the last flush. */
  dirty: boolean;
}

interface SyncFileHandle extends FileSystemFileHandle {
  createSyncAccessHandle(): Promise<SyncFile>;
}

/** A sparse store in the OPFS. Only in a worker. */
export class OpfsStore extends BlockBase {
  readonly info: BlockInfo;
  readonly #kind: StoreKind;
  readonly #locked: LockedFolder;
  readonly #parts: Map<number, Part>;

  private constructor(kind: StoreKind, locked: LockedFolder, parts: Map<number, Part>, facts: DeviceFacts) {
    super();
    this.#kind = kind;
    this.#locked = locked;
    this.#parts = parts;
    this.info = blockInfo({ ...facts, can: { flush: true, writeZeroes: true, extents: true } });
  }

  /**
   * Opens a store for this tab alone. A new one reads as zeroes.
   * @param size its length in bytes
   * @param own further facts of the device, such as its identity
   * @throws FarbusError if this browser has no OPFS, or another tab uses the store
   */
  static async open(
    kind: StoreKind,
    name: string,
    size: number,
    blockSize = 512,
    own: Pick<DeviceFacts, 'identity' | 'marks'> = {},
  ): Promise<OpfsStore> {
    return OpfsStore.inFolder(await lockFolder(kind, name), kind, size, blockSize, own);
  }

  /**
   * Opens the store in a folder, and takes the folder over. The folder is unlocked if this throws.
   * @internal
   */
  static async inFolder(
    locked: LockedFolder,
    kind: StoreKind,
    size: number,
    blockSize: number,
    own: Pick<DeviceFacts, 'identity' | 'marks'>,
  ): Promise<OpfsStore> {
    const parts = new Map<number, Part>();
    try {
      for await (const entry of (locked.folder as IterableFolder).keys()) {
        if (/^\d+$/.test(entry)) parts.set(Number(entry), closedPart(true));
      }
    } catch (error) {
      locked.unlock();
      throw blockError(error);
    }
    return new OpfsStore(kind, locked, parts, { size, blockSize, ...own });
  }

  /** True if nothing was ever written to it. */
  get isNew(): boolean {
    for (const { made } of this.#parts.values()) if (made) return false;
    return true;
  }

  /** Deletes its content. */
  async clear(): Promise<void> {
    for (const [number, part] of this.#parts) {
      part.file?.close();
      if (part.made) await this.#locked.folder.removeEntry(String(number));
    }
    this.#parts.clear();
  }

  protected async doRead(offset: number, into: Buffers): Promise<void> {
    for (const { number, at, from, length } of pieces(offset, into.length)) {
      const part = this.#made(number);
      if (!part) {
        into.zero(from, length);
        continue;
      }
      const bytes = new Uint8Array(length);
      // A short read is the end of the file, behind which nothing was written.
      await this.#use(number, part, (file) => file.read(bytes, { at }));
      into.copyFrom(bytes, from);
    }
  }

  protected async doWrite(offset: number, from: Buffers): Promise<void> {
    for (const { number, at, from: start, length } of pieces(offset, from.length)) {
      let part = this.#parts.get(number);
      if (!part?.made && this.#kind === 'cache') await checkRoom();
      part ??= this.#parts.get(number);
      if (!part) this.#parts.set(number, (part = closedPart(false)));
      await this.#write(number, part, at, contiguous(from.slice(start, start + length)));
    }
  }

  protected override async doWriteZeroes(offset: number, length: number): Promise<void> {
    for (const { number, at, length: count } of pieces(offset, length)) {
      const part = this.#made(number);
      if (!part) continue;
      // Behind the end of the file there are zeroes already.
      const there = await this.#use(number, part, (file) => Math.min(count, file.getSize() - at));
      if (there > 0) await this.#write(number, part, at, new Uint8Array(there));
    }
  }

  protected async doFlush(): Promise<void> {
    for (const [number, part] of [...this.#parts]) {
      if (!part.dirty) continue;
      part.dirty = false;
      try {
        await this.#use(number, part, (file) => file.flush());
      } catch (error) {
        part.dirty = true;
        throw error;
      }
    }
  }

  protected override doExtents(offset: number, length: number): Promise<readonly Extent[]> {
    const number = Math.floor(offset / partSize);
    const zero = !this.#made(number);
    let end = number + 1;
    while (end * partSize < offset + length && !this.#made(end) === zero) end++;
    return Promise.resolve([{ offset, length: Math.min(length, end * partSize - offset), hole: zero, zero }]);
  }

  protected async doClose(): Promise<void> {
    try {
      await this.doFlush();
    } finally {
      for (const { file } of this.#parts.values()) file?.close();
      this.#locked.unlock();
    }
  }

  /** A part that has a file. */
  #made(number: number): Part | undefined {
    const part = this.#parts.get(number);
    return part?.made ? part : undefined;
  }

  #write(number: number, part: Part, at: number, bytes: Uint8Array): Promise<void> {
    return this.#use(number, part, (file) => {
      part.dirty = true;
      if (file.write(bytes, { at }) < bytes.length) throw noSpace();
    });
  }

  /** Uses a file at once when it is open: it can be closed again before a later round. */
  async #use<T>(number: number, part: Part, use: (file: SyncFile) => T): Promise<T> {
    try {
      while (!part.file) await (part.opening ??= this.#open(number, part));
      return use(part.file);
    } catch (error) {
      throw blockError(error);
    }
  }

  async #open(number: number, part: Part): Promise<void> {
    try {
      this.#closeOne();
      const file = await this.#locked.folder.getFileHandle(String(number), { create: !part.made });
      part.made = true;
      part.file = await (file as SyncFileHandle).createSyncAccessHandle();
      // The file that was opened last is at the end of the map.
      this.#parts.delete(number);
      this.#parts.set(number, part);
    } finally {
      part.opening = undefined;
    }
  }

  /** Closes the file that was opened first, if too many are open. */
  #closeOne(): void {
    const open = [...this.#parts.values()].filter(({ file }) => file);
    if (open.length < maxOpen) return;
    const oldest = open[0]!;
    if (oldest.dirty) oldest.file!.flush();
    oldest.dirty = false;
    oldest.file!.close();
    oldest.file = undefined;
  }
}

/** Refuses a further file of a cache if overlays might then have too little room. */
async function checkRoom(): Promise<void> {
  const { used, free } = await storageSpace();
  if (free - partSize < Math.min(spared.most, (used + free) * spared.share)) throw noSpace();
}

function closedPart(made: boolean): Part {
  return { made, file: undefined, opening: undefined, dirty: false };
}

/** A range of the store, split at the ends of its files. */
function* pieces(offset: number, length: number) {
  for (let from = 0; from < length;) {
    const start = offset + from;
    const at = start % partSize;
    const count = Math.min(length - from, partSize - at, pieceSize);
    yield { number: Math.floor(start / partSize), at, from, length: count };
    from += count;
  }
}

const removed =
  "a file of this disk, overlay or cache is gone from the browser's storage, with the data in it: " +
  'the data of this page were deleted, by hand or by the browser';

function noSpace(cause?: unknown): BlockError {
  const what =
    'this browser gives the page no more room: delete overlays or caches or disks of it, or make room on this computer';
  return new BlockError('no-space', what, { cause });
}

function blockError(error: unknown): BlockError {
  if (error instanceof BlockError) return error;
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'QuotaExceededError') return noSpace(error);
  if (isNotFound(error)) return new BlockError('io', removed, { cause: error });
  const what = error instanceof Error ? error.message : String(error);
  return new BlockError('io', `this browser's private file system failed: ${what}`, { cause: error });
}
