/**
 * One connection to an NBD server ([NBD] "Transmission"): dialling and handshake within a time
 * limit, then many requests in flight.
 *
 * When the connection is lost, for whatever reason, it hands its unanswered requests back. The
 * session decides what to do with them (session.ts).
 */
import { buffersOf, type Buffers } from '../../../base/buffers.js';
import { Deadline } from '../../../base/deadline.js';
import { FarbusError, messageOf } from '../../../base/errors.js';
import type { ByteStream, Dialer, Secure, StreamEvents } from '../../../network/stream.js';
import { withAddress } from '../../remote/reconnection.js';
import { NbdCommand, TransmissionFlag } from '../spec.js';
import { PeerError } from './errors.js';
import { HandshakeFeed } from './handshake-feed.js';
import { negotiateExport, negotiate, startTls, type Negotiated, type Handshake, type Wish } from './negotiation.js';
import { RequestBatch } from './request-batch.js';
import type { PayloadPool } from './payload-pool.js';
import { ReplyParser, type ReplyTable } from './replies.js';
import { NbdRequest } from './request.js';
import { Watchdog } from './watchdog.js';

/** Requests with at least this much data are sent immediately, in bytes. Chosen, not measured. */
const longTransfer = 1 << 16;
/** Most requests in flight. */
const maxRequests = 256;
/** Most payload of writes in flight, in bytes. A single write may be longer. */
const maxWriteBytes = 32 << 20;
/**
 * Cookies restart at 1 after this value, so that they remain small integers, which JavaScript
 * engines do not box.
 */
const cookieLimit = 2 ** 30;
/** After our NBD_CMD_DISC, the server has this long to close the connection, in ms. */
const goodbyeMs = 1000;

export interface ConnectionEvents {
  /** The server has answered a request; its promise is not settled yet. */
  answered(request: NbdRequest): void;
  /** The connection accepts more requests than before. */
  room(): void;
  /**
   * The connection is lost. Called once. `unfinished` are the unanswered requests, oldest first.
   */
  lost(reason: string, unfinished: NbdRequest[]): void;
}

export interface ConnectionOptions {
  readonly wish: Wish;
  /**
   * The upper half of the cookies, which distinguishes this connection's cookies from those of
   * others.
   */
  readonly id: number;
  /** Time limit for dialling and the handshake together. */
  readonly connectSeconds: number;
  readonly stallSeconds: number;
  readonly pool: PayloadPool;
  /** Ends the attempt: it then rejects with the signal's reason. */
  readonly signal: AbortSignal | undefined;
  /** Encrypts the connection, which is then mandatory. Undefined: no TLS. */
  readonly secure?: Secure | undefined;
}

/** Dials a server and negotiates. Rejects with a FarbusError with a message for people. */
export async function connect(dialer: Dialer, options: ConnectionOptions): Promise<Connection> {
  const { connectSeconds, signal } = options;
  const limit = new Deadline(connectSeconds * 1000, signal);
  try {
    const stream = await dialer.connect(limit.signal);
    return await Connection.negotiate(stream, dialer.address, options, limit.signal);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (!limit.passed) throw error;
    const text = `${dialer.address}: no answer within ${connectSeconds} seconds: is that an NBD server?`;
    throw new FarbusError(text, { cause: error });
  } finally {
    limit.end();
  }
}

export class Connection implements StreamEvents, ReplyTable {
  #stream: ByteStream;
  readonly #id: number;
  readonly #pool: PayloadPool;
  readonly #batch: RequestBatch;
  readonly #inFlight = new Map<number, NbdRequest>();
  readonly #watchdog: Watchdog;
  #events: ConnectionEvents | undefined;
  #negotiated: Negotiated | undefined;
  #parser: ReplyParser | undefined;
  #handshake: Pick<HandshakeFeed<never>, 'push' | 'fail'> | undefined;
  #lastCookie = 0;
  #writeBytes = 0;
  /** Requests wait in the batch for the end of the current task (a microtask sends them). */
  #filling = false;
  #blocked = false;
  /** Set once the connection has ended: the reason for the loss, or 'closed' or 'refused'. */
  #end: string | undefined;
  #hungUp: (() => void) | undefined;

  private constructor(stream: ByteStream, options: ConnectionOptions) {
    this.#stream = stream;
    this.#id = options.id;
    this.#pool = options.pool;
    this.#batch = new RequestBatch(options.pool);
    this.#watchdog = new Watchdog(options.stallSeconds, {
      oldest: () => this.#inFlight.values().next().value?.sentAt,
      unsent: () => this.#stream.pending,
      probe: () => this.#probe(),
      stalled: (what) => this.#lose(what),
    });
  }

  static negotiate(
    stream: ByteStream,
    address: string,
    options: ConnectionOptions,
    signal: AbortSignal,
  ): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const connection = new Connection(stream, options);
      const end = (): void => {
        connection.#handshake = undefined;
        signal.removeEventListener('abort', abort);
      };
      const fail = (error: Error, inOrder = false): void => {
        end();
        connection.#end = 'refused';
        // After a refusal, NBD_OPT_ABORT is already in the stream: let it be sent. A server that
        // broke the protocol is cut off, because it could go on sending forever.
        if (inOrder && !signal.aborted) void connection.#goodbye();
        else connection.#stream.destroy();
        reject(
          error instanceof FarbusError ? new FarbusError(withAddress(address, error.message), { cause: error }) : error,
        );
      };
      const abort = (): void => fail(signal.reason as Error);
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort);
      const failed = (error: Error): void => {
        if (error instanceof FarbusError) return fail(error, true);
        fail(new FarbusError(`${messageOf(error)}: is that an NBD server with this export?`, { cause: error }));
      };
      const feed = <T>(handshake: Handshake<T>, done: (result: T) => void): void => {
        connection.#handshake = new HandshakeFeed(handshake, done, failed);
        connection.#stream.attach(connection);
      };
      const send = (bytes: Uint8Array): void => void connection.#stream.write([bytes]);
      const agreed = (negotiated: Negotiated): void => {
        end();
        connection.#begin(negotiated);
        resolve(connection);
      };
      const { secure, wish } = options;
      if (!secure) return feed(negotiate(wish, send), agreed);
      // Bytes that the server sends after its acknowledgement in plain text are not part of the
      // encrypted stream: the feed reports them as an error.
      feed(startTls(send), (greeting) => {
        secure(stream, signal).then((secured) => {
          connection.#stream = secured.stream;
          if (signal.aborted) return secured.stream.destroy();
          feed(negotiateExport(wish, send, greeting), agreed);
        }, fail);
      });
    });
  }

  #begin(negotiated: Negotiated): void {
    this.#negotiated = negotiated;
    this.#parser = new ReplyParser(this, negotiated, this.#stream.receiveInto && this.#receive);
    this.#batch.extended = negotiated.style === 'extended';
    this.#batch.statusOf = filterOf(negotiated);
  }

  readonly #receive = (into: Buffers, at: number, length: number): number => {
    const count = this.#stream.receiveInto!(into, at, length);
    if (count > 0) this.#watchdog.heard(count);
    return count;
  };

  /** The memory for copies of payloads. */
  get pool(): PayloadPool {
    return this.#pool;
  }

  /** The result of the handshake. */
  get negotiated(): Negotiated {
    return this.#negotiated!;
  }

  /**
   * Starts transmission. If the connection has been lost since the handshake, `events.lost` is
   * called asynchronously.
   */
  start(events: ConnectionEvents): void {
    this.#events = events;
    if (this.#end !== undefined) {
      const reason = this.#end;
      queueMicrotask(() => events.lost(reason, []));
    }
  }

  /** The upper half of the cookies of this connection's requests. */
  get id(): number {
    return this.#id;
  }

  /** The number of requests in flight. */
  get load(): number {
    return this.#inFlight.size;
  }

  /** True if `request` may be sent now. */
  hasRoom(request: NbdRequest): boolean {
    if (this.#end !== undefined || this.#blocked || this.#inFlight.size >= maxRequests) return false;
    return (
      request.type !== NbdCommand.write || this.#writeBytes === 0 || this.#writeBytes + request.length <= maxWriteBytes
    );
  }

  /**
   * Sends a request; call only if {@link hasRoom} is true. Short requests of one task are sent
   * together.
   */
  send(request: NbdRequest): void {
    do this.#lastCookie = this.#lastCookie >= cookieLimit ? 1 : this.#lastCookie + 1;
    while (this.#inFlight.has(this.#lastCookie));
    request.cookie = this.#lastCookie;
    request.sentAt = performance.now();
    if (this.#inFlight.size === 0) this.#watchdog.start();
    this.#inFlight.set(request.cookie, request);
    if (request.type === NbdCommand.write) this.#writeBytes += request.length;
    this.#batch.add(request, this.#id);
    // A long transfer is worth its own system call: the server starts on it while the guest
    // prepares its next command.
    if (request.length >= longTransfer && request.buffers !== undefined) return this.#flush();
    if (this.#filling) return;
    this.#filling = true;
    queueMicrotask(() => {
      this.#filling = false;
      this.#flush();
    });
  }

  /**
   * Ends the connection properly: sends NBD_CMD_DISC, gives the server a moment to close, then
   * closes. No request may be in flight.
   */
  async disconnect(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#end = 'closed';
    this.#watchdog.stop();
    this.#batch.disconnect();
    this.#stream.write(this.#batch.take());
    await this.#goodbye();
  }

  /**
   * Sends the waiting bytes, gives the server a moment to close, then closes, even if the server is
   * still sending.
   */
  async #goodbye(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const gone = new Promise<void>((resolve) => {
      this.#hungUp = resolve;
      timer = setTimeout(resolve, goodbyeMs);
    });
    this.#stream.end();
    await gone;
    clearTimeout(timer);
    this.#stream.destroy();
  }

  /** Drops the connection in favour of a new one. Unanswered requests go to `events.lost`. */
  leave(reason: string): void {
    this.#lose(reason, true);
  }

  /** Drops the connection abruptly. Unanswered requests go to `events.lost`. */
  giveUp(reason: string): void {
    this.#lose(reason);
  }

  /** Closes the stream of a lost connection immediately. */
  destroy(): void {
    this.#stream.destroy();
  }

  data(chunk: Uint8Array): void {
    if (this.#end !== undefined) return;
    this.#watchdog.heard(chunk.length);
    if (this.#handshake) return this.#handshake.push(chunk);
    try {
      this.#parser!.push(chunk);
    } catch (error) {
      const what = error instanceof PeerError ? `the server sent ${error.message}` : messageOf(error);
      return this.#lose(what);
    }
    this.#events?.room();
  }

  drain(): void {
    this.#blocked = false;
    this.#events?.room();
  }

  closed(error?: Error): void {
    const what = error ? messageOf(error) : 'the server closed the connection';
    if (this.#handshake) this.#handshake.fail(error instanceof FarbusError ? error : new PeerError(what));
    else this.#lose(what);
    this.#hungUp?.();
  }

  find(cookieHigh: number, cookieLow: number): NbdRequest | undefined {
    return cookieHigh === this.#id ? this.#inFlight.get(cookieLow) : undefined;
  }

  finish(request: NbdRequest): void {
    if (request.shutdown) {
      // [NBD] "Terminating the transmission phase": answer NBD_ESHUTDOWN with a soft disconnect.
      return this.#lose('the server is shutting down', true);
    }
    this.#inFlight.delete(request.cookie);
    this.#watchdog.answered();
    request.cookie = -1;
    if (request.type === NbdCommand.write) this.#writeBytes -= request.length;
    if (request.payload) {
      // The server has answered, so the payload has been sent and its memory is free.
      this.#pool.give(request.payload);
      request.payload = undefined;
    }
    if (!request.internal) this.#events?.answered(request);
  }

  #flush(): void {
    if (this.#end !== undefined) return;
    const chunks = this.#batch.take();
    if (chunks.length > 0) this.#blocked = !this.#stream.write(chunks);
  }

  /**
   * Reads a block, to see whether the server still answers while it works on a long request such as
   * a flush.
   */
  #probe(): void {
    const { size, minBlock = 1 } = this.negotiated;
    const length = Math.max(minBlock, 512);
    if (length > size) return;
    const buffers = buffersOf(new Uint8Array(length));
    const probe = new NbdRequest({ type: NbdCommand.read, offset: 0, length, buffers }, () => undefined);
    probe.internal = true;
    if (this.hasRoom(probe)) this.send(probe);
  }

  #lose(reason: string, soft = false): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#watchdog.stop();
    const unfinished = [...this.#inFlight.values()].filter((request) => !request.internal);
    this.#inFlight.clear();
    // Send NBD_CMD_DISC only if no payload waits to be sent: payloads use the callers' memory,
    // which is theirs again when their requests settle.
    if (soft && !this.#filling && this.#stream.pending === 0) {
      this.#batch.disconnect();
      this.#stream.write(this.#batch.take());
      void this.#goodbye();
    } else {
      this.#stream.destroy();
    }
    for (const request of unfinished) request.rewind();
    this.#events?.lost(reason, unfinished);
  }
}

/**
 * The context to name in block status requests. Undefined if the server cannot be asked for one
 * context, or if no other context was selected, so that naming it is unnecessary.
 */
function filterOf({ flags, allocationId, state, medium, marks }: Negotiated): number | undefined {
  const others = [state, medium, marks].some((one) => one !== undefined);
  return flags & TransmissionFlag.blockStatusPayload && others ? allocationId : undefined;
}
