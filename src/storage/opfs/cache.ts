/**
 * Caches of far disks in the browser's OPFS, kept between visits. The format and its crash rules
 * are those of cache files (block/filters/cache-format.ts, block/filters/cache-seal.ts).
 *
 * A browser ends a tab without notice, so the cache is sealed every few seconds while it grows.
 */
import { FarbusError } from '../../base/errors.js';
import type { BlockDevice } from '../../block/device.js';
import type { CacheFilter } from '../../block/filters/cache.js';
import { layoutOfCache, openCache } from '../../block/filters/cache-store.js';
import { CacheVersion, type AskVersion } from '../../block/filters/cache-version.js';
import type { DiskIdentity } from '../../block/identity.js';
import { OpfsStore } from './store.js';

/** Options of {@link openOpfsCache}. */
export interface OpfsCacheOptions {
  /**
   * Asks the server for the version of the disk's content (`exportVersion`). Undefined or a
   * rejection: it cannot be confirmed now.
   */
  readonly version: AskVersion;
  /**
   * The version that the server gave before the device was connected, '' if it gave none. With
   * another one now, no cache is opened: the device may be the disk that the server had before.
   * Default: the caller knows that it is the present one.
   */
  readonly since?: string | undefined;
  /** The disk's identity, which must also be the same. Default: only its name and size count. */
  readonly identity?: DiskIdentity | undefined;
  /** Most content, in bytes. Default 1 GiB. */
  readonly cacheSize?: number | undefined;
  /** Called once if no more blocks are kept, with the reason as a clause. Must not throw. */
  readonly onStop?: ((why: string) => void) | undefined;
}

/**
 * Opens the cache of `device` with that name, or makes it. What it has kept is used only if the
 * server confirms that no byte of the disk has changed; otherwise it starts empty. The device must
 * be read-only, and the cache takes it over. If this throws, the caller must close it.
 * @throws FarbusError if this browser has no OPFS or no room, another tab uses the cache, or the
 *   server confirms no version of the disk
 */
export async function openOpfsCache(
  device: BlockDevice,
  name: string,
  { version: ask, since, identity, cacheSize, onStop = () => undefined }: OpfsCacheOptions,
): Promise<CacheFilter> {
  const version = await CacheVersion.open(ask);
  if (!version || (since !== undefined && since !== version.mark)) {
    throw new FarbusError('the server cannot tell whether this disk has changed');
  }
  const options = {
    cacheSize,
    confirmed: { version, onStop },
    ...(identity && { identify: () => Promise.resolve(identity) }),
  };
  const { storeSize } = layoutOfCache(device, options);
  const store = await OpfsStore.open('cache', name, storeSize, Math.min(device.info.blockSize, 512));
  try {
    return await openCache(device, store, options);
  } catch (error) {
    await store.close();
    throw error;
  }
}
