/**
 * The data of a read reply, sent straight from a file (sendfile(2)).
 *
 * The data does not pass through this process as long as the pages are in the page cache and the
 * stream accepts them. If the stream does not accept more, the next bytes are loaded into memory
 * and written like any other message: the stream's `drain` event after that write tells when it
 * accepts file data again. Pages that have left the page cache meanwhile are read from the device.
 */
import { buffersOf } from '../../../base/buffers.js';
import type { BlockDevice, RequestOptions } from '../../../block/device.js';
import type { FileRange } from '../../../block/direct.js';
import type { ByteStream } from '../../../network/stream.js';
import type { Arena, Piece } from './memory.js';

/**
 * Size of the piece that is loaded if its data is in the page cache, and of a read from the device
 * otherwise, in bytes. Chosen, not measured.
 */
const pieceSize = 1 << 16;
const readSize = 1 << 18;
/**
 * For this time after a check, the pages are assumed to be still in the page cache, in ms. Chosen,
 * not measured.
 */
const believedMs = 5;

export class FileReply {
  readonly #device: BlockDevice;
  readonly #range: FileRange;
  readonly #options: RequestOptions;
  /** Offset in the file minus offset on the device, in bytes. */
  readonly #skew: number;
  /** Offset of the next byte on the device, and the number of bytes left. */
  #offset: number;
  #left: number;
  /**
   * Time at which the whole range was last known to be in the page cache, in ms of
   * performance.now().
   */
  #seen = performance.now();

  /** @param range must be fresh from the device: its pages are assumed to be in the page cache */
  constructor(device: BlockDevice, range: FileRange, offset: number, length: number, options: RequestOptions) {
    this.#device = device;
    this.#range = range;
    this.#offset = offset;
    this.#left = length;
    this.#options = options;
    this.#skew = range.offset - offset;
  }

  get left(): number {
    return this.#left;
  }

  /** Sends as much from the file as the stream accepts now. */
  send(stream: ByteStream): void {
    while (this.#left > 0) {
      const at = this.#offset + this.#skew;
      const now = performance.now();
      if (now - this.#seen > believedMs) {
        if (!this.#range.ready(at, this.#left)) return;
        this.#seen = now;
      }
      const count = stream.sendFile?.(this.#range.fd, at, this.#left) ?? 0;
      if (count <= 0) return;
      this.#offset += count;
      this.#left -= count;
    }
  }

  /**
   * Loads the next bytes into memory; synchronously if they are immediately available. Rejects like
   * the device's `read`.
   */
  load(arena: Arena): Piece | Promise<Piece> {
    const { bytes, skip } = this.#blocks(pieceSize);
    if (this.#device.direct?.read(this.#offset - skip, bytes)) return this.#loaded(arena, bytes.subarray(skip));
    const more = this.#blocks(readSize);
    return this.#device
      .read(this.#offset - skip, buffersOf(more.bytes), this.#options)
      .then(() => this.#loaded(arena, more.bytes.subarray(skip)));
  }

  /** Releases the file range. Call exactly once, after the last use. */
  release(): void {
    this.#range.release();
  }

  /**
   * Allocates memory for the next bytes, in whole blocks. `skip` is the part of the first block
   * that the stream has taken already.
   */
  #blocks(most: number): { bytes: Uint8Array; skip: number } {
    const { blockSize } = this.#device.info;
    const skip = this.#offset % blockSize;
    const length = Math.min(this.#left, most - skip);
    return { bytes: new Uint8Array(Math.ceil((skip + length) / blockSize) * blockSize), skip };
  }

  #loaded(arena: Arena, bytes: Uint8Array): Piece {
    const length = Math.min(bytes.length, this.#left);
    const piece = arena.take(length);
    piece.slab.bytes.set(bytes.subarray(0, length), piece.start);
    this.#offset += length;
    this.#left -= length;
    return piece;
  }
}
