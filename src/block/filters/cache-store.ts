/** Opening a cache on a store: what it holds is used again only where it is sure to be what the device has. */
import { buffersOf } from '../../base/buffers.js';
import { crc32 } from '../../base/crc32.js';
import { FarbusError, usageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { compareIdentity, formatIdentity, parseIdentity, type DiskIdentity } from '../identity.js';
import { CacheFilter } from './cache.js';
import { cacheHeaderSize, cacheLayout, encodeCacheHeader, trustedTable, type CacheLayout } from './cache-format.js';
import { CacheSlots } from './cache-slots.js';

export interface CacheOptions {
  /** Content that is held at most, in bytes. Default 1 GiB. */
  readonly cacheSize?: number | undefined;
  /** Bytes that are read and kept together: a power of two from 4096 to 1 MiB. Default 64 KiB. */
  readonly clusterSize?: number | undefined;
  /**
   * The user's word that nobody else writes the device, also while it is not open here: what the cache holds when it is
   * closed is used again when it is opened. Default false: it begins anew.
   */
  readonly keep?: boolean | undefined;
  /**
   * Finds out which disk the device is, for a cache that is kept; called when it is opened and when it is closed, since
   * its user may have written. Without it, a kept cache goes by the device's mere name.
   */
  readonly identify?: (() => Promise<DiskIdentity>) | undefined;
  /** The user's word that the device is the disk that the cache was kept for. */
  readonly assumeSame?: boolean | undefined;
}

/** Where things are in the cache of this device. @throws FarbusError where there can be none. */
export function layoutOfCache(device: BlockDevice, options: CacheOptions = {}): CacheLayout {
  const { size, blockSize } = device.info;
  const clusterSize = Math.max(options.clusterSize ?? 65536, blockSize);
  const powerOfTwo = Number.isInteger(Math.log2(clusterSize));
  if (!powerOfTwo || clusterSize < 4096 || clusterSize > 1 << 20) {
    throw usageError(`a cache's blocks cannot have ${clusterSize} bytes: give a power of two from 4096 to 1048576`);
  }
  const { cacheSize = 2 ** 30 } = options;
  // 4 bytes of memory and store a slot, and as much again twice: a table of some hundred megabytes is a mistake.
  if (!(cacheSize >= clusterSize && cacheSize / clusterSize <= 2 ** 26)) {
    throw usageError(`a cache of ${cacheSize} bytes is not possible: give a size from ${clusterSize} to 4T`);
  }
  if (size / clusterSize >= 2 ** 32 - 1) throw new FarbusError('this disk is too large for a cache: leave it out');
  return cacheLayout(size, clusterSize, cacheSize);
}

/**
 * Opens a cache of `device` on `store`, whose size is that of {@link layoutOfCache}. Whatever else was on the store is
 * lost. Takes both over; where this throws, both are still the caller's to close.
 */
export async function openCache(
  device: BlockDevice,
  store: BlockDevice,
  options: CacheOptions = {},
): Promise<CacheFilter> {
  const layout = layoutOfCache(device, options);
  if (store.info.size < layout.storeSize) {
    throw new FarbusError(`the cache's store has ${store.info.size} bytes: it needs ${layout.storeSize}`);
  }
  const slots = new CacheSlots(layout.slots);
  const name = async (): Promise<string> =>
    options.identify ? formatIdentity(await options.identify()) : device.info.identity;
  if (options.keep) await load(store, layout, await name(), slots, options.assumeSame ?? false);
  // From now on, and until it is closed in good order, nothing on the store is to be trusted.
  const header = encodeCacheHeader({ layout, identity: '', closed: false, tableChecksum: 0 });
  await store.write(0, buffersOf(header));
  await store.flush();
  return new CacheFilter(device, store, layout, slots, options.keep ? name : undefined);
}

async function load(
  store: BlockDevice,
  layout: CacheLayout,
  now: string,
  slots: CacheSlots,
  assumeSame: boolean,
): Promise<void> {
  const isSame = (then: string): boolean => {
    const [before, after] = [parseIdentity(then), parseIdentity(now)];
    // A header of an older version, or of a library user who names no identity, has a mere name.
    if (!before || !after) return then === now || assumeSame;
    const { verdict } = compareIdentity(before, after, { unchanged: true });
    return verdict === 'same' || (assumeSame && before.size === after.size);
  };
  const header = new Uint8Array(cacheHeaderSize);
  await store.read(0, buffersOf(header));
  const checksum = trustedTable(header, layout, isSame);
  if (checksum === undefined) return;
  const bytes = new Uint8Array(layout.tableSize);
  await store.read(layout.tableOffset, buffersOf(bytes));
  if (crc32(bytes) !== checksum) return;
  const view = new DataView(bytes.buffer);
  const table = Uint32Array.from({ length: layout.slots }, (_, slot) => view.getUint32(slot * 4, true));
  slots.load(table, Math.ceil(layout.sourceSize / layout.clusterSize));
}
