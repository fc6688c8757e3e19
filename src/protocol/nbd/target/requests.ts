/**
 * Parses requests from the bytes of a connection, in place ([NBD] and [EXT] "Request message").
 *
 * A header that lies entirely in a chunk is parsed where it is. A payload is copied once, from the
 * chunk to the request's piece.
 *
 * Not here: whether a request is allowed (check.ts); the sink decides that.
 */
import {
  NbdCommand,
  CommandFlag,
  EXTENDED_HEADER_SIZE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  REQUEST_HEADER_SIZE,
} from '../spec.js';
import { getU16, getU32, getU64 } from '../../../base/big-endian.js';
import type { Piece } from './memory.js';

/** Unit in which parts of a payload are passed on: a page, in bytes. */
export const placedUnit = 4096;

/** One request as received. Values of `offset` and `length` above 2^53 are rounded. */
export class Request {
  readonly flags: number;
  readonly command: number;
  /** The cookie, opaque, as two halves. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** The exact offset, as two halves: extended replies repeat it. */
  readonly offsetHigh: number;
  readonly offsetLow: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /**
   * Number of bytes that follow the header: a write's data, or the payload of an extended request.
   */
  readonly payloadLength: number;
  /** Memory for the payload. */
  payload: Piece | undefined;
  /**
   * True if parts of the payload may be passed on as they arrive ({@link RequestSink.place}); and
   * the number of bytes passed on so far, from the first.
   */
  placing = false;
  placed = 0;

  constructor(bytes: Uint8Array, at: number, extended: boolean) {
    this.flags = getU16(bytes, at + 4);
    this.command = getU16(bytes, at + 6);
    this.cookieHigh = getU32(bytes, at + 8);
    this.cookieLow = getU32(bytes, at + 12);
    this.offsetHigh = getU32(bytes, at + 16);
    this.offsetLow = getU32(bytes, at + 20);
    this.offset = this.offsetHigh * 0x1_0000_0000 + this.offsetLow;
    if (extended) {
      this.length = getU64(bytes, at + 24);
      this.payloadLength = this.flags & CommandFlag.payloadLength ? this.length : 0;
    } else {
      this.length = getU32(bytes, at + 24);
      this.payloadLength = this.command === NbdCommand.write ? this.length : 0;
    }
  }
}

/** Receives the requests. */
export interface RequestSink {
  /**
   * True if a request of this command and length may begin now. If false, the reader waits until
   * {@link RequestReader.receive} is called again.
   */
  hasRoom(command: number, length: number): boolean;
  /**
   * Begins a request. If a payload follows, the sink sets `payload` to a piece of that length; the
   * reader fills it and calls {@link complete}. If the sink sets none, the payload is skipped.
   * @param present the whole payload, if it has already arrived
   * @returns true if the sink has dealt with the payload: {@link complete} is not called then
   */
  begin(request: Request, present: Uint8Array | undefined): boolean;
  /**
   * Passes on whole pages of the payload of a request that is `placing`: `bytes`, which follow the
   * bytes that are `placed`.
   * @returns true if the sink has dealt with them; if false, they and the rest are copied to the
   *   payload
   */
  place(request: Request, bytes: Uint8Array): boolean;
  /** A request's payload has arrived completely. */
  complete(request: Request): void;
  /** The bytes are not a request. The reader has lost synchronisation and takes no more. */
  broken(reason: string): void;
}

export class RequestReader {
  readonly #sink: RequestSink;
  readonly #extended: boolean;
  readonly #headerSize: number;
  /** The first part of a header whose rest has not arrived. */
  readonly #carry = new Uint8Array(EXTENDED_HEADER_SIZE);
  #carried = 0;
  /** The request whose payload is arriving. */
  #unfinished: Request | undefined;
  /** Number of bytes of its payload that have arrived. */
  #have = 0;
  /** Number of payload bytes of a refused request still to skip. */
  #skip = 0;
  #waiting = false;
  #broken = false;

  /** @param extended true if requests have extended headers */
  constructor(sink: RequestSink, extended: boolean) {
    this.#sink = sink;
    this.#extended = extended;
    this.#headerSize = extended ? EXTENDED_HEADER_SIZE : REQUEST_HEADER_SIZE;
  }

  /**
   * True if the sink had no room. Call {@link receive} again when it has, with the remaining bytes
   * or with none.
   */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** The request whose payload is arriving, if any. */
  get unfinished(): Request | undefined {
    return this.#unfinished;
  }

  /** Stops: all further bytes are dropped. */
  stop(): void {
    this.#broken = true;
    this.#waiting = false;
    this.#unfinished = undefined;
  }

  /**
   * Parses `chunk` from index `at` on.
   * @param headroom see StreamEvents.data
   * @returns the index of the first unused byte: the chunk's length, unless {@link waiting}
   */
  receive(chunk: Uint8Array, at: number, headroom = 0): number {
    this.#waiting = false;
    const end = chunk.length;
    do {
      if (this.#broken) return end;
      if (this.#skip > 0) {
        const length = Math.min(this.#skip, end - at);
        this.#skip -= length;
        at += length;
      } else if (this.#unfinished) {
        at += this.#fill(this.#unfinished, chunk, at, headroom);
      } else {
        at = this.#header(chunk, at);
        if (this.#waiting) return at;
      }
    } while (at < end);
    return at;
  }

  #header(chunk: Uint8Array, at: number): number {
    const available = chunk.length - at;
    const size = this.#headerSize;
    if (this.#carried === 0 && available >= size) return at + this.#decode(chunk, at);
    const missing = Math.min(size - this.#carried, available);
    this.#carry.set(chunk.subarray(at, at + missing), this.#carried);
    this.#carried += missing;
    if (this.#carried === size && this.#decode(this.#carry, 0) > 0) this.#carried = 0;
    return at + missing;
  }

  /** Parses a header. Returns the number of bytes used; 0 if the request must wait. */
  #decode(bytes: Uint8Array, at: number): number {
    const extended = this.#extended;
    if (getU32(bytes, at) !== (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC)) {
      this.#broken = true;
      this.#sink.broken('it sent something that is not a request');
      return this.#headerSize;
    }
    const command = getU16(bytes, at + 6);
    const length = extended ? getU64(bytes, at + 24) : getU32(bytes, at + 24);
    if (!this.#sink.hasRoom(command, length)) {
      this.#waiting = true;
      return 0;
    }
    const request = new Request(bytes, at, extended);
    const { payloadLength } = request;
    const after = at + this.#headerSize;
    const whole = payloadLength > 0 && after + payloadLength <= bytes.length && bytes !== this.#carry;
    const present = whole ? bytes.subarray(after, after + payloadLength) : undefined;
    if (this.#sink.begin(request, present)) return this.#headerSize + payloadLength;
    if (request.payload) {
      this.#unfinished = request;
      this.#have = 0;
    } else {
      this.#skip = payloadLength;
    }
    return this.#headerSize;
  }

  #fill(request: Request, chunk: Uint8Array, at: number, headroom: number): number {
    const length = Math.min(request.payloadLength - this.#have, chunk.length - at);
    const bytes = at === 0 && length === chunk.length ? chunk : chunk.subarray(at, at + length);
    let placed = 0;
    if (request.placing) {
      const begun = this.#have - request.placed;
      // The headroom lies before the chunk's first byte. A partly received page continues in the
      // chunk's first bytes, so its earlier part can be copied into the headroom.
      if (begun > 0 && begun <= headroom && at === 0) placed = this.#placeJoined(request, bytes, begun);
      else placed = this.#place(request, bytes, begun);
    }
    const { slab, start } = request.payload!;
    slab.bytes.set(placed === 0 ? bytes : bytes.subarray(placed), start + this.#have + placed);
    this.#have += length;
    if (this.#have === request.payloadLength) {
      this.#unfinished = undefined;
      this.#sink.complete(request);
    }
    return length;
  }

  /**
   * Like {@link #place}, but copies the earlier part of the first page into the chunk's headroom,
   * so that all pages are contiguous and passed on in one call.
   */
  #placeJoined(request: Request, bytes: Uint8Array, begun: number): number {
    const joined = new Uint8Array(bytes.buffer, bytes.byteOffset - begun, begun + bytes.length);
    const whole = joined.length & -placedUnit;
    if (whole === 0) return 0;
    const { slab, start } = request.payload!;
    const from = start + request.placed;
    joined.set(slab.bytes.subarray(from, from + begun));
    return this.#placed(request, joined.subarray(0, whole)) ? whole - begun : 0;
  }

  /**
   * Passes whole pages on.
   * @param begun number of bytes of the first page that arrived with earlier chunks
   * @returns the number of bytes of `bytes`, from the first on, that need no further copy
   */
  #place(request: Request, bytes: Uint8Array, begun: number): number {
    let at = 0;
    if (begun > 0) {
      // The first page began in an earlier chunk: complete it in the payload's memory.
      const missing = placedUnit - begun;
      if (bytes.length < missing) return 0;
      const { slab, start } = request.payload!;
      slab.bytes.set(bytes.subarray(0, missing), start + this.#have);
      const first = start + request.placed;
      if (!this.#placed(request, slab.bytes.subarray(first, first + placedUnit))) return missing;
      at = missing;
    }
    const whole = (bytes.length - at) & -placedUnit;
    return whole > 0 && this.#placed(request, bytes.subarray(at, at + whole)) ? at + whole : at;
  }

  #placed(request: Request, bytes: Uint8Array): boolean {
    request.placing = this.#sink.place(request, bytes);
    if (request.placing) request.placed += bytes.length;
    return request.placing;
  }
}
