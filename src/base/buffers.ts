/**
 * Buffers: the memory of one transfer, as a list of ranges that need not be adjacent.
 *
 * A transfer names guest memory by guest-physical pages, and the engine may move the array that
 * holds guest memory whenever the guest runs. So a transfer never keeps a plain view of guest
 * memory across an `await`. A backend that receives its bytes in pieces (a socket) stores each
 * piece with {@link Buffers.copyFrom} as it arrives, so that the data is copied only once. A
 * backend that passes memory to the operating system asks for {@link Buffers.stable} views.
 *
 * Not here: Buffers over several arrays (joined-buffers.ts).
 */

/**
 * Takes a range of this process's memory by its address.
 * @returns false if no further range can be taken
 */
export type PutPlace = (address: number, length: number) => boolean;

/** The memory of one transfer, as one sequence of `length` bytes. */
export interface Buffers {
  /** Total length in bytes. */
  readonly length: number;
  /** Copies `source` into this sequence at byte `at`. Throws RangeError if it does not fit. */
  copyFrom(source: Uint8Array, at: number): void;
  /**
   * Copies `target.length` bytes from byte `at` on into `target`. Throws RangeError beyond the end.
   */
  copyTo(target: Uint8Array, at: number): void;
  /** Sets `length` bytes from byte `at` to zero. */
  zero(at: number, length: number): void;
  /** Bytes [start, end) as a sequence of their own, over the same memory. */
  slice(start: number, end: number): Buffers;
  /**
   * Views of the memory, in order; they stay valid while held. Undefined if the memory can move.
   */
  stable(): readonly Uint8Array[] | undefined;
  /**
   * Calls `put` with each range of memory that holds bytes [at, at + length), in order, until it
   * returns false. A system call may write there, if it ends before the caller yields to the event
   * loop. Absent if the memory has no fixed address, or must be told of what is written. Throws
   * RangeError beyond the end.
   */
  readonly places?: ((at: number, length: number, put: PutPlace) => void) | undefined;
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

/** {@link Buffers} over one array that does not move. The array is not copied. */
export function buffersOf(bytes: Uint8Array): Buffers {
  return new PlainBuffers(bytes);
}

/** The memory that a caller passes: an array that does not move, or ranges of guest memory. */
export type Bytes = Buffers | Uint8Array;

/**
 * `bytes` as Buffers, over the same memory.
 * @throws TypeError if `bytes` is neither a view of an array nor Buffers
 */
export function asBuffers(bytes: Bytes): Buffers {
  // Not instanceof, which fails for an array of another realm (a frame, a vm context).
  if (ArrayBuffer.isView(bytes)) return buffersOf(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  if (typeof (bytes as Partial<Buffers> | null)?.copyTo === 'function') return bytes;
  throw new TypeError('the data is neither a Uint8Array nor Buffers');
}

/** All bytes of `buffers` as one array: the memory itself if contiguous and stable, else a copy. */
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
