/**
 * One connection to an NBD server: the handshake under a time limit, then requests, many at a time. It ends by being
 * lost, whoever's doing that is, and then hands back the requests that it has no answer to; what becomes of them is the
 * session's to decide (session.ts). Source: [NBD] "Transmission".
 */
import { buffersOf } from '../../../base/buffers.js';
import { FarbusError, messageOf } from '../../../base/errors.js';
import type { ByteStream, Dialer, Secure, StreamEvents } from '../../../network/stream.js';
import { Command, TransmissionFlag } from '../spec.js';
import { PeerError } from './errors.js';
import { HandshakeFeed } from './handshake-feed.js';
import { agree, negotiate, startTls, type Agreement, type Steps, type Wish } from './negotiation.js';
import { Outbox } from './outbox.js';
import type { PayloadPool } from './payload-pool.js';
import { ReplyParser, type ReplyTable } from './replies.js';
import { NbdRequest } from './request.js';
import { Watchdog } from './watchdog.js';

/** From this length on a transfer leaves at once, in bytes. */
const longTransfer = 1 << 16;
/** Requests under way at a time. */
const maxRequests = 256;
/** Bytes of payload of the writes under way at a time; one write may be longer. */
const maxWriteBytes = 32 << 20;
/** Cookies count up to here and then begin again: numbers that engines keep unboxed. */
const cookieLimit = 2 ** 30;
/** How long the server has to take our goodbye and to hang up, in ms. */
const goodbyeMs = 1000;

export interface ConnectionEvents {
  /** The server has answered; the request is not settled yet. */
  answered(request: NbdRequest): void;
  /** More requests may be sent than before. */
  room(): void;
  /** The connection is no more; once. `unfinished` are the requests without an answer, oldest first. */
  lost(reason: string, unfinished: NbdRequest[]): void;
}

export interface ConnectionOptions {
  readonly wish: Wish;
  /** A number that tells this connection's cookies from those of others. */
  readonly id: number;
  /** Limit of the dialling and the handshake. */
  readonly connectSeconds: number;
  readonly stallSeconds: number;
  readonly pool: PayloadPool;
  readonly signal: AbortSignal;
  /** How the connection is encrypted, which it then has to be; undefined: it is not. */
  readonly secure?: Secure | undefined;
}

/** Dials and negotiates. Rejects with a FarbusError that is fit for a person. */
export async function connect(dialer: Dialer, options: ConnectionOptions): Promise<Connection> {
  const control = new AbortController();
  const giveUp = (): void => control.abort(new FarbusError(`${dialer.address}: given up`));
  if (options.signal.aborted) giveUp();
  options.signal.addEventListener('abort', giveUp);
  const seconds = options.connectSeconds;
  const timer = setTimeout(() => {
    control.abort(new FarbusError(`${dialer.address}: no answer within ${seconds} seconds: is that an NBD server?`));
  }, seconds * 1000);
  try {
    const stream = await dialer.connect(control.signal);
    return await Connection.negotiate(stream, dialer.address, options, control.signal);
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener('abort', giveUp);
  }
}

export class Connection implements StreamEvents, ReplyTable {
  #stream: ByteStream;
  readonly #id: number;
  readonly #pool: PayloadPool;
  readonly #outbox: Outbox;
  readonly #underWay = new Map<number, NbdRequest>();
  readonly #watchdog: Watchdog;
  #events: ConnectionEvents | undefined;
  #agreement: Agreement | undefined;
  #parser: ReplyParser | undefined;
  #handshake: Pick<HandshakeFeed<never>, 'push' | 'fail'> | undefined;
  #lastCookie = 0;
  #writeBytes = 0;
  /** Requests wait in the outbox for the end of this turn. */
  #filling = false;
  #blocked = false;
  /** Why it is lost, or that it is closed at our wish. */
  #end: string | undefined;
  #hungUp: (() => void) | undefined;

  private constructor(stream: ByteStream, options: ConnectionOptions) {
    this.#stream = stream;
    this.#id = options.id;
    this.#pool = options.pool;
    this.#outbox = new Outbox(options.pool);
    this.#watchdog = new Watchdog(options.stallSeconds, {
      oldest: () => this.#underWay.values().next().value?.sentAt,
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
        // What a refusal makes us say to the server is in the stream already: let it go out. A server that broke the
        // protocol is cut off, or it could go on sending for ever.
        if (inOrder && !signal.aborted) void connection.#goodbye();
        else connection.#stream.destroy();
        reject(
          error instanceof FarbusError ? new FarbusError(prefixed(address, error.message), { cause: error }) : error,
        );
      };
      const abort = (): void => fail(signal.reason as Error);
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort);
      const failed = (error: Error): void => {
        if (error instanceof FarbusError) return fail(error, true);
        fail(new FarbusError(`${messageOf(error)}: is that an NBD server with this export?`, { cause: error }));
      };
      const feed = <T>(steps: Steps<T>, done: (result: T) => void): void => {
        connection.#handshake = new HandshakeFeed(steps, done, failed);
        connection.#stream.attach(connection);
      };
      const send = (bytes: Uint8Array): void => void connection.#stream.write([bytes]);
      const agreed = (agreement: Agreement): void => {
        end();
        connection.#begin(agreement);
        resolve(connection);
      };
      const { secure, wish } = options;
      if (!secure) return feed(negotiate(wish, send), agreed);
      // What the server sent beyond its acknowledgement was no part of the encrypted stream: the feed takes it for an error.
      feed(startTls(send), (greeting) => {
        secure(stream, signal).then((secured) => {
          connection.#stream = secured.stream;
          if (signal.aborted) return secured.stream.destroy();
          feed(agree(wish, send, greeting), agreed);
        }, fail);
      });
    });
  }

  #begin(agreement: Agreement): void {
    this.#agreement = agreement;
    this.#parser = new ReplyParser(this, agreement);
    this.#outbox.extended = agreement.style === 'extended';
    this.#outbox.statusOf = filterOf(agreement);
  }

  /** Where it takes memory for copies from. */
  get pool(): PayloadPool {
    return this.#pool;
  }

  /** What the server offers on this connection. */
  get agreement(): Agreement {
    return this.#agreement!;
  }

  /** Begins the transmission phase. If the connection was lost in the meantime, `events.lost` is called later. */
  start(events: ConnectionEvents): void {
    this.#events = events;
    if (this.#end !== undefined) {
      const reason = this.#end;
      queueMicrotask(() => events.lost(reason, []));
    }
  }

  /** The upper half of its requests' cookies. */
  get id(): number {
    return this.#id;
  }

  /** Requests under way. */
  get load(): number {
    return this.#underWay.size;
  }

  /** Whether `request` may be sent now. */
  hasRoom(request: NbdRequest): boolean {
    if (this.#end !== undefined || this.#blocked || this.#underWay.size >= maxRequests) return false;
    return (
      request.type !== Command.write || this.#writeBytes === 0 || this.#writeBytes + request.length <= maxWriteBytes
    );
  }

  /** Sends a request; {@link hasRoom} said that it may. A short one leaves with all others of this turn. */
  send(request: NbdRequest): void {
    do this.#lastCookie = this.#lastCookie >= cookieLimit ? 1 : this.#lastCookie + 1;
    while (this.#underWay.has(this.#lastCookie));
    request.cookie = this.#lastCookie;
    request.sentAt = performance.now();
    if (this.#underWay.size === 0) this.#watchdog.start();
    this.#underWay.set(request.cookie, request);
    if (request.type === Command.write) this.#writeBytes += request.length;
    this.#outbox.add(request, this.#id);
    // A long transfer is worth a system call of its own: a guest that prepares its next command goes on for a while, and
    // the server works meanwhile.
    if (request.length >= longTransfer && request.buffers !== undefined) return this.#flush();
    if (this.#filling) return;
    this.#filling = true;
    queueMicrotask(() => {
      this.#filling = false;
      this.#flush();
    });
  }

  /** Ends it in good order: says goodbye, gives the server a moment to hang up, then closes. Nothing may be under way. */
  async disconnect(): Promise<void> {
    if (this.#end !== undefined) return;
    this.#end = 'closed';
    this.#watchdog.stop();
    this.#outbox.disconnect();
    this.#stream.write(this.#outbox.take());
    await this.#goodbye();
  }

  /** Sends what is waiting, gives the server a moment to hang up, then closes, whatever the server sends meanwhile. */
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

  /** Gives it up for another one, as if it were lost. */
  leave(reason: string): void {
    this.#lose(reason, true);
  }

  /** Gives it up with what is under way. */
  giveUp(reason: string): void {
    this.#lose(reason);
  }

  /** Closes at once what is left of a lost connection. */
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
    return cookieHigh === this.#id ? this.#underWay.get(cookieLow) : undefined;
  }

  finish(request: NbdRequest): void {
    if (request.shutdown) {
      // [NBD] "Terminating the transmission phase": the answer to NBD_ESHUTDOWN is a soft disconnect.
      return this.#lose('the server is shutting down', true);
    }
    this.#underWay.delete(request.cookie);
    this.#watchdog.answered();
    request.cookie = -1;
    if (request.type === Command.write) this.#writeBytes -= request.length;
    if (request.payload) {
      // Answered, so it has been sent: nobody reads this memory any more.
      this.#pool.give(request.payload);
      request.payload = undefined;
    }
    if (!request.internal) this.#events?.answered(request);
  }

  #flush(): void {
    if (this.#end !== undefined) return;
    const chunks = this.#outbox.take();
    if (chunks.length > 0) this.#blocked = !this.#stream.write(chunks);
  }

  /** Reads a block to see whether the server still answers while it is busy with something long, such as a flush. */
  #probe(): void {
    const { size, minBlock = 1 } = this.agreement;
    const length = Math.max(minBlock, 512);
    if (length > size) return;
    const buffers = buffersOf(new Uint8Array(length));
    const probe = new NbdRequest({ type: Command.read, offset: 0, length, buffers }, () => undefined);
    probe.internal = true;
    if (this.hasRoom(probe)) this.send(probe);
  }

  #lose(reason: string, soft = false): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#watchdog.stop();
    const unfinished = [...this.#underWay.values()].filter((request) => !request.internal);
    this.#underWay.clear();
    // Only when nothing waits to be sent: its memory is the callers', and theirs again when their requests settle.
    if (soft && !this.#filling && this.#stream.pending === 0) {
      this.#outbox.disconnect();
      this.#stream.write(this.#outbox.take());
      void this.#goodbye();
    } else {
      this.#stream.destroy();
    }
    for (const request of unfinished) request.rewind();
    this.#events?.lost(reason, unfinished);
  }
}

/** The context to ask for alone: where the server can be asked so, and would otherwise answer for another one too. */
function filterOf({ flags, allocationId, state, medium, marks }: Agreement): number | undefined {
  const others = [state, medium, marks].some((one) => one !== undefined);
  return flags & TransmissionFlag.blockStatusPayload && others ? allocationId : undefined;
}

/** The message with the server's address before it, once. */
function prefixed(address: string, message: string): string {
  return message.startsWith(address) ? message : `${address}: ${message}`;
}
