/** An SFTP server's status answers, as this project's errors ([SFTP] 7). */
import { BlockError, type BlockErrorKind } from '../../block/errors.js';
import { printable } from '../../base/printable.js';
import { Packet, Status } from './spec.js';
import type { Answer } from './connection.js';
import { SftpProtocolError } from './wire.js';

export interface StatusAnswer {
  readonly code: number;
  /** The server's words. */
  readonly text: string;
}

/** The status that an answer is, or undefined where it is something else. */
export function statusOf({ type, fields }: Answer): StatusAnswer | undefined {
  if (type !== Packet.status) return undefined;
  const code = fields.u32();
  // Some servers leave the words out.
  return { code, text: fields.left > 0 ? printable(fields.text()) : '' };
}

/** The status that an answer has to be. */
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
