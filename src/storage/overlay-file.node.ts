/**
 * Opens an overlay in a sparse file, which is made if it does not exist. The file is locked while
 * it is in use.
 */
import { stat, truncate } from 'node:fs/promises';
import { usageError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import { defineFilter, parseFile } from '../block/filters/definition.js';
import { headerSize, overlayMagic } from '../block/filters/overlay-format.js';
import type { OverlayFilter } from '../block/filters/overlay.js';
import {
  createOverlay,
  emptyOverlay,
  isUnfinished,
  openOverlay,
  overlayStoreSize,
  type OverlayOptions,
} from '../block/filters/overlay-store.js';
import { openFile } from './file.node.js';
import { MemoryDevice } from './memory.js';
import { openError, printable } from './opening.node.js';
import { isOwnFile, openOwnFile } from './own-file.node.js';

/** Options of {@link openOverlayFile}. */
export interface OverlayFileOptions extends Omit<OverlayOptions, 'name'> {
  /** If false, koffi is not used even if it is installed. Default true. */
  readonly native?: boolean | undefined;
}

/**
 * Opens the overlay of `base` in the file at `path`, or makes it if the file does not exist or is
 * empty. The overlay takes over the base: closing it closes the base. If this throws, the caller
 * must close the base.
 * @throws FarbusError if the file cannot be made or opened, is in use, is not an overlay, or is the
 * overlay of another disk
 */
export async function openOverlayFile(
  base: BlockDevice,
  path: string,
  options: OverlayFileOptions = {},
): Promise<OverlayFilter> {
  const size = overlayStoreSize(base, options);
  const name = printable(path);
  const { native } = options;
  // The store's blocks must not be larger than the base's, or the overlay's blocks would be too.
  const blockSize = Math.min(base.info.blockSize, 4096);
  const onStore = async (
    storePath: string,
    use: (store: BlockDevice) => Promise<OverlayFilter>,
  ): Promise<OverlayFilter> => {
    const store = await openFile(storePath, { readOnly: false, exclusive: true, blockSize, native });
    return use(store).catch(async (error: unknown) => {
      await store.close();
      throw error;
    });
  };
  return openOwnFile(path, {
    what: 'an overlay',
    magic: overlayMagic,
    size,
    make: (made) => onStore(made, (store) => createOverlay(base, store, { ...options, name })),
    open: async (there) => {
      // A file that ends within its header holds nothing: a crash has left it while it was made.
      if ((await stat(there)).size < headerSize) await truncate(there, size);
      return onStore(there, async (store) => {
        const use = (await isUnfinished(store)) ? createOverlay : openOverlay;
        return use(base, store, { ...options, name });
      });
    },
  }).catch((error: unknown) => {
    throw openError(path, error);
  });
}

/**
 * Opens the overlay of `base` like {@link openOverlayFile}, but makes and changes no file: a new
 * overlay is empty and has no store. Nothing may be written to the result.
 */
export async function lookAtOverlayFile(
  base: BlockDevice,
  path: string,
  options: OverlayFileOptions = {},
): Promise<OverlayFilter> {
  const name = printable(path);
  const blockSize = Math.min(base.info.blockSize, 4096);
  const empty = (): OverlayFilter => emptyOverlay(base, new MemoryDevice(0, { blockSize: 1 }), options);
  try {
    const own = await isOwnFile(path, { what: 'an overlay', magic: overlayMagic });
    if (!own || (await stat(path)).size < headerSize) return empty();
    const { native } = options;
    const store = await openFile(path, { readOnly: false, exclusive: true, blockSize, native, dryRun: true });
    try {
      if (!(await isUnfinished(store))) return await openOverlay(base, store, { ...options, name });
    } catch (error) {
      await store.close();
      throw error;
    }
    await store.close();
    return empty();
  } catch (error) {
    throw openError(path, error);
  }
}

export const overlayFilter = defineFilter({
  options: {
    overlay: {
      value: 'FILE',
      oneSource: true,
      about: 'keep all writes in FILE, which is made if it does not exist; the source stays unchanged',
      parse: parseFile,
    },
  },
  holdsWrites: true,
  sparesSource: ({ overlay }) => overlay !== undefined,
  check: ({ overlay }, all) => {
    if (overlay === undefined || all['read-only'] !== true) return;
    throw usageError('read-only and overlay exclude each other: an overlay is for writing');
  },
  open: async (device, { overlay }, { identify, assumeSame, readsOnly }) => {
    if (overlay === undefined) return device;
    const options = { identity: await identify(device), assumeSame };
    return (readsOnly ? lookAtOverlayFile : openOverlayFile)(device, overlay, options);
  },
});
