/**
 * Parses replies in place, from chunks of any size. Data of reads goes straight into the callers'
 * memory: by a copy from the chunk, and a long rest by a system call that receives it there. Any
 * violation of the specification throws a {@link PeerError}, after which the connection is
 * unusable.
 *
 * Sources: [NBD] "Simple reply message", "Structured reply chunk message", "Structured reply
 * types"; [EXT] "Extended reply chunk message".
 */
import {
  NbdCommand,
  EXTENDED_HEADER_SIZE,
  NBD_EXTENDED_REPLY_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  NbdError,
  ReplyFlag,
  ReplyType,
  maxString,
  type HeaderStyle,
} from '../spec.js';
import { getU16, getU32, getU64 } from '../../../base/big-endian.js';
import { PeerError, serverText, replyError } from './errors.js';
import { maxStatusRuns } from './extents.js';
import type { Buffers } from '../../../base/buffers.js';
import type { NbdRequest } from './request.js';

/** Knows the requests in flight. */
export interface ReplyTable {
  /** Finds the request with this cookie; undefined if there is none. */
  find(cookieHigh: number, cookieLow: number): NbdRequest | undefined;
  /** The request has been answered; its `error` or `shutdown` says how. */
  finish(request: NbdRequest): void;
}

/** Least rest of a read's data that is worth a system call of its own, in bytes. */
const leastDirect = 1 << 14;

/** The negotiated facts that the format of replies depends on. */
export interface ReplyTerms {
  readonly style: HeaderStyle;
  /** Id of the context base:allocation, if it was selected. */
  readonly allocationId?: number | undefined;
}

/**
 * Receives bytes [at, at + length) of a read's memory, which has `places`, as far as they have
 * arrived. They are those that follow the present chunk.
 * @returns the number of bytes; 0 if there are none now
 */
export type Receive = (into: Buffers, at: number, length: number) => number;

/**
 * The next part of a reply. Parts up to `gathered` have a fixed size and are collected first; the
 * others are streams of `#left` bytes.
 */
const Next = {
  head: 0,
  length: 1,
  data: 2,
  hole: 3,
  error: 4,
  context: 5,
  run: 6,
  extendedHead: 7,
  extendedContext: 8,
  extendedRun: 9,
  gathered: 9,
  read: 10,
  text: 11,
  skip: 12,
};
/** Sizes of the fixed-size parts, in bytes. */
const sizes = [16, 4, 8, 12, 6, 4, 8, EXTENDED_HEADER_SIZE, 8, 16];

/** [NBD] "Structured reply types": the bit that all error types have. */
const errorBit = 1 << 15;
const wrongStatusLength = 'a block status chunk of a wrong length';
/**
 * Longest error chunk that is accepted, in bytes: a text of maximum length, and ample space for
 * other fields.
 */
const maxErrorChunk = 2 * maxString;
/** [NBD] NBD_REPLY_TYPE_BLOCK_STATUS: at most 2^20 descriptors. */
const maxDescriptors = 2 ** 20;
/** Longest payload of any chunk that is examined further, in bytes. */
const maxChunk = 8 + 16 * maxDescriptors + 2 ** 30;

export class ReplyParser {
  readonly #table: ReplyTable;
  readonly #terms: ReplyTerms;
  readonly #receive: Receive | undefined;
  /** The part with which a reply begins. */
  readonly #first: number;
  #next: number;
  /** The first bytes of a fixed-size part that continues in the next chunk. */
  readonly #partial = new Uint8Array(EXTENDED_HEADER_SIZE);
  #have = 0;
  /** Bytes of this chunk's payload still to come. */
  #left = 0;
  /** Index in the read's memory, or in the text, of the next byte. */
  #at = 0;
  #request: NbdRequest | undefined;
  #flags = 0;
  #type = 0;
  #simple = false;
  /**
   * The value of an error, the part of its text that has arrived, and the number of bytes after the
   * text.
   */
  #errorValue = 0;
  #text = new Uint8Array(0);
  #afterText = 0;

  /** @param receive undefined if the connection's stream cannot */
  constructor(table: ReplyTable, terms: ReplyTerms, receive?: Receive) {
    this.#table = table;
    this.#receive = receive;
    this.#terms = terms;
    this.#next = this.#first = terms.style === 'extended' ? Next.extendedHead : Next.head;
  }

  /** Parses the next bytes. */
  push(chunk: Uint8Array): void {
    const { length } = chunk;
    let at = 0;
    while (at < length) {
      if (this.#next > Next.gathered) {
        const count = Math.min(this.#left, length - at);
        this.#stream(count === length ? chunk : chunk.subarray(at, at + count));
        at += count;
        continue;
      }
      const size = sizes[this.#next]!;
      if (this.#have === 0 && length - at >= size) {
        this.#gathered(chunk, at);
        at += size;
        continue;
      }
      const count = Math.min(size - this.#have, length - at);
      this.#partial.set(chunk.subarray(at, at + count), this.#have);
      this.#have += count;
      at += count;
      if (this.#have < size) return;
      this.#have = 0;
      this.#gathered(this.#partial, 0);
    }
    if (this.#next === Next.read && this.#left >= leastDirect) this.#receiveRest();
  }

  /** Receives what has arrived of the rest of a read's data. */
  #receiveRest(): void {
    const { buffers } = this.#request!;
    if (!this.#receive || !buffers?.places) return;
    const count = this.#request!.receive(() => this.#receive!(buffers, this.#at, this.#left));
    this.#at += count;
    this.#left -= count;
    if (this.#left === 0) this.#endOfChunk();
  }

  #gathered(bytes: Uint8Array, at: number): void {
    switch (this.#next) {
      case Next.head:
        return this.#head(bytes, at);
      case Next.length:
        return this.#structured(getU32(bytes, at));
      case Next.data:
        return this.#data(getU32(bytes, at), getU32(bytes, at + 4));
      case Next.hole:
        return this.#hole(getU32(bytes, at), getU32(bytes, at + 4), getU32(bytes, at + 8));
      case Next.error:
        return this.#error(getU32(bytes, at), getU16(bytes, at + 4));
      case Next.context:
        return this.#context(getU32(bytes, at), Next.run);
      case Next.run:
        return this.#run(getU32(bytes, at), getU32(bytes, at + 4), 8);
      case Next.extendedHead:
        return this.#extendedHead(bytes, at);
      case Next.extendedContext:
        if (getU32(bytes, at + 4) * 16 !== this.#left - 8) throw new PeerError('a block status that is miscounted');
        return this.#context(getU32(bytes, at), Next.extendedRun);
      default:
        // The contexts that we select use only the lower 32 of the 64 flag bits.
        return this.#run(getU64(bytes, at), getU32(bytes, at + 12), 16);
    }
  }

  #head(bytes: Uint8Array, at: number): void {
    const magic = getU32(bytes, at);
    const cookieHigh = getU32(bytes, at + 8);
    const cookieLow = getU32(bytes, at + 12);
    if (magic !== NBD_SIMPLE_REPLY_MAGIC && magic !== NBD_STRUCTURED_REPLY_MAGIC) {
      throw new PeerError('something that is not a reply');
    }
    const request = this.#table.find(cookieHigh, cookieLow);
    if (!request) throw new PeerError('a reply to no request in flight');
    this.#request = request;
    this.#simple = magic === NBD_SIMPLE_REPLY_MAGIC;
    if (this.#simple) {
      this.#simpleReply(request, getU32(bytes, at + 4));
    } else {
      if (this.#terms.style === 'simple') throw new PeerError('a structured reply, which was not agreed on');
      this.#flags = getU16(bytes, at + 4);
      this.#type = getU16(bytes, at + 6);
      this.#next = Next.length;
    }
  }

  #extendedHead(bytes: Uint8Array, at: number): void {
    if (getU32(bytes, at) !== NBD_EXTENDED_REPLY_MAGIC) throw new PeerError('something that is not a reply');
    const request = this.#table.find(getU32(bytes, at + 8), getU32(bytes, at + 12));
    if (!request) throw new PeerError('a reply to no request in flight');
    if (getU64(bytes, at + 16) !== request.offset)
      throw new PeerError('a reply with another offset than was asked for');
    this.#request = request;
    this.#simple = false;
    this.#flags = getU16(bytes, at + 4);
    this.#type = getU16(bytes, at + 6);
    const length = getU64(bytes, at + 24);
    if (length > maxChunk) throw new PeerError('a chunk that is far too long');
    this.#structured(length);
  }

  #simpleReply(request: NbdRequest, error: number): void {
    if (error !== 0) {
      this.#fail(request, error, '');
      return this.#finish(request);
    }
    if (request.type === NbdCommand.blockStatus) throw new PeerError('a simple reply to a block status request');
    if (request.type !== NbdCommand.read) return this.#finish(request);
    if (this.#terms.style !== 'simple')
      throw new PeerError('a simple reply to a read, though structured ones were agreed on');
    request.coverage.claim(0, request.length);
    this.#at = 0;
    this.#left = request.length;
    this.#next = Next.read;
  }

  /** Checks a chunk whose header is complete: whether its type and length fit the request. */
  #structured(length: number): void {
    const request = this.#request!;
    const done = (this.#flags & ReplyFlag.done) !== 0;
    const type = this.#type;
    this.#left = length;
    if (type === ReplyType.none) {
      if (length !== 0 || !done) throw new PeerError('an empty chunk that is not the last or not empty');
      this.#endOfChunk();
    } else if (type === ReplyType.offsetData && request.type === NbdCommand.read) {
      if (length < 9) throw new PeerError('a data chunk without data');
      this.#next = Next.data;
    } else if (type === ReplyType.offsetHole && request.type === NbdCommand.read) {
      if (length !== 12) throw new PeerError('a hole chunk of a wrong length');
      this.#next = Next.hole;
    } else if (type === ReplyType.blockStatus && request.type === NbdCommand.blockStatus) {
      if (this.#terms.style === 'extended') throw new PeerError('a block status of 32 bits, with extended headers');
      if (length < 12 || length % 8 !== 4 || length > 4 + 8 * maxDescriptors) throw new PeerError(wrongStatusLength);
      this.#next = Next.context;
    } else if (type === ReplyType.blockStatusExtended && request.type === NbdCommand.blockStatus) {
      if (this.#terms.style !== 'extended') throw new PeerError('a block status of 64 bits, which was not agreed on');
      if (length < 24 || length % 16 !== 8 || length > 8 + 16 * maxDescriptors) throw new PeerError(wrongStatusLength);
      this.#next = Next.extendedContext;
    } else if (type & errorBit) {
      if (length < 6 || length > maxErrorChunk) throw new PeerError('an error chunk of a wrong length');
      this.#next = Next.error;
    } else {
      throw new PeerError(`a chunk of type ${type}, which does not fit the request`);
    }
  }

  #data(high: number, low: number): void {
    const length = this.#left - 8;
    this.#at = this.#claim(high, low, length);
    this.#left = length;
    this.#next = Next.read;
  }

  #hole(high: number, low: number, length: number): void {
    if (length === 0) throw new PeerError('a hole of no bytes');
    const at = this.#claim(high, low, length);
    this.#request!.placeZeroes(at, length);
    this.#endOfChunk();
  }

  /** Records the arrival of bytes of a read. Returns their index in the read. */
  #claim(high: number, low: number, length: number): number {
    const request = this.#request!;
    const start = high * 2 ** 32 + low - request.offset;
    if (!(start >= 0 && start + length <= request.length)) throw new PeerError('data that was not asked for');
    request.coverage.claim(start, start + length);
    return start;
  }

  #error(value: number, textLength: number): void {
    const fixed = this.#type === ReplyType.errorOffset ? 14 : 6;
    if (value === 0) throw new PeerError('an error chunk that says success');
    if (textLength > this.#left - fixed || textLength > maxString)
      throw new PeerError('an error chunk of a wrong length');
    this.#errorValue = value;
    this.#afterText = this.#left - 6 - textLength;
    this.#text = new Uint8Array(textLength);
    this.#at = 0;
    this.#left = textLength;
    this.#next = Next.text;
    if (textLength === 0) this.#endOfText();
  }

  #context(id: number, next: number): void {
    const request = this.#request!;
    this.#left -= sizes[this.#next]!;
    if (id !== this.#terms.allocationId) {
      // The status of another context: ignore it.
      this.#next = Next.skip;
      return;
    }
    if (request.status) throw new PeerError('a block status twice');
    request.status = [];
    this.#next = next;
  }

  #run(length: number, flags: number, size: number): void {
    const runs = this.#request!.status!;
    if (length === 0) throw new PeerError('an extent of no bytes');
    const last = runs.at(-1);
    if (runs.length < maxStatusRuns && last?.flags === flags) last.length += length;
    else if (runs.length < maxStatusRuns) runs.push({ length, flags });
    this.#left -= size;
    if (this.#left === 0) this.#endOfChunk();
  }

  /** Handles part of a stream: not empty, and at most `#left` bytes. */
  #stream(bytes: Uint8Array): void {
    this.#left -= bytes.length;
    if (this.#next === Next.read) this.#request!.place(bytes, this.#at);
    else if (this.#next === Next.text) this.#text.set(bytes, this.#at);
    this.#at += bytes.length;
    if (this.#left > 0) return;
    if (this.#next === Next.text) this.#endOfText();
    else this.#endOfChunk();
  }

  #endOfText(): void {
    this.#fail(this.#request!, this.#errorValue, serverText(this.#text));
    this.#left = this.#afterText;
    this.#next = Next.skip;
    if (this.#left === 0) this.#endOfChunk();
  }

  #fail(request: NbdRequest, value: number, text: string): void {
    if (value === NbdError.shutdown) request.shutdown = true;
    request.error ??= replyError(value, text);
  }

  #endOfChunk(): void {
    const request = this.#request!;
    if (this.#simple || this.#flags & ReplyFlag.done) this.#finish(request);
    else this.#next = this.#first;
  }

  #finish(request: NbdRequest): void {
    this.#next = this.#first;
    this.#request = undefined;
    if (!request.error) {
      if (request.type === NbdCommand.read && !request.coverage.covers(request.length)) {
        throw new PeerError('success for a read of which bytes are missing');
      }
      if (request.type === NbdCommand.blockStatus && !request.status)
        throw new PeerError('success without block status');
    }
    this.#table.finish(request);
  }
}
