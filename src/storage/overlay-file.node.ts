/** Overlays in a sparse file: made where there is none yet, else opened. The file is locked while it is in use. */
import type { BlockDevice } from '../block/device.js';
import { isOverlay } from '../block/filters/overlay-format.js';
import type { OverlayFilter } from '../block/filters/overlay.js';
import { createOverlay, openOverlay, overlayStoreSize, type OverlayOptions } from '../block/filters/overlay-store.js';
import { openFile } from './file.node.js';
import { openError, printable } from './opening.node.js';
import { openOwnFile } from './own-file.node.js';

export interface OverlayFileOptions extends Omit<OverlayOptions, 'name'> {
  /** Whether to use koffi where it is installed; default true. */
  readonly native?: boolean | undefined;
}

/**
 * Opens the overlay of `base` in the file at `path`; makes it where the file does not exist or is empty. The overlay
 * takes the base over: closing it closes the base. Where this throws, the base is still the caller's to close.
 * @throws FarbusError where it cannot be made or opened, is in use, is no overlay, or is the overlay of another disk.
 */
export async function openOverlayFile(
  base: BlockDevice,
  path: string,
  options: OverlayFileOptions = {},
): Promise<OverlayFilter> {
  const size = overlayStoreSize(base, options);
  const name = printable(path);
  const { native } = options;
  // The store's blocks must not be larger than the base's, or the overlay's would be.
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
    isOurs: isOverlay,
    size,
    make: (made) => onStore(made, (store) => createOverlay(base, store, { ...options, name })),
    open: (there) => onStore(there, (store) => openOverlay(base, store, { ...options, name })),
  }).catch((error: unknown) => {
    throw openError(path, error);
  });
}
