/**
 * Buffers over several arrays: the pieces of one transfer, in order, that are not adjacent in
 * memory.
 */
import { checkRange, type Buffers } from './buffers.js';

class ScatteredBuffers implements Buffers {
  readonly length: number;
  readonly #views: readonly Uint8Array[];

  constructor(views: readonly Uint8Array[]) {
    this.#views = views;
    this.length = views.reduce((sum, view) => sum + view.length, 0);
  }

  copyFrom(source: Uint8Array, at: number): void {
    this.#each(at, source.length, (part, done) => part.set(source.subarray(done, done + part.length)));
  }

  copyTo(target: Uint8Array, at: number): void {
    this.#each(at, target.length, (part, done) => target.set(part, done));
  }

  zero(at: number, length: number): void {
    this.#each(at, length, (part) => part.fill(0));
  }

  slice(start: number, end: number): Buffers {
    const parts: Uint8Array[] = [];
    this.#each(start, end - start, (part) => parts.push(part));
    return new ScatteredBuffers(parts);
  }

  stable(): readonly Uint8Array[] {
    return this.#views;
  }

  /** Calls `act` with each part of [at, at + length) and the number of bytes before that part. */
  #each(at: number, length: number, act: (part: Uint8Array, done: number) => void): void {
    checkRange(this.length, at, length);
    let start = 0;
    for (const view of this.#views) {
      const from = Math.max(at, start);
      const to = Math.min(at + length, start + view.length);
      if (from < to) act(view.subarray(from - start, to - start), from - at);
      start += view.length;
    }
  }
}

/** {@link Buffers} over arrays that do not move, in order. The arrays are not copied. */
export function scattered(views: readonly Uint8Array[]): Buffers {
  return new ScatteredBuffers(views);
}
