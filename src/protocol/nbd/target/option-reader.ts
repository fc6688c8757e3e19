/**
 * Collects the client's flags and options of a handshake from the bytes of a connection ([NBD]
 * "Handshake", "Option haggling"). The bytes may arrive in pieces of any size
 * (docs/notes/sockets.md, "Split options").
 *
 * Not here: what an option means and its answer (handshake.ts), formats of data (options.ts).
 */
import { NBD_OPTION_MAGIC } from '../spec.js';
import { getBigU64, getU32 } from '../../../base/big-endian.js';
import type { TargetLimits } from './limits.js';

const optionHeaderSize = 16;
/** Longest data of an option that is skipped, in bytes. Longer data ends the connection. */
const maxSkip = 1 << 20;
/** Longest buffer for option data that is kept for the next option, in bytes. */
const keptLength = 1024;

/** Receives the client's flags and options. It may call {@link OptionReader.stop} at any time. */
export interface OptionSink {
  /** True while the sink takes no options. */
  readonly waiting: boolean;
  flags(flags: number): void;
  option(option: number, data: Uint8Array): void;
  /** An option had too much data, which was skipped. */
  tooLong(option: number): void;
  /** The peer violated the protocol. `reason` is a clause about the peer: "it sent …". */
  broken(reason: string): void;
}

export class OptionReader {
  readonly #sink: OptionSink;
  readonly #limits: TargetLimits;
  #buffer = new Uint8Array(optionHeaderSize);
  #have = 0;
  /** Number of bytes until the next step: to put into the buffer, or to skip. */
  #need = 4;
  /** The kind of bytes that come next. 'over': they are for the next phase. */
  #expected: 'flags' | 'option' | 'data' | 'skip' | 'over' = 'flags';
  #option = 0;
  #options = 0;

  constructor(sink: OptionSink, limits: TargetLimits) {
    this.#sink = sink;
    this.#limits = limits;
  }

  /** True if the handshake takes no more bytes. */
  get over(): boolean {
    return this.#expected === 'over';
  }

  /** Takes no more bytes: the rest is for the next phase. */
  stop(): void {
    this.#expected = 'over';
  }

  /** Takes options now: the flags are known. */
  expectOption(): void {
    this.#expect('option', optionHeaderSize);
  }

  /**
   * Takes bytes of `chunk` from index `at` on, until the sink waits or {@link over} is true.
   * @returns the index of the first byte that was not taken
   */
  receive(chunk: Uint8Array, at: number): number {
    const end = chunk.length;
    // The step that enters transmission leaves the rest of the chunk to the next phase.
    while (at < end && !this.over && !this.#sink.waiting) {
      const length = Math.min(this.#need - this.#have, end - at);
      if (this.#expected !== 'skip') this.#keep(chunk.subarray(at, at + length));
      this.#have += length;
      at += length;
      if (this.#have === this.#need) this.#step();
    }
    return at;
  }

  #expect(what: 'option' | 'data' | 'skip', need: number): void {
    this.#expected = what;
    this.#need = need;
    this.#have = 0;
  }

  /**
   * Keeps received bytes. The buffer grows with the bytes that arrive, not with the announced
   * length. It is dropped after a long option.
   */
  #keep(bytes: Uint8Array): void {
    const have = this.#have + bytes.length;
    if (have > this.#buffer.length) {
      const grown = new Uint8Array(Math.min(this.#need, Math.max(have, 2 * this.#buffer.length)));
      grown.set(this.#buffer.subarray(0, this.#have));
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#have);
  }

  #step(): void {
    switch (this.#expected) {
      case 'flags':
        return this.#sink.flags(getU32(this.#buffer, 0));
      case 'option':
        return this.#header();
      case 'data': {
        const data = this.#buffer.subarray(0, this.#need);
        if (this.#buffer.length > keptLength) this.#buffer = new Uint8Array(optionHeaderSize);
        // Set this first: the option may end the handshake.
        this.expectOption();
        return this.#sink.option(this.#option, data);
      }
      case 'skip':
        this.expectOption();
        return this.#sink.tooLong(this.#option);
      case 'over':
    }
  }

  #header(): void {
    const { maxOptions, maxOptionLength } = this.#limits;
    if (getBigU64(this.#buffer, 0) !== NBD_OPTION_MAGIC)
      return this.#sink.broken('it sent something that is no option');
    if (++this.#options > maxOptions) return this.#sink.broken('it sent too many options');
    this.#option = getU32(this.#buffer, 8);
    const length = getU32(this.#buffer, 12);
    if (length > maxSkip) return this.#sink.broken('it sent an oversized option');
    if (length > maxOptionLength) return this.#expect('skip', length);
    if (length > 0) return this.#expect('data', length);
    this.expectOption();
    this.#sink.option(this.#option, new Uint8Array(0));
  }
}
