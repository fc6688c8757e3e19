/**
 * Whole transfers between Buffers and a file descriptor, on Node's thread pool: short reads and writes are continued, and
 * memory that can move is passed through a buffer of our own. A transfer that ends before its last byte is an error,
 * never a success.
 */
import fs from 'node:fs';
import { constants } from 'node:os';
import type { Buffers } from '../base/buffers.js';
import { BlockError } from '../block/errors.js';
import { systemError } from './libc.node.js';
import { maxAtOnce, type PageCache } from './page-cache.node.js';
import type { Uring } from './uring.node.js';

/** Longest piece that is passed through a buffer of our own, in bytes; and how many such buffers there are at most. */
const pieceSize = 1 << 20;
const maxPieces = 16;
/** Up to this length a buffer of our own is simply allocated. */
const smallSize = 1 << 16;

const { EAGAIN, ECANCELED, EINTR, EINVAL, ENOMEM, EOPNOTSUPP } = constants.errno;
/** These say that this read is to be tried otherwise, not that the disk failed. */
const unsuitable: readonly number[] = [EAGAIN, ECANCELED, EINTR, EINVAL, ENOMEM, EOPNOTSUPP];

type Vector = (
  fd: number,
  views: readonly NodeJS.ArrayBufferView[],
  position: number,
  done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
) => void;

/**
 * Reads as much of `into` as needs no disk, at once, up to 2 MiB.
 * @returns how many bytes from its beginning; the rest is for {@link readAll}.
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

/** What {@link readWhatIsCached} passes data through; never in use over an `await`. */
let scratch: Uint8Array | undefined;

/**
 * Reads `into.length` bytes at `offset` by io_uring, if they go to one place that can be held. Rejects with kind `io` where
 * the file ends before.
 * @returns false where that is not to be done so
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

/** The error of a request behind the end of a file that has become shorter. */
export function shorter(at: number): BlockError {
  return new BlockError('io', `the file does not reach byte ${at}: it is shorter than when it was opened`);
}

/** Reads `into.length` bytes at `offset`. Rejects with kind `io` where the file ends before. */
export async function readAll(fd: number, offset: number, into: Buffers, signal?: AbortSignal): Promise<void> {
  const views = into.stable();
  if (views) return whole(fs.readv, fd, views, offset);
  await throughPieces(into.length, signal, async (piece, at) => {
    await whole(fs.readv, fd, [piece], offset + at);
    into.copyFrom(piece, at);
  });
}

/** Writes `from.length` bytes at `offset`. */
export async function writeAll(fd: number, offset: number, from: Buffers, signal?: AbortSignal): Promise<void> {
  const views = from.stable();
  if (views) return whole(fs.writev as Vector, fd, views, offset);
  await throughPieces(from.length, signal, async (piece, at) => {
    from.copyTo(piece, at);
    await whole(fs.writev as Vector, fd, [piece], offset + at);
  });
}

/** Calls `act` until every byte of `views` is transferred. */
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

/** Runs `act` on buffers for [0, length), one after another. */
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

/** Buffers of `pieceSize`, at most `maxPieces` of them; who finds none waits. */
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
