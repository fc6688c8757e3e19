/**
 * The memory of a target for payloads of writes and for replies.
 *
 * Small pieces are cut from a shared slab one after the other, so that consecutive replies are
 * adjacent and go out in one write. A large piece gets its own slab. Unused slabs are kept for
 * later requests, up to a limit for the whole process; an idle connection holds none.
 *
 * Limits count slabs, not pieces, because a slab is held as long as one of its pieces is. Short
 * replies (without data) have their own slabs. So a client that does not read such replies holds
 * little memory, whatever else was allocated at the time.
 */
import { nextIteration } from '../../../base/event-loop.js';

/** Size of a slab for small pieces, in bytes. */
const sharedSize = 1 << 18;
/** Size of a slab for the shortest pieces, and the greatest length of such a piece, in bytes. */
const shortSize = 1 << 14;
const shortest = 1 << 10;
/** Longer pieces get their own slab. In bytes. */
const smallest = 1 << 16;
/**
 * A slab for a large piece is this much larger than a power of two, so that a reply's header fits
 * too. In bytes.
 */
const margin = 1 << 12;
/** The largest slab that is kept for reuse, in bytes. Larger ones are garbage-collected. */
const largestKept = (1 << 22) + margin;
/**
 * A connection that holds nothing may always take this much, even if the process's limit is
 * reached. In bytes.
 */
const alwaysMine = (1 << 20) + margin;

/** One array, with the number of its pieces in use. Made by {@link SlabPool}. */
export class Slab {
  readonly bytes: Uint8Array;
  uses = 0;
  /** Number of bytes from the start that were cut off since the slab was last unused. */
  used = 0;
  /**
   * True if the memory may still be read after its last piece is released: then it is not reused.
   */
  abandoned = false;

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

/** A connection that waits for memory that other connections hold. */
interface Waiting {
  readonly cost: number;
  readonly wake: () => void;
}

/** All slabs of a process: counts those in use and keeps unused ones. Shared by all connections. */
export class SlabPool {
  readonly #free = new Map<number, Slab[]>();
  readonly #maxKept: number;
  readonly #maxUsed: number;
  #kept = 0;
  #used = 0;
  #queue: Waiting[] = [];
  /** True while waiting connections are being woken. */
  #serving = false;
  #scheduled = false;
  /** Called when a connection begins to wait for memory. */
  onShort: () => void = () => undefined;

  /**
   * @param maxKept most bytes of unused slabs to keep
   * @param maxUsed total bytes of slabs in use; above this, connections wait for each other
   */
  constructor(maxKept = 16 << 20, maxUsed = 512 << 20) {
    this.#maxKept = maxKept;
    this.#maxUsed = maxUsed;
  }

  /** Total bytes of the slabs in use. */
  get used(): number {
    return this.#used;
  }

  /** True if a connection waits for memory that others hold. */
  get short(): boolean {
    return this.#queue.length > 0;
  }

  take(length: number): Slab {
    const size = sizeFor(length);
    this.#used += size;
    const slab = this.#free.get(size)?.pop();
    if (!slab) return new Slab(size);
    this.#kept -= size;
    return slab;
  }

  give(slab: Slab): void {
    const size = slab.bytes.length;
    this.#used -= size;
    if (this.#queue.length > 0) this.#serve();
    slab.used = 0;
    if (slab.abandoned || size > largestKept || this.#kept + size > this.#maxKept) return;
    const list = this.#free.get(size);
    if (list) list.push(slab);
    else this.#free.set(size, [slab]);
    this.#kept += size;
  }

  /**
   * True if `cost` more bytes may be taken.
   * @param first true if the connection holds no memory
   */
  admits(cost: number, first: boolean): boolean {
    if (first && cost <= alwaysMine) return true;
    // Waiting connections go first. Otherwise many short requests could keep a long one waiting
    // forever.
    return (this.#queue.length === 0 || this.#serving) && this.#fits(cost);
  }

  /** Calls `wake` once, when {@link admits} may return true; not after {@link leave}. */
  wait(waiting: Waiting): void {
    this.#queue.push(waiting);
    this.onShort();
  }

  leave(waiting: Waiting): void {
    this.#queue = this.#queue.filter((one) => one !== waiting);
    if (this.#queue.length > 0) this.#serve();
  }

  #fits(cost: number): boolean {
    return this.#used === 0 || this.#used + cost <= this.#maxUsed;
  }

  #serve(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    nextIteration(() => {
      this.#scheduled = false;
      this.#serving = true;
      while (this.#queue.length > 0 && this.#fits(this.#queue[0]!.cost)) this.#queue.shift()!.wake();
      this.#serving = false;
    });
  }
}

/**
 * Rounds up to one of few slab sizes, so that slabs can be reused: powers of two, plus room for a
 * header.
 */
function sizeFor(length: number): number {
  if (length <= shortest) return shortSize;
  if (length <= smallest) return sharedSize;
  if (length > largestKept) return length;
  let size = smallest;
  while (size + margin < length) size *= 2;
  return size + margin;
}

/** The memory of one connection: takes pieces from the pool and counts them. */
export class Arena {
  readonly #pool: SlabPool;
  /**
   * The slabs from which pieces are cut now: one for the shortest pieces, one for other small
   * pieces.
   */
  #short: Slab | undefined;
  #current: Slab | undefined;
  #inUse = 0;
  #held = 0;
  #waiting: Waiting | undefined;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  /** Total bytes of the pieces in use. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Total bytes of the slabs that contain these pieces. */
  get held(): number {
    return this.#held;
  }

  /**
   * True if a piece of this length may be taken: within `most` bytes for this connection (a single
   * piece may exceed that), and within the limit for all connections. If the latter is the
   * obstacle, calls `wake` when the caller should ask again.
   */
  admits(length: number, most: number, wake: () => void): boolean {
    const first = this.#inUse === 0;
    if (!first && this.#inUse + length > most) return false;
    const cost = this.#costOf(length);
    if (cost === 0) return true;
    if (!first && this.#held + cost > most + sharedSize) return false;
    if (this.#pool.admits(cost, first)) return true;
    if (!this.#waiting) {
      this.#waiting = {
        cost,
        wake: () => {
          this.#waiting = undefined;
          wake();
        },
      };
      this.#pool.wait(this.#waiting);
    }
    return false;
  }

  /** Takes a piece of `length` bytes. It contains old data: fill it before you send any of it. */
  take(length: number): Piece {
    this.#inUse += length;
    if (length > smallest) {
      const slab = this.#fresh(length);
      slab.uses = 1;
      return { slab, start: 0, end: length };
    }
    let slab = this.#sharedFor(length);
    if (!slab || slab.used + length > slab.bytes.length) {
      slab = this.#fresh(length);
      if (length <= shortest) this.#short = slab;
      else this.#current = slab;
    }
    const start = slab.used;
    slab.used += length;
    slab.uses++;
    return { slab, start, end: slab.used };
  }

  /** Releases a piece. Call once, when its memory is no longer read or written. */
  release({ slab, start, end }: Piece): void {
    this.#inUse -= end - start;
    if (--slab.uses > 0) return;
    this.#forget(slab);
    this.#held -= slab.bytes.length;
    this.#pool.give(slab);
  }

  /** Releases a piece whose memory may still be read, for example by a stream. It is not reused. */
  abandon(piece: Piece): void {
    piece.slab.abandoned = true;
    this.#forget(piece.slab);
    this.release(piece);
  }

  /** Stops waiting for memory. */
  stopWaiting(): void {
    if (this.#waiting) this.#pool.leave(this.#waiting);
    this.#waiting = undefined;
  }

  #fresh(length: number): Slab {
    const slab = this.#pool.take(length);
    this.#held += slab.bytes.length;
    return slab;
  }

  #sharedFor(length: number): Slab | undefined {
    return length <= shortest ? this.#short : this.#current;
  }

  /** Stops cutting pieces from a slab. */
  #forget(slab: Slab): void {
    if (slab === this.#current) this.#current = undefined;
    if (slab === this.#short) this.#short = undefined;
  }

  /** Number of bytes by which a piece of this length would increase {@link held}. */
  #costOf(length: number): number {
    if (length === 0) return 0;
    const shared = length > smallest ? undefined : this.#sharedFor(length);
    return shared && shared.used + length <= shared.bytes.length ? 0 : sizeFor(length);
  }
}
