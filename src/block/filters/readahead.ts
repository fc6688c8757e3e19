/**
 * Read-ahead filter: finds readers that go forward through the device, several at a time, and reads before they ask, in
 * windows that grow while they go on. For devices that are far: a reader then pays the way once and not for each request.
 *
 * What it never does: give bytes from before an acknowledged write through it (what overlaps a change is dropped when the
 * change begins and again when it ends, so that no read-ahead begun before its end outlives it); tell of a failed
 * read-ahead (who really asks is read for anew); hold more memory than it was given. It is no cache: what was read is let go, and
 * what nobody asks for in time is dropped. A device that others write too, past this filter, may be up to that time behind.
 */
import type { Buffers } from '../../base/buffers.js';
import { buffersOf } from '../../base/buffers.js';
import { usageError } from '../../base/errors.js';
import type { BlockDevice, RequestOptions } from '../device.js';
import { Filter, type BlockRequest } from './filter.js';
import { inParallel } from './parallel.js';
import { ReadStreams, type ReadStream } from './read-streams.js';
import { waitFor } from './wait.js';

export interface ReadAheadOptions {
  /** Memory for what was read ahead, in bytes. Default 32 MiB; at least one piece. */
  readonly maxBytes?: number | undefined;
  /** How far ahead of one reader it reads at most, in bytes. Default 4 MiB. */
  readonly maxWindow?: number | undefined;
  /** Bytes of one request to the next device, a power of two; less where it takes less. Default 256 KiB. */
  readonly pieceSize?: number | undefined;
  /** Readers that are told apart. Default 8. */
  readonly streams?: number | undefined;
  /** After this time what was read ahead is not given any more, in ms. Default 10 000. */
  readonly maxAgeMs?: number | undefined;
}

/** What it has done, for figures and tests. */
export interface ReadAheadCounts {
  /** Requests to the next device that nobody had asked for. */
  readonly prefetches: number;
  /** Bytes that readers got from what was read ahead. */
  readonly servedBytes: number;
  /** Bytes that are held or under way. */
  readonly heldBytes: number;
}

/** One part of the device that was or is being read ahead. It lies within one cell of a grid of `pieceSize`. */
interface Piece {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  /** Resolves with whether the bytes are there; never rejects. */
  ready: Promise<boolean>;
  settled: boolean;
  /** Out of use: its memory counts until its request is over. */
  dropped: boolean;
  /** Bytes that readers have taken. */
  taken: number;
  readonly since: number;
}

export class ReadAheadFilter extends Filter {
  /** By cell of the grid, in the order in which they were begun. */
  readonly #pieces = new Map<number, Piece>();
  readonly #streams: ReadStreams;
  readonly #pieceSize: number;
  readonly #maxBytes: number;
  readonly #maxAgeMs: number;
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<boolean>>();
  #held = 0;
  #prefetches = 0;
  #served = 0;

  constructor(next: BlockDevice, options: ReadAheadOptions = {}) {
    super(next);
    const { maxBytes = 32 << 20, maxWindow = 4 << 20, pieceSize = 256 << 10, streams = 8, maxAgeMs = 10_000 } = options;
    const { maxTransfer, blockSize } = next.info;
    const powerOfTwo = Number.isInteger(Math.log2(pieceSize));
    if (
      !powerOfTwo ||
      pieceSize < blockSize ||
      !(maxWindow >= pieceSize) ||
      !(maxBytes >= pieceSize) ||
      !(streams >= 1)
    ) {
      throw usageError(
        `read-ahead: a piece of ${pieceSize} bytes must be a power of two, whole blocks, and no more than the window and the memory`,
      );
    }
    this.#pieceSize = Math.max(blockSize, Math.min(pieceSize, 2 ** Math.floor(Math.log2(maxTransfer))));
    this.#maxBytes = maxBytes;
    this.#maxAgeMs = maxAgeMs;
    this.#streams = new ReadStreams(streams, this.#pieceSize, Math.min(maxWindow, maxBytes));
  }

  get counts(): ReadAheadCounts {
    return { prefetches: this.#prefetches, servedBytes: this.#served, heldBytes: this.#held };
  }

  protected override async doRead(offset: number, into: Buffers, options: RequestOptions): Promise<void> {
    const end = offset + into.length;
    const jobs: (() => Promise<void>)[] = [];
    const direct = (from: number, to: number): Promise<void> =>
      this.next.read(from, into.slice(from - offset, to - offset), options);
    let unread = offset;
    for (let at = offset; at < end;) {
      const piece = this.#find(at);
      const cellEnd = (Math.floor(at / this.#pieceSize) + 1) * this.#pieceSize;
      if (!piece) {
        // A piece may begin within its cell, after where it is looked for.
        const later = this.#pieces.get(Math.floor(at / this.#pieceSize));
        at = Math.min(end, later && later.start > at ? later.start : cellEnd);
        continue;
      }
      const [from, start] = [unread, at];
      if (from < start) jobs.push(() => direct(from, start));
      const stop = Math.min(end, piece.end);
      jobs.push(() =>
        this.#take(piece, start, into.slice(start - offset, stop - offset), options, () => direct(start, stop)),
      );
      unread = at = stop;
    }
    if (unread < end) {
      const from = unread;
      jobs.push(() => direct(from, end));
    }
    const stream = this.#streams.note(offset, end);
    const waiting = inParallel(jobs, Infinity);
    // After what was asked for: a device that takes one request at a time shall not do the rest first.
    if (stream) this.#prefetch(stream);
    await waiting;
  }

  /** Changes: nothing that overlaps them and was read before they were over is given afterwards. */
  protected override async around<T>({ op, offset, length }: BlockRequest, pass: () => Promise<T>): Promise<T> {
    if (op !== 'write' && op !== 'trim' && op !== 'writeZeroes') return pass();
    this.#dropRange(offset, offset + length);
    try {
      return await pass();
    } finally {
      this.#dropRange(offset, offset + length);
    }
  }

  protected override async doClose(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#underWay);
    this.#pieces.clear();
    await super.doClose();
  }

  /** The piece that has byte `at` and may be given. */
  #find(at: number): Piece | undefined {
    const index = Math.floor(at / this.#pieceSize);
    const piece = this.#pieces.get(index);
    if (!piece || at < piece.start || at >= piece.end) return undefined;
    if (performance.now() - piece.since <= this.#maxAgeMs) return piece;
    this.#drop(index, piece);
    return undefined;
  }

  /** Gives a part of a piece when it is there; reads it from the device where it could not be read ahead. */
  async #take(
    piece: Piece,
    start: number,
    into: Buffers,
    { signal }: RequestOptions,
    direct: () => Promise<void>,
  ): Promise<void> {
    let there = false;
    await waitFor(signal, (done) => {
      void piece.ready.then((ok) => {
        there = ok;
        done();
      });
      return () => undefined;
    });
    if (!there) return direct();
    const from = start - piece.start;
    into.copyFrom(piece.bytes.subarray(from, from + into.length), 0);
    this.#served += into.length;
    piece.taken += into.length;
    if (piece.taken >= piece.bytes.length) this.#drop(Math.floor(piece.start / this.#pieceSize), piece);
  }

  /** Reads what is missing of the window before a reader. */
  #prefetch(stream: ReadStream): void {
    const limit = Math.min(this.info.size, stream.next + stream.window);
    let at = Math.max(stream.next, stream.fetched);
    while (at < limit && !this.#closing.signal.aborted) {
      const index = Math.floor(at / this.#pieceSize);
      const end = Math.min(this.info.size, (index + 1) * this.#pieceSize);
      if (!this.#pieces.has(index)) {
        if (!this.#makeRoom(end - at)) return;
        this.#begin(index, at, end, stream);
      }
      at = stream.fetched = end;
    }
  }

  #begin(index: number, start: number, end: number, stream: ReadStream): void {
    const bytes = new Uint8Array(end - start);
    const piece: Piece = {
      start,
      end,
      bytes,
      ready: Promise.resolve(false),
      settled: false,
      dropped: false,
      taken: 0,
      since: performance.now(),
    };
    this.#held += bytes.length;
    this.#prefetches++;
    this.#pieces.set(index, piece);
    piece.ready = this.next
      .read(start, buffersOf(bytes), { signal: this.#closing.signal })
      .then(
        () => true,
        () => {
          // A device that fails is not to be asked for more than is wanted.
          stream.restart();
          this.#drop(index, piece);
          return false;
        },
      )
      .finally(() => {
        piece.settled = true;
        if (piece.dropped) this.#held -= bytes.length;
        this.#underWay.delete(piece.ready);
      });
    this.#underWay.add(piece.ready);
  }

  /** Sees to it that `bytes` more may be held: what is oldest goes. False where all is still under way. */
  #makeRoom(bytes: number): boolean {
    for (const [index, piece] of this.#pieces) {
      if (this.#held + bytes <= this.#maxBytes) break;
      if (piece.settled) this.#drop(index, piece);
    }
    return this.#held + bytes <= this.#maxBytes;
  }

  #dropRange(start: number, end: number): void {
    for (const [index, piece] of this.#pieces) {
      if (piece.start < end && start < piece.end) {
        this.#drop(index, piece);
        this.#streams.forget(piece.start);
      }
    }
  }

  #drop(index: number, piece: Piece): void {
    if (piece.dropped) return;
    piece.dropped = true;
    if (this.#pieces.get(index) === piece) this.#pieces.delete(index);
    if (piece.settled) this.#held -= piece.bytes.length;
  }
}
