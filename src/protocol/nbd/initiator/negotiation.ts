/**
 * The client's side of the handshake: newstyle and fixed newstyle. It asks for extended headers,
 * else for structured replies, then for metadata contexts, and continues without those that the
 * server lacks.
 *
 * It is a generator without input or output: it yields the number of bytes that it needs next, and
 * is resumed with exactly those (handshake-feed.ts).
 *
 * Sources: [NBD] "Newstyle negotiation", "Option types", "Option reply types", "TLS support"; [EXT]
 * NBD_OPT_EXTENDED_HEADERS. Not here: oldstyle.
 */
import { FarbusError } from '../../../base/errors.js';
import { parseIdentity, type DiskMarks } from '../../../block/identity.js';
import {
  HandshakeFlag,
  Info,
  NBD_MAGIC,
  NBD_OLDSTYLE_MAGIC,
  NBD_OPTION_MAGIC,
  NBD_OPTION_REPLY_MAGIC,
  Option,
  OptionReply,
  baseAllocation,
  identityContext,
  isMediumName,
  maxString,
  mediaContext,
  readerContext,
  sessionContext,
  type HeaderStyle,
} from '../spec.js';
import { getBigU64, getU16, getU32, putBigU64, putU16, putU32 } from '../../../base/big-endian.js';
import { decodeString, encodeString } from '../text.js';
import { PeerError, serverText } from './errors.js';

export interface Wish {
  readonly exportName: string;
  /** Id of our session, a UUID (sessionContext in spec.ts). */
  readonly session: string;
  /** True if nothing will be changed on the connection (readerContext in spec.ts). */
  readonly reader?: boolean;
}

/** The result of the handshake: the facts that the server offers on this connection. */
export interface Negotiated {
  /** In bytes. */
  readonly size: number;
  /** [NBD] "Transmission flags". */
  readonly flags: number;
  readonly style: HeaderStyle;
  /** In bytes; undefined if the server does not say ([NBD] NBD_INFO_BLOCK_SIZE). */
  readonly minBlock?: number;
  readonly preferredBlock?: number;
  readonly maxPayload?: number;
  /**
   * Id of base:allocation in block status replies; undefined if the server does not have this
   * context.
   */
  readonly allocationId?: number;
  /**
   * Identifies the lifetime of the server's volatile write cache. Set by servers that fence earlier
   * connections of the session.
   */
  readonly state?: string;
  /**
   * The medium that the connection refers to (mediaContext in spec.ts); '' if the drive is empty;
   * undefined if the export has no removable medium.
   */
  readonly medium?: string;
  /**
   * The marks by which the export's disk is recognised, if the server reports them (identityContext
   * in spec.ts).
   */
  readonly marks?: DiskMarks;
}

/** A handshake in progress: returns its result, or throws PeerError or FarbusError. */
export type Handshake<T> = Generator<number, T, Uint8Array>;

interface OptionReplies {
  readonly replies: { readonly type: number; readonly data: Uint8Array }[];
  /** Set if the server refused the option. */
  readonly error?: { readonly type: number; readonly text: string };
}

/**
 * Longest option reply that is accepted, in bytes: a string of maximum length, and ample space for
 * other fields.
 */
const maxReply = 2 * maxString;
/** Most replies to one option. */
const maxReplies = 256;

/** Most export names in a message. */
const maxNames = 5;

const errorBit = 0x80000000;
const nothing = new Uint8Array(0);
const noServer = 'no greeting of an NBD server';

/** The result of the greeting. */
export interface Greeting {
  /** Fixed newstyle: the server accepts options other than NBD_OPT_EXPORT_NAME. */
  readonly fixed: boolean;
  readonly noZeroes: boolean;
}

/** Negotiates until transmission begins. `send` receives whole messages. */
export function* negotiate(wish: Wish, send: (bytes: Uint8Array) => void): Handshake<Negotiated> {
  return yield* negotiateExport(wish, send, yield* greet(send));
}

/**
 * Exchanges greetings and asks the server to start TLS. The handshake continues with {@link agree}
 * on the encrypted stream.
 * @throws FarbusError if the server refuses; nothing more is then sent without TLS ([NBD] "Protocol
 *   downgrade attacks")
 */
export function* startTls(send: (bytes: Uint8Array) => void): Handshake<Greeting> {
  const greeting = yield* greet(send);
  if (!greeting.fixed) throw new FarbusError('the server has no TLS: use nbd:// if that is all right');
  const { error } = yield* option(send, Option.starttls, nothing);
  if (!error) return greeting;
  send(optionBytes(Option.abort, nothing));
  const said = error.text === '' ? '' : ` (it says: ${error.text})`;
  throw new FarbusError(`the server refuses TLS: use nbd:// if that is all right${said}`);
}

function* greet(send: (bytes: Uint8Array) => void): Handshake<Greeting> {
  const hello = yield 16;
  const magic = getBigU64(hello, 8);
  if (getBigU64(hello, 0) !== NBD_MAGIC) throw new PeerError(noServer);
  if (magic === NBD_OLDSTYLE_MAGIC) {
    throw new FarbusError('the server speaks the outdated oldstyle NBD only: use a newer server');
  }
  if (magic !== NBD_OPTION_MAGIC) throw new PeerError(noServer);
  const serverFlags = getU16(yield 2, 0);
  const fixed = (serverFlags & HandshakeFlag.fixedNewstyle) !== 0;
  const noZeroes = (serverFlags & HandshakeFlag.noZeroes) !== 0;
  // Handshake flags have the same bits in both directions.
  send(u32Bytes(serverFlags & (HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes)));
  return { fixed, noZeroes };
}

/** Negotiates everything after the greeting, until transmission begins. */
export function* negotiateExport(
  wish: Wish,
  send: (bytes: Uint8Array) => void,
  { fixed, noZeroes }: Greeting,
): Handshake<Negotiated> {
  if (!fixed) return yield* byExportName(wish, send, noZeroes, 'simple');

  const style = yield* selectStyle(send);
  const contexts = style === 'simple' ? {} : yield* selectContexts(wish, send);
  const go = yield* option(send, Option.go, goData(wish.exportName));
  if (go.error?.type === OptionReply.errUnsupported && style !== 'extended') {
    return { ...(yield* byExportName(wish, send, noZeroes, style)), ...contexts };
  }
  if (go.error?.type === OptionReply.errUnknown) {
    throw refuse(wish.exportName, go.error, send, yield* exportNames(send));
  }
  if (go.error) throw refuse(wish.exportName, go.error, send);
  return { ...exportInfo(go), style, ...contexts };
}

/**
 * Asks for the names of the server's exports, for a message: a few, or none. The handshake cannot
 * continue afterwards.
 */
function* exportNames(send: (bytes: Uint8Array) => void): Handshake<string[]> {
  try {
    const { replies } = yield* option(send, Option.list, nothing);
    const names = replies.map(({ type, data }) => {
      if (type !== OptionReply.server || data.length < 4 || getU32(data, 0) > data.length - 4) return '';
      return serverText(data.subarray(4, 4 + getU32(data, 0)));
    });
    return names.filter((name) => name !== '').slice(0, maxNames);
  } catch (error) {
    if (error instanceof PeerError) return [];
    throw error;
  }
}

/** The best header style that the server has. */
function* selectStyle(send: (bytes: Uint8Array) => void): Handshake<HeaderStyle> {
  if (!(yield* option(send, Option.extendedHeaders, nothing)).error) return 'extended';
  return (yield* option(send, Option.structuredReply, nothing)).error ? 'simple' : 'structured';
}

/**
 * Selects the export by NBD_OPT_EXPORT_NAME, for old servers, which refuse by closing the
 * connection.
 */
function* byExportName(
  wish: Wish,
  send: (bytes: Uint8Array) => void,
  noZeroes: boolean,
  style: HeaderStyle,
): Handshake<Negotiated> {
  send(optionBytes(Option.exportName, encodeString(wish.exportName)));
  const reply = yield 10;
  const exportFacts = { size: sizeOf(reply, 0), flags: getU16(reply, 8), style };
  if (!noZeroes) yield 124;
  return exportFacts;
}

/** Sends an option and collects its replies up to the final one. */
function* option(send: (bytes: Uint8Array) => void, code: number, data: Uint8Array): Handshake<OptionReplies> {
  send(optionBytes(code, data));
  const replies: OptionReplies['replies'] = [];
  for (;;) {
    const head = yield 20;
    if (getBigU64(head, 0) !== NBD_OPTION_REPLY_MAGIC) throw new PeerError('something that is not an option reply');
    if (getU32(head, 8) !== code) throw new PeerError('a reply to an option that was not sent');
    const type = getU32(head, 12);
    const length = getU32(head, 16);
    if (length > maxReply) throw new PeerError('an option reply that is too long');
    const body = length > 0 ? yield length : nothing;
    if (type === OptionReply.ack) return { replies };
    if (type >= errorBit) {
      const error = { type, text: serverText(body) };
      // Both errors end the handshake. Without TLS no other option is allowed. A server that shuts
      // down, or that cannot fence the session's earlier connection yet, must be left alone ([NBD]
      // "Termination of the session").
      if (type === OptionReply.errTlsRequired || type === OptionReply.errShutdown) throw refuse('', error, send);
      return { replies, error };
    }
    if (replies.length >= maxReplies) throw new PeerError('too many replies to one option');
    replies.push({ type, data: body.slice() });
  }
}

function* selectContexts(
  wish: Wish,
  send: (bytes: Uint8Array) => void,
): Handshake<Pick<Negotiated, 'allocationId' | 'state' | 'medium' | 'marks'>> {
  const ours = sessionContext + wish.session;
  const queries = [baseAllocation, ours, mediaContext, identityContext, ...(wish.reader ? [readerContext] : [])];
  const parts = [stringBytes(wish.exportName), u32Bytes(queries.length), ...queries.map(stringBytes)];
  const { replies, error } = yield* option(send, Option.setMetaContext, joined(parts));
  if (error) return {};
  const found: { allocationId?: number; state?: string; medium?: string; marks?: DiskMarks } = {};
  for (const { type, data } of replies) {
    if (type !== OptionReply.metaContext || data.length < 4)
      throw new PeerError('an unfit reply to a choice of contexts');
    const name = decodeString(data.subarray(4));
    if (name === baseAllocation) found.allocationId = getU32(data, 0);
    if (name?.startsWith(`${ours}/`)) found.state = name.slice(ours.length + 1);
    if (name?.startsWith(`${identityContext}/`)) {
      const identity = parseIdentity(name.slice(identityContext.length + 1));
      if (identity) found.marks = identity.marks;
    }
    if (name?.startsWith(`${mediaContext}/`)) {
      found.medium = name.slice(mediaContext.length + 1);
      if (!isMediumName(found.medium)) throw new PeerError('a medium without a proper name');
    }
  }
  return found;
}

/** Parses the replies to NBD_OPT_GO. */
function exportInfo({ replies }: OptionReplies): Omit<Negotiated, 'style'> {
  let exportFacts: Pick<Negotiated, 'size' | 'flags'> | undefined;
  let sizes: Pick<Negotiated, 'minBlock' | 'preferredBlock' | 'maxPayload'> = {};
  for (const { type, data } of replies) {
    if (type !== OptionReply.info || data.length < 2) throw new PeerError('an unfit reply to the choice of the export');
    const kind = getU16(data, 0);
    if (kind === Info.export) {
      if (data.length !== 12) throw new PeerError('facts of the export in a wrong length');
      exportFacts = { size: sizeOf(data, 2), flags: getU16(data, 10) };
    } else if (kind === Info.blockSize) {
      if (data.length !== 14) throw new PeerError('block sizes in a wrong length');
      sizes = { minBlock: getU32(data, 2), preferredBlock: getU32(data, 6), maxPayload: getU32(data, 10) };
    }
  }
  if (!exportFacts) throw new PeerError('an agreement without the facts of the export');
  return { ...exportFacts, ...sizes };
}

/** Ends the handshake properly with NBD_OPT_ABORT; returns the error for people. */
function refuse(
  exportName: string,
  { type, text }: { type: number; text: string },
  send: (bytes: Uint8Array) => void,
  names: readonly string[] = [],
): FarbusError {
  send(optionBytes(Option.abort, nothing));
  const said = text === '' ? '' : ` (it says: ${text})`;
  switch (type) {
    case OptionReply.errTlsRequired:
      return new FarbusError(`the server demands TLS: write nbds:// (or nbds+unix://) and how to trust it${said}`);
    case OptionReply.errUnknown:
      if (names.length > 0) {
        const list = names.map((name) => `"${name}"`).join(', ');
        return new FarbusError(`the server has no export "${serverText(exportName)}": it has ${list}`);
      }
      return new FarbusError(`the server has no export "${serverText(exportName)}": check its name${said}`);
    case OptionReply.errPolicy:
      return new FarbusError(`the server does not allow it: ask who runs it${said}`);
    case OptionReply.errShutdown:
      return new FarbusError(`the server takes no clients now: try again later${said}`);
    default:
      return new FarbusError(
        `the server refuses export "${serverText(exportName)}" with error ${type - errorBit}${said || ': see its log'}`,
      );
  }
}

function sizeOf(bytes: Uint8Array, at: number): number {
  const size = getBigU64(bytes, at);
  if (size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FarbusError(`the export has ${size} bytes: more than 2^53 are not supported`);
  }
  return Number(size);
}

function goData(exportName: string): Uint8Array {
  // One information request: block sizes.
  return joined([stringBytes(exportName), u16Bytes(1), u16Bytes(Info.blockSize)]);
}

function optionBytes(code: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  putBigU64(bytes, 0, NBD_OPTION_MAGIC);
  putU32(bytes, 8, code);
  putU32(bytes, 12, data.length);
  bytes.set(data, 16);
  return bytes;
}

function stringBytes(text: string): Uint8Array {
  const bytes = encodeString(text);
  return joined([u32Bytes(bytes.length), bytes]);
}

function u16Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(2);
  putU16(bytes, 0, value);
  return bytes;
}

function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  putU32(bytes, 0, value);
  return bytes;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
