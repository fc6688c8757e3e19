/**
 * Decoder of LZMA2, the compression of .xz files.
 *
 * Specification: LZMA specification (7-zip.org/sdk.html, `lzma-specification.txt`) for the data;
 * the chunks around it as the XZ Utils write them (their `lzma2_decoder.c` describes the control
 * bytes; the .xz format has no text on them).
 *
 * Left out: the end marker of LZMA1, which LZMA2 does not use.
 */
import { RangeDecoder, resetProbabilities } from './range-decoder.js';

/** Maximum unpacked size of one chunk in bytes. */
const maxChunk = 1 << 21;
const states = 12;
const positionStates = 16;

/** Offsets of the groups of probabilities in one array. */
const at = {
  isMatch: 0,
  isRep: states * positionStates,
  isRepG0: states * positionStates + states,
  isRepG1: states * positionStates + 2 * states,
  isRepG2: states * positionStates + 3 * states,
  isRep0Long: states * positionStates + 4 * states,
  slot: 2 * states * positionStates + 4 * states,
  special: 2 * states * positionStates + 4 * states + 4 * 64,
  align: 2 * states * positionStates + 4 * states + 4 * 64 + 128,
  length: 2 * states * positionStates + 4 * states + 4 * 64 + 128 + 16,
} as const;
/** Within a length decoder: two choices, then the trees for short, middle and long lengths. */
const lengthAt = { choice: 0, choice2: 1, low: 2, middle: 2 + positionStates * 8, high: 2 + 2 * positionStates * 8 };
const lengthSize = lengthAt.high + 256;
const repLengthAt = at.length + lengthSize;
const literalAt = repLengthAt + lengthSize;
const shortestMatch = 2;

/** Thrown for damaged data. */
export class DamagedError extends RangeError {}

/** Decodes one LZMA2 stream. */
export class Lzma2Decoder {
  readonly #dictionary: number;
  /** The dictionary, followed by the chunk that is being decoded. */
  readonly #window: Uint8Array;
  /** Number of bytes in the window. */
  #end = 0;
  /** Number of bytes at the end of the window that matches may refer to. */
  #known = 0;
  /** Number of bytes since the dictionary was reset; only its lowest bits matter. */
  #position = 0;
  readonly #decoder = new RangeDecoder();
  #probabilities: Uint16Array | undefined;
  #literalContextBits = 0;
  #literalPositionMask = 0;
  #positionMask = 0;
  #state = 0;
  /** The distances of the last four matches. */
  readonly #distances = new Int32Array(4);

  /** @param dictionary Size of the dictionary in bytes. */
  constructor(dictionary: number) {
    this.#dictionary = dictionary;
    this.#window = new Uint8Array(2 * dictionary + maxChunk);
  }

  /**
   * Yields the unpacked bytes of `input` from `start` on. Each part is valid until the next one.
   * @returns The offset after the end of the stream.
   * @throws DamagedError
   */
  *decode(input: Uint8Array, start: number): Generator<Uint8Array, number> {
    let next = start;
    let needs: 'dictionary' | 'properties' | 'state' | 'nothing' = 'dictionary';
    for (;;) {
      const control = input[next];
      if (control === undefined) throw new DamagedError('the data ends early');
      if (control === 0) return next + 1;
      if (control === 1 || control >= 0xe0) {
        this.#known = 0;
        this.#position = 0;
        if (needs === 'dictionary') needs = 'properties';
      }
      if (needs === 'dictionary') throw new DamagedError('a chunk needs a dictionary');
      if (next + 6 > input.length) throw new DamagedError('the data ends early');
      this.#makeRoom();
      const before = this.#end;
      if (control < 0x80) {
        if (control > 2) throw new DamagedError('a chunk has an unknown type');
        const size = ((input[next + 1]! << 8) | input[next + 2]!) + 1;
        next += 3;
        if (next + size > input.length) throw new DamagedError('the data ends early');
        this.#window.set(input.subarray(next, next + size), this.#end);
        next += size;
        this.#advance(size);
        // The format demands a reset of the state before the next compressed chunk.
        if (needs === 'nothing') needs = 'state';
      } else {
        const size = (((control & 0x1f) << 16) | (input[next + 1]! << 8) | input[next + 2]!) + 1;
        const packed = ((input[next + 3]! << 8) | input[next + 4]!) + 1;
        next += 5;
        const reset = (control >> 5) & 3;
        if (reset < (needs === 'properties' ? 2 : needs === 'state' ? 1 : 0)) {
          throw new DamagedError('a chunk needs a reset');
        }
        if (reset >= 2) this.#setProperties(input[next++]!);
        if (reset >= 1) this.#resetState();
        needs = 'nothing';
        if (next + packed > input.length) throw new DamagedError('the data ends early');
        this.#chunk(input.subarray(next, next + packed), size);
        next += packed;
      }
      yield this.#window.subarray(before, this.#end);
    }
  }

  /** Moves the dictionary to the window's start if a chunk would not fit behind it. */
  #makeRoom(): void {
    if (this.#end + maxChunk <= this.#window.length) return;
    const keep = Math.min(this.#known, this.#dictionary);
    this.#window.copyWithin(0, this.#end - keep, this.#end);
    this.#end = keep;
  }

  #advance(size: number): void {
    this.#end += size;
    this.#position = (this.#position + size) | 0;
    this.#known = Math.min(this.#known + size, this.#dictionary);
  }

  #setProperties(byte: number): void {
    const positionBits = Math.floor(byte / 45);
    const literalPositionBits = Math.floor(byte / 9) % 5;
    this.#literalContextBits = byte % 9;
    if (positionBits > 4 || this.#literalContextBits + literalPositionBits > 4) {
      throw new DamagedError('a chunk has impossible properties');
    }
    this.#positionMask = (1 << positionBits) - 1;
    this.#literalPositionMask = (1 << literalPositionBits) - 1;
    this.#probabilities = new Uint16Array(literalAt + (0x300 << (this.#literalContextBits + literalPositionBits)));
  }

  #resetState(): void {
    resetProbabilities(this.#probabilities!);
    this.#state = 0;
    this.#distances.fill(0);
  }

  /** Decodes one chunk, which unpacks to `size` bytes. */
  #chunk(input: Uint8Array, size: number): void {
    const decoder = this.#decoder;
    if (!decoder.start(input, 0)) throw new DamagedError('a chunk begins wrong');
    const probabilities = this.#probabilities!;
    const window = this.#window;
    const distances = this.#distances;
    const first = this.#end;
    const limit = first + size;
    const shift = this.#position - first;
    let end = first;
    let state = this.#state;
    while (end < limit) {
      const positionState = (end + shift) & this.#positionMask;
      if (decoder.bit(probabilities, at.isMatch + (state << 4) + positionState) === 0) {
        const before = this.#known + end - first > 0 ? window[end - 1]! : 0;
        const context =
          (((end + shift) & this.#literalPositionMask) << this.#literalContextBits) +
          (before >> (8 - this.#literalContextBits));
        // After a match, the byte that the match would have gone on with is part of the context.
        const matched = state < 7 ? -1 : window[end - distances[0]! - 1]!;
        window[end++] = literal(decoder, probabilities, literalAt + 0x300 * context, matched);
        state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }
      let length: number;
      if (decoder.bit(probabilities, at.isRep + state) === 0) {
        length = matchLength(decoder, probabilities, at.length, positionState);
        distances.copyWithin(1, 0, 3);
        distances[0] = matchDistance(decoder, probabilities, length);
        state = state < 7 ? 7 : 10;
      } else {
        let short = false;
        if (decoder.bit(probabilities, at.isRepG0 + state) === 0) {
          short = decoder.bit(probabilities, at.isRep0Long + (state << 4) + positionState) === 0;
        } else {
          const which =
            decoder.bit(probabilities, at.isRepG1 + state) === 0
              ? 1
              : 2 + decoder.bit(probabilities, at.isRepG2 + state);
          const distance = distances[which]!;
          distances.copyWithin(1, 0, which);
          distances[0] = distance;
        }
        length = short ? 1 : matchLength(decoder, probabilities, repLengthAt, positionState);
        state = short ? (state < 7 ? 9 : 11) : state < 7 ? 8 : 11;
      }
      const from = end - distances[0]! - 1;
      const known = Math.min(this.#known + end - first, this.#dictionary);
      if (distances[0]! < 0 || distances[0]! >= known || length > limit - end) {
        throw new DamagedError('a match refers to nothing');
      }
      for (let i = 0; i < length; i++) window[end + i] = window[from + i]!;
      end += length;
    }
    if (decoder.position !== input.length || !decoder.finished) throw new DamagedError('a chunk ends wrong');
    this.#state = state;
    this.#advance(size);
  }
}

/** @param matched The byte at the last match's distance, or -1 if a literal was before. */
function literal(decoder: RangeDecoder, probabilities: Uint16Array, base: number, matched: number): number {
  let symbol = 1;
  if (matched >= 0) {
    while (symbol < 0x100) {
      const expected = (matched >> 7) & 1;
      matched <<= 1;
      const bit = decoder.bit(probabilities, base + ((1 + expected) << 8) + symbol);
      symbol = (symbol << 1) | bit;
      if (bit !== expected) break;
    }
  }
  while (symbol < 0x100) symbol = (symbol << 1) | decoder.bit(probabilities, base + symbol);
  return symbol & 0xff;
}

function matchLength(decoder: RangeDecoder, probabilities: Uint16Array, base: number, positionState: number): number {
  if (decoder.bit(probabilities, base + lengthAt.choice) === 0) {
    return shortestMatch + decoder.tree(probabilities, base + lengthAt.low + positionState * 8, 3);
  }
  if (decoder.bit(probabilities, base + lengthAt.choice2) === 0) {
    return shortestMatch + 8 + decoder.tree(probabilities, base + lengthAt.middle + positionState * 8, 3);
  }
  return shortestMatch + 16 + decoder.tree(probabilities, base + lengthAt.high, 8);
}

/** The distance minus 1. Negative for distances above 2 GiB, which no dictionary here has. */
function matchDistance(decoder: RangeDecoder, probabilities: Uint16Array, length: number): number {
  const lengthState = Math.min(length - shortestMatch, 3);
  const slot = decoder.tree(probabilities, at.slot + lengthState * 64, 6);
  if (slot < 4) return slot;
  const bits = (slot >> 1) - 1;
  const base = (2 | (slot & 1)) << bits;
  if (slot < 14) return base + decoder.reverseTree(probabilities, at.special + base - slot, bits);
  return (base + (decoder.direct(bits - 4) << 4) + decoder.reverseTree(probabilities, at.align, 4)) | 0;
}
