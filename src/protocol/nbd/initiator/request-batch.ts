/**
 * A batch of requests of an NBD client: assembles them for the stream ([NBD] and [EXT] "Request
 * message").
 *
 * Headers and short payloads are appended to a shared slab, so that all requests that are sent
 * together form one chunk. Long payloads are separate chunks: without a copy if their memory is
 * stable, else as one copy.
 */
import {
  NbdCommand,
  CommandFlag,
  EXTENDED_HEADER_SIZE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  REQUEST_HEADER_SIZE,
} from '../spec.js';
import { putU16, putU32, putU64 } from '../../../base/big-endian.js';
import type { PayloadPool } from './payload-pool.js';
import type { NbdRequest } from './request.js';

/**
 * Size of the slab in bytes: the first one, and later ones. A full slab is replaced, not reused,
 * because the stream may still be reading it.
 */
const firstSlabSize = 1 << 12;
const slabSize = 1 << 18;
/** Payloads up to this length are copied behind their header, in bytes. */
const inlineLimit = 1 << 14;

/** [EXT] NBD_CMD_BLOCK_STATUS: length of a payload that names one context, in bytes. */
const querySize = 12;

type RequestFields = Pick<NbdRequest, 'flags' | 'type' | 'offset' | 'length'>;

export class RequestBatch {
  /** True once extended headers are negotiated. */
  extended = false;
  /**
   * [EXT] NBD_FLAG_BLOCK_STATUS_PAYLOAD: the context that block status requests name, if other
   * contexts were selected too.
   */
  statusOf: number | undefined;
  readonly #pool: PayloadPool;
  #slab = new Uint8Array(firstSlabSize);
  /** The part of the slab that is filled but not yet in the list of chunks. */
  #from = 0;
  #to = 0;
  #chunks: Uint8Array[] = [];

  constructor(pool: PayloadPool) {
    this.#pool = pool;
  }

  /** Appends a request. `cookieHigh` and `request.cookie` are the halves of its cookie. */
  add(request: NbdRequest, cookieHigh: number): void {
    const payload = request.type === NbdCommand.write ? request.buffers : undefined;
    const inline = payload && payload.length <= inlineLimit ? payload.length : 0;
    this.#header(inline, request, cookieHigh, request.cookie);
    if (!payload) return;
    if (inline > 0) {
      payload.copyTo(this.#slab.subarray(this.#to, this.#to + inline), 0);
      this.#to += inline;
      return;
    }
    this.#cut();
    const stable = payload.stable();
    if (stable) {
      this.#chunks.push(...stable);
    } else {
      request.payload = this.#pool.take(payload.length);
      const copy = request.payload.subarray(0, payload.length);
      payload.copyTo(copy, 0);
      this.#chunks.push(copy);
    }
  }

  /** Appends NBD_CMD_DISC, which ends the transmission. */
  disconnect(): void {
    this.#header(0, { flags: 0, type: NbdCommand.disconnect, offset: 0, length: 0 }, 0, 0);
  }

  /** Returns everything that was appended since the last call, in order. */
  take(): Uint8Array[] {
    this.#cut();
    const chunks = this.#chunks;
    this.#chunks = [];
    return chunks;
  }

  #header(room: number, { flags, type, offset, length }: RequestFields, cookieHigh: number, cookieLow: number): void {
    if (this.#to + EXTENDED_HEADER_SIZE + querySize + room > this.#slab.length) {
      this.#cut();
      this.#slab = new Uint8Array(slabSize);
      this.#from = this.#to = 0;
    }
    const slab = this.#slab;
    const at = this.#to;
    putU16(slab, at + 6, type);
    putU32(slab, at + 8, cookieHigh);
    putU32(slab, at + 12, cookieLow);
    putU64(slab, at + 16, offset);
    if (!this.extended) {
      putU32(slab, at, NBD_REQUEST_MAGIC);
      putU16(slab, at + 4, flags);
      putU32(slab, at + 24, length);
      this.#to += REQUEST_HEADER_SIZE;
      return;
    }
    const query = type === NbdCommand.blockStatus ? this.statusOf : undefined;
    const payload = type === NbdCommand.write || query !== undefined;
    putU32(slab, at, NBD_EXTENDED_REQUEST_MAGIC);
    putU16(slab, at + 4, payload ? flags | CommandFlag.payloadLength : flags);
    putU64(slab, at + 24, query === undefined ? length : querySize);
    this.#to += EXTENDED_HEADER_SIZE;
    if (query === undefined) return;
    putU64(slab, this.#to, length);
    putU32(slab, this.#to + 8, query);
    this.#to += querySize;
  }

  #cut(): void {
    if (this.#to > this.#from) this.#chunks.push(this.#slab.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}
