/**
 * Creates and opens overlays on a store: writes, reads and checks the header and loads the map
 * (docs/overlay.md).
 */
import { hexOf } from '../../base/hex.js';
import { buffersOf } from '../../base/buffers.js';
import { FarbusError, usageError } from '../../base/errors.js';
import type { BlockDevice } from '../device.js';
import { demandSame, formatIdentity, parseIdentity, type DiskIdentity } from '../identity.js';
import { OverlayFilter } from './overlay.js';
import {
  decodeHeader,
  encodeHeader,
  headerSize,
  isClusterSize,
  isTorn,
  mapPageSize,
  overlayLayout,
  sameName,
  unfinishedHeader,
  type OverlayHeader,
  type OverlayLayout,
} from './overlay-format.js';
import { ClusterMap } from './overlay-map.js';
import { SectorTable } from './overlay-sectors.js';

/** Options of {@link createOverlay}. */
export interface OverlayOptions {
  /**
   * Cluster size of a new overlay in bytes: a power of two from 4096 (the default) to 1 MiB. A
   * cluster is copied as a whole.
   */
  readonly clusterSize?: number | undefined;
  /** Name of the store in messages, for example its path. */
  readonly name?: string | undefined;
  /**
   * Identity of the base. Without it, only the base's name and size reveal that an overlay belongs
   * to another disk.
   */
  readonly identity?: DiskIdentity | undefined;
  /** The user vouches that the base is the disk for which the overlay was made. */
  readonly assumeSame?: boolean | undefined;
}

const defaultClusterSize = 4096;
/** Longest read of the map, in bytes. */
const mapChunk = 1 << 20;

/** Length that the store of a new overlay of this base needs, in bytes. */
export function overlayStoreSize(base: BlockDevice, options: OverlayOptions = {}): number {
  return layoutFor(base, options).storeSize;
}

/**
 * Creates an overlay of `base` on `store`, whose content is lost. The overlay takes over both
 * devices. If this throws, the caller must close them.
 * @throws FarbusError if the store does not fit, BlockError if it fails
 */
export async function createOverlay(
  base: BlockDevice,
  store: BlockDevice,
  options: OverlayOptions = {},
): Promise<OverlayFilter> {
  const layout = layoutFor(base, options);
  const id = hexOf(crypto.getRandomValues(new Uint8Array(16)));
  const baseIdentity = options.identity ? formatIdentity(options.identity) : base.info.identity;
  const header: OverlayHeader = { layout, id, baseIdentity };
  if (store.info.size < layout.storeSize) {
    throw new FarbusError(`${nameOf(options)} has ${store.info.size} bytes: this overlay needs ${layout.storeSize}`);
  }
  const overlay = new OverlayFilter(base, store, header, new ClusterMap(), new SectorTable(layout));
  // The header comes last, so that a crash before leaves no overlay, but a store that is known as
  // unfinished.
  await store.write(0, buffersOf(unfinishedHeader()));
  await store.writeZeroes(headerSize, layout.dataOffset - headerSize);
  await store.flush();
  await store.write(0, buffersOf(encodeHeader(header)));
  await store.flush();
  return overlay;
}

/**
 * A new overlay to look at, whose store is not written: it reads as `base`, and must not be written
 * itself. Takes over both devices like {@link createOverlay}.
 */
export function emptyOverlay(base: BlockDevice, store: BlockDevice, options: OverlayOptions = {}): OverlayFilter {
  const layout = layoutFor(base, options);
  const header: OverlayHeader = { layout, id: '', baseIdentity: base.info.identity };
  return new OverlayFilter(base, store, header, new ClusterMap(), new SectorTable(layout));
}

/**
 * True if the store is what a crash left while an overlay was made on it: its header is torn, and
 * everything behind it reads as zeroes, so that it holds nothing.
 */
export async function isUnfinished(store: BlockDevice): Promise<boolean> {
  const { size } = store.info;
  if (size < headerSize) return false;
  const header = new Uint8Array(headerSize);
  await store.read(0, buffersOf(header));
  if (!isTorn(header)) return false;
  for (let at = headerSize; at < size;) {
    const [first] = await store.extents(at, size - at);
    if (first!.zero) {
      at += first!.length;
      continue;
    }
    const chunk = new Uint8Array(Math.min(mapChunk, first!.length));
    await store.read(at, buffersOf(chunk));
    if (chunk.some((byte) => byte !== 0)) return false;
    at += chunk.length;
  }
  return true;
}

/**
 * Opens the overlay on `store`, which must have been made for this base. Takes over both devices
 * like {@link createOverlay}.
 * @throws FarbusError if it is not an overlay, damaged, of another version or of another base
 */
export async function openOverlay(
  base: BlockDevice,
  store: BlockDevice,
  options: OverlayOptions = {},
): Promise<OverlayFilter> {
  const name = nameOf(options);
  const bytes = new Uint8Array(headerSize);
  if (store.info.size < headerSize) throw new FarbusError(`${name} is not an overlay: give another path`);
  await store.read(0, buffersOf(bytes));
  const header = decodeHeader(bytes, name);
  const { layout } = header;
  checkBase(header, base, options);
  if (store.info.size < layout.tableOffset) {
    throw new FarbusError(`the overlay ${name} was cut off: restore it, or delete it to start with an empty one`);
  }
  const sectors = store.info.size < layout.storeSize ? undefined : new SectorTable(layout);
  return new OverlayFilter(base, store, header, await loadMap(store, layout, name, sectors), sectors);
}

/** Refuses an overlay that was made for another base. */
function checkBase(header: OverlayHeader, { info }: BlockDevice, options: OverlayOptions): void {
  const { identity, assumeSame = false } = options;
  const { baseSize } = header.layout;
  const then = parseIdentity(header.baseIdentity);
  const name = nameOf(options);
  if (then && identity) return demandSame(then, identity, `the overlay ${name}`, { unchanged: true, assumeSame });
  // An overlay of an older version, or a caller of the library without an identity: compare names.
  if (baseSize === info.size && (assumeSame || then || sameName(header, info.identity))) return;
  const differs = baseSize !== info.size ? ` (of ${baseSize} bytes, not ${info.size})` : '';
  throw new FarbusError(`${name} is the overlay of another disk${differs}: give that disk, or a new overlay file`);
}

async function loadMap(
  store: BlockDevice,
  layout: OverlayLayout,
  name: string,
  sectors: SectorTable | undefined,
): Promise<ClusterMap> {
  const map = new ClusterMap();
  const damaged = new FarbusError(
    `the map of the overlay ${name} is damaged: restore it, or delete it to start with an empty one`,
  );
  let page: { readonly index: number; readonly bytes: Uint8Array } | undefined;
  const end = layout.mapOffset + Math.ceil(layout.clusters / (mapPageSize * 4)) * mapPageSize;
  for (let at = layout.mapOffset; at < end;) {
    const length = Math.min(mapChunk, end - at);
    // Skip holes: most of the map of a large disk is one.
    const [first] = await store.extents(at, end - at);
    if (first!.zero && first!.length >= mapPageSize) {
      at += first!.length - (first!.length % mapPageSize);
      continue;
    }
    const chunk = new Uint8Array(length);
    await store.read(at, buffersOf(chunk));
    for (let done = 0; done < length; done += mapPageSize) {
      const index = (at + done - layout.mapOffset) / mapPageSize;
      for (const cluster of map.load(index, chunk.subarray(done, done + mapPageSize))) {
        if (!sectors || cluster >= layout.clusters) throw damaged;
        const wanted = sectors.pageOf(cluster);
        if (page?.index !== wanted) {
          page = { index: wanted, bytes: new Uint8Array(mapPageSize) };
          await store.read(layout.tableOffset + wanted * mapPageSize, buffersOf(page.bytes));
        }
        if (!sectors.load(cluster, page.bytes)) throw damaged;
      }
    }
    at += length;
  }
  return map;
}

function layoutFor(base: BlockDevice, options: OverlayOptions): OverlayLayout {
  const clusterSize = options.clusterSize ?? Math.max(defaultClusterSize, base.info.blockSize);
  if (!isClusterSize(clusterSize)) {
    throw usageError(`an overlay's cluster size cannot be ${clusterSize}: give a power of two from 4096 to 1048576`);
  }
  return overlayLayout(base.info.size, clusterSize);
}

function nameOf(options: OverlayOptions): string {
  return options.name ?? 'the store';
}
