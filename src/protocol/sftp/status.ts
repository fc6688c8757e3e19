/** Converts an SFTP server's status answers ([SFTP] 7) to errors of this project. */
import { BlockError, type BlockErrorKind } from '../../block/errors.js';
import { printable } from '../../base/printable.js';
import { Packet, Status } from './spec.js';
import type { Answer } from './connection.js';
import { SftpProtocolError } from './wire.js';

export interface StatusAnswer {
  readonly code: number;
  /** The server's error message. */
  readonly text: string;
}

/** Parses a status answer. Undefined if the answer is of another type. */
export function statusOf({ type, fields }: Answer): StatusAnswer | undefined {
  if (type !== Packet.status) return undefined;
  const code = fields.u32();
  // Some servers omit the message.
  return { code, text: fields.left > 0 ? printable(fields.text()) : '' };
}

/** Parses an answer that must be a status. */
export function expectStatus(answer: Answer): StatusAnswer {
  const status = statusOf(answer);
  if (!status) throw new SftpProtocolError('the server gave an answer of the wrong kind');
  return status;
}

const kinds: Readonly<Record<number, BlockErrorKind>> = {
  [Status.permissionDenied]: 'read-only',
  [Status.unsupported]: 'unsupported',
};

export function statusError(what: string, { code, text }: StatusAnswer, fullDisk = false): BlockError {
  if (code === Status.eof)
    return new BlockError('io', `${what}: the device ended too early: is it smaller than it said?`);
  if (fullDisk) return new BlockError('no-space', `${what}: the disk there is full`);
  return new BlockError(kinds[code] ?? 'io', `${what}: the server says: ${text || `status ${code}`}`);
}
