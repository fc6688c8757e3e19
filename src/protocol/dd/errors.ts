/**
 * Converts messages of a server's dd and shell to errors of this project.
 *
 * These programs report a failure by an exit status and a text only, so here the text decides. The
 * texts are those of LC_ALL=C.
 */
import { FarbusError } from '../../base/errors.js';
import { BlockError, type BlockErrorKind } from '../../block/errors.js';
import { printable } from '../../base/printable.js';

const kinds: readonly (readonly [RegExp, BlockErrorKind])[] = [
  [/No space left on device|Disk quota exceeded|quota exceeded|File too large/i, 'no-space'],
  [/Read-only file system|Operation not permitted|Permission denied|write.protected/i, 'read-only'],
  [/No medium found|Device not configured|No such device/i, 'no-medium'],
];

/** The error of a command that dd did not carry out, from its exit status and its message. */
export function ddError(address: string, op: string, status: number, said: string): BlockError {
  const text = printable(said);
  if (status === 0 || /cannot skip|cannot seek|Invalid argument/i.test(text)) {
    return new BlockError(
      'io',
      `${address}: ${op}: the device ended too early: is it smaller than it said? ${text}`.trim(),
    );
  }
  const kind = kinds.find(([pattern]) => pattern.test(text))?.[1] ?? 'io';
  return new BlockError(kind, `${address}: ${op}: ${text || `dd failed with status ${status}`}`);
}

const advice: Readonly<Record<string, string>> = {
  nodd: 'the server has no dd: it cannot be used this way; try ssh+sftp://',
  missing: 'there is no such device or file on the server: check the path',
  denied: 'the server does not let this user read it: log in as another user, or add ?sudo=1',
  folder: 'it is a folder: give a file or a block device',
  kind: 'it is neither a file nor a block device',
};

/** The error for a script that could not start. */
export function startError(address: string, code: string, said: string): FarbusError {
  if (code === 'denied' && !/denied|not permitted/i.test(said))
    return new FarbusError(`cannot open ${address}: ${printable(said)}`, { kind: 'device' });
  const kind = code === 'nodd' ? 'method' : 'device';
  return new FarbusError(`cannot open ${address}: ${advice[code] ?? printable(`${code} ${said}`)}`, { kind });
}
