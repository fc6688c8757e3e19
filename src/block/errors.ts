/** Errors of block requests: one small set of kinds, translated at each border (errno, NBD error, NVMe status). */
import { errnoOf, messageOf } from '../base/errors.js';

/**
 * What went wrong with a request.
 * - `io`: the medium or the way to it failed; nothing is known of the blocks of a failed write.
 * - `no-space`: there is no room for the written blocks.
 * - `read-only`: the device takes no writes.
 * - `range`: offset or length outside the device or not aligned as it demands.
 * - `unsupported`: the device cannot do this kind of request.
 * - `unreachable`: the far device could not be reached within the time set for it.
 * - `no-medium`: a removable device has no medium, or another than was meant.
 * - `aborted`: given up at the caller's wish; it will not take effect any more.
 * - `closed`: the device is closed.
 */
export type BlockErrorKind =
  'io' | 'no-space' | 'read-only' | 'range' | 'unsupported' | 'unreachable' | 'no-medium' | 'aborted' | 'closed';

export class BlockError extends Error {
  override readonly name = 'BlockError';
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

/** Any error as a {@link BlockError}: itself, or by its errno, else kind `io`. */
export function blockErrorOf(error: unknown): BlockError {
  if (error instanceof BlockError) return error;
  const kind = byErrno[errnoOf(error) ?? ''] ?? 'io';
  return new BlockError(kind, messageOf(error), { cause: error });
}

/** Kinds of failure of one block or one request: other blocks, or a part of the request, may do better. */
const localKinds: ReadonlySet<BlockErrorKind> = new Set(['io', 'no-space', 'range', 'unsupported']);

/** Whether a request that failed so may succeed in part. False where the whole device failed or the caller gave up. */
export function isLocal(error: unknown): boolean {
  return localKinds.has(blockErrorOf(error).kind);
}
