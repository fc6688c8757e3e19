/** Random numbers that a seed repeats: xorshift, 32 bits. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** A whole number of [0, 2^32). */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** A whole number of [0, below). */
  below(below: number): number {
    return this.next() % below;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.next() % times === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.next() % from.length]!;
  }
}
