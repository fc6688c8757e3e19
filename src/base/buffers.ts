/**
 * Buffers: where the bytes of one transfer are, as a list of places that need not be adjacent.
 *
 * A guest's memory is given by physical pages, and the engine may move the array that holds it whenever the guest runs;
 * so a transfer never keeps a plain view of it over an `await`. A backend that gets its bytes in pieces (a socket)
 * places each with {@link Buffers.copyFrom} at once, and the data is copied once. A backend that wants to hand memory to
 * the operating system asks for {@link Buffers.stable} views.
 */

/** The places of one transfer, as one sequence of `length` bytes. */
export interface Buffers {
  /** Total length in bytes. */
  readonly length: number;
  /** Copies `source` into this sequence at byte `at`. Throws RangeError if it does not fit. */
  copyFrom(source: Uint8Array, at: number): void;
  /** Copies `target.length` bytes from byte `at` of this sequence into `target`. Throws RangeError if they are not there. */
  copyTo(target: Uint8Array, at: number): void;
  /** Sets `length` bytes from byte `at` to zero. */
  zero(at: number, length: number): void;
  /** The part [start, end) as a sequence of its own, over the same memory. */
  slice(start: number, end: number): Buffers;
  /** Views that stay valid for as long as they are held, in order, or undefined where the memory can move. */
  stable(): readonly Uint8Array[] | undefined;
}

/** One contiguous range of memory that does not move. */
class PlainBuffers implements Buffers {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get length(): number {
    return this.#bytes.length;
  }

  copyFrom(source: Uint8Array, at: number): void {
    this.#bytes.set(source, at);
  }

  copyTo(target: Uint8Array, at: number): void {
    checkRange(this.length, at, target.length);
    target.set(this.#bytes.subarray(at, at + target.length));
  }

  zero(at: number, length: number): void {
    checkRange(this.length, at, length);
    this.#bytes.fill(0, at, at + length);
  }

  slice(start: number, end: number): Buffers {
    checkRange(this.length, start, end - start);
    return new PlainBuffers(this.#bytes.subarray(start, end));
  }

  stable(): readonly Uint8Array[] {
    return [this.#bytes];
  }
}

/** A {@link Buffers} over one array that does not move. The array is used, not copied. */
export function buffersOf(bytes: Uint8Array): Buffers {
  return new PlainBuffers(bytes);
}

/** What a caller has its bytes in: an array that does not move, or places of a guest's memory. */
export type Bytes = Buffers | Uint8Array;

/** `bytes` as Buffers: itself if it is, else over its own memory. @throws TypeError where it is neither */
export function asBuffers(bytes: Bytes): Buffers {
  // Not instanceof: an array may be of another realm (a frame, a vm context).
  if (ArrayBuffer.isView(bytes)) return buffersOf(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  if (typeof (bytes as Partial<Buffers> | null)?.copyTo === 'function') return bytes;
  throw new TypeError('the data is neither a Uint8Array nor Buffers');
}

/** All bytes of `buffers` as one array: its own memory where that is contiguous and stable, else a copy. */
export function contiguous(buffers: Buffers): Uint8Array {
  const views = buffers.stable();
  if (views?.length === 1) return views[0]!;
  const copy = new Uint8Array(buffers.length);
  buffers.copyTo(copy, 0);
  return copy;
}

/** Throws RangeError unless [at, at + length) lies within [0, total). */
export function checkRange(total: number, at: number, length: number): void {
  if (!(at >= 0 && length >= 0 && at + length <= total)) {
    throw new RangeError(`bytes ${at}+${length} are outside of 0..${total}`);
  }
}
