/**
 * Byte streams over WebSockets (RFC 6455), in browsers and, with the `ws` package, in Node.
 *
 * Only the order of the bytes counts: a message may hold any number of them, so any framing of the
 * peer is accepted. A text message, a message that is too long and more data than a paused stream
 * may hold end the stream with an error. The pure part: it takes any object with the interface of a
 * browser's WebSocket.
 *
 * Back pressure: a browser's socket has no event for sent bytes, so the stream polls
 * `bufferedAmount`. It cannot stop receiving either, so a paused stream holds a limited number of
 * bytes. The sockets of `ws` can do both (websocket.node.ts).
 */
import { FarbusError, messageOf } from '../base/errors.js';
import { visible } from '../base/printable.js';
import type { ByteStream, Dialer, StreamEvents } from './stream.js';
import { bytesOf, lengthOf, messagesOf, withFewCopies } from './websocket-messages.js';

/** The subprotocol of NBD over a WebSocket. */
export const nbdSubprotocol = 'nbd';
/**
 * Start of the subprotocol that carries a token of access. A browser's WebSocket cannot send other
 * headers, and an address with a token would be logged and remembered.
 */
export const tokenSubprotocol = 'farbus.token.';

/** Longest message that is accepted, in bytes: a request of NBD with 32 MiB of data. */
export const maxMessage = 33 << 20;
/** Longest chunk that a protocol gets, in bytes, as from other streams. */
const chunkSize = 1 << 20;
/** Default high-water mark in bytes: if more waits in the socket, `write` returns false. */
const defaultHighWater = 4 << 20;
/** Most bytes that a paused stream holds if its socket cannot stop receiving. */
const maxHeld = 64 << 20;
/** Interval of polling `bufferedAmount` while `write` has returned false, in ms. */
const pollMs = 2;
/** A socket that was ended is dropped if the peer takes nothing for this time, in ms. */
const lingerMs = 10_000;

/** Codes of RFC 6455 §7.4.1, and two private ones, because a page may send no others. */
export const CloseCode = {
  normal: 1000,
  goingAway: 1001,
  unsupported: 1003,
  noStatus: 1005,
  abnormal: 1006,
  policy: 1008,
  tooLong: 1009,
  tlsFailed: 1015,
  textReceived: 4003,
  tooMuch: 4009,
} as const;

/** A message, as a browser's socket or one of `ws` reports it. */
export interface SocketMessage {
  /** An ArrayBuffer; several buffers that follow each other; or a string. */
  readonly data: unknown;
}

/** A WebSocket, as far as a stream uses it: one of a browser or of `ws`. */
export interface WebSocketLike {
  /** The type of a received message's bytes. */
  binaryType: string;
  /** 0 connecting, 1 open, 2 closing, 3 closed. */
  readonly readyState: number;
  /** Bytes that were sent and are not handed to the operating system yet. */
  readonly bufferedAmount: number;
  /** Sends a binary message. The bytes may change as soon as it has returned. */
  send(data: Uint8Array<ArrayBuffer>): void;
  /** Begins the closing handshake. */
  close(code?: number, reason?: string): void;
  /** Called when the socket is open. */
  onopen: ((event: never) => void) | null;
  /** Called with each message. */
  onmessage: ((event: never) => void) | null;
  /** Called at the end, with `code` and `reason`. */
  onclose: ((event: never) => void) | null;
  /** Called before `onclose` if the socket has failed. */
  onerror: ((event: never) => void) | null;
}

/** Abilities of a socket that a browser's does not have. */
export interface SocketAbilities {
  /**
   * Sends the chunks as one message without a copy: they must not change before `sent` is called.
   */
  readonly send?: (chunks: readonly Uint8Array[], sent: () => void) => void;
  /** Stops receiving. */
  readonly pause?: () => void;
  /** Receives again. */
  readonly resume?: () => void;
  /** Closes the connection at once, without the closing handshake. */
  readonly terminate?: () => void;
}

/** Options of {@link webSocketStream}. */
export interface WebSocketStreamOptions extends SocketAbilities {
  /** The peer, for messages. */
  readonly peer: string;
  /** If more bytes wait, `write` returns false. Default 4 MiB. */
  readonly highWater?: number;
  /**
   * Frees the memory of a message as soon as the protocol has taken its bytes. Otherwise it waits
   * for the garbage collector, which then works most of the time: a browser allocates each message
   * anew. Only for a protocol that keeps no part of a chunk. Default: false.
   */
  readonly freesMessages?: boolean;
}

/** An open WebSocket as a {@link ByteStream}. It takes the socket over. */
export function webSocketStream(socket: WebSocketLike, options: WebSocketStreamOptions): ByteStream {
  return new WebSocketStream(socket, options);
}

class WebSocketStream implements ByteStream {
  readonly peer: string;
  readonly #socket: WebSocketLike;
  readonly #options: WebSocketStreamOptions;
  readonly #highWater: number;
  #events: StreamEvents | undefined;
  /** Received bytes that wait for `attach` or `resume`. */
  #held: Uint8Array[] = [];
  #heldBytes = 0;
  #paused = false;
  #delivering = false;
  /** Bytes given to `options.send` and not sent yet. */
  #sending = 0;
  #blocked = false;
  #ended = false;
  #closed = false;
  #error: Error | undefined;
  #poll: ReturnType<typeof setTimeout> | undefined;
  #lingering: ReturnType<typeof setInterval> | undefined;

  constructor(socket: WebSocketLike, options: WebSocketStreamOptions) {
    this.peer = options.peer;
    this.#socket = socket;
    this.#options = options;
    this.#highWater = options.highWater ?? defaultHighWater;
    socket.onmessage = ({ data }: SocketMessage) => this.#received(data);
    socket.onclose = (event: { code?: number; reason?: string }) => {
      this.#over(closeError(event.code ?? CloseCode.noStatus, event.reason ?? ''));
    };
    // The socket always closes afterwards. A browser tells a page no reason.
    socket.onerror = ({ error }: { error?: Error }) => {
      if (error) this.#error ??= new FarbusError(`the WebSocket failed: ${messageOf(error)}`, { cause: error });
    };
    if (socket.readyState > 1) queueMicrotask(() => this.#over(closeError(CloseCode.abnormal, '')));
    options.pause?.();
  }

  get pending(): number {
    return this.#options.send ? this.#sending : this.#socket.bufferedAmount;
  }

  attach(events: StreamEvents): void {
    this.#events = events;
    if (this.#closed) queueMicrotask(() => events.closed(this.#error));
    else if (!this.#paused) this.resume();
  }

  write(chunks: readonly Uint8Array[]): boolean {
    if (this.#closed || this.#ended || this.#socket.readyState !== 1) return true;
    for (const message of messagesOf(chunks)) this.#send(message);
    if (this.pending <= this.#highWater) return true;
    this.#blocked = true;
    if (!this.#options.send) this.#watch();
    return false;
  }

  pause(): void {
    this.#paused = true;
    this.#options.pause?.();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#events) return;
    this.#deliver();
    if (!this.#paused) this.#options.resume?.();
  }

  end(): void {
    if (this.#ended || this.#closed) return;
    this.#ended = true;
    // Only reading finds the peer's close, whose bytes are dropped.
    this.#paused = false;
    this.#options.resume?.();
    // The socket sends what waits in it before it closes.
    this.#socket.close(CloseCode.normal);
    let pending = this.#socket.bufferedAmount;
    this.#lingering = setInterval(() => {
      if (this.#socket.bufferedAmount >= pending) return this.destroy();
      pending = this.#socket.bufferedAmount;
    }, lingerMs);
    // In Node it must not keep the process alive.
    (this.#lingering as { unref?: () => void }).unref?.();
  }

  destroy(): void {
    if (this.#closed) return;
    if (this.#options.terminate) this.#options.terminate();
    else this.#socket.close(CloseCode.normal);
    // A browser waits for the peer's answer to the close before it reports it; do not.
    queueMicrotask(() => this.#over(undefined));
  }

  #send(chunks: readonly Uint8Array[]): void {
    const { send } = this.#options;
    if (!send) {
      for (const message of withFewCopies(chunks)) this.#socket.send(message);
      return;
    }
    const length = lengthOf(chunks);
    this.#sending += length;
    send(chunks, () => {
      this.#sending -= length;
      this.#drained();
    });
  }

  /** Polls until less than half of the high-water mark waits. */
  #watch(): void {
    this.#poll ??= setTimeout(() => {
      this.#poll = undefined;
      if (this.#closed) return;
      if (this.pending > this.#highWater / 2) this.#watch();
      else this.#drained();
    }, pollMs);
  }

  #drained(): void {
    if (!this.#blocked || this.#closed || this.pending > this.#highWater / 2) return;
    this.#blocked = false;
    this.#events?.drain();
  }

  #received(data: unknown): void {
    if (this.#closed || this.#ended) return;
    const chunks = bytesOf(data);
    if (!chunks) {
      const what = 'the other side sent text, and this connection carries bytes: is the address right?';
      return this.#fail(CloseCode.textReceived, what);
    }
    const length = lengthOf(chunks);
    if (length > maxMessage) {
      return this.#fail(CloseCode.tooMuch, `the other side sent a message of more than ${maxMessage} bytes`);
    }
    for (const chunk of chunks) if (chunk.length > 0) this.#held.push(chunk);
    this.#heldBytes += length;
    if ((this.#paused || !this.#events) && this.#heldBytes > maxHeld) {
      return this.#fail(CloseCode.tooMuch, 'the other side sent more than it was asked for');
    }
    this.#deliver();
  }

  /** Passes held bytes on. Not within itself: the protocol may resume the stream while it reads. */
  #deliver(): void {
    if (this.#delivering || !this.#events) return;
    this.#delivering = true;
    try {
      while (this.#held.length > 0 && !this.#paused && !this.#closed && !this.#ended) {
        const all = this.#held.shift()!;
        const chunk = all.length > chunkSize ? all.subarray(0, chunkSize) : all;
        if (chunk !== all) this.#held.unshift(all.subarray(chunkSize));
        this.#heldBytes -= chunk.length;
        this.#events.data(chunk);
        if (chunk === all && this.#options.freesMessages) free(all);
      }
    } catch (error) {
      // A parser that throws has lost its position. Close this connection; the others go on.
      this.#error ??= error instanceof Error ? error : new Error(messageOf(error));
      this.destroy();
    } finally {
      this.#delivering = false;
    }
  }

  #fail(code: number, what: string): void {
    this.#error ??= new FarbusError(`${this.peer}: ${what}`);
    this.#socket.close(code);
    this.#over(this.#error);
  }

  #over(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error ??= error;
    this.#held = [];
    clearTimeout(this.#poll);
    clearInterval(this.#lingering);
    const ignore = (): void => undefined;
    Object.assign(this.#socket, { onmessage: ignore, onclose: ignore, onerror: ignore });
    this.#events?.closed(this.#error);
  }
}

/** Frees the memory of a message, where the browser can (ES2024). */
function free({ buffer }: Uint8Array): void {
  (buffer as { transfer?: (length: number) => ArrayBuffer }).transfer?.(0);
}

/** The error of a connection that was closed with this code; undefined if it ended in order. */
function closeError(code: number, reason: string): Error | undefined {
  if (code === CloseCode.normal || code === CloseCode.goingAway || code === CloseCode.noStatus) return undefined;
  const said = reason === '' ? '' : `: ${visible(reason).slice(0, 200)}`;
  return new FarbusError(`the connection was closed: ${closings[code] ?? `code ${code}`}${said}`);
}

const closings: Readonly<Record<number, string>> = {
  [CloseCode.unsupported]: 'the other side takes other data',
  [CloseCode.abnormal]: 'it was lost',
  [CloseCode.policy]: 'the other side refused it',
  [CloseCode.tooLong]: 'a message was too long for the other side',
  [CloseCode.tlsFailed]: 'TLS failed',
  [CloseCode.textReceived]: 'the other side wants no text',
  [CloseCode.tooMuch]: 'the other side was sent too much',
};

/** Options of {@link webSocketDialer}. */
export interface WebSocketDialerOptions {
  /** The address for messages, without secrets. Default: `url`. */
  readonly address?: string;
  /** A token of access. It is sent as a subprotocol. */
  readonly token?: string | undefined;
  /** Subprotocols besides the token. Default: `nbd`. */
  readonly protocols?: readonly string[];
  /** Opens a socket. Default: the WebSocket of the browser. */
  readonly open?: (url: string, protocols: string[]) => WebSocketLike;
}

/**
 * A dialer for a WebSocket server, with the socket of the browser: `ws://` or `wss://`.
 * @throws FarbusError if the token has characters that a subprotocol cannot have
 */
export function webSocketDialer(url: string, options: WebSocketDialerOptions = {}): Dialer {
  const { address = url, token, protocols = [nbdSubprotocol] } = options;
  const { open = (to, names) => new WebSocket(to, names) as unknown as WebSocketLike } = options;
  const offered = subprotocols(protocols, token);
  return {
    address,
    connect: (signal) =>
      new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason as Error);
        const socket = open(url, offered);
        socket.binaryType = 'arraybuffer';
        const stop = (error: Error): void => {
          signal.removeEventListener('abort', abort);
          Object.assign(socket, { onopen: null, onclose: null, onerror: null });
          socket.close();
          reject(error);
        };
        const abort = (): void => stop(signal.reason as Error);
        const failed = (): void => stop(new FarbusError(`cannot connect to ${address}: ${unexplained}`));
        signal.addEventListener('abort', abort, { once: true });
        socket.onerror = failed;
        socket.onclose = failed;
        socket.onopen = () => {
          signal.removeEventListener('abort', abort);
          resolve(webSocketStream(socket, { peer: address, freesMessages: true }));
        };
      }),
  };
}

/** A browser tells a page no reason, so that pages cannot look around in a network. */
const unexplained = 'no answer, or a refusal: check the address, the token, and that the server runs';

/** The subprotocols to offer. @throws FarbusError if the token cannot be one */
export function subprotocols(protocols: readonly string[], token: string | undefined): string[] {
  if (token === undefined) return [...protocols];
  if (!/^[A-Za-z0-9._~-]+$/.test(token)) throw new FarbusError('a token has letters, digits and -._~ only');
  return [...protocols, tokenSubprotocol + token];
}
