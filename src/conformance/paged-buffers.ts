/**
 * Buffers as a guest's memory is: pages that are not adjacent and not in order, in an array that
 * moves. A device that keeps a view over an `await` reads or writes the old array, which is filled
 * with rubbish at each move.
 */
import { checkRange, type Buffers } from '../base/buffers.js';
import type { Random } from './random.js';

const page = 4096;

/** The memory that many PagedBuffers share. */
export class MovingMemory {
  bytes: Uint8Array;

  constructor(pages: number) {
    this.bytes = new Uint8Array(pages * page);
  }

  /** Moves the memory to a new array, as an engine may whenever its guest runs. */
  move(): void {
    const old = this.bytes;
    this.bytes = old.slice();
    old.fill(0xdb);
  }
}

interface Piece {
  readonly address: number;
  readonly length: number;
}

export class PagedBuffers implements Buffers {
  readonly length: number;
  readonly #memory: MovingMemory;
  readonly #pieces: readonly Piece[];

  constructor(memory: MovingMemory, pieces: readonly Piece[]) {
    this.#memory = memory;
    this.#pieces = pieces;
    this.length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  /**
   * `length` bytes in a memory of their own, on scattered pages, the first piece beginning within a
   * page.
   */
  static scattered(length: number, random: Random): { buffers: PagedBuffers; memory: MovingMemory } {
    const first = length === 0 ? 0 : Math.min(length, 1 + random.below(page));
    const count = 1 + Math.ceil((length - first) / page);
    const memory = new MovingMemory(2 * count);
    const order = random.shuffled(Array.from({ length: count }, (_, index) => 2 * index));
    const pieces: Piece[] = [];
    for (let done = 0, index = 0; done < length; index++) {
      const size = index === 0 ? first : Math.min(page, length - done);
      pieces.push({ address: order[index]! * page + (index === 0 ? page - first : 0), length: size });
      done += size;
    }
    return { buffers: new PagedBuffers(memory, pieces), memory };
  }

  copyFrom(source: Uint8Array, at: number): void {
    this.#each(at, source.length, (place, from) => place.set(source.subarray(from, from + place.length)));
  }

  copyTo(target: Uint8Array, at: number): void {
    this.#each(at, target.length, (place, from) => target.set(place, from));
  }

  zero(at: number, length: number): void {
    this.#each(at, length, (place) => place.fill(0));
  }

  slice(start: number, end: number): PagedBuffers {
    checkRange(this.length, start, end - start);
    const pieces: Piece[] = [];
    let at = 0;
    for (const piece of this.#pieces) {
      const from = Math.max(start, at);
      const to = Math.min(end, at + piece.length);
      if (from < to) pieces.push({ address: piece.address + from - at, length: to - from });
      at += piece.length;
    }
    return new PagedBuffers(this.#memory, pieces);
  }

  stable(): undefined {
    return undefined;
  }

  #each(at: number, length: number, act: (place: Uint8Array, from: number) => void): void {
    checkRange(this.length, at, length);
    let from = 0;
    for (const { address, length: size } of this.slice(at, at + length).#pieces) {
      act(this.#memory.bytes.subarray(address, address + size), from);
      from += size;
    }
  }
}
