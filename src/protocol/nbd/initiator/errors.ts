/** Errors between an NBD client and its server, as errors of this project. */
import { printable } from '../../../base/printable.js';
import { BlockError, type BlockErrorKind } from '../../../block/errors.js';
import { NbdError } from '../spec.js';

/** The peer violated the protocol. Its connection can no longer be trusted and is dropped. */
export class PeerError extends Error {
  override readonly name = 'PeerError';
}

/** Longest text from a server in a message, in characters. */
const maxText = 200;

/** Makes a server's text printable. */
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

/**
 * Converts a server's error value ([NBD] "Error values") to a BlockError. Values that the
 * specification does not list become `io`.
 */
export function replyError(value: number, text = ''): BlockError {
  const { kind, text: usual } = kinds[value] ?? { kind: 'io', text: `error ${value}` };
  return new BlockError(kind, `the server says: ${text === '' ? usual : text}`);
}
