/**
 * The cache's format on its store, version 2: a header, a table with the block of each slot and the
 * checksum of its content, the slots. Numbers are little-endian.
 *
 * Version 1 had no checksums. A cache of that version starts empty.
 *
 * Not here: reading and writing the store (cache-store.ts, cache.ts).
 */
import { crc32 } from '../../base/crc32.js';

/** Length of the header, in bytes. */
export const cacheHeaderSize = 4096;
/** The table's value for an empty slot. */
export const emptySlot = 0xffff_ffff;

/** The first bytes of every cache, in ASCII. */
export const cacheMagic = 'FARBUSCA';
const version = 2;
/** Length of an entry of the table, in bytes. */
const entrySize = 8;
const identityAt = 66;
const longestIdentity = 1024;
const checksumAt = cacheHeaderSize - 4;

/** Offsets and lengths on the store; in bytes, except `slots`. */
export interface CacheLayout {
  /** Size of the cached device in bytes. */
  readonly sourceSize: number;
  /** Length of a slot, and of the source's blocks that are kept or dropped as a whole. */
  readonly clusterSize: number;
  /** Number of clusters that the cache holds. */
  readonly slots: number;
  /** Where the table of clusters begins in the store, in bytes. */
  readonly tableOffset: number;
  /** 8 bytes for each slot, padded with zeroes to a multiple of 4096. */
  readonly tableSize: number;
  /** Where the clusters begin in the store, in bytes. */
  readonly dataOffset: number;
  /** Size that the store needs, in bytes. */
  readonly storeSize: number;
}

/**
 * The layout of a cache with at most `cacheSize` bytes of content: at least one slot, at most one
 * for each block of the source.
 */
export function cacheLayout(sourceSize: number, clusterSize: number, cacheSize: number): CacheLayout {
  const clusters = Math.ceil(sourceSize / clusterSize);
  const slots = Math.max(1, Math.min(clusters, Math.floor(cacheSize / clusterSize)));
  const tableOffset = cacheHeaderSize;
  const tableSize = Math.ceil((slots * entrySize) / 4096) * 4096;
  const dataOffset = Math.ceil((tableOffset + tableSize) / 65536) * 65536;
  return {
    sourceSize,
    clusterSize,
    slots,
    tableOffset,
    tableSize,
    dataOffset,
    storeSize: dataOffset + slots * clusterSize,
  };
}

export interface CacheHeader {
  readonly layout: CacheLayout;
  /** The source's identity as text (block/identity.ts), or only its name; never '' if `closed`. */
  readonly identity: string;
  /** True if the cache was closed in good order: table and slots then agree with the source. */
  readonly closed: boolean;
  /** Checksum of the table. */
  readonly tableChecksum: number;
}

/** The block of each slot, or {@link emptySlot}, and the CRC-32 of its content. */
export interface CacheTable {
  readonly blocks: Uint32Array;
  readonly checksums: Uint32Array;
}

export function encodeCacheTable({ blocks, checksums }: CacheTable, { tableSize }: CacheLayout): Uint8Array {
  const bytes = new Uint8Array(tableSize);
  const view = new DataView(bytes.buffer);
  for (const [slot, block] of blocks.entries()) {
    view.setUint32(slot * entrySize, block, true);
    view.setUint32(slot * entrySize + 4, checksums[slot]!, true);
  }
  return bytes;
}

export function decodeCacheTable(bytes: Uint8Array, { slots }: CacheLayout): CacheTable {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const numbers = (at: number): Uint32Array =>
    Uint32Array.from({ length: slots }, (_, slot) => view.getUint32(slot * entrySize + at, true));
  return { blocks: numbers(0), checksums: numbers(4) };
}

export function encodeCacheHeader({ layout, identity, closed, tableChecksum }: CacheHeader): Uint8Array {
  const bytes = new Uint8Array(cacheHeaderSize);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(cacheMagic), 0);
  view.setUint32(8, version, true);
  view.setUint32(12, closed ? 1 : 0, true);
  view.setUint32(16, layout.clusterSize, true);
  view.setUint32(20, layout.slots, true);
  view.setBigUint64(24, BigInt(layout.sourceSize), true);
  view.setUint32(32, tableChecksum, true);
  const text = identityBytes(identity);
  view.setUint16(64, text.length, true);
  bytes.set(text, identityAt);
  view.setUint32(checksumAt, crc32(bytes.subarray(0, checksumAt)), true);
  return bytes;
}

/**
 * The checksum of the table, if this is the header of a cache that was closed in good order, has
 * this layout and belongs to this source. Otherwise undefined: its content must not be used.
 * @param isSame compares the identity in the header with that of the source
 */
export function trustedTable(
  bytes: Uint8Array,
  layout: CacheLayout,
  isSame: (identity: string) => boolean,
): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, cacheHeaderSize);
  const tableChecksum = view.getUint32(32, true);
  const length = Math.min(view.getUint16(64, true), longestIdentity);
  const identity = new TextDecoder().decode(bytes.subarray(identityAt, identityAt + length));
  const wanted = encodeCacheHeader({ layout, identity, closed: true, tableChecksum });
  const whole = identity !== '' && wanted.every((byte, index) => byte === bytes[index]);
  return whole && isSame(identity) ? tableChecksum : undefined;
}

/** The identity in UTF-8. If it is too long, it is cut and ends with a checksum of the whole. */
function identityBytes(identity: string): Uint8Array {
  const bytes = new TextEncoder().encode(identity);
  if (bytes.length <= longestIdentity) return bytes;
  const cut = bytes.slice(0, longestIdentity);
  new DataView(cut.buffer).setUint32(longestIdentity - 4, crc32(bytes), true);
  return cut;
}
