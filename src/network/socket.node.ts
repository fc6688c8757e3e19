/**
 * TCP and unix sockets as byte streams, with Node's net module.
 *
 * All accepted sockets of a thread share one receive buffer, and all dialled sockets another
 * (`onread` of net.Socket). So receiving allocates almost nothing, and one system call receives
 * many bytes. This is safe because libuv reads a descriptor only when it is ready, and calls back
 * before it reads the next one. That does not hold on Windows, where each socket has a buffer of
 * its own.
 *
 * Not here: TLS (tls.node.ts); what makes a socket faster than Node's own (eager/stream.node.ts).
 */
import { connect, Socket, type SocketConstructorOpts } from 'node:net';
import { connectionFailure } from '../base/connection-failure.js';
import { FarbusError, messageOf } from '../base/errors.js';
import type { ByteStream, StreamEvents } from './stream.js';

/** Address of a peer: a TCP port or the path of a unix socket. */
export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/**
 * Size of the receive buffer of accepted sockets, in bytes: the longest chunk that `data` can get.
 */
const acceptSize = 1 << 20;
/**
 * Size of the receive buffer of dialled sockets, in bytes. Their data is copied on immediately, so
 * a buffer that fits into the processor's cache is faster, and the sender's window opens earlier
 * (docs/notes/sockets.md, "Receive buffer").
 */
const dialSize = 1 << 16;
/**
 * Size of that buffer while the rest of a long payload is awaited, which does not pass through it
 * ({@link ByteStream.receiveInto}), in bytes.
 */
const restSize = 1 << 12;
/** Default high-water mark in bytes: if more is waiting in the socket, `write` returns false. */
const defaultHighWater = 4 << 20;
/** A socket that was ended is destroyed if the peer takes nothing for this time, in ms. */
const lingerMs = 10_000;
/** Idle time before TCP probes whether the peer still exists, in ms. */
const keepAliveMs = 30_000;

/**
 * Bytes before the receive buffers that a parser may overwrite ({@link StreamEvents.data}): a page.
 */
const headroom = 4096;
/** Receive buffers by size. */
const shared = new Map<number, Uint8Array>();

function receiveBuffer(size: number): Uint8Array {
  if (process.platform === 'win32') return new Uint8Array(headroom + (1 << 16)).subarray(headroom);
  const buffer = shared.get(size) ?? new Uint8Array(headroom + size).subarray(headroom);
  shared.set(size, buffer);
  return buffer;
}

/**
 * The `onread` of a socket. It exists before its stream, because net.Socket needs it at
 * construction.
 */
class Receiver {
  stream: SocketStream | undefined;
  readonly buffer: Uint8Array;
  readonly onread: {
    readonly buffer: () => Uint8Array;
    readonly callback: (length: number, buffer: Uint8Array) => boolean;
  };

  /** @param size size of the buffer in bytes; all receivers of this size share it */
  constructor(size: number) {
    this.buffer = receiveBuffer(size);
    const start = this.buffer.subarray(0, restSize);
    this.onread = {
      buffer: () => (this.stream?.expectsRest ? start : this.buffer),
      callback: (length, buffer) => {
        this.stream?.receive(length === buffer.length ? buffer : buffer.subarray(0, length));
        return true;
      },
    };
  }
}

/** A stream whose socket TLS can take over, so that it encrypts the socket itself. */
export interface Releasable {
  /**
   * Gives the socket to a new owner. The stream reports no further events. Bytes that the socket
   * has buffered belong to the new owner.
   * @returns the socket, paused; undefined if it is closed
   */
  release(): Socket | undefined;
}

export interface SocketStreamOptions {
  /**
   * True if bytes arrive as 'data' events; false if the creator calls {@link SocketStream.receive}.
   * Default true.
   */
  readonly plain?: boolean;
  /**
   * High-water mark in bytes: if more is waiting in the socket, `write` returns false. Default 4
   * MiB.
   */
  readonly highWater?: number;
  /** Converts an error of the socket for the user. */
  readonly explain?: (error: Error) => Error;
  /** Closes the transport below an encrypted socket immediately. */
  readonly reset?: () => void;
  /** The buffer in which the creator receives, with {@link headroom} before it. */
  readonly buffer?: Uint8Array;
}

/**
 * A connected net.Socket as a {@link ByteStream}. Made by {@link dialSocket} and {@link
 * acceptSocket}.
 */
export class SocketStream implements ByteStream, Releasable {
  readonly peer: string;
  /** The rest of a long payload is awaited: receive only its beginning into the buffer. */
  expectsRest = false;
  readonly #socket: Socket;
  readonly #buffer: Uint8Array | undefined;
  readonly #highWater: number;
  readonly #reset: (() => void) | undefined;
  readonly #listeners: [event: string, listener: (argument: unknown) => void][];
  #events: StreamEvents | undefined;
  #paused = false;
  #blocked = false;
  #ended = false;
  #closed = false;
  #error: Error | undefined;
  /** Number of calls of {@link write}. */
  #sent = 0;
  /** The timer that watches `#sent` once the stream has ended. */
  #lingering: ReturnType<typeof setInterval> | undefined;

  /** @param socket a connected and paused socket; made without `onread` if `plain` */
  constructor(
    socket: Socket,
    peer: string,
    { plain = true, highWater = defaultHighWater, reset, explain, buffer }: SocketStreamOptions = {},
  ) {
    this.#buffer = buffer;
    this.peer = peer;
    this.#socket = socket;
    this.#highWater = highWater;
    this.#reset = reset;
    this.#listeners = [
      ['end', () => this.#linger()],
      ['error', (error) => this.#failed(explain ? explain(error as Error) : (error as Error))],
      ['close', () => this.#onClose()],
    ];
    if (plain) this.#listeners.push(['data', (chunk) => this.receive(chunk as Uint8Array)]);
    for (const [event, listener] of this.#listeners) socket.on(event, listener);
    // Adding a 'data' listener has made the socket flow: stop it until `attach`.
    if (plain) socket.pause();
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
  }

  /**
   * The socket, unless TLS encrypts what it sends. For the wrapper in eager/, which leaves the
   * socket's state to this stream.
   */
  get unencrypted(): Socket | undefined {
    return this.#buffer && this.#socket;
  }

  get pending(): number {
    return this.#socket.writableLength;
  }

  attach(events: StreamEvents): void {
    this.#events = events;
    if (this.#closed) {
      queueMicrotask(() => events.closed(this.#error));
    } else if (!this.#paused) {
      this.#socket.resume();
    }
  }

  /**
   * Passes received bytes to the protocol, unless the stream is ended or destroyed. For the
   * socket's callback.
   */
  receive(chunk: Uint8Array): void {
    if (this.#ended || this.#socket.destroyed) return;
    try {
      this.#events?.data(chunk, this.#buffer && headroom);
    } catch (error) {
      // A parser that throws has lost its position. Close this connection; the others go on.
      this.#error ??= error instanceof Error ? error : new Error(messageOf(error));
      this.destroy();
    }
  }

  write(chunks: readonly Uint8Array[]): boolean {
    const socket = this.#socket;
    if (this.#closed || !socket.writable) return true;
    this.#sent++;
    const last = chunks.length - 1;
    if (last > 0) socket.cork();
    for (let i = 0; i < last; i++) socket.write(chunks[i]!);
    if (last >= 0) socket.write(chunks[last]!, this.#written);
    if (last > 0) socket.uncork();
    this.#blocked = socket.writableLength > this.#highWater;
    return !this.#blocked;
  }

  pause(): void {
    this.#paused = true;
    this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    if (this.#events && !this.#closed) this.#socket.resume();
  }

  end(): void {
    this.#ended = true;
    this.#socket.end();
    this.#linger();
  }

  destroy(): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    // A reset, if the transport has one, tells the peer that the connection did not end in good
    // order.
    if (this.#reset) {
      this.#reset();
      socket.destroy();
    } else if (socket.remoteFamily === undefined) socket.destroy();
    else socket.resetAndDestroy();
  }

  release(): Socket | undefined {
    if (this.#closed || this.#socket.destroyed) return undefined;
    this.#closed = true;
    this.#events = undefined;
    clearInterval(this.#lingering);
    for (const [event, listener] of this.#listeners) this.#socket.off(event, listener);
    this.#socket.pause();
    return this.#socket;
  }

  /**
   * From now on, destroys the socket if the peer takes nothing for `lingerMs` and does not close.
   * Received bytes do not count: a byte now and then would keep the socket open for ever.
   */
  #linger(): void {
    // Only reading detects that the peer has closed.
    this.#socket.resume();
    if (this.#lingering !== undefined) return;
    let pending = this.pending;
    let sent = this.#sent;
    const look = (): void => {
      if (this.pending >= pending && this.#sent === sent) return this.destroy();
      pending = this.pending;
      sent = this.#sent;
    };
    this.#lingering = setInterval(look, lingerMs).unref();
  }

  /**
   * The last chunk of a write has been handed over, or has failed. The socket's 'drain' event
   * cannot replace this: it is not emitted below the socket's own high-water mark.
   */
  readonly #written = (): void => {
    if (!this.#blocked || this.#closed || this.#socket.writableLength > 0) return;
    this.#blocked = false;
    this.#events?.drain();
  };

  /** Destroys the socket: Node keeps a TLS socket open after it has received invalid TLS data. */
  #failed(error: Error): void {
    this.#error ??= error;
    this.destroy();
  }

  #onClose(): void {
    this.#closed = true;
    clearInterval(this.#lingering);
    this.#events?.closed(this.#error);
  }
}

/** Longest path of a unix socket, in bytes (unix(7), sockaddr_un, without the final NUL). */
const maxSocketPath = 107;

/**
 * Checks the path's length, because libuv would cut a long path and use another socket.
 * @throws FarbusError with exit status 2: the path is wrong whatever is on the disk
 */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= maxSocketPath) return;
  throw new FarbusError(
    `the path of a unix socket has at most ${maxSocketPath} bytes, and ${path} has ${Buffer.byteLength(path)}: choose a shorter one`,
    // Of no use for a server's own control socket, but no reason for the server not to run.
    { exitCode: 2, kind: 'failed' },
  );
}

/**
 * Connects to a peer. Rejects with a FarbusError that names the address, or with the signal's
 * reason.
 */
export function dialSocket(to: SocketAddress, signal: AbortSignal): Promise<SocketStream> {
  const name = nameOf(to);
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(asError(signal.reason));
    if ('path' in to) checkSocketPath(to.path);
    const receiver = new Receiver(dialSize);
    const socket = connect({ ...to, onread: receiver.onread });
    socket.pause();
    const stop = (error: Error) => {
      signal.removeEventListener('abort', abort);
      socket.off('error', fail);
      // Ignore later errors.
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const abort = () => stop(asError(signal.reason));
    const fail = (error: Error) => stop(new FarbusError(explain(name, error), { cause: error }));
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => {
      signal.removeEventListener('abort', abort);
      socket.off('error', fail);
      receiver.stream = new SocketStream(socket, name, { plain: false, buffer: receiver.buffer });
      resolve(receiver.stream);
    });
  });
}

/**
 * A stream over a socket that a net.Server with `pauseOnConnect` has accepted. Its `write` returns
 * false until all bytes are handed to the operating system, because the server then reuses the
 * memory.
 */
export function acceptSocket(socket: Socket): SocketStream {
  const { remoteAddress, remotePort } = socket;
  const peer = remoteAddress === undefined ? 'a unix socket' : hostPort(remoteAddress, remotePort ?? 0);
  const receiver = new Receiver(acceptSize);
  const own = withReceiver(socket, receiver);
  if (!own) return new SocketStream(socket, peer, { highWater: 0 });
  return (receiver.stream = new SocketStream(own, peer, {
    plain: false,
    highWater: 0,
    buffer: receiver.buffer,
  }));
}

/**
 * Moves the handle of an accepted socket into a new socket with our receive buffer, because
 * net.Server has no option for one. Undefined if this version of Node does not support it: the
 * accepted socket is then used, with an allocation for each read.
 */
function withReceiver(socket: Socket, { onread }: Receiver): Socket | undefined {
  const from = socket as unknown as { _handle?: { useUserBuffer?: unknown } | null };
  const handle = from._handle;
  if (typeof handle?.useUserBuffer !== 'function') return undefined;
  from._handle = null;
  const options = { handle, onread, pauseOnCreate: true, readable: true, writable: true };
  return new Socket(options as unknown as SocketConstructorOpts);
}

/** "host:port", with an IPv6 address in brackets. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function nameOf(to: SocketAddress): string {
  return 'path' in to ? to.path : hostPort(to.host, to.port);
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(messageOf(reason));
}

function explain(name: string, error: Error): string {
  return `cannot connect to ${name}: ${connectionFailure(error)}`;
}
