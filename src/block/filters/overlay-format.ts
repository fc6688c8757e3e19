/**
 * The overlay's format on its store, version 1 (docs/overlay.md): a header, a map of two bits a cluster, the clusters.
 * Numbers are little-endian. Pure bytes: nothing is read or written here.
 */
import { FarbusError } from '../../base/errors.js';

/** Length of the header, and unit in which the map is read and written, in bytes. */
export const headerSize = 4096;
export const mapPageSize = 4096;
/** What one bit of the sector table tells of, in bytes. */
export const sectorSize = 512;
/** Clusters that one page of the map tells of. */
export const clustersPerPage = mapPageSize * 4;

const magic = 'FARBUSOV';
const version = 1;
const identityAt = 66;
const longestIdentity = 1024;
const checksumAt = headerSize - 4;

/** Where things are on the store; all in bytes but `clusters`. */
export interface OverlayLayout {
  readonly baseSize: number;
  readonly clusterSize: number;
  readonly clusters: number;
  readonly mapOffset: number;
  readonly dataOffset: number;
  /** Where the sector table begins. Overlays of Farbus 0.1.0 end before it and have none. */
  readonly tableOffset: number;
  /** What a new store must hold. */
  readonly storeSize: number;
}

export interface OverlayHeader {
  readonly layout: OverlayLayout;
  /** Random, 32 hexadecimal digits: what tells this overlay from every other. */
  readonly id: string;
  /** The base's identity when the overlay was made (block/identity.ts), or its mere name; '' if it was not known. */
  readonly baseIdentity: string;
}

/** Whether a cluster size is one that the format has: a power of two from 4 KiB to 1 MiB. */
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
  bytes.set(new TextEncoder().encode(magic), 0);
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

/** Whether these are the first bytes of an overlay, of whatever version and state. */
export function isOverlay(bytes: Uint8Array): boolean {
  return new TextDecoder('latin1').decode(bytes.subarray(0, 8)) === magic;
}

/**
 * Reads a header.
 * @param name What to call the overlay in messages.
 * @throws FarbusError where it is none, or of another version, or damaged.
 */
export function decodeHeader(bytes: Uint8Array, name: string): OverlayHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, headerSize);
  if (!isOverlay(bytes)) {
    throw new FarbusError(`${name} is not an overlay: give another path, or delete it if it is not needed`);
  }
  const found = view.getUint32(8, true);
  if (found !== version) {
    throw new FarbusError(`${name} is an overlay of version ${found}, this is for ${version}: use a newer farbus`);
  }
  const damaged = new FarbusError(`the overlay ${name} is damaged: restore it, or delete it to begin anew`);
  if (view.getUint32(checksumAt, true) !== crc32(bytes.subarray(0, checksumAt))) throw damaged;
  const clusterSize = view.getUint32(16, true);
  const baseSize = Number(view.getBigUint64(24, true));
  const identityLength = view.getUint16(64, true);
  if (!isClusterSize(clusterSize) || !Number.isSafeInteger(baseSize * 2) || identityLength > longestIdentity) {
    throw damaged;
  }
  const layout = overlayLayout(baseSize, clusterSize);
  if (Number(view.getBigUint64(32, true)) !== layout.mapOffset) throw damaged;
  if (Number(view.getBigUint64(40, true)) !== layout.dataOffset) throw damaged;
  const id = [...bytes.subarray(48, 64)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  const baseIdentity = new TextDecoder().decode(bytes.subarray(identityAt, identityAt + identityLength));
  return { layout, id, baseIdentity };
}

/** Compares names of bases, for overlays that know no identity. A name that is not known agrees with all. */
export function sameName(header: OverlayHeader, name: string): boolean {
  if (header.baseIdentity === '' || name === '') return true;
  return new TextDecoder().decode(identityBytes(name)) === header.baseIdentity;
}

function identityBytes(identity: string): Uint8Array {
  return new TextEncoder().encode(identity).subarray(0, longestIdentity);
}

/** CRC-32 as in ISO 3309 (polynomial 0xEDB88320, reflected). */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
