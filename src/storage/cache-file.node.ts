/** Opens a cache in a sparse file of this computer. The file is locked while it is in use. */
import fs from 'node:fs/promises';
import type { BlockDevice } from '../block/device.js';
import { usageError } from '../base/errors.js';
import { bytesFrom, defineFilter, parseFile, parseFlag } from '../block/filters/definition.js';
import type { CacheFilter } from '../block/filters/cache.js';
import { cacheHeaderSize, cacheMagic } from '../block/filters/cache-format.js';
import { layoutOfCache, openCache, type CacheOptions } from '../block/filters/cache-store.js';
import { openFile, type FileDevice } from './file.node.js';
import { openError } from './opening.node.js';
import { isOwnFile, openOwnFile } from './own-file.node.js';

/**
 * Opens a cache of `device` in the file at `path`, which is made if it does not exist. The cache
 * takes over the device. If this throws, the caller must close the device.
 * @throws FarbusError if the file cannot be opened, is in use, or is not a cache
 */
export async function openCacheFile(
  device: BlockDevice,
  path: string,
  options: CacheOptions = {},
): Promise<CacheFilter> {
  const { storeSize } = layoutOfCache(device, options);
  const openStore = (storePath: string, blockSize: number): Promise<FileDevice> =>
    openFile(storePath, { readOnly: false, exclusive: true, blockSize });
  const onStore = async (storePath: string): Promise<CacheFilter> => {
    // The store's blocks must not be larger than the device's.
    const store = await openStore(storePath, Math.min(device.info.blockSize, 512));
    return openCache(device, store, options).catch(async (error: unknown) => {
      await store.close();
      throw error;
    });
  };
  return openOwnFile(path, {
    what: 'a cache',
    magic: cacheMagic,
    size: storeSize,
    make: onStore,
    open: async (there) => {
      if (!options.keep || (await fs.stat(there)).size !== storeSize) {
        // Fails if another process uses the file, which it has locked.
        await (await openStore(there, 1)).close();
        // Drop the content but keep the header: after a crash the file must still be recognised as
        // a cache.
        await fs.truncate(there, cacheHeaderSize);
        await fs.truncate(there, storeSize);
      }
      return onStore(there);
    },
  }).catch((error: unknown) => {
    throw openError(path, error);
  });
}

/**
 * Checks the file at `path` as {@link openCacheFile} does, but makes and changes nothing.
 * @throws FarbusError if it is not a cache, or cannot be opened or made
 */
async function checkCacheFile(path: string): Promise<void> {
  await isOwnFile(path, { what: 'a cache', magic: cacheMagic }).catch((error: unknown) => {
    throw openError(path, error);
  });
}

export const cacheFilter = defineFilter({
  options: {
    cache: {
      value: 'FILE',
      oneSource: true,
      about:
        'keep what was read in FILE on this computer, for distant sources; no other client may write ' +
        'the source meanwhile',
      parse: parseFile,
    },
    'cache-size': {
      value: 'SIZE',
      default: '1G',
      about: 'bytes that the cache holds at most',
      parse: bytesFrom(65_536),
    },
    'cache-keep': {
      about: 'use what FILE held when it was closed: no other client has written the source since',
      parse: parseFlag,
    },
  },
  holdsWrites: true,
  check: (values) => {
    if (values.cache !== undefined || (values['cache-size'] === undefined && !values['cache-keep'])) return;
    throw usageError('cache-size and cache-keep are about a cache: give cache as well');
  },
  open: async (device, values, { identify, assumeSame, dryRun }) => {
    const { cache, 'cache-size': cacheSize, 'cache-keep': keep } = values;
    if (cache === undefined) return device;
    if (dryRun) {
      // The content is the same without a cache, and opening one changes its file.
      await checkCacheFile(cache);
      return device;
    }
    return openCacheFile(device, cache, { cacheSize, keep, identify: () => identify(device), assumeSame });
  },
});
