/**
 * A file that the user of a page has picked, as a disk that can be lent, read-only or writable.
 *
 * A read-only file is recognised when it is picked again: by its size, its date, and samples of its
 * content (block/identity.ts). A page learns no path and no inode number. A writable file has no
 * such marks, because its date and content change: the server recognises it by the blocks that were
 * read and written before (block/witness.ts).
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import type { BlockDevice } from '../../block/device.js';
import { ReadAheadFilter } from '../../block/filters/readahead.js';
import { identifyDisk } from '../../probe/disk-identity.js';
import { BlobDevice } from '../../storage/blob.js';
import { FileHandleDevice, type WritableHandle } from '../../storage/file-handle.js';

/** The part of a browser's File that is used. */
export interface PickedFile extends Blob {
  /** The file's name without its folder. */
  readonly name: string;
  /** The time of its last change, in ms since 1970. */
  readonly lastModified: number;
}

/**
 * Browsers notice a change of a file by its date in whole seconds. A file whose date is older than
 * this when it is picked cannot change without a new second. In ms.
 */
const settledMs = 2000;
/**
 * Read-ahead: each read of a File costs some 1 ms and opens it anew, so few long reads are fastest
 * (measured: bench/browser-lend.mjs).
 */
const readAhead = { pieceSize: 4 << 20, maxWindow: 16 << 20, maxBytes: 64 << 20, maxAgeMs: 60_000 };

/**
 * Longest file that is lent writable, in bytes. At each flush the browser copies the whole file
 * (storage/file-handle.ts), and a guest waits for a flush for some 30 seconds before it resets its
 * disk (nvme_core.io_timeout of Linux).
 */
const mostWritable = 2 ** 30;

/**
 * The part of a browser's FileSystemFileHandle that is used. `requestPermission` is absent for
 * files of the page's own file system, which need no permission.
 */
export interface PickedHandle extends WritableHandle {
  /** Asks the user for a permission. Only in a click. */
  requestPermission?(asked: { mode: 'readwrite' }): Promise<string>;
}

/**
 * Makes a read-only disk of a picked file.
 * @throws FarbusError if it is empty, has just been changed, or cannot be read
 *
 * @example Lends the file that the user has picked
 * ```ts
 * import { lend, pickedDisk } from 'farbus/browser';
 *
 * const input = document.querySelector<HTMLInputElement>('input[type=file]')!;
 * input.onchange = async () => {
 *   const disk = await pickedDisk(input.files![0]!);
 *   lend(disk, { server: 'http://127.0.0.1:8080', name: 'boot.iso', token: 'TOKEN' });
 * };
 * ```
 */
export async function pickedDisk(file: PickedFile): Promise<BlockDevice> {
  const { name, size, lastModified } = file;
  const shown = JSON.stringify(name);
  if (size === 0) throw new FarbusError(`the file ${shown} is empty: pick another`);
  if (Math.abs(Date.now() - lastModified) < settledMs) {
    throw new FarbusError(`the file ${shown} has been changed just now: wait until that is done, and pick it again`);
  }
  const plain = new BlobDevice(file, { name });
  // Samples that cannot be read would be left out: read one byte for the error.
  await plain.read(0, new Uint8Array(1)).catch((error: unknown) => {
    throw new FarbusError(messageOf(error), { cause: error });
  });
  const { marks } = await identifyDisk(plain);
  const own = { ...marks, file: `picked-${size}-${lastModified}-${marks.samples ?? ''}` };
  const disk = new BlobDevice(file, { name, marks: own });
  return new ReadAheadFilter(disk, { ...readAhead, load: (offset, length) => disk.load(offset, length) });
}

/**
 * Makes a writable disk of a file that the user has picked with `showOpenFilePicker`; asks the user
 * for the permission to write. A flush puts all writes before it into the file. At most 1 GiB,
 * because the browser copies the whole file at each flush.
 * @throws FarbusError if the user does not permit it, the file is too short or too long, or it
 *   cannot be read
 */
export async function pickedWritable(handle: PickedHandle): Promise<BlockDevice> {
  const shown = JSON.stringify(handle.name);
  const permission = (await handle.requestPermission?.({ mode: 'readwrite' })) ?? 'granted';
  if (permission !== 'granted') {
    throw new FarbusError(`the browser may not write the file ${shown}: permit it, or lend the file read-only`);
  }
  const device = await FileHandleDevice.open(handle);
  if (device.info.size === 0) throw new FarbusError(`the file ${shown} has no whole block of 512 bytes: pick another`);
  if (device.info.size <= mostWritable) return device;
  throw new FarbusError(
    `the file ${shown} is longer than 1 GiB, and the browser copies the whole file at each flush: lend it read-only, ` +
      'or use a disk in this browser',
  );
}
