/**
 * Formats of the options in the handshake and of their replies ([NBD] "Option types", "Option reply
 * types").
 */
import { Info, maxString, NBD_OPTION_REPLY_MAGIC, type HeaderStyle } from '../spec.js';
import { getU16, getU32, putBigU64, putU16, putU32, putU64 } from '../../../base/big-endian.js';
import { decodeString, encodeString } from '../text.js';
import { blockSizes, transmissionFlags, type TargetExport } from './export.js';
import type { Arena, Piece } from './memory.js';

const replyHeaderSize = 20;

/** Builds a reply to an option ([NBD] "Fixed newstyle negotiation"). */
export function optionReply(arena: Arena, option: number, type: number, ...parts: readonly Uint8Array[]): Piece {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const piece = arena.take(replyHeaderSize + length);
  const { bytes } = piece.slab;
  let at = piece.start;
  putBigU64(bytes, at, NBD_OPTION_REPLY_MAGIC);
  putU32(bytes, at + 8, option);
  putU32(bytes, at + 12, type);
  putU32(bytes, at + 16, length);
  at += replyHeaderSize;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return piece;
}

/** The data of NBD_OPT_INFO and NBD_OPT_GO. */
export interface InfoOption {
  readonly name: string;
  readonly requests: ReadonlySet<number>;
}

/** Parses the data of NBD_OPT_INFO or NBD_OPT_GO; undefined if it is malformed. */
export function parseInfo(data: Uint8Array): InfoOption | undefined {
  const name = parseString(data, 0);
  if (!name || name.end + 2 > data.length) return undefined;
  const count = getU16(data, name.end);
  if (data.length !== name.end + 2 + 2 * count) return undefined;
  const requests = new Set<number>();
  for (let i = 0; i < count; i++) requests.add(getU16(data, name.end + 2 + 2 * i));
  return { name: name.text, requests };
}

/** The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export interface MetaOption {
  readonly name: string;
  readonly queries: readonly string[];
}

/** Parses the data of NBD_OPT_{LIST,SET}_META_CONTEXT; undefined if it is malformed. */
export function parseMeta(data: Uint8Array): MetaOption | undefined {
  const name = parseString(data, 0);
  if (!name || name.end + 4 > data.length) return undefined;
  const count = getU32(data, name.end);
  let at = name.end + 4;
  // Each query takes at least four bytes: reject an impossible count before looping over it.
  if (count * 4 > data.length - at) return undefined;
  const queries: string[] = [];
  for (let i = 0; i < count; i++) {
    const query = parseString(data, at);
    if (!query?.text.includes(':')) return undefined;
    queries.push(query.text);
    at = query.end;
  }
  return at === data.length ? { name: name.text, queries } : undefined;
}

/** Parses the data of NBD_OPT_EXPORT_NAME: an export's name without a length. */
export function parseName(data: Uint8Array): string | undefined {
  return data.length > maxString ? undefined : decodeString(data);
}

function parseString(data: Uint8Array, at: number): { text: string; end: number } | undefined {
  if (at + 4 > data.length) return undefined;
  const length = getU32(data, at);
  const end = at + 4 + length;
  if (length > maxString || end > data.length) return undefined;
  const text = decodeString(data.subarray(at + 4, end));
  return text === undefined ? undefined : { text, end };
}

/** A string, preceded by its length. */
export function lengthAndString(text: string): Uint8Array {
  const string = encodeString(text);
  const bytes = new Uint8Array(4 + string.length);
  putU32(bytes, 0, string.length);
  bytes.set(string, 4);
  return bytes;
}

/** A metadata context in a reply: its id and its name. */
export function metaContext(id: number, name: string): Uint8Array {
  const string = encodeString(name);
  const bytes = new Uint8Array(4 + string.length);
  putU32(bytes, 0, id);
  bytes.set(string, 4);
  return bytes;
}

/**
 * [NBD] NBD_INFO_EXPORT. Without its first two bytes (the type) it is the reply to
 * NBD_OPT_EXPORT_NAME.
 */
export function exportInfo(of: TargetExport, style: HeaderStyle, contexts: boolean): Uint8Array {
  const bytes = new Uint8Array(12);
  putU16(bytes, 0, Info.export);
  putU64(bytes, 2, of.device.info.size);
  putU16(bytes, 10, transmissionFlags(of, style, contexts));
  return bytes;
}

/** The replies that tell a client about an export, with what it asked for. */
export function infosOf(
  of: TargetExport,
  asked: InfoOption['requests'],
  style: HeaderStyle,
  contexts: boolean,
): Uint8Array[] {
  const infos = [exportInfo(of, style, contexts)];
  if (asked.has(Info.name)) infos.push(textInfo(Info.name, of.name));
  if (asked.has(Info.description) && of.description !== '') infos.push(textInfo(Info.description, of.description));
  if (asked.has(Info.blockSize)) infos.push(blockSizeInfo(of));
  return infos;
}

/** [NBD] NBD_INFO_BLOCK_SIZE. */
function blockSizeInfo(of: TargetExport): Uint8Array {
  const { minimum, preferred, maximum } = blockSizes(of);
  const bytes = new Uint8Array(14);
  putU16(bytes, 0, Info.blockSize);
  putU32(bytes, 2, minimum);
  putU32(bytes, 6, preferred);
  putU32(bytes, 10, maximum);
  return bytes;
}

/** [NBD] NBD_INFO_NAME or NBD_INFO_DESCRIPTION. */
function textInfo(type: number, text: string): Uint8Array {
  const string = encodeString(text);
  const bytes = new Uint8Array(2 + string.length);
  putU16(bytes, 0, type);
  bytes.set(string, 2);
  return bytes;
}
