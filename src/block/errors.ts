/**
 * Errors of block requests: a small set of kinds. Each protocol and system call maps its own codes
 * to them.
 */
import { errnoOf, messageOf } from '../base/errors.js';

/**
 * The kind of a failure.
 * - `io`: the medium, or the path to it, failed. After a failed write the content of its blocks is
 *   unknown.
 * - `no-space`: there is no space for the written blocks.
 * - `read-only`: the device takes no writes.
 * - `range`: offset or length is outside of the device or not aligned to its blocks.
 * - `unsupported`: the device cannot do this kind of request.
 * - `unreachable`: the remote device could not be reached within its time limit.
 * - `no-medium`: the drive is empty, or has another medium than the request is meant for.
 * - `aborted`: the caller aborted the request; it has no effect from now on.
 * - `closed`: the device is closed.
 */
export type BlockErrorKind =
  'io' | 'no-space' | 'read-only' | 'range' | 'unsupported' | 'unreachable' | 'no-medium' | 'aborted' | 'closed';

/** The error of a request to a block device. Code decides by `kind`, never by the message. */
export class BlockError extends Error {
  /** The name of the class. */
  override readonly name = 'BlockError';
  /** Why the request failed. */
  readonly kind: BlockErrorKind;

  constructor(kind: BlockErrorKind, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.kind = kind;
  }
}

const byErrno: Readonly<Record<string, BlockErrorKind>> = {
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
  EFBIG: 'no-space',
  EROFS: 'read-only',
  EPERM: 'read-only',
  EBADF: 'closed',
  EINVAL: 'range',
  EOPNOTSUPP: 'unsupported',
  ENOTSUP: 'unsupported',
  ENOSYS: 'unsupported',
  ENOMEDIUM: 'no-medium',
  ENOTCONN: 'unreachable',
  ECONNRESET: 'unreachable',
  ETIMEDOUT: 'unreachable',
};

/** The error of a request that its caller has aborted. */
export function abortedError(cause?: unknown): BlockError {
  return new BlockError('aborted', 'given up', cause === undefined ? undefined : { cause });
}

/** The error of requests to a device that has been closed. */
export function closedError(): BlockError {
  return new BlockError('closed', 'the device is closed');
}

/**
 * Any error as a {@link BlockError}: a BlockError itself, else by its errno code, else kind `io`.
 */
export function blockErrorOf(error: unknown): BlockError {
  if (error instanceof BlockError) return error;
  const kind = byErrno[errnoOf(error) ?? ''] ?? 'io';
  return new BlockError(kind, messageOf(error), { cause: error });
}

/**
 * Kinds of failure that concern some blocks only: other blocks, or a part of the request, may
 * succeed.
 */
const localKinds: ReadonlySet<BlockErrorKind> = new Set(['io', 'no-space', 'range', 'unsupported']);

/**
 * True if a part of the failed request may succeed. False if the whole device failed or the caller
 * aborted.
 */
export function isLocal(error: unknown): boolean {
  return localKinds.has(blockErrorOf(error).kind);
}
