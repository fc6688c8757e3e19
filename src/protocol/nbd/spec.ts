/**
 * The NBD protocol's numbers. Source: doc/proto.md of the NBD project ("[NBD] section"), and the same file on its branch
 * extension-ext-header ("[EXT] section"). All integers on the wire are big-endian. Values only: who speaks them is in
 * initiator/ and target/. Of NBD_CMD_RESIZE (branch extension-resize) there is the number only.
 */

/** [NBD] "Newstyle negotiation": the server's greeting. */
export const NBD_MAGIC = 0x4e42444d41474943n;
/** [NBD] "Newstyle negotiation": "IHAVEOPT", greeting of newstyle and of each option. */
export const NBD_OPTION_MAGIC = 0x49484156454f5054n;
/** [NBD] "Oldstyle negotiation". Refused. */
export const NBD_OLDSTYLE_MAGIC = 0x00420281861253n;
/** [NBD] "Fixed newstyle negotiation": magic of an option's reply. */
export const NBD_OPTION_REPLY_MAGIC = 0x3e889045565a9n;

/** [NBD] "Transmission phase", "Request message". */
export const NBD_REQUEST_MAGIC = 0x25609513;
/** [NBD] "Simple reply message". */
export const NBD_SIMPLE_REPLY_MAGIC = 0x67446698;
/** [NBD] "Structured reply chunk message". */
export const NBD_STRUCTURED_REPLY_MAGIC = 0x668e33ef;

/** [EXT] "Request message": magics of extended headers, which have one size in both directions. */
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
  /** [EXT] A block status request may say which contexts it is about. */
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
export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
  resize: 8,
  /** Ours, where {@link mediaContext} was chosen: {@link MediaAction} in place of an offset, no length, no data. */
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
  /** [EXT] The same with 64-bit descriptors. */
  blockStatusExtended: 6,
  error: errorChunk + 1,
  errorOffset: errorChunk + 2,
} as const;

/** How replies are framed, and requests if it is 'extended': agreed on in the handshake, each style better than the one before. */
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
  /** Ours, where {@link mediaContext} was chosen: Linux's ENOMEDIUM. */
  noMedium: 123,
} as const;

/** [NBD] "Metadata querying": the context that tells holes from data, and its flags. */
export const baseAllocation = 'base:allocation';
export const AllocationFlag = { hole: 1 << 0, zero: 1 << 1 } as const;

/**
 * Our own metadata context ([NBD] "Metadata querying": a namespace is its vendor's to define). An initiator asks for
 * `farbus:session/UUID` when it connects; a server that knows it first finishes or drops whatever earlier connections
 * of that session still have under way, so that a write repeated on the new connection can never be overtaken by its
 * older self (no ghost write), and answers with `farbus:session/UUID/STATE`. STATE names the life of the server's memory
 * of unflushed writes (on Linux the boot id): if it is another after a reconnect, unflushed writes may be lost. The
 * context carries no block status and no flags.
 */
export const sessionContext = 'farbus:session/';
/** A session's name: a UUID as text. */
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether `text` is a UUID in its usual form. */
export function isSessionId(text: string): boolean {
  return uuid.test(text);
}

/**
 * Our metadata context of exports with a removable medium (docs/nbd.md, "Removable media"). An initiator asks for `farbus:media`; a server whose
 * export is such a drive answers `farbus:media/MEDIUM`: the name of the medium that is in it, nothing where there is none. The
 * connection is about that medium and no other. With another one in the drive, or none, every request on it is answered
 * with `noMedium`, and none has an effect; who wants the next medium makes a new connection.
 */
export const mediaContext = 'farbus:media';

/**
 * Our metadata context that tells which disk an export is. An initiator asks for `farbus:identity`; a server that knows it
 * answers `farbus:identity/MARKS`, MARKS as block/identity.ts writes them, so that the initiator can tell after a
 * reconnect whether another disk has the export's name. The context carries no block status.
 */
export const identityContext = 'farbus:identity';

/** What {@link Command.media} asks for. */
export const MediaAction = {
  /** Success while the drive has the medium that the connection is about, or still none; else `noMedium`. */
  check: 0,
  unlock: 1,
  lock: 2,
  eject: 3,
} as const;

/** Whether `text` can name a medium; '' names none. */
export function isMediumName(text: string): boolean {
  return /^[A-Za-z0-9.-]{0,64}$/.test(text);
}

/** [NBD] "Values": a string's greatest length in bytes; an export's name is one. */
export const maxString = 4096;
/** [NBD] "Block size constraints": what every server must take and no client exceed without asking. */
export const defaultMaxPayload = 32 << 20;
/** [NBD] default TCP port, IANA. */
export const defaultPort = 10809;
