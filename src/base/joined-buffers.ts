/**
 * Several Buffers in sequence as one: the pieces of one transfer that are not adjacent in memory.
 */
import { checkRange, type Buffers } from './buffers.js';

export class JoinedBuffers implements Buffers {
  readonly length: number;
  readonly #parts: readonly Buffers[];
  /** Offset of each part, in bytes. */
  readonly #starts: readonly number[];

  constructor(parts: readonly Buffers[]) {
    const starts: number[] = [];
    let length = 0;
    for (const part of parts) {
      starts.push(length);
      length += part.length;
    }
    this.#parts = parts;
    this.#starts = starts;
    this.length = length;
  }

  copyFrom(source: Uint8Array, at: number): void {
    this.#each(at, source.length, (part, from, length, done) => {
      part.copyFrom(source.subarray(done, done + length), from);
    });
  }

  copyTo(target: Uint8Array, at: number): void {
    this.#each(at, target.length, (part, from, length, done) => {
      part.copyTo(target.subarray(done, done + length), from);
    });
  }

  zero(at: number, length: number): void {
    this.#each(at, length, (part, from, some) => part.zero(from, some));
  }

  slice(start: number, end: number): Buffers {
    const parts: Buffers[] = [];
    this.#each(start, end - start, (part, from, length) => void parts.push(part.slice(from, from + length)));
    return new JoinedBuffers(parts);
  }

  stable(): readonly Uint8Array[] | undefined {
    const all: Uint8Array[] = [];
    for (const part of this.#parts) {
      const views = part.stable();
      if (!views) return undefined;
      all.push(...views);
    }
    return all;
  }

  /**
   * Calls `act` for each part that [at, at + length) touches, with the touched bytes [from, from +
   * length) of that part and the number `done` of bytes before them.
   */
  #each(at: number, length: number, act: (part: Buffers, from: number, length: number, done: number) => void): void {
    checkRange(this.length, at, length);
    for (let [index, done] = [this.#indexOf(at), 0]; done < length; index++) {
      const part = this.#parts[index]!;
      const from = at + done - this.#starts[index]!;
      const some = Math.min(part.length - from, length - done);
      if (some > 0) act(part, from, some, done);
      done += some;
    }
  }

  /** Index of the part that contains byte `at`. */
  #indexOf(at: number): number {
    let [low, high] = [0, this.#starts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= at) low = middle;
      else high = middle;
    }
    return low;
  }
}
