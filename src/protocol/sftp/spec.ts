/**
 * Numbers of SFTP version 3, as far as reading and writing one file needs them. Sources:
 * draft-ietf-secsh-filexfer-02 ("[SFTP]" with its section) and OpenSSH's PROTOCOL file
 * ("[PROTOCOL]").
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

/** [SFTP] 6.3: flags of SSH_FXP_OPEN. */
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

/** [SFTP] 5: which attributes are present. */
export const AttrFlag = { size: 1, ids: 2, permissions: 4, times: 8 } as const;

/** The file type in the permissions, with POSIX values. */
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

/** [SFTP] 6.4: length of reads and writes that every server accepts, in bytes. */
export const safeLength = 32768;
/**
 * Longest read or write that is used if a server allows more, in bytes: OpenSSH's limit ([PROTOCOL]
 * 4.8; docs/notes/ssh.md, "SFTP").
 */
export const maxLength = 261120;
/**
 * Longest packet without file data that is accepted from a server, in bytes. Such packets hold
 * names and attributes.
 */
export const maxControl = 34000;
/** Longest handle ([SFTP] 6.3), in bytes. */
export const maxHandle = 256;
