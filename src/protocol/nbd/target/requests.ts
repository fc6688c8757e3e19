/**
 * Reading requests out of the bytes of a connection, in place ([NBD] "Request message"): a header that lies whole in a
 * chunk is read where it is, and a write's data is copied once, from the chunk to where the request keeps it.
 * Knows the form of a request only; what is allowed is the sink's to say.
 */
import { Command, NBD_REQUEST_MAGIC, REQUEST_HEADER_SIZE } from '../spec.js';
import { getU16, getU32, getU64 } from '../wire.js';
import type { Piece } from './memory.js';

/** One request as it came. `offset` above 2^53 is rounded. */
export class Request {
  readonly flags: number;
  readonly command: number;
  /** The cookie, opaque, in two halves. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  /** Bytes. */
  readonly offset: number;
  readonly length: number;
  /** Where a write's data goes. */
  payload: Piece | undefined;

  constructor(bytes: Uint8Array, at: number) {
    this.flags = getU16(bytes, at + 4);
    this.command = getU16(bytes, at + 6);
    this.cookieHigh = getU32(bytes, at + 8);
    this.cookieLow = getU32(bytes, at + 12);
    this.offset = getU64(bytes, at + 16);
    this.length = getU32(bytes, at + 24);
  }
}

/** Who gets the requests. */
export interface RequestSink {
  /** Whether a request of this command and length may begin now. If not, the reader waits until it is called again. */
  hasRoom(command: number, length: number): boolean;
  /**
   * A request has come. If it is a write, the sink sets `payload` to `length` bytes and gets it again by
   * {@link complete} when they are there; with no payload set, the data is skipped.
   */
  begin(request: Request): void;
  /** A write's data is there. */
  complete(request: Request): void;
  /** The bytes are no requests: the reader has lost its place and takes no more. */
  broken(reason: string): void;
}

export class RequestReader {
  readonly #sink: RequestSink;
  /** The beginning of a header whose end has not come. */
  readonly #carry = new Uint8Array(REQUEST_HEADER_SIZE);
  #carried = 0;
  #write: Request | undefined;
  /** Bytes of the write's data that are there. */
  #have = 0;
  /** Bytes of refused data still to come. */
  #skip = 0;
  #waiting = false;
  #broken = false;

  constructor(sink: RequestSink) {
    this.#sink = sink;
  }

  /** Whether the sink had no room: call {@link receive} again when it has, with the rest of the bytes or with none. */
  get waiting(): boolean {
    return this.#waiting;
  }

  /** The write whose data is coming in, if any. */
  get unfinished(): Request | undefined {
    return this.#write;
  }

  /** Takes no more: all further bytes are dropped. */
  stop(): void {
    this.#broken = true;
    this.#waiting = false;
    this.#write = undefined;
  }

  /** Reads `chunk` from byte `at`. Returns the place up to which it was used: its length, unless {@link waiting}. */
  receive(chunk: Uint8Array, at: number): number {
    this.#waiting = false;
    const end = chunk.length;
    do {
      if (this.#broken) return end;
      if (this.#skip > 0) {
        const length = Math.min(this.#skip, end - at);
        this.#skip -= length;
        at += length;
      } else if (this.#write) {
        at += this.#fill(this.#write, chunk, at);
      } else {
        at = this.#header(chunk, at);
        if (this.#waiting) return at;
      }
    } while (at < end);
    return at;
  }

  #header(chunk: Uint8Array, at: number): number {
    const available = chunk.length - at;
    if (this.#carried === 0 && available >= REQUEST_HEADER_SIZE) {
      return this.#decode(chunk, at) ? at + REQUEST_HEADER_SIZE : at;
    }
    const missing = Math.min(REQUEST_HEADER_SIZE - this.#carried, available);
    this.#carry.set(chunk.subarray(at, at + missing), this.#carried);
    this.#carried += missing;
    if (this.#carried === REQUEST_HEADER_SIZE && this.#decode(this.#carry, 0)) this.#carried = 0;
    return at + missing;
  }

  /** Returns false if the request must wait. */
  #decode(bytes: Uint8Array, at: number): boolean {
    if (getU32(bytes, at) !== NBD_REQUEST_MAGIC) {
      this.#broken = true;
      this.#sink.broken('it sent something that is not a request');
      return true;
    }
    const command = getU16(bytes, at + 6);
    const length = getU32(bytes, at + 24);
    if (!this.#sink.hasRoom(command, length)) {
      this.#waiting = true;
      return false;
    }
    const request = new Request(bytes, at);
    this.#sink.begin(request);
    if (command === Command.write && length > 0) {
      if (request.payload) {
        this.#write = request;
        this.#have = 0;
      } else {
        this.#skip = length;
      }
    }
    return true;
  }

  #fill(request: Request, chunk: Uint8Array, at: number): number {
    const { slab, start } = request.payload!;
    const length = Math.min(request.length - this.#have, chunk.length - at);
    slab.bytes.set(at === 0 && length === chunk.length ? chunk : chunk.subarray(at, at + length), start + this.#have);
    this.#have += length;
    if (this.#have === request.length) {
      this.#write = undefined;
      this.#sink.complete(request);
    }
    return length;
  }
}
