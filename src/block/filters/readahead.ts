/**
 * Read-ahead filter: detects sequential readers, several at a time, and reads ahead of them in
 * windows that grow. For remote devices: a reader then waits for the round trip once instead of for
 * each request.
 *
 * Promises:
 * - It never returns bytes older than an acknowledged write through it. Read-ahead that overlaps a
 *   change is dropped when the change begins and again when it ends, so that no read-ahead that
 *   began before the change ended survives.
 * - It never reports a failed read-ahead: a reader that needs the data reads it from the device
 *   again.
 * - It never holds more memory than `maxBytes`.
 *
 * It is not a cache: data is dropped once it has been read, or after `maxAgeMs`. If other clients
 * write to the device past this filter, a reader may see data up to `maxAgeMs` old.
 *
 * It must see every read to detect readers, so it passes on no synchronous transfers and no file
 * ranges.
 */
import type { Buffers } from '../../base/buffers.js';
import { buffersOf } from '../../base/buffers.js';
import { usageError } from '../../base/errors.js';
import type { BlockDevice, RequestOptions } from '../device.js';
import { defineFilter, parseFlag } from './definition.js';
import { Filter, type BlockRequest } from './filter.js';
import { inParallel } from './parallel.js';
import { ReadStreams, type ReadStream } from './read-streams.js';
import { waitFor } from './wait.js';

/** Options of a {@link ReadAheadFilter}. */
export interface ReadAheadOptions {
  /** Memory for read-ahead, in bytes; at least one piece. Default 32 MiB. */
  readonly maxBytes?: number | undefined;
  /** Largest window of one reader, in bytes. Default 4 MiB. */
  readonly maxWindow?: number | undefined;
  /**
   * Length of a read-ahead request (piece) in bytes, a power of two; less if the device takes less.
   * Default 256 KiB.
   */
  readonly pieceSize?: number | undefined;
  /** Most readers that are tracked. Default 8. */
  readonly streams?: number | undefined;
  /** Read-ahead older than this is not used, in ms. Default 10 000. */
  readonly maxAgeMs?: number | undefined;
  /**
   * Reads a piece from the next device, for a device that returns the bytes in memory of its own:
   * that saves a copy. Default: {@link BlockDevice.read}.
   */
  readonly load?: ((offset: number, length: number) => Promise<Uint8Array>) | undefined;
  /**
   * True while a request to the device costs more than its wait. Reads of a piece or more are then
   * not read ahead, because the copy would cost more time than it saves. Default: never.
   */
  readonly isNear?: () => boolean;
}

/** Counters, for measurements and tests. */
export interface ReadAheadCounts {
  /** Number of read-ahead requests to the next device. */
  readonly prefetches: number;
  /** Bytes that readers have received from read-ahead. */
  readonly servedBytes: number;
  /** Bytes of read-ahead that are held or in flight. */
  readonly heldBytes: number;
}

/**
 * A range that was or is being read ahead. It lies within one cell of a grid of `pieceSize` bytes.
 */
interface Piece {
  readonly start: number;
  readonly end: number;
  readonly length: number;
  /** Empty until it has been read, and once the memory belongs to another piece. */
  bytes: Uint8Array;
  /** Resolves with true if `bytes` has been read, with false if the read failed. Never rejects. */
  ready: Promise<boolean>;
  settled: boolean;
  /** True if it must not be used any more. Its memory counts until its request has settled. */
  dropped: boolean;
  /** Bytes that readers have received. */
  taken: number;
  /** Readers that wait for it and will copy from it. */
  readers: number;
  /** When its request began, in ms of performance.now(). */
  readonly since: number;
}

const nothing = new Uint8Array(0);

/** Reads ahead of sequential readers, so that they wait for the round trip less often. */
export class ReadAheadFilter extends Filter {
  /** By index of the grid's cell, in the order in which they began. */
  readonly #pieces = new Map<number, Piece>();
  readonly #streams: ReadStreams;
  readonly #pieceSize: number;
  readonly #maxBytes: number;
  readonly #maxAgeMs: number;
  readonly #load: (offset: number, length: number) => Promise<Uint8Array>;
  readonly #closing = new AbortController();
  readonly #inFlight = new Set<Promise<boolean>>();
  readonly #isNear: () => boolean;
  /** The memory of pieces is this filter's. */
  readonly #isReused: boolean;
  /** Memory of dropped pieces, for new ones. */
  readonly #spare: Uint8Array[] = [];
  readonly #maxSpare: number;
  #held = 0;
  #prefetches = 0;
  #served = 0;

  constructor(next: BlockDevice, options: ReadAheadOptions = {}) {
    super(next);
    const { maxBytes = 32 << 20, maxWindow = 4 << 20, pieceSize = 256 << 10, streams = 8, maxAgeMs = 10_000 } = options;
    this.#isNear = options.isNear ?? (() => false);
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
    this.#load = options.load ?? ((offset, length) => this.#read(offset, length));
    this.#isReused = options.load === undefined;
    this.#maxSpare = maxWindow;
    this.#streams = new ReadStreams(streams, this.#pieceSize, Math.min(maxWindow, maxBytes));
  }

  /** Counts since the filter was made. */
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
        // The cell's piece may begin after `at`.
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
    // After the wanted data: a device that serves one request at a time must not read ahead first.
    if (stream && !(into.length >= this.#pieceSize && this.#isNear())) this.#prefetch(stream);
    await waiting;
  }

  /** Drops read-ahead that overlaps a change, before and after the change. */
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
    await Promise.all(this.#inFlight);
    this.#pieces.clear();
    this.#spare.length = 0;
    await super.doClose();
  }

  /** The usable piece that contains byte `at`. */
  #find(at: number): Piece | undefined {
    const index = Math.floor(at / this.#pieceSize);
    const piece = this.#pieces.get(index);
    if (!piece || at < piece.start || at >= piece.end) return undefined;
    if (performance.now() - piece.since <= this.#maxAgeMs) return piece;
    this.#drop(index, piece);
    return undefined;
  }

  /**
   * Waits for a piece and copies a part of it. If the read-ahead failed, reads the part from the
   * device.
   */
  async #take(
    piece: Piece,
    start: number,
    into: Buffers,
    { signal }: RequestOptions,
    direct: () => Promise<void>,
  ): Promise<void> {
    let there = false;
    piece.readers++;
    try {
      await waitFor(signal, (done) => {
        void piece.ready.then((ok) => {
          there = ok;
          done();
        });
        return () => undefined;
      });
      if (there) this.#copy(piece, start - piece.start, into);
    } finally {
      piece.readers--;
      this.#keepMemory(piece);
    }
    if (!there) return direct();
  }

  #copy(piece: Piece, from: number, into: Buffers): void {
    into.copyFrom(piece.bytes.subarray(from, from + into.length), 0);
    this.#served += into.length;
    piece.taken += into.length;
    if (piece.taken >= piece.length) this.#drop(Math.floor(piece.start / this.#pieceSize), piece);
  }

  /** Memory for a piece: fresh memory costs as much time as the bytes that arrive in it. */
  #memory(length: number): Uint8Array {
    const spare = length === this.#pieceSize ? this.#spare.pop() : undefined;
    if (spare) return spare;
    if (this.#held + this.#spare.length * this.#pieceSize > this.#maxBytes) this.#spare.length = 0;
    return new Uint8Array(length);
  }

  /** Keeps the memory of a dropped piece for later ones, when no request and no reader uses it. */
  #keepMemory(piece: Piece): void {
    const { bytes } = piece;
    if (!this.#isReused || !piece.dropped || !piece.settled || piece.readers > 0 || bytes.length !== this.#pieceSize)
      return;
    piece.bytes = nothing;
    const length = (this.#spare.length + 1) * this.#pieceSize;
    if (length <= this.#maxSpare && this.#held + length <= this.#maxBytes) this.#spare.push(bytes);
  }

  /** Begins read-ahead for the parts of a reader's window that are missing. */
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
    const length = end - start;
    const piece: Piece = {
      start,
      end,
      length,
      bytes: nothing,
      ready: Promise.resolve(false),
      settled: false,
      dropped: false,
      taken: 0,
      readers: 0,
      since: performance.now(),
    };
    this.#held += length;
    this.#prefetches++;
    this.#pieces.set(index, piece);
    piece.ready = this.#load(start, length)
      .then(
        (bytes) => {
          piece.bytes = bytes;
          return true;
        },
        () => {
          // Read ahead no further on a device that fails.
          stream.restart();
          this.#drop(index, piece);
          return false;
        },
      )
      .finally(() => {
        piece.settled = true;
        if (piece.dropped) this.#held -= length;
        this.#keepMemory(piece);
        this.#inFlight.delete(piece.ready);
      });
    this.#inFlight.add(piece.ready);
  }

  async #read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = this.#memory(length);
    await this.next.read(offset, buffersOf(bytes), { signal: this.#closing.signal });
    return bytes;
  }

  /**
   * Makes room for `bytes` more by dropping the oldest pieces. False if too much is still in
   * flight.
   */
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
    if (!piece.settled) return;
    this.#held -= piece.length;
    this.#keepMemory(piece);
  }
}

export const readAheadFilter = defineFilter({
  options: {
    readahead: {
      about: 'read ahead of sequential readers, for distant sources; sources over ssh and rsh always do',
      parse: parseFlag,
    },
  },
  open: (device, { readahead }, { source }) => {
    // Two of these filters would each read ahead of the other.
    return readahead && !(source instanceof ReadAheadFilter) ? new ReadAheadFilter(device) : device;
  },
});
