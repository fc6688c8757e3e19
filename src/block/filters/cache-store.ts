/**
 * Opens a cache on a store. The store's content is reused only if it is sure to agree with the
 * device.
 */
import { buffersOf } from '../../base/buffers.js';
import { crc32 } from '../../base/crc32.js';
import { FarbusError, usageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { compareIdentity, formatIdentity, parseIdentity, type DiskIdentity } from '../identity.js';
import { CacheFilter, type ConfirmedCache, type KeptCache } from './cache.js';
import {
  cacheHeaderSize,
  cacheLayout,
  decodeCacheTable,
  encodeCacheHeader,
  trustedTable,
  type CacheLayout,
} from './cache-format.js';
import { CacheSeal } from './cache-seal.js';
import { CacheSlots } from './cache-slots.js';

/** Options of {@link openCache}. */
export interface CacheOptions {
  /** Most content, in bytes. Default 1 GiB. */
  readonly cacheSize?: number | undefined;
  /**
   * Length of the blocks that are read and kept as a whole, in bytes: a power of two from 4096 to 1
   * MiB. Default 64 KiB.
   */
  readonly clusterSize?: number | undefined;
  /**
   * The user vouches that no other program writes to the device, even while it is not open here.
   * The cache's content is then kept when it is closed, and used again when it is opened. Default
   * false: the cache starts empty.
   */
  readonly keep?: boolean | undefined;
  /**
   * Finds the device's identity, for a kept cache. Called when the cache is opened and again when
   * it is closed, because writes may have changed the identity. Without it, a kept cache compares
   * only the device's name.
   */
  readonly identify?: (() => Promise<DiskIdentity>) | undefined;
  /** The user vouches that the device is the disk for which the cache was kept. */
  readonly assumeSame?: boolean | undefined;
  /**
   * The server confirms the content of the device, which must be read-only. The cache is then kept
   * and used again without the user's word, only for the same version, and it may end at any
   * moment.
   */
  readonly confirmed?: ConfirmedCache | undefined;
}

/**
 * The layout of a cache of this device.
 * @throws FarbusError if the options or the disk do not permit a cache
 */
export function layoutOfCache(device: BlockDevice, options: CacheOptions = {}): CacheLayout {
  const { size, blockSize } = device.info;
  const clusterSize = Math.max(options.clusterSize ?? 65536, blockSize);
  const powerOfTwo = Number.isInteger(Math.log2(clusterSize));
  if (!powerOfTwo || clusterSize < 4096 || clusterSize > 1 << 20) {
    throw usageError(`a cache's blocks cannot have ${clusterSize} bytes: give a power of two from 4096 to 1048576`);
  }
  const { cacheSize = 2 ** 30 } = options;
  // A slot takes 4 bytes of store and more of memory, so a table of some hundred MB is a mistake.
  if (!(cacheSize >= clusterSize && cacheSize / clusterSize <= 2 ** 26)) {
    throw usageError(`a cache of ${cacheSize} bytes is not possible: give a size from ${clusterSize} to 4T`);
  }
  if (size / clusterSize >= 2 ** 32 - 1) throw new FarbusError('this disk is too large for a cache: leave it out');
  return cacheLayout(size, clusterSize, cacheSize);
}

/**
 * Opens a cache of `device` on `store`, with at least the size of {@link layoutOfCache}. Other
 * content of the store is lost. The cache takes over both devices. If this throws, the caller must
 * close them.
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
  const { confirmed, identify } = options;
  if (confirmed && !device.info.readOnly) throw usageError('a confirmed cache is for a disk that is read-only');
  const slots = new CacheSlots(layout.slots);
  const find = async (): Promise<string> => (identify ? formatIdentity(await identify()) : device.info.identity);
  const name = confirmed ? confirmedName(confirmed, await find()) : find;
  const sealed =
    (confirmed !== undefined || options.keep === true) &&
    (await load(store, layout, sameAs(await name(), options), slots));
  if (!sealed || !confirmed) {
    // Mark the store as not trusted until it is sealed.
    const header = encodeCacheHeader({ layout, identity: '', closed: false, tableChecksum: 0 });
    await store.write(0, buffersOf(header));
    await store.flush();
  }
  const seal = new CacheSeal(store, layout, slots, sealed && confirmed !== undefined);
  const kept: KeptCache | undefined = confirmed || options.keep ? { name, seal, confirmed } : undefined;
  return new CacheFilter(device, store, layout, slots, kept);
}

/** The name of content whose version is confirmed each time that the name is asked for. */
function confirmedName({ version }: ConfirmedCache, identity: string): () => Promise<string> {
  return async () => ((await version.now()) ? `version=${version.mark} ${identity}` : '');
}

/** Compares the name in a header with the present one. */
function sameAs(now: string, { confirmed, assumeSame = false }: CacheOptions): (then: string) => boolean {
  return (then) => {
    const [before, after] = [parseIdentity(then), parseIdentity(now)];
    // The header has only a name if an older version, or a caller without `identify`, has written
    // it. A version must be equal in every part.
    if (confirmed || !before || !after) return then === now || (assumeSame && !confirmed);
    const { verdict } = compareIdentity(before, after, { unchanged: true });
    return verdict === 'same' || (assumeSame && before.size === after.size);
  };
}

/** Loads the table of the store. False if its content must not be used. */
async function load(
  store: BlockDevice,
  layout: CacheLayout,
  isSame: (then: string) => boolean,
  slots: CacheSlots,
): Promise<boolean> {
  const header = new Uint8Array(cacheHeaderSize);
  await store.read(0, buffersOf(header));
  const checksum = trustedTable(header, layout, isSame);
  if (checksum === undefined) return false;
  const bytes = new Uint8Array(layout.tableSize);
  await store.read(layout.tableOffset, buffersOf(bytes));
  if (crc32(bytes) !== checksum) return false;
  return slots.load(decodeCacheTable(bytes, layout), Math.ceil(layout.sourceSize / layout.clusterSize));
}
