/** What can go wrong between an NBD client and its server, as this project's errors. */
import { printable } from '../../../base/printable.js';
import { BlockError, type BlockErrorKind } from '../../../block/errors.js';
import { NbdError } from '../spec.js';

/** The peer broke the protocol: its connection cannot be trusted any more and is dropped. */
export class PeerError extends Error {
  override readonly name = 'PeerError';
}

/** Longest text of a server's in a message, in characters. */
const maxText = 200;

/** A server's text for a person. */
export function serverText(bytes: Uint8Array | string): string {
  return printable(typeof bytes === 'string' ? bytes : new TextDecoder().decode(bytes), maxText);
}

const kinds: Readonly<Record<number, { kind: BlockErrorKind; text: string }>> = {
  [NbdError.perm]: { kind: 'read-only', text: 'not permitted' },
  [NbdError.io]: { kind: 'io', text: 'input/output error' },
  [NbdError.noMemory]: { kind: 'io', text: 'the server is out of memory' },
  [NbdError.invalid]: { kind: 'range', text: 'invalid request' },
  [NbdError.noSpace]: { kind: 'no-space', text: 'no space left' },
  [NbdError.overflow]: { kind: 'range', text: 'request too long' },
  [NbdError.noMedium]: { kind: 'no-medium', text: 'no medium' },
  [NbdError.notSupported]: { kind: 'unsupported', text: 'not supported' },
};

/** A server's error reply ([NBD] "Error values") as a BlockError; a value that is not in the specification counts as `io`. */
export function replyError(value: number, text = ''): BlockError {
  const { kind, text: usual } = kinds[value] ?? { kind: 'io', text: `error ${value}` };
  return new BlockError(kind, `the server says: ${text === '' ? usual : text}`);
}
