/**
 * Memory for what is under way on a target: payloads of writes and replies. Small pieces are cut from a slab one after
 * the other, so that replies that follow each other lie side by side and go out as one; large ones get a slab of
 * their own. Slabs that are not in use are kept for the next request, up to a bound for the whole process: an idle
 * connection holds none.
 *
 * Bounds count slabs, not pieces: a slab is held as long as one piece of it is. Replies without data have slabs of their
 * own, so that a client that does not take them holds next to nothing, whatever has lain beside them.
 */
import { nextTurn } from '../../../base/turn.js';

/** Size of the slab that small pieces are cut from, in bytes. */
const sharedSize = 1 << 18;
/** The same for the shortest pieces, and how long those are at most. */
const shortSize = 1 << 14;
const shortest = 1 << 10;
/** Pieces above this get a slab of their own. */
const smallest = 1 << 16;
/** What a slab has beside a power of two, for a header. */
const margin = 1 << 12;
/** Largest slab that is kept for reuse. Longer ones are left to the garbage collector. */
const largestKept = (1 << 22) + margin;
/** What a connection that holds nothing may take though all there is for everybody is taken, in bytes. */
const alwaysMine = (1 << 20) + margin;

/** One array and how many pieces of it are in use. Made by {@link SlabPool}. */
export class Slab {
  readonly bytes: Uint8Array;
  uses = 0;
  /** Bytes from the start that have been cut off since the slab was last unused. */
  used = 0;
  /** Somebody may still read a part of it after its last piece has been given back. */
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

/** Somebody who waits for memory that others hold. */
interface Waiting {
  readonly cost: number;
  readonly wake: () => void;
}

/** All slabs: those in use, counted, and those that are not. One for all connections of a process. */
export class SlabPool {
  readonly #free = new Map<number, Slab[]>();
  readonly #maxKept: number;
  readonly #maxUsed: number;
  #kept = 0;
  #used = 0;
  #queue: Waiting[] = [];
  /** Those who wait are being served. */
  #serving = false;
  #scheduled = false;
  /** Called when somebody begins to wait for memory that others hold. */
  onShort: () => void = () => undefined;

  /**
   * @param maxKept Bytes of unused slabs that are kept at most.
   * @param maxUsed Bytes of slabs in use from which on connections wait for each other.
   */
  constructor(maxKept = 16 << 20, maxUsed = 512 << 20) {
    this.#maxKept = maxKept;
    this.#maxUsed = maxUsed;
  }

  /** Bytes of the slabs that are in use. */
  get used(): number {
    return this.#used;
  }

  /** Whether somebody waits for memory that others hold. */
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

  /** Whether `cost` more bytes may be taken. @param first By a connection that holds none. */
  admits(cost: number, first: boolean): boolean {
    if (first && cost <= alwaysMine) return true;
    // Who waits goes first: else much that is short would keep what is long waiting for ever.
    return (this.#queue.length === 0 || this.#serving) && this.#fits(cost);
  }

  /** Has `wake` called when {@link admits} may say yes. Once; not after {@link leave}. */
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
    nextTurn(() => {
      this.#scheduled = false;
      this.#serving = true;
      while (this.#queue.length > 0 && this.#fits(this.#queue[0]!.cost)) this.#queue.shift()!.wake();
      this.#serving = false;
    });
  }
}

/** Slabs come in few sizes, so that they fit again: powers of two with room for a header. */
function sizeFor(length: number): number {
  if (length <= shortest) return shortSize;
  if (length <= smallest) return sharedSize;
  if (length > largestKept) return length;
  let size = smallest;
  while (size + margin < length) size *= 2;
  return size + margin;
}

/** One connection's pieces, counted. */
export class Arena {
  readonly #pool: SlabPool;
  /** The slabs that are being cut up: for the shortest pieces, and for others. */
  #short: Slab | undefined;
  #current: Slab | undefined;
  #inUse = 0;
  #held = 0;
  #waiting: Waiting | undefined;

  constructor(pool: SlabPool) {
    this.#pool = pool;
  }

  /** Bytes of all pieces that were taken and not released. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Bytes of the slabs that they are in. */
  get held(): number {
    return this.#held;
  }

  /**
   * Whether a piece of this length may be taken: within `most` bytes, but for one alone, and within what there is for all
   * connections. Where the latter is missing, `wake` is called when it is to be asked again.
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

  /** A piece of `length` bytes. Its content is what was there before: fill it, or send nothing of it. */
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

  /** Gives a piece back; once, when nobody reads or writes it any more. */
  release({ slab, start, end }: Piece): void {
    this.#inUse -= end - start;
    if (--slab.uses > 0) return;
    this.#forget(slab);
    this.#held -= slab.bytes.length;
    this.#pool.give(slab);
  }

  /** Gives a piece back whose memory may still be read by somebody: it is not used again. */
  abandon(piece: Piece): void {
    piece.slab.abandoned = true;
    this.#forget(piece.slab);
    this.release(piece);
  }

  /** Waits no more. */
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

  /** Nothing more is cut from it. */
  #forget(slab: Slab): void {
    if (slab === this.#current) this.#current = undefined;
    if (slab === this.#short) this.#short = undefined;
  }

  /** What a piece of this length would add to what is held. */
  #costOf(length: number): number {
    if (length === 0) return 0;
    const shared = length > smallest ? undefined : this.#sharedFor(length);
    return shared && shared.used + length <= shared.bytes.length ? 0 : sizeFor(length);
  }
}
