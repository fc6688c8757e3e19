/**
 * What an NBD client sends, put together: headers and short payloads one after the other in a shared piece of memory, so
 * that all requests of one turn of the event loop leave as one chunk; long payloads apart, without a copy where their
 * memory is stable, else as one copy. Source: [NBD] and [EXT] "Request message".
 */
import {
  Command,
  CommandFlag,
  EXTENDED_HEADER_SIZE,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  REQUEST_HEADER_SIZE,
} from '../spec.js';
import { putU16, putU32, putU64 } from '../wire.js';
import type { PayloadPool } from './payload-pool.js';
import type { NbdRequest } from './request.js';

/** Size of the shared piece, in bytes: the first, and later ones. Used up, it is replaced: the stream may still be reading it. */
const firstSlabSize = 1 << 12;
const slabSize = 1 << 18;
/** Payloads up to this length are copied beside their header. */
const inlineLimit = 1 << 14;

/** [EXT] NBD_CMD_BLOCK_STATUS: size of a payload that names one context, in bytes. */
const querySize = 12;

type RequestFields = Pick<NbdRequest, 'flags' | 'type' | 'offset' | 'length'>;

export class Outbox {
  /** Whether requests have extended headers, once that is agreed on. */
  extended = false;
  /** [EXT] NBD_FLAG_BLOCK_STATUS_PAYLOAD: the context that block status is asked of, where there are others too. */
  statusOf: number | undefined;
  readonly #pool: PayloadPool;
  #slab = new Uint8Array(firstSlabSize);
  /** The part of the slab that was filled and is not among the chunks yet. */
  #from = 0;
  #to = 0;
  #chunks: Uint8Array[] = [];

  constructor(pool: PayloadPool) {
    this.#pool = pool;
  }

  /** Appends a request. `cookieHigh` and `request.cookie` are the halves of its cookie. */
  add(request: NbdRequest, cookieHigh: number): void {
    const payload = request.type === Command.write ? request.buffers : undefined;
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

  /** Appends the end of the conversation, NBD_CMD_DISC. */
  disconnect(): void {
    this.#header(0, { flags: 0, type: Command.disconnect, offset: 0, length: 0 }, 0, 0);
  }

  /** Everything appended since the last call, in order. */
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
    const query = type === Command.blockStatus ? this.statusOf : undefined;
    const payload = type === Command.write || query !== undefined;
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
