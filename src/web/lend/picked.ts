/**
 * A file that the user of a page has picked, as a read-only disk that can be lent.
 *
 * The file is recognised when it is picked again: by its size, its date, and samples of its content
 * (block/identity.ts). A page learns no path and no inode number.
 */
import { FarbusError, messageOf } from '../../base/errors.js';
import type { BlockDevice } from '../../block/device.js';
import { ReadAheadFilter } from '../../block/filters/readahead.js';
import { identifyDisk } from '../../probe/disk-identity.js';
import { BlobDevice } from '../../storage/blob.js';

/** The part of a browser's File that is used. */
export type PickedFile = Blob & { readonly name: string; readonly lastModified: number };

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
 * Makes a disk of a picked file. Rejects with a FarbusError if it is empty, has just been changed,
 * or cannot be read.
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
