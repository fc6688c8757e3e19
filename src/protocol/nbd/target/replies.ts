/**
 * Builds replies of the transmission phase in each negotiated style ([NBD] "Simple reply message",
 * "Structured reply chunk message"; [EXT] "Extended reply chunk message").
 */
import type { Extent } from '../../../block/device.js';
import {
  AllocationFlag,
  EXTENDED_HEADER_SIZE,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  ReplyFlag,
  ReplyType,
  SIMPLE_REPLY_SIZE,
  STRUCTURED_REPLY_SIZE,
  type HeaderStyle,
} from '../spec.js';
import { putU16, putU32, putU64 } from '../../../base/big-endian.js';
import { encodeText } from '../text.js';
import type { Arena, Piece } from './memory.js';
import type { Request } from './requests.js';

/** Longest text in an error reply, in bytes; [NBD] allows 4096. */
const maxErrorText = 512;
/** Most descriptors in a block status reply; [NBD] allows 2^20. */
const maxDescriptors = 8192;

/** Approximate length of the longest block status reply, in bytes. */
export const longestStatus = 16 * maxDescriptors;

/** The styles whose replies consist of chunks. */
type ChunkStyle = Exclude<HeaderStyle, 'simple'>;

function chunkHeaderSize(style: ChunkStyle): number {
  return style === 'extended' ? EXTENDED_HEADER_SIZE : STRUCTURED_REPLY_SIZE;
}

/** Number of bytes before the data in a read reply. */
export function readHeaderSize(style: HeaderStyle): number {
  return style === 'simple' ? SIMPLE_REPLY_SIZE : chunkHeaderSize(style) + 8;
}

/** Writes the header before a read's data, which fills the rest of the piece. */
export function putReadHeader(piece: Piece, request: Request, style: HeaderStyle): void {
  const { bytes } = piece.slab;
  const at = piece.start;
  if (style === 'simple') return putSimple(bytes, at, request, 0);
  const after = putChunk(bytes, at, request, style, ReplyType.offsetData, ReplyFlag.done, 8 + request.length);
  putU64(bytes, after, request.offset);
}

/**
 * A success reply without data, in the shortest form that the style allows.
 * @param read true if it answers a read, for which the chunk styles have no simple reply
 */
export function successReply(arena: Arena, request: Request, style: HeaderStyle, read: boolean): Piece {
  if (style === 'simple' || (style === 'structured' && !read)) return simpleReply(arena, request, 0);
  const piece = arena.take(chunkHeaderSize(style));
  putChunk(piece.slab.bytes, piece.start, request, style, ReplyType.none, ReplyFlag.done, 0);
  return piece;
}

/** An error reply, with a text for people if the style has room for one. */
export function errorReply(arena: Arena, request: Request, style: HeaderStyle, error: number, message: string): Piece {
  if (style === 'simple') return simpleReply(arena, request, error);
  const text = encodeText(message, maxErrorText);
  const piece = arena.take(chunkHeaderSize(style) + 6 + text.length);
  const { bytes } = piece.slab;
  const at = putChunk(bytes, piece.start, request, style, ReplyType.error, ReplyFlag.done, 6 + text.length);
  putU32(bytes, at, error);
  putU16(bytes, at + 4, text.length);
  bytes.set(text, at + 6);
  return piece;
}

/** The status of one context in a block status reply: descriptors of [length, flags]. */
export interface ContextStatus {
  readonly id: number;
  readonly descriptors: readonly (readonly [length: number, flags: number])[];
}

/** A block status reply: one chunk for each context ([NBD], [EXT] "Structured reply types"). */
export function blockStatusReply(
  arena: Arena,
  request: Request,
  style: ChunkStyle,
  contexts: readonly ContextStatus[],
): Piece {
  const wide = style === 'extended';
  const header = chunkHeaderSize(style);
  const sizes = contexts.map(({ descriptors: { length } }) => (wide ? 8 + 16 * length : 4 + 8 * length));
  const piece = arena.take(sizes.reduce((sum, size) => sum + header + size, 0));
  const { bytes } = piece.slab;
  const type = wide ? ReplyType.blockStatusExtended : ReplyType.blockStatus;
  let at = piece.start;
  contexts.forEach(({ id, descriptors }, i) => {
    const flags = i === contexts.length - 1 ? ReplyFlag.done : 0;
    at = putChunk(bytes, at, request, style, type, flags, sizes[i]!);
    putU32(bytes, at, id);
    at += 4;
    if (wide) {
      putU32(bytes, at, descriptors.length);
      at += 4;
    }
    for (const [length, status] of descriptors) {
      if (wide) {
        putU64(bytes, at, length);
        putU64(bytes, at + 8, status);
        at += 16;
      } else {
        putU32(bytes, at, length);
        putU32(bytes, at + 4, status);
        at += 8;
      }
    }
  });
  return piece;
}

/**
 * Converts extents to `base:allocation` descriptors of a range: clips them to it and joins adjacent
 * ones of the same kind.
 */
export function allocationOf(
  extents: readonly Extent[],
  offset: number,
  length: number,
  one: boolean,
): [number, number][] {
  const descriptors: [number, number][] = [];
  const end = offset + length;
  let at = offset;
  for (const extent of extents) {
    const covered = Math.min(extent.offset + extent.length, end) - at;
    if (extent.offset > at) break;
    if (covered <= 0) continue;
    const flags = (extent.hole ? AllocationFlag.hole : 0) | (extent.zero ? AllocationFlag.zero : 0);
    const last = descriptors.at(-1);
    if (last?.[1] === flags) {
      last[0] += covered;
    } else {
      if (descriptors.length >= (one ? 1 : maxDescriptors)) break;
      descriptors.push([covered, flags]);
    }
    at += covered;
  }
  // A device that does not know its extents returns none: report data.
  if (descriptors.length === 0) descriptors.push([length, 0]);
  return descriptors;
}

function simpleReply(arena: Arena, request: Request, error: number): Piece {
  const piece = arena.take(SIMPLE_REPLY_SIZE);
  putSimple(piece.slab.bytes, piece.start, request, error);
  return piece;
}

function putSimple(bytes: Uint8Array, at: number, request: Request, error: number): void {
  putU32(bytes, at, NBD_SIMPLE_REPLY_MAGIC);
  putU32(bytes, at + 4, error);
  putU32(bytes, at + 8, request.cookieHigh);
  putU32(bytes, at + 12, request.cookieLow);
}

/** Writes a chunk's header. Returns the index after it. */
function putChunk(
  bytes: Uint8Array,
  at: number,
  request: Request,
  style: ChunkStyle,
  type: number,
  flags: number,
  length: number,
): number {
  putU16(bytes, at + 4, flags);
  putU16(bytes, at + 6, type);
  putU32(bytes, at + 8, request.cookieHigh);
  putU32(bytes, at + 12, request.cookieLow);
  if (style === 'structured') {
    putU32(bytes, at, NBD_STRUCTURED_REPLY_MAGIC);
    putU32(bytes, at + 16, length);
    return at + STRUCTURED_REPLY_SIZE;
  }
  putU32(bytes, at, NBD_EXTENDED_REPLY_MAGIC);
  putU32(bytes, at + 16, request.offsetHigh);
  putU32(bytes, at + 20, request.offsetLow);
  putU64(bytes, at + 24, length);
  return at + EXTENDED_HEADER_SIZE;
}
