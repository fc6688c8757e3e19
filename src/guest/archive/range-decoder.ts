/**
 * The range decoder of LZMA: reads bits whose probabilities adapt to what was read.
 *
 * Specification: LZMA specification (7-zip.org/sdk.html, lzma-specification.txt), "Range Decoder".
 */

/** A probability is the chance of a 0 in units of 1/2048. */
const probabilityBits = 11;
const half = 1 << (probabilityBits - 1);
/** How quickly probabilities adapt. */
const adaptShift = 5;
/** Below this the range gets another byte of input. */
const leastRange = 1 << 24;

/** Sets all probabilities to one half. */
export function resetProbabilities(probabilities: Uint16Array): void {
  probabilities.fill(half);
}

export class RangeDecoder {
  // Both are unsigned 32-bit numbers in signed form, which V8 keeps without allocating memory.
  #range = 0;
  #code = 0;
  #input: Uint8Array = new Uint8Array(0);
  #at = 0;

  /**
   * Starts at `input[at]`. Reads zeroes after the input's end; {@link position} then exceeds it.
   * @returns False if the first byte is not 0, as it must be.
   */
  start(input: Uint8Array, at: number): boolean {
    this.#input = input;
    this.#range = -1;
    this.#code = 0;
    for (let i = 1; i < 5; i++) this.#code = (this.#code << 8) | (input[at + i] ?? 0);
    this.#at = at + 5;
    return input[at] === 0;
  }

  /** Offset of the next byte of input. */
  get position(): number {
    return this.#at;
  }

  /** True if the code is 0, as it is at the end of undamaged data. */
  get finished(): boolean {
    return this.#code === 0;
  }

  /** Reads a bit with the probability at `index`. */
  bit(probabilities: Uint16Array, index: number): number {
    const probability = probabilities[index]!;
    const bound = Math.imul(this.#range >>> probabilityBits, probability);
    let bit: number;
    if (this.#code >>> 0 < bound >>> 0) {
      this.#range = bound;
      probabilities[index] = probability + ((2 * half - probability) >> adaptShift);
      bit = 0;
    } else {
      this.#range = (this.#range - bound) | 0;
      this.#code = (this.#code - bound) | 0;
      probabilities[index] = probability - (probability >> adaptShift);
      bit = 1;
    }
    if (this.#range >>> 0 < leastRange) this.#refill();
    return bit;
  }

  /** Reads `count` bits, the most significant first, with the tree of probabilities at `base`. */
  tree(probabilities: Uint16Array, base: number, count: number): number {
    let node = 1;
    for (let i = 0; i < count; i++) node = (node << 1) | this.bit(probabilities, base + node);
    return node - (1 << count);
  }

  /** Reads `count` bits, the least significant first, with the tree of probabilities at `base`. */
  reverseTree(probabilities: Uint16Array, base: number, count: number): number {
    let node = 1;
    let value = 0;
    for (let i = 0; i < count; i++) {
      const bit = this.bit(probabilities, base + node);
      node = (node << 1) | bit;
      value |= bit << i;
    }
    return value;
  }

  /** Reads `count` bits that are 0 or 1 with equal chances. */
  direct(count: number): number {
    let value = 0;
    for (let i = 0; i < count; i++) {
      this.#range >>>= 1;
      const bit = this.#code >>> 0 >= this.#range >>> 0 ? 1 : 0;
      if (bit) this.#code = (this.#code - this.#range) | 0;
      if (this.#range >>> 0 < leastRange) this.#refill();
      value = (value << 1) | bit;
    }
    return value;
  }

  #refill(): void {
    this.#range <<= 8;
    this.#code = (this.#code << 8) | (this.#at < this.#input.length ? this.#input[this.#at]! : 0);
    this.#at++;
  }
}
