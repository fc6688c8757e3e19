/** Replies in the transmission phase ([NBD] "Simple reply message", "Structured reply chunk message"), as pieces to send. */
import type { Extent } from '../../../block/device.js';
import {
  AllocationFlag,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  ReplyFlag,
  ReplyType,
  SIMPLE_REPLY_SIZE,
  STRUCTURED_REPLY_SIZE,
} from '../spec.js';
import { encodeText, putU16, putU32, putU64 } from '../wire.js';
import type { Arena, Piece } from './memory.js';
import type { Request } from './requests.js';

/** Longest text that goes with an error, in bytes; [NBD] allows 4096. */
const maxErrorText = 512;
/** Most descriptors in a block status reply; [NBD] allows 2^20. */
const maxDescriptors = 8192;

/** Bytes in front of the data in a read's reply. */
export function readHeaderSize(structured: boolean): number {
  return structured ? STRUCTURED_REPLY_SIZE + 8 : SIMPLE_REPLY_SIZE;
}

/** Puts the header in front of a read's data, which fills the rest of the piece. */
export function putReadHeader(piece: Piece, request: Request, structured: boolean): void {
  const { bytes } = piece.slab;
  if (!structured) {
    putSimple(bytes, piece.start, request, 0);
    return;
  }
  const at = piece.start;
  putChunk(bytes, at, request, ReplyType.offsetData, ReplyFlag.done, 8 + request.length);
  putU64(bytes, at + STRUCTURED_REPLY_SIZE, request.offset);
}

/** Success or failure without data or text. */
export function simpleReply(arena: Arena, request: Request, error: number): Piece {
  const piece = arena.take(SIMPLE_REPLY_SIZE);
  putSimple(piece.slab.bytes, piece.start, request, error);
  return piece;
}

/** Success of a structured reply that has nothing to say. */
export function emptyReply(arena: Arena, request: Request): Piece {
  const piece = arena.take(STRUCTURED_REPLY_SIZE);
  putChunk(piece.slab.bytes, piece.start, request, ReplyType.none, ReplyFlag.done, 0);
  return piece;
}

/** Failure, with a text for a person. */
export function errorReply(arena: Arena, request: Request, error: number, message: string): Piece {
  const text = encodeText(message, maxErrorText);
  const piece = arena.take(STRUCTURED_REPLY_SIZE + 6 + text.length);
  const { bytes } = piece.slab;
  putChunk(bytes, piece.start, request, ReplyType.error, ReplyFlag.done, 6 + text.length);
  const at = piece.start + STRUCTURED_REPLY_SIZE;
  putU32(bytes, at, error);
  putU16(bytes, at + 4, text.length);
  bytes.set(text, at + 6);
  return piece;
}

/** One context's answer to a block status request: descriptors of [length, flags]. */
export interface ContextStatus {
  readonly id: number;
  readonly descriptors: readonly (readonly [length: number, flags: number])[];
}

/** The chunks of a block status reply, one for each context ([NBD] NBD_REPLY_TYPE_BLOCK_STATUS). */
export function blockStatusReply(arena: Arena, request: Request, contexts: readonly ContextStatus[]): Piece {
  const sizes = contexts.map(({ descriptors }) => 4 + 8 * descriptors.length);
  const piece = arena.take(sizes.reduce((sum, size) => sum + STRUCTURED_REPLY_SIZE + size, 0));
  const { bytes } = piece.slab;
  let at = piece.start;
  contexts.forEach(({ id, descriptors }, i) => {
    const flags = i === contexts.length - 1 ? ReplyFlag.done : 0;
    putChunk(bytes, at, request, ReplyType.blockStatus, flags, sizes[i]!);
    putU32(bytes, at + STRUCTURED_REPLY_SIZE, id);
    at += STRUCTURED_REPLY_SIZE + 4;
    for (const [length, status] of descriptors) {
      putU32(bytes, at, length);
      putU32(bytes, at + 4, status);
      at += 8;
    }
  });
  return piece;
}

/** Extents as `base:allocation` descriptors of the request's range: clipped to it, neighbours of one kind joined. */
export function allocationOf(extents: readonly Extent[], request: Request, one: boolean): [number, number][] {
  const descriptors: [number, number][] = [];
  const end = request.offset + request.length;
  let at = request.offset;
  for (const extent of extents) {
    const length = Math.min(extent.offset + extent.length, end) - at;
    if (extent.offset > at) break;
    if (length <= 0) continue;
    const flags = (extent.hole ? AllocationFlag.hole : 0) | (extent.zero ? AllocationFlag.zero : 0);
    const last = descriptors.at(-1);
    if (last?.[1] === flags) {
      last[0] += length;
    } else {
      if (descriptors.length >= (one ? 1 : maxDescriptors)) break;
      descriptors.push([length, flags]);
    }
    at += length;
  }
  // A device that does not know says so by saying nothing: data.
  if (descriptors.length === 0) descriptors.push([request.length, 0]);
  return descriptors;
}

function putSimple(bytes: Uint8Array, at: number, request: Request, error: number): void {
  putU32(bytes, at, NBD_SIMPLE_REPLY_MAGIC);
  putU32(bytes, at + 4, error);
  putU32(bytes, at + 8, request.cookieHigh);
  putU32(bytes, at + 12, request.cookieLow);
}

function putChunk(bytes: Uint8Array, at: number, request: Request, type: number, flags: number, length: number): void {
  putU32(bytes, at, NBD_STRUCTURED_REPLY_MAGIC);
  putU16(bytes, at + 4, flags);
  putU16(bytes, at + 6, type);
  putU32(bytes, at + 8, request.cookieHigh);
  putU32(bytes, at + 12, request.cookieLow);
  putU32(bytes, at + 16, length);
}
