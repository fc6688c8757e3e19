/** Caches in a sparse file of this computer. The file is locked while it is in use. */
import fs from 'node:fs/promises';
import { errnoOf, FarbusError } from '../base/errors.js';
import type { BlockDevice } from '../block/device.js';
import type { CacheFilter } from '../block/filters/cache.js';
import { cacheHeaderSize, isCache } from '../block/filters/cache-format.js';
import { layoutOfCache, openCache, type CacheOptions } from '../block/filters/cache-store.js';
import { openFile } from './file.node.js';
import { openError, printable } from './opening.node.js';

/**
 * Opens a cache of `device` in the file at `path`, which is made where there is none. The cache takes the device over;
 * where this throws, the device is still the caller's to close.
 * @throws FarbusError where the file cannot be had, is in use, or is something else than a cache.
 */
export async function openCacheFile(
  device: BlockDevice,
  path: string,
  options: CacheOptions = {},
): Promise<CacheFilter> {
  const { storeSize } = layoutOfCache(device, options);
  try {
    await prepare(path, storeSize, options.keep ?? false);
    // Blocks of the store must not be larger than the device's, or the cache's would be.
    const blockSize = Math.min(device.info.blockSize, 512);
    const store = await openFile(path, { readOnly: false, exclusive: true, blockSize });
    try {
      return await openCache(device, store, options);
    } catch (error) {
      await store.close();
      throw error;
    }
  } catch (error) {
    throw openError(path, error);
  }
}

/** Sees to it that there is a file of that size which is a cache or empty; empty if nothing of it is to be kept. */
async function prepare(path: string, size: number, keep: boolean): Promise<void> {
  const handle = await fs.open(path, 'wx+', 0o600).catch((error: unknown) => {
    if (errnoOf(error) !== 'EEXIST') throw error;
    return fs.open(path, 'r+');
  });
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new FarbusError(`${printable(path)} is no file: give another path for the cache`);
    const start = new Uint8Array(cacheHeaderSize);
    if (stat.size > 0) await handle.read(start, 0, start.length, 0);
    if (stat.size > 0 && !isCache(start) && !start.every((byte) => byte === 0)) {
      throw new FarbusError(`${printable(path)} is not a cache: give another path, or delete it if it is not needed`);
    }
    if (stat.size === size && keep) return;
    // Not under the hands of somebody who uses it: that one has it locked.
    await (await openFile(path, { readOnly: false, exclusive: true, blockSize: 1 })).close();
    await handle.truncate(0);
    await handle.truncate(size);
  } finally {
    await handle.close();
  }
}
