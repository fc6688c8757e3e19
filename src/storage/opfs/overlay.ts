/**
 * Overlays in the browser's OPFS: the writes to a disk stay in this browser, and the disk is
 * unchanged. The format is that of overlay files (docs/overlay.md).
 */
import type { BlockDevice } from '../../block/device.js';
import type { OverlayFilter } from '../../block/filters/overlay.js';
import {
  createOverlay,
  isUnfinished,
  openOverlay,
  overlayStoreSize,
  type OverlayOptions,
} from '../../block/filters/overlay-store.js';
import { OpfsStore } from './store.js';

/**
 * Opens the overlay of `base` with that name, or makes it. The overlay takes over the base. If this
 * throws, the caller must close the base.
 * @throws FarbusError if this browser has no OPFS, another tab uses the overlay, or it is the
 *   overlay of another disk
 */
export async function openOpfsOverlay(
  base: BlockDevice,
  name: string,
  options: Omit<OverlayOptions, 'name'> = {},
): Promise<OverlayFilter> {
  const blockSize = Math.min(base.info.blockSize, 4096);
  const store = await OpfsStore.open('overlay', name, overlayStoreSize(base, options), blockSize);
  try {
    const use = store.isNew || (await isUnfinished(store)) ? createOverlay : openOverlay;
    return await use(base, store, { ...options, name });
  } catch (error) {
    await store.close();
    throw error;
  }
}
