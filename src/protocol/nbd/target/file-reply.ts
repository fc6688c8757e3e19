/**
 * The data of a read's reply that is sent from a file rather than from memory: no byte of it passes this process, as long as
 * the file's pages are in memory and the stream takes them. What the stream does not take at once is waited for with a
 * piece in memory, whose being taken tells when it takes more; pages that have left memory meanwhile are read.
 */
import { buffersOf } from '../../../base/buffers.js';
import type { BlockDevice, FileRange, RequestOptions } from '../../../block/device.js';
import type { ByteStream } from '../../../network/stream.js';
import type { Arena, Piece } from './memory.js';

/** Bytes that are waited with, and that are read at a time. */
const pieceSize = 1 << 16;
const readSize = 1 << 18;
/** For how long it is believed that what was in memory still is, in ms. */
const believedMs = 5;

export class FileReply {
  readonly #device: BlockDevice;
  readonly #range: FileRange;
  readonly #options: RequestOptions;
  /** The file's offset less the device's. */
  readonly #skew: number;
  /** Where the next byte is, on the device; and how many there are. */
  #offset: number;
  #left: number;
  /** When all of it was in memory, in ms of performance.now(). */
  #seen = performance.now();

  /** @param range As the device has just given it. */
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

  /** Sends from the file what the stream takes. */
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

  /** The next bytes, in memory: at once where they are there. Rejects as the device's `read` does. */
  load(arena: Arena): Piece | Promise<Piece> {
    const { bytes, skip } = this.#blocks(pieceSize);
    if (this.#device.readNow?.(this.#offset - skip, bytes)) return this.#loaded(arena, bytes.subarray(skip));
    const more = this.#blocks(readSize);
    return this.#device
      .read(this.#offset - skip, buffersOf(more.bytes), this.#options)
      .then(() => this.#loaded(arena, more.bytes.subarray(skip)));
  }

  /** Nobody needs it any more. Once. */
  release(): void {
    this.#range.release();
  }

  /** Memory for some of the next bytes, in whole blocks: the stream has perhaps taken a part of the first. */
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
