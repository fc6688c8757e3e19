/**
 * The transmission phase of one connection ([NBD] "Transmission").
 *
 * Requests run concurrently on the export's device and are answered in completion order. The number
 * of requests in flight and their memory are limited. At the limit the connection is not read, so
 * that a client with many requests, or one that does not read its replies, stalls only itself.
 *
 * A read is answered by the first way that applies: from the page cache by sendfile(2)
 * (file-reply.ts), by the device's synchronous read, by its asynchronous read.
 *
 * Not here: parsing (requests.ts), checks (check.ts), formats of replies (replies.ts).
 */
import { buffersOf } from '../../../base/buffers.js';
import { messageOf } from '../../../base/errors.js';
import type { Steps } from '../../../base/steps.js';
import type { FileRange, RequestOptions, WriteOptions } from '../../../block/device.js';
import { BlockError, blockErrorOf, type BlockErrorKind } from '../../../block/errors.js';
import { LossWatch } from '../../../block/losses.js';
import { Command, CommandFlag, NbdError } from '../spec.js';
import { faultOf, statusFault, type Agreement } from './check.js';
import { chosenIds, type ChosenContexts } from './contexts.js';
import type { TargetExport } from './export.js';
import { FileReply } from './file-reply.js';
import type { TargetLimits } from './limits.js';
import type { Arena, Piece } from './memory.js';
import type { Outbox } from './outbox.js';
import {
  allocationOf,
  blockStatusReply,
  errorReply,
  longestStatus,
  putReadHeader,
  readHeaderSize,
  successReply,
} from './replies.js';
import { placedUnit, RequestReader, type Request, type RequestSink } from './requests.js';
import type { Stage, StageHost } from './stage.js';
import { actOnMedia } from './media.js';
import { parseQuery, type StatusQuery } from './status-query.js';
import { traceArrived, traceBegun, traceDone, traceFailed } from './trace.js';

/** Longest data of a refused write that is skipped, in bytes. A longer one ends the connection. */
const maxSkip = 64 << 20;
/** Data of writes of at least this length goes to the device as it arrives. In bytes. */
const minPlaced = 1 << 16;
/**
 * Reads of at least this length are sent from files by sendfile(2), if possible. Shorter reads are
 * copied in less time. In bytes.
 */
const minFile = 1 << 17;
/** With this many messages unsent, no more data is loaded into the page cache for the client. */
const maxFetched = 32;
/** The most that a CACHE request reads, and the size of each read, in bytes. */
const maxCached = 32 << 20;
const cachePiece = 1 << 20;

export class Transmission implements Stage, RequestSink {
  readonly #host: StageHost;
  readonly #export: TargetExport;
  readonly #agreed: Agreement;
  readonly #contexts: ChosenContexts;
  readonly #losses: LossWatch;
  readonly #limits: TargetLimits;
  readonly #arena: Arena;
  readonly #outbox: Outbox;
  readonly #steps: Steps;
  readonly #reader: RequestReader;
  readonly #giveUp = new AbortController();
  readonly #plain: RequestOptions;
  readonly #durable: WriteOptions;
  readonly #wake = (): void => {
    if (this.#reader.waiting) this.#host.wake();
  };
  readonly #readHeader: number;
  /** Number of requests at the device, and the number of block status requests among them. */
  #running = 0;
  #statuses = 0;
  /** In 'draining' and 'ending', requests in flight are answered, then the connection closes. */
  #state: 'open' | 'draining' | 'ending' | 'closed' = 'open';
  #idle: (() => void)[] = [];

  constructor(
    host: StageHost,
    of: TargetExport,
    agreed: Agreement,
    contexts: ChosenContexts,
    losses = new LossWatch(of.device.losses),
  ) {
    this.#host = host;
    this.#losses = losses;
    this.#export = of;
    this.#agreed = agreed;
    this.#contexts = contexts;
    this.#limits = host.limits;
    this.#arena = host.arena;
    this.#outbox = host.outbox;
    this.#steps = host.steps;
    this.#reader = new RequestReader(this, agreed.style === 'extended');
    this.#readHeader = readHeaderSize(agreed.style);
    const { medium } = agreed;
    this.#plain = { signal: this.#giveUp.signal, ...(medium !== undefined && { medium }) };
    this.#durable = { ...this.#plain, fua: true };
    of.counters.connections++;
  }

  get waiting(): boolean {
    return this.#reader.waiting;
  }

  receive(chunk: Uint8Array, at: number, headroom: number): number {
    return this.#reader.receive(chunk, at, headroom);
  }

  sent(): void {
    this.#wake();
    this.#endIfDone();
  }

  drain(): void {
    if (this.#state !== 'open') return;
    this.#state = 'draining';
    // A write whose data is still arriving has not begun. It is refused like new requests.
    this.#endIfDone();
  }

  close(): Promise<void> {
    if (this.#state !== 'closed') {
      this.#state = 'closed';
      const { unfinished } = this.#reader;
      if (unfinished?.payload) this.#arena.release(unfinished.payload);
      this.#reader.stop();
      this.#arena.stopWaiting();
      this.#giveUp.abort(new BlockError('aborted', 'the client is gone'));
    }
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  hasRoom(command: number, length: number): boolean {
    if (this.#running + this.#outbox.unsent >= this.#limits.maxRequests) return false;
    if (this.#state !== 'open') return true;
    return this.#arena.admits(this.#memoryFor(command, length), this.#limits.maxBytes, this.#wake);
  }

  begin(request: Request, present: Uint8Array | undefined): boolean {
    this.#begin(request);
    const { payload } = request;
    return payload !== undefined && present !== undefined && this.#writePresent(request, payload, present);
  }

  #begin(request: Request): void {
    const { command, length, payloadLength } = request;
    if (command === Command.disconnect) return this.#disconnect();
    if (command === Command.write && payloadLength !== length) {
      // The next bytes could be data or a request, and a wrong guess would be dangerous.
      return this.broken('it sent a write without NBD_CMD_FLAG_PAYLOAD_LEN');
    }
    this.#export.counters.requests++;
    if (this.#steps.on) traceArrived(this.#steps, request, this.#export.name);
    if (this.#state !== 'open') return this.#refuse(request, NbdError.shutdown, 'the server is being shut down');
    const plain = request.flags === 0 && length === 0;
    if (command === Command.media && plain && this.#contexts.media !== undefined) return this.#start(request);
    const fault = faultOf(request, this.#agreed);
    if (fault) {
      this.#refuse(request, fault.error, fault.text);
      const tolerated = this.#agreed.style === 'extended' ? this.#agreed.maximum : maxSkip;
      if (payloadLength > tolerated) this.broken('it sent an oversized write');
    } else if (payloadLength > 0) {
      request.payload = this.#arena.take(payloadLength);
      request.placing = command === Command.write && this.#placeable(request);
    } else {
      this.#start(request);
    }
  }

  /**
   * Passes a write whose whole data has arrived to the device, straight from the receive buffer.
   */
  #writePresent(request: Request, payload: Piece, present: Uint8Array): boolean {
    if (request.command !== Command.write || (request.flags & CommandFlag.fua) !== 0) return false;
    // Only the slow path reports trace steps.
    if (this.#steps.on) return false;
    if (!this.place(request, present)) return false;
    this.#arena.release(payload);
    this.#export.counters.bytesWritten += request.length;
    this.#outbox.add(this.#success(request), this.#running > 0);
    return true;
  }

  place({ offset, placed }: Request, bytes: Uint8Array): boolean {
    try {
      return this.#state === 'open' && (this.#export.device.writeNow?.(offset + placed, bytes) ?? false);
    } catch {
      // The write that follows, with the whole payload, fails with the same error.
      return false;
    }
  }

  complete(request: Request): void {
    if (this.#state === 'open') return this.#start(request);
    this.#arena.release(request.payload!);
    this.#refuse(request, NbdError.shutdown, 'the server is being shut down');
  }

  broken(reason: string): void {
    this.#reader.stop();
    this.#host.fail(reason);
  }

  /**
   * True if a write's data may go to the device as it arrives, which saves a copy: long writes of
   * whole pages. If the client disconnects before the last byte, the write is partly done; that is
   * allowed because the write was never acknowledged.
   */
  #placeable({ flags, offset, length }: Request): boolean {
    const { device } = this.#export;
    if (length < minPlaced || (flags & CommandFlag.fua) !== 0 || !device.writeNow) return false;
    return device.info.blockSize <= placedUnit && offset % placedUnit === 0 && length % placedUnit === 0;
  }

  /**
   * The memory that a request will take, in bytes, not counting short replies. A refused request
   * takes none.
   */
  #memoryFor(command: number, length: number): number {
    // The length of a block status reply is known only when the device has answered: reserve the
    // longest for each.
    const coming = this.#statuses * longestStatus;
    if (command === Command.read || command === Command.write) {
      const header = command === Command.read ? this.#readHeader : 0;
      return length > this.#agreed.maximum ? coming : coming + header + length;
    }
    if (command === Command.blockStatus) return coming + longestStatus;
    return command === Command.cache ? coming + Math.min(length, cachePiece) : 0;
  }

  /** [NBD] NBD_CMD_DISC: requests in flight are finished first. */
  #disconnect(): void {
    this.#state = 'ending';
    this.#reader.stop();
    this.#endIfDone();
  }

  #start(request: Request): void {
    this.#running++;
    if (this.#steps.on) traceBegun(this.#steps, request);
    if (request.command === Command.write && request.payload) return this.#write(request, request.payload);
    if (request.command === Command.read && request.length > 0) return this.#read(request);
    this.#perform(request).then(
      (reply) => this.#finish(reply),
      (error: unknown) => this.#fail(request, error),
    );
  }

  #read(request: Request): void {
    const { device } = this.#export;
    // Only the slow path reports trace steps.
    if (request.length < minFile || !this.#outbox.takesFiles || !device.fileNow || this.#steps.on) {
      return this.#readIntoMemory(request, this.#roomFor(request), true);
    }
    if (this.#readFromFile(request)) return;
    // hasRoom() has admitted this memory.
    const room = this.#roomFor(request);
    // Do not load pages for a client that does not read its replies: it could make the server read
    // the whole disk. Replies in memory are limited, because their memory is counted.
    const fetches = device.fileSoon !== undefined && this.#outbox.unsent < maxFetched;
    if (!fetches) return this.#readIntoMemory(request, room, false);
    device.fileSoon!(request.offset, request.length).then(
      (range) => {
        if (!range) return this.#readIntoMemory(request, room, false);
        this.#arena.release(room);
        this.#sendFrom(range, request);
      },
      // The read fails with the same error.
      () => this.#readIntoMemory(request, room, false),
    );
  }

  #roomFor(request: Request): Piece {
    return this.#arena.take(this.#readHeader + request.length);
  }

  /**
   * @param tryNow try `readNow` first. False after a failed file probe: data that is partly in the
   *   page cache would be read twice.
   */
  #readIntoMemory(request: Request, piece: Piece, tryNow: boolean): void {
    const { style } = this.#agreed;
    const header = this.#readHeader;
    const into = piece.slab.bytes.subarray(piece.start + header, piece.end);
    const done = (): void => {
      putReadHeader(piece, request, style);
      this.#export.counters.bytesRead += request.length;
      if (this.#steps.on) traceDone(this.#steps, request);
      this.#finish(piece);
    };
    const failed = (error: unknown): void => {
      this.#arena.abandon(piece);
      this.#fail(request, error);
    };
    const { device } = this.#export;
    try {
      if (tryNow && device.readNow?.(request.offset, into)) return done();
    } catch (error) {
      return failed(error);
    }
    device.read(request.offset, buffersOf(into), this.#plain).then(done, failed);
  }

  /**
   * Answers a read from a file by sendfile(2), if its data is in the page cache now. Returns false
   * if not.
   */
  #readFromFile(request: Request): boolean {
    const { device } = this.#export;
    try {
      const range = device.fileNow?.(request.offset, request.length);
      if (range) this.#sendFrom(range, request);
      return range !== undefined;
    } catch {
      // The read that follows fails with the same error.
      return false;
    }
  }

  #sendFrom(range: FileRange, request: Request): void {
    const { offset, length } = request;
    const header = this.#arena.take(this.#readHeader);
    putReadHeader(header, request, this.#agreed.style);
    this.#export.counters.bytesRead += length;
    this.#finish(header, new FileReply(this.#export.device, range, offset, length, this.#plain));
  }

  #write(request: Request, payload: Piece): void {
    const durable = (request.flags & CommandFlag.fua) !== 0;
    const { placed } = request;
    const data = payload.slab.bytes.subarray(payload.start + placed, payload.end);
    const done = (): void => {
      this.#arena.release(payload);
      this.#export.counters.bytesWritten += request.length;
      if (this.#steps.on) traceDone(this.#steps, request);
      this.#finish(this.#success(request));
    };
    const failed = (error: unknown): void => {
      this.#arena.abandon(payload);
      this.#fail(request, error);
    };
    const { device } = this.#export;
    try {
      if (data.length === 0 || (!durable && device.writeNow?.(request.offset + placed, data))) return done();
    } catch (error) {
      return failed(error);
    }
    device.write(request.offset + placed, buffersOf(data), durable ? this.#durable : this.#plain).then(done, failed);
  }

  /** Carries out every request that moves no data. */
  async #perform(request: Request): Promise<Piece> {
    const { command, flags, offset, length } = request;
    const { device } = this.#export;
    const options = flags & CommandFlag.fua ? this.#durable : this.#plain;
    switch (command) {
      case Command.read:
        break;
      case Command.flush:
        await this.#losses.flush(() => device.flush(this.#plain));
        break;
      case Command.trim:
        await device.trim(offset, length, options);
        break;
      case Command.cache:
        await this.#cache(offset, Math.min(length, maxCached));
        break;
      case Command.writeZeroes: {
        const noHole = (flags & CommandFlag.noHole) !== 0;
        const fastOnly = (flags & CommandFlag.fastZero) !== 0;
        await device.writeZeroes(offset, length, { ...options, noHole, fastOnly });
        break;
      }
      case Command.blockStatus:
        this.#statuses++;
        return this.#status(request).finally(() => this.#statuses--);
      case Command.media:
        await actOnMedia(this.#export.device.media, request, this.#plain);
        break;
    }
    return this.#success(request);
  }

  /** Reads a range, so that a device with a cache caches it. */
  async #cache(offset: number, length: number): Promise<void> {
    const piece = this.#arena.take(Math.min(length, cachePiece));
    try {
      for (let done = 0; done < length; done += cachePiece) {
        const end = piece.start + Math.min(cachePiece, length - done);
        await this.#export.device.read(
          offset + done,
          buffersOf(piece.slab.bytes.subarray(piece.start, end)),
          this.#plain,
        );
      }
    } finally {
      this.#arena.release(piece);
    }
  }

  async #status(request: Request): Promise<Piece> {
    const { offset, payload } = request;
    const { allocation } = this.#contexts;
    const chosen = chosenIds(this.#contexts);
    let query: StatusQuery | undefined = { length: request.length, ids: chosen };
    if (payload) {
      query = parseQuery(payload.slab.bytes.subarray(payload.start, payload.end), chosen);
      this.#arena.release(payload);
      if (!query) return this.#errorReply(request, NbdError.invalid, 'contexts that were not agreed on, or one twice');
      const fault = statusFault(offset, query.length, this.#agreed);
      if (fault) return this.#errorReply(request, fault.error, fault.text);
    }
    const { length } = query;
    const contexts = [];
    for (const id of query.ids) {
      if (id !== allocation) {
        contexts.push({ id, descriptors: [[length, 0] as const] });
        continue;
      }
      const extents = await this.#export.device.extents(offset, length, this.#plain);
      const one = (request.flags & CommandFlag.reqOne) !== 0;
      contexts.push({ id, descriptors: allocationOf(extents, offset, length, one) });
    }
    const { style } = this.#agreed;
    // Contexts are never selected with simple replies.
    if (contexts.length === 0 || style === 'simple') return this.#success(request);
    return blockStatusReply(this.#arena, request, style, contexts);
  }

  #success(request: Request): Piece {
    return successReply(this.#arena, request, this.#agreed.style, request.command === Command.read);
  }

  #finish(reply: Piece, data?: FileReply): void {
    this.#running--;
    if (data) this.#outbox.addFile(reply, data);
    else this.#outbox.add(reply, this.#running > 0);
    if (this.#running > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #fail(request: Request, error: unknown): void {
    const { kind, message } = blockErrorOf(error);
    const fast = request.command === Command.writeZeroes && (request.flags & CommandFlag.fastZero) !== 0;
    let value: number = kind === 'unsupported' && fast ? NbdError.notSupported : errorValues[kind];
    if (kind === 'no-medium' && this.#contexts.media !== undefined) value = NbdError.noMedium;
    this.#export.counters.errors++;
    this.#finish(this.#errorReply(request, value, message));
  }

  #refuse(request: Request, error: number, text: string): void {
    this.#export.counters.errors++;
    this.#outbox.add(this.#errorReply(request, error, text), true);
  }

  #errorReply(request: Request, error: number, text: string): Piece {
    if (this.#steps.on) traceFailed(this.#steps, request, text);
    return errorReply(this.#arena, request, this.#agreed.style, error, messageOf(text));
  }

  /**
   * Closes a connection that is draining or ending once every request is answered and every reply
   * sent.
   */
  #endIfDone(): void {
    if (this.#state === 'open' || this.#state === 'closed') return;
    if (this.#running === 0 && this.#outbox.unsent === 0) this.#host.end();
  }
}

/** Maps errors of devices to [NBD] "Error values". */
const errorValues: Readonly<Record<BlockErrorKind, number>> = {
  io: NbdError.io,
  'no-space': NbdError.noSpace,
  'read-only': NbdError.perm,
  range: NbdError.invalid,
  unsupported: NbdError.invalid,
  unreachable: NbdError.io,
  'no-medium': NbdError.io,
  aborted: NbdError.io,
  closed: NbdError.shutdown,
};
