/**
 * Memory for what is under way on a target: payloads of writes and replies. Small pieces are cut from a slab one after
 * the other, so that replies that follow each other lie side by side and go out as one; large ones get a slab of
 * their own. Slabs that are not in use are kept for the next request, up to a bound for the whole process: an idle
 * connection holds none.
 */

/** Size of the slab that small pieces are cut from, in bytes. */
const sharedSize = 1 << 18;
/** Pieces above this get a slab of their own. */
const smallest = 1 << 16;
/** Largest slab that is kept for reuse. Longer ones are left to the garbage collector. */
const largestKept = (1 << 22) + (1 << 12);

/** One array and how many pieces of it are in use. Made by {@link SlabPool}. */
export class Slab {
  readonly bytes: Uint8Array;
  uses = 0;
  /** Bytes from the start that have been cut off since the slab was last unused. */
  used = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }
}

/** A piece of a slab: bytes [start, end) of `slab.bytes`. */
export interface Piece {
  readonly slab: Slab;
  readonly start: number;
  readonly end: number;
}

/** Slabs that are not in use. One for all connections of a process. */
export class SlabPool {
  readonly #free = new Map<number, Slab[]>();
  readonly #maxKept: number;
  #kept = 0;

  /** @param maxKept Bytes of unused slabs that are kept at most. */
  constructor(maxKept = 16 << 20) {
    this.#maxKept = maxKept;
  }

  take(length: number): Slab {
    const size = sizeFor(length);
    const slab = this.#free.get(size)?.pop();
    if (!slab) return new Slab(size);
    this.#kept -= size;
    return slab;
  }

  give(slab: Slab): void {
    const size = slab.bytes.length;
    slab.used = 0;
    if (size > largestKept || this.#kept + size > this.#maxKept) return;
    const list = this.#free.get(size);
    if (list) list.push(slab);
    else this.#free.set(size, [slab]);
    this.#kept += size;
  }
}

/** Slabs come in few sizes, so that they fit again: powers of two with room for a header. */
function sizeFor(length: number): number {
  if (length <= smallest) return sharedSize;
  if (length > largestKept) return length;
  let size = smallest << 1;
  while (size + (1 << 12) < length) size *= 2;
  return size + (1 << 12);
}

/** One connection's pieces, counted. */
export class Arena {
  readonly #pool: SlabPool;
  #current: Slab | undefined;
  #inUse = 0;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  /** Bytes of all pieces that were taken and not released. */
  get inUse(): number {
    return this.#inUse;
  }

  /** A piece of `length` bytes. Its content is what was there before: fill it, or send nothing of it. */
  take(length: number): Piece {
    this.#inUse += length;
    if (length > smallest) {
      const slab = this.#pool.take(length);
      slab.uses = 1;
      return { slab, start: 0, end: length };
    }
    let slab = this.#current;
    if (!slab || slab.used + length > sharedSize) slab = this.#current = this.#pool.take(length);
    const start = slab.used;
    slab.used += length;
    slab.uses++;
    return { slab, start, end: slab.used };
  }

  /** Gives a piece back; once, when nobody reads or writes it any more. */
  release(piece: Piece): void {
    this.#inUse -= piece.end - piece.start;
    const { slab } = piece;
    if (--slab.uses > 0) return;
    if (slab === this.#current) this.#current = undefined;
    this.#pool.give(slab);
  }

  /** Forgets a piece whose memory may still be read by somebody: it is not used again. */
  abandon(piece: Piece): void {
    this.#inUse -= piece.end - piece.start;
    if (piece.slab === this.#current) this.#current = undefined;
  }
}
