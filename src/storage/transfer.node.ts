/**
 * Complete transfers between Buffers and a file descriptor: from the page cache, by io_uring, or on
 * Node's thread pool. Short reads and writes are continued. Memory that can move is copied through
 * a buffer of our own. A transfer that ends before its last byte is an error, never a success.
 *
 * Not here: the choice among these ways (descriptor.node.ts).
 */
import fs from 'node:fs';
import { constants } from 'node:os';
import type { Buffers } from '../base/buffers.js';
import { BlockError } from '../block/errors.js';
import { systemError } from '../linux/system-error.node.js';
import { maxAtOnce, type PageCache } from './page-cache.node.js';
import type { Uring } from './uring.node.js';

/** Length of a buffer of our own, in bytes, and the most that exist at once. */
const pieceSize = 1 << 20;
const maxPieces = 16;
/** Up to this length a buffer is allocated for the transfer instead, in bytes. */
const smallSize = 1 << 16;

const { EAGAIN, ECANCELED, EINTR, EINVAL, ENOMEM, EOPNOTSUPP } = constants.errno;
/** With these errors io_uring cannot do this read. They do not mean that the disk has failed. */
const unsuitable: readonly number[] = [EAGAIN, ECANCELED, EINTR, EINVAL, ENOMEM, EOPNOTSUPP];

/** fs.readv or fs.writev. */
type Vector = (
  fd: number,
  views: readonly NodeJS.ArrayBufferView[],
  position: number,
  done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
) => void;

/**
 * Synchronously reads the beginning of `into` that needs no disk, up to 2 MiB.
 * @returns the number of bytes read; the caller reads the rest in another way
 */
export function readWhatIsCached(cache: Pick<PageCache, 'read'>, offset: number, into: Buffers): number {
  const views = into.stable();
  let done = 0;
  for (const view of views ?? []) {
    const part = view.subarray(0, maxAtOnce - done);
    const count = cache.read(part, offset + done);
    done += count;
    if (count < view.length) break;
  }
  if (views) return done;
  scratch ??= Buffer.allocUnsafeSlow(pieceSize);
  while (done < Math.min(into.length, maxAtOnce)) {
    const piece = scratch.subarray(0, Math.min(pieceSize, into.length - done));
    const count = cache.read(piece, offset + done);
    into.copyFrom(piece.subarray(0, count), done);
    done += count;
    if (count < piece.length) break;
  }
  return done;
}

/** Scratch memory of {@link readWhatIsCached}; never in use across an `await`. */
let scratch: Uint8Array | undefined;

/**
 * Reads `into.length` bytes at `offset` by io_uring, if `into` is one range of memory that does not
 * move. Rejects with kind `io` if the file ends before.
 * @returns false if io_uring cannot do it: read all of it in another way
 */
export async function readThroughRing(ring: Uring, fd: number, offset: number, into: Buffers): Promise<boolean> {
  const views = into.stable();
  const view = views?.[0];
  if (!view || views.length > 1) return false;
  for (let done = 0; done < view.length;) {
    const rest = done === 0 ? view : view.subarray(done);
    const bytes = await new Promise<number | undefined>((resolve) => {
      if (!ring.read(fd, rest, offset + done, resolve)) resolve(undefined);
    });
    if (bytes === undefined || unsuitable.includes(-bytes)) return false;
    if (bytes === 0) throw shorter(offset + done);
    if (bytes < 0) throw systemError('read', -bytes);
    done += bytes;
  }
  return true;
}

/** The error of a request beyond the end of a file that has shrunk. */
export function shorter(at: number): BlockError {
  return new BlockError('io', `the file does not reach byte ${at}: it is shorter than when it was opened`);
}

/**
 * Reads `into.length` bytes at `offset` on the thread pool. Rejects with kind `io` if the file ends
 * before.
 */
export async function readAll(fd: number, offset: number, into: Buffers, signal?: AbortSignal): Promise<void> {
  const views = into.stable();
  if (views) return whole(fs.readv, fd, views, offset);
  await throughPieces(into.length, signal, async (piece, at) => {
    await whole(fs.readv, fd, [piece], offset + at);
    into.copyFrom(piece, at);
  });
}

/** Writes `from.length` bytes at `offset` on the thread pool. */
export async function writeAll(fd: number, offset: number, from: Buffers, signal?: AbortSignal): Promise<void> {
  const views = from.stable();
  if (views) return whole(fs.writev as Vector, fd, views, offset);
  await throughPieces(from.length, signal, async (piece, at) => {
    from.copyTo(piece, at);
    await whole(fs.writev as Vector, fd, [piece], offset + at);
  });
}

/** Calls `act` until every byte of `views` has been transferred. */
async function whole(act: Vector, fd: number, views: readonly Uint8Array[], offset: number): Promise<void> {
  let left = views.filter((view) => view.length > 0);
  for (let at = offset; left.length > 0;) {
    const bytes = await new Promise<number>((resolve, reject) =>
      act(fd, left, at, (error, count) => (error ? reject(error) : resolve(count))),
    );
    if (bytes === 0) throw shorter(at);
    at += bytes;
    left = without(left, bytes);
  }
}

/** `views` without their first `bytes` bytes. */
function without(views: Uint8Array[], bytes: number): Uint8Array[] {
  let first = 0;
  while (first < views.length && bytes >= views[first]!.length) bytes -= views[first++]!.length;
  const rest = views.slice(first);
  if (bytes > 0) rest[0] = rest[0]!.subarray(bytes);
  return rest;
}

/** Runs `act` for pieces of [0, length), one after another, each with a buffer of our own. */
async function throughPieces(
  length: number,
  signal: AbortSignal | undefined,
  act: (piece: Uint8Array, at: number) => Promise<void>,
): Promise<void> {
  if (length <= smallSize) return act(Buffer.allocUnsafe(length), 0);
  const piece = await pool.take();
  try {
    for (let at = 0; at < length; at += pieceSize) {
      signal?.throwIfAborted();
      await act(piece.subarray(0, Math.min(pieceSize, length - at)), at);
    }
  } finally {
    pool.give(piece);
  }
}

/**
 * A pool of at most `maxPieces` buffers of `pieceSize` bytes. If none is free, the caller waits.
 */
class Pool {
  readonly #free: Uint8Array[] = [];
  readonly #waiting: ((piece: Uint8Array) => void)[] = [];
  #made = 0;

  take(): Promise<Uint8Array> | Uint8Array {
    const piece = this.#free.pop();
    if (piece) return piece;
    if (this.#made === maxPieces) return new Promise((resolve) => this.#waiting.push(resolve));
    this.#made++;
    return Buffer.allocUnsafeSlow(pieceSize);
  }

  give(piece: Uint8Array): void {
    const next = this.#waiting.shift();
    if (next) next(piece);
    else this.#free.push(piece);
  }
}

const pool = new Pool();
