/**
 * Numbers of SFTP version 3. Sources: draft-ietf-secsh-filexfer-02 ("[SFTP]" with its section) and OpenSSH's PROTOCOL
 * file ("[PROTOCOL]"). Only what reading and writing one file needs.
 */

/** [SFTP] 3: packet types. */
export const Packet = {
  init: 1,
  version: 2,
  open: 3,
  close: 4,
  read: 5,
  write: 6,
  fstat: 8,
  realPath: 16,
  stat: 17,
  readLink: 19,
  status: 101,
  handle: 102,
  data: 103,
  name: 104,
  attrs: 105,
  extended: 200,
  extendedReply: 201,
} as const;

export const version = 3;

/** [SFTP] 6.3: flags of opening. */
export const OpenFlag = { read: 1, write: 2 } as const;

/** [SFTP] 7: status codes. */
export const Status = {
  ok: 0,
  eof: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  badMessage: 5,
  noConnection: 6,
  connectionLost: 7,
  unsupported: 8,
} as const;

/** [SFTP] 5: which attributes are there. */
export const AttrFlag = { size: 1, ids: 2, permissions: 4, times: 8 } as const;

/** The kind of a file in its permissions, as POSIX has it. */
export const FileType = {
  mask: 0o170000,
  block: 0o060000,
  character: 0o020000,
  folder: 0o040000,
  file: 0o100000,
} as const;

/** [PROTOCOL] 4: extensions of OpenSSH. */
export const Extension = {
  fsync: 'fsync@openssh.com',
  limits: 'limits@openssh.com',
  statFileSystem: 'fstatvfs@openssh.com',
} as const;

/** [SFTP] 6.4: a length that every server takes for reads and writes, in bytes. */
export const safeLength = 32768;
/** The longest that is used where a server allows more: what OpenSSH allows ([PROTOCOL] 4.8). */
export const maxLength = 261120;
/** Longest packet without file data that is taken from a server, in bytes: names and attributes. */
export const maxControl = 34000;
/** Longest handle ([SFTP] 6.3). */
export const maxHandle = 256;
