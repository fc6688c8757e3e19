/** Overlays in a sparse file: made where there is none yet, else opened. The file is locked while it is in use. */
import fs from 'node:fs/promises';
import { dirname } from 'node:path';
import { errnoOf } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { OverlayFilter } from '../block/filters/overlay.js';
import { createOverlay, isBlank, openOverlay, overlayStoreSize } from '../block/filters/overlay-store.js';
import { openFile } from './file.node.js';
import { openError, printable } from './opening.node.js';

export interface OverlayFileOptions {
  /** Bytes that are copied at once: a power of two from 4096 (the default) to 1 MiB. Of a new file only. */
  readonly clusterSize?: number | undefined;
  /** Whether to use koffi where it is installed; default true. */
  readonly native?: boolean | undefined;
}

/**
 * Opens the overlay of `base` in the file at `path`; makes it where the file does not exist or is empty. The overlay
 * takes the base over: closing it closes the base. Where this throws, the base is still the caller's to close.
 * @throws FarbusError where it cannot be made or opened, is in use, or is the overlay of another disk.
 */
export async function openOverlayFile(
  base: BlockDevice,
  path: string,
  options: OverlayFileOptions = {},
): Promise<OverlayFilter> {
  const size = overlayStoreSize(base, options);
  const made = await makeFile(path, size).catch((error: unknown) => {
    throw openError(path, error);
  });
  try {
    // The store's blocks must not be larger than the base's, or the overlay's would be.
    const blockSize = Math.min(base.info.blockSize, 4096);
    const { native } = options;
    const store = await openFile(path, { readOnly: false, exclusive: true, blockSize, native });
    try {
      const name = printable(path);
      const fresh = store.info.size === size && (await isBlank(store));
      if (!fresh) return await openOverlay(base, store, { name });
      const overlay = await createOverlay(base, store, { ...options, name });
      await syncFolder(path);
      return overlay;
    } catch (error) {
      // Only what we made and have locked is ours to remove.
      if (made) await fs.rm(path, { force: true });
      await store.close();
      throw error;
    }
  } catch (error) {
    throw openError(path, error);
  }
}

/** Sees to it that there is a file that is not empty. Returns whether it was made. */
async function makeFile(path: string, size: number): Promise<boolean> {
  let made = true;
  const handle = await fs.open(path, 'wx+').catch((error: unknown) => {
    if (errnoOf(error) !== 'EEXIST') throw error;
    made = false;
    return fs.open(path, 'r+');
  });
  try {
    const stat = await handle.stat();
    if (stat.isFile() && stat.size === 0) await handle.truncate(size);
  } finally {
    await handle.close();
  }
  return made;
}

/** Makes the file's name durable: without it a crash could lose a file whose content was flushed. */
async function syncFolder(path: string): Promise<void> {
  let handle: fs.FileHandle | undefined;
  try {
    handle = await fs.open(dirname(path));
    await handle.sync();
  } catch {
    // Not every system can sync a folder; where it cannot, it does not need to.
  } finally {
    await handle?.close();
  }
}
