/**
 * The numbers of the NBD protocol. All integers on the wire are big-endian.
 *
 * Sources: doc/proto.md of the NBD project ("[NBD] section") and the same file on its branch
 * extension-ext-header ("[EXT] section").
 *
 * Not here: the code that sends and parses them (initiator/, target/). NBD_CMD_RESIZE (branch
 * extension-resize) is not supported; only its number is listed.
 */

/** [NBD] "Newstyle negotiation": first word of the server's greeting. */
export const NBD_MAGIC = 0x4e42444d41474943n;
/** [NBD] "Newstyle negotiation": "IHAVEOPT", in the newstyle greeting and before each option. */
export const NBD_OPTION_MAGIC = 0x49484156454f5054n;
/** [NBD] "Oldstyle negotiation". A server that sends it is refused. */
export const NBD_OLDSTYLE_MAGIC = 0x00420281861253n;
/** [NBD] "Fixed newstyle negotiation": magic of each reply to an option. */
export const NBD_OPTION_REPLY_MAGIC = 0x3e889045565a9n;

/** [NBD] "Transmission phase", "Request message". */
export const NBD_REQUEST_MAGIC = 0x25609513;
/** [NBD] "Simple reply message". */
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
/** [NBD] "Structured reply chunk message". */
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** [EXT] "Request message": magics of extended headers, which are 32 bytes in both directions. */
export const NBD_EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const NBD_EXTENDED_REPLY_MAGIC = 0x6e8a278c;
export const EXTENDED_HEADER_SIZE = 32;

export const REQUEST_HEADER_SIZE = 28;
export const SIMPLE_REPLY_SIZE = 16;
export const STRUCTURED_REPLY_SIZE = 20;

/** [NBD] "Handshake flags". */
export const HandshakeFlag = { fixedNewstyle: 1 << 0, noZeroes: 1 << 1 } as const;

/** [NBD] "Transmission flags". */
export const TransmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendResize: 1 << 9,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
  /** [EXT] A block status request may list the contexts that it asks for. */
  blockStatusPayload: 1 << 12,
} as const;

/** [NBD] "Option types". */
export const Option = {
  exportName: 1,
  abort: 2,
  list: 3,
  starttls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

const errorBit = 0x80000000;
/** [NBD] "Option reply types". */
export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: errorBit + 1,
  errPolicy: errorBit + 2,
  errInvalid: errorBit + 3,
  errPlatform: errorBit + 4,
  errTlsRequired: errorBit + 5,
  errUnknown: errorBit + 6,
  errShutdown: errorBit + 7,
  errBlockSizeRequired: errorBit + 8,
  errTooBig: errorBit + 9,
  errExtendedHeadersRequired: errorBit + 10,
} as const;

/** [NBD] "NBD_INFO_*", in replies to NBD_OPT_INFO and NBD_OPT_GO. */
export const Info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** [NBD] "Request types". */
export const NbdCommand = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
  resize: 8,
  /**
   * Our extension, used if {@link mediaContext} was negotiated. The offset field holds a {@link
   * MediaAction}; length is 0 and there is no data.
   */
  media: 0xfb01,
} as const;

/** [NBD] "Command flags". */
export const CommandFlag = {
  fua: 1 << 0,
  noHole: 1 << 1,
  df: 1 << 2,
  reqOne: 1 << 3,
  fastZero: 1 << 4,
  payloadLength: 1 << 5,
} as const;

/** [NBD] "Structured reply flags". */
export const ReplyFlag = { done: 1 << 0 } as const;

const errorChunk = 1 << 15;
/** [NBD] "Structured reply types". */
export const ReplyType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  /** [EXT] Like `blockStatus`, with 64-bit descriptors. */
  blockStatusExtended: 6,
  error: errorChunk + 1,
  errorOffset: errorChunk + 2,
} as const;

/**
 * The framing of replies, and for 'extended' also of requests. Negotiated in the handshake; listed
 * from the oldest to the most capable.
 */
export type HeaderStyle = 'simple' | 'structured' | 'extended';

/** [NBD] "Error values". */
export const NbdError = {
  perm: 1,
  io: 5,
  noMemory: 12,
  invalid: 22,
  noSpace: 28,
  overflow: 75,
  notSupported: 95,
  shutdown: 108,
  /** Our extension, used if {@link mediaContext} was negotiated: Linux's ENOMEDIUM. */
  noMedium: 123,
} as const;

/** [NBD] "Metadata querying": the context that distinguishes holes from data, and its flags. */
export const baseAllocation = 'base:allocation';
export const AllocationFlag = { hole: 1 << 0, zero: 1 << 1 } as const;

/**
 * Our own metadata context ([NBD] "Metadata querying": each vendor defines its own namespace). It
 * prevents ghost writes: a write that is repeated on a new connection must not be overtaken by its
 * first copy on an older connection.
 *
 * An initiator asks for `farbus:session/UUID` when it connects. A server that knows the context
 * first finishes or drops every request that earlier connections of that session still have in
 * flight. Then it answers `farbus:session/UUID/STATE`. STATE identifies the lifetime of the
 * server's volatile write cache (on Linux the boot id): if it differs after a reconnect, unflushed
 * writes may be lost. The context has no block status and no flags.
 */
export const sessionContext = 'farbus:session/';

/**
 * A STATE that begins with this names storage that several servers (gateways) use, and not the
 * memory of one of them. Such a server keeps no acknowledged write in its own memory. Before it
 * admits a connection that may write, it makes sure that no write that another server of the same
 * STATE has received can take effect any more.
 */
export const sharedMemory = 'shared.';

/**
 * Our metadata context for a connection that changes nothing. A server that knows it refuses
 * changes on the connection, and admits it without taking the right to write from another one. The
 * context has no block status.
 */
export const readerContext = 'farbus:reader';
/** A session's name: a UUID in text form. */
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** True if `text` is a UUID in its usual form. */
export function isSessionId(text: string): boolean {
  return uuid.test(text);
}

/**
 * Our metadata context for exports with a removable medium (docs/nbd.md, "Removable media").
 *
 * An initiator asks for `farbus:media`. A server whose export is such a drive answers
 * `farbus:media/MEDIUM`, where MEDIUM is the name of the inserted medium, or empty if the drive is
 * empty. From then on the connection refers to that medium only. If the medium is replaced or
 * removed, the server answers every request on the connection with `noMedium` and carries out none
 * of them. A client that wants the next medium opens a new connection.
 */
export const mediaContext = 'farbus:media';

/**
 * Our metadata context that identifies the disk behind an export, so that the initiator can detect
 * after a reconnect that another disk has taken the export's name.
 *
 * An initiator asks for `farbus:identity`. A server that knows the context answers
 * `farbus:identity/MARKS`, with MARKS in the form of block/identity.ts. The context has no block
 * status.
 */
export const identityContext = 'farbus:identity';

/** The actions of {@link NbdCommand.media}, in the request's offset field. */
export const MediaAction = {
  /**
   * Succeeds if the drive still has the medium that the connection refers to, or if both are "no
   * medium". Fails with `noMedium` otherwise.
   */
  check: 0,
  unlock: 1,
  lock: 2,
  eject: 3,
} as const;

/** True if `text` is a valid name of a medium. '' means that the drive is empty. */
export function isMediumName(text: string): boolean {
  return /^[A-Za-z0-9.-]{0,64}$/.test(text);
}

/** [NBD] "Values": the greatest length of a string, such as an export's name, in bytes. */
export const maxString = 4096;
/**
 * [NBD] "Block size constraints": every server must accept this payload, and no client may send
 * more unless the server has announced it. In bytes.
 */
export const defaultMaxPayload = 32 << 20;
/** The default TCP port, assigned by IANA ([NBD]). */
export const defaultPort = 10809;
