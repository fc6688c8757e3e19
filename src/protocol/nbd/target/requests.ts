/**
 * Reading requests out of the bytes of a connection, in place ([NBD] and [EXT] "Request message"): a header that lies whole
 * in a chunk is read where it is, and a payload is copied once, from the chunk to where the request keeps it.
 * Knows the form of a request only; what is allowed is the sink's to say.
 */
import {
  Command,
  CommandFlag,
  EXTENDED_HEADER_SIZE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  REQUEST_HEADER_SIZE,
} from '../spec.js';
import { getU16, getU32, getU64 } from '../wire.js';
import type { Piece } from './memory.js';

/** Payloads are handed on in multiples of this, in bytes: pages. */
export const placedUnit = 4096;

/** One request as it came. `offset` and `length` above 2^53 are rounded. */
export class Request {
  readonly flags: number;
  readonly command: number;
  /** The cookie, opaque, in two halves. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** The offset exactly, in two halves: extended replies repeat it. */
  readonly offsetHigh: number;
  readonly offsetLow: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** Bytes that follow the header: a write's data, or what an extended request says besides. */
  readonly payloadLength: number;
  /** Where they go. */
  payload: Piece | undefined;
  /** Whether they may go on as they come ({@link RequestSink.place}), and how many have, from the first on. */
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
      this.payloadLength = this.command === Command.write ? this.length : 0;
    }
  }
}

/** Who gets the requests. */
export interface RequestSink {
  /** Whether a request of this command and length may begin now. If not, the reader waits until it is called again. */
  hasRoom(command: number, length: number): boolean;
  /**
   * A request has come. If bytes follow it, the sink sets `payload` to as many and gets it again by {@link complete}
   * when they are there; with no payload set, they are skipped.
   * @param present All of the payload, where it is there already.
   * @returns whether that has been dealt with: there is no {@link complete} then.
   */
  begin(request: Request, present: Uint8Array | undefined): boolean;
  /**
   * Some pages of the payload of a request that is `placing` have come: `bytes`, after those that are `placed`.
   * @returns whether they are dealt with; if not, they and the rest are kept in the payload.
   */
  place(request: Request, bytes: Uint8Array): boolean;
  /** A request's payload is there. */
  complete(request: Request): void;
  /** The bytes are no requests: the reader has lost its place and takes no more. */
  broken(reason: string): void;
}

export class RequestReader {
  readonly #sink: RequestSink;
  readonly #extended: boolean;
  readonly #headerSize: number;
  /** The beginning of a header whose end has not come. */
  readonly #carry = new Uint8Array(EXTENDED_HEADER_SIZE);
  #carried = 0;
  /** The request whose payload is coming in. */
  #unfinished: Request | undefined;
  /** Bytes of its payload that are there. */
  #have = 0;
  /** Bytes of refused data still to come. */
  #skip = 0;
  #waiting = false;
  #broken = false;

  /** @param extended Whether requests have extended headers. */
  constructor(sink: RequestSink, extended: boolean) {
    this.#sink = sink;
    this.#extended = extended;
    this.#headerSize = extended ? EXTENDED_HEADER_SIZE : REQUEST_HEADER_SIZE;
  }

  /** Whether the sink had no room: call {@link receive} again when it has, with the rest of the bytes or with none. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** The request whose payload is coming in, if any. */
  get unfinished(): Request | undefined {
    return this.#unfinished;
  }

  /** Takes no more: all further bytes are dropped. */
  stop(): void {
    this.#broken = true;
    this.#waiting = false;
    this.#unfinished = undefined;
  }

  /**
   * Reads `chunk` from byte `at`. Returns the place up to which it was used: its length, unless {@link waiting}.
   * @param headroom As StreamEvents.data has it.
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

  /** Returns how many bytes were used: 0 if the request must wait. */
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
      // A chunk's headroom is before its first byte; a page that was begun ends in a chunk's first bytes.
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

  /** {@link #place}, with the beginning of the first page put where the chunk has room for it: all goes on at once. */
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
   * Hands whole pages on.
   * @param begun Bytes of the first page that came before.
   * @returns how many of `bytes` are done with, from the first on
   */
  #place(request: Request, bytes: Uint8Array, begun: number): number {
    let at = 0;
    if (begun > 0) {
      // A page whose beginning came before: it is completed where that is kept.
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
