/**
 * The overlay's format on its store, version 1 (docs/overlay.md): a header, a map with two bits for
 * each cluster, the clusters, and a sector table. Numbers are little-endian.
 *
 * Not here: reading and writing the store (overlay-store.ts, overlay.ts).
 */
import { hexOf } from '../../base/hex.js';
import { crc32 } from '../../base/crc32.js';
import { FarbusError } from '../../base/errors.js';

/**
 * Length of the header, and of a page of the map (the unit in which it is read and written), in
 * bytes.
 */
export const headerSize = 4096;
export const mapPageSize = 4096;
/** Length of a sector of the sector table, in bytes. */
export const sectorSize = 512;
/** Number of clusters in one page of the map. */
export const clustersPerPage = mapPageSize * 4;

/** The first bytes of every overlay, in ASCII. */
export const overlayMagic = 'FARBUSOV';
const version = 1;
/** Takes the place of the version in the header while an overlay is being made. */
const unfinished = 0;
const identityAt = 66;
const longestIdentity = 1024;
const checksumAt = headerSize - 4;

/** Offsets and lengths on the store; in bytes, except `clusters`. */
export interface OverlayLayout {
  readonly baseSize: number;
  readonly clusterSize: number;
  readonly clusters: number;
  readonly mapOffset: number;
  readonly dataOffset: number;
  /** Offset of the sector table. Overlays of Farbus 0.1.0 end there and have none. */
  readonly tableOffset: number;
  /** Length that a new store needs. */
  readonly storeSize: number;
}

export interface OverlayHeader {
  readonly layout: OverlayLayout;
  /** Random identifier of this overlay: 32 hexadecimal digits. */
  readonly id: string;
  /**
   * The base's identity when the overlay was made (block/identity.ts), or only its name; '' if
   * unknown.
   */
  readonly baseIdentity: string;
}

/** True if the format permits this cluster size: a power of two from 4 KiB to 1 MiB. */
export function isClusterSize(size: number): boolean {
  return Number.isInteger(size) && size >= 4096 && size <= 1 << 20 && (size & (size - 1)) === 0;
}

/** The layout for a base of `baseSize` bytes. */
export function overlayLayout(baseSize: number, clusterSize: number): OverlayLayout {
  const clusters = Math.ceil(baseSize / clusterSize);
  const mapSize = Math.ceil(clusters / clustersPerPage) * mapPageSize;
  const dataOffset = Math.ceil((headerSize + mapSize) / clusterSize) * clusterSize;
  const tableOffset = dataOffset + clusters * clusterSize;
  const tableSize = Math.ceil((clusters * clusterSize) / sectorSize / 8 / mapPageSize) * mapPageSize;
  const storeSize = tableOffset + tableSize;
  return { baseSize, clusterSize, clusters, mapOffset: headerSize, dataOffset, tableOffset, storeSize };
}

export function encodeHeader({ layout, id, baseIdentity }: OverlayHeader): Uint8Array {
  const bytes = new Uint8Array(headerSize);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(overlayMagic), 0);
  view.setUint32(8, version, true);
  view.setUint32(16, layout.clusterSize, true);
  view.setBigUint64(24, BigInt(layout.baseSize), true);
  view.setBigUint64(32, BigInt(layout.mapOffset), true);
  view.setBigUint64(40, BigInt(layout.dataOffset), true);
  for (let i = 0; i < 16; i++) bytes[48 + i] = Number.parseInt(id.slice(2 * i, 2 * i + 2), 16);
  const identity = identityBytes(baseIdentity);
  view.setUint16(64, identity.length, true);
  bytes.set(identity, identityAt);
  view.setUint32(checksumAt, crc32(bytes.subarray(0, checksumAt)), true);
  return bytes;
}

/** True if these are the first bytes of an overlay, of any version and state. */
function isOverlay(bytes: Uint8Array): boolean {
  return new TextDecoder('latin1').decode(bytes.subarray(0, 8)) === overlayMagic;
}

/**
 * A header that only says that an overlay is being made here. The whole header replaces it at the
 * end.
 */
export function unfinishedHeader(): Uint8Array {
  const bytes = new Uint8Array(headerSize);
  bytes.set(new TextEncoder().encode(overlayMagic), 0);
  return bytes;
}

/** True for a header of which only a part, or nothing but the magic bytes, reached the store. */
export function isTorn(bytes: Uint8Array): boolean {
  const found = new DataView(bytes.buffer, bytes.byteOffset, headerSize).getUint32(8, true);
  return isOverlay(bytes) && (found === version || found === unfinished) && !isIntact(bytes);
}

function isIntact(bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerSize);
  return view.getUint32(checksumAt, true) === crc32(bytes.subarray(0, checksumAt));
}

/**
 * Decodes a header.
 * @param name name of the overlay in messages
 * @throws FarbusError if it is not an overlay, of another version, or damaged
 */
export function decodeHeader(bytes: Uint8Array, name: string): OverlayHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerSize);
  if (!isOverlay(bytes)) {
    throw new FarbusError(`${name} is not an overlay: give another path`);
  }
  const found = view.getUint32(8, true);
  if (found !== version && found !== unfinished) {
    throw new FarbusError(`${name} is an overlay of version ${found}, this is for ${version}: use a newer farbus`);
  }
  const damaged = new FarbusError(
    `the overlay ${name} is damaged: restore it, or delete it to start with an empty one`,
  );
  if (!isIntact(bytes)) throw damaged;
  const clusterSize = view.getUint32(16, true);
  const baseSize = Number(view.getBigUint64(24, true));
  const identityLength = view.getUint16(64, true);
  if (!isClusterSize(clusterSize) || !Number.isSafeInteger(baseSize * 2) || identityLength > longestIdentity) {
    throw damaged;
  }
  const layout = overlayLayout(baseSize, clusterSize);
  if (Number(view.getBigUint64(32, true)) !== layout.mapOffset) throw damaged;
  if (Number(view.getBigUint64(40, true)) !== layout.dataOffset) throw damaged;
  const id = hexOf(bytes.subarray(48, 64));
  const baseIdentity = new TextDecoder().decode(bytes.subarray(identityAt, identityAt + identityLength));
  return { layout, id, baseIdentity };
}

/**
 * Compares the base's name with that in the header, for overlays without an identity. An unknown
 * name ('') matches any.
 */
export function sameName(header: OverlayHeader, name: string): boolean {
  if (header.baseIdentity === '' || name === '') return true;
  return new TextDecoder().decode(identityBytes(name)) === header.baseIdentity;
}

function identityBytes(identity: string): Uint8Array {
  return new TextEncoder().encode(identity).subarray(0, longestIdentity);
}
